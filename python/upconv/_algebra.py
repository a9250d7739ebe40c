# A mean over space of a transposed convolution needs no convolution over that space: every tap adds w times the
# sum of the x that it reaches inside the output. Called by _fused_chain; docs/fusion.md derives it.
"""The form without the convolution."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from . import _chain

#: Steps that a mean over space may change places with.
_AFFINE = ("add", "subtract", "reverse_subtract", "multiply", "divide")


@dataclass(frozen=True)
class Reduced:
    """``dims`` (canonical) are summed before the layer; ``chain`` is what follows the smaller layer."""

    layer: _chain.Layer
    chain: _chain.Chain
    dims: tuple[int, ...]

    def apply(self, x: torch.Tensor, w: torch.Tensor, geometry):
        """(chain, x, w, geometry) of the smaller problem: a channel for each input channel and tap of ``dims``."""
        layer, rank = self.layer, self.layer.rank
        count, taps = 1, 1
        for d in sorted(self.dims, reverse=True):
            i = d - 2
            size = (x.shape[d] - 1) * layer.stride[i] - 2 * layer.padding[i]
            size += layer.dilation[i] * (w.shape[d] - 1) + layer.output_padding[i] + 1
            count *= size
            x = _tap_sums(x, d, w.shape[d], layer.stride[i], layer.padding[i], layer.dilation[i], size)
        # x is (N, C, ..., 1 where summed, ..., taps of the last summed dimension, ..., of the first): taps to channels.
        n = len(self.dims)
        spatial = tuple(range(2, rank + 2))
        tapped = tuple(range(rank + 1 + n, rank + 1, -1))  # first summed dimension first
        x = x.permute(0, 1, *tapped, *spatial)
        kernel = tuple(w.shape[d] for d in self.dims)
        for k in kernel:
            taps *= k
        x = x.reshape(x.shape[0], x.shape[1] * taps, *x.shape[2 + n :])
        x = x * (1.0 / count)
        rest = tuple(d for d in spatial if d not in self.dims)
        w = w.permute(0, *self.dims, 1, *rest)
        w = w.reshape(
            w.shape[0] * taps,
            w.shape[n + 1],
            *(1 if d in self.dims else w.shape[n + 2 + rest.index(d)] for d in spatial),
        )
        return self.chain, x.contiguous(), w.contiguous(), (*self.chain.layer.geometry, geometry[-1])


def _tap_sums(x, dim, kernel, stride, padding, dilation, size):
    """For every tap the sum of x along ``dim`` over the positions that it takes inside [0, size): x with ``dim`` of
    size 1 and a new last dimension of ``kernel``."""
    length = x.shape[dim]
    ranges = []
    for t in range(kernel):
        offset = dilation * t - padding
        low = min((-offset + stride - 1) // stride, length) if offset < 0 else 0
        high = max(min((size - 1 - offset) // stride + 1, length), low)
        ranges.append((low, high))
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    sums = {}
    if low < high:  # what all taps share, summed once; the rest of each range lies beside it
        core = x.narrow(dim, low, high - low).sum(dim, keepdim=True)
    for a, b in set(ranges):
        if low >= high:
            sums[a, b] = x.narrow(dim, a, b - a).sum(dim, keepdim=True)
            continue
        total = core
        if a < low:
            total = total + x.narrow(dim, a, low - a).sum(dim, keepdim=True)
        if high < b:
            total = total + x.narrow(dim, high, b - high).sum(dim, keepdim=True)
        sums[a, b] = total
    return torch.stack([sums[r] for r in ranges], -1)


def without_convolution(chain: _chain.Chain) -> Reduced | None:
    """The smaller form of a chain whose first closing step is a mean over space, after steps that it may
    change places with; None for any other chain."""
    if chain.prologue or not chain.closing:
        return None
    first = chain.closing[0]
    if not isinstance(first, _chain.Reduce) or first.kind != "mean" or 1 in first.dims:
        return None
    # Operands of a step may differ in space, which a mean does not pass: only scalars do here.
    for step in chain.epilogue:
        if (
            not isinstance(step, _chain.Arithmetic)
            or step.op not in _AFFINE
            or not isinstance(step.other, _chain.Scalar)
        ):
            return None
    layer, dims = chain.layer, first.dims
    smaller = _chain.Layer(
        *(
            tuple(neutral if i + 2 in dims else v for i, v in enumerate(values))
            for values, neutral in (
                (layer.stride, 1), (layer.padding, 0), (layer.output_padding, 0), (layer.dilation, 1)
            )
        ),
        layer.groups,
    )  # fmt: skip
    rest = dataclasses.replace(
        chain, layer=smaller, epilogue=(*chain.epilogue, *first.after), closing=chain.closing[1:]
    )
    return Reduced(layer, rest, dims)
