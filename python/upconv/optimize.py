# upconv.optimize: a model's ConvTranspose modules become upconv's, with the activation after them fused in.
# What is not understood stays as it was, and the report says why.
"""Swapping upconv into a model."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn as torch_nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_map_only

from . import _activations, _fused, _fusion, _ops, _pairs, nn
from ._kept_state import State
from ._report import Report

__all__ = ["optimize"]

_REPLACEMENTS = {
    torch_nn.ConvTranspose1d: nn.ConvTranspose1d,
    torch_nn.ConvTranspose2d: nn.ConvTranspose2d,
    torch_nn.ConvTranspose3d: nn.ConvTranspose3d,
}


def optimize(model: torch_nn.Module, example_inputs=None, *, inplace: bool = False) -> torch_nn.Module:
    """A model that computes what ``model`` computes, with its transposed convolutions run by upconv.

    The result is a copy of the module structure that **shares** the parameters and buffers, has the same
    ``state_dict`` keys, and carries ``upconv_report``: print it to see what was done and what was left, and why.
    What surrounds a ConvTranspose (element-wise steps with scalars and tensors, norms, softmax, reductions, pooling;
    see docs/fusion.md) becomes one operator with it where the code can be traced; a ConvTranspose directly followed by
    an activation module becomes one module in any case. Calls that want gradients run the parts apart, so training is
    unchanged.

    Args:
        model: any ``nn.Module``; it is left alone unless ``inplace``.
        example_inputs: a tensor or a tuple of arguments. With it the pairs to fuse are confirmed by running the
            model once, and the result is compared; a model that would compute something else is returned as it was.
        inplace: swap the modules in ``model`` itself. If the check of the result raises, they are swapped back.

    Raises:
        TypeError: ``model`` is no ``nn.Module``.
    """
    if not isinstance(model, torch_nn.Module):
        raise TypeError(f"optimize(): argument 'model' must be a torch.nn.Module, not {type(model).__name__}")
    report = Report()
    inputs = None
    if example_inputs is not None:
        inputs = tuple(example_inputs) if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    try:
        optimized = model if inplace else _share(model)
    except Exception as error:  # deepcopy runs the model's own code
        report.notes.append(f"the model cannot be copied ({type(error).__name__}: {error}); pass inplace=True")
        for name, module in model.named_modules():
            if isinstance(module, torch_nn.modules.conv._ConvTransposeNd):
                report.add(name, type(module).__name__, "left", "the model cannot be copied")
        model.upconv_report = report
        return model
    expected = None if inputs is None else _run(model, inputs)
    # Of the model as it was: now, where it is about to be changed itself.
    nudged = _run_nudged(model, inputs) if inplace and inputs is not None else None
    chains = _chains(optimized, inputs)
    try:
        _swap(optimized, inputs, report, chains)
        agrees = inputs is None or _agrees(
            expected, _run(optimized, inputs), report, lambda: nudged if inplace else _run_nudged(model, inputs)
        )
    except Exception:
        chains.take_back()
        raise
    if not agrees:
        chains.take_back()
    optimized.upconv_report = report
    return optimized


def _share(model: torch_nn.Module) -> torch_nn.Module:
    """A copy of the structure whose tensors are the model's own."""
    memo = {id(t): t for m in model.modules() for held in (m._parameters, m._buffers, vars(m)) for t in held.values()
            if isinstance(t, torch.Tensor)}  # fmt: skip
    copied = copy.deepcopy(model, memo)
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # its copy is made in C++, which knows of no memo
            other = copied.get_submodule(name)
            for held in (module._parameters, module._buffers):
                for key, tensor in held.items():
                    setattr(other, key, tensor)
    return copied


def _chains(model, inputs) -> _fusion.Outcome:
    """Every chain of _fusion; the model is in the modes that it was in."""
    with _evaluating(model):
        return _fusion.fuse(model, _fresh(inputs))


