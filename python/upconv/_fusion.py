# The pass: finds, in the forward of each module that owns transposed convolutions, the chain around every one of them,
# and gives the owner a forward in which each chain is one module. Called by optimize before it swaps single modules.
"""Chains in a model's own code.

An owner is traced by itself (torch.fx; nested nn.Sequential are seen through, other children stay opaque), so a model
need not be traceable as a whole. Its class becomes a subclass of the same name whose forward is the rewritten graph
(_rewritten); parameters, submodules and state_dict stay where they are.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field, replace

import torch
from torch import fx
from torch import nn as torch_nn

from . import _nodes, _ops, _rewritten, _tracing, nn
from ._chain import (
    MOST_KEPT,
    MOST_OPERANDS,
    MOST_STEPS,
    Activate,
    Arithmetic,
    BatchNorm,
    Center,
    Chain,
    Detach,
    GroupNorm,
    Keep,
    Kept,
    Layer,
    LayerNorm,
    Operand,
    Reduce,
    Scalar,
    Softmax,
    length,
)  # fmt: skip
from ._fused_chain import FusedChain
from ._tracing import hooked as _hooked

_CLASSES = {
    torch_nn.ConvTranspose1d: 1, torch_nn.ConvTranspose2d: 2, torch_nn.ConvTranspose3d: 3,
    nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3,
}  # fmt: skip
_FUNCTIONS = {
    torch.conv_transpose1d: 1, torch.conv_transpose2d: 2, torch.conv_transpose3d: 3,
    torch.nn.functional.conv_transpose1d: 1, torch.nn.functional.conv_transpose2d: 2,
    torch.nn.functional.conv_transpose3d: 3,
}  # fmt: skip
#: Where a step in front of the layer is worth being part of it: what decoders put there.
_PROLOGUES = (0, 1, 2, 13)


@dataclass
class Fused:
    """One chain that was put in, for the report."""

    convolution: str  # name in the model, or "owner: conv_transpose2d"
    kind: str
    chain: Chain
    absorbed: list[str]
    bytes_saved: int | None
    ended: str  # why the chain is no longer


@dataclass
class Outcome:
    fused: list[Fused] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)  # (owner or convolution, why)
    already: set[str] = field(default_factory=set)  # convolutions that an earlier pass put into a chain
    undo: list[tuple] = field(default_factory=list)
    exporting: bool = False  # the model lies on torch's meta device, and every activation is a chain's

    def take_back(self) -> None:
        for action, *arguments in reversed(self.undo):
            action(*arguments)

    @property
    def convolutions(self) -> set[str]:
        return {f.convolution for f in self.fused}


def fuse(model: torch_nn.Module, inputs: tuple | None, exporting: bool = False) -> Outcome:
    """Rewrites the owners in ``model``; ``inputs`` (of the model) give shapes where there are any."""
    outcome = Outcome(exporting=exporting)
    handled: set[int] = set()
    owners = [(name, m) for name, m in model.named_modules() if _owns(m)]
    calls = _arguments_of(model, [m for _, m in owners], inputs) if inputs is not None else {}
    for name, owner in owners:
        convolutions = {id(c) for c in _reachable(owner)}
        chains = _rewritten.chains_of(owner).values()
        if chains:
            handled |= convolutions
            outcome.already |= {f"{name}.{c.convolution}" if name else c.convolution for c in chains}
        if chains or (convolutions and convolutions <= handled):
            continue
        graph, why = _trace(owner)
        if graph is None:
            outcome.left.append((name or "(model)", why))
            continue
        handled |= convolutions
        try:
            _rewrite(name, owner, graph, calls.get(id(owner)), outcome)
        except Exception:
            outcome.take_back()
            raise
    return outcome


def _owns(module) -> bool:
    if type(module) in _CLASSES:
        return False
    if isinstance(module, (torch_nn.ModuleList, torch_nn.ModuleDict, torch.jit.ScriptModule)):
        return False
    if next(_reachable(module), None) is not None:
        return True
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and any(name.startswith("conv_transpose") for name in code.co_names)


def _reachable(owner):
    """Convolutions that the owner's own forward may call."""
    for child in owner.children():
        if type(child) in _CLASSES:
            yield child
        elif isinstance(child, (torch_nn.ModuleList, torch_nn.ModuleDict)) or type(child) is torch_nn.Sequential:
            yield from _reachable(child)


