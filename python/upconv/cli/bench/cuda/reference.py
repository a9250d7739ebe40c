"""A transposed convolution in float64 at full size on the GPU: one matrix product a tap, added where it lands.

Used by `upconv bench --device cuda` and tests/gpu for errors; independent of any convolution routine.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from upconv.cli.problem import Problem


class Reference:
    """All passes of one problem. Operands of any dtype on one device; results are float64."""

    def __init__(self, problem: Problem):
        self.p = problem

    def _taps(self) -> Iterator[tuple[tuple, tuple, tuple]]:
        """Each tap with the slices of the inputs it meets and of the outputs they land on."""
        p = self.p
        for tap in itertools.product(*(range(k) for k in p.kernel)):
            inputs, outputs = [], []
            for t, i, s, pad, d, o in zip(tap, p.input, p.stride, p.padding, p.dilation, p.output, strict=True):
                offset = d * t - pad
                first = max(0, -(offset // s))  # the least index with s * index + offset >= 0
                last = min(i, (o - 1 - offset) // s + 1)
                if last <= first:
                    break
                inputs.append(slice(first, last))
                outputs.append(slice(s * first + offset, s * (last - 1) + offset + 1, s))
            else:
                yield tap, tuple(inputs), tuple(outputs)

    def _weight(self, w: torch.Tensor) -> torch.Tensor:
        """(g, ci, co, *kernel)"""
        g = self.p.groups
        return w.double().reshape(g, w.shape[0] // g, w.shape[1], *self.p.kernel)

    def _rows(self, t: torch.Tensor, where: tuple) -> torch.Tensor:
        """(g, channels, positions) of one sample (channels, *spatial), float64."""
        part = t[(slice(None), *where)]
        return part.reshape(self.p.groups, t.shape[0] // self.p.groups, -1).double()

    def forward(self, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
        w = self._weight(w)
        y = torch.zeros(x.shape[0], *self.p.y_shape[1:], dtype=torch.float64, device=x.device)
        for tap, inputs, outputs in self._taps():
            wt = w[(..., *tap)].mT.contiguous()
            for n in range(x.shape[0]):
                target = y[n][(slice(None), *outputs)]
                target += (wt @ self._rows(x[n], inputs)).reshape(target.shape)
        return y if b is None else y + b.double().reshape(-1, *[1] * self.p.rank)

    def backward_input(self, dy: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        w = self._weight(w)
        dx = torch.zeros(dy.shape[0], *self.p.x_shape[1:], dtype=torch.float64, device=dy.device)
        for tap, inputs, outputs in self._taps():
            wt = w[(..., *tap)].contiguous()
            for n in range(dy.shape[0]):
                target = dx[n][(slice(None), *inputs)]
                target += (wt @ self._rows(dy[n], outputs)).reshape(target.shape)
        return dx

    def backward_weight(self, x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
        dw = torch.zeros(self._weight(torch.empty(self.p.w_shape, device=x.device)).shape, device=x.device).double()
        for tap, inputs, outputs in self._taps():
            for n in range(x.shape[0]):
                dw[(..., *tap)] += self._rows(x[n], inputs) @ self._rows(dy[n], outputs).mT
        return dw.reshape(self.p.w_shape)
