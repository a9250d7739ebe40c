# Finds each ConvTranspose whose result goes into one activation module and nowhere else. Asked by optimize.
# Every module that owns one is traced by itself (torch.fx, all children opaque), so a model need not be traceable.
"""Pairs (convolution, activation) that can become one module."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn as torch_nn

from . import _activations, _tracing

# Hooks that see or change what passes between the two. (A convolution's forward-pre hooks do not: weight_norm is one.)
_AFTER = ("_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
_ANY = (*_AFTER, "_forward_pre_hooks")


@dataclass(frozen=True)
class Pair:
    convolution: str  # names within the model
    activation: str


def find(model: torch_nn.Module, convolutions: set[str]) -> tuple[list[Pair], dict[str, str]]:
    """The pairs among the named ``convolutions``, and for each convolution that is followed by an activation but
    is no pair, the reason."""
    modules = dict(model.named_modules(remove_duplicate=False))
    uses = Counter(id(module) for module in modules.values())
    pairs, declined = [], {}
    for owner_name, owner in model.named_modules():
        prefix = f"{owner_name}." if owner_name else ""
        names = {name for name, _ in _descendants(owner, prefix) if name in convolutions}
        direct = {name for name in names if not _deeper_owner(modules, owner_name, name)}
        if not direct or isinstance(owner, (torch_nn.ModuleList, torch_nn.ModuleDict)):
            continue
        graph, reason = _tracing.trace(owner)
        if graph is None:
            declined.update(dict.fromkeys(direct, reason))
            continue
        for node, follower in _followed(graph, prefix, direct):
            pair = Pair(prefix + node.target, prefix + follower.target)
            reason = _objection(pair, graph, node, follower, modules, uses)
            if reason is None:
                pairs.append(pair)
            else:
                declined[pair.convolution] = reason
    return pairs, declined


def _descendants(owner, prefix):
    return ((prefix + name, module) for name, module in owner.named_modules(remove_duplicate=False) if name)


def _deeper_owner(modules, owner_name, name) -> bool:
    """Whether a module between the owner and ``name`` has a forward of its own that calls it."""
    while "." in name:
        name = name.rpartition(".")[0]
        if name == owner_name:
            return False
        if not isinstance(modules[name], (torch_nn.ModuleList, torch_nn.ModuleDict)):
            return True
    return owner_name != ""


def _followed(graph, prefix, convolutions):
    """(convolution, activation) nodes where the activation is a module that reads the convolution's result."""
    for node in graph.nodes:
        if node.op == "call_module" and prefix + node.target in convolutions:
            for user in node.users:
                if user.op == "call_module":
                    yield node, user
                    break


def _objection(pair, graph, node, follower, modules, uses) -> str | None:
    convolution, activation = modules[pair.convolution], modules[pair.activation]
    name = type(activation).__name__
    if _activations.step_of(activation) is None:
        return f"followed by {name}, which is no fused activation"
    if len(node.users) != 1 or len(follower.args) != 1 or follower.kwargs:
        return f"its result is used beside {name}"
    calls = Counter(n.target for n in graph.nodes if n.op == "call_module")
    for module, target, hooks in ((convolution, node.target, _AFTER), (activation, follower.target, _ANY)):
        if uses[id(module)] != 1 or calls[target] != 1:
            return f"{type(module).__name__} is used in more than one place"
        if any(getattr(module, name, None) for name in hooks):
            return f"{type(module).__name__} has hooks"
        if "forward" in vars(module):
            return f"the forward of {type(module).__name__} was replaced on the instance"
    return None


def confirm(model: torch_nn.Module, pairs: list[Pair], inputs: tuple) -> dict[str, str]:
    """Runs the model as it is and returns, for each pair that did not behave as traced, what happened instead."""
    wrong, pending, handles = {}, {}, []

    def after_convolution(pair):
        def hook(module, args, output):
            pending[pair] = output

        return hook

    def before_activation(pair):
        def hook(module, args):
            if pending.pop(pair, None) is not args[0]:
                wrong[pair.convolution] = "with the example inputs its activation got another tensor"

        return hook

    for pair in pairs:
        handles.append(model.get_submodule(pair.convolution).register_forward_hook(after_convolution(pair)))
        handles.append(model.get_submodule(pair.activation).register_forward_pre_hook(before_activation(pair)))
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    for pair in pending:
        wrong[pair.convolution] = "with the example inputs its activation was not called"
    return wrong
