# What surrounds the transposed convolutions of a model, for an exported file: the chains that upconv.optimize finds,
# and a forward that calls them. Asked by upconv.export; the model lies on torch's meta device.
"""From a Model to chains and the forward that is made of them."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
from dataclasses import dataclass, field

import torch
from torch import fx
from torch import nn as torch_nn

from .. import _algebra, _chain, _fused_chain, _fusion, _nodes, _rewritten
from ._layers import Layer
from ._refusal import Refusal

__all__ = ["Entry", "Forward", "Sums", "forward_of"]

#: Norms, and the class of an exported file that holds their parameters.
HOLDERS = {
    torch_nn.GroupNorm: "_GroupNorm", torch_nn.LayerNorm: "_LayerNorm",
    torch_nn.BatchNorm1d: "_BatchNorm", torch_nn.BatchNorm2d: "_BatchNorm", torch_nn.BatchNorm3d: "_BatchNorm",
    torch_nn.InstanceNorm1d: "_InstanceNorm", torch_nn.InstanceNorm2d: "_InstanceNorm",
    torch_nn.InstanceNorm3d: "_InstanceNorm",
}  # fmt: skip
#: Taps of a dimension up to which its sums are made.
_MOST_TAPS = 16
#: What a view of a parameter may be called by.
_VIEWS = ("view", "reshape", "unsqueeze", "squeeze", "flatten")


@dataclass
class Entry:
    """One chain as an exported file runs it. ``layer`` -1: of x itself, whose sizes are ``shape``."""

    chain: _chain.Chain
    layer: int
    rank: int
    channels: int
    problem: str
    bias: bool
    sizes: list[tuple[int, ...]]  #: of the operands, five each
    vectors: dict[int, int]  #: operands that are a norm's weight or bias: elements
    wanted: int

    @property
    def numbers(self) -> list[float]:
        return self.chain.numbers(self.channels)

    @property
    def gradient_numbers(self) -> list[float]:
        return self.chain.numbers(self.channels, gradient=True)

    @property
    def normalises(self) -> bool:
        return any(isinstance(s, _chain.BatchNorm) for s in self.chain.closing)

    @property
    def keeps_layout(self) -> bool:
        """Whether torch's own result is channels last where the input is: not after what returns contiguous tensors."""
        return all(
            isinstance(s, (_chain.BatchNorm, _chain.Center))
            or (isinstance(s, _chain.Pool) and not (s.average and self.rank == 3))
            for s in self.chain.closing
        )

    def levels(self) -> dict[int, int]:
        """After how many closing steps each operand is read."""
        found = {}
        for level, steps in enumerate((self.chain.epilogue, *(s.after for s in self.chain.closing))):
            for step in steps:
                if not isinstance(getattr(step, "other", None), _chain.Operand):
                    continue
                if found.setdefault(step.other.number, level) != level and not self._plain(step.other.number):
                    raise Refusal("an operand is read at two places between which the sizes change")
        return found

    def _plain(self, number) -> bool:
        return all(n == 1 for n in self.sizes[number][2:])


@dataclass
class _Given:
    """Operands of a chain, in its own numbers: those of the fused chain's by ``numbers``."""

    numbers: dict[int, int]
    texts: list[str]
    sizes: list[tuple[int, ...]]
    vectors: dict[int, int]
    wanted: int


@dataclass
class Forward:
    """The body of ModelNew's forward and what it calls."""

    text: str
    entries: list[Entry]
    words: str  #: what runs, for the file's first lines
    absorbed: list[str] = field(default_factory=list)  #: modules whose work is in the kernels
    held: list[str] = field(default_factory=list)  #: norms
    normed: bool = False
    sums: list[Sums] = field(default_factory=list)


@dataclass
class Sums:
    """A layer whose result is only wanted as means over ``dims``: sums of its input go to a smaller layer."""

    layer: int
    dims: tuple[int, ...]  #: canonical: 2 .. rank + 1


class _Tracer(fx.Tracer):
    def __init__(self, model):
        super().__init__()
        self.chains = {id(chain): name for name, chain in _chains_of(model)}

    def call_module(self, module, forward, args, kwargs):
        if id(module) in self.chains:  # it is no child of its owner
            return self.create_proxy("call_module", self.chains[id(module)], args, kwargs)
        return super().call_module(module, forward, args, kwargs)

    def is_leaf_module(self, module, name):
        return type(module).__module__.startswith("torch.nn") and not isinstance(module, torch_nn.Sequential)


def _chains_of(model):
    """(name, chain) of all that _fusion put in."""
    for name, owner in model.named_modules():
        for key, chain in _rewritten.chains_of(owner).items():
            yield f"{name}.{key}" if name else key, chain


