# A chain whose gradients are wanted, on CUDA: one operator forward, which keeps the layer's own result and a few
# numbers, one backward for what follows the layer, and the layer's own for dx and dw. Called by _fused_chain.
"""The gradient of a chain as operators."""

from __future__ import annotations

import torch

from . import _ops, _shapes
from ._call import run
from ._wanted import wanted

_training = torch.ops.upconv._chain_training.default
_gradient = torch.ops.upconv._chain_gradient.default
for _operator in (_training, _gradient):
    _ops.registrations.impl(_operator, torch.library.fallthrough_kernel, "Autograd")

#: Where these operators are written.
DEVICES = {"cuda"}


class _Chain(torch.autograd.Function):
    """(y, statistics of a batch norm). Kept are x, w, the operands, the layer's result z, and ``saved``: two numbers of
    each set of a norm, three of each long row of a softmax or LayerNorm, a byte of each window of a max pooling."""

    @staticmethod
    def forward(ctx, x, w, b, geometry, chain, numbers, *operands):
        ctx.wanted = sum(1 << i for i, needed in enumerate(ctx.needs_input_grad[6:]) if needed)
        y, z, saved, statistics = _training(x, w, b, operands, geometry, numbers, ctx.wanted)
        ctx.geometry, ctx.chain, ctx.numbers = geometry, chain, numbers
        ctx.save_for_backward(x, w, b, z, saved, *operands)
        ctx.mark_non_differentiable(statistics)
        return y, statistics

    @staticmethod
    def backward(ctx, dy, _):
        x, w, b, z, saved, *operands = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _again(ctx, dy, x, w, b, operands)
        need_x, need_w = wanted(ctx, x, w)
        need_b = ctx.needs_input_grad[2]
        dz, db, gradients = _gradient(
            dy, x, w, b is not None, z, saved, operands, ctx.geometry, ctx.numbers, ctx.wanted
        )
        dx = dw = None
        if need_x or need_w:
            dx, dw, _ = _ops.backward_packed(dz, x, w, ctx.geometry, need_x, need_w, False)
        given = (g if ctx.wanted >> i & 1 else None for i, g in enumerate(gradients))
        return dx if need_x else None, dw if need_w else None, db if need_b else None, None, None, None, *given


def _again(ctx, dy, x, w, b, operands):
    """With gradients of gradients: through torch's own functions."""
    tensors = [x, w, b, *operands]
    needed = [*ctx.needs_input_grad[:3], *ctx.needs_input_grad[6:]]
    y = ctx.chain.close(run(ctx.chain.layer.rank, x, w, b, ctx.geometry), operands)
    wanted = [t for t, n in zip(tensors, needed, strict=True) if n]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True, allow_unused=True))
    given = [next(found) if n else None for n in needed]
    return *given[:3], None, None, None, *given[3:]


apply = _Chain.apply


@torch.library.register_fake("upconv::_chain_training")
def _(x, w, b, operands, geometry, numbers, wanted):
    from ._fused_chain import shape_after

    n = w.dim() - 2
    split = [geometry[i * n : (i + 1) * n] for i in range(4)]
    shape = _shapes.output_shape(x, w, b, *split, geometry[-2])
    result, normalises = shape_after(shape, numbers)
    saved = torch.empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.float64, device=x.device)
    statistics = torch.empty((2, shape[1] if normalises else 0), dtype=torch.float64, device=x.device)
    return x.new_empty(result), x.new_empty(shape), saved, statistics


@torch.library.register_fake("upconv::_chain_gradient")
def _(dy, x, w, bias, z, saved, operands, geometry, numbers, wanted):
    gradients = [t.new_empty(t.shape if wanted >> i & 1 else (0,)) for i, t in enumerate(operands)]
    return torch.empty_like(z), z.new_empty(z.shape[1] if bias else 0), gradients
