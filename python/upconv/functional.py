# conv_transpose1d/2d/3d with torch.nn.functional's arguments in its order.
# Called by users; upconv.nn goes to _call directly.
"""Transposed convolutions as functions: ``torch.nn.functional.conv_transpose{1,2,3}d``, computed by upconv."""

from __future__ import annotations

import functools
import operator

import torch

from . import _precision
from ._call import run

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def _whole(value, name: str, what: str, kind: str, given):
    """A number as torch reads it: integers of any kind, none that is true or false."""
    if type(value) is int or isinstance(value, torch.SymInt):
        return value
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise TypeError(f"{name}(): argument '{what}' must be {kind}, not {type(given).__name__}")


def _tuple(value, rank: int, name: str, what: str):
    if type(value) is int:
        return (value,) * rank
    if isinstance(value, (tuple, list)):
        if len(value) in (1, rank):
            numbers = tuple(_whole(v, name, what, "tuple of ints", value) for v in value)
            return numbers if len(value) == rank else numbers * rank
        raise RuntimeError(
            f"{name}: expected {what} to be a single integer value or a list of {rank} values "
            f"to match the convolution dimensions, but got {what}={list(value)}"
        )
    return (_whole(value, name, what, "tuple of ints", value),) * rank


def _geometry(rank, name, mode, stride, padding, output_padding, groups, dilation):
    return (
        *_tuple(stride, rank, name, "stride"),
        *_tuple(padding, rank, name, "padding"),
        *_tuple(output_padding, rank, name, "output_padding"),
        *_tuple(dilation, rank, name, "dilation"),
        _whole(groups, name, "groups", "int", groups),
        mode,
    )


# A quarter of a tiny call went into building the same tuple again. (typed: 1.0 is not 1 here.)
@functools.lru_cache(maxsize=512, typed=True)
def _known_geometry(rank, name, mode, *arguments):
    if any(isinstance(a, torch.Tensor) for a in arguments):
        raise TypeError("a tensor's number may change")
    return _geometry(rank, name, mode, *arguments)


_is_compiling = torch.compiler.is_compiling


def _run(rank, name, precision, x, w, b, *arguments):
    # Off CUDA precision means nothing, and asking costs a call of its own.
    mode = 0 if precision == "torch" and not getattr(x, "is_cuda", False) else _precision.code(precision, x)
    if _is_compiling():
        return run(rank, x, w, b, _geometry(rank, name, mode, *arguments))
    try:
        geometry = _known_geometry(rank, name, mode, *arguments)
    except TypeError:  # a list, a tensor, or something wrong that _geometry names
        geometry = _geometry(rank, name, mode, *arguments)
    return run(rank, x, w, b, geometry)


def conv_transpose1d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, precision="torch"
):
    """Transposed convolution over the last dimension; arguments and result as ``torch.nn.functional``'s.

    Args:
        input: (N, C_in, L) or (C_in, L), float32, float64, float16 or bfloat16 (complex through real parts).
        weight: (C_in, C_out / groups, K), of the same dtype and device.
        bias: (C_out,) or None.
        stride, padding, output_padding, dilation: a number, or a tuple of one.
        precision: of float32 products on CUDA, forward and backward: ``"torch"`` (what torch computes under its
            current settings), ``"ieee"``, ``"tf32"`` or ``"bf16x3"``; see :mod:`upconv._precision`.

    Returns:
        (N, C_out, L_out) or (C_out, L_out) with
        ``L_out = (L - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1``, contiguous.

    Raises:
        RuntimeError: shapes, dtypes, devices or values break a rule of the operator; named with value and rule.
        NotImplementedError: integer tensors. TypeError: an argument of another type.
    """
    return _run(
        1, "conv_transpose1d", precision, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, precision="torch"
):
    """Transposed convolution over the last two dimensions.

    ``input`` (N, C_in, H, W) or (C_in, H, W), ``weight`` (C_in, C_out / groups, kH, kW), ``bias`` (C_out,); the result
    is (N, C_out, H_out, W_out), channels_last when input or weight is. Otherwise as :func:`conv_transpose1d`.
    """
    return _run(
        2, "conv_transpose2d", precision, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, *, precision="torch"
):
    """Transposed convolution over the last three dimensions.

    ``input`` (N, C_in, D, H, W) or (C_in, D, H, W), ``weight`` (C_in, C_out / groups, kD, kH, kW), ``bias`` (C_out,);
    the result is (N, C_out, D_out, H_out, W_out), channels_last_3d when input or weight is. Otherwise as
    :func:`conv_transpose1d`.
    """
    return _run(
        3, "conv_transpose3d", precision, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
