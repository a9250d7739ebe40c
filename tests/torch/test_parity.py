# Forward and gradients of upconv.functional against float64, over parameters, dtypes and memory layouts.
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact import assert_near, forward, gradients

from upconv import functional as U

FUNCTIONS = {1: U.conv_transpose1d, 2: U.conv_transpose2d, 3: U.conv_transpose3d}
PEERS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
LAST = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d}

# (rank, batch, in, out, input, kernel, arguments)
CASES = [
    (1, 2, 3, 4, (9,), (3,), {}),
    (1, 2, 4, 6, (7,), (16,), dict(stride=8, padding=4)),
    (1, 1, 4, 4, (11,), (5,), dict(stride=3, padding=2, output_padding=2, dilation=2)),
    (1, 3, 8, 8, (13,), (4,), dict(stride=2, padding=1, groups=8)),
    (1, 2, 1, 5, (1,), (1,), {}),
    (2, 2, 5, 3, (6, 7), (3, 3), {}),
    (2, 2, 8, 8, (5, 5), (2, 2), dict(stride=2)),
    (2, 1, 16, 8, (9, 8), (4, 4), dict(stride=2, padding=1)),
    (2, 2, 6, 9, (5, 4), (3, 2), dict(stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=3)),
    (2, 2, 4, 8, (4, 6), (3, 3), dict(stride=5, padding=1, dilation=2)),
    (2, 1, 32, 32, (8, 8), (3, 3), dict(padding=1, groups=32)),
    (2, 2, 4, 4, (3, 5), (5, 1), dict(padding=(2, 0), dilation=(1, 3))),
    (2, 1, 3, 2, (4, 4), (2, 3), dict(stride=(4, 1), padding=(0, 2), output_padding=(3, 0))),
    (3, 1, 4, 6, (3, 4, 5), (3, 3, 3), dict(stride=2, padding=1, output_padding=1)),
    (3, 2, 8, 4, (2, 3, 4), (2, 2, 2), dict(stride=2, groups=4)),
    (3, 1, 3, 3, (4, 3, 2), (1, 3, 2), dict(stride=(1, 2, 3), padding=(0, 1, 1), dilation=(2, 1, 2))),
]
IDS = [
    f"{c[0]}d-c{c[2]}o{c[3]}-k{'x'.join(map(str, c[5]))}-" + "-".join(f"{k}{v}" for k, v in c[6].items()) for c in CASES
]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def make(case, dtype, bias=True):
    _, batch, channels, out, size, kernel, how = case
    x = torch.randn(batch, channels, *size).to(dtype)
    w = torch.randn(channels, out // how.get("groups", 1), *kernel).to(dtype)
    return x, w, torch.randn(out).to(dtype) if bias else None, how


def terms(case):
    return case[2] // case[6].get("groups", 1) * torch.Size(case[5]).numel()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_forward_and_gradients(case, dtype):
    x, w, b, how = make(case, dtype)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    y = FUNCTIONS[case[0]](*leaves, **how)
    assert y.dtype == dtype and y.stride() == PEERS[case[0]](x.float(), w.float(), **how).stride()
    assert_near(y, *forward(x, w, b, **how), terms(case), "y")
    dy = torch.randn(y.shape).to(dtype)
    found = torch.autograd.grad(y, leaves, dy)
    positions = dy.numel() // dy.shape[1]
    out = case[3] // case[6].get("groups", 1) * torch.Size(case[5]).numel()
    for name, actual, (exact, size), n in zip(
        ("dx", "dw", "db"), found, gradients(x, w, b, dy, **how), (out, positions, positions), strict=True
    ):
        assert_near(actual, exact, size, n, name)
    for leaf, original in zip(leaves, (x, w, b), strict=True):
        assert torch.equal(leaf, original), "an input was changed"


@pytest.mark.parametrize("case", [c for c in CASES if c[0] > 1][::2], ids=str)
@pytest.mark.parametrize("which", ["x", "w", "both"])
def test_channels_last(case, which):
    x, w, b, how = make(case, torch.float32)
    if which != "w":
        x = x.to(memory_format=LAST[case[0]])
    if which != "x":
        w = w.to(memory_format=LAST[case[0]])
    leaves = [t.detach().requires_grad_() for t in (x, w, b)]
    y = FUNCTIONS[case[0]](*leaves, **how)
    assert y.is_contiguous(memory_format=LAST[case[0]])
    if case[0] == 2:  # in 3-D torch's own answer depends on which of its backends took the call
        assert y.stride() == PEERS[2](x, w, b, **how).stride()
    assert_near(y, *forward(x, w, b, **how), terms(case), "y")
    dy = torch.randn_like(y)
    for actual, (exact, size) in zip(torch.autograd.grad(y, leaves, dy), gradients(x, w, b, dy, **how), strict=True):
        assert_near(actual, exact, size, dy.numel())


LAYOUTS = {
    "transposed": lambda t: t.transpose(0, -1).contiguous().transpose(0, -1),
    "sliced": lambda t: torch.stack([t, torch.full_like(t, float("nan"))], -1)[..., 0],
    "sliced channels": lambda t: torch.cat([t, torch.full_like(t, float("nan"))], 1)[:, : t.shape[1]],
    "offset": lambda t: torch.cat([t.new_full((1,), float("nan")), t.flatten()])[1:].view(t.shape),
    "misaligned": lambda t: misaligned(t),
    "negative bit": lambda t: torch._neg_view(-t),
    "channels last, sliced": lambda t: torch.cat([t, t], 0).to(memory_format=torch.channels_last)[: t.shape[0]],
}


def misaligned(t):
    raw = bytearray(t.numel() * t.element_size() + 1)
    view = torch.frombuffer(raw, dtype=t.dtype, offset=1, count=t.numel()).view(t.shape)
    view.copy_(t)
    assert view.data_ptr() % t.element_size() != 0
    return view


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_any_strides(layout, dtype):
    case = CASES[8]
    x, w, b, how = make(case, dtype)
    odd = [LAYOUTS[layout](t) for t in (x, w)]
    y = U.conv_transpose2d(*odd, b, **how)
    assert_near(y, *forward(x, w, b, **how), terms(case), "y")
    assert torch.equal(odd[0], x) and torch.equal(odd[1], w)
    dy = torch.randn(y.shape).to(dtype)
    odd_dy = LAYOUTS[layout](dy)
    geometry = ([2, 3], [1, 0], [1, 2], [1, 1], 3)
    (dx, x_size), (dw, w_size), (db, b_size) = gradients(x, w, b, dy, **how)
    assert_near(torch.ops.upconv.conv_transpose_backward_input(odd_dy, odd[1], x.shape, *geometry), dx, x_size, 54)
    assert_near(torch.ops.upconv.conv_transpose_backward_weight(odd[0], odd_dy, w.shape, *geometry), dw, w_size, 400)
    assert_near(torch.ops.upconv.conv_transpose_backward_bias(odd_dy), db, b_size, 400)


def test_expanded_input_and_gradient():
    w, b = torch.randn(4, 3, 3, 3), torch.randn(3).requires_grad_()
    x = torch.randn(1, 4, 1, 1).expand(2, 4, 5, 6).requires_grad_()
    y = U.conv_transpose2d(x, w, b, stride=2)
    assert_near(y, *forward(x, w, b, stride=2), 36)
    dx, db = torch.autograd.grad(y.sum(), (x, b))  # dy is one number, expanded
    (dx64, x_size), _, (db64, b_size) = gradients(x, w, b, torch.ones_like(y), stride=2)
    assert_near(dx, dx64, x_size, 27)
    assert_near(db, db64, b_size, 400)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unbatched_and_empty_batch(rank):
    x, w, b = torch.randn(4, *[5] * rank), torch.randn(4, 3, *[3] * rank), torch.randn(3)
    y = FUNCTIONS[rank](x, w, b, stride=2)
    assert y.shape == PEERS[rank](x, w, b, stride=2).shape
    assert_near(y, *forward(x, w, b, stride=2), 4 * 3**rank)
    empty = torch.empty(0, 4, *[5] * rank, requires_grad=True)
    w.requires_grad_()
    y = FUNCTIONS[rank](empty, w, b, stride=2)
    assert y.shape == (0, 3, *[11] * rank)
    dx, dw = torch.autograd.grad(y, (empty, w), torch.empty_like(y))
    assert dx.shape == empty.shape and torch.equal(dw, torch.zeros_like(w))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_spreads_as_far_as_it_must(value):
    # Padding is not multiplied: an inf beside it must not turn into NaN.
    x, w = torch.ones(1, 2, 6), torch.ones(2, 3, 4)
    x[0, 1, 2] = value
    y = U.conv_transpose1d(x, w, stride=2, padding=1)
    expected = F.conv_transpose1d(x.double(), w.double(), stride=2, padding=1)
    assert torch.equal(torch.nan_to_num(y.double(), 7e77, 8e88, -8e88), torch.nan_to_num(expected, 7e77, 8e88, -8e88))


def test_small_integers_are_exact():
    x = torch.randint(-4, 5, (2, 8, 9, 7)).float()
    w = torch.randint(-4, 5, (8, 3, 3, 3)).float()
    y = U.conv_transpose2d(x, w, stride=2, padding=1, groups=2)
    assert torch.equal(y.double(), F.conv_transpose2d(x.double(), w.double(), stride=2, padding=1, groups=2))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_complex(rank):
    x = torch.randn(2, 4, *[4] * rank, dtype=torch.cdouble)
    w, b = torch.randn(4, 2, *[3] * rank, dtype=torch.cdouble), torch.randn(4, dtype=torch.cdouble)
    torch.testing.assert_close(
        FUNCTIONS[rank](x, w, b, stride=2, groups=2), PEERS[rank](x, w, b, stride=2, groups=2), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "argument", [2, (2,), [2, 2], (2, 2), torch.Size([2, 2]), np.int64(2), (np.int32(2), 2), torch.tensor(2)], ids=str
)
def test_ways_to_write_a_size(argument):
    x, w = torch.randn(1, 2, 4, 4), torch.randn(2, 2, 3, 3)
    assert torch.equal(U.conv_transpose2d(x, w, None, argument), U.conv_transpose2d(x, w, stride=2))
    assert_near(U.conv_transpose2d(x, w, None, argument), *forward(x, w, None, stride=2), 18)


def test_a_size_that_is_a_tensor_may_change():
    x, w, stride = torch.randn(1, 2, 4), torch.randn(2, 2, 3), torch.tensor(2)
    assert U.conv_transpose1d(x, w, None, stride).shape[-1] == 9
    stride.fill_(3)
    assert U.conv_transpose1d(x, w, None, stride).shape[-1] == 12


def test_weight_changed_in_place_is_noticed():
    x, w = torch.randn(1, 8, 12), torch.randn(8, 8, 4)
    U.conv_transpose1d(x, w, stride=2)
    w.mul_(-3.0)
    assert_near(U.conv_transpose1d(x, w, stride=2), *forward(x, w, None, stride=2), 32)
    w.data.zero_()
    assert not U.conv_transpose1d(x, w, stride=2).any()
