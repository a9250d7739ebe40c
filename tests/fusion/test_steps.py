# Every step of a chain alone and in seeded random chains, the fused operator against torch's own functions in float64.
from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from upconv import _chain as C
from upconv._fused_chain import FusedChain

A, S = C.Arithmetic, C.Scalar
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-5, torch.bfloat16: 4e-2}


class Case:
    """A layer with stride 2, and operands of every kind: channel, whole, sample and channel, last dimension, scalar."""

    vectors = frozenset({0})  # operands that are a norm's

    def __init__(self, rank, dtype=torch.float64, seed=0, device="cpu", space=(17, 9, 12)):
        torch.manual_seed(seed)
        space = space[:rank]
        self.rank, self.space = rank, tuple(range(2, rank + 2))
        self.layer = C.Layer((2,) * rank, (1,) * rank, (1,) * rank, (1,) * rank, 1)
        self.x = torch.randn(5, 12, *space, dtype=dtype).to(device)
        self.w = (torch.randn(12, 16, *[3] * rank, dtype=dtype) * 0.2).to(device)
        self.b = torch.randn(16, dtype=dtype).to(device)
        self.shape = (5, 16, *(2 * n for n in space))
        self.operands = tuple(
            torch.randn(size, dtype=dtype).to(device)
            for size in (16, self.shape, (5, 16, *[1] * rank), (1, 1, *[1] * (rank - 1), self.shape[-1]), ())
        )

    def error(self, chain, norm=None):
        """Of the fused operator against the parts in float64, relative to the largest value."""
        module = FusedChain(chain, norm=norm, vectors=self.vectors)
        with torch.no_grad():
            assert module._in_one(self.x, self.w, self.b, self.operands)
            got = module(self.x, self.w, self.b, *self.operands)
            wide = [t.double() for t in (self.x, self.w, self.b, *self.operands)]
            parts = FusedChain(chain, vectors=self.vectors)
            want = parts._in_parts(*wide[:3], tuple(wide[3:]), (*self.layer.geometry, 0))
        assert got.shape == want.shape and got.dtype == self.x.dtype
        assert want.isfinite().all()
        return ((got.double() - want).abs().max() / want.abs().max().clamp(min=1e-3)).item()


ELEMENTWISE = {
    **{name: (C.Activate(i, *{1: (0.2,), 2: (0.7,), 9: (-0.5, 0.75), 12: (1.5, 20.0)}.get(i, ())),)
       for i, name in enumerate(("relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "tanh", "sigmoid",
                                 "hardtanh", "hardswish", "hardsigmoid", "softplus", "sin", "square", "exp"))},
    **{f"{op} {type(other).__name__} {i}": (A(op, other),)
       for op in C.ARITHMETIC if op not in ("keep", "load", "divide", "reverse_divide")
       for i, other in enumerate((S(0.75), *(C.Operand(k) for k in range(5))))},
    "divide": (A("divide", S(3.0)),),
    "kept": (C.Keep(0), C.Activate(8), C.Keep(3), A("multiply", C.Kept(0)), A("subtract", C.Kept(3)),
             C.Keep(1), A("load", C.Kept(0)), C.Activate(7), A("add", C.Kept(1))),
    "quotients": (C.Activate(15), A("add", S(1.0)), C.Keep(1), A("reverse_divide", S(2.0)), A("divide", C.Kept(1))),
}  # fmt: skip


@pytest.mark.parametrize("steps", ELEMENTWISE.values(), ids=ELEMENTWISE)
def test_elementwise_alone(steps):
    for rank in (1, 2):
        for dtype in (torch.float64, torch.float32):
            case = Case(rank, dtype)
            assert case.error(C.Chain(case.layer, (), steps)) < TOLERANCE[dtype]
    assert case.error(C.Chain(case.layer, (), (), (C.Softmax((1,), after=steps),))) < TOLERANCE[torch.float32]