def forward_of(model: torch_nn.Module, inputs: list, layers: list[Layer]) -> Forward:
    """The model's forward as calls of chains; what their layers are besides the model's own is added to ``layers``.
    Raises Refusal that names what is none of theirs."""
    original = model
    model = copy.deepcopy(model)
    for module in model.modules():
        if type(module) in _fusion._CLASSES and module.padding_mode != "zeros":
            raise Refusal("a transposed convolution with padding_mode other than zeros")
    with torch.no_grad(), torch.device("meta"):
        outcome = _fusion.fuse(model, tuple(inputs), exporting=True)
    try:
        graph = _Tracer(model).trace(model)
    except Exception as error:  # tracing runs the model's own code
        raise Refusal(f"torch.fx cannot trace the model's forward ({type(error).__name__}: {error})") from None
    reasons = {f.convolution: f.ended for f in outcome.fused if f.ended} | dict(outcome.left)
    return _Reading(original, model, graph, inputs, layers, reasons).forward()


class _Reading:
    """The graph of a model whose chains are modules, node by node."""

    def __init__(self, original, model, graph, inputs, layers, reasons):
        self.original, self.model, self.graph, self.inputs, self.layers = original, model, graph, inputs, layers
        self.modules = dict(model.named_modules()) | dict(_chains_of(model))
        self.entries: list[Entry] = []
        self.lines: list[str] = []
        self.names: dict[fx.Node, str] = {}
        self.known: dict[fx.Node, torch.Tensor] = {}  # what is known before the chains run: parameters, inputs
        self.wanted: dict[fx.Node, bool] = {}
        self.reasons = reasons
        self.last = ""
        self.words: list[str] = []
        self.found = Forward("", self.entries, "")

    def forward(self) -> Forward:
        placeholders = 0
        for node in self.graph.nodes:
            if node.op == "placeholder":
                if placeholders < len(self.inputs) and isinstance(self.inputs[placeholders], torch.Tensor):
                    self.known[node], self.wanted[node] = self.inputs[placeholders], True
                placeholders += 1
                self.names[node] = node.target
            elif node.op == "get_attr":
                self.attribute(node)
            elif node.op == "output":
                if not isinstance(node.args[0], fx.Node):
                    raise Refusal("the model returns something else than one tensor")
                self.lines.append(f"return {self.names[node.args[0]]}")
            elif node.op == "call_module":
                self.module(node)
            else:
                self.other(node)
        self.found.text = "\n".join(self.lines)
        self.found.words = "; ".join(self.words)
        self.found.normed = any(e.normalises for e in self.entries)
        return self.found

    def attribute(self, node):
        value = self.model
        for part in node.target.split("."):
            value = getattr(value, part)
        if not isinstance(value, torch.Tensor):
            raise Refusal(f"{node.target} is a {type(value).__name__}")
        parts = node.target.split(".")
        text = "self"
        for part in parts:
            text = f"{text}.{part}" if part.isidentifier() else f'getattr({text}, "{part}")'
        self.names[node], self.known[node] = text, value
        self.wanted[node] = isinstance(value, torch_nn.Parameter) and value.requires_grad

    def module(self, node):
        module = self.modules[node.target]
        if isinstance(module, _fused_chain.FusedChain):
            self.chain(node, module)
        elif type(module) in _fusion._CLASSES:
            self.assign(node, f"{self.path(node.target)}({self.names[node.args[0]]})")
            self.last = node.target
            self.words.append(node.target)
        elif type(module) is torch_nn.Identity:
            self.names[node] = self.names[node.args[0]]
        else:
            self.other(node)

    def path(self, target):
        parts = target.split(".")
        if all(part.isidentifier() for part in parts):
            return f"self.{target}"
        return f'self.get_submodule("{target}")'

    def assign(self, node, text):
        name = re.sub(r"^upconv_chain", "result", node.name)
        self.lines.append(f"{name} = {text}")
        self.names[node] = name

    def other(self, node):
        """A view of a parameter, or what stands in front of a layer; else the model cannot be exported."""
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        views = node.op == "call_method" and node.target in _VIEWS
        if views and source in self.known and all(isinstance(a, int) for a in node.args[1:]) and not node.kwargs:
            self.known[node] = getattr(self.known[source], node.target)(*node.args[1:])
            self.wanted[node] = self.wanted[source]
            arguments = ", ".join(map(str, node.args[1:]))
            self.names[node] = f"{self.names[source]}.{node.target}({arguments})"
            return
        what = _words(node, self.modules)
        foreign = [n for n in node.all_input_nodes if n is not source]
        if source in self.known and source.op == "placeholder" and not foreign and not self.last:
            x = self.known[source]
            rank = x.dim() - 2
            closed = _nodes.closing(node, self.modules, tuple(range(x.dim())), rank)
            step = _nodes.elementwise(node, self.modules)
            identity = _chain.Layer((1,) * rank, (0,) * rank, (0,) * rank, (1,) * rank, x.shape[1])
            chain = None
            if closed is not None and isinstance(closed.step, _chain.Pool) and closed.value is source:
                chain = _chain.Chain(identity, closing=(closed.step,))
            elif step is not None and step.op == "activation":
                chain = _chain.Chain(identity, epilogue=(_chain.Activate(*step.activation),))
            if chain is not None:
                self.before(node, source, chain)
                return
        if not self.last:
            raise Refusal(f"{what} comes before the transposed convolution, and is not among what the kernels do there")
        raise Refusal(
            f"{what} is not among the operations that the kernels take after {self.last}; "
            "--keep-torch leaves it to torch"
        )

    def before(self, node, source, chain):
        """What is done to an input itself."""
        x = self.known[source]
        rank, channels = x.dim() - 2, x.shape[1]
        self.entries.append(Entry(chain, -1, rank, channels, _identity(x.shape), False, [], {}, 0))
        self.absorb(node)
        self.assign(node, f"_chain({len(self.entries) - 1}, {self.names[source]}, None, None)[0]")
        self.known[node] = torch.empty(_after(chain, x.shape), device="meta")
        self.words.append(str(chain).replace("convolution, ", ""))

    def absorb(self, node):
        if node.op == "call_module":
            self.keep(node.target)

    def keep(self, target):
        if target not in self.modules:
            return
        into = self.found.held if type(self.modules[target]) in HOLDERS else self.found.absorbed
        into.append(target)

    def shorter(self, module, own: Layer, operands) -> _algebra.Reduced | None:
        """The form without a convolution over what is averaged, where the chain has it and something follows."""
        form = _algebra.without_convolution(module.chain)
        if not isinstance(form, _algebra.Reduced) or module._norm[0] is not None:
            return None
        if not (form.chain.epilogue or form.chain.closing):
            return None
        if any(own.kernel[d - 2] > _MOST_TAPS for d in form.dims) or not form.passes(operands):
            return None
        return form

    def given(self, module, operands, read, rank) -> _Given:
        """The operands with these numbers, as a chain of their own has them."""
        tensors = {i: self.known[operands[i]] for i in read}
        vectors = [i in module.vectors for i in read]
        return _Given(
            {i: to for to, i in enumerate(read)},
            [self.names[operands[i]] for i in read],
            [_five(tensors[i], rank, vector) for i, vector in zip(read, vectors, strict=True)],
            {to: tensors[i].numel() for to, i in enumerate(read) if vectors[to]},
            sum(1 << to for to, i in enumerate(read) if self.wanted[operands[i]]),
        )

    def chain(self, node, module):
        x, weight, bias, *operands = node.args
        layer = next((i for i, each in enumerate(self.layers) if each.name == module.convolution), None)
        if layer is None:
            raise Refusal("a transposed convolution that is called as a function")
        for a in (weight, *([bias] if bias is not None else []), *operands):
            if a not in self.known:
                raise Refusal(f"{_words(a, self.modules)} is an operand that is computed")
        self.last = module.convolution
        for target in module.absorbed:
            self.keep(target)
        own, rank = self.layers[layer], self.layers[layer].rank
        norm = module._norm[0]
        out = [own.batch, own.out_channels]
        for n, k, s, p, op, d in zip(own.size, own.kernel, own.stride, own.padding, own.output_padding, own.dilation,
                                     strict=True):  # fmt: skip
            out.append((n - 1) * s - 2 * p + d * (k - 1) + op + 1)
        shorter = self.shorter(module, own, [self.known[a] for a in operands])
        _keep_dimensions(own, out, module.chain, shorter)
        chain, x_text = module.chain, self.names[x]
        if chain.prologue:
            given = self.given(module, operands, dataclasses.replace(chain, epilogue=(), closing=()).read(), rank)
            identity = _chain.Layer((1,) * rank, (0,) * rank, (0,) * rank, (1,) * rank, own.in_channels)
            first = _chain.Chain(identity, epilogue=chain.prologue).renumbered(given.numbers)
            shape = (own.batch, own.in_channels, *own.size)
            self.entries.append(
                Entry(
                    first, -1, rank, own.in_channels, _identity(shape), False, given.sizes, given.vectors, given.wanted
                )
            )
            before = ", ".join([str(len(self.entries) - 1), x_text, "None", "None", *given.texts])
            self.lines.append(f"before = _chain({before})[0]")
            x_text = "before"
            chain = dataclasses.replace(chain, prologue=())
        weight_text = self.names[weight]
        if shorter is not None:
            self.lines.append(f"sums, weight = _summed({len(self.found.sums)}, {x_text}, {weight_text})")
            x_text, weight_text = "sums", "weight"
            self.found.sums.append(Sums(layer, shorter.dims))
            own, chain, layer = _smaller(own, shorter), shorter.chain, len(self.layers)
            self.layers.append(own)
        # A norm's own parameters follow the operands, in evaluation two vectors made of them and of its averages.
        extra = [t for t in (norm.weight, norm.bias) if t is not None] if norm is not None else []
        given = self.given(module, operands, [i for i in chain.read() if i < len(operands)], rank)
        for i in range(2):
            given.numbers[len(operands) + i] = len(given.texts) + i
        texts = [x_text, weight_text, "None" if bias is None else self.names[bias], *given.texts]
        number, first_extra = len(self.entries), len(given.texts)
        more = [_five(t, rank, True) for t in extra]
        self.entries.append(Entry(
            chain.renumbered(given.numbers), layer, rank, own.out_channels, own.problem("ieee"), own.bias,
            [*given.sizes, *more],
            {**given.vectors, **{first_extra + i: t.numel() for i, t in enumerate(extra)}},
            given.wanted | sum(1 << (first_extra + i) for i in range(len(extra))),
        ))  # fmt: skip
        if norm is not None:
            evaluation = dataclasses.replace(module._evaluation, prologue=()).renumbered(given.numbers)
            channel, folded = (1, own.out_channels, 1, 1, 1), (first_extra, first_extra + 1)
            self.entries.append(Entry(
                evaluation, layer, rank, own.out_channels, own.problem("ieee"), own.bias,
                [*given.sizes, channel, channel],
                {**given.vectors, **dict.fromkeys(folded, own.out_channels)}, given.wanted | 3 << first_extra,
            ))  # fmt: skip
            name = next(n for n, m in self.original.named_modules() if n and _same_place(self.modules, n, norm))
            call = f"_normed_chain({number}, {self.path(name)}, {', '.join(texts)})"
        else:
            call = f"_chain({number}, {', '.join(texts)})[0]"
        call += "".join(f".squeeze({d})" for d in sorted(chain.dropped, reverse=True))
        self.assign(node, call)
        self.words.append(f"{own.name}: {module.chain}")


