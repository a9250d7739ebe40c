# Gradients of chains on the CUDA engine, on the emulator of tests/emulator: of x, w, b and every operand, against
# torch's own functions in float64: each step alone, seeded random chains, KernelBench level 2 in training mode.
from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from emulated_chains import installed, needs_emulator
from gradient_cases import NAMES, gradients_of, worst
from test_level2 import CHAINS, inputs_of, relative
from test_steps import CLOSINGS, ELEMENTWISE, Case, closings, random_chain

import upconv
from upconv import _chain as C

pytestmark = needs_emulator
TOLERANCE = {torch.float64: 1e-10, torch.float32: 5e-5, torch.bfloat16: 5e-2, torch.float16: 1e-2}
SLOW = (11, 77)


def check(case, chain, factor=1.0):
    with installed():
        errors = gradients_of(case, chain)
    bound = factor * TOLERANCE[case.x.dtype]
    if "hard" in str(chain):
        bound = max(bound, 1e-6)  # torch's own slope of it is a float's 1/6 in float64 too
    assert all(e < bound for e in errors.values()), (str(chain), errors)


@pytest.mark.parametrize("steps", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_elementwise_alone(steps):
    for dtype in (torch.float64, torch.float32):
        case = Case(2, dtype)
        check(case, C.Chain(case.layer, (), steps))
    case = Case(1)
    check(case, C.Chain(case.layer, (), (), (C.Softmax((1,), after=steps),)))


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_alone(name):
    for rank, dtype in ((1, torch.float64), (2, torch.float64), (3, torch.float64), (2, torch.float32),
                        (2, torch.bfloat16)):  # fmt: skip
        case = Case(rank, dtype)
        if dtype is torch.bfloat16 and name.startswith(("max", "min", "padded max")):
            continue  # which value is the largest changes with its rounding
        check(case, C.Chain(case.layer, closing=(closings(case)[name],)))


@pytest.mark.parametrize("kind", ("max", "min"))
def test_an_extreme_of_what_a_row_made(kind):
    """The gradient looks for it among values that it works out again: they must be the same bits."""
    for dtype in (torch.float32, torch.float64):
        case = Case(1, dtype)
        check(case, C.Chain(case.layer, closing=(C.Softmax((2,)), C.Reduce(kind, (2,)))), 200)


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_between_steps(name):
    """Nonlinear steps and operands of every kind that fit before and after."""
    for rank in (1, 2):
        case = Case(rank)
        before = (C.Activate(8), *(C.Arithmetic("multiply", C.Operand(i)) for i in range(5)))
        step = closings(case)[name]
        after = (C.Activate(7), C.Arithmetic("multiply", C.Operand(4)))
        if not (isinstance(step, C.Reduce) and 1 in step.dims):
            after += (C.Arithmetic("multiply", C.Operand(0)), C.Arithmetic("subtract", C.Operand(2)))
        check(case, C.Chain(case.layer, (), before, (replace(step, after=after),)))


@pytest.mark.parametrize("seed", range(80))
def test_random_chains(seed):
    case, chain = random_chain(seed, (torch.float64, torch.float64, torch.float32))
    check(case, chain, 200)


@pytest.mark.parametrize("number", CHAINS)
def test_level2(number):
    inputs = inputs_of(number)
    model = CHAINS[number]()
    wide = copy.deepcopy(model).double()
    fast = upconv.optimize(model, tuple(inputs))
    modes = (True, False) if number in (72, 15) else (True,)
    for mode in modes:
        grads = []
        for m, dtype in ((wide, torch.float64), (fast, torch.float32)):
            m.train(mode)
            m.zero_grad(set_to_none=True)
            given = [x.clone().to(dtype).requires_grad_() for x in inputs]
            with installed():
                y = m(*given)
                torch.manual_seed(1)
                y.backward(torch.randn(y.shape).to(dtype))
            grads.append({"y": y, **{f"x{i}": t.grad for i, t in enumerate(given)},
                          **{n: p.grad for n, p in m.named_parameters()}})  # fmt: skip
        largest = max(t.abs().max().item() for k, t in grads[0].items() if k != "y" and t is not None)
        for name, want in grads[0].items():
            got = grads[1][name]
            if want is None:
                assert got is None, name
                continue
            # What cancels to nothing (a bias in front of a norm) is held against the largest gradient.
            scale = max(want.abs().max().item(), 0.01 * largest)
            assert (got.double() - want).abs().max().item() < 2e-4 * scale, (name, mode, relative(got, want))
    for name, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer.double(), wide.get_buffer(name).double(), rtol=1e-4, atol=1e-6)


def test_what_is_not_wanted_is_not_computed():
    case = Case(2)
    chain = C.Chain(case.layer, (), (C.Arithmetic("multiply", C.Operand(1)), C.Arithmetic("add", C.Operand(0))))
    with installed():
        for wanted in (("w",), ("x",), ("b",), (NAMES[4],), (NAMES[3], "x")):
            errors = gradients_of(case, chain, wanted)
            assert set(errors) == {"y", *wanted} and worst(errors) < 1e-10, errors


def test_gradients_of_gradients_are_torchs():
    case = Case(1)
    chain = C.Chain(case.layer, (), (C.Activate(7),), (C.GroupNorm(4, 1e-5, 0, None, (C.Activate(8),)),))
    with installed():
        found = []
        for module in (upconv._fused_chain.FusedChain(chain, vectors=frozenset({0})), None):
            leaves = [t.clone().requires_grad_() for t in (case.x, case.w, case.b, *case.operands)]
            x, w, b, *operands = leaves
            geometry = (*case.layer.geometry, 0)
            y = module(x, w, b, *operands) if module else chain.close(
                upconv._call.run(1, x, w, b, geometry), operands)  # fmt: skip
            (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
            found.append(torch.autograd.grad(first.square().sum(), (x, w, b)))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
