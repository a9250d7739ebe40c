"""The judge of `upconv check` on the CPU: it accepts a ModelNew that computes what Model does, and finds each way of
being wrong. What needs a GPU's streams and profiler is not run here."""

from __future__ import annotations

import pytest
import torch
from problems import text

from upconv.cli.check.judge import Judge, _unlike
from upconv.cli.check.table import Table

PROBLEM = text(2, 2, 4, 6, (5, 7), 3, "stride=2, padding=1")
#: A ModelNew by torch itself, and what is done to it.
HONEST = PROBLEM.replace("class Model(", "class ModelNew(").replace("super(Model,", "super(ModelNew,")


@pytest.fixture
def judged(tmp_path):
    def judge(new: str, backward: bool = False) -> dict[str, bool]:
        (tmp_path / "problem.py").write_text(PROBLEM)
        (tmp_path / "new.py").write_text(new)
        table = Table()
        judge = Judge(tmp_path / "problem.py", tmp_path / "new.py", table, device="cpu")
        if table.failed:
            return {test: good for good, test, _ in table.rows}
        judge.values()
        judge.habits()
        judge.other_inputs()
        if backward:
            judge.backward()
        return {test: good for good, test, _ in table.rows}

    return judge


def test_accepts_the_honest(judged):
    verdicts = judged(HONEST, backward=True)
    assert all(verdicts.values()), verdicts
    assert {"values, TF32 permitted", "values, TF32 not permitted", "with batch 1", "with channels last",
            "gradients, TF32 permitted", "weights changed in place", "initialisation"} <= set(verdicts)  # fmt: skip


#: What ModelNew returns instead of CALL(x); the test that has to find it.
RETURNS = [
    ("CALL(x) * 1.001", "values, TF32 not permitted"),
    ("CALL(x.abs())", "values, TF32 permitted"),
    ("CALL(x.mul_(1.0).add_(0.5).sub_(0.25))", "inputs unchanged"),
    ("self.kept if hasattr(self, 'kept') else setattr(self, 'kept', CALL(x)) or self.kept", "weights changed in place"),
    ("CALL(x)[:, :, :, :13]", "with twice the width"),
    ("CALL(x).transpose(2, 3).contiguous().transpose(2, 3)", "values, TF32 permitted"),
    ("CALL(x).detach() + 0 * CALL(x)", "gradients, TF32 permitted"),
]


@pytest.mark.parametrize("returned, test", RETURNS)
def test_finds(returned, test, judged):
    call = "self.conv_transpose"
    changed = HONEST.replace(f"return {call}(x)", "return " + returned.replace("CALL", call))
    assert changed != HONEST
    verdicts = judged(changed, backward=test.startswith("gradients"))
    assert verdicts.get(test) is False, verdicts


@pytest.mark.parametrize(
    "old, new, test",
    [
        ("        self.conv_transpose =", "        torch.rand(1)\n        self.conv_transpose =", "initialisation"),
        ("kernel_size):", "kernel_size, extra=1):", "constructor"),
    ],
)
def test_finds_another_constructor(old, new, test, judged):
    changed = HONEST.replace(old, new)
    assert changed != HONEST
    assert judged(changed).get(test) is False


def test_restores_torchs_switch(judged):
    conv = getattr(torch.backends.cudnn, "conv", None)
    setting = getattr(conv, "fp32_precision", None)
    before = torch.backends.cudnn.allow_tf32 if setting is None else setting
    judged(HONEST)
    assert before == (torch.backends.cudnn.allow_tf32 if setting is None else conv.fp32_precision)


def test_as_far_from_model_as_model_itself_may_be():
    """Where rounding errors of the inputs move Model's own result, so many elements may differ, and no more."""
    expected = torch.linspace(1, 2, 100)

    def moved(count):
        return torch.where(torch.arange(100) < count, expected + 0.01, expected)

    assert not _unlike(expected, expected, lambda: pytest.fail("Model ran without need"))
    assert not _unlike(moved(2), expected, lambda: moved(2))
    assert "2.0e-02" in _unlike(moved(2), expected, lambda: moved(1))
    assert _unlike(moved(2), expected, lambda: expected)
