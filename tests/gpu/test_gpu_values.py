"""Special values, exact repetition, memory that is not the result's: what a bound cannot show."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from gpu_cases import DEVICE, FORMATS, PASSES, Case, Declined, Judge, candidates, case, laid_out, run, tensors

import upconv

LINES = (
    "2d n2 c16 o24 i9x37 k3 p1 b",
    "2d n2 c32 o32 i11x66 k3",
    "2d n2 c12 o16 i7x29 k4 s2 p1",
    "1d n2 c24 o8 i70 k5 s3 d2 p1 op1 b",
    "3d n1 c8 o16 i4x5x18 k3 s2 p1 op1",
    "2d n2 c16 o16 i6x35 k3 s2 p1 g4",
    "2d n2 c24 o24 i9x33 k4 s2 p1 g24",
    "2d n2 c16 o16 i8x16 k2 s2 xl yl",
    "2d n2 c72 o40 i7x9 k3 s2 p1 b xl wl yl",
    "1d n2 c24 o1 i35 k32 s8 p8",
)


def each_candidate(line: str, dtype: str, precision: str, passes=PASSES):
    c = case(line, dtype, precision)
    for what in passes:
        for name in candidates(what):
            yield c, what, name


#: f16 and bf16 by turns: their kernels are one text but for the type.
TEN_RUNS = [(line, *f) for n, line in enumerate(LINES) for f in FORMATS if f[0] != ("f16", "bf16")[n % 2]]


@pytest.mark.parametrize("line,dtype,precision", TEN_RUNS, ids=["-".join(case) for case in TEN_RUNS])
def test_ten_runs_give_the_same_bits(line, dtype, precision):
    for c, what, name in each_candidate(line, dtype, precision):
        operands = tensors(c, 5).operands(what)
        try:
            first = run(c, what, name, *operands)
        except Declined:
            continue
        for _ in range(9):
            assert torch.equal(run(c, what, name, *operands), first), f"{what} by {name or 'the list'}"


@pytest.mark.parametrize("dtype,precision", FORMATS, ids=["-".join(f) for f in FORMATS])
def test_inputs_stay_as_they_were_and_neighbours_too(dtype, precision):
    """Operands lie inside larger memory whose other bytes, and whose own, are the same afterwards."""
    for c, what, name in (v for line in LINES[:5] for v in each_candidate(line, dtype, precision)):
        t = tensors(c, 6)
        arenas = []

        def inside(value, arenas=arenas):
            if value is None:
                return None
            arena = torch.full((value.numel() + 256,), 77.0, dtype=value.dtype, device=value.device)
            view = arena.as_strided(value.shape, value.stride(), 128).copy_(value)
            arenas.append((arena, arena.clone()))
            return view

        try:
            run(c, what, name, *map(inside, t.operands(what)))
        except Declined:
            continue
        for arena, before in arenas:
            assert torch.equal(arena, before), f"{what} by {name or 'the list'} writes to an operand"


@pytest.mark.parametrize("offset", (1, 2, 3, 5))
@pytest.mark.parametrize("dtype,precision", FORMATS, ids=["-".join(f) for f in FORMATS])
def test_any_element_address(dtype, precision, offset):
    """Tensors whose address has no more than an element's alignment."""
    for i, line in enumerate(LINES):
        Judge(case(line, dtype, precision), ("normal", "integers")[i % 2], seed=i, offset=offset).check_all()


@pytest.mark.parametrize("bad", (float("inf"), float("-inf"), float("nan")))
@pytest.mark.parametrize("dtype,precision", FORMATS[:5], ids=["-".join(f) for f in FORMATS[:5]])
@pytest.mark.parametrize("line", LINES)
def test_what_is_not_finite_stays_where_the_definition_puts_it(line, dtype, precision, bad):
    """A few infinite or NaN elements of x (forward) or dy (dx): outputs that use them are not finite, all others are
    as if they were 0."""
    c = case(line, dtype, precision)
    for what in ("forward", "backward_input"):
        judge = Judge(c, "integers", seed=9)
        t = judge.tensors
        source = t.x if what == "forward" else t.dy
        t.w.copy_(torch.where(t.w == 0, torch.ones_like(t.w), t.w))
        mark = torch.zeros_like(source)
        generator = torch.Generator().manual_seed(4)
        for _ in range(3):
            mark[tuple(int(torch.randint(0, n, (), generator=generator)) for n in source.shape)] = 1
        source.masked_fill_(mark != 0, 0)
        exact, _ = judge.exact(what)
        weights = torch.ones_like(t.w)
        reached = getattr(judge.oracle, what)(mark, weights) > 0
        source.masked_fill_(mark != 0, bad)
        for name in candidates(what):
            try:
                got = run(c, what, name, *t.operands(what))
            except Declined:
                continue
            label = judge.label(what, name)
            assert torch.equal(got[~reached], exact.to(got.dtype)[~reached]), f"{label}: {bad} leaks"
            assert not torch.isfinite(got[reached]).any(), f"{label}: {bad} is lost"


