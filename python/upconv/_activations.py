# The activations an epilogue knows: from torch modules to (number, a, b) and back to torch functions.
# _autograd applies them when gradients are wanted; optimize asks which modules can be absorbed.
"""Numbers are those of upconv::Activation in include/upconv/epilogue.hpp."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

# name: (number, function of (y, a, b))
_FUNCTIONS = (
    lambda y, a, b: torch.relu(y),
    lambda y, a, b: F.leaky_relu(y, a),
    lambda y, a, b: F.elu(y, a),
    lambda y, a, b: F.gelu(y),
    lambda y, a, b: F.gelu(y, approximate="tanh"),
    lambda y, a, b: F.silu(y),
    lambda y, a, b: F.mish(y),
    lambda y, a, b: torch.tanh(y),
    lambda y, a, b: torch.sigmoid(y),
    lambda y, a, b: F.hardtanh(y, a, b),
    lambda y, a, b: F.hardswish(y),
    lambda y, a, b: F.hardsigmoid(y),
    lambda y, a, b: F.softplus(y, a, b),
    lambda y, a, b: torch.sin(y),
    lambda y, a, b: y * y,
    lambda y, a, b: torch.exp(y),
)

#: From upconv::Arithmetic's keep = 1 on.
_ARITHMETIC = (
    lambda v, u: v,
    lambda v, u: v + u,
    lambda v, u: v - u,
    lambda v, u: u - v,
    lambda v, u: v * u,
    lambda v, u: v / u,
    lambda v, u: u / v,
    lambda v, u: torch.minimum(v, u) if isinstance(u, torch.Tensor) else v.clamp(max=u),
    lambda v, u: torch.maximum(v, u) if isinstance(u, torch.Tensor) else v.clamp(min=u),
    lambda v, u: u,
)


def _arithmetic(v, kept, code, value, source):
    number = int(code) - 101
    if number == 0:
        kept[int(value)] = v
        return v
    if source == 1:
        raise RuntimeError("conv_transpose_epilogue: operand tensors belong to upconv::_chain")
    return _ARITHMETIC[number](v, value if source == 0 else kept[int(value)])


NAMES = (
    "relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish", "tanh", "sigmoid", "hardtanh", "hardswish",
    "hardsigmoid", "softplus", "sin", "square", "exp",
)  # fmt: skip


def apply(y: torch.Tensor, epilogue) -> torch.Tensor:
    """torch's own functions for a list of (number, a, b) triples laid end to end; numbers from 100 on are arithmetic
    with scalars and kept values (_chain), which no tensor is an operand of here."""
    kept = {}
    for i in range(0, len(epilogue), 3):
        if epilogue[i] >= 100:
            y = _arithmetic(y, kept, *(epilogue[i : i + 3]))
            continue
        y = _FUNCTIONS[int(epilogue[i])](y, epilogue[i + 1], epilogue[i + 2])
    return y


_STEPS = {
    nn.ReLU: lambda m: (0, 0.0, 0.0),
    nn.LeakyReLU: lambda m: (1, m.negative_slope, 0.0),
    nn.ELU: lambda m: (2, m.alpha, 0.0),
    nn.GELU: lambda m: (4 if m.approximate == "tanh" else 3, 0.0, 0.0),
    nn.SiLU: lambda m: (5, 0.0, 0.0),
    nn.Mish: lambda m: (6, 0.0, 0.0),
    nn.Tanh: lambda m: (7, 0.0, 0.0),
    nn.Sigmoid: lambda m: (8, 0.0, 0.0),
    nn.Hardtanh: lambda m: (9, m.min_val, m.max_val),
    nn.ReLU6: lambda m: (9, m.min_val, m.max_val),
    nn.Hardswish: lambda m: (10, 0.0, 0.0),
    nn.Hardsigmoid: lambda m: (11, 0.0, 0.0),
    nn.Softplus: lambda m: (12, m.beta, m.threshold),
}


def known(number: int, a: float) -> bool:
    """Whether the kernels take an activation with this first parameter: a softplus bends upwards there."""
    return NAMES[int(number)] != "softplus" or a > 0


def step_of(module: nn.Module) -> tuple[float, float, float] | None:
    """The epilogue step of an activation module, or None when there is none for exactly this class."""
    make = _STEPS.get(type(module))
    step = None if make is None else tuple(float(v) for v in make(module))
    return step if step is not None and known(*step[:2]) else None
