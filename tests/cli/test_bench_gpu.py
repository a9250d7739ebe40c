"""What the GPU benchmark does without a GPU: floors, bounds, tables, chart, README table, its float64 reference."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from upconv.cli import main
from upconv.cli.bench import readme, results
from upconv.cli.bench.cuda import chart, file_name, measure, report
from upconv.cli.bench.cuda.reference import Reference
from upconv.cli.problem import parse_problem

SHAPES = Path(__file__).resolve().parents[1] / "shapes"
META = {
    "device": "NVIDIA H200", "driver": "1", "torch": "2", "cudnn": "9", "commit": "c", "kernels_sha256": "k",
    "date": "2026-01-02 03:04 UTC", "threads": [1],
}  # fmt: skip


def row(name="L1/57", what="forward", ours=1.0, eager=4.0, dtype="float32", asked="torch", **more) -> dict:
    return {
        "id": name, "problem": "2d n8 c64 o64 i64x64 k3 f32", "pass": what, "dtype": dtype, "precision": "tf32",
        "asked": asked, "layout": "nchw", "threads": 1, "upconv_ms": ours,
        "peers_ms": {"torch_eager": eager, "torch_benchmark": 2.0}, "floor_ms": 0.5, "floor_by": "bytes",
        "max_abs_err": 1e-5, "rel_err": 3e-4, "rel_err_bound": 5e-4, "kernel": "cuda_tiles", **more,
    }  # fmt: skip


@pytest.fixture
def held():
    rows = [
        row(), row(what="backward", ours=8.0), row(asked="ieee"), row(name="dcgan/main0", ours=0.02, eager=0.03),
        row(name="dcgan/main0", dtype="bfloat16", graph_ms={"upconv": 0.01, "torch_eager": 0.02}),
    ]  # fmt: skip
    return {"meta": copy.deepcopy(META), "rows": rows}


def test_results_are_kept_by_mode(held, tmp_path):
    results.write(held, tmp_path / "r.json")
    read = results.read(tmp_path / "r.json")
    assert read == held
    merged = results.merge(read, read["meta"], [row(ours=0.5)], ["L1/57", "dcgan/main0"])
    assert len(merged["rows"]) == len(held["rows"]) and merged["rows"][1]["asked"] == "torch"
    assert [r["upconv_ms"] for r in merged["rows"] if r["id"] == "L1/57" and r["asked"] == "torch"] == [0.5, 8.0]


def test_tables_name_the_rows_that_lose(held):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in report.tables(held):
        console.print(table)
    said = console.export_text()
    assert "Slower than PyTorch eager" in said and "in a graph" in said and "tiles" in said
    assert report.ratio(held["rows"][0]) == 4.0 and report.best(held["rows"][0]) == 2.0
    assert (
        not report.is_wrong(held["rows"][0])
        and report.is_wrong(row(rel_err=6e-4))
        and report.is_wrong(row(rel_err=None))
    )


def test_chart(held, tmp_path):
    assert chart.draw(held, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert not chart.draw({"meta": META, "rows": []}, tmp_path / "d.png")


def test_readme_has_a_table_a_device(held, tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"a\n{readme.BEGIN}\nx\n{readme.END}\nb\n{readme.GPU_BEGIN}\n{readme.GPU_END}\nc\n")
    assert not readme.bring_up_to_date(held, page, check=True)
    readme.bring_up_to_date(held, page, check=False)
    text = page.read_text()
    assert "NVIDIA H200" in text and "4.00x" in text and "layers of public models, bfloat16" in text
    assert text.startswith(f"a\n{readme.BEGIN}\nx\n{readme.END}\nb\n") and text.endswith(f"{readme.GPU_END}\nc\n")
    assert "1 of 4 rows are below 1" in text
    assert readme.bring_up_to_date(held, page, check=True)


def test_summary_of_a_file(held, tmp_path, capsys):
    results.write(held, tmp_path / "r.json")
    words = ["bench", "--device", "cuda", "--summary", "--output", str(tmp_path / "r.json")]
    assert main(words) == 0
    assert "Geometric means" in capsys.readouterr().out
    assert main(["bench", "--device", "tpu"]) == 2
    assert main(["bench", "--device", "cuda", "--list", "--only", "L1/57,dcgan"]) == 0
    said = capsys.readouterr().out
    assert "i1024x1024" in said and "bf16" in said


def test_floors_and_precisions():
    p = parse_problem("2d n8 c64 o64 i1024x1024 k3 f32")
    floor = lambda precision: measure.floor_of(p, "forward", precision, measure.CEILINGS)  # noqa: E731
    assert floor("tf32") == (pytest.approx(1.70, abs=0.01), "operations")
    assert floor("bf16x3") == (pytest.approx(2.36, abs=0.01), "operations")
    small = parse_problem("2d n16 c32 o64 i128x256 k3x5 s2x3 p1x2 d2x1 g4 f32")
    assert measure.floor_of(small, "forward", "tf32", measure.CEILINGS)[1] == "bytes"
    assert measure.precision_of(p, "forward", "torch") == "tf32"
    assert measure.precision_of(small, "forward", "torch") == "bf16x3"
    assert measure.precision_of(small, "backward_input", "torch") == "tf32"
    grouped = parse_problem("2d n128 c64 o64 i256x256 k3 g8 b f32")  # as cuDNN was seen to compute it
    assert measure.precision_of(grouped, "forward", "torch") == "tf32"
    assert measure.precision_of(replace(grouped, groups=16), "forward", "torch") == "bf16x3"
    assert measure.precision_of(replace(grouped, dilation=(1, 2)), "forward", "torch") == "bf16x3"
    assert measure.precision_of(grouped, "forward", "ieee") == "ieee"
    assert measure.precision_of(replace(p, dtype="bf16"), "forward", "torch") == "ieee"
    assert file_name("NVIDIA H200") == "nvidia-h200"


def test_channels_last_rows_are_kept_apart(tmp_path, monkeypatch, capsys):
    p = parse_problem("2d n8 c64 o64 i1024x1024 k3 f32")
    assert measure.explained(p, "tf32", "nhwc").endswith(" tf32 xl wl yl")
    assert measure.explained(parse_problem("1d c4 o4 i9 k3 f32"), "tf32", "nhwc") == measure.explained(
        parse_problem("1d c4 o4 i9 k3 f32"), "tf32"
    )
    monkeypatch.chdir(tmp_path)
    words = ["bench", "--device", "cuda", "--layout", "nhwc", "--summary"]
    assert main(words) == 1, "no such file yet"
    (tmp_path / "bench/results").mkdir(parents=True)
    rows = [row(name="large/512-k3", layout="nhwc")]
    results.write({"meta": META, "rows": rows}, tmp_path / "bench/results/nvidia-h200-channels-last.json")
    assert main([*words, "--shapes", str(SHAPES / "large.txt")]) == 0
    assert "Geometric means" in capsys.readouterr().out
    page = tmp_path / "README.md"
    page.write_text(f"{readme.GPU_BEGIN}\n{readme.GPU_END}\n{readme.LAST_BEGIN}\n{readme.LAST_END}\n")
    rows.append(row(name="unet/up1-up", what="backward", ours=4.0, dtype="bfloat16", layout="nhwc"))
    readme.bring_up_to_date({"meta": META, "rows": rows}, page, check=False)
    text = page.read_text()
    assert text.startswith(f"{readme.GPU_BEGIN}\n{readme.GPU_END}\n"), "the other table stays"
    assert "2.00 → 1.00 | 2.00x" in text and "1 layers of public models, bfloat16" in text and "**0.50x**" in text


@pytest.mark.parametrize(
    "line",
    (
        "2d n2 c4 o6 i5x7 k3x2 s2x3 p1x0 op1x2 d2x1 g2 f64",
        "3d n1 c3 o2 i3x4x5 k3 s2 p1 f64",
        "1d n2 c3 o4 i9 k5 s3 d2 p7 f64",
        "2d n2 c4 o4 i6 k2 s3 p2 f64",
    ),
)
def test_reference(line):
    p = parse_problem(line)
    x, w = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in (p.x_shape, p.w_shape))
    dy, b = torch.randn(p.y_shape, dtype=torch.float64), torch.randn(p.out_channels, dtype=torch.float64)
    function = getattr(torch.nn.functional, f"conv_transpose{p.rank}d")
    y = function(x, w, b, p.stride, p.padding, p.output_padding, p.groups, p.dilation)
    dx, dw = torch.autograd.grad(y, (x, w), dy)
    reference = Reference(p)
    with torch.no_grad():
        torch.testing.assert_close(reference.forward(x, w, b), y)
        torch.testing.assert_close(reference.backward_input(dy, w), dx)
        torch.testing.assert_close(reference.backward_weight(x, dy), dw)
