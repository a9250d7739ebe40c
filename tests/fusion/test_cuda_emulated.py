# Chains on the CUDA engine, on the emulator of tests/emulator: every step alone, seeded random chains, and the 30
# chains of KernelBench level 2 at small sizes, against torch in float64. No evidence of a run on a GPU
# (docs/architecture.md).
from __future__ import annotations

import copy

import pytest
import torch
from emulated_chains import installed, needs_emulator
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


@pytest.mark.parametrize("seed", range(60))
def test_random_chains(seed):
    case, chain = random_chain(seed, (torch.float64, torch.float32, torch.float32))
    with installed():
        assert case.error(chain) < 100 * TOLERANCE[case.x.dtype], str(chain)