def closings(case):
    rank, space, shape = case.rank, case.space, case.shape
    twos, ones, threes = (2,) * rank, (1,) * rank, (3,) * rank
    return {
        **{f"{kind} over {over}": C.Reduce(kind, dims) for kind in ("sum", "mean", "max", "min", "logsumexp")
           for over, dims in (("channels", (1,)), ("space", space), ("first", (2,)), ("last", (rank + 1,)))},
        "softmax": C.Softmax((1,)), "softmax over space": C.Softmax(space), "softmax over w": C.Softmax((rank + 1,)),
        "max pool": C.Pool(False, twos, twos, (0,) * rank), "padded max pool": C.Pool(False, threes, ones, ones),
        "average pool": C.Pool(True, twos, twos, (0,) * rank),
        "padded average pool": C.Pool(True, threes, twos, ones),
        "uncounted padding": C.Pool(True, threes, twos, ones, False),
        "group norm": C.GroupNorm(4, 1e-5, 0, None), "instance norm": C.GroupNorm(0, 1e-3), "center": C.Center(),
        "layer norm": C.LayerNorm((shape[-1],), 1e-5), "layer norm of all": C.LayerNorm(shape[1:], 1e-5),
        "batch norm": C.BatchNorm(1e-5, 0, 0),
    }  # fmt: skip


CLOSINGS = list(closings(Case(2)))


@pytest.mark.parametrize("name", CLOSINGS)
def test_closing_alone(name):
    for rank in (1, 2, 3):
        for dtype in (torch.float64, torch.float32):
            case = Case(rank, dtype)
            step = closings(case)[name]
            assert case.error(C.Chain(case.layer, closing=(step,))) < TOLERANCE[dtype], (rank, dtype)


def test_sixteen_bit_values_are_rounded_once():
    case = Case(2, torch.bfloat16)
    pools = (C.Pool(False, (3, 3), (1, 1), (1, 1)), C.Pool(True, (2, 2), (2, 2), (0, 0)))
    for step in (C.GroupNorm(4, 1e-5), C.Softmax((1,)), C.Reduce("mean", (2,)), C.BatchNorm(1e-5), *pools):
        assert case.error(C.Chain(case.layer, (), (C.Activate(3),), (step,))) < TOLERANCE[torch.bfloat16]


def random_chain(seed, dtypes, device="cpu"):
    """A case and a chain of up to three closing steps, with steps everywhere."""
    choose = random.Random(seed)
    dtype = choose.choice(dtypes)
    case = Case(choose.choice((1, 2, 3)), dtype, seed, device)
    safe = [s for name, s in ELEMENTWISE.items() if name not in ("exp", "square", "quotients")]
    flat = [
        s
        for s in safe
        if not any(isinstance(getattr(t, "other", None), C.Operand) and t.other.number in (1, 3) for t in s)
    ]
    steps = lambda pool: sum((choose.choice(pool) for _ in range(choose.randint(0, 3))), ())  # noqa: E731
    chain = C.Chain(case.layer, steps([(C.Activate(1, 0.1),), (C.Activate(13),)]), steps(safe))
    closing, normed, whole = [], False, True
    for _ in range(choose.randint(0, 3)):
        kinds = [
            v for k, v in closings(case).items() if whole or k.startswith(("softmax", "sum", "mean", "batch", "center"))
        ]
        step = choose.choice([k for k in kinds if not (normed and isinstance(k, C.BatchNorm))])
        normed |= isinstance(step, C.BatchNorm)
        if isinstance(step, C.Reduce) and 1 in step.dims:
            break  # nothing after it has the operands' channels
        whole &= not isinstance(step, (C.Reduce, C.Pool))
        closing.append(replace(step, after=steps(safe if whole else flat)))
    return case, replace(chain, closing=tuple(closing))


@pytest.mark.parametrize("seed", range(40))
def test_random_chains(seed):
    case, chain = random_chain(seed, (torch.float64, torch.float32))
    assert case.error(chain) < 100 * TOLERANCE[case.x.dtype], str(chain)


