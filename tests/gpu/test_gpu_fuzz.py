"""The fuzzer: thousands of random problems a run, every candidate, against float64.

    python3 -m pytest tests/gpu/test_gpu_fuzz.py                          # seeds 0 to 447, up to 8 problems each
    UPCONV_FUZZ_SEED=5000 python3 -m pytest tests/gpu/test_gpu_fuzz.py    # other seeds
    UPCONV_FUZZ_PROBLEM="2d n1 c3 o5 i7x9 k3 tf32" python3 -m pytest tests/gpu/test_gpu_fuzz.py -k one

A failure names problem, candidate, data and seed; the last command repeats it.
"""

import os

import gpu_fuzz
import gpu_tally
import pytest
from gpu_cases import DEVICE, FORMATS, Case, Judge, case, run, sanitized, tensors

SEED = int(os.environ.get("UPCONV_FUZZ_SEED", "0"))
PARTS, SEEDS_A_PART = 28, 16


@pytest.mark.parametrize("part", range(PARTS))
def test_fuzz(part):
    """Until its seeds are drawn or the run's time is over (tests/gpu/run.py); at least one problem."""
    failures, problems, ran = [], 0, 0
    for i in range(SEEDS_A_PART):
        seed = SEED + part * SEEDS_A_PART + i
        for n, c in enumerate(gpu_fuzz.draw(seed)):
            if problems and gpu_tally.out_of_time():
                break
            try:
                data = ("normal", "integers")[(seed + n) % 2]
                ran += Judge(c, data, seed=1000 * seed + n, offset=(0, 0, 1, 3)[(seed // 3 + n) % 4]).check_all()
            except AssertionError as error:
                failures.append(f"fuzz seed {seed}, problem {n}: {error}")
            problems += 1
    gpu_tally.count("fuzz", problems, ran)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("seed", range(900, 904))
def test_the_cpu_engine_agrees(seed):
    """A second opinion for a part of the problems: the library's CPU engine on the same tensors."""
    if DEVICE == "cpu":
        pytest.skip("this is the CPU engine")
    for c in gpu_fuzz.draw(SEED + seed, most=3, budget=2e6):
        judge = Judge(c, "integers", seed=seed)
        for what in ("forward", "backward_input", "backward_weight", "backward_bias"):
            operands = judge.tensors.operands(what)
            got = run(c, what, "", *operands)
            a, b, bias = (None if t is None else t.cpu() for t in operands)
            cpu = run(c, what, "", a, b, bias)
            assert (got.cpu() == cpu).all(), judge.label(what, "")


def test_one_problem():
    text = os.environ.get("UPCONV_FUZZ_PROBLEM", sanitized()[0].text)
    for data in ("integers", "normal"):
        assert Judge(case(text), data).check_all() > 0


def test_seeds_repeat():
    assert [c.text for c in gpu_fuzz.draw(7)] == [c.text for c in gpu_fuzz.draw(7)]
    drawn = [c for seed in range(200) for c in gpu_fuzz.draw(seed)]
    assert len(drawn) > 1000
    assert {(c.problem.dtype, c.precision) for c in drawn} == set(FORMATS)
    assert {c.problem.rank for c in drawn} == {1, 2, 3}
    assert tensors(Case(drawn[0].problem), 3).x.shape == drawn[0].problem.x_shape
