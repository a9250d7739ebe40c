# What a node of a traced graph does, in the words of _chain: functional, method, operator and module forms of one
# operation read the same. Asked by _fusion; anything not named here is not understood, and stays as it was.
"""Nodes of torch.fx as element-wise steps and closing steps."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import fx
from torch import nn as torch_nn

from . import _activations
from ._chain import BatchNorm, GroupNorm, LayerNorm, Pool, Reduce, Softmax

# ---- element-wise ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Elementwise:
    """``op`` is a name of _chain.ARITHMETIC with two ``args`` (nodes or numbers), "activation" with one and what
    _chain.Activate is made of, or "same" or "detach" with one, whose value stays."""

    op: str
    args: tuple
    activation: tuple = (0.0, 0.0, 0.0)
    inplace: bool = False


_BINARY = {
    "add": (operator.add, torch.add, "add"),
    "subtract": (operator.sub, torch.sub, torch.subtract, "sub", "subtract"),
    "multiply": (operator.mul, torch.mul, torch.multiply, "mul", "multiply"),
    "divide": (operator.truediv, torch.div, torch.divide, torch.true_divide, "div", "divide", "true_divide"),
    "minimum": (torch.minimum, "minimum"),
    "maximum": (torch.maximum, "maximum"),
}
_BINARY_OF = {target: op for op, targets in _BINARY.items() for target in targets}
_BINARY_INPLACE = {
    operator.iadd: "add", operator.isub: "subtract", operator.imul: "multiply", operator.itruediv: "divide",
    "add_": "add", "sub_": "subtract", "mul_": "multiply", "div_": "divide",
}  # fmt: skip


def _parameters(names, defaults):
    """A reader of an activation's parameters from what follows the value in a call."""

    def read(rest, kwargs):
        values = dict(zip(names, defaults, strict=True))
        for name, value in (*zip(names, rest, strict=False), *kwargs.items()):
            if name in values:
                values[name] = value
            elif name != "inplace":
                return None
        return tuple(values.values())

    return read


_NONE = _parameters((), ())
_ACTIVATIONS = {
    "relu": (0, _NONE), "relu_": (0, _NONE), "relu6": (9, lambda rest, kwargs: (0.0, 6.0)),
    "leaky_relu": (1, _parameters(("negative_slope",), (0.01,))), "elu": (2, _parameters(("alpha",), (1.0,))),
    "gelu": (3, _parameters(("approximate",), ("none",))), "silu": (5, _NONE), "mish": (6, _NONE), "tanh": (7, _NONE),
    "sigmoid": (8, _NONE), "hardtanh": (9, _parameters(("min_val", "max_val"), (-1.0, 1.0))), "hardswish": (10, _NONE),
    "hardsigmoid": (11, _NONE), "softplus": (12, _parameters(("beta", "threshold"), (1.0, 20.0))), "sin": (13, _NONE),
    "square": (14, _NONE), "exp": (15, _NONE), "tanh_": (7, _NONE), "sigmoid_": (8, _NONE),
}  # fmt: skip
_NAME_OF = {
    function: name
    for name in _ACTIVATIONS
    for module in (F, torch)
    if (function := getattr(module, name, None)) is not None
}


def _number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _activation(name, args, kwargs, inplace) -> Elementwise | None:
    number, read = _ACTIVATIONS[name]
    if not args:
        return None
    parameters = read(args[1:], kwargs)
    if parameters is None:
        return None
    if name == "gelu":
        number = {"none": 3, "tanh": 4}.get(parameters[0])
        if number is None:
            return None
        parameters = ()
    if not all(_number(p) for p in parameters):
        return None
    a, b = (*(float(p) for p in parameters), 0.0, 0.0)[:2]
    if not _activations.known(number, a):
        return None
    return Elementwise("activation", (args[0],), (number, a, b), inplace or bool(kwargs.get("inplace")))


def _given(node: fx.Node) -> tuple[tuple, dict]:
    """A call's arguments, the value first however it was given."""
    args, kwargs = node.args, dict(node.kwargs)
    if node.op == "call_function" and not args and "input" in kwargs:
        args = (kwargs.pop("input"),)
    return args, kwargs


