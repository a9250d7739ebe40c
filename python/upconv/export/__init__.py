# upconv.export: one Python file with the CUDA source inside, for people who may not add a dependency.
# `upconv export` calls it; what a file holds and how it is checked is in docs/exporting.md.
"""Writing a KernelBench problem as one self-contained file."""

from __future__ import annotations

import ast
import hashlib
import inspect
from pathlib import Path

import torch

from .. import _ops
from ._chains import HOLDERS, Forward, forward_of
from ._kernels import Kernels, text_of
from ._layers import Layer, find
from ._model import model_text
from ._problem_file import ProblemFile, import_text, load
from ._refusal import Refusal

__all__ = ["Refusal", "export"]

_SIMPLE = (int, float, bool, str, type(None))


def export(path: str | Path, *, base: str = "sm_80", keep_torch: bool = False) -> str:
    """The text of a file that defines ``ModelNew``, ``get_inputs`` and ``get_init_inputs`` for a problem file.

    Args:
        path: a file that defines ``Model``, ``get_inputs()`` and ``get_init_inputs()``.
        base: the GPU whose limits the kernels outside compute capability 9.x are chosen by: ``sm_80``, or ``sm_89`` for
            GPUs with 100 KB of shared memory a block.
        keep_torch: leave operations that the kernels do not compute to torch, instead of refusing.

    Raises:
        Refusal: the model cannot be exported; the message names the operation.
    """
    problem = load(path)
    with torch.device("meta"):
        arguments = problem.module.get_init_inputs()
        model = problem.module.Model(*arguments)
        inputs = problem.module.get_inputs()
        layers = find(model, inputs)
    forward = None
    if not keep_torch:
        forward = forward_of(model, inputs, layers)
    layers = _different(layers) if keep_torch else layers
    kernels = Kernels(base)
    summed = {sums.layer for sums in forward.sums} if forward else set()
    for index, layer in enumerate(layers):
        if index not in summed:
            kernels.add(index, layer)
    if forward:
        for index, entry in enumerate(forward.entries):
            kernels.add_chain(index, entry, layers)
        for index, sums in enumerate(forward.sums):
            kernels.add_sums(index, sums, layers[sums.layer])
        if forward.normed:
            kernels.add_running()
    return _Writing(problem, model, arguments, inputs, layers, forward, kernels).text()


def _different(layers: list[Layer]) -> list[Layer]:
    """Layers whose kernels differ, the first of each."""
    return list({layer.key: layer for layer in reversed(layers)}.values())[::-1]


