# What a transposed convolution must give, in float64 and independent of any convolution routine: products as matrix
# products, and one table of where each lands. For small problems; every (tap, position) pair has an entry.
"""The float64 oracle of tests/gpu."""

from __future__ import annotations

import math

import torch


def landing(p, device) -> torch.Tensor:
    """(taps * positions,) index of the output that each product lands on; one past the last where it is cropped."""
    where, inside = None, None
    for size, k, s, pad, d, out in zip(p.input, p.kernel, p.stride, p.padding, p.dilation, p.output, strict=True):
        o = torch.arange(size).mul(s)[None, :] + torch.arange(k).mul(d)[:, None] - pad  # (taps, positions)
        good = (o >= 0) & (o < out)
        o = o.clamp(0, out - 1)
        if where is None:
            where, inside = o, good
        else:  # (taps, 1, positions, 1) with (taps', positions')
            shape = (where.shape[0] * k, where.shape[1] * size)
            where = (where[:, None, :, None] * out + o[None, :, None, :]).reshape(shape)
            inside = (inside[:, None, :, None] & good[None, :, None, :]).reshape(shape)
    where = torch.where(inside, where, math.prod(p.output))
    return where.flatten().to(device)


class Oracle:
    """All passes of one problem. Tensors may be of any dtype; results are float64."""

    def __init__(self, p, device):
        self.p = p
        self.index = landing(p, device)
        self.positions, self.taps = math.prod(p.input), math.prod(p.kernel)
        self.outputs = math.prod(p.output)
        self.ci, self.co = p.in_channels // p.groups, p.out_channels // p.groups

    def _x(self, x):
        return x.double().reshape(self.p.batch, self.p.groups, self.ci, self.positions)

    def _w(self, w):
        return w.double().reshape(self.p.groups, self.ci, self.co, self.taps)

    def _dy(self, dy):
        """(n, g, co, taps, positions): what every product meets, 0 where it is cropped."""
        rows = dy.double().reshape(-1, self.outputs)
        rows = torch.cat([rows, rows.new_zeros(rows.shape[0], 1)], 1)
        return rows[:, self.index].reshape(self.p.batch, self.p.groups, self.co, self.taps, self.positions)

    def forward(self, x, w, b=None):
        columns = torch.einsum("ngcl,gcok->ngokl", self._x(x), self._w(w))
        y = columns.new_zeros(self.p.batch * self.p.out_channels, self.outputs + 1)
        y.index_add_(1, self.index, columns.reshape(y.shape[0], self.index.numel()))
        y = y[:, : self.outputs].reshape(self.p.y_shape)
        return y if b is None else y + b.double().reshape(-1, *[1] * self.p.rank)

    def backward_input(self, dy, w):
        return torch.einsum("ngokl,gcok->ngcl", self._dy(dy), self._w(w)).reshape(self.p.x_shape)

    def backward_weight(self, x, dy):
        return torch.einsum("ngcl,ngokl->gcok", self._x(x), self._dy(dy)).reshape(self.p.w_shape)

    def backward_bias(self, dy):
        return dy.double().sum([0, *range(2, dy.dim())])

    def steps(self, what: str) -> int:
        """Additions that a matrix unit makes to one element, 16 products each and taps apart."""
        each, taps = {
            "forward": (self.ci, self.taps),
            "backward_input": (self.co, self.taps),
            "backward_weight": (self.p.batch * self.positions, 1),
            "backward_bias": (1, 0),
        }[what]
        return -(-each // 16) * taps

    def terms(self, what: str) -> int:
        """Products (or summands) to one element of a pass's result."""
        n = self.p.batch
        return max(1, {
            "forward": self.ci * self.taps + 1,
            "backward_input": self.co * self.taps,
            "backward_weight": n * self.positions,
            "backward_bias": n * self.outputs,
        }[what])  # fmt: skip
