"""The shape files say what they should, and the Python reader agrees with the C++ one."""

import re
from pathlib import Path

import pytest
import torch

import upconv
from upconv.cli.problem import ProblemError, parse_problem
from upconv.cli.shapes import read_shapes, write_shapes

FOLDER = Path(__file__).resolve().parents[1] / "shapes"
ORIGINALS = {"kernelbench-l1": 17, "models": 83}


@pytest.mark.parametrize(("name", "rows"), ORIGINALS.items())
def test_files_hold_every_row(name, rows):
    assert len(read_shapes(FOLDER / f"{name}.txt")) == rows


@pytest.mark.parametrize("name", ORIGINALS)
def test_scaled_rows_change_batch_and_input_only(name):
    originals, scaled = read_shapes(FOLDER / f"{name}.txt"), read_shapes(FOLDER / f"{name}-cpu.txt")
    assert [s.id for s in scaled] == [s.id for s in originals]
    for before, after in zip(originals, scaled, strict=True):
        assert after.title == before.title
        for field in ("rank", "in_channels", "out_channels", "kernel", "stride", "padding", "output_padding",
                      "dilation", "groups", "bias", "dtype"):  # fmt: skip
            assert getattr(after.problem, field) == getattr(before.problem, field), (after.id, field)


@pytest.mark.parametrize("name", ORIGINALS)
def test_scaled_rows_keep_their_proportions(name):
    """A batch stays a batch, and no dimension is scaled much more than another."""
    for before, after in zip(read_shapes(FOLDER / f"{name}.txt"), read_shapes(FOLDER / f"{name}-cpu.txt"), strict=True):
        assert min(before.problem.batch, 2) <= after.problem.batch <= before.problem.batch, after.id
        ratios = [b / a for a, b in zip(before.problem.input, after.problem.input, strict=True)]
        assert max(ratios) <= 1.6 * min(ratios), (after.id, ratios)


def all_problems():
    return [s.problem for name in ORIGINALS for s in read_shapes(FOLDER / f"{name}.txt")]


def test_lines_are_what_the_engine_reads_and_writes():
    for problem in all_problems():
        assert parse_problem(problem.short()) == problem == parse_problem(str(problem))
        said = upconv.explain(problem.short())
        assert said.splitlines()[0] == str(problem)
        assert re.search(r"output (\S+),", said)[1] == "x".join(map(str, problem.output))
        assert float(re.search(r"([\d.]+) GFLOP", said)[1]) == pytest.approx(problem.flop * 1e-9, abs=6e-4)
        assert float(re.search(r"forward: .*at least ([\d.]+) MB", said)[1]) == pytest.approx(
            (problem.min_bytes + 4 * problem.out_channels * problem.bias) * 1e-6, abs=6e-3
        )


def test_output_size_is_torchs():
    for problem in all_problems():
        function = getattr(torch.nn.functional, f"conv_transpose{problem.rank}d")
        x, w = (torch.empty(shape, device="meta") for shape in (problem.x_shape, problem.w_shape))
        p = problem
        y = function(x, w, None, p.stride, p.padding, p.output_padding, p.groups, p.dilation)
        assert y.shape == p.y_shape


def test_layout_words():
    problem = parse_problem("2d n1 c8 o8 i4 k3 xl yl bf16")
    assert problem.channels_last == {"x", "y"}
    assert str(problem) == upconv.explain(str(problem)).splitlines()[0]


def test_bad_lines_are_named(tmp_path):
    file = tmp_path / "shapes.txt"
    file.write_text("# comment\ngood  1d n1 c1 o1 i8 k3 f32  # fine\nbad  2d q7\n")
    with pytest.raises(ProblemError, match=r"shapes\.txt:3.*q7"):
        read_shapes(file)
    file.write_text("twice 1d n1 c1 o1 i8 k3 f32\ntwice 1d n1 c1 o1 i9 k3 f32\n")
    with pytest.raises(ProblemError, match="twice"):
        read_shapes(file)


def test_written_files_read_back(tmp_path):
    shapes = read_shapes(FOLDER / "kernelbench-l1.txt")
    write_shapes(tmp_path / "copy.txt", "a heading\nof two lines", shapes)
    assert read_shapes(tmp_path / "copy.txt") == shapes
