"""Only the gradients that were asked for are computed."""

import pytest
import torch

import upconv
from upconv import _ops


@pytest.fixture
def asked(monkeypatch):
    """(dx, dw, db) of every backward call."""
    calls = []
    backward = _ops.backward_packed

    def watched(dy, x, w, geometry, *flags):
        calls.append(flags)
        return backward(dy, x, w, geometry, *flags)

    monkeypatch.setattr(_ops, "backward_packed", watched)
    return calls


def layer(side=64):
    x, w, b = torch.randn(2, 8, side, side), torch.randn(8, 4, 3, 3), torch.randn(4)
    return [t.requires_grad_() for t in (x, w, b)]


@pytest.mark.parametrize("of_leaf", [True, False])
def test_grad_of_one_operand_costs_one_pass(asked, of_leaf):
    x, w, b = layer()
    source = x if of_leaf else x * 2
    y = upconv.functional.conv_transpose2d(source, w, b)
    dy = torch.randn_like(y)
    dx, dw = (torch.autograd.grad(y, t, dy, retain_graph=True)[0] for t in (source, w))
    both = torch.autograd.grad(y, (source, w), dy, retain_graph=True)
    y.backward(dy)
    assert [flags[:2] for flags in asked] == [(True, False), (False, True), (True, True), (True, True)]
    torch.testing.assert_close((dx, dw), both, rtol=0, atol=0)
    torch.testing.assert_close(dw, w.grad, rtol=0, atol=0)
    torch.testing.assert_close(dx * (1 if of_leaf else 2), x.grad, rtol=0, atol=0)


def test_backward_with_inputs(asked):
    x, w, b = layer()
    upconv.functional.conv_transpose2d(x, w, b).sum().backward(inputs=[w])
    assert [flags[:2] for flags in asked] == [(False, True)] and x.grad is None and w.grad is not None


def test_small_layers_are_not_asked(asked):
    x, w, b = layer(side=4)
    torch.autograd.grad(upconv.functional.conv_transpose2d(x, w, b).sum(), x)
    assert [flags[:2] for flags in asked] == [(True, True)]