def _swap(model, inputs, report, chains):
    """Replaces what can be replaced beside the chains, whose ``take_back`` knows of it too."""
    undo = chains.undo
    report.notes += [f"no chain in {what}: {why}" for what, why in chains.left]
    for fused in chains.fused:
        notes = [", ".join(fused.absorbed), f"runs {fused.chain}"]
        if fused.bytes_saved is not None:
            notes.append(f"{fused.bytes_saved / 1e6:.2f} MB less moved with the example inputs")
        if fused.ended:
            notes.append(f"ends because {fused.ended}")
        report.add(fused.convolution, fused.kind, "fused", "with " + "; ".join(notes))
    swapped, reasons = {}, {}
    for name, module in model.named_modules():
        if not isinstance(module, torch_nn.modules.conv._ConvTransposeNd) or name in chains.convolutions:
            continue
        if name in chains.already:
            report.add(name, type(module).__name__, "replaced", "was in a chain of upconv's already")
            continue
        replacement, reason = _replacement(module)
        if replacement is None:
            report.add(name, type(module).__name__, "left", reason)
        else:
            swapped[name] = module
            reasons[name] = reason
            undo.append((setattr, module, "__class__", type(module)))
            module.__class__ = replacement
    fusible = {name for name, module in swapped.items() if type(module) in _fused.ACTIVATED}
    with _evaluating(model):
        pairs, declined = _pairs.find(model, fusible)
        if inputs is not None and pairs:
            declined.update(_pairs.confirm(model, pairs, _fresh(inputs)))
    fused = {}
    for pair in pairs:
        if pair.convolution not in declined:
            fused[pair.convolution] = _fuse(model, pair, undo)
    for name, module in swapped.items():
        kind = next(c.__name__ for c in type(module).__mro__ if c in _REPLACEMENTS)
        if name in fused:
            report.add(name, kind, "fused", f"with {fused[name]}")
        else:
            notes = [reasons[name], f"not fused: {declined[name]}" if name in declined else ""]
            report.add(name, kind, "replaced", "; ".join(n for n in notes if n))
    report.rows.sort(key=lambda row: row.name)


def _replacement(module) -> tuple[type | None, str]:
    """The class to put in, or None and the reason."""
    kind = type(module)
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return kind, "was upconv's already"
    parametrized = (
        parametrize.is_parametrized(module) and len(kind.__bases__) == 1 and kind.__bases__[0] in _REPLACEMENTS
    )
    if kind not in _REPLACEMENTS and not parametrized:
        return None, f"{kind.__name__} is not torch.nn's own class and may compute something else"
    if "forward" in vars(module):
        return None, "its forward was replaced on the instance"
    tensors = [*module.parameters(), *module.buffers()]
    for tensor in tensors:
        if isinstance(tensor, torch_nn.parameter.UninitializedTensorMixin):
            return None, "its parameters are not initialised yet"
        if tensor.device.type not in ("cpu", "cuda", "meta"):
            return None, f"its parameters are on {tensor.device}, and upconv has no engine for that yet"
        if tensor.dtype not in _ops.DTYPES:
            return None, f"its parameters are {tensor.dtype}"
    if parametrized:
        members = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
        return type(kind.__name__, (_REPLACEMENTS[kind.__bases__[0]],), members), "parametrized"
    return _REPLACEMENTS[kind], ""


def _fuse(model, pair, undo) -> str:
    convolution = model.get_submodule(pair.convolution)
    activation = model.get_submodule(pair.activation)
    parent_name, _, child = pair.activation.rpartition(".")
    parent = model.get_submodule(parent_name)
    undo.append((setattr, convolution, "__class__", type(convolution)))
    undo.append((parent._modules.__setitem__, child, activation))
    convolution.__class__ = _fused.ACTIVATED[type(convolution)]
    convolution.epilogue = _activations.step_of(activation)
    convolution.activation = repr(activation)
    parent._modules[child] = _fused.Absorbed(repr(activation), pair.convolution)
    return f"{activation!r} ({pair.activation})"


class _evaluating:
    """Every module in eval mode; afterwards modes, buffers and random state as they were."""

    def __init__(self, model):
        self.model = model

    def __enter__(self):
        self.modes = [(module, module.training) for module in self.model.modules()]
        self.state = State(self.model)
        self.random = torch.random.get_rng_state()
        self.cuda_random = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        self.model.eval()

    def __exit__(self, *exception):
        torch.random.set_rng_state(self.random)
        if self.cuda_random:
            torch.cuda.set_rng_state_all(self.cuda_random)
        for module, mode in self.modes:
            module.training = mode
        self.state.restore_tensors()  # a forward may count its calls