@pytest.mark.parametrize("bad", (float("inf"), float("nan")))
@pytest.mark.parametrize("dtype,precision", FORMATS[:5], ids=["-".join(f) for f in FORMATS[:5]])
@pytest.mark.parametrize("line", LINES[:7])
def test_dw_keeps_channels_apart(line, dtype, precision, bad):
    """An element of x that is not finite reaches the weights of its input channel alone, one of dy those of its
    output channel alone."""
    c = case(line, dtype, precision)
    judge = Judge(c, "integers", seed=11)
    t, p = judge.tensors, c.problem
    exact, _ = judge.exact("backward_weight")
    ci, co = p.in_channels // 2, p.out_channels // 2
    for source, channel in ((t.x, ci), (t.dy, co)):
        clean = torch.ones(p.w_shape, dtype=torch.bool, device=DEVICE)
        if source is t.x:
            clean[channel] = False
        else:
            group, within = divmod(channel, p.out_channels // p.groups)
            rows = p.in_channels // p.groups
            clean[group * rows : (group + 1) * rows, within] = False
        place = (0, channel, *[n // 2 for n in source.shape[2:]])
        held = source[place].clone()
        source[place] = bad
        for name in candidates("backward_weight"):
            try:
                got = run(c, "backward_weight", name, *t.operands("backward_weight"))
            except Declined:
                continue
            wanted = exact.to(got.dtype)
            assert torch.equal(got[clean], wanted[clean]), f"{judge.label('backward_weight', name)}: {bad} leaks"
            assert not torch.isfinite(got[~clean]).all(), f"{judge.label('backward_weight', name)}: {bad} is lost"
        source[place] = held


def sliced(t: torch.Tensor) -> torch.Tensor:
    """Every other element along the last dimension of a larger tensor."""
    big = torch.full((*t.shape[:-1], 2 * t.shape[-1]), 3.0, dtype=t.dtype, device=t.device)
    big[..., ::2] = t
    return big[..., ::2]


VIEWS = {
    "sliced": sliced,
    "transposed": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "channels_last": lambda t: laid_out(t, True),
    "expanded": lambda t: t[:1].expand(t.shape),
    "narrow": lambda t: F.pad(t, (3, 2))[..., 3:-2],
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64))
def test_any_view(view, dtype):
    """The public functions take any strides, forward and backward, and give what they give for dense copies."""
    make = VIEWS[view]
    generator = torch.Generator(DEVICE).manual_seed(8)
    x, w, dy = (
        torch.randint(-3, 4, shape, generator=generator, device=DEVICE).to(dtype)
        for shape in ((2, 6, 9, 13), (6, 8, 3, 3), (2, 8, 17, 25))
    )
    x, w, dy = make(x), make(w), make(dy)

    def gradients(x, w, dy):
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        y = upconv.functional.conv_transpose2d(x, w, None, stride=2, padding=1)
        return [y.detach(), *torch.autograd.grad(y, (x, w), dy)]

    dense = gradients(*(t.contiguous() for t in (x, w, dy)))
    for got, wanted in zip(gradients(x, w, dy), dense, strict=True):
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("dtype,precision", FORMATS, ids=["-".join(f) for f in FORMATS])
@pytest.mark.parametrize(
    "line", ("2d n0 c4 o4 i3x3 k3 s2 b", "1d n2 c4 o4 i2 k2 s9 p5 d3 b", "2d n1 c8 o8 i6x6 k3 s5 d2 b")
)
def test_empty_batch_and_empty_phases(line, dtype, precision):
    assert Judge(case(line, dtype, precision), "integers").check_all() >= 4


def test_fp16_overflow_is_infinite_and_only_there():
    c = Case(replace(case("1d n1 c8 o8 i40 k1", "f16").problem))
    t = tensors(c, 1)
    t.x.fill_(1.0)
    t.x[:, :, ::2] = 200.0
    t.w.fill_(100.0)
    for name in candidates("forward"):
        try:
            y = run(c, "forward", name, t.x, t.w)
        except Declined:
            continue
        assert torch.isinf(y[..., ::2]).all() and (y[..., 1::2] == 800).all()


@pytest.mark.parametrize("dtype,precision", FORMATS[:5], ids=["-".join(f) for f in FORMATS[:5]])
def test_denormals_and_large_numbers(dtype, precision):
    """Scaling x by a power of two scales y: no intermediate overflows or flushes long before the result would."""
    c = case("2d n1 c16 o16 i9x20 k3 s2 p1", dtype, precision)
    scales = (2.0**60, 2.0**-60) if dtype != "f16" else (2.0**5, 2.0**-5)
    for what in ("forward", "backward_input", "backward_weight"):
        for name in candidates(what):
            a, b, _ = tensors(c, 2).operands(what)
            try:
                plain = run(c, what, name, a, b)
            except Declined:
                continue
            for scale in scales:
                assert torch.allclose(run(c, what, name, a * scale, b).double(), plain.double() * scale, rtol=1e-2)
