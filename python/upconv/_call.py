# One call of functional or nn: the cheapest path that is right for it, and torch's kinds of error when it fails.
# The paths: the registered operator (tracing, transforms, autocast), a lean autograd node, the packed operator.
"""From checked Python arguments to an operator."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad

from . import _activations, _ops, _routes
from ._autograd import apply_conv_transpose, unpack

_forward = _ops.forward_packed_builtin
_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_transforms_active = torch._C._are_functorch_transforms_active
_dispatch_modes = torch._C._len_torch_dispatch_stack
_autocast = torch._C._is_any_autocast_enabled
_tracing_state = torch._C._get_tracing_state
_has_torch_function = torch._C._has_torch_function_variadic


def run(rank, x, w, b, geometry):
    """y of x (N, C_in, *input) or (C_in, *input), w (C_in, C_out/groups, *kernel), b (C_out,) or None.

    ``geometry`` is (stride..., padding..., output_padding..., dilation..., groups, precision), 4 * rank + 2
    integers; the numbers of precision are _precision's.
    """
    if _is_compiling():
        return _in_full(rank, x, w, b, geometry)
    try:
        if (
            x.dim() != rank + 2
            or _transforms_active()  # from here on _watched, written out: a call costs more than all of it
            or _dispatch_modes()
            or _autocast()
            or forward_ad._current_level >= 0
            or _tracing_state() is not None
            or _has_torch_function(x, w, b)
        ):
            return _in_full(rank, x, w, b, geometry)
        if _is_grad_enabled() and (x.requires_grad or w.requires_grad or (b is not None and b.requires_grad)):
            return apply_conv_transpose(x, w, b, geometry)
        return _forward(x, w, b, geometry)
    except (RuntimeError, TypeError, AttributeError):
        if isinstance(x, torch.Tensor) and isinstance(w, torch.Tensor) and x.is_complex() and w.is_complex():
            return _complex(rank, x, w, b, geometry)
        _diagnose(f"conv_transpose{rank}d", x, w, b, geometry)
        raise


def run_epilogue(rank, x, w, b, geometry, epilogue):
    """`run` followed by the activations of ``epilogue``, (number, a, b) each; fused when no gradient is wanted."""
    wants_grad = _is_grad_enabled() and (x.requires_grad or w.requires_grad or (b is not None and b.requires_grad))
    if wants_grad or x.dim() != rank + 2 or x.is_complex():
        return _activations.apply(run(rank, x, w, b, geometry), epilogue)
    if _is_compiling():
        return _ops.conv_transpose_epilogue(x, w, b, *unpack(geometry, epilogue))
    if forward_ad._current_level >= 0:
        return _activations.apply(run(rank, x, w, b, geometry), epilogue)
    if _watched(x, w, b):
        return _ops.conv_transpose_epilogue(x, w, b, *unpack(geometry, epilogue))
    return _ops.forward_epilogue_packed(x, w, b, geometry, epilogue)


def _watched(x, w, b):
    """Whether a transform, tracer, mode, subclass or autocast has to see the registered operator."""
    return (
        _transforms_active()
        or _dispatch_modes()
        or _autocast()
        or forward_ad._current_level >= 0
        or _tracing_state() is not None
        or _has_torch_function(x, w, b)
    )


def _in_full(rank, x, w, b, geometry):
    """Through the registered operator, which every tracer, transform and autocast knows."""
    if x.dim() == rank + 1:
        return run(rank, x.unsqueeze(0), w, b, geometry).squeeze(0)
    if x.dim() != rank + 2:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv_transpose{rank}d, "
            f"but got input of size: {list(x.shape)}"
        )
    if x.is_complex() and w.is_complex():
        return _complex(rank, x, w, b, geometry)
    return _routes.conv_transpose(x, w, b, *unpack(geometry))


def _complex(rank, x, w, b, geometry):
    """Complex numbers as four real convolutions."""
    if b is not None and b.dtype != x.dtype:
        raise RuntimeError(
            f"conv_transpose{rank}d: input type ({x.dtype}) and bias type ({b.dtype}) should be the same"
        )
    real = run(rank, x.real, w.real, None, geometry) - run(rank, x.imag, w.imag, None, geometry)
    imag = run(rank, x.real, w.imag, None, geometry) + run(rank, x.imag, w.real, None, geometry)
    y = torch.complex(real, imag)
    return y if b is None else y + b.reshape(-1, *[1] * rank)


def _diagnose(name, x, w, b, geometry):
    """Raise what torch raises where the operator only knows that something is wrong; return when it knows better."""
    for position, what, value in ((1, "input", x), (2, "weight", w), (3, "bias", b)):
        if not isinstance(value, torch.Tensor) and not (what == "bias" and value is None):
            raise TypeError(
                f"{name}(): argument '{what}' (position {position}) must be Tensor, not {type(value).__name__}"
            ) from None
    *lists, groups, _ = geometry
    n = len(lists) // 4
    for i, what in enumerate(("stride", "padding", "output_padding", "dilation")):
        for value in lists[i * n : (i + 1) * n]:
            if not isinstance(value, (int, torch.SymInt)):
                raise TypeError(
                    f"{name}(): argument '{what}' must be tuple of ints, not {type(value).__name__}"
                ) from None
    if not isinstance(groups, (int, torch.SymInt)):
        raise TypeError(f"{name}(): argument 'groups' must be int, not {type(groups).__name__}") from None
    if x.dtype == w.dtype and x.dtype not in _ops.DTYPES:
        raise NotImplementedError(
            f'"{name}" not implemented for {x.dtype}: expected float32, float64, float16 or bfloat16'
        ) from None
