# Averages of a transposed convolution need less of it. A mean over space needs no convolution over that space: every
# tap adds w times the sum of the x that it reaches inside the output. An average in windows of the layer's own stride
# is a layer of stride 1 whose weights are averages of w. Called by _fused_chain; docs/fusion.md derives both.
"""The forms with less or no convolution."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from . import _chain, _ops
from ._call import _watched

_sums_operator = torch.ops.upconv._tap_sums.default
_ops.registrations.impl(_sums_operator, torch.library.fallthrough_kernel, "Autograd")

#: Shapes whose sums a form remembers.
_MOST_KEPT = 8
#: Steps that a mean over space may change places with.
_AFFINE = ("add", "subtract", "reverse_subtract", "multiply", "divide")


@dataclass(frozen=True)
class Reduced:
    """``dims`` (canonical) are summed before the layer; ``chain`` is what follows the smaller layer."""

    layer: _chain.Layer
    chain: _chain.Chain
    dims: tuple[int, ...]
    passed: tuple[int, ...]  # operands of steps that changed places with the mean
    _kept: dict = field(default_factory=dict, compare=False, repr=False)  # by the shapes of x and w

    def holds(self, x: torch.Tensor, w: torch.Tensor, operands) -> bool:
        """Whether it gives the same for these operands; channels that do not fit are the layer's own to name."""
        return x.shape[1] == w.shape[0] and self.passes(operands)

    def passes(self, operands) -> bool:
        """Whether the mean may change places with the steps that read these."""
        return _constant_in_space(operands, self.passed)

    def apply(self, x: torch.Tensor, w: torch.Tensor, geometry):
        """(chain, x, w, geometry) of the smaller problem: a channel for each input channel and tap of ``dims``."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            steps, order, sizes, kernel = self._arranged(x.shape, w.shape)
        else:
            shapes = (x.shape, w.shape)
            if shapes not in self._kept:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.clear()
                self._kept[shapes] = self._arranged(*shapes)
            steps, order, sizes, kernel = self._kept[shapes]
        if _has_kernel(x):
            for step in steps:
                x = _sums_operator(x, *step)
        else:
            given = x.dtype
            for step in steps:
                x = _tap_sums(x, *step)
            x = x.to(given)
        x = x.permute(order).reshape(sizes)
        w = w.permute(0, *self.dims, 1, *order[2 + len(self.dims) :]).reshape(kernel)
        return self.chain, x.contiguous(), w.contiguous(), (*self.chain.layer.geometry, geometry[-1])

    def _arranged(self, x, w):
        """What each dimension's sums take, the order in which taps follow the channels, and both shapes after that."""
        layer, dims, spatial = self.layer, self.dims, range(2, self.layer.rank + 2)
        steps, taps = [], 1
        for d in dims:
            i = d - 2
            size = (x[d] - 1) * layer.stride[i] - 2 * layer.padding[i]
            size = size + layer.dilation[i] * (w[d] - 1) + layer.output_padding[i] + 1
            # Every dimension by its own number: what is stored in between has the size of values.
            steps.append((d, w[d], layer.stride[i], layer.padding[i], layer.dilation[i], size, 1.0 / size))
            taps = taps * w[d]
        rest = [d for d in spatial if d not in dims]  # a summed dimension's taps lie in its place
        sizes = (x[0], x[1] * taps, *(1 if d in dims else x[d] for d in spatial))
        kernel = (w[0] * taps, w[1], *(1 if d in dims else w[d] for d in spatial))
        return steps, (0, 1, *dims, *rest), sizes, kernel


def _has_kernel(x) -> bool:
    """Whether the sums of x are one operator: where torch's own would be many small kernels, and nobody but the
    operator has to see them (it has no rule for tangents, batches of vmap, or gradients)."""
    if torch.compiler.is_compiling() or x.device.type != "cuda" or x.dtype == torch.float64:
        return False
    return not _watched(x, None, None) and not (x.requires_grad and torch.is_grad_enabled()) and x.is_contiguous()