def _run(model, inputs):
    with _evaluating(model), torch.no_grad():
        return model(*_fresh(inputs))


def _fresh(inputs):
    """The same inputs in memory of their own: a forward may write to them."""
    return tree_map_only(torch.Tensor, lambda t: t.detach().clone(), inputs)


def _run_nudged(model, inputs):
    """The results for inputs whose last digits differ; None where the model does not take those."""

    def nudge(t):
        if not (t.is_floating_point() or t.is_complex()):
            return t
        # On CUDA, torch may round to TF32 first.
        step = 2.0**-11 if t.is_cuda and t.dtype == torch.float32 else 4 * torch.finfo(t.dtype).eps
        thirds = torch.arange(t.numel(), device=t.device).reshape(t.shape) % 3 / 3
        return t * (1 - step * thirds.double()).to(t.dtype)  # towards 0: what has to lie in [0, 1] still does

    try:
        return _run(model, tree_map_only(torch.Tensor, nudge, inputs))
    except Exception:  # the model's own code
        return None


#: How much more than by nudged inputs a result may change: roundings are many, and one nudge is one sample of them.
_ROUNDINGS = 8  # 3 were seen


def _agrees(expected, actual, report, nudged=lambda: None) -> bool:
    """Compares every tensor of two results: floating-point ones within what rounding may do, not a number where the
    other is none; others must be equal. ``nudged`` gives the first result for inputs whose last digits differ: where
    values are what is left of larger ones (a mean that was subtracted before), that is what rounding does."""
    pairs = list(zip(_tensors(expected), _tensors(actual), strict=True))
    for a, b in pairs:
        if a.shape != b.shape or a.dtype != b.dtype:
            report.rows.clear()
            report.notes.append(
                f"returned as it was: a result of {tuple(a.shape)} {a.dtype} became {tuple(b.shape)} {b.dtype}"
            )
            return False
    differences = [_difference(a, b) for a, b in pairs]
    worst = max(differences, default=0.0)
    allowed = max((_allowed(a) for a, _ in pairs), default=0.0)
    note = ""
    if not worst <= allowed:
        others = _tensors(nudged())
        if [c.shape for c in others] == [a.shape for a, _ in pairs]:
            rounding = [_ROUNDINGS * _difference(a, c) for (a, _), c in zip(pairs, others, strict=True)]
        else:
            rounding = [0.0] * len(pairs)
        if not all(d <= allowed or d <= r < math.inf for d, r in zip(differences, rounding, strict=True)):
            report.rows.clear()
            report.notes.append(f"returned as it was: with the example inputs the result differed by {worst:.1e}")
            return False
        note = ", which is what the last digits of the inputs make of it too"
    report.notes.append(f"checked with the example inputs: largest difference {worst:.1e} of the largest value{note}")
    return True


def _difference(a, b) -> float:
    """The largest difference of two tensors, of the largest value; infinite where one has a value and the other none,
    or where they do not round and differ."""
    if not a.numel():
        return 0.0
    if not (a.is_floating_point() or a.is_complex()):
        return 0.0 if torch.equal(a, b) else math.inf
    if a.is_complex():
        a, b = torch.view_as_real(a), torch.view_as_real(b)
    a, b = a.double(), b.double()
    same = torch.isclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)
    if same.all():
        return 0.0
    if not torch.equal(a.isfinite() | same, b.isfinite() | same):
        return math.inf
    finite = a[a.isfinite()]
    scale = finite.abs().max().item() if finite.numel() else 1.0
    off = torch.where(same, 0.0, (a - b).abs() / max(scale, 1e-30))
    return math.inf if off.isnan().any() else off.max().item()


def _allowed(tensor) -> float:
    if tensor.dtype not in (torch.float32, torch.float64, torch.complex64, torch.complex128):
        return 3e-2
    # On CUDA, torch may round to TF32 where upconv does not, or the other way round.
    return 2e-3 if tensor.is_cuda and tensor.dtype == torch.float32 else 1e-4


def _tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _tensors(v)]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _tensors(v)]
    return []
