# The upconv:: operators as Python callables, with what only Python can add: fake kernels and autocast.
# Autograd is in _autograd, vmap in _vmap; importing this module loads the library.
"""Handles of the operators and their fake (shape and stride) kernels."""

from __future__ import annotations

import torch

from . import _library
from ._shapes import output_shape, result_layout

library_path = _library.path

conv_transpose = torch.ops.upconv.conv_transpose.default
conv_transpose_epilogue = torch.ops.upconv.conv_transpose_epilogue.default
backward_input = torch.ops.upconv.conv_transpose_backward_input.default
backward_weight = torch.ops.upconv.conv_transpose_backward_weight.default
backward_bias = torch.ops.upconv.conv_transpose_backward_bias.default
forward_packed = torch.ops.upconv._forward.default
forward_epilogue_packed = torch.ops.upconv._forward_epilogue.default
backward_packed = torch.ops.upconv._backward.default
# What forward_packed calls, without the layer of Python around it; for calls that no mode or subclass has to see.
forward_packed_builtin = getattr(forward_packed, "_op", forward_packed)
explain = torch.ops.upconv.explain.default
prepare = torch.ops.upconv._prepare.default
pass_problem = torch.ops.upconv._pass_problem.default
alternatives = torch.ops.upconv._alternatives.default
prepare_alternative = torch.ops.upconv._prepare_alternative.default
remember = torch.ops.upconv._remember.default
forget_tuned = torch.ops.upconv._forget_tuned.default
run_single = torch.ops.upconv._run.default
kernel_cache = torch.ops.upconv._kernel_cache.default
engine_report = torch.ops.upconv._engine_report.default
version = torch.ops.upconv.version.default

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

# Registrations live as long as this object.
registrations = torch.library.Library("upconv", "FRAGMENT")


def _empty(like: torch.Tensor, shape, layout: torch.memory_format) -> torch.Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


@torch.library.register_fake("upconv::conv_transpose")
def _(x, w, b, stride, padding, output_padding, dilation, groups, precision=0):
    shape = output_shape(x, w, b, stride, padding, output_padding, dilation, groups)
    return _empty(x, shape, result_layout(x, w))


@torch.library.register_fake("upconv::conv_transpose_epilogue")
def _(x, w, b, stride, padding, output_padding, dilation, groups, epilogue, precision=0):
    shape = output_shape(x, w, b, stride, padding, output_padding, dilation, groups)
    return _empty(x, shape, result_layout(x, w))


@torch.library.register_fake("upconv::conv_transpose_backward_input")
def _(dy, w, input_size, stride, padding, output_padding, dilation, groups, precision=0):
    return _empty(dy, input_size, result_layout(dy, w))


@torch.library.register_fake("upconv::conv_transpose_backward_weight")
def _(x, dy, weight_size, stride, padding, output_padding, dilation, groups, precision=0):
    return _empty(x, weight_size, torch.contiguous_format)


@torch.library.register_fake("upconv::conv_transpose_backward_bias")
def _(dy):
    return dy.new_empty(dy.shape[1])


@torch.library.register_fake("upconv::_forward")
@torch.library.register_fake("upconv::_forward_epilogue")
def _(x, w, b, geometry, epilogue=()):
    n = w.dim() - 2
    split = [geometry[i * n : (i + 1) * n] for i in range(4)]
    return _empty(x, output_shape(x, w, b, *split, geometry[-2]), result_layout(x, w))


@torch.library.register_fake("upconv::_backward")
def _(dy, x, w, geometry, dx, dw, db):
    return (
        _empty(dy, x.shape, result_layout(dy, w)) if dx else torch.empty(0, device=dy.device),
        _empty(x, w.shape, torch.contiguous_format) if dw else torch.empty(0, device=dy.device),
        dy.new_empty(dy.shape[1]) if db else torch.empty(0, device=dy.device),
    )


def _under_autocast(device: str, operator):
    """torch's rule for convolutions: every fp32 or half tensor becomes autocast's dtype, fp64 stays."""
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def cast(value):
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64:
            return value.to(torch.get_autocast_dtype(device)) if value.device.type == device else value
        return value

    def kernel(*args):
        args = [cast(value) for value in args]
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*args)

    return kernel


for _device in ("cpu", "cuda"):
    for _operator in (conv_transpose, conv_transpose_epilogue):
        registrations.impl(_operator, _under_autocast(_device, _operator), f"Autocast{_device.upper()}")
