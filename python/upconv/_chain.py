# What surrounds one transposed convolution, as plain data: the intermediate form between the traced graph (_fusion)
# and what runs it (_fused_chain, and anything that generates code from a model).
"""A :class:`Chain` is (prologue steps, layer, epilogue steps, closing steps, dropped dimensions).

Dimensions are canonical throughout: 0 is the batch, 1 the channels, 2 .. rank + 1 space, whatever was reduced on the
way; ``Chain.dropped`` are those that the model's own result no longer has. Operand tensors are numbered; they broadcast
over the values of the step that reads them and have 0, 1 (channels) or rank + 2 dimensions. Every class knows two
things: ``torch`` (its meaning, in torch's own functions) and ``numbers`` (the encoding that bindings/torch/chain.cpp
reads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F

from . import _activations

# ---- element-wise steps ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scalar:
    value: float


@dataclass(frozen=True)
class Operand:
    number: int


@dataclass(frozen=True)
class Kept:
    number: int  # 0 .. 3


#: upconv::Source
_SOURCE = {Scalar: 0, Operand: 1, Kept: 2}


@dataclass(frozen=True)
class Activate:
    """An activation of ``_activations``: its number and two parameters. ``inclusive``: torch.clamp, hardtanh by its
    values, but its bounds have a gradient."""

    number: int
    a: float = 0.0
    b: float = 0.0
    inclusive: bool = False

    @property
    def name(self) -> str:
        return _activations.NAMES[self.number]


@dataclass(frozen=True)
class Keep:
    """Remembers the value for later steps."""

    number: int


@dataclass(frozen=True)
class Detach:
    """No gradient goes further back from here; the value stays, so the encoding leaves it out."""


@dataclass(frozen=True)
class Arithmetic:
    """``value`` op ``other``; the names are upconv::Arithmetic's."""

    op: str
    other: Scalar | Operand | Kept


Step = Activate | Keep | Detach | Arithmetic

#: In the order of upconv::Arithmetic, from `keep` = 1 on.
ARITHMETIC: dict[str, Callable] = {
    "keep": lambda v, u: v,
    "add": lambda v, u: v + u,
    "subtract": lambda v, u: v - u,
    "reverse_subtract": lambda v, u: u - v,
    "multiply": lambda v, u: v * u,
    "divide": lambda v, u: v / u,
    "reverse_divide": lambda v, u: u / v,
    "minimum": lambda v, u: torch.minimum(v, u) if isinstance(u, torch.Tensor) else v.clamp(max=u),
    "maximum": lambda v, u: torch.maximum(v, u) if isinstance(u, torch.Tensor) else v.clamp(min=u),
    "load": lambda v, u: u,
}
_CODE = {name: 101 + i for i, name in enumerate(ARITHMETIC)}
_DETACH = 101 + len(ARITHMETIC)
MOST_STEPS, MOST_KEPT, MOST_OPERANDS = 24, 4, 16


def _step_numbers(step: Step) -> tuple[float, float, float]:
    if isinstance(step, Activate):
        return (step.number, step.a, step.b)
    if isinstance(step, Keep):
        return (_CODE["keep"], step.number, 0)
    if isinstance(step, Detach):
        return (_DETACH, 0, 0)
    other = step.other
    value = other.value if isinstance(other, Scalar) else other.number
    return (_CODE[step.op], value, _SOURCE[type(other)])


def _with_gradient(step: Step) -> tuple[Step, ...]:
    """What the step is to the operators that know of gradients."""
    if isinstance(step, Activate) and step.inclusive:
        return (Arithmetic("maximum", Scalar(step.a)), Arithmetic("minimum", Scalar(step.b)))
    return (step,)


def length(steps: Sequence[Step]) -> int:
    """How many steps the operators are given, at most."""
    return sum(len(_with_gradient(step)) for step in steps)


def steps_numbers(steps: Sequence[Step], gradient: bool = False) -> list[float]:
    """``gradient``: where gradients stop is part of it."""
    if gradient:
        steps = [each for step in steps for each in _with_gradient(step)]
    else:
        steps = [step for step in steps if not isinstance(step, Detach)]
    return [float(len(steps)), *(float(v) for step in steps for v in _step_numbers(step))]


