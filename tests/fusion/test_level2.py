# The 30 chains of KernelBench level 2 and a U-Net through upconv.optimize, at small sizes, against float64; gradients
# of those that have any, batch norm in training mode as KernelBench runs it.
from __future__ import annotations

import copy

import pytest
import torch

import upconv
from upconv.cli.bench.chains.models import CHAINS, UNet, shapes

#: What each chain must come down to: everything after the layer in one operator.
TRAINED = (2, 3, 11, 15, 19, 20, 38, 42, 60, 72, 89, 100)


def inputs_of(number):
    torch.manual_seed(number)
    return [torch.randn(s) for s in shapes(number, "test")]


def relative(a, b):
    return ((a.double() - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("number", CHAINS)
def test_forward(number):
    inputs = inputs_of(number)
    model = CHAINS[number]()
    wide = copy.deepcopy(model).double()
    fast = upconv.optimize(model, tuple(inputs))
    (row,) = fast.upconv_report.rows
    assert (row.name, row.action) == ("conv", "fused") and "ends because" not in row.detail, row
    assert list(fast.state_dict()) == list(model.state_dict())
    eager = copy.deepcopy(model)
    with torch.no_grad():
        for mode in (True, False):  # training first: evaluation then sees the averages it left
            for m in (wide, fast, eager):
                m.train(mode)
            want = wide(*[x.double() for x in inputs])
            got, torch_s = fast(*inputs), eager(*inputs)
            assert got.shape == want.shape
            # A mean that needs no convolution rounds once where a mean of many rounded values averages their errors.
            assert relative(got, want) < max(4 * relative(torch_s, want), 3e-6), mode
    for name, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer.double(), wide.get_buffer(name).double(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", TRAINED)
def test_gradients(number):
    inputs = [x.double() for x in inputs_of(number)]
    model = CHAINS[number]().double()
    fast = upconv.optimize(copy.deepcopy(model), tuple(inputs))
    gradients = []
    for m in (model, fast):
        given = [x.clone().requires_grad_() for x in inputs]
        m(*given).square().sum().backward()
        gradients.append([t.grad for t in (*given, *m.parameters())])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9)


def test_u_net():
    torch.manual_seed(0)
    model = UNet().double().eval()
    x = torch.randn(2, 3, 16, 24, dtype=torch.double)
    fast = upconv.optimize(model, x)
    assert [row.action for row in fast.upconv_report.rows] == ["replaced"] * 3  # concatenation follows: no chain
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