def _trace(owner):
    if _hooked(owner):
        return None, "its owner has hooks"
    graph, why = _tracing.trace(owner, _tracing.SeeThroughSequential)
    why = why or _rewritten.objection(type(owner))
    return (None, why) if why else (graph, "")


def _arguments_of(model, owners, inputs):
    """The first call of every owner when the model runs on the example inputs."""
    calls, handles = {}, []

    def remember(module, args, kwargs):
        calls.setdefault(id(module), (args, kwargs))

    for owner in owners:
        handles.append(owner.register_forward_pre_hook(remember, with_kwargs=True))
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


class _Shapes(fx.Interpreter):
    """Runs a graph and writes on every node the shape of what it gave."""

    def run_node(self, node):
        result = super().run_node(node)
        if isinstance(result, torch.Tensor):
            node.meta["shape"] = tuple(result.shape)
            node.meta["bytes"] = result.numel() * result.element_size()
        return result


def _bound(graph, args, kwargs) -> list:
    """A value for every placeholder from one call's arguments, defaults included."""
    values, given = [], list(args)
    for node in graph.nodes:
        if node.op != "placeholder":
            continue
        if node.target.startswith("*"):
            values += given
            given = []
        elif given:
            values.append(given.pop(0))
        else:
            values.append(kwargs[node.target] if node.target in kwargs else node.args[0])
    return values


def _sizes_without_inputs(graph, owner):
    """Writes the shape on every node that is made of parameters and buffers alone."""
    known = {}
    for node in graph.nodes:
        if node.op == "get_attr":
            value = owner
            for part in node.target.split("."):
                value = getattr(value, part)
            if isinstance(value, torch.Tensor):
                known[node] = value.detach().to("meta")
        elif node.op in ("call_function", "call_method") and node.all_input_nodes:
            if not all(n in known for n in node.all_input_nodes):
                continue
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            try:
                with torch.no_grad():
                    known[node] = (
                        getattr(args[0], node.target)(*args[1:], **kwargs)
                        if node.op == "call_method"
                        else node.target(*args, **kwargs)
                    )
            except Exception:  # no such operation on meta tensors: its shape stays unknown
                continue
            if isinstance(known[node], torch.Tensor):
                node.meta["shape"] = tuple(known[node].shape)


def _rewrite(name, owner, graph, call, outcome):
    modules = dict(owner.named_modules(remove_duplicate=False))
    if call is not None:
        try:
            with torch.no_grad():
                _Shapes(fx.GraphModule(owner, graph)).run(*_bound(graph, *call))
        except Exception as error:  # the user's code on the user's inputs
            outcome.left.append((name or "(model)", f"its trace does not run ({type(error).__name__})"))
            return
    else:
        _sizes_without_inputs(graph, owner)
    prefix = f"{name}." if name else ""
    uses = Counter(n.target for n in graph.nodes if n.op == "call_module")
    added, functions, absorbed = {}, [], []
    for node in list(graph.nodes):
        layer = _layer_of(node, modules, outcome.exporting)
        if layer is None:
            continue
        what = prefix + node.target if node.op == "call_module" else f"{name or '(model)'}: {node.target.__name__}"
        if node.op == "call_module" and uses[node.target] > 1:
            continue  # _pairs says so
        finder = _Finder(graph, modules, node, layer, pairs=not outcome.exporting)
        found = finder.find()
        if found is None:
            if finder.ended:
                outcome.left.append((what, finder.ended))
            continue
        module, call_args, end = found
        key = f"upconv_chain_{len(added)}"
        while hasattr(owner, key):
            key += "_"
        added[key] = module
        absorbed += [n.target for n in finder.inside if n.op == "call_module"]
        given = {}
        if not outcome.exporting:
            function = key.replace("chain", "apart")
            own, inputs = _apart(graph, finder.inside, end)
            functions.append(_rewritten.Function.of(function, own))
            with graph.inserting_after(end):
                call_args.append(graph.create_node("get_attr", function))
            call_args[-1].meta["new"] = True
            given["apart"] = (call_args.pop(), *inputs)
        with graph.inserting_after(end):
            fused = graph.create_node("call_module", key, tuple(call_args), given)
        fused.meta.update({k: end.meta[k] for k in ("shape", "bytes") if k in end.meta})
        end.replace_all_uses_with(fused, delete_user_cb=lambda user, fused=fused: user is not fused)
        # get_attr nodes have to stand before the module.
        for argument in fused.all_input_nodes:
            if argument.op == "get_attr" and argument.meta.get("new"):
                fused.prepend(argument)
        _erase_dead(graph)
        modules[key] = module
        kind = type(modules[node.target]).__name__ if node.op == "call_module" else node.target.__name__
        outcome.fused.append(Fused(what, kind, module.chain, list(module.absorbed), finder.saved(), finder.ended))
    if not added:
        return
    functions.insert(0, _rewritten.Function.of("forward", graph))
    granted = _rewritten.seen(owner, absorbed, graph.upconv_opened, graph.upconv_names)
    kind = _rewritten.subclass(type(owner), functions)
    for key, value in (*added.items(), ("upconv_seen", granted)):
        owner.__dict__[key] = value  # not among its modules: the model has the children that it had
        outcome.undo.append((owner.__dict__.pop, key))
    outcome.undo.append((setattr, owner, "__class__", type(owner)))
    owner.__class__ = kind