class _Writing:
    """The parts of the file, in order."""

    def __init__(
        self, problem: ProblemFile, model, arguments, inputs, layers: list[Layer], forward: Forward | None, kernels
    ):
        self.problem, self.model, self.arguments, self.inputs = problem, model, arguments, inputs
        self.layers, self.forward, self.kernels = layers, forward, kernels

    def text(self) -> str:
        body = "\n\n\n".join(part.strip("\n") for part in self._parts())
        name = hashlib.sha256(body.encode()).hexdigest()[:12]
        return f'{self._header()}\n\n{self._imports()}\n\nNAME = "upconv_{name}"\n\n{body}\n'

    def _header(self) -> str:
        rows = self.kernels.rows
        width = max(len(row.what) for row in rows)
        used = "\n".join(
            f"    {row.layer}, {row.what:{width}}  {'sm_90' if row.target == 'hopper' else 'other'}: {row.candidate}"
            for row in rows
        )
        made = "\n".join(f"    {_words(layer)}" for layer in self.layers)
        shapes = ", ".join(str(tuple(t.shape)) for t in self.inputs if isinstance(t, torch.Tensor))
        if self.forward is None:
            after = " What else the model does is torch's own."
        elif self.forward.entries:
            after = f"\nWhat follows a layer runs with it, forward and backward:\n    {self.forward.words}"
        else:
            after = ""
        return f'''"""ModelNew: the Model of {self.problem.path.name}, computed by CUDA kernels in this file.

Written by `upconv export`, upconv {_ops.version()}. It needs PyTorch 2.0 or later with CUDA 11.8 or later, nvcc for the
first call (which compiles), and an NVIDIA GPU of compute capability 8.0 or later; nothing else.

What it computes: transposed convolutions,
    y[n, co, o] = b[co] + the sum over input channels ci of the group and taps t of x[n, ci, i] * w[ci, co, t],
    where o + padding = stride * i + dilation * t in every spatial dimension,
with their gradients for x, w and b.{after}

Made for, and checked at run time:
{made}
in float32. Batch and spatial sizes are free; the kernels were chosen for inputs of {shapes}.

Precision follows torch's switch for TF32 in convolutions at the time of the call: permitted, products are of operands
rounded to TF32 (of pairs of bfloat16 in the forward of a grouped layer); not permitted, they are as exact as fp32.

Kernels (sm_90: for compute capability 9.x, where the toolkit is CUDA 12 or later; other: from 8.0 on):
{used}
Sizes that one of them refuses at a call (rows wider than its tiles take, numbers past its 32-bit indices) are computed
by cuda_direct, which takes any: a thread for each element, as exact as fp32 in either setting, and slow.
"""'''

    def _imports(self) -> str:
        return (
            "import math\n\nimport torch\nfrom torch import nn\n"
            "from torch.autograd.function import once_differentiable\n"
            "from torch.utils.cpp_extension import load_inline\n" + self._problem_imports()
        )

    def _problem_imports(self) -> str:
        lines = [
            import_text(n, self.problem.path) for n in self._needed() if isinstance(n, (ast.Import, ast.ImportFrom))
        ]
        return "".join(f"{line}\n" for line in lines if line)

    def _roots(self) -> list[ast.AST]:
        names = ["get_inputs", "get_init_inputs"]
        return [self.problem.node(name) for name in names]

    def _needed(self) -> list[ast.AST]:
        """Statements of the problem file that the functions, and the constructor and forward of ModelNew, lead to."""
        roots = self._roots()
        model = ast.parse(model_text(self.problem, self.model, self.forward))
        return [n for n in self.problem.needed([*roots, model]) if n is not self.problem.node("Model")]

    def _parts(self):
        kernels = self.kernels
        sources = "".join(
            f"    {name!r}: {_raw(text)},\n".replace("'", '"', 2) for name, text in kernels.sources().items()
        )
        about = (
            "# Device code and launch arithmetic: files of upconv's kernels/, by the names they include one another by."
        )
        yield f"{about}\nSOURCES = {{\n{sources}}}"
        entries = "".join(
            f'    "{k.name}": ("{k.guard}", "{k.file}", {_raw(k.preamble)}),\n' for k in kernels.kernels.values()
        )
        yield ("# What each kernel is specialised for: where it is compiled, its source, and the text before it.\n"
               f"KERNELS = {{\n{entries}}}")  # fmt: skip
        chains = bool(self.forward and self.forward.entries)
        normed = chains and self.forward.normed
        summed = bool(chains and self.forward.sums)
        headers = "".join(f'    "{name}",\n' for name in kernels.headers)
        yield f"LAUNCH_HEADERS = [\n{headers}]"
        maps = text_of("tensor_map.cu") if "launch/tensor_map.hpp" in kernels.sources() else ""
        yield f"LAUNCH = {_raw(text_of('launch.cu') + maps)}"
        about = "# The layers, and every step of them on every GPU with what its launch depends on."
        steps = kernels.table(self.layers)
        if chains:
            about += " The chains, and their passes."
            steps += f"\n{text_of('chain.cu')}\n{kernels.chain_table()}"
        if summed:
            about += " The sums that means need."
            steps += f"\n{text_of('sums.cu')}\n{kernels.sums_table()}"
        if normed:
            steps += f"\n{text_of('running.cu')}"
        yield f"{about}\nSTEPS = {_raw(steps)}"
        yield f"DEFINITIONS = {_raw(_DEFINITIONS)}"
        parts = (("glue", True), ("chain", chains), ("sums", summed), ("running", normed))
        glue = "\n".join(text_of(f"{n}.cpp") for n, used in parts if used)
        yield f"GLUE = {_raw(glue)}"
        yield f"PROTOTYPES = {_raw(_prototypes(glue))}"
        yield "FUNCTIONS = [\n" + "".join(f'    "{name}",\n' for name in _functions(glue)) + "]"
        keys = "".join(f"    {layer.key!r},  # {layer.name}\n" for layer in self.layers)
        about = "#: Rank, channels in and out, kernel, stride, padding, output padding, dilation, groups, bias."
        yield f"{about}\nLAYERS = [\n{keys}]"
        if chains:
            rows = "".join(f"    ({e.layer}, {e.bias}, {e.wanted}),\n" for e in self.forward.entries)
            about = "#: Of every chain its layer, whether it has a bias, and its operands with a gradient, a bit each."
            yield f"{about}\nCHAINS = [\n{rows}]"
        if summed:
            about = "#: Dimensions that are summed, of every set of sums."
            yield f"{about}\nSUMS = {[sums.dims for sums in self.forward.sums]!r}"
        yield text_of("runtime.py.in")
        if chains:
            yield text_of("chain.py.in")
        if summed:
            yield text_of("sums.py.in")
        if self.forward and self.forward.held:
            kinds = {HOLDERS[type(self.model.get_submodule(n))] for n in self.forward.held}
            if "_BatchNorm" in kinds:
                yield text_of("batch_norm.py.in")
            if kinds - {"_BatchNorm"}:
                yield text_of("vectors.py.in")
        if self.forward:
            yield f"#: Of the constructor, as get_init_inputs() gives them.\nARGUMENTS = {self._bound()!r}"
            yield text_of("arguments.py.in")
        classes = {n for n in self._needed() if isinstance(n, ast.ClassDef)} if self.forward is None else set()
        others = [n for n in self._needed() if n not in classes and not isinstance(n, (ast.Import, ast.ImportFrom))]
        yield from (self.problem.source(n) for n in others if n not in self._roots())
        yield model_text(self.problem, self.model, self.forward)
        yield from (self.problem.source(n) for n in self._roots())

    def _bound(self) -> dict:
        bound = inspect.signature(self.problem.module.Model).bind(*self.arguments)
        bound.apply_defaults()
        plain = {}
        for name, value in bound.arguments.items():
            value = tuple(value) if isinstance(value, list) else value
            if not all(isinstance(v, _SIMPLE) for v in (value if isinstance(value, tuple) else (value,))):
                raise Refusal(f"the constructor's argument {name} is a {type(value).__name__}, not numbers or words")
            plain[name] = value
        return plain


