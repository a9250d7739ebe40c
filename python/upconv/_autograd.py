# Gradients of the operators. Each derivative is one of the other operators, so gradients of any order exist.
# Registered when the package is imported; apply_conv_transpose is the eager shortcut that _call takes.
"""Autograd formulas of the operators."""

from __future__ import annotations

import torch

from . import _activations, _ops, _routes, _vmap
from ._wanted import wanted


def _save(ctx, first, second, needs):
    # The first operand's gradient needs the second operand and the other way round.
    ctx.save_for_backward(first if needs[1] else None, second if needs[0] else None)


def _setup_conv_transpose(ctx, inputs, output):
    x, w, _, *ctx.geometry = inputs
    ctx.x_shape, ctx.w_shape = x.shape, w.shape
    _save(ctx, x, w, ctx.needs_input_grad)


def _backward_conv_transpose(ctx, dy):
    x, w = ctx.saved_tensors
    need_x, need_w, need_b = ctx.needs_input_grad[:3]
    # dx last: the others' workspace is free again before dx is allocated.
    dw = _routes.backward_weight(x, dy, ctx.w_shape, *ctx.geometry) if need_w else None
    db = _routes.backward_bias(dy) if need_b else None
    dx = _routes.backward_input(dy, w, ctx.x_shape, *ctx.geometry) if need_x else None
    return dx, dw, db, None, None, None, None, None, None


def _setup_backward_input(ctx, inputs, output):
    dy, w, _, *ctx.geometry = inputs
    ctx.w_shape = w.shape
    _save(ctx, dy, w, ctx.needs_input_grad)


def _backward_backward_input(ctx, g):
    # dx is linear in dy and in w; its adjoint in dy is the operator itself.
    dy, w = ctx.saved_tensors
    ddy = _routes.conv_transpose(g, w, None, *ctx.geometry) if ctx.needs_input_grad[0] else None
    dw = _routes.backward_weight(g, dy, ctx.w_shape, *ctx.geometry) if ctx.needs_input_grad[1] else None
    return ddy, dw, None, None, None, None, None, None, None


def _setup_backward_weight(ctx, inputs, output):
    x, dy, _, *ctx.geometry = inputs
    ctx.x_shape = x.shape
    _save(ctx, x, dy, ctx.needs_input_grad)


def _backward_backward_weight(ctx, g):
    x, dy = ctx.saved_tensors
    dx = _routes.backward_input(dy, g, ctx.x_shape, *ctx.geometry) if ctx.needs_input_grad[0] else None
    ddy = _routes.conv_transpose(x, g, None, *ctx.geometry) if ctx.needs_input_grad[1] else None
    return dx, ddy, None, None, None, None, None, None, None


def _setup_backward_bias(ctx, inputs, output):
    ctx.dy_shape = inputs[0].shape


def _backward_backward_bias(ctx, g):
    return g.reshape(1, -1, *[1] * (len(ctx.dy_shape) - 2)).expand(ctx.dy_shape)


def _jvp(route, terms):
    """Every operator is linear in each of its tensors apart; a bias adds its own tangent."""

    def jvp(ctx, *tangents):
        operands = ctx.saved_tensors
        total = None
        for i, tangent in enumerate(tangents[:terms]):
            if tangent is not None:
                term = route(*operands[:i], tangent, *operands[i + 1 :], *ctx.rest)
                total = term if total is None else total + term
        if route is _routes.conv_transpose and tangents[2] is not None:
            db = tangents[2].reshape(-1, *[1] * (operands[0].dim() - 2))
            total = db.expand(ctx.out_shape) if total is None else total + db
        return total

    return jvp


