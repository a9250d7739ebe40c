# The graph of one module's own forward, if that graph is what every call does. Asked by _fusion and _pairs.
# Tracing runs the user's code on placeholders: it is refused where something of that would be lost, and leaves nothing.
"""Tracing an owner, or the reason why its trace would not hold."""

from __future__ import annotations

import torch
from torch import fx
from torch import nn as torch_nn

from . import _straight_line
from ._kept_state import CONSTANT, State
from ._rewritten import LIVE, is_plain

#: (the owner's mode, that of all below it) of each trace. A graph holds for every mode if it is the same in all four.
_MODES = ((False, False), (True, True), (True, False), (False, True))


class OneLevel(fx.Tracer):
    """Every child is one call; buffers are read when the graph runs."""

    proxy_buffer_attributes = True

    def is_leaf_module(self, module, name):
        return True


class SeeThroughSequential(OneLevel):
    """Every child but a plain nn.Sequential is one call."""

    def __init__(self):
        super().__init__()
        self.opened: list[str] = []  # names of those that were looked into

    def is_leaf_module(self, module, name):
        if type(module) is not torch_nn.Sequential or "forward" in vars(module) or hooked(module):
            return True
        self.opened.append(name)
        return False


_HOOKS = ("_forward_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_pre_hooks")


def hooked(module) -> bool:
    return any(getattr(module, name, None) for name in _HOOKS)


def trace(owner: torch_nn.Module, make=OneLevel) -> tuple[fx.Graph | None, str]:
    """(graph, "") or (None, why not). The graph's ``upconv_names`` are what the forward's code names, its
    ``upconv_opened`` the children that were looked into."""
    if isinstance(owner, torch.jit.ScriptModule):
        return None, "its owner is TorchScript's"
    if isinstance(owner, fx.GraphModule):
        return None, "its owner is a torch.fx.GraphModule, whose forward belongs to its graph"
    if "forward" in vars(owner):
        return None, "the forward of its owner was replaced on the instance"
    rewritten = type(owner)
    kind = getattr(rewritten, "upconv_original", rewritten)
    known = _known(kind.forward, owner)
    why = _straight_line.obstacle(kind.forward, kind, known)
    if why:
        return None, why
    state = State(owner)
    watch = _straight_line.Watch(state.hold_container)
    modes = [(m, m.training) for m in owner.modules() if not isinstance(m, torch.jit.ScriptModule)]
    graphs, why = [], ""
    owner.__class__ = kind
    try:
        for own, others in _MODES:
            for module, _ in modes:
                module.training = own if module is owner else others
            tracer = make()
            with watch:
                graphs.append(tracer.trace(owner))
    except Exception as error:  # tracing runs the user's code, which may raise anything
        why = f"torch.fx cannot trace its owner ({type(error).__name__})"
    finally:
        owner.__class__ = rewritten
        for module, mode in modes:
            module.training = mode
        changed = state.restore()
    why = watch.obstacle(known) or _lost(changed) or why
    if not why and any(not same(graphs[0], graph) for graph in graphs[1:]):
        why = "its forward does something else in training than in evaluation, or at every call"
    if not why and watch.branches() and (child := _gives_none(owner, graphs[0])):
        why = f"its forward branches, and {child} may give None"
    if why:
        return None, why
    graphs[0].upconv_names = watch.names()
    graphs[0].upconv_opened = getattr(tracer, "opened", [])
    return graphs[0], ""


def _gives_none(owner: torch_nn.Module, graph: fx.Graph) -> str:
    """A child that may give no value, which a placeholder is not: a condition may ask for that."""
    called = (node.target for node in graph.nodes if node.op == "call_module")
    return next((n for n in called if _straight_line.gives_none(type(owner.get_submodule(n)).forward)), "")


def _known(forward, owner: torch_nn.Module) -> _straight_line.Known:
    """What conditions in its forward may ask of an owner: what as_traced() compares before each call."""
    plain = (name for name, value in vars(owner).items() if is_plain(value) and name not in LIVE)
    code = getattr(forward, "__code__", None)
    return _straight_line.Known(code, frozenset(plain), frozenset(owner._modules))


def _lost(changed: list[str]) -> str:
    """Why what a trace changed would be missing when its graph runs."""
    if any(name.startswith(CONSTANT) for name in changed):
        return "its forward makes a tensor that a trace would freeze"
    return f"its forward keeps state in '{changed[0]}'" if changed else ""


def same(a: fx.Graph, b: fx.Graph) -> bool:
    """Whether two graphs are the same calls on the same values."""
    if len(a.nodes) != len(b.nodes):
        return False
    numbers_a, numbers_b = ({n: i for i, n in enumerate(g.nodes)} for g in (a, b))
    for left, right in zip(a.nodes, b.nodes, strict=True):
        if left.op != right.op or left.target != right.target:
            return False
        given = [repr(fx.map_arg((n.args, n.kwargs), lambda m, numbers=numbers: f"%{numbers[m]}"))
                 for n, numbers in ((left, numbers_a), (right, numbers_b))]  # fmt: skip
        if given[0] != given[1]:
            return False
    return True