def _apart(graph, inside, end) -> tuple[fx.Graph, list[fx.Node]]:
    """The model's own code for a chain as a graph of its own, and the nodes that it is called with."""
    made_of_it = set(inside)
    for node in graph.nodes:
        if any(n in made_of_it for n in node.all_input_nodes):
            made_of_it.add(node)

    def own(node) -> bool:
        return node in made_of_it or node.op == "get_attr" or _asks_size(node)

    needed, stack = set(), [end]
    while stack:
        node = stack.pop()
        if node not in needed:
            needed.add(node)
            stack += node.all_input_nodes if own(node) else []
    made, copies, inputs = fx.Graph(), {}, []
    for node in [n for n in graph.nodes if n in needed and not own(n)]:
        copies[node] = made.placeholder(node.name)
        inputs.append(node)
    for node in [n for n in graph.nodes if n in needed and own(n)]:
        copies[node] = made.node_copy(node, copies.__getitem__)
    made.output(copies[end])
    return made, inputs


def _asks_size(node) -> bool:
    """A shape, or a part of one."""
    if node.op == "call_function" and node.target is operator.getitem:
        return isinstance(node.args[0], fx.Node) and _asks_size(node.args[0])
    return _nodes.asks_shape(node)


def _erase_dead(graph):
    """What was absorbed, and shape questions and attribute reads that nobody asks for any more."""
    for node in reversed(list(graph.nodes)):
        if node.users or node.op in ("placeholder", "output"):
            continue
        question = _nodes.asks_shape(node) or (
            node.op == "call_function" and node.target is operator.getitem and node.meta.get("of_shape")
        )
        if node.meta.get("absorbed") or question or node.op == "get_attr":
            graph.erase_node(node)


def _layer_of(node, modules, meta=False):
    """(Layer, x, weight, bias) of a transposed convolution, weight and bias as nodes or attribute names; or None."""
    if node.op == "call_module":
        module = modules.get(node.target)
        if type(module) not in _CLASSES or len(node.args) != 1 or node.kwargs or module.padding_mode != "zeros":
            return None
        if _hooked(module) or "forward" in vars(module):
            return None
        if not isinstance(module.weight, torch.Tensor) or module.weight.dtype not in _ops.DTYPES:
            return None
        if module.weight.device.type not in ("cpu", "cuda", *(("meta",) if meta else ())):
            return None
        layer = Layer(module.stride, module.padding, module.output_padding, module.dilation, module.groups)
        bias = f"{node.target}.bias" if module.bias is not None else None
        return layer, node.args[0], f"{node.target}.weight", bias
    if node.op != "call_function" or node.target not in _FUNCTIONS:
        return None
    rank = _FUNCTIONS[node.target]
    names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    boxes = [_nodes._box(given.get(k, v), rank) for k, v in
             (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1))]  # fmt: skip
    if None in boxes or not isinstance(given.get("groups", 1), int):
        return None
    return Layer(*boxes, given.get("groups", 1)), given["input"], given["weight"], given.get("bias")