def _function(route, setup, formula, terms):
    """The autograd.Function that stands for an operator under torch.func and in forward mode."""

    def setup_context(ctx, inputs, output):
        setup(ctx, inputs, output)
        ctx.rest = (None, *inputs[3:]) if route is _routes.conv_transpose else inputs[terms:]
        ctx.out_shape = output.shape
        if terms == 2:
            ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:terms])

    return type(
        f"Differentiable_{route.operator._opname}",
        (torch.autograd.Function,),
        {
            "forward": staticmethod(route.operator),
            "setup_context": staticmethod(setup_context),
            "backward": staticmethod(formula),
            "jvp": staticmethod(_jvp(route, terms)),
            "vmap": staticmethod(_vmap.RULES[route.operator]),
        },
    )


for _route, _setup, _formula, _terms in (
    (_routes.conv_transpose, _setup_conv_transpose, _backward_conv_transpose, 2),
    (_routes.backward_input, _setup_backward_input, _backward_backward_input, 2),
    (_routes.backward_weight, _setup_backward_weight, _backward_backward_weight, 2),
    (_routes.backward_bias, _setup_backward_bias, _backward_backward_bias, 1),
):
    torch.library.register_autograd(_route.operator, _formula, setup_context=_setup, lib=_ops.registrations)
    _route.function = _function(_route, _setup, _formula, _terms)


def _epilogue_autograd(keyset, x, w, b, stride, padding, output_padding, dilation, groups, epilogue, precision=0):
    """With gradients: the convolution, then torch's own activations, so gradients of any order are exact."""
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, w, b)):
        y = _routes.conv_transpose(x, w, b, stride, padding, output_padding, dilation, groups, precision)
        return _activations.apply(y, epilogue)
    with torch._C._AutoDispatchBelowAutograd():
        return _ops.conv_transpose_epilogue.redispatch(
            keyset & torch._C._after_autograd_keyset,
            x,
            w,
            b,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            epilogue,
            precision,
        )


_ops.registrations.impl(_ops.conv_transpose_epilogue, _epilogue_autograd, "Autograd", with_keyset=True)
# The packed operators are only called where no gradient is wanted: nothing to do at the autograd key.
for _operator in (_ops.forward_packed, _ops.forward_epilogue_packed, _ops.backward_packed):
    _ops.registrations.impl(_operator, torch.library.fallthrough_kernel, "Autograd")


_transforms_active = torch._C._are_functorch_transforms_active
_forward = _ops.forward_packed_builtin  # _call has ruled out whatever would have to see the operator


class _ConvTranspose(torch.autograd.Function):
    """The eager path with gradients: one packed operator forward, one backward."""

    @staticmethod
    def forward(ctx, x, w, b, geometry):
        ctx.geometry = geometry
        ctx.save_for_backward(x, w)
        return _forward(x, w, b, geometry)

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        need_x, need_w = wanted(ctx, x, w)
        need_b = ctx.needs_input_grad[2]
        if not (torch.compiler.is_compiling() or torch.is_grad_enabled() or _transforms_active()):
            dx, dw, db = _ops.backward_packed(dy, x, w, ctx.geometry, need_x, need_w, need_b)
            return dx if need_x else None, dw if need_w else None, db if need_b else None, None
        geometry = unpack(ctx.geometry)
        dw = _routes.backward_weight(x, dy, w.shape, *geometry) if need_w else None
        db = _routes.backward_bias(dy) if need_b else None
        dx = _routes.backward_input(dy, w, x.shape, *geometry) if need_x else None
        return dx, dw, db, None


def unpack(geometry, *epilogue):
    """(stride..., padding..., output_padding..., dilation..., groups, precision) as the operators' arguments."""
    n = (len(geometry) - 2) // 4
    lists = (geometry[:n], geometry[n : 2 * n], geometry[2 * n : 3 * n], geometry[3 * n : -2])
    return *lists, geometry[-2], *epilogue, geometry[-1]


# Function.apply of torch.autograd.Function rebinds arguments for functorch first; _call has ruled functorch out.
apply_conv_transpose = super(torch.autograd.Function, _ConvTranspose).apply
