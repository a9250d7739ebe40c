# torch.vmap for the operators: the mapped dimension is folded into the batch, or into groups where the weight
# (or what stands for it) is mapped too. Imported by the package for its registrations.
"""Batching rules of the operators."""

from __future__ import annotations

import torch

from . import _ops, _routes


def _front(tensor, dim, size):
    """The mapped dimension first; a tensor that is not mapped is repeated (without a copy)."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _into_channels(tensor, dim, size):
    """(size, N, C, ...) to (N, size * C, ...)."""
    return _front(tensor, dim, size).movedim(0, 1).flatten(1, 2)


def _out_of_channels(tensor, size):
    return tensor.unflatten(1, (size, -1)), 1


def _out_of_batch(tensor, size):
    return tensor.unflatten(0, (size, tensor.shape[0] // size)), 0


def _forward_rule(operator):
    def rule(info, in_dims, x, w, b, stride, padding, output_padding, dilation, groups, *rest):
        n = info.batch_size
        x_dim, w_dim, b_dim = in_dims[:3]
        if w_dim is None and b_dim is None:
            x = _front(x, x_dim, n).flatten(0, 1)
            y = operator(x, w, b, stride, padding, output_padding, dilation, groups, *rest)
            return _out_of_batch(y, n)
        x = _into_channels(x, x_dim, n)
        w = _front(w, w_dim, n).flatten(0, 1)
        b = None if b is None else _front(b, b_dim, n).flatten(0, 1)
        y = operator(x, w, b, stride, padding, output_padding, dilation, groups * n, *rest)
        return _out_of_channels(y, n)

    return rule


def _backward_input_rule(
    info, in_dims, dy, w, input_size, stride, padding, output_padding, dilation, groups, precision=0
):
    n = info.batch_size
    dy_dim, w_dim = in_dims[:2]
    batch, channels, *spatial = input_size
    geometry = (stride, padding, output_padding, dilation)
    if w_dim is None:
        dy = _front(dy, dy_dim, n).flatten(0, 1)
        return _out_of_batch(
            _routes.backward_input(dy, w, [n * batch, channels, *spatial], *geometry, groups, precision), n
        )
    dy = _into_channels(dy, dy_dim, n)
    w = _front(w, w_dim, n).flatten(0, 1)
    dx = _routes.backward_input(dy, w, [batch, n * channels, *spatial], *geometry, groups * n, precision)
    return _out_of_channels(dx, n)


def _backward_weight_rule(
    info, in_dims, x, dy, weight_size, stride, padding, output_padding, dilation, groups, precision=0
):
    n = info.batch_size
    x, dy = _into_channels(x, in_dims[0], n), _into_channels(dy, in_dims[1], n)
    in_channels, *rest = weight_size
    dw = _routes.backward_weight(
        x, dy, [n * in_channels, *rest], stride, padding, output_padding, dilation, groups * n, precision
    )
    return dw.unflatten(0, (n, in_channels)), 0


def _backward_bias_rule(info, in_dims, dy):
    db = _routes.backward_bias(_into_channels(dy, in_dims[0], info.batch_size))
    return db.unflatten(0, (info.batch_size, -1)), 0


RULES = {
    _ops.conv_transpose: _forward_rule(_routes.conv_transpose),
    _ops.conv_transpose_epilogue: _forward_rule(_ops.conv_transpose_epilogue),
    _ops.backward_input: _backward_input_rule,
    _ops.backward_weight: _backward_weight_rule,
    _ops.backward_bias: _backward_bias_rule,
}
for _operator, _rule in RULES.items():
    torch.library.register_vmap(_operator, _rule, lib=_ops.registrations)