class _Finder:
    """The longest chain around one convolution."""

    def __init__(self, graph, modules, node, layer, pairs=True):
        self.pairs = pairs
        self.level = 0  # closing steps so far
        self.graph, self.modules, self.node = graph, modules, node
        self.layer, self.x, self.weight, self.bias = layer
        self.rank = self.layer.rank
        self.order = {n: i for i, n in enumerate(graph.nodes)}
        self.operands: list = []  # nodes or attribute names
        self.inside: list[fx.Node] = [node]
        self.ended = ""
        self.dims = tuple(range(self.rank + 2))  # canonical dimension of each dimension that the value has
        self.reduced: set[int] = set()
        self.norm = None
        self.buffers = dict(modules[""].named_buffers(remove_duplicate=False))
        self.bound: list[tuple[int, int, int]] = []  # sizes that reshapes state: see FusedChain
        self.vectors: set[int] = set()  # operands that are a norm's weight or bias
        self.end = node

    # ---- what is asked of a node ---------------------------------------------------------------------------------

    def step_of(self, node):
        if node.op == "call_module":
            module = self.modules.get(node.target)
            if module is None or _hooked(module) or "forward" in vars(module):
                return None
        return _nodes.elementwise(node, self.modules)

    def users(self, node):
        """Users that need the value, not its shape alone."""
        return [u for u in node.users if not self.shape_only(u)]

    def shape_only(self, node) -> bool:
        """A shape question whose answer no one asks for once the chain is one node."""
        return _nodes.asks_shape(node) and all(self._answers_inside(u) for u in node.users)

    def _answers_inside(self, node) -> bool:
        if node.op == "call_function" and node.target is operator.getitem:
            return all(self._answers_inside(u) for u in node.users)
        return self._view_within(node)

    def _view_within(self, node) -> bool:
        return node.op == "call_method" and node.target in ("view", "reshape", "view_as", "reshape_as", "unflatten")

    # ---- the search ----------------------------------------------------------------------------------------------

    def find(self):
        """(module, arguments, last node) or None when there is nothing to absorb."""
        prologue = self.find_prologue()
        value, epilogue = self.region(self.node)
        closing = []
        while True:
            self.level = len(closing)
            step, last, nodes = self.next_closing(value)
            if step is None:
                break
            self.ended = ""
            self.inside += nodes
            after_value, after = self.region(last)
            closing.append(replace(step, after=tuple(after)))
            value = after_value
        if not (prologue or epilogue or closing):
            return None
        alone = not prologue and not closing and len(epilogue) == 1 and isinstance(epilogue[0], Activate)
        if self.pairs and alone and len(self.inside) == 2 and all(n.op == "call_module" for n in self.inside):
            self.ended = ""
            return None  # a pair: one module takes the activation in (_pairs)
        self.end = value
        if not self.self_contained():
            self.ended = "the shape of a value inside the chain is used outside"
            return None
        if len(self.operands) + 2 * (self.norm is not None) > MOST_OPERANDS:
            self.ended = "too many operands"
            return None
        between = [n for n in self.graph.nodes if self.start() < self.order[n] < self.order[value]]
        for other in between:
            if other not in self.inside and _nodes.writes(other, self.modules) and self.touches(other):
                self.ended = f"{other.name} may write to what the chain reads"
                return None
        dropped = tuple(d for d in range(self.rank + 2) if d not in self.dims)
        chain = Chain(self.layer, tuple(prologue), tuple(epilogue), tuple(closing), dropped,
                      tuple(o if isinstance(o, str) else o.name for o in self.operands))  # fmt: skip
        if self.norm is not None:  # its weight and bias follow the operands; the module hands them in
            module = self.modules[self.norm]
            first = len(self.operands)
            weight = first if module.weight is not None else None
            bias = first + (weight is not None) if module.bias is not None else None
            chain = replace(chain, closing=tuple(
                replace(s, weight=weight, bias=bias) if isinstance(s, BatchNorm) else s for s in closing))  # fmt: skip
        for node in self.inside:
            node.meta["absorbed"] = True
        norm = None if self.norm is None else self.modules[self.norm]
        absorbed = tuple(n.target if isinstance(n.target, str) else n.name for n in self.inside if n is not self.node)
        module = FusedChain(chain, absorbed, norm, frozenset(self.vectors), tuple(dict.fromkeys(self.bound)))
        module.convolution = self.node.target if self.node.op == "call_module" else ""
        module.precision = getattr(self.modules.get(self.node.target), "precision", "torch")
        arguments = [
            self.x,
            self.attribute(self.weight),
            self.attribute(self.bias),
            *map(self.attribute, self.operands),
        ]
        return module, arguments, value

    def self_contained(self) -> bool:
        """Whether nothing outside asks for a value inside, nor for its shape."""

        def inside(user):
            if user in self.inside:
                return True
            question = _nodes.asks_shape(user) or (user.op == "call_function" and user.target is operator.getitem)
            if question:
                user.meta["of_shape"] = True
            return question and all(inside(u) for u in user.users)

        return all(inside(u) for n in self.inside if n is not self.end for u in n.users)

    def start(self) -> int:
        return min(self.order[n] for n in self.inside)

    def touches(self, other) -> bool:
        """Whether a node that may write has a hand on anything that the chain reads."""
        reads = {self.x, *(o for o in self.operands if isinstance(o, fx.Node))}
        reached, stack = set(), list(other.all_input_nodes)
        while stack:
            n = stack.pop()
            if n not in reached:
                reached.add(n)
                stack += n.all_input_nodes
        return bool(reached & (reads | set(self.inside))) or any(n.op == "get_attr" for n in reached)

    def attribute(self, what):
        """A node for an operand: attribute names are read from the owner when the chain runs."""
        if not isinstance(what, str):
            return what
        with self.graph.inserting_after(max(self.inside, key=lambda n: self.order[n])):
            node = self.graph.create_node("get_attr", what)
        node.meta["new"] = True
        return node

    def saved(self) -> int | None:
        """Bytes of intermediate results that are neither written nor read any more."""
        total = 0
        for node in self.inside:
            if node is self.end:
                continue
            if "bytes" not in node.meta:
                return None
            total += 2 * node.meta["bytes"]
        return total

    # ---- element-wise regions ------------------------------------------------------------------------------------

    def region(self, anchor):
        """The furthest value that element-wise steps make of ``anchor`` alone, and the steps."""
        members, parsed = {anchor}, {}
        for node in list(self.graph.nodes):
            if self.order[node] <= self.order[anchor]:
                continue
            step = self.step_of(node)
            if step is None:
                continue
            nodes = [a for a in step.args if isinstance(a, fx.Node)]
            if not any(a in members for a in nodes) or (step.inplace and step.args[0] not in members):
                continue
            if all(a in members or self.operand_fits(a, anchor) for a in nodes):
                members.add(node)
                parsed[node] = step
        for end in sorted(parsed, key=self.order.get, reverse=True):
            inner = self.between(anchor, end, parsed)
            if not all(set(self.users(n)) <= inner for n in (anchor, *inner) if n is not end):
                continue
            if any(parsed[n].inplace and self.seen_later(n, parsed) for n in inner):
                continue
            known = len(self.operands)
            steps = self.linear(anchor, sorted(inner, key=self.order.get), parsed)
            if steps is None:
                del self.operands[known:]
                continue
            self.inside += sorted(inner, key=self.order.get)
            return end, steps
        return anchor, []

    def seen_later(self, node, parsed) -> bool:
        """Whether what ``node`` writes in place has, under any name that it had before, a user after it."""

        def memory(value):
            step = parsed.get(value)
            while step is not None and (step.inplace or step.op in ("same", "detach")):
                if value.target in ("clone", torch.clone):
                    break
                value = step.args[0]
                step = parsed.get(value)
            return value

        written = memory(parsed[node].args[0])
        names = [n for n in (written, *parsed) if self.order[n] < self.order[node] and memory(n) is written]
        return any(self.order[u] > self.order[node] for n in names for u in n.users)

    def between(self, anchor, end, parsed):
        """Members on a way from the anchor to ``end``, ``end`` included."""
        inner, stack = set(), [end]
        while stack:
            node = stack.pop()
            if node in inner or node is anchor or node not in parsed:
                continue
            inner.add(node)
            stack += [a for a in parsed[node].args if isinstance(a, fx.Node)]
        return inner

    def operand_fits(self, node, anchor) -> bool:
        """Whether a node may be an operand: it broadcasts over the value without making it larger."""
        if self.order.get(node, -1) > self.order[anchor] and self.descends(node, anchor):
            return False
        shape = self.shape_of(node)
        if shape is None:
            return False
        if len(shape) == 0:
            return True
        if len(self.dims) != self.rank + 2 or len(shape) > self.rank + 2:
            return False
        over = anchor.meta.get("shape")
        shape = (1,) * (self.rank + 2 - len(shape)) + tuple(shape)
        if over is None:  # parameters of one value a channel are known without example inputs
            return all(n == 1 for d, n in enumerate(shape) if d != 1) and shape[1] in (1, self.channels())
        return len(over) == len(shape) and all(n in (1, m) for n, m in zip(shape, over, strict=True))

    def channels(self):
        module = self.modules.get(self.node.target) if self.node.op == "call_module" else None
        return None if module is None or 1 in self.reduced else module.out_channels

    def descends(self, node, anchor) -> bool:
        seen, stack = set(), [node]
        while stack:
            n = stack.pop()
            if n is anchor:
                return True
            if n not in seen:
                seen.add(n)
                stack += n.all_input_nodes
        return False

    def shape_of(self, node):
        if "shape" in node.meta:
            return node.meta["shape"]
        if node.op == "get_attr":
            value = self.modules[""]
            for part in node.target.split("."):
                value = getattr(value, part)
            return tuple(value.shape) if isinstance(value, torch.Tensor) else None
        return None

    def operand(self, node) -> Operand:
        for number, held in enumerate(self.operands):
            if held is node and number not in self.vectors:
                return Operand(number)
        self.operands.append(node)
        return Operand(len(self.operands) - 1)

    def linear(self, anchor, nodes, parsed):
        """The steps that make the last of ``nodes`` of the anchor, with one accumulator and a few kept values; None
        when they are too many."""
        steps, held, free = [], {}, list(range(MOST_KEPT))
        uses = Counter()
        for node in nodes:
            uses.update(a for a in parsed[node].args if isinstance(a, fx.Node) and (a is anchor or a in parsed))
        current = anchor
        left = Counter(uses)

        def hold_if_needed(next_node):
            # A value is kept when someone beside the next step's accumulator needs it.
            nonlocal current
            needed = left[current]
            if next_node is not None and current in parsed[next_node].args:
                needed -= 1
            if needed > 0 and current not in held:
                if not free:
                    return False
                held[current] = free.pop(0)
                steps.append(Keep(held[current]))
            return True

        for node in nodes:
            if not hold_if_needed(node):
                return None
            step = parsed[node]
            inner = [a for a in step.args if isinstance(a, fx.Node) and (a is anchor or a in parsed)]
            main = current if current in inner else inner[0]
            if main is not current:
                steps.append(Arithmetic("load", Kept(held[main])))
            if step.op == "activation":
                steps.append(Activate(*step.activation))
            elif step.op == "detach":
                steps.append(Detach())
            elif step.op != "same":
                position = next(i for i, a in enumerate(step.args) if a is main)
                other = step.args[1 - position]
                if isinstance(other, fx.Node):
                    other = Kept(held[other]) if other is anchor or other in parsed else self.operand(other)
                else:
                    other = Scalar(float(other))
                op = step.op
                if position == 1 and op in ("subtract", "divide"):
                    op = f"reverse_{op}"
                steps.append(Arithmetic(op, other))
            for a in inner:
                left[a] -= 1
                if left[a] == 0 and a in held:
                    free.append(held.pop(a))
            current = node
        return steps if length(steps) <= MOST_STEPS else None

    # ---- closing steps -------------------------------------------------------------------------------------------

    def next_closing(self, value):
        """(step, last node, nodes) of the closing step that takes ``value``, or (None, ...)."""
        users = self.users(value)
        none = (None, value, [])
        center = self.center(value, users)
        if center is not None:
            return center
        if len(users) != 1:
            self.ended = "its result has several users" if len(users) > 1 else ""
            return none
        user = users[0]
        if user.op == "output":
            self.ended = ""
            return none
        name = user.target if isinstance(user.target, str) else getattr(user.target, "__name__", user.name)
        self.ended = f"{name} is not fused"
        merged = self.softmax_over_space(value, user)
        if merged is not None:
            return merged
        if user.op == "call_module":
            module = self.modules.get(user.target)
            if type(module) is torch_nn.Identity and not _hooked(module):
                return none
            if module is None or _hooked(module) or "forward" in vars(module):
                return none
        nodes = [user]
        if user.target in (torch.max, torch.min, "max", "min") and len(user.users) == 1:
            user = next(iter(user.users))
            nodes.append(user)
        closed = _nodes.closing(user, self.modules, self.dims, self.rank)
        if closed is None or closed.value is not value or not self.agrees(closed.step, value):
            return none
        step = closed.step
        if isinstance(step, BatchNorm):
            if self.norm is not None or 1 in self.reduced:
                return none
            if self.shared(closed.norm, user):
                self.ended = f"{closed.norm} is used at another place too, and would see the batches in another order"
                return none
            self.norm = closed.norm
        numbers = []
        for vector in closed.vectors:
            if vector is None:
                numbers.append(None)
                continue
            if not isinstance(vector, (str, fx.Node)):
                return none
            self.vectors.add(len(self.operands))
            numbers.append(len(self.operands))
            self.operands.append(vector)
        if numbers:
            step = replace(step, weight=numbers[0], bias=numbers[1])
        if isinstance(step, Reduce):
            self.reduced |= set(step.dims)
            if not closed.keepdim:
                self.dims = tuple(d for d in self.dims if d not in step.dims)
        return step, user, nodes

    def shared(self, norm, user) -> bool:
        """Whether another node than ``user`` may read or change the running averages of a batch norm."""
        module = self.modules[norm]
        averages = [t for t in module._buffers.values() if t is not None]
        for node in self.graph.nodes:
            if node.op == "call_module" and node is not user:
                called = self.modules[node.target]
                held = called._norm[0] if isinstance(called, FusedChain) else called
                if held is not None and any(m is module for m in held.modules()):
                    return True
            elif node.op == "get_attr" and any(self.buffers.get(node.target) is t for t in averages):
                return True
        return False

    def agrees(self, step, value) -> bool:
        """Whether sizes fit a step that has sizes of its own."""
        if isinstance(step, LayerNorm):
            shape = value.meta.get("shape")
            return shape is not None and tuple(shape[-len(step.sizes) :]) == step.sizes
        if isinstance(step, (GroupNorm, Center)):
            return 1 not in self.reduced
        if isinstance(step, Softmax):
            return 0 not in step.dims
        return True

    def center(self, value, users):
        """v - v.mean(all of space, keepdim)."""
        if len(users) != 2 or len(self.dims) != self.rank + 2:
            return None
        for mean, minus in (users, users[::-1]):
            closed = _nodes.closing(mean, self.modules, self.dims, self.rank) if mean.op != "output" else None
            if closed is None or not isinstance(closed.step, Reduce) or not closed.keepdim:
                continue
            step = self.step_of(minus)
            if closed.step != Reduce("mean", tuple(range(2, self.rank + 2))) or closed.value is not value:
                continue
            if step is None or step.op != "subtract" or step.inplace or step.args != (value, mean):
                continue
            if list(mean.users) == [minus]:
                return Center(), minus, [mean, minus]
        return None

    def softmax_over_space(self, value, user):
        """flatten(2) or view(b, c, -1), softmax over the last dimension, and back to the shape it had."""
        shape = value.meta.get("shape")
        if shape is None or len(self.dims) != self.rank + 2 or self.rank < 2:
            return None
        volume = 1
        for n in shape[2:]:
            volume *= n
        if user.meta.get("shape") != (*shape[:2], volume) or not self.reshapes(user):
            return None
        if len(user.users) != 1:
            return None
        soft = next(iter(user.users))
        closed = None if soft.op == "output" else _nodes.closing(soft, self.modules, (0, 1, 2), 1)
        if closed is None or closed.step != Softmax((2,)) or len(soft.users) != 1:
            return None
        back = next(iter(soft.users))
        if back.op == "output" or back.meta.get("shape") != tuple(shape) or not self.reshapes(back):
            return None
        self.bind(user, (*shape[:2], volume), shape)
        self.bind(back, shape, shape)
        return Softmax(tuple(range(2, self.rank + 2))), back, [user, soft, back]

    @staticmethod
    def reshapes(node) -> bool:
        if node.op == "call_method":
            return node.target in ("view", "reshape", "flatten", "unflatten", "view_as", "reshape_as")
        return node.op == "call_function" and node.target in (torch.flatten, torch.reshape, torch.unflatten)

    def bind(self, node, into, shape) -> None:
        """Notes what a reshape of a value of ``shape`` to ``into`` states itself instead of asking the value: the chain
        does the same for those sizes alone."""
        rest = node.args[1:] or tuple(node.kwargs.values())
        if "flatten" in str(node.target) and "unflatten" not in str(node.target):
            return
        first = 0
        if "unflatten" in str(node.target):
            first, rest = 2, rest[1:]
        sizes = rest[0] if len(rest) == 1 and not isinstance(rest[0], int) else rest
        if isinstance(sizes, fx.Node):  # a whole shape, or one size of it
            whole = _size_of(sizes)
            source = sizes if isinstance(node.target, str) and node.target.endswith("_as") else whole and whole[0]
            if source is not None and source.meta.get("shape") == tuple(into):
                return
            sizes = [None] * (len(into) - first)
        for d, size in enumerate(sizes, first):
            asked = _size_of(size) if isinstance(size, fx.Node) else None
            if isinstance(size, int) and (size == -1 or d == 1):
                continue
            if asked is not None and asked[1] == d and _shape(asked[0])[d : d + 1] == tuple(into[d : d + 1]):
                continue
            if d == 2 and len(into) == 3 and _is_volume(size, shape):
                continue
            over = range(2, len(shape)) if len(into) < len(shape) and d == 2 else (d,)
            self.bound += [(self.level, i, shape[i]) for i in over]

    # ---- prologue ------------------------------------------------------------------------------------------------

    def find_prologue(self):
        """Steps on x that no one else sees, if they end in what decoders put before a layer."""
        end = self.x
        if not isinstance(end, fx.Node) or self.step_of(end) is None:
            return []
        for alone in (False, True):  # with what several values become one by, else of one value alone
            inner, parsed = self.before_layer(end, alone)
            if end not in inner:
                return []
            outside = [a for n in inner for a in parsed[n].args if isinstance(a, fx.Node) and a not in inner]
            anchors = {a for a in outside if a.op != "get_attr"}
            if len(anchors) == 1:
                break
        if len(anchors) != 1:
            return []
        anchor = anchors.pop()
        inner = {n for n in inner if self.descends(n, anchor)}  # what comes of parameters alone stays outside
        parsed = {n: parsed[n] for n in inner}
        outside = [a for n in inner for a in parsed[n].args if isinstance(a, fx.Node) and a not in inner]
        numbers = [s.activation[0] for s in parsed.values() if s.op == "activation"]
        if not any(n in _PROLOGUES for n in numbers) or _is_layer_result(anchor, self.modules):
            return []
        if anchor.meta.get("shape") != end.meta.get("shape"):
            return []
        saved_channels = [a for a in outside if a is not anchor]
        for a in saved_channels:
            shape = self.shape_of(a)
            over = anchor.meta.get("shape")
            if shape is None or over is None or len(shape) > len(over):
                return []
            shape = (1,) * (len(over) - len(shape)) + tuple(shape) if shape else ()
            if any(n not in (1, m) for n, m in zip(shape, over, strict=False)):
                return []
        steps = self.linear(anchor, sorted(inner, key=self.order.get), parsed)
        if steps is None:
            self.operands.clear()
            return []
        self.inside = sorted(inner, key=self.order.get) + self.inside
        self.x = anchor
        return steps

    def before_layer(self, end, alone: bool):
        """(nodes that lead to ``end`` and to no one else, their steps); ``alone``: of one value each."""
        inner, parsed = set(), {}
        stack = [end]
        while stack:
            node = stack.pop()
            step = self.step_of(node)
            if step is None or step.inplace or node in inner:
                continue
            values = [a for a in step.args if isinstance(a, fx.Node)]
            if alone and sum(a.op != "get_attr" for a in values) > 1:
                continue
            if not all(u is self.node or u in inner for u in node.users):
                continue
            inner.add(node)
            parsed[node] = step
            stack += values
        return inner, parsed


