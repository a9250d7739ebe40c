# The transposed convolutions of a model. Asked by upconv.export; the model lies on torch's meta device, so only
# structure is looked at.
"""From a Model to its layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn as torch_nn

from .. import _ops, _precision
from ._refusal import Refusal

__all__ = ["Layer", "find"]

_KINDS = {torch_nn.ConvTranspose1d: 1, torch_nn.ConvTranspose2d: 2, torch_nn.ConvTranspose3d: 3}


@dataclass
class Layer:
    """One transposed convolution, and the sizes its kernels are chosen for."""

    name: str  #: in the model, "conv"
    rank: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: bool
    batch: int = 1
    size: tuple[int, ...] = ()

    @property
    def key(self):
        """What a constructor's arguments are compared with, in the order the exported file has them."""
        return (self.rank, self.in_channels, self.out_channels, self.kernel, self.stride, self.padding,
                self.output_padding, self.dilation, self.groups, self.bias)  # fmt: skip

    def problem(self, precision: str) -> str:
        """In the grammar of include/upconv/problem.hpp."""

        def by(sizes):
            return "x".join(map(str, sizes))

        text = (
            f"{self.rank}d n{self.batch} c{self.in_channels} o{self.out_channels} i{by(self.size)} k{by(self.kernel)}"
        )
        text += (
            f" s{by(self.stride)} p{by(self.padding)} op{by(self.output_padding)} d{by(self.dilation)} g{self.groups}"
        )
        return f"{text} f32" + (" b" if self.bias else "") + ("" if precision == "ieee" else f" {precision}")

    def as_torch_with_tf32(self) -> str:
        """The precision of the forward pass where torch permits TF32."""
        line = _ops.pass_problem(self.problem("ieee"), "forward", "sm_90", _precision._AS_TORCH_WITH_TF32)
        return next((word for word in ("tf32", "bf16x3") if word in line.split()), "ieee")


def find(model: torch_nn.Module, inputs: list) -> list[Layer]:
    """The layers in the order they first run. Raises Refusal for one that the kernels cannot take, or without one."""
    names = {module: name for name, module in model.named_modules()}
    for module, name in names.items():
        if isinstance(module, torch_nn.modules.conv._ConvTransposeNd) and type(module) not in _KINDS:
            raise Refusal(f"{name} is a {type(module).__name__}, not one of torch.nn's own transposed convolutions")
    layers = {}

    def seen(module, arguments, named, output):
        if len(arguments) != 1 or named:
            raise Refusal(
                f"{names[module]} is called with output_size, which changes its output_padding from call to call"
            )
        x = arguments[0]
        if x.dim() != _KINDS[type(module)] + 2:
            raise Refusal(f"{names[module]} takes an input without a batch")
        layers.setdefault(module, _layer(names[module], module, x))

    handles = [m.register_forward_hook(seen, with_kwargs=True) for m in names if type(m) in _KINDS]
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    if not layers:
        raise Refusal("the model runs no transposed convolution")
    return list(layers.values())


def _layer(name, module, x):
    if x.dtype != torch.float32 or module.weight.dtype != torch.float32:
        raise Refusal(f"{name} computes in {x.dtype}, and exported files compute in float32")
    return Layer(
        name=name,
        rank=_KINDS[type(module)],
        in_channels=module.in_channels,
        out_channels=module.out_channels,
        kernel=tuple(module.kernel_size),
        stride=tuple(module.stride),
        padding=tuple(module.padding),
        output_padding=tuple(module.output_padding),
        dilation=tuple(module.dilation),
        groups=module.groups,
        bias=module.bias is not None,
        batch=x.shape[0],
        size=tuple(x.shape[2:]),
    )
