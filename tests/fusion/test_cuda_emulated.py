# Chains on the CUDA engine, on the emulator of tests/emulator: every step alone, seeded random chains, and the 30
# chains of KernelBench level 2 at small sizes, against torch in float64. No evidence of a run on a GPU
# (docs/architecture.md).
from __future__ import annotations

import copy

import pytest
import torch
from emulated_chains import explain, installed, needs_emulator
from gradient_cases import gradients_of, worst
from test_level2 import CHAINS, inputs_of, relative
from test_steps import CLOSINGS, ELEMENTWISE, TOLERANCE, Case, closings, random_chain

import upconv
from upconv import _chain as C

pytestmark = needs_emulator
HALF = {**TOLERANCE, torch.float16: 6e-3}
#: Chains whose layer is long work for the emulator: in training mode alone.
SLOW = (11, 77)


@pytest.mark.parametrize("number", CHAINS)
def test_level2(number):
    inputs = inputs_of(number)
    model = CHAINS[number]()
    wide = copy.deepcopy(model).double()
    fast = upconv.optimize(model, tuple(inputs))
    eager = copy.deepcopy(model)
    with torch.no_grad(), installed():
        for mode in (True, False)[: 1 if number in SLOW else 2]:
            for m in (wide, fast, eager):
                m.train(mode)
            want = wide(*[x.double() for x in inputs])
            got, torch_s = fast(*inputs), eager(*inputs)
            assert got.shape == want.shape
            assert relative(got, want) < max(4 * relative(torch_s, want), 2e-6), mode
    for name, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer.double(), wide.get_buffer(name).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_elementwise_alone(steps):
    with installed():
        for dtype in (torch.float32, torch.bfloat16):
            case = Case(2, dtype)
            assert case.error(C.Chain(case.layer, (), steps)) < HALF[dtype]
        case = Case(1)
        assert case.error(C.Chain(case.layer, (), (), (C.Softmax((1,), after=steps),))) < TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_alone(name):
    with installed():
        for rank, dtype in ((1, torch.float32), (2, torch.float32), (3, torch.float32), (2, torch.float64),
                            (2, torch.bfloat16), (1, torch.float16)):  # fmt: skip
            case = Case(rank, dtype)
            step = closings(case)[name]
            assert case.error(C.Chain(case.layer, closing=(step,))) < HALF[dtype], (rank, dtype)


