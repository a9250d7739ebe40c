# The class of an owner whose forward was rewritten: what it runs, when it leaves that alone and runs the model's own
# code, how it is copied and pickled. Made by _fusion.
"""A class with another forward.

Nothing is registered with the module: the chains, and what the rewritten forward takes for granted (``upconv_seen``),
are plain entries of the instance's ``__dict__``, so that the model has the children that it had.
"""

from __future__ import annotations

import functools
import importlib
import types
from dataclasses import dataclass

import torch
from torch import fx
from torch import nn as torch_nn

#: Attributes of modules that chains read at each call.
LIVE = ("training", "momentum", "track_running_stats")
#: Plain values that code may take from an attribute: what is compared before each call.
_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device)


@dataclass(frozen=True)
class Function:
    """Generated code: ``source`` defines "forward", which becomes the attribute ``name``."""

    name: str
    source: str
    scope: dict

    @classmethod
    def of(cls, name: str, graph: fx.Graph) -> Function:
        graph.owning_module = None  # the attributes it names are the owner's
        graph.lint()
        code = graph.python_code("self")
        return cls(name, code.src, dict(code.globals))

    def compiled(self, where: str) -> types.FunctionType:
        names = dict(self.scope)
        exec(compile(self.source, f"<upconv: {where}>", "exec"), names)
        return names["forward"]

    def packed(self) -> tuple:
        """For a pickle: globals that are modules by their names."""
        scope = {k: ("module", v.__name__) if isinstance(v, types.ModuleType) else ("value", v)
                 for k, v in self.scope.items()}  # fmt: skip
        return self.name, self.source, scope

    @classmethod
    def unpacked(cls, name: str, source: str, scope: dict) -> Function:
        return cls(name, source, {k: importlib.import_module(v) if how == "module" else v
                                  for k, (how, v) in scope.items()})  # fmt: skip


def objection(kind: type) -> str | None:
    """Why instances of ``kind`` cannot be given another class."""
    if kind.__reduce__ is not object.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return f"{kind.__name__} has a way of its own to be pickled"
    try:
        subclass(kind, [])
    except Exception as error:  # a metaclass may refuse in any way
        return f"{kind.__name__} cannot be derived from ({type(error).__name__}: {error})"
    return None


class _Quiet:
    """Keeps a class from being told of a subclass that is its own, with code of ours."""

    def __init_subclass__(cls, **given):
        pass


def subclass(kind: type, functions: list[Function]) -> type:
    """``kind`` with these functions; the one named "forward" runs while the owner is as it was traced."""
    made = {f.name: f.compiled(kind.__name__) for f in functions}
    rewritten = made.pop("forward", None)

    @functools.wraps(kind.forward)
    def forward(self, *args, **kwargs):
        if as_traced(self):
            return rewritten(self, *args, **kwargs)
        return kind.forward(self, *args, **kwargs)

    def extra_repr(self):
        chains = [str(chain.chain) for chain in chains_of(self).values()]
        return "\n".join(text for text in (kind.extra_repr(self), *chains) if text)

    def __reduce_ex__(self, protocol):
        state = self.__getstate__() if hasattr(self, "__getstate__") else self.__dict__
        return _restored, (kind, [f.packed() for f in functions]), state

    members = {
        **made,
        "forward": forward,
        "extra_repr": extra_repr,
        "upconv_code": "\n".join(f.source for f in functions),
        "upconv_original": kind,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__reduce_ex__": __reduce_ex__,
    }
    return type(kind)(kind.__name__, (_Quiet, kind), members)


def _restored(kind: type, functions: list[tuple]) -> torch_nn.Module:
    """An instance without state, for copy and pickle."""
    made = subclass(kind, [Function.unpacked(*f) for f in functions])
    return made.__new__(made)


def chains_of(owner: torch_nn.Module) -> dict[str, torch_nn.Module]:
    """The chains of an owner by their attribute names."""
    if isinstance(owner, torch.jit.ScriptModule):
        return {}
    return {name: value for name, value in vars(owner).items() if name.startswith("upconv_chain_")}


# ---- what the rewritten forward takes for granted ------------------------------------------------------------------


def seen(owner: torch_nn.Module, absorbed: list[str], opened: list[str], names: set[str]) -> tuple:
    """For ``as_traced``: the modules whose work chains do, the children that were looked into, with what was in them,
    and the plain values that may have been read: the code names ``names``, chains have those of what they absorbed."""
    modules = [(tuple(n.split(".")), owner.get_submodule(n), None) for n in dict.fromkeys(absorbed)]
    for name in dict.fromkeys(["", *opened]):
        module = owner.get_submodule(name)
        if name or isinstance(module, torch_nn.Sequential):
            held = None if name == "" else module  # no module in its own attributes
            modules.append((tuple(name.split(".")) if name else (), held, tuple(module._modules)))
    values, taken = [], set(absorbed)
    for name, module in owner.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for key, value in vars(module).items():
            if key in LIVE or (key.startswith("_") and key not in names):
                continue
            if (key in names or name in taken) and is_plain(value):
                values.append((tuple(name.split(".")) if name else (), key, value))
    return tuple(modules), tuple(values)


def is_plain(value) -> bool:
    return all(map(is_plain, value)) if isinstance(value, tuple) else isinstance(value, _PLAIN)


def as_traced(owner: torch_nn.Module) -> bool:
    """Whether what the rewritten forward takes for granted still holds."""
    granted = getattr(owner, "upconv_seen", None)
    if granted is None:  # a new instance of the class: a slice of a Sequential
        return False
    # Written out: every call of the model asks this.
    for path, module, children in granted[0]:
        found = owner
        for name in path:
            found = found._modules.get(name)
            if found is None:
                return False
        if module is not None:
            if found is not module or "forward" in found.__dict__:
                return False
            if found._forward_hooks or found._forward_pre_hooks or found._backward_hooks or found._backward_pre_hooks:
                return False
        if children is not None and tuple(found._modules) != children:
            return False
    for path, name, value in granted[1]:
        found = owner
        for part in path:
            found = found._modules.get(part)
            if found is None:
                return False
        now = found.__dict__.get(name, _PLAIN)
        if now is not value and now != value:
            return False
    return True
