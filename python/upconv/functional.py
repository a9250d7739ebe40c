# conv_transpose1d/2d/3d with torch.nn.functional's arguments in its order.
# Called by users; upconv.nn goes to _call directly.
"""Transposed convolutions as functions: ``torch.nn.functional.conv_transpose{1,2,3}d``, computed by upconv."""

from __future__ import annotations

import torch

from ._call import run

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def _tuple(value, rank: int, name: str, what: str):
    if type(value) is int:
        return (value,) * rank
    if isinstance(value, (tuple, list)):
        if len(value) == 1:
            return tuple(value) * rank
        if len(value) == rank:
            return tuple(value)
        raise RuntimeError(
            f"{name}: expected {what} to be a single integer value or a list of {rank} values "
            f"to match the convolution dimensions, but got {what}={list(value)}"
        )
    if isinstance(value, (int, torch.SymInt)):
        return (value,) * rank
    raise TypeError(f"{name}(): argument '{what}' must be tuple of ints, not {type(value).__name__}")


def _run(rank, name, x, w, b, stride, padding, output_padding, groups, dilation):
    geometry = (
        *_tuple(stride, rank, name, "stride"),
        *_tuple(padding, rank, name, "padding"),
        *_tuple(output_padding, rank, name, "output_padding"),
        *_tuple(dilation, rank, name, "dilation"),
        groups,
    )
    return run(rank, x, w, b, geometry)


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution over the last dimension."""
    return _run(1, "conv_transpose1d", input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution over the last two dimensions."""
    return _run(2, "conv_transpose2d", input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Transposed convolution over the last three dimensions."""
    return _run(3, "conv_transpose3d", input, weight, bias, stride, padding, output_padding, groups, dilation)