def apply_steps(steps: Sequence[Step], v: torch.Tensor, operands: Sequence[torch.Tensor]) -> torch.Tensor:
    """The steps as torch's own functions."""
    kept: dict[int, torch.Tensor] = {}
    for step in steps:
        if isinstance(step, Activate) and step.inclusive:
            v = v.clamp(step.a, step.b)
        elif isinstance(step, Activate):
            v = _activations.apply(v, (step.number, step.a, step.b))
        elif isinstance(step, Keep):
            kept[step.number] = v
        elif isinstance(step, Detach):
            v = v.detach()
        elif isinstance(step.other, Scalar):
            v = ARITHMETIC[step.op](v, step.other.value)
        elif isinstance(step.other, Operand):
            v = ARITHMETIC[step.op](v, over(operands[step.other.number], v.dim()))
        else:
            v = ARITHMETIC[step.op](v, kept[step.other.number])
    return v


def over(operand: torch.Tensor, dims: int) -> torch.Tensor:
    """A vector along the channels of a value of ``dims`` dimensions; anything else as it is."""
    return operand.reshape(-1, *[1] * (dims - 2)) if operand.dim() == 1 and dims > 2 else operand


# ---- closing steps -----------------------------------------------------------------------------------------------

_REDUCTIONS: dict[str, Callable] = {
    "sum": lambda v, dims: v.sum(dims, keepdim=True),
    "mean": lambda v, dims: v.mean(dims, keepdim=True),
    "max": lambda v, dims: v.amax(dims, keepdim=True),
    "min": lambda v, dims: v.amin(dims, keepdim=True),
    "logsumexp": lambda v, dims: v.logsumexp(dims, keepdim=True),
}


def _closing_numbers(
    kind, rank, *, reduction=0, dims=(), average=False, padded=True, kernel=(), stride=(), padding=(), groups=1,
    rows=1, eps=1e-5, center=False, weight=None, bias=None,
):  # fmt: skip
    places = [1 if d == 1 else d + 3 - rank for d in dims] or [1]
    # A reduction that covers the first spatial dimension covers the dimensions of size 1 before it as well.
    first = 2 if dims and min(dims) == 2 else min(places)
    boxes = [
        (fill,) * (3 - rank) + tuple(v) if v else (fill,) * 3 for v, fill in ((kernel, 1), (stride, 1), (padding, 0))
    ]
    return [
        kind, reduction, first, max(places), average, padded, *boxes[0], *boxes[1], *boxes[2], groups, rows, eps,
        center,
        -1 if weight is None else weight, -1 if bias is None else bias,
    ]  # fmt: skip


@dataclass(frozen=True)
class Reduce:
    """sum, mean, max, min or logsumexp over neighbouring dimensions, which stay with size 1. ``indexed``: max or min
    over one dimension as torch.max has it, whose gradient goes to one of the largest values, not to all of them."""

    kind: str
    dims: tuple[int, ...]
    after: tuple[Step, ...] = ()
    indexed: bool = False

    def torch(self, v, operands):
        if self.indexed:
            return (torch.max if self.kind == "max" else torch.min)(v, self.dims[0], keepdim=True)[0]
        return _REDUCTIONS[self.kind](v, self.dims)

    def numbers(self, rank):
        return _closing_numbers(0, rank, reduction=list(_REDUCTIONS).index(self.kind), dims=self.dims)

    def shape(self, shape):
        return [1 if d in self.dims else n for d, n in enumerate(shape)]


@dataclass(frozen=True)
class Softmax:
    """Over one dimension, or over neighbouring ones together."""

    dims: tuple[int, ...]
    after: tuple[Step, ...] = ()

    def torch(self, v, operands):
        if len(self.dims) == 1:
            return torch.softmax(v, self.dims[0])
        return torch.softmax(v.flatten(self.dims[0], self.dims[-1]), self.dims[0]).view_as(v)

    def numbers(self, rank):
        return _closing_numbers(1, rank, dims=self.dims)

    def shape(self, shape):
        return shape


