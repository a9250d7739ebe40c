"""upconv.tune: what it measures and keeps. The clock is a table here and the GPU a model of one; on a GPU,
tests/gpu/test_gpu_execution.py tunes for real.
"""

import pytest
import torch

import upconv
from upconv import _ops, _tune
from upconv._warmup import Work

LINE = "2d n8 c64 o64 i256x256 k3x3 s1x1 p0x0 op0x0 d1x1 g1 f32 tf32"


class Table:
    """A GPU whose times and results are given by name; everything not named takes `others` and is right."""

    def __init__(self, times=None, wrong=(), broken=(), others=2.0):
        self.given, self.wrong, self.broken, self.others = times or {}, wrong, broken, others
        self.measured = []

    def prepare(self, names):
        return [(n, "does not compile") for n in names if n in self.broken]

    def run(self, name):
        return torch.tensor([1.0, 2.0, 3.0]) + (0.1 if name in self.wrong else 0.0)

    def times(self, names):
        self.measured = list(names)
        return {n: self.given.get(n, self.others) for n in names}


def names_of(direction="forward"):
    return [line.split("\t")[0] for line in _ops.alternatives(LINE, direction, "sm_90", []).splitlines()]


#: The engine's own choice, and others.
OWN, SECOND, THIRD, OTHER = (*names_of()[:3], names_of()[-1])


def tuned(table, direction="forward"):
    return _tune.measure(Work(LINE, direction, "sm_90"), table)


def test_the_engine_names_its_own_choice_first_and_a_bounded_set():
    for direction in ("forward", "backward_input", "backward_weight", "backward_bias"):
        names = names_of(direction)
        assert names[0] in _ops.explain(LINE, "sm_90")
        assert len(set(names)) == len(names) <= 40
        if direction != "backward_bias":
            assert any(":" in n for n in names), "no tile but the first"


def test_every_alternative_can_be_made_and_is_another_kernel():
    for direction in ("forward", "backward_input", "backward_weight"):
        details = [line.split("\t")[1] for line in _ops.alternatives(LINE, direction, "sm_90", []).splitlines()]
        assert len(set(details)) == len(details)


def test_the_fastest_is_kept_when_it_is_worth_it():
    row = tuned(Table({OWN: 1.0, THIRD: 0.9}))
    assert row.model.name == OWN
    assert row.best.name == THIRD
    assert tuned(Table({OWN: 1.0, THIRD: 0.98})).best.name == OWN


def test_a_wrong_or_broken_kernel_is_never_chosen():
    table = Table({SECOND: 0.1, THIRD: 0.2, OTHER: 0.5}, [SECOND], [THIRD])
    row = tuned(table)
    assert row.best.name == OTHER
    assert {name for name, _ in row.refused} == {SECOND, THIRD}
    assert SECOND not in table.measured
    assert "differs" in str(_tune.TuneReport([row]))


def test_where_nothing_compiles_it_says_why():
    with pytest.raises(RuntimeError, match=r"forward of 2d n8 c64.*does not compile"):
        tuned(Table(broken=names_of()))


def test_the_report_counts_predictions_within_a_tenth():
    rows = [tuned(Table({OWN: 1.0}, others=t)) for t in (0.95, 0.5)]
    report = _tune.TuneReport(rows)
    assert report.within == 0.5
    assert "2.00x" in str(report) and "50% of 2 passes" in str(report)


def test_times_are_medians_in_turns_and_the_hopeless_are_left():
    calls = []

    def once(name):
        calls.append(name)
        return {"a": 1.0, "b": 1.1, "c": 9.0}[name]

    assert _tune.times_in_turns(["a", "b", "c"], once, 5) == {"a": 1.0, "b": 1.1, "c": 9.0}
    assert calls[:3] == ["a", "b", "c"]
    assert calls.count("c") == 3 and calls.count("a") == calls.count("b") == 5


@pytest.mark.parametrize("direction", ["forward", "backward_input", "backward_weight", "backward_bias"])
def test_the_tensors_of_a_problem_are_what_a_single_pass_takes(direction):
    line = "2d n2 c4 o6 i5x4 k3x2 s2x1 p1x0 op1x0 d1x1 g2 b f32 xl yl"
    line = _ops.pass_problem(line, direction, "cpu", -1)
    a, b, bias = _tune.tensors_of(line, direction, torch.device("cpu"))
    (name,) = [row.split("\t")[0] for row in _ops.alternatives(line, direction, "cpu", []).splitlines()]
    assert torch.isfinite(_ops.run_single(line, direction, name, a, b, bias, [])).all()


def test_precision_of_problems():
    line = LINE.removesuffix(" tf32")
    assert _ops.pass_problem(line, "forward", "sm_90", _tune._code("as written")).endswith("f32")
    assert _ops.pass_problem(line, "forward", "sm_90", _tune._code("bf16x3")).endswith("bf16x3")
    with pytest.raises(ValueError, match="precision should be one of"):
        _tune._code("fast")


def test_a_model_on_the_cpu_has_nothing_to_tune():
    layer = upconv.nn.ConvTranspose1d(3, 4, 3)
    report = upconv.tune(layer, torch.randn(1, 3, 8))
    assert report.rows == [] and "GPU" in str(report)


def test_what_is_missing_is_named():
    with pytest.raises(TypeError, match="example_inputs"):
        upconv.tune(torch.nn.Identity())
    with pytest.raises(RuntimeError, match="no candidate"):
        _ops.prepare_alternative(LINE, "forward", "sm_90", "cuda_tiles:x", [])
    with pytest.raises(RuntimeError, match="only a GPU's"):
        _ops.remember(LINE, "forward", "sm_90", SECOND, [])
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA driver"):
            upconv.tune("1d n1 c1 o1 i4 k3")
