# A chain's gradients against torch's own functions in float64; for the tests on the emulator and on a GPU.
from __future__ import annotations

import torch

from upconv import _training_chain
from upconv._fused_chain import FusedChain

NAMES = ("x", "w", "b", "channel", "whole", "plane", "last", "scalar")


def gradients_of(case, chain, wanted=NAMES, norm=None):
    """Errors of the result and of the gradients of ``wanted``, relative to the largest value of each."""
    module = FusedChain(chain, norm=norm, vectors=frozenset({0}))
    tensors = dict(zip(NAMES, (case.x, case.w, case.b, *case.operands), strict=True))
    leaves = {k: t.clone().requires_grad_(k in wanted) for k, t in tensors.items()}
    wide = {k: t.double().detach().requires_grad_(k in wanted) for k, t in tensors.items()}
    x, w, b, *operands = leaves.values()
    assert module._trains(x, w, b, operands) or x.device.type not in _training_chain.DEVICES
    y = module(x, w, b, *operands)
    assert y.grad_fn is not None
    X, W, B, *rest = wide.values()
    parts = FusedChain(chain, vectors=module.vectors)  # a norm as its step has it, in float64
    exact = parts._in_parts(X, W, B, tuple(rest), (*case.layer.geometry, 0))
    torch.manual_seed(5)
    dy = torch.randn(y.shape).to(y.dtype).to(y.device)
    y.backward(dy)
    exact.backward(dy.double())
    errors = {"y": error(y.detach(), exact.detach(), exact.detach().abs().max())}
    largest = max(t.grad.abs().max() for t in wide.values() if t.grad is not None)
    for name in wanted:
        got, want = leaves[name].grad, wide[name].grad
        if want is None:
            assert got is None or not got.any(), name
            continue
        assert got is not None and got.shape == want.shape, name
        errors[name] = error(got, want, max(want.abs().max(), 0.02 * largest))
    return errors


def error(got, want, scale):
    difference = (got.double() - want).abs().max() / scale.clamp(min=1e-6)
    return difference.item() if difference == difference else float("inf")


def worst(errors):
    return max(errors.values())