def _tap_sums(x, dim, kernel, stride, padding, dilation, size, scale):
    """x with ``kernel`` sums in dimension ``dim``: for every tap the sum over the positions that it takes inside
    [0, size), times ``scale``; of 16 bits in float32."""
    length = x.shape[dim]
    wide = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    if isinstance(length, torch.SymInt) or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return _tap_sums_of_any_size(x.to(wide), dim, kernel, stride, padding, dilation, size, scale)
    beyond = size - 1 - (length - 1) * stride  # the output's last position from that of x's last for offset 0

    def sum_of(low, count):
        return x.narrow(dim, low, count).sum(dim, keepdim=True, dtype=wide)

    ranges = []
    for t in range(kernel):
        offset = dilation * t - padding
        low = min((-offset + stride - 1) // stride, length) if offset < 0 else 0
        high = length + min((beyond - offset) // stride, 0)
        ranges.append((low, max(high, low)))
    low, high = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if low < high:  # what all taps share, summed once; the rest of each range lies beside it
        core = sum_of(low, high - low)
    sums = []
    for i, (a, b) in enumerate(ranges):
        # Ranges that are equal are neighbours. Compared, not looked up: torch.compile keeps a size that is hashed.
        if i > 0 and a == ranges[i - 1][0] and b == ranges[i - 1][1]:
            sums.append(sums[-1])
            continue
        if low >= high:
            sums.append(sum_of(a, b - a))
            continue
        total = core
        if a < low:
            total = total + sum_of(a, low - a)
        if high < b:
            total = total + sum_of(high, b - high)
        sums.append(total)
    return torch.cat(sums, dim) * scale


def _tap_sums_of_any_size(x, dim, kernel, stride, padding, dilation, size, scale):
    """The same as a product with ``scale`` and zeros, for a graph that is made once for all sizes: no comparison of
    sizes, which would be true of the example's alone, and no piece of x that has one element for some of them."""
    taps = torch.arange(kernel, device=x.device)[:, None] * dilation - padding
    reached = taps + torch.arange(x.shape[dim], device=x.device) * stride
    inside = (reached >= 0) & (reached < size)
    x = x.movedim(dim, -1).where(inside.any(0), 0.0)  # what no tap reaches may be infinite
    return (x @ (inside.to(x.dtype) * scale).t()).movedim(-1, dim)


def without_convolution(chain: _chain.Chain) -> Reduced | Pooled | None:
    """The smaller form of a chain whose first closing step is a mean over space or an average in windows, after steps
    that it may change places with; None for any other chain."""
    if chain.prologue or not chain.closing:
        return None
    first = chain.closing[0]
    passed = _passed(chain.epilogue)
    if passed is None:
        return None
    if isinstance(first, _chain.Pool):
        return _in_windows(chain, first, passed)
    if not isinstance(first, _chain.Reduce) or first.kind != "mean" or 1 in first.dims:
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
    return Reduced(layer, rest, dims, passed)


def _passed(steps) -> tuple[int, ...] | None:
    """Operands of steps that an average may change places with where they are constant in space; None where it may
    not."""
    numbers = []
    for step in steps:
        if not isinstance(step, _chain.Arithmetic) or step.op not in _AFFINE or isinstance(step.other, _chain.Kept):
            return None
        if isinstance(step.other, _chain.Operand):
            numbers.append(step.other.number)
    return tuple(numbers)


def _constant_in_space(operands, numbers) -> bool:
    return all(operands[i].dim() < 2 or all(n == 1 for n in operands[i].shape[2:]) for i in numbers)


@dataclass(frozen=True)
class Pooled:
    """``chain`` is what follows the layer of stride 1 whose weights are averages of w."""

    layer: _chain.Layer
    chain: _chain.Chain
    window: tuple[int, ...]
    passed: tuple[int, ...]
    _kept: dict = field(default_factory=dict, compare=False, repr=False)  # the smaller layer, by the kernel's sizes

    def holds(self, x: torch.Tensor, w: torch.Tensor, operands) -> bool:
        """Whether it gives the same for this kernel and these operands: the outputs must begin and end as those of a
        layer of stride 1 can."""
        layer = self.layer
        for i, window in enumerate(self.window):
            kernel, stride, padding = w.shape[i + 2], layer.stride[i], layer.padding[i]
            low, high = _offsets(kernel, stride, padding, window)
            # Outputs, less those of a layer without padding; the pooling must not leave the convolution's own.
            outputs = (kernel + layer.output_padding[i] - 2 * padding - window) // stride
            if high - outputs != -low or (x.shape[i + 2] - 1 + outputs) < 0:
                return False
        return _constant_in_space(operands, self.passed)

    def apply(self, x: torch.Tensor, w: torch.Tensor, geometry):
        """(chain, x, w, geometry) of the smaller problem."""
        kernel = tuple(w.shape[2:])
        if torch.compiler.is_compiling():
            chain, pads = self.smaller(kernel)
        else:
            if kernel not in self._kept:
                self._kept[kernel] = self.smaller(kernel)
            chain, pads = self._kept[kernel]
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.layer.rank - 1]
        w = pool(F.pad(w, pads), self.window, self.layer.stride)
        return chain, x, w, (*chain.layer.geometry, geometry[-1])

    def smaller(self, kernel: tuple[int, ...]):
        """The chain over the layer of stride 1, and how w is padded before it is averaged, last dimension first."""
        layer, paddings, pads = self.layer, [], []
        for i, window in enumerate(self.window):
            stride, padding = layer.stride[i], layer.padding[i]
            low, high = _offsets(kernel[i], stride, padding, window)
            paddings.append(-low)
            left = -(stride * low + padding)
            pads = [left, (high - low) * stride + window - left - kernel[i], *pads]
        rank = layer.rank
        smaller = _chain.Layer((1,) * rank, tuple(paddings), (0,) * rank, (1,) * rank, layer.groups)
        return dataclasses.replace(self.chain, layer=smaller), pads


def _offsets(kernel, stride, padding, window) -> tuple[int, int]:
    """The offsets e at which a window of outputs, stride * q to stride * q + window - 1, reads input q - e: its taps
    are those in stride * e + padding to stride * e + padding + window - 1."""
    return -((window + padding - 1) // stride), (kernel - 1 - padding) // stride


def _in_windows(chain: _chain.Chain, pool: _chain.Pool, passed) -> Pooled | None:
    layer = chain.layer
    if not pool.average or any(pool.padding) or pool.stride != layer.stride or set(layer.dilation) != {1}:
        return None
    if all(s == 1 for s in layer.stride):
        return None  # as many products as before
    rest = dataclasses.replace(chain, epilogue=(*chain.epilogue, *pool.after), closing=chain.closing[1:])
    return Pooled(layer, rest, pool.kernel, passed)
