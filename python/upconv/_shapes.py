# Shape and memory format of a result, on plain or symbolic sizes, for the fake kernels in _ops.
# The rules of a legal problem live in upconv::validate (C++); here is what tracing needs of them.
"""Output size and memory format of a transposed convolution."""

from __future__ import annotations

import torch


def _per_dimension(values, rank: int, what: str):
    torch._check(
        len(values) in (1, rank),
        lambda: (
            f"conv_transpose{rank}d: expected {what} to be a single integer value or a list of {rank} values "
            f"to match the convolution dimensions, but got {what}={list(values)}"
        ),
    )
    return list(values) * rank if len(values) == 1 else list(values)


def output_shape(x, w, b, stride, padding, output_padding, dilation, groups):
    """(N, C_out, \\*output) of y; raises where the shapes of x, w and b cannot belong together."""
    rank = w.dim() - 2
    torch._check(
        1 <= rank <= 3 and x.dim() == w.dim(),
        lambda: (
            f"conv_transpose: expected x (batch, in_channels, *spatial) and w (in_channels, out_channels/groups, "
            f"*kernel) of 3, 4 or 5 dimensions each, but got {list(x.shape)} and {list(w.shape)}"
        ),
    )
    name = f"conv_transpose{rank}d"
    torch._check(
        x.shape[1] == w.shape[0],
        lambda: (
            f"{name}: given weight of size {list(w.shape)}, expected input {list(x.shape)} to have "
            f"{w.shape[0]} channels, but got {x.shape[1]} channels instead"
        ),
    )
    torch._check(groups > 0, lambda: f"{name}: non-positive groups is not supported, but got groups={groups}")
    torch._check(
        w.shape[0] % groups == 0,
        lambda: (
            f"{name}: given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size {list(w.shape)}"
        ),
    )
    out_channels = w.shape[1] * groups
    for what, t in (("weight", w), ("bias", b)):
        if t is not None:
            torch._check(
                x.dtype == t.dtype and x.device == t.device,
                lambda what=what, t=t: (
                    f"{name}: input type ({x.dtype} on {x.device}) and {what} type ({t.dtype} on "
                    f"{t.device}) should be the same"
                ),
            )
    if b is not None:
        torch._check(
            b.dim() == 1 and b.shape[0] == out_channels,
            lambda: (
                f"{name}: expected bias to be 1-dimensional with {out_channels} elements, "
                f"but got bias of size {list(b.shape)}"
            ),
        )
    s, p, o, d = (
        _per_dimension(v, rank, what)
        for v, what in (
            (stride, "stride"), (padding, "padding"), (output_padding, "output_padding"), (dilation, "dilation")
        )
    )  # fmt: skip
    spatial = []
    for i in range(rank):
        size = (x.shape[2 + i] - 1) * s[i] - 2 * p[i] + d[i] * (w.shape[2 + i] - 1) + o[i] + 1
        torch._check(size > 0, lambda size=size: f"{name}: calculated output size {size} is too small")
        spatial.append(size)
    return [x.shape[0], out_channels, *spatial]


def suggests_channels_last(tensor: torch.Tensor) -> bool:
    """torch's rule: strides grow in the order C, W, H, (D,) N and no dimension overlaps those before it."""
    rank = tensor.dim() - 2
    if rank < 2 or tensor.stride(1) == 0:
        return False
    span = 0
    for dim in (1, *range(rank + 1, 1, -1), 0):
        size, stride = tensor.size(dim), tensor.stride(dim)
        if size == 0 or stride < span or (dim == 0 and span == tensor.stride(1)):
            return False
        span = stride * size if size > 1 else stride
    return True


def result_layout(*tensors: torch.Tensor) -> torch.memory_format:
    """channels_last when any operand is, as torch's own operator has it; 1-D is always contiguous."""
    if not any(suggests_channels_last(t) for t in tensors):
        return torch.contiguous_format
    return torch.channels_last if tensors[0].dim() == 4 else torch.channels_last_3d
