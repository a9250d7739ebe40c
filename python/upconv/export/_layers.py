# The transposed convolutions of a model and what follows them. Asked by upconv.export; the model lies on torch's meta
# device, so only structure is looked at.
"""From a Model to layers and the chain of operations its forward is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import fx
from torch import nn as torch_nn
from torch.nn import functional as F

from .. import _activations, _ops, _precision
from ._refusal import Refusal

__all__ = ["Chain", "Layer", "chain_of", "find"]

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
    steps: list[tuple[float, float, float]] = field(default_factory=list)  #: of the activations after it
    activation: str = ""  #: in words

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


@dataclass
class Chain:
    """A forward that is one transposed convolution and what the kernels do after it."""

    layer: Layer
    norm: str = ""  #: name of the GroupNorm at the end
    absorbed: list[str] = field(default_factory=list)  #: names of the modules whose work is in the kernels


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


class _Opaque(fx.Tracer):
    def is_leaf_module(self, module, name):
        return type(module).__module__.startswith("torch.nn") and not isinstance(module, torch_nn.Sequential)


#: Functions and methods as the module that computes the same: (arguments after the input) -> module.
_AS_MODULE = {
    torch.relu: torch_nn.ReLU,
    "relu": torch_nn.ReLU,
    F.relu: torch_nn.ReLU,
    torch.tanh: torch_nn.Tanh,
    "tanh": torch_nn.Tanh,
    torch.sigmoid: torch_nn.Sigmoid,
    "sigmoid": torch_nn.Sigmoid,
    F.gelu: torch_nn.GELU,
    F.leaky_relu: torch_nn.LeakyReLU,
    F.elu: torch_nn.ELU,
    F.silu: torch_nn.SiLU,
    F.mish: torch_nn.Mish,
    F.hardtanh: torch_nn.Hardtanh,
    F.hardswish: torch_nn.Hardswish,
    F.hardsigmoid: torch_nn.Hardsigmoid,
    F.softplus: torch_nn.Softplus,
}


def chain_of(model: torch_nn.Module, layers: list[Layer]) -> Chain:
    """The model's forward as a chain that the kernels compute whole. Raises Refusal that names what they do not."""
    try:
        graph = _Opaque().trace(model)
    except Exception as error:  # tracing runs the model's own code
        raise Refusal(f"torch.fx cannot trace the model's forward ({type(error).__name__}: {error})") from None
    modules = dict(model.named_modules())
    chain, at = None, None
    for node in graph.nodes:
        if node.op == "placeholder":
            if at is not None:
                raise Refusal("the model takes more than one input")
            at = node
            continue
        if node.op == "output":
            if node.args != (at,):
                raise Refusal("the model returns something else than the last operation's result")
            continue
        what = _words(node, modules)
        if [n for n in node.all_input_nodes if n is not at] or at not in node.all_input_nodes:
            raise Refusal(f"{what} takes something else than the result before it")
        module = modules.get(node.target) if node.op == "call_module" else None
        if type(module) in _KINDS:
            if chain is not None:
                raise Refusal(f"{what} follows {chain.layer.name}: a chain has one transposed convolution")
            chain = Chain(next(layer for layer in layers if modules[layer.name] is module))
        elif chain is None:
            raise Refusal(f"{what} comes before the transposed convolution, and the kernels begin with it")
        elif chain.norm:
            raise Refusal(f"{what} follows {chain.norm}, and the kernels end with the normalisation")
        elif type(module) is torch_nn.GroupNorm:
            _check_norm(node.target, module)
            chain.norm = node.target
        else:
            step = _step(node, module)
            if step is None or len(chain.layer.steps) == 8:
                raise Refusal(f"{what} is not among the operations that the kernels take after {chain.layer.name}")
            chain.layer.steps.append(step)
            chain.layer.activation += (", " if chain.layer.activation else "") + what
            if module is not None:
                chain.absorbed.append(node.target)
        at = node
    return chain


def _check_norm(name, module):
    if not module.affine:
        raise Refusal(f"{name} is a GroupNorm without weight and bias")


def _step(node, module):
    if module is None:
        make = _AS_MODULE.get(node.target)
        if make is None:
            return None
        named = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        try:
            module = make(*node.args[1:], **named)
        except TypeError:
            return None
    return _activations.step_of(module)


def _words(node, modules):
    if node.op == "call_module":
        return f"{node.target} ({modules[node.target]!r})"
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return f"{node.target} ({node.op.replace('_', ' ')})"
