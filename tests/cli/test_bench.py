"""The benchmark writes results that check, merges, resumes without losing a row, keeps the README true."""

import copy
import json

import pytest
import torch

import upconv
from upconv.cli import main
from upconv.cli.bench import measure, readme, results, summary
from upconv.cli.problem import parse_problem

ROWS = """
L1/1    2d n2 c8 o8 i10x12 k3 f32         # a dense layer
some/up 1d n1 c6 o4 i30 k4 s2 p1 b f32    # a strided one with bias
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a shape file, and a machine whose peak need not be measured."""
    peaks = {
        "fma_peak_gflops": {"1": 100.0, "2": 200.0},
        "fma_peak_how": "set",
        "copy_gbps": {"1": 10.0, "2": 15.0},
    }
    monkeypatch.setattr("upconv.cli.bench.peak.machine_peak", lambda threads: copy.deepcopy(peaks))
    (tmp_path / "rows.txt").write_text(ROWS)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


def bench(place, *words: str) -> int:
    where = ("--shapes", str(place / "rows.txt"), "--output", str(place / "r.json"), "--seconds", "0.001")
    return main(["bench", *where, *words])


def test_results_file(place, capsys):
    assert bench(place, "--threads", "1,2") == 0
    held = results.read(place / "r.json")
    assert len(held["rows"]) == 2 * 2 * 4
    assert [r["pass"] for r in held["rows"][:4]] == list(results.PASSES[:4])
    row = held["rows"][0]
    assert row["id"] == "L1/1" and row["dtype"] == "float32" and row["layout"] == "nchw" and row["threads"] == 1
    assert row["kernel"].startswith("cpu_") and row["floor_by"] in ("operations", "bytes")
    assert 0 < row["rel_err"] < row["rel_err_bound"] and row["first_ms"]["upconv"] > 0
    assert held["meta"]["torch"] == torch.__version__ and held["meta"]["threads"] == [1, 2]
    assert (place / "r.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "forward, all rows" in said and "2 threads" in said


def test_floors_are_the_machines_least_time():
    meta = {"fma_peak_gflops": {"1": 100.0}, "copy_gbps": {"1": 10.0}}
    dense, light = parse_problem("2d n1 c64 o64 i64 k3 f32"), parse_problem("1d n1 c64 o64 i4096 k3 g64 f32")
    assert measure.floor_of(dense, "forward", 1, meta) == (
        pytest.approx(dense.flop / 100e9 * 1e3),
        "operations",
    )
    assert measure.floor_of(dense, "backward", 1, meta)[0] == pytest.approx(2 * dense.flop / 100e9 * 1e3)
    assert measure.floor_of(light, "forward", 1, meta) == (
        pytest.approx(light.min_bytes / 10e9 * 1e3),
        "bytes",
    )


def test_measuring_again_replaces_and_adds(place):
    assert bench(place, "--threads", "1", "--only", "some/") == 0
    before = results.read(place / "r.json")["rows"]
    assert bench(place, "--threads", "1,2", "--only", "L1/1", "--passes", "forward") == 0
    held = results.read(place / "r.json")
    assert [r for r in held["rows"] if r["id"] == "some/up"] == before
    assert {(r["pass"], r["threads"]) for r in held["rows"] if r["id"] == "L1/1"} == {
        ("forward", 1),
        ("forward", 2),
    }
    assert bench(place, "--threads", "1", "--dtype", "bf16", "--only", "L1/1") == 0
    rows = results.read(place / "r.json")["rows"]
    assert {r["dtype"] for r in rows} == {"float32", "bfloat16"}
    assert all(("upconv_f32" in r["peers_ms"]) == (r["dtype"] == "bfloat16") for r in rows)


def test_a_few_rows_come_in_16_bits_without_being_asked(place, capsys):
    assert main(["bench", "--list", "--only", "L1/57,L1/58"]) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [words[0] for words in listed] == ["L1/57", "L1/58", "L1/57", "L1/57"]
    rows = [row(dtype="bfloat16", peers_ms={"torch_eager": 3.0, "upconv_f32": own}) for own in (0.9, 1.2)]
    (s,) = summary.summarise(rows, "bfloat16")
    assert s.own == [0.9, 1.2]


def test_an_interrupted_run_loses_nothing(place, monkeypatch):
    real, measured = measure.measure, []

    def once_then_interrupted(shape, *rest):
        if measured:
            raise KeyboardInterrupt
        measured.append(shape.id)
        return real(shape, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(measure, "measure", once_then_interrupted)
        assert bench(place, "--threads", "1") == 130
    assert {r["id"] for r in results.read(place / "r.json")["rows"]} == {"L1/1"}

    def counted(shape, *rest):
        measured.append(shape.id)
        return real(shape, *rest)

    monkeypatch.setattr(measure, "measure", counted)
    assert bench(place, "--threads", "1", "--resume") == 0
    assert measured == ["L1/1", "some/up"]
    assert bench(place, "--threads", "1", "--resume") == 0
    assert measured == ["L1/1", "some/up"]


def test_a_wrong_engine_ends_with_1(place, monkeypatch, capsys):
    real = upconv.functional.conv_transpose1d
    monkeypatch.setattr(upconv.functional, "conv_transpose1d", lambda *a, **k: real(*a, **k) * 1.0001)
    assert bench(place, "--threads", "1") == 1
    assert "wrong some/up forward" in capsys.readouterr().out


def test_a_failing_problem_does_not_cost_the_others(place, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(upconv.functional, "conv_transpose2d", fails)
    assert bench(place, "--threads", "1") == 1
    assert "no such kernel" in capsys.readouterr().out
    assert {r["id"] for r in results.read(place / "r.json")["rows"]} == {"some/up"}


def test_channels_last_and_quick(place):
    assert bench(place, "--threads", "1", "--layout", "nhwc", "--quick") == 0
    rows = results.read(place / "r.json")["rows"]
    assert {r["layout"] for r in rows} == {"nhwc"} and {r["pass"] for r in rows} == {"forward", "backward"}
    assert "rel_err" not in rows[0]


def test_list_measures_nothing(place, capsys):
    assert bench(place, "--list") == 0
    assert "a strided one with bias" in capsys.readouterr().out
    assert not (place / "r.json").exists()


def row(name="L1/1", what="forward", threads=1, ours=1.0, peer=2.0, floor=0.5, **more) -> dict:
    return {
        "id": name, "problem": "2d n1 c8 o8 i8x8 k3 f32", "pass": what, "dtype": "float32", "layout": "nchw",
        "threads": threads, "upconv_ms": ours, "peers_ms": {"torch_eager": peer}, "floor_ms": floor,
        "floor_by": "operations", "kernel": "cpu_channels",
    } | more  # fmt: skip


META = {
    "device": "cpu: some", "isa": "v3", "torch": "2", "commit": "c", "date": "2026-01-02 03:04 UTC",
    "threads": [1], "fma_peak_gflops": {"1": 100.0}, "copy_gbps": {"1": 10.0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.pop("kernel"), "kernel is missing"),
        (lambda r: r.update({"pass": "sideways"}), "sideways"),
        (lambda r: r.update(upconv_ms=0.0), "positive"),
        (lambda r: r.update(threads="1"), "threads"),
        (lambda r: r.update(peers_ms={}), "positive"),
    ],
)
def test_results_that_do_not_check(change, told):
    bad = row()
    change(bad)
    with pytest.raises(results.ResultsError, match=told):
        results.check({"meta": META, "rows": [bad]})


def test_the_same_row_twice_does_not_check():
    with pytest.raises(results.ResultsError, match="twice"):
        results.check({"meta": META, "rows": [row(), row()]})


def test_merge_keeps_the_best_peak_and_moves_the_floors():
    first = results.merge({}, copy.deepcopy(META), [row()], ["L1/1"])
    better = {**copy.deepcopy(META), "fma_peak_gflops": {"1": 200.0}, "copy_gbps": {"1": 5.0}}
    merged = results.merge(first, better, [row(what="backward")], ["L1/1"])
    assert merged["meta"]["fma_peak_gflops"] == {"1": 200.0} and merged["meta"]["copy_gbps"] == {"1": 10.0}
    small = parse_problem(row()["problem"])
    assert merged["rows"][0]["floor_ms"] == measure.figure(measure.floor_of(small, "forward", 1, merged["meta"])[0])


def test_summary_sorts_rows_by_what_pytorch_reaches():
    rows = [
        row("a", peer=2.0, ours=1.0, floor=0.5),  # PyTorch at 25%: its weak spot
        row("b", peer=1.0, ours=1.25, floor=0.9),  # at 90%, and upconv loses
        row("b", "backward", peer=1.0, ours=0.5, floor=0.7),
        row("c", "backward_input", peer=1.0, ours=1.0, floor=0.7, rel_err=None, rel_err_bound=1e-6),
    ]
    (s,) = summary.summarise(rows)
    assert [r["id"] for r in s.weak] == ["a"]
    assert [r["id"] for r in s.losing] == ["b"] and len(s.other) == 3
    assert summary.mean(s.forward) == pytest.approx((2.0 * 0.8) ** 0.5)
    assert summary.mean(s.backward) == 2.0
    assert [r["id"] for r in s.wrong] == ["c"], "null stands for NaN and is wrong"


def test_readme_table_follows_the_file(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    held = {"meta": META, "rows": [row(), row(what="backward", ours=4.0), row("dcgan/main0", ours=0.5)]}
    assert not readme.bring_up_to_date(held, page, check=True)
    assert "old" in page.read_text(), "checking changes nothing"
    assert readme.bring_up_to_date(held, page, check=False)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| L1/1 `2d n1 c8 o8 i8x8 k3` | 2.00 → 1.00 | 2.00x | 2.00 → 4.00 | 0.50x |" in text
    assert "**4.00x**" in text
    assert readme.bring_up_to_date(held, page, check=True)
    held["rows"][0]["upconv_ms"] = 0.9
    assert not readme.bring_up_to_date(held, page, check=True)


def test_readme_needs_its_markers(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(results.ResultsError, match="results:begin"):
        readme.bring_up_to_date({"meta": META, "rows": [row()]}, tmp_path / "README.md", check=True)


def test_readme_shows_exported_files(tmp_path):
    """What failed is a row of its own, and counts for nothing."""
    page = tmp_path / "README.md"
    page.write_text(f"before\n{readme.EXPORTED_BEGIN}\n{readme.EXPORTED_END}\nafter\n")
    taken = {"forward": {"ModelNew": 1.0, "eager": 3.0, "channels_last": 2.0}}
    meta = {"device": "GPU", "torch": "2.11", "cuda": "13.0", "seeds": 1, "how": "tools/kernelbench.py"}
    rows = [{"id": "L1/1", "ms": taken, "tests": 9, "failed": [], "build_s": 40.0},
            {"id": "L1/2", "ms": taken, "tests": 9, "failed": ["values: far"], "build_s": 50.0},
            {"id": "L1/3", "failed": ["not built: error"]}]  # fmt: skip
    assert readme.bring_up_to_date({"meta": meta, "rows": rows}, page, check=False)
    text = page.read_text()
    assert "1 of 3 correct; of PyTorch eager's speed 1 at least 1x, 1 at least 2x, 0 at least 5x" in text
    assert "| L1/1 | 1.00 | 3.00 | 2.00 | 3.00x |" in text
    assert "| L1/3 | failed: not built: error |" in text
    assert "| L1/2 | failed: values: far |" in text and "in 40 to 50 s" in text


@pytest.mark.parametrize("name", ["cpu.json", "nvidia-h200.json", "kernelbench-h200.json"])
def test_the_projects_readme_shows_the_projects_results(name):
    root = readme.Path(__file__).resolve().parents[2]
    file = root / "bench/results" / name
    if not file.exists():
        pytest.skip("no results committed yet")
    json.loads(file.read_text())
    assert readme.bring_up_to_date(readme.load(file), root / "README.md", check=True), "run tools/readme_table.py"


def test_chains_are_measured_beside_pytorch(tmp_path, capsys):
    from upconv.cli import main

    file = tmp_path / "chains.json"
    arguments = ["bench", "--chains", "--only", "L2/44,L2/50", "--quick", "--threads", "1", "--output", str(file)]
    assert main(arguments) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["id"] for row in rows] == ["L2/44", "L2/50"] and all(row["action"] == "fused" for row in rows)
    assert all(row["error"] < 1e-5 and set(row["ms"]) == {"eager", "upconv"} for row in rows)
    assert "geometric mean" in capsys.readouterr().out
    assert main(["bench", "--chains", "--only", "L2/1"]) == 2


def test_decoders_are_measured_beside_pytorch(tmp_path, capsys):
    from upconv.cli import main

    file = tmp_path / "decoders.json"
    arguments = ["bench", "--decoders", "--only", "sam,dcgan", "--quick", "--threads", "1", "--output", str(file)]
    assert main(arguments) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(r["id"], r["pass"]) for r in rows] == [("sam", "forward"), ("dcgan", "forward"), ("dcgan", "step")]
    assert all(r["error"] < 1e-4 and set(r["ms"]) == {"eager", "upconv"} and r["fused"] for r in rows)
    assert "geometric mean" in capsys.readouterr().out
    assert main(["bench", "--decoders", "--list"]) == 0 and "HiFi-GAN" in capsys.readouterr().out
    assert main(["bench", "--decoders", "--only", "L2/1"]) == 2
    assert main(["bench", "--decoders", "--dtype", "f64"]) == 2
