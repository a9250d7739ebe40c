"""Tensors of more than 2^31 elements: the far corner is as right as the near one."""

from dataclasses import replace

import pytest
import torch
from gpu_cases import case
from gpu_oracle import Oracle

pytestmark = [pytest.mark.usefixtures("cuda"), pytest.mark.alone]


def room(gigabytes: float) -> None:
    if torch.cuda.mem_get_info()[0] < gigabytes * 2**30:
        pytest.skip(f"needs {gigabytes} GB of free GPU memory")


def integers(shape):
    t = torch.empty(shape, device="cuda", dtype=torch.float16)
    return t.random_(-3, 4)


@pytest.mark.parametrize(
    "line", ("2d n2 c8 o8 i11700x11700 k2", "2d n3 c8 o8 i4900x4900 k2 s2", "1d n3 c4 o4 i180000001 k3 p1")
)
def test_y_beyond_2_to_31(line):
    """y (and in two of them x) has more than 2^31 elements; its last rows are checked against the oracle."""
    room(30)
    c = case(line, "f16")
    p = c.problem
    x, w = integers(p.x_shape), integers(p.w_shape)
    assert torch.tensor(p.y_shape).prod() > 2**31
    y = torch.ops.upconv._run(c.text, "forward", "", x, w, None, [])
    check_corners(p, x, w, y)


def check_corners(p, x, w, y):
    """Both ends of every spatial dimension, first and last sample."""
    span, keep = 24, 12
    for sample in (0, p.batch - 1):
        for far in (False, True):
            part = x[sample : sample + 1]
            got = y[sample : sample + 1]
            for d in range(p.rank):
                part = part.narrow(2 + d, part.shape[2 + d] - span if far else 0, span)
                got = got.narrow(2 + d, got.shape[2 + d] - keep if far else 0, keep)
            small = replace(p, batch=1, input=(span,) * p.rank)
            exact = Oracle(small, "cuda").forward(part, w)
            for d in range(p.rank):
                exact = exact.narrow(2 + d, exact.shape[2 + d] - keep if far else 0, keep)
            assert torch.equal(got, exact.half()), f"sample {sample}, {'far' if far else 'near'} end"


def test_dx_beyond_2_to_31():
    """dy has more than 2^31 elements."""
    room(30)
    c = case("2d n3 c8 o8 i4900x4900 k2 s2", "f16")
    p = c.problem
    dy, w = integers(p.y_shape), integers(p.w_shape)
    dx = torch.ops.upconv._run(c.text, "backward_input", "", dy, w, None, [])
    small = replace(p, batch=1, input=(12, 12))
    for sample in (0, 2):
        for far in (False, True):
            part = dy[sample : sample + 1, :, -24:, -24:] if far else dy[sample : sample + 1, :, :24, :24]
            got = dx[sample : sample + 1, :, -12:, -12:] if far else dx[sample : sample + 1, :, :12, :12]
            assert torch.equal(got, Oracle(small, "cuda").backward_input(part, w).half())


def test_dw_beyond_2_to_31():
    """A dy of ones and an x that is zero but for its last pixels: dw counts them."""
    room(30)
    c = case("2d n3 c8 o8 i9500x9500 k2", "f16")
    p = c.problem
    x = torch.zeros(p.x_shape, device="cuda", dtype=torch.float16)
    x[-1, :, -5:, -7:] = 2
    dy = torch.ones(p.y_shape, device="cuda", dtype=torch.float16)
    dw = torch.ops.upconv._run(c.text, "backward_weight", "", x, dy, None, [])
    assert (dw == 70).all()