@pytest.mark.parametrize(
    ("stride", "padding", "output_padding", "dilation"),
    [(1, 0, 0, 1), (2, 1, 1, 1), (3, 2, 0, 2), (1, 2, 0, 1), (2, 3, 1, 3)],
)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_mean_over_space_without_the_convolution(rank, stride, padding, output_padding, dilation):
    case = Case(rank)
    layer = C.Layer((stride,) * rank, (padding,) * rank, (output_padding,) * rank, (dilation,) * rank, 1)
    transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    y = transposed(case.x, case.w, case.b, stride, padding, output_padding, 1, dilation) * 0.5 + 1.0
    for dims in {case.space, *((d,) for d in case.space)}:
        chain = C.Chain(layer, (), (A("multiply", S(0.5)), A("add", S(1.0))), (C.Reduce("mean", dims),))
        module = FusedChain(chain)
        torch.testing.assert_close(module(case.x, case.w, case.b), y.mean(dims, keepdim=True), rtol=1e-12, atol=1e-12)
        w = case.w.clone().requires_grad_()  # and its gradients, which go through the same algebra
        module(case.x, w, case.b).square().sum().backward()
        v = case.w.clone().requires_grad_()
        z = (transposed(case.x, v, case.b, stride, padding, output_padding, 1, dilation) * 0.5 + 1.0).mean(dims)
        z.square().sum().backward()
        torch.testing.assert_close(w.grad, v.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "output_padding", "window", "taken"),
    [(3, 2, 1, 0, 2, True), (4, 2, 1, 0, 2, True), (3, 2, 1, 1, 2, False), (2, 2, 0, 0, 2, True), (6, 3, 1, 0, 4, True),
     (5, 3, 1, 0, 3, True), (7, 2, 3, 1, 3, True), (3, 1, 1, 0, 2, False), (4, 2, 0, 0, 4, True)],
)  # fmt: skip
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_average_in_windows_of_the_stride(rank, kernel, stride, padding, output_padding, window, taken):
    case = Case(rank)
    w = torch.randn(12, 16, *[kernel] * rank, dtype=torch.double)
    layer = C.Layer((stride,) * rank, (padding,) * rank, (output_padding,) * rank, (1,) * rank, 1)
    steps = (A("multiply", S(0.5)), A("add", C.Operand(0)), A("divide", C.Operand(1)))
    pool = C.Pool(True, (window,) * rank, (stride,) * rank, (0,) * rank, after=(C.Activate(7),))
    operands = (case.operands[0], case.operands[4])
    module = FusedChain(C.Chain(layer, (), steps, (pool,)), vectors=frozenset({0}))
    transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    assert (module._shorter is not None and module._shorter.holds(case.x, w, operands)) == taken

    def plain(x, v, b):
        y = transposed(x, v, b, stride, padding, output_padding) * 0.5
        return pool.torch((y + C.over(operands[0], y.dim())) / operands[1], operands).tanh()

    results, gradients = [], []
    for run in (lambda *tensors: module(*tensors, *operands), plain):
        v = w.clone().requires_grad_()
        with torch.no_grad():
            results.append(run(case.x, w, case.b))
        y = run(case.x, v, case.b)
        y.square().sum().backward()
        results.append(y.detach())
        gradients.append(v.grad)
    for y in results[:-1]:
        torch.testing.assert_close(y, results[-1], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)
    if taken:  # an operand that differs in space does not pass
        assert not module._shorter.holds(case.x, w, (torch.randn(1, 1, *[2] * rank), operands[1]))


def test_numbers_that_are_no_chain_are_refused():
    case = Case(1)
    operator = torch.ops.upconv._chain.default
    geometry = (*case.layer.geometry, 0)
    for numbers, words in (
        ([0.0, 0.0], "ends within"), ([0.0, 3.0, 1.0], "cut short"), ([0.0, 0.0, 0.0, 5.0], "left"),
        ([0.0, 1.0, 150.0, 0.0, 0.0, 0.0], "no arithmetic"), ([0.0, 1.0, 103.0, 9.0, 1.0, 0.0], "operand 9 is read"),
        ([0.0, 1.0, 103.0, 2.0, 2.0, 0.0], "kept value number 2"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=words):
            operator(case.x, case.w, case.b, (), geometry, numbers)
    wrong = torch.randn(5, 7, 1, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="does not broadcast"):
        operator(case.x, case.w, case.b, (wrong,), geometry, [0.0, 1.0, 102.0, 0.0, 1.0, 0.0])
    with pytest.raises(RuntimeError, match="do not divide"):
        operator(case.x, case.w, case.b, (), geometry, C.Chain(case.layer, closing=(C.GroupNorm(5, 1e-5),)).numbers(16))