def _clamp(args, kwargs) -> Elementwise | None:
    if not args or len(args) > 3 or not set(kwargs) <= {"min", "max"}:
        return None
    low, high = (*args[1:], None, None)[:2]
    low, high = kwargs.get("min", low), kwargs.get("max", high)
    if not all(v is None or _number(v) for v in (low, high)):
        return None
    if low is not None and high is not None:
        return Elementwise("activation", (args[0],), (9, float(low), float(high), True)) if low <= high else None
    if low is not None:
        return Elementwise("maximum", (args[0], low))
    return Elementwise("minimum", (args[0], high)) if high is not None else None


def elementwise(node: fx.Node, modules: dict) -> Elementwise | None:
    """The node as an element-wise step, or None."""
    args, kwargs = _given(node)
    if node.op == "call_module":
        module = modules.get(node.target)
        step = None if module is None else _activations.step_of(module)
        if step is None or len(args) != 1 or kwargs:
            return None
        return Elementwise("activation", args, (int(step[0]), *step[1:]), bool(getattr(module, "inplace", False)))
    if node.op not in ("call_function", "call_method"):
        return None
    target = node.target
    if target in _BINARY_OF or target in _BINARY_INPLACE:
        if kwargs or len(args) != 2 or not all(isinstance(a, fx.Node) or _number(a) for a in args):
            return None
        op = _BINARY_OF.get(target) or _BINARY_INPLACE[target]
        return Elementwise(op, args, inplace=target in _BINARY_INPLACE)
    if target in (torch.clamp, torch.clip, "clamp", "clip"):
        return _clamp(args, kwargs)
    if target in (torch.min, torch.max, "min", "max"):  # of two tensors
        if len(args) == 2 and not kwargs and all(isinstance(a, fx.Node) for a in args):
            return Elementwise("minimum" if target in (torch.min, "min") else "maximum", args)
        return None
    if target in (operator.neg, torch.neg, "neg"):
        return Elementwise("multiply", (args[0], -1.0)) if len(args) == 1 and not kwargs else None
    if target in (operator.pow, torch.pow, "pow"):
        return (
            _activation("square", args[:1], {}, False)
            if len(args) == 2 and not kwargs and args[1] == 2 and _number(args[1])
            else None
        )
    if target in ("clone", "contiguous", torch.clone) and len(args) == 1 and not kwargs:
        return Elementwise("same", args)
    if target == "detach" or target is torch.detach:
        return Elementwise("detach", args) if len(args) == 1 and not kwargs else None
    name = target if isinstance(target, str) else _NAME_OF.get(target)
    if name in _ACTIVATIONS:
        return _activation(name, args, kwargs, name.endswith("_"))
    return None


# ---- closing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Closed:
    """A closing step; ``vectors`` are its weight and bias as nodes or attribute names, ``keepdim`` False where the
    model's result loses the dimensions; ``merged`` wants the spatial dimensions flattened into one."""

    step: object
    value: fx.Node
    vectors: tuple = ()
    keepdim: bool = True
    norm: str | None = None  # target of a batch norm module


def _dims(value, count) -> tuple[int, ...] | None:
    value = (value,) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else None
    if value is None or not all(isinstance(d, int) for d in value):
        return None
    return tuple(sorted(d % count for d in value))


def _box(value, rank) -> tuple[int, ...] | None:
    value = (value,) * rank if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else None
    if value is None or len(value) not in (1, rank) or not all(isinstance(v, int) for v in value):
        return None
    return value * rank if len(value) == 1 else value


def _pool(average, rank, kernel, stride=None, padding=0, count_include_pad=True) -> Pool | None:
    boxes = [_box(v, rank) for v in (kernel, kernel if stride is None else stride, padding)]
    return None if None in boxes else Pool(average, *boxes, count_include_pad)


_REDUCTIONS = {
    "sum": (torch.sum, "sum"), "mean": (torch.mean, "mean"), "max": (torch.amax, "amax"),
    "min": (torch.amin, "amin"), "logsumexp": (torch.logsumexp, "logsumexp"),
}  # fmt: skip
_REDUCTION_OF = {target: kind for kind, targets in _REDUCTIONS.items() for target in targets}
_EXTREMES = {torch.max: "max", "max": "max", torch.min: "min", "min": "min"}


