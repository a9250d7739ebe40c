"""Special values, exact repetition, memory that is not the result's: what a bound cannot show."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from gpu_cases import (
    DEVICE,
    FORMATS,
    PASSES,
    Case,
    Declined,
    Judge,
    candidates,
    case,
    laid_out,
    residues,
    run,
    sanitized,
    share,
    tensors,
)

import upconv

#: Every one with every candidate.
CASES = sanitized()
NO_DOUBLES = [c for c in CASES if c.dtype != torch.float64]


def of_each(cases):
    return pytest.mark.parametrize("c", cases, ids=[c.problem.short() for c in cases])


def ways(what: str) -> list[str]:
    choice, *others = candidates(what)
    return [choice, *others, *residues(others)]


@of_each(CASES)
@pytest.mark.parametrize("what", PASSES)
def test_ten_runs_give_the_same_bits(c, what):
    operands = tensors(c, 5).operands(what)
    for name in ways(what):
        try:
            first = run(c, what, name, *operands)
        except Declined:
            continue
        for _ in range(9):
            assert torch.equal(run(c, what, name, *operands), first), f"{what} by {name or 'the list'}"


@of_each(CASES)
def test_inputs_stay_as_they_were_and_neighbours_too(c):
    """Operands lie inside larger memory whose other bytes, and whose own, are the same afterwards."""
    each = [(what, name) for what in PASSES for name in ways(what)]
    for what, name in each:
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


@of_each(CASES)
def test_any_element_address(c):
    """Tensors whose address has no more than an element's alignment."""
    for offset in (1, 2, 3, 5):
        for data in ("normal", "integers"):
            Judge(c, data, seed=offset, offset=offset).check_all()


@of_each(NO_DOUBLES)
def test_what_is_not_finite_stays_where_the_definition_puts_it(c):
    """A few infinite or NaN elements of x (forward) or dy (dx): outputs that use them are not finite, all others are
    as if they were 0."""
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
        for bad in (float("inf"), float("-inf"), float("nan")):
            source.masked_fill_(mark != 0, bad)
            for name in ways(what):
                try:
                    got = run(c, what, name, *t.operands(what))
                except Declined:
                    continue
                label = judge.label(what, name)
                assert torch.equal(got[~reached], exact.to(got.dtype)[~reached]), f"{label}: {bad} leaks"
                assert not torch.isfinite(got[reached]).any(), f"{label}: {bad} is lost"


@pytest.mark.parametrize("bad", (float("inf"), float("nan")))
@of_each(NO_DOUBLES)
def test_dw_keeps_channels_apart(c, bad):
    """An element of x that is not finite reaches the weights of its input channel alone, one of dy those of its
    output channel alone."""
    judge = Judge(c, "integers", seed=11)
    t, p = judge.tensors, c.problem
    exact, _ = judge.exact("backward_weight")
    ci, co = p.in_channels // 2, p.out_channels // 2
    met = (judge.oracle.index < judge.oracle.outputs).nonzero().flatten()
    product = met[len(met) // 2]  # of elements that meet; perhaps some of dy meet none of x
    x_at = torch.unravel_index(product % judge.oracle.positions, p.input)
    dy_at = torch.unravel_index(judge.oracle.index[product], p.output)
    for source, channel, at in ((t.x, ci, x_at), (t.dy, co, dy_at)):
        clean = torch.ones(p.w_shape, dtype=torch.bool, device=DEVICE)
        if source is t.x:
            clean[channel] = False
        else:
            group, within = divmod(channel, p.out_channels // p.groups)
            rows = p.in_channels // p.groups
            clean[group * rows : (group + 1) * rows, within] = False
        place = (0, channel, *at)
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


EMPTY = ("2d n0 c4 o4 i3x3 k3 s2 b", "1d n2 c4 o4 i2 k2 s9 p5 d3 b", "2d n1 c8 o8 i6x6 k3 s5 d2 b")
#: Each in one of fp32's precisions and in 16 bits or fp64.
EMPTY_TESTS = [(line, *FORMATS[f]) for n, line in enumerate(EMPTY) for f in (n, 3 + n)]


@pytest.mark.parametrize("line,dtype,precision", EMPTY_TESTS, ids=["-".join(t) for t in EMPTY_TESTS])
def test_empty_batch_and_empty_phases(line, dtype, precision):
    assert Judge(case(line, dtype, precision), "integers").check_all(forced=share(EMPTY.index(line))) >= 4


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


@pytest.mark.parametrize("dtype,precision", FORMATS[1:4], ids=["-".join(f) for f in FORMATS[1:4]])
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