def _shape(node) -> tuple:
    """With the example inputs; of a tensor without any there is none."""
    return node.meta.get("shape", ())


def _size_of(node) -> tuple[fx.Node, int | None] | None:
    """(value, dimension) whose size a node is, (value, None) of a whole shape, or None."""
    if node.op == "call_function" and node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        whole, at = _size_of(node.args[0]), node.args[1]
        if whole is None or whole[1] is not None or not isinstance(at, int):
            return None
        return whole[0], at % max(len(_shape(whole[0])), 1)
    if node.op == "call_method" and node.target == "size":
        at = (*node.args[1:], *node.kwargs.values())
        if not at:
            return node.args[0], None
        return (node.args[0], at[0] % max(len(_shape(node.args[0])), 1)) if isinstance(at[0], int) else None
    if node.op == "call_function" and node.target is getattr and node.args[1] == "shape":
        return node.args[0], None
    return None


def _is_volume(node, shape) -> bool:
    """Whether a node is the product of the sizes of the space of a value of that shape."""
    factors, stack = [], [node]
    while stack:
        factor = stack.pop()
        if isinstance(factor, fx.Node) and factor.target is operator.mul:
            stack += factor.args
            continue
        asked = _size_of(factor) if isinstance(factor, fx.Node) else None
        if asked is None or asked[1] is None or _shape(asked[0])[2:] != tuple(shape[2:]):
            return False
        factors.append(asked[1])
    return sorted(factors) == list(range(2, len(shape)))


def _is_layer_result(node, modules) -> bool:
    """A convolution's own epilogue takes its activation first."""
    return _layer_of(node, modules) is not None
