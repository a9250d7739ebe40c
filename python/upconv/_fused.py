# The modules optimize puts in: a transposed convolution that ends in an activation, and what is left of the activation.
# With gradients the convolution and torch's activation run apart; without, the activation is the kernel's epilogue.
"""Modules of an optimised model."""

from __future__ import annotations

from torch import nn as torch_nn

from . import nn
from ._call import run_epilogue


class _Activated:
    """Forward of the fused modules; ``epilogue`` is (number, a, b) as in _activations, ``activation`` its name."""

    epilogue: tuple[float, float, float]
    activation: str

    def _run(self, input, geometry):
        return run_epilogue(
            len(self.kernel_size), input, self.weight, self.bias, self._geometry(input, geometry), self.epilogue
        )

    def extra_repr(self):
        return f"{super().extra_repr()}, epilogue={self.activation}"


class ActivatedConvTranspose1d(_Activated, nn.ConvTranspose1d):
    """upconv.nn.ConvTranspose1d whose result has been through an activation."""


class ActivatedConvTranspose2d(_Activated, nn.ConvTranspose2d):
    """upconv.nn.ConvTranspose2d whose result has been through an activation."""


class ActivatedConvTranspose3d(_Activated, nn.ConvTranspose3d):
    """upconv.nn.ConvTranspose3d whose result has been through an activation."""


ACTIVATED = {
    nn.ConvTranspose1d: ActivatedConvTranspose1d,
    nn.ConvTranspose2d: ActivatedConvTranspose2d,
    nn.ConvTranspose3d: ActivatedConvTranspose3d,
}


class Absorbed(torch_nn.Module):
    """Stands where an activation was that the convolution before it now applies; returns its input."""

    def __init__(self, activation: str, where: str):
        super().__init__()
        self.activation, self.where = activation, where

    def forward(self, input):
        return input

    def extra_repr(self):
        return f"{self.activation}, applied by {self.where}"