_DEFINITIONS = """
// Which kernels are compiled: those for compute capability 9.x with the instructions of sm_90a, those for any from
// 8.0 on.
#ifndef UPCONV_HOPPER
#define UPCONV_HOPPER 1
#endif
#ifndef UPCONV_BASE
#define UPCONV_BASE 1
#endif
"""


def _words(layer: Layer) -> str:
    def by(values):
        return "x".join(map(str, values))

    text = f"{layer.name}: ConvTranspose{layer.rank}d {layer.in_channels} -> {layer.out_channels}, "
    text += f"kernel {by(layer.kernel)}"
    options = (
        ("stride", layer.stride, 1),
        ("padding", layer.padding, 0),
        ("output_padding", layer.output_padding, 0),
        ("dilation", layer.dilation, 1),
    )
    for what, values, default in options:
        if any(v != default for v in values):
            text += f", {what} {by(values)}"
    return text + (f", {layer.groups} groups" if layer.groups > 1 else "") + (", bias" if layer.bias else ", no bias")


def _raw(text: str) -> str:
    if '"""' in text or text.endswith("\\"):
        raise Refusal("a source of the kernels cannot be written as a raw string")  # no source is like that
    return f'r"""{text}"""'


def _prototypes(glue: str) -> str:
    """Declarations of the functions that torch's own part of the extension binds."""
    found = []
    for block in glue.split("\n}\n"):
        at = max(block.find(kind) for kind in ("at::Tensor upconv_", "std::vector<at::Tensor> upconv_", "void upconv_"))
        if at >= 0:
            found.append(" ".join(block[at : block.index(") {", at)].split()) + ");")
    return "#include <ATen/ATen.h>\n" + "\n".join(found) + "\n"


def _functions(glue: str) -> list[str]:
    return [line.split("(")[0].split(" ")[-1] for line in _prototypes(glue).splitlines()[1:]]
