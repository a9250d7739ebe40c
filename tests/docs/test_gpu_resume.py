"""tests/gpu/run.py --resume: what an interrupted run has passed counts, for the same kernels only."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = """<testsuites><testsuite>
<testcase classname="tests.gpu.test_gpu_values" name="test_a[1-f32]" time="1.5"/>
<testcase classname="tests.gpu.test_gpu_values" name="test_b" time="2"><failure message="wrong"/></testcase>
<testcase classname="tests.gpu.test_gpu_values" name="test_c" time="0"><skipped message="two GPUs"/></testcase>
<testcase time="0"/>
</testsuite></testsuites>"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_run", ROOT / "tests/gpu/run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "gpu_run", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OUT", tmp_path)
    return module


def test_only_what_passed_is_left_out(run, tmp_path):
    (tmp_path / "parallel.xml").write_text(REPORT)
    assert run.passed(tmp_path / "parallel.xml") == ["test_gpu_values::test_a[1-f32]"]


def test_a_resumed_run_counts_the_earlier_ones(run, tmp_path):
    run.begin(False, "of-these-kernels")
    for n in range(2):
        (tmp_path / "parallel.xml").write_text(REPORT)
        run.begin(True, "of-these-kernels")
        assert [p.name for p in run.earlier("parallel")] == [f"parallel-{k}.xml" for k in range(n + 1)]
    table, failures = run.defaultdict(run.Outcome), []
    run.read(run.earlier("parallel")[0], table, failures, passed_only=True)
    assert (table["values"].passed, table["values"].failed, failures) == (1, 0, [])


def test_other_kernels_begin_anew(run, tmp_path):
    run.begin(False, "of-these-kernels")
    (tmp_path / "parallel.xml").write_text(REPORT)
    (tmp_path / "tally" / "1.txt").write_text("edges 1 2\n")
    with pytest.raises(SystemExit, match="no run of these kernels"):
        run.begin(True, "of-others")
    run.begin(True, "of-these-kernels")
    assert run.earlier("parallel") and run.drawn(tmp_path / "tally")
    run.begin(False, "of-others")
    assert not run.earlier("parallel") and not run.drawn(tmp_path / "tally")