@dataclass(frozen=True)
class Pool:
    """Average or maximum in windows, one number a spatial dimension each."""

    average: bool
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    count_include_pad: bool = True
    after: tuple[Step, ...] = ()

    def torch(self, v, operands):
        rank = len(self.kernel)
        if self.average:
            pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
            return pool(v, self.kernel, self.stride, self.padding, False, self.count_include_pad)
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1](v, self.kernel, self.stride, self.padding)

    def numbers(self, rank):
        return _closing_numbers(
            2, rank, average=self.average, padded=self.count_include_pad, kernel=self.kernel, stride=self.stride,
            padding=self.padding,
        )  # fmt: skip

    def shape(self, shape):
        windows = zip(shape[2:], self.kernel, self.stride, self.padding, strict=True)
        return [*shape[:2], *((n + 2 * p - k) // s + 1 for n, k, s, p in windows)]


@dataclass(frozen=True)
class GroupNorm:
    """GroupNorm; InstanceNorm with ``groups`` 0, which stands for one group a channel."""

    groups: int
    eps: float
    weight: int | None = None  # operand numbers
    bias: int | None = None
    after: tuple[Step, ...] = ()

    def torch(self, v, operands):
        weight, bias = (None if i is None else operands[i] for i in (self.weight, self.bias))
        return F.group_norm(v, self.groups or v.shape[1], weight, bias, self.eps)

    def numbers(self, rank, channels=None):
        groups = self.groups or channels
        return _closing_numbers(3, rank, groups=groups, eps=self.eps, weight=self.weight, bias=self.bias)

    def shape(self, shape):
        return shape


@dataclass(frozen=True)
class Center:
    """v - v.mean(over space): no scale."""

    after: tuple[Step, ...] = ()

    def torch(self, v, operands):
        return v - v.mean(tuple(range(2, v.dim())), keepdim=True)

    def numbers(self, rank, channels=None):
        return _closing_numbers(3, rank, groups=channels, center=True)

    def shape(self, shape):
        return shape


@dataclass(frozen=True)
class LayerNorm:
    """Over the last ``len(sizes)`` dimensions; weight and bias are flattened to vectors."""

    sizes: tuple[int, ...]
    eps: float
    weight: int | None = None
    bias: int | None = None
    after: tuple[Step, ...] = ()

    def torch(self, v, operands):
        weight, bias = (None if i is None else operands[i].view(self.sizes) for i in (self.weight, self.bias))
        return F.layer_norm(v, self.sizes, weight, bias, self.eps)

    def numbers(self, rank):
        # Over channels too: every dimension in between has size 1 where the rank is lower than 3.
        rows = 4 if len(self.sizes) > rank else len(self.sizes)
        return _closing_numbers(4, rank, rows=rows, eps=self.eps, weight=self.weight, bias=self.bias)

    def shape(self, shape):
        return shape


@dataclass(frozen=True)
class BatchNorm:
    """BatchNorm with the statistics of this batch; ``torch`` normalises only. What becomes of the running averages is
    the caller's (_fused_chain), in evaluation the caller folds the norm into two arithmetic steps."""

    eps: float
    weight: int | None = None
    bias: int | None = None
    after: tuple[Step, ...] = ()

    def torch(self, v, operands):
        weight, bias = (None if i is None else operands[i] for i in (self.weight, self.bias))
        return F.batch_norm(v, None, None, weight, bias, True, 0.0, self.eps)

    def numbers(self, rank):
        return _closing_numbers(5, rank, eps=self.eps, weight=self.weight, bias=self.bias)

    def shape(self, shape):
        return shape


Closing = Reduce | Softmax | Pool | GroupNorm | Center | LayerNorm | BatchNorm


# ---- the whole ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """The transposed convolution: one number a spatial dimension each."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def rank(self) -> int:
        return len(self.stride)

    @property
    def geometry(self) -> tuple[int, ...]:
        """Without the precision, as _call.run has it."""
        return (*self.stride, *self.padding, *self.output_padding, *self.dilation, self.groups)


@dataclass(frozen=True)
class Chain:
    layer: Layer
    prologue: tuple[Step, ...] = ()
    epilogue: tuple[Step, ...] = ()
    closing: tuple[Closing, ...] = ()
    dropped: tuple[int, ...] = ()  # canonical dimensions that the result no longer has
    operands: tuple[str, ...] = field(default=(), compare=False)  # what each operand is, for people

    @property
    def layer_applies_epilogue(self) -> bool:
        """Whether the convolution's kernel does on CUDA, for results alone (src/plan/cuda_closing.hpp)."""
        return bool(self.epilogue) and not self.closing

    def numbers(self, channels: int, gradient: bool = False) -> list[float]:
        """The encoding of everything but the layer; ``gradient``: for the operators that know of gradients."""
        rank = self.layer.rank
        out = [*steps_numbers(self.prologue, gradient), *steps_numbers(self.epilogue, gradient)]
        out.append(float(len(self.closing)))
        for step in self.closing:
            own = step.numbers(rank, channels) if isinstance(step, (GroupNorm, Center)) else step.numbers(rank)
            out += [float(v) for v in own] + steps_numbers(step.after, gradient)
        return out

    def close(self, y: torch.Tensor, operands: Sequence[torch.Tensor]) -> torch.Tensor:
        """Everything after the convolution, in torch's own functions, all dimensions kept."""
        y = apply_steps(self.epilogue, y, operands)
        for step in self.closing:
            y = apply_steps(step.after, step.torch(y, operands), operands)
        return y

    def _steps(self) -> list[Step]:
        return [s for steps in (self.prologue, self.epilogue, *(c.after for c in self.closing)) for s in steps]

    def read(self) -> list[int]:
        """The numbers of the operands that a step reads, in order."""
        found = {s.other.number for s in self._steps() if isinstance(s, Arithmetic) and isinstance(s.other, Operand)}
        vectors = (getattr(c, name, None) for c in self.closing for name in ("weight", "bias"))
        return sorted(found.union(v for v in vectors if v is not None))

    def places(self) -> tuple[tuple[int, int, bool], ...]:
        """Where operands are read by steps: (number, after how many closing steps or -1 in the prologue, whether the
        model's own value has lost dimensions by then)."""
        lost = {}  # a dimension may be reduced twice: the last reduction is the one that drops it
        for level, closing in enumerate(self.closing, 1):
            if isinstance(closing, Reduce):
                lost |= {d: level for d in closing.dims if d in self.dropped}
        found = {}
        for level, steps in enumerate((self.prologue, self.epilogue, *(c.after for c in self.closing)), -1):
            for step in steps:
                if isinstance(step, Arithmetic) and isinstance(step.other, Operand):
                    found[step.other.number, level, any(last <= level for last in lost.values())] = None
        return tuple(found)

    def renumbered(self, numbers: dict[int, int]) -> Chain:
        """The same with operand ``numbers[i]`` where it has operand i."""

        def steps(old):
            return tuple(
                replace(s, other=Operand(numbers[s.other.number]))
                if isinstance(s, Arithmetic) and isinstance(s.other, Operand)
                else s
                for s in old
            )

        def closing(old):
            vectors = {name: getattr(old, name, None) for name in ("weight", "bias")}
            return replace(old, after=steps(old.after), **{k: numbers[v] for k, v in vectors.items() if v is not None})

        return replace(
            self,
            prologue=steps(self.prologue),
            epilogue=steps(self.epilogue),
            closing=tuple(map(closing, self.closing)),
        )

    def result_shape(self, shape: Sequence[int]) -> list[int]:
        """Of the kept form, from the shape of the convolution's result."""
        shape = list(shape)
        for step in self.closing:
            shape = step.shape(shape)
        return shape

    def drop(self, y: torch.Tensor) -> torch.Tensor:
        """The model's own shape from the kept form."""
        return y.squeeze(self.dropped) if self.dropped else y

    def __str__(self) -> str:
        parts = [describe(self.prologue)] if self.prologue else []
        parts += ["convolution", *([describe(self.epilogue)] if self.epilogue else [])]
        for step in self.closing:
            parts.append(type(step).__name__ + (f" {step.kind}" if isinstance(step, Reduce) else ""))
            parts += [describe(step.after)] if step.after else []
        return ", ".join(parts)


def describe(steps: Sequence[Step]) -> str:
    words = []
    for step in steps:
        if isinstance(step, Activate):
            words.append(step.name)
        elif isinstance(step, Arithmetic):
            other = step.other
            words.append(
                f"{step.op} {other.value:g}"
                if isinstance(other, Scalar)
                else f"{step.op} {type(other).__name__.lower()} {other.number}"
            )
    return ", ".join(words)