def _names(args, kwargs, names):
    """Positional and keyword arguments after the value, by name; None where one has no name here."""
    values = dict(zip(names, args[1:], strict=False))
    if len(args) - 1 > len(names) or not set(kwargs) <= set(names):
        return None
    return {**values, **kwargs}


def closing(node: fx.Node, modules: dict, dims: tuple[int, ...], rank: int) -> Closed | None:
    """The node as a closing step on a value whose dimensions are the canonical ``dims``, or None."""
    if node.op == "call_module":
        module = modules.get(node.target)
        if module is None or len(node.args) != 1 or node.kwargs or len(dims) != rank + 2:
            return None
        return _closing_module(node, module, rank)
    target, (args, kwargs) = node.target, _given(node)
    if node.op not in ("call_function", "call_method") or not args or not isinstance(args[0], fx.Node):
        return None
    value, count = args[0], len(dims)
    if target in (operator.getitem, getattr):  # values of max and min along a dimension
        inner = args[0]
        wanted = 0 if target is operator.getitem else "values"
        if args[1] != wanted or inner.op not in ("call_function", "call_method") or inner.target not in _EXTREMES:
            return None
        inner_args, inner_kwargs = _given(inner)
        named = _names(inner_args, inner_kwargs, ("dim", "keepdim"))
        if not named or not isinstance(named.get("dim"), int) or not isinstance(inner_args[0], fx.Node):
            return None
        found = _reduce(_EXTREMES[inner.target], inner_args[0], named["dim"], bool(named.get("keepdim", False)), dims)
        return found and replace(found, step=replace(found.step, indexed=True))
    if target in _REDUCTION_OF:
        named = _names(args, kwargs, ("dim", "keepdim"))
        if named is None or "dim" not in named:
            return None
        return _reduce(_REDUCTION_OF[target], value, named["dim"], bool(named.get("keepdim", False)), dims)
    if target in (torch.softmax, F.softmax, "softmax"):
        named = _names(args, kwargs, ("dim", "_stacklevel", "dtype") if target is F.softmax else ("dim", "dtype"))
        if named is None or named.get("dtype") is not None or not isinstance(named.get("dim"), int):
            return None
        return Closed(Softmax((dims[named["dim"] % count],)), value)
    if count != rank + 2:
        return None
    if target is F.group_norm:
        named = _names(args, kwargs, ("num_groups", "weight", "bias", "eps"))
        if named is None or not isinstance(named.get("num_groups"), int):
            return None
        step = GroupNorm(named["num_groups"], named.get("eps", 1e-5))
        return Closed(step, value, (named.get("weight"), named.get("bias")))
    if target is F.layer_norm:
        named = _names(args, kwargs, ("normalized_shape", "weight", "bias", "eps"))
        sizes = None if named is None else named["normalized_shape"]
        if not isinstance(sizes, (tuple, list)) or not all(isinstance(n, int) for n in sizes) or len(sizes) > rank + 1:
            return None
        step = LayerNorm(tuple(sizes), named.get("eps", 1e-5))
        return Closed(step, value, (named.get("weight"), named.get("bias")))
    if target in (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d):
        named = _names(
            args, kwargs, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        )
        if named is None or named.get("ceil_mode") or named.get("divisor_override"):
            return None
        step = _pool(True, rank, named["kernel_size"], named.get("stride"), named.get("padding", 0),
                     named.get("count_include_pad", True))  # fmt: skip
        return None if step is None else Closed(step, value)
    if target in (F.max_pool1d, F.max_pool2d, F.max_pool3d):
        named = _names(args, kwargs, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"))
        if named is None or named.get("ceil_mode") or named.get("return_indices") or named.get("dilation", 1) != 1:
            return None
        step = _pool(False, rank, named["kernel_size"], named.get("stride"), named.get("padding", 0))
        return None if step is None else Closed(step, value)
    if target in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d):
        if _box(args[1] if len(args) > 1 else kwargs.get("output_size"), rank) != (1,) * rank:
            return None
        return Closed(Reduce("mean", tuple(range(2, rank + 2))), value)
    return None


