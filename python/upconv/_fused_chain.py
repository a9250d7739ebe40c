# The module that _fusion puts into a model for a convolution and its surroundings, and the operator under it.
# Where no gradient is wanted the whole chain is one operator; on CUDA with gradients it is one forward and one backward
# (_training_chain); elsewhere its parts run in turn, as torch means them.
"""Running a chain."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn as torch_nn
from torch.autograd import forward_ad

from . import _algebra, _chain, _ops, _precision, _shapes, _training_chain
from ._call import _watched, run, run_epilogue

_operator = torch.ops.upconv._chain.default
_running = torch.ops.upconv._update_running.default
_ops.registrations.impl(_operator, torch.library.fallthrough_kernel, "Autograd")


@torch.library.register_fake("upconv::_update_running")
def _(statistics, mean, variance, batches, momentum, count):
    return None


_MOST_SIZES = 64  # for which a chain remembers whether it is meant
_CLOSING = 21  # numbers of a closing step before the steps after it


def shape_after(shape: list, numbers) -> tuple[list, bool]:
    """What the chain makes of the convolution's result shape, and whether it has a batch norm: read off the encoding,
    which is all that tracing sees."""
    rank = len(shape) - 2
    wide = [*shape[:2], *[1] * (3 - rank), *shape[2:]]
    at = 1 + 3 * int(numbers[0])
    at += 1 + 3 * int(numbers[at])
    count, at, normalises = int(numbers[at]), at + 1, False
    for _ in range(count):
        kind, _, first, last = (int(v) for v in numbers[at : at + 4])
        if kind == 0:
            for d in range(first, last + 1):
                wide[d] = 1
        elif kind == 2:
            kernel, stride, padding = (numbers[at + k : at + k + 3] for k in (6, 9, 12))
            for d in range(3):
                wide[d + 2] = (wide[d + 2] + 2 * int(padding[d]) - int(kernel[d])) // int(stride[d]) + 1
        normalises |= kind == 5
        at += _CLOSING
        at += 1 + 3 * int(numbers[at])
    return [*wide[:2], *wide[5 - rank :]], normalises


@torch.library.register_fake("upconv::_chain")
def _(x, w, b, operands, geometry, numbers):
    n = w.dim() - 2
    split = [geometry[i * n : (i + 1) * n] for i in range(4)]
    shape = _shapes.output_shape(x, w, b, *split, geometry[-2])
    result, normalises = shape_after(shape, numbers)
    statistics = torch.empty((2, shape[1] if normalises else 0), dtype=torch.float64, device=x.device)
    return x.new_empty(result), statistics


def _update_running(norm: torch_nn.Module, statistics: torch.Tensor, count: int) -> None:
    """What torch's batch norm does to its running averages: the mean, and the unbiased variance."""
    mean, variance, batches, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    with torch.no_grad():
        if batches is not None and (mean.dtype in (torch.float32, torch.float64) or mean.is_cuda):
            _running(statistics, mean, variance, batches, -1.0 if momentum is None else momentum, count)
            return
        if batches is not None:
            batches.add_(1)
        share = momentum
        if share is None:  # the average of all batches; without their number torch takes nothing in
            share = 0.0 if batches is None else 1.0 / float(batches)
        mean.lerp_(statistics[0].to(mean.dtype), share)
        variance.lerp_((statistics[1] * (count / max(count - 1, 1))).to(variance.dtype), share)


def _of_the_batch(norm: torch_nn.Module | None) -> bool:
    """Whether a batch norm takes the statistics of its batch: in training, and in evaluation where it has no others."""
    return norm is None or norm.training or norm.running_mean is None


def _tracks(norm: torch_nn.Module) -> bool:
    """Whether a batch norm that is given a batch's statistics keeps averages of them."""
    return norm.training and norm.track_running_stats and norm.running_mean is not None