@pytest.mark.parametrize("length", (4, 8, 10, 32, 64, 68, 120, 256, 512, 520, 600))
def test_rows_of_any_length(length):
    """By fours where the length is a multiple of four; in teams of two lanes to a block."""
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        case = Case(2, dtype, space=(3, length // 2))
        case.operands = (*case.operands, *(torch.randn(length, dtype=dtype) for _ in range(2)))
        case.vectors = frozenset({0, 5, 6})
        after = (C.Activate(3), C.Arithmetic("add", C.Operand(1)), C.Arithmetic("multiply", C.Operand(0)))
        norm, softmax = C.LayerNorm((length,), 1e-5, 5, 6, after=after), C.Softmax((3,), after=after)
        for closing in ((norm,), (softmax,), (norm, C.Reduce("max", (3,))), (softmax, C.Reduce("logsumexp", (3,)))):
            with installed():
                assert case.error(C.Chain(case.layer, (), (), closing)) < HALF[dtype], (dtype, closing)


def _passes(case, chain):
    return explain(case.x, case.w, case.b, (*case.layer.geometry, 0), chain.numbers(case.w.shape[1]))


def _pointwise(n, space, dtype):
    """A case whose layer is 1x1 with one input channel: results of any size for little work."""
    case = Case(len(space), dtype, space=(2,) * len(space))
    rank = len(space)
    case.layer = C.Layer((1,) * rank, (0,) * rank, (0,) * rank, (1,) * rank, 1)
    case.x, case.w = torch.randn(n, 1, *space).to(dtype), torch.randn(1, 16, *[1] * rank).to(dtype)
    case.shape = (n, 16, *space)
    sizes = (16, case.shape, (n, 16, *[1] * rank), (*[1] * (rank + 1), space[-1]), (), 16)
    case.operands = tuple(torch.randn(size).to(dtype) for size in sizes)
    case.vectors = frozenset({0, 5})
    return case


@pytest.mark.parametrize(
    ("processors", "n", "space", "groups"),
    [(132, 2, (33, 17), 4), (132, 2, (67, 35), 1), (3, 6, (91, 131), 4), (9, 8, (129, 133), 8), (5, 5, (101, 203), 4),
     (1, 3, (129, 131), 4), (132, 3, (999,), 8), (40, 1, (7, 13, 21), 4), (132, 2, (5, 5), 2), (17, 9, (129, 131), 2)],
)  # fmt: skip
def test_norms_in_one_pass(monkeypatch, processors, n, space, groups):
    """Sets of some planes in the shared memory of one block, or of the blocks of a cluster: one set, several in turn
    and a ring that comes round; sets and planes that begin at any element, with steps and operands on both sides."""
    monkeypatch.setenv("UPCONV_EMULATOR_PROCESSORS", str(processors))
    for dtype in (torch.float32, torch.bfloat16, torch.float16)[:: 1 if n * space[0] < 500 else 2]:
        case = _pointwise(n, space, dtype)
        after = (C.Activate(3), C.Arithmetic("add", C.Operand(1)), C.Arithmetic("multiply", C.Operand(5)))
        for weight, bias in ((0, 5), (None, 5), (0, None))[: 3 if n < 3 else 1]:
            norm = C.GroupNorm(groups, 1e-5, weight, bias, after=after)
            chain = C.Chain(case.layer, (), (C.Activate(3), C.Arithmetic("multiply", C.Operand(0))), (norm,))
            if dtype == torch.float32:
                assert "sets norm" in _passes(case, chain)
            with installed():
                assert case.error(chain) < HALF[dtype], (dtype, weight, bias)


@pytest.mark.parametrize("outlier", (0.0, 300.0))
def test_norms_in_one_pass_of_values_far_from_zero_or_from_each_other(outlier):
    """Sums are of distances from a lane's first value, so that a large mean takes nothing from the variance; a first
    value far from all others costs one lane its digits, no more."""
    case = _pointwise(2, (33, 17), torch.float32)
    case.x[:, :, 0, 0] = outlier
    shift = 0.0 if outlier else 3000.0
    chain = C.Chain(case.layer, (), (C.Arithmetic("add", C.Scalar(shift)),), (C.GroupNorm(4, 1e-5),))
    assert "sets norm" in _passes(case, chain)
    with installed():  # 3000 in fp32 is 2.4e-4 from the next number, and values are within 2
        assert case.error(chain) < (1e-6 if outlier else 2e-3)


def test_what_shares_no_sets_of_planes_is_not_taken_for_it():
    """A LayerNorm over all of space in 3-D, whose rows are planes and too long for registers; norms in a row."""
    case = Case(3, torch.float32, space=(3, 13, 21))
    case.operands = (*case.operands, *(torch.randn(case.shape[2:]) for _ in range(2)))
    case.vectors = frozenset({0, 5, 6})
    rows, groups = case.shape[2:], C.GroupNorm(4, 1e-5, 0, None)
    for closing in (
        (C.LayerNorm(rows, 1e-5, 5, 6),), (C.LayerNorm(rows, 1e-5, 5, None), groups),
        (groups, C.LayerNorm(rows, 1e-5, 5, 6)), (groups, C.GroupNorm(2, 1e-3)),
        (groups, C.Center(), C.BatchNorm(1e-5)),
    ):  # fmt: skip
        with installed():
            assert case.error(C.Chain(case.layer, (), (C.Activate(3),), closing)) < 1e-5, closing
    assert "sets norm" not in _passes(case, C.Chain(case.layer, (), (), (C.LayerNorm(rows, 1e-5),)))
    assert "sets norm" in _passes(case, C.Chain(case.layer, (), (), (groups,)))


@pytest.mark.parametrize("closing", ("rows", "groups", "planes", "both"))
def test_gradients_beside_norms_in_one_pass(closing):
    case = Case(3, torch.float32, space=(3, 13, 21))
    rows, groups = C.LayerNorm(case.shape[2:], 1e-5), C.GroupNorm(4, 1e-5, 0, None)
    steps = {"rows": (rows,), "groups": (groups,), "planes": (C.GroupNorm(0, 1e-3),), "both": (rows, groups)}[closing]
    with installed():
        assert worst(gradients_of(case, C.Chain(case.layer, (), (C.Activate(3),), steps))) < 2e-4


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed):
    case, chain = random_chain(seed, (torch.float64, torch.float32, torch.float32))
    with installed():
        assert case.error(chain) < 100 * TOLERANCE[case.x.dtype], str(chain)