def _reduce(kind, value, dim, keepdim, dims) -> Closed | None:
    positions = _dims(dim, len(dims))
    if not positions:
        return None
    over = tuple(dims[p] for p in positions)
    if 0 in over or over != tuple(range(over[0], over[-1] + 1)):
        return None
    return Closed(Reduce(kind, over), value, keepdim=keepdim)


def _vector(module, target, name):
    return f"{target}.{name}" if getattr(module, name, None) is not None else None


def _closing_module(node, module, rank) -> Closed | None:
    kind, value, target = type(module), node.args[0], node.target
    if kind.__name__[-2:] in ("1d", "2d", "3d") and int(kind.__name__[-2]) != rank:
        return None  # torch's raises
    vectors = (_vector(module, target, "weight"), _vector(module, target, "bias"))
    if kind is torch_nn.GroupNorm:
        return Closed(GroupNorm(module.num_groups, module.eps), value, vectors)
    if kind in (torch_nn.InstanceNorm1d, torch_nn.InstanceNorm2d, torch_nn.InstanceNorm3d):
        return None if module.track_running_stats else Closed(GroupNorm(0, module.eps), value, vectors)
    if kind is torch_nn.LayerNorm:
        if len(module.normalized_shape) > rank + 1:
            return None
        return Closed(LayerNorm(tuple(module.normalized_shape), module.eps), value, vectors)
    if kind in (torch_nn.BatchNorm1d, torch_nn.BatchNorm2d, torch_nn.BatchNorm3d):
        return Closed(BatchNorm(module.eps), value, norm=target) if module.eps > 0 else None
    if kind in (torch_nn.AvgPool1d, torch_nn.AvgPool2d, torch_nn.AvgPool3d):
        if module.ceil_mode or getattr(module, "divisor_override", None):
            return None
        step = _pool(True, rank, module.kernel_size, module.stride, module.padding, module.count_include_pad)
        return None if step is None else Closed(step, value)
    if kind in (torch_nn.MaxPool1d, torch_nn.MaxPool2d, torch_nn.MaxPool3d):
        if module.ceil_mode or module.return_indices or _box(module.dilation, rank) != (1,) * rank:
            return None
        step = _pool(False, rank, module.kernel_size, module.stride, module.padding)
        return None if step is None else Closed(step, value)
    if kind in (torch_nn.AdaptiveAvgPool1d, torch_nn.AdaptiveAvgPool2d, torch_nn.AdaptiveAvgPool3d):
        if _box(module.output_size, rank) != (1,) * rank:
            return None
        return Closed(Reduce("mean", tuple(range(2, rank + 2))), value)
    if kind is torch_nn.Softmax and isinstance(module.dim, int):
        return Closed(Softmax((module.dim % (rank + 2),)), value)
    if kind is torch_nn.Softmax2d:
        return Closed(Softmax((1,)), value)
    return None


# ---- others ------------------------------------------------------------------------------------------------------

_SHAPE_METHODS = ("size", "dim", "numel", "ndimension", "nelement")


def asks_shape(node: fx.Node) -> bool:
    """Whether a node looks at nothing but its argument's shape."""
    if node.op == "call_method" and node.target in _SHAPE_METHODS:
        return True
    return (
        node.op == "call_function" and node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")
    )


def writes(node: fx.Node, modules: dict) -> bool:
    """Whether a node may change a tensor that it did not make."""
    if node.op == "call_module":
        module = modules.get(node.target)
        if getattr(module, "inplace", False):
            return True
        return module is None or not type(module).__module__.startswith(("torch.nn.", "upconv."))
    if node.kwargs.get("inplace") or node.kwargs.get("out") is not None:
        return True
    if node.op == "call_method":
        return (node.target.endswith("_") and not node.target.endswith("__")) or node.target == "__setitem__"
    if node.op == "call_function":
        name = getattr(node.target, "__name__", "")
        return (
            node.target in _BINARY_INPLACE
            or name in ("setitem", "setattr")
            or (name.endswith("_") and not name.endswith("__"))
        )
    return False