def _fold(norm: torch_nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift of a batch norm in evaluation."""
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


class NotThisChain(Exception):
    """The inputs give the model's code another meaning than the chain has: no batch dimension, or an operand that
    makes its result larger."""


class FusedChain(torch_nn.Module):
    """Forward of a chain: ``(x, weight, bias, *operands)``. It owns no parameter; the model's forward hands them in,
    and with them ``apart``: a function that runs the model's own code for this chain, and its arguments. It is called,
    before anything else has run, where the inputs mean something else than the chain does.

    ``chain`` is the form for training mode. A batch norm in it is ``norm``, whose weight and bias are no operands of
    the model's: they are read from the module. ``bound`` are sizes that the model's code states as numbers: (after how
    many closing steps, dimension, size).
    """

    def __init__(self, chain: _chain.Chain, absorbed: tuple[str, ...] = (), norm=None, vectors=frozenset(), bound=()):
        super().__init__()
        self.vectors = vectors
        self.bound = bound
        self._fitting: dict[tuple, bool] = {}
        norms = (_chain.GroupNorm, _chain.LayerNorm, _chain.BatchNorm)
        self._takes_all_sizes = not bound and not any(isinstance(step, norms) for step in chain.closing)
        self._places = chain.places()
        self._affine = next(
            ((s.weight is not None, s.bias is not None) for s in chain.closing if isinstance(s, _chain.BatchNorm)),
            (False, False),
        )
        self.chain = chain
        self.absorbed = absorbed
        self.precision = "torch"
        self._norm = (norm,)  # in a tuple: not a child of this module
        self._numbers: dict[tuple, tuple[_chain.Chain, list[float]]] = {}
        self._evaluation = _without_batch_norm(chain) if norm is not None else chain
        self._bare = dataclasses.replace(chain, prologue=()) if chain.prologue else chain
        self._bare_evaluation = (
            dataclasses.replace(self._evaluation, prologue=()) if chain.prologue else self._evaluation
        )
        self._shorter = _algebra.without_convolution(chain)
        self._shorter_evaluation = _algebra.without_convolution(self._evaluation)

    def extra_repr(self) -> str:
        return str(self.chain)

    def forward(self, x, weight, bias, *operands, apart=None):
        if self._fits(x, weight, operands):
            return self._fused(x, weight, bias, *operands)
        if apart is None:
            raise NotThisChain
        return apart[0](*apart[1:])

    def _fits(self, x, weight, operands) -> bool:
        """Whether x has a batch dimension, every operand broadcasts where it is read, stated sizes are met, and every
        norm has sizes that torch's takes."""
        if self._takes_all_sizes and not operands:
            return x.dim() == weight.dim()
        norm = self._norm[0]
        if norm is not None and not self._knows(norm, weight.dtype):
            return False
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return self._fits_sizes(x, weight, operands)
        try:
            sizes = (_of_the_batch(norm), x.shape, weight.shape, *[t.shape for t in operands])
        except AttributeError:  # a number in a tensor's place
            return False
        fits = self._fitting.get(sizes)
        if fits is None:
            if len(self._fitting) >= _MOST_SIZES:
                self._fitting.clear()
            fits = self._fitting[sizes] = self._fits_sizes(x, weight, operands)
        return fits

    def _knows(self, norm, dtype) -> bool:
        """Whether a batch norm has what it had, and averages of a kind that the operators keep."""
        weight, bias = self._affine
        if (norm.weight is None) == weight or (norm.bias is None) == bias:
            return False
        mean, variance = norm.running_mean, norm.running_var
        if mean is None or variance is None:
            return mean is variance and norm.num_batches_tracked is None
        kind = mean.dtype
        return kind is variance.dtype and (kind is dtype or (kind is torch.float32 and dtype.itemsize == 2))

    def _fits_sizes(self, x, weight, operands) -> bool:
        dims = weight.dim()
        if x.dim() != dims:
            return False
        shapes = {-1: x.shape}
        shape = shapes[0] = self._layer_shape(x, weight, self.chain.layer)
        for level, step in enumerate(self.chain.closing, 1):
            shape = shapes[level] = step.shape(shape)
        if not all(self._takes(step, shapes[level]) for level, step in enumerate(self.chain.closing)):
            return False
        for t in operands:
            if not isinstance(t, torch.Tensor):
                return False
        for number, level, dropped in self._places:
            if number in self.vectors:
                continue
            t = operands[number]
            if t.dim() > (0 if dropped else dims):
                return False
            over = shapes[level][dims - t.dim() :]
            if any(n != 1 and n != m for n, m in zip(t.shape, over, strict=True)):
                return False
        return all(shapes[level][d] == size for level, d, size in self.bound)

    def _takes(self, step, shape) -> bool:
        """Whether torch's own norm takes a value of this shape: where it raises, or does nothing, it is asked."""
        if isinstance(step, _chain.LayerNorm):
            return tuple(shape[len(shape) - len(step.sizes) :]) == step.sizes
        values = 1  # of space
        for n in shape[2:]:
            values = values * n
        if isinstance(step, _chain.GroupNorm):
            sets = step.groups or shape[1]
            return values != 1 if step.groups == 0 else shape[0] * (shape[1] // sets) * values != 1
        if isinstance(step, _chain.BatchNorm) and _of_the_batch(self._norm[0]):
            return shape[0] * values > 1
        return True

    def _fused(self, x, weight, bias, *operands):
        chain, norm = self.chain, self._norm[0]
        if operands:
            operands = self._aligned(operands, weight.dim())
        own = operands
        if norm is not None:
            training = _of_the_batch(norm)
            if training:
                extra = tuple(t for t in (norm.weight, norm.bias) if t is not None)
            else:
                chain, extra = self._evaluation, _fold(norm)
            operands = (*operands, *extra)
            if not training:
                norm = None
        geometry = (*chain.layer.geometry, _precision.code(self.precision, x))
        if not self._in_one(x, weight, bias, operands):
            if self._trains(x, weight, bias, operands):
                return self._in_training(chain, norm, x, weight, bias, operands, geometry)
            return self._in_parts(x, weight, bias, own, geometry)  # a norm by itself, in the dtype that it has
        shorter = self._shorter if chain is self.chain else self._shorter_evaluation
        if shorter is not None and shorter.holds(x, weight, operands):
            chain, x, weight, geometry = shorter.apply(x, weight, geometry)
        if chain.prologue or chain.closing or chain.epilogue:
            numbers = self._encoded(chain, weight.shape[1] * geometry[-2])
            y, statistics = _operator(x, weight, bias, operands, geometry, numbers)
        else:
            y, statistics = run(chain.layer.rank, x, weight, bias, geometry), None
        if norm is not None and _tracks(norm):
            _update_running(norm, statistics, self._count(x, weight, chain))
        return chain.drop(y)

    def _aligned(self, operands, dims):
        """A norm's vectors flat; other operands with all dimensions, where one dimension alone would mean channels."""
        aligned = []
        for i, t in enumerate(operands):
            own = t.dim()
            if i in self.vectors:
                t = t if own == 1 else t.reshape(-1)
            elif 0 < own < dims:
                t = t[(None,) * (dims - own)]
            aligned.append(t)
        return tuple(aligned)

    def _encoded(self, chain, channels, gradient=False) -> list[float]:
        if torch.compiler.is_compiling():
            return chain.numbers(channels, gradient)
        key = (id(chain), channels, gradient)
        if key not in self._numbers:
            self._numbers[key] = (chain, chain.numbers(channels, gradient))  # the chain, so that its id stays its own
        return self._numbers[key][1]

    def __getstate__(self):
        return {**self.__dict__, "_numbers": {}, "_fitting": {}}  # the keys of the first are of this process

    @staticmethod
    def _layer_shape(x, weight, layer):
        """Sizes of the convolution's result."""
        shape = [x.shape[0], weight.shape[1] * layer.groups]
        for i in range(layer.rank):
            reach = layer.dilation[i] * (weight.shape[i + 2] - 1) + layer.output_padding[i] + 1
            shape.append((x.shape[i + 2] - 1) * layer.stride[i] - 2 * layer.padding[i] + reach)
        return shape

    @classmethod
    def _count(cls, x, weight, chain):
        """Values of a channel that the batch norm sees."""
        shape = cls._layer_shape(x, weight, chain.layer)
        for step in chain.closing:
            if isinstance(step, _chain.BatchNorm):
                break
            shape = step.shape(shape)
        count = shape[0]
        for d in range(2, chain.layer.rank + 2):
            count *= shape[d]
        return count

    def _in_one(self, x, weight, bias, operands) -> bool:
        """Whether one operator may do it all."""
        return not _wants_grad(x, weight, bias, operands) and self._plain(x, weight, bias, operands)

    def _trains(self, x, weight, bias, operands) -> bool:
        """Whether one operator may do it forward and one backward."""
        if x.device.type not in _training_chain.DEVICES or torch.compiler.is_compiling():
            return False
        if any(isinstance(step, _chain.Reduce) and step.indexed for step in self.chain.closing):
            return False  # the kernels share the gradient among equal values
        return _wants_grad(x, weight, bias, operands) and self._plain(x, weight, bias, operands)

    @staticmethod
    def _plain(x, weight, bias, operands) -> bool:
        if x.is_complex() or x.dtype != weight.dtype or (bias is not None and bias.dtype != x.dtype):
            return False
        if any(t.dtype != x.dtype or t.device != x.device for t in operands):
            return False
        if x.device.type not in ("cpu", "cuda"):
            return False
        if _shapes.suggests_channels_last(x) or _shapes.suggests_channels_last(weight):
            return False
        if torch.compiler.is_compiling():
            return not torch.is_autocast_enabled(x.device.type)
        return forward_ad._current_level < 0 and not _watched(x, weight, bias)

    def _in_training(self, chain, norm, x, weight, bias, operands, geometry):
        shorter = self._shorter if chain is self.chain else self._shorter_evaluation
        if chain.prologue:
            x = _chain.apply_steps(chain.prologue, x, operands)
            chain = self._bare if chain is self.chain else self._bare_evaluation
        if shorter is not None and shorter.holds(x, weight, operands):
            chain, x, weight, geometry = shorter.apply(x, weight, geometry)
        if not (chain.closing or chain.epilogue):
            return chain.drop(run(chain.layer.rank, x, weight, bias, geometry))
        numbers = self._encoded(chain, weight.shape[1] * geometry[-2], gradient=True)
        y, statistics = _training_chain.apply(x, weight, bias, geometry, chain, numbers, *operands)
        if norm is not None and _tracks(norm):
            _update_running(norm, statistics, self._count(x, weight, chain))
        return chain.drop(y)

    def _in_parts(self, x, weight, bias, operands, geometry):
        chain, norm, shorter = self.chain, self._norm[0], self._shorter
        if chain.prologue:
            x = _chain.apply_steps(chain.prologue, x, operands)
        if shorter is not None and shorter.holds(x, weight, operands):
            chain, x, weight, geometry = shorter.apply(x, weight, geometry)
        rank = chain.layer.rank
        if chain.epilogue and _scalars_only(chain.epilogue) and not self._differentiated(x, weight, bias, operands):
            numbers = tuple(_chain.steps_numbers(chain.epilogue)[1:])
            y = run_epilogue(rank, x, weight, bias, geometry, numbers)
        else:
            y = _chain.apply_steps(chain.epilogue, run(rank, x, weight, bias, geometry), operands)
        for step in chain.closing:
            if norm is not None and isinstance(step, _chain.BatchNorm):
                y = norm(y)
            else:
                y = step.torch(y, operands)
            y = _chain.apply_steps(step.after, y, operands)
        return chain.drop(y)

    @staticmethod
    def _differentiated(x, weight, bias, operands) -> bool:
        return _wants_grad(x, weight, bias, operands) or x.is_complex() or forward_ad._current_level >= 0


def _scalars_only(steps) -> bool:
    return all(
        not isinstance(step, _chain.Detach) and not isinstance(getattr(step, "other", None), _chain.Operand)
        for step in steps
    )


def _wants_grad(x, weight, bias, operands) -> bool:
    if not torch.is_grad_enabled():
        return False
    return x.requires_grad or weight.requires_grad or any(t is not None and t.requires_grad for t in (bias, *operands))


def _without_batch_norm(chain: _chain.Chain) -> _chain.Chain:
    """In evaluation a batch norm is two steps, whose operands are appended to the chain's."""
    first = len(chain.operands)
    folded = (
        _chain.Arithmetic("multiply", _chain.Operand(first)),
        _chain.Arithmetic("add", _chain.Operand(first + 1)),
    )
    epilogue, closing = chain.epilogue, []
    for step in chain.closing:
        if not isinstance(step, _chain.BatchNorm):
            closing.append(step)
        elif closing:
            closing[-1] = dataclasses.replace(closing[-1], after=(*closing[-1].after, *folded, *step.after))
        else:
            epilogue = (*epilogue, *folded, *step.after)
    return dataclasses.replace(chain, epilogue=epilogue, closing=tuple(closing))