def _keep_dimensions(own: Layer, out: list[int], chain: _chain.Chain, shorter: _algebra.Reduced | None) -> None:
    """Raises Refusal where space becomes 1 long at some place of a chain: its programs, which are for all sizes, would
    not be told which dimensions steps have reduced. ``out``: the shape of the layer's result."""
    reduced: set[int] = set() if shorter is None else set(shorter.dims)
    steps = (chain if shorter is None else shorter.chain).closing
    shape = [1 if d in reduced else n for d, n in enumerate(out)]
    for step in (None, *steps):
        if step is not None:
            shape = step.shape(shape)
        if isinstance(step, _chain.Reduce):
            reduced |= set(step.dims)
        if 1 in [n for d, n in enumerate(shape) if d >= 2 and d not in reduced]:
            where = own.name if step is None else f"{type(step).__name__} after {own.name}"
            raise Refusal(
                f"{where} gives a result of size {tuple(shape)}: one with a dimension of 1 is not told from one that a "
                "step has reduced; larger inputs in get_inputs() help"
            )


def _smaller(own: Layer, shorter: _algebra.Reduced) -> Layer:
    """The layer that is left of one whose result is averaged."""
    layer, summed = shorter.chain.layer, [d - 2 for d in shorter.dims]
    return dataclasses.replace(
        own,
        name=f"means of {own.name}",
        in_channels=own.in_channels * math.prod(own.kernel[i] for i in summed),
        kernel=tuple(1 if i in summed else k for i, k in enumerate(own.kernel)),
        stride=layer.stride,
        padding=layer.padding,
        output_padding=layer.output_padding,
        dilation=layer.dilation,
        size=tuple(1 if i in summed else n for i, n in enumerate(own.size)),
    )


def _same_place(modules, name, norm) -> bool:
    return modules.get(name) is norm


def _five(t, rank, vector) -> tuple[int, ...]:
    """Sizes of an operand over (n, channel, d, h, w)."""
    if vector:
        return (1, t.numel(), 1, 1, 1)
    shape = (1,) * (rank + 2 - t.dim()) + tuple(t.shape)
    return (*shape[:2], *[1] * (3 - rank), *shape[2:])


def _identity(shape) -> str:
    """A problem whose result has this shape: of a chain without a layer nothing else is asked."""
    size = "x".join(map(str, shape[2:]))
    return f"{len(shape) - 2}d n{shape[0]} c{shape[1]} o{shape[1]} g{shape[1]} i{size} k1 f32"


def _after(chain, shape):
    return chain.result_shape(list(shape))


def _words(node, modules):
    if node.op == "call_module":
        return f"{node.target} ({modules[node.target]!r})"
    if node.op == "call_function":
        return getattr(node.target, "__name__", str(node.target))
    return f"{node.target} ({node.op.replace('_', ' ')})"
