# Asks the library how each step of each layer runs, and writes kernels, launches and the table of steps as text.
# Asked by upconv.export.
"""The CUDA parts of an exported file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import _chain, _ops  # noqa: F401  (loads the library)
from ._chains import Entry, Sums
from ._layers import Layer

__all__ = ["Kernels", "text_of"]

#: Where a step's plan comes from, and the macro that says whether it is compiled: the first for every GPU from compute
#: capability 8.0 on, the second for 9.x with the instructions of sm_90a.
TARGETS = (("base", "UPCONV_BASE"), ("hopper", "UPCONV_HOPPER"))
#: Kernels of a chain that run in clusters of thread blocks, where the launch finds that they can.
_CLUSTERS = ("closing/sets.cuh",)
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def text_of(name: str) -> str:
    """A text of this folder that every exported file holds."""
    return (Path(__file__).parent / "text" / name).read_text()


@dataclass
class Kernel:
    """One specialised source: its namespace, and the targets that need it."""

    name: str
    file: str
    preamble: str
    targets: set[str] = field(default_factory=set)

    @property
    def guard(self) -> str:
        return " || ".join(macro for target, macro in TARGETS if target in self.targets)


@dataclass
class Row:
    """One step of a layer on a target, in words."""

    layer: str
    what: str
    target: str
    candidate: str


@dataclass
class Parts:
    """What the library says of a step: its candidate, what its launch depends on, its kernels."""

    candidate: str
    detail: str
    struct: str
    fields: str
    kernels: list[tuple[str, str, str]]  #: file, entry, preamble


class Kernels:
    """Kernels, launch headers and steps, collected layer by layer."""

    def __init__(self, base: str):
        self.architecture = {"base": base, "hopper": "sm_90"}
        self.kernels: dict[tuple[str, str], Kernel] = {}
        self.headers: list[str] = []
        self.specials: list[str] = []  #: texts of their structs
        self.steps: list[tuple[str, str]] = []  #: (guard, entry of the table)
        self.rows: list[Row] = []
        self.chains: list[str] = []  #: texts of the chains' structs and tables
        self.entries: list[str] = []  #: rows of the table of chains
        self.sums_texts: list[str] = []
        self.sums_entries: list[str] = []  #: rows of the table of sums

    def add(self, index: int, layer: Layer) -> None:
        forward = layer.as_torch_with_tf32()
        self._step(index, layer, "FORWARD", "forward", forward)
        self._step(index, layer, "INPUT_GRADIENT", "backward_input", "tf32")
        self._step(index, layer, "WEIGHT_GRADIENT", "backward_weight", "tf32")
        if layer.bias:
            self._step(index, layer, "BIAS_GRADIENT", "backward_bias", None)

    def add_chain(self, index: int, entry: Entry, layers: list[Layer]) -> None:
        """A chain: its convolution with the epilogue, and the passes of its three programs."""
        if "launch/program.hpp" not in self.headers:
            self.headers.append("launch/program.hpp")
        flat = [n for size in entry.sizes for n in size]
        if entry.layer >= 0 and entry.chain.layer_applies_epilogue:
            layer = layers[entry.layer]
            self._step(index, layer, "FORWARD_CHAIN", "forward", layer.as_torch_with_tf32(), (entry.numbers, flat))
        text, names = "", {}
        for purpose, name in enumerate(("results", "training", "gradient")):
            numbers = entry.numbers if purpose == 0 else entry.gradient_numbers
            answer = torch.ops.upconv._chain_program_text(
                entry.problem, numbers, flat, entry.wanted, purpose, entry.layer >= 0
            )
            statements, *rest = answer.split("\x1e")
            addresses = []
            for at in range(0, len(rest), 3):
                file, kernel, preamble = rest[at : at + 3]
                clusters = file in _CLUSTERS
                for target, _ in TARGETS[1:] if clusters else TARGETS:
                    space = self._kernel(file, kernel, preamble, target).name
                address = f"address({space}::{kernel})"
                addresses.append(f"UPCONV_HOPPER_ONLY({address})" if clusters else address)
            names[name] = f"chain_{index}_{name}"
            lines = "".join(f"    {line}\n" for line in statements.splitlines())
            at = f"    const void* const at[] = {{{', '.join(addresses)}}};\n    return at[i];\n"
            text += f"struct {names[name]} {{\n  static void fill(Program& p) {{\n{lines}  }}\n"
            text += "  static const void* kernel(int i) {\n"
            text += f"{at if addresses else '    return nullptr;' + chr(10)}  }}\n}};\n\n"
        rules = [rule for step in entry.chain.closing if (rule := _shape_rule(step, entry.rank))]
        level = [i for i, s in enumerate(entry.chain.closing) if isinstance(s, _chain.BatchNorm)]
        text += f"constexpr ShapeRule chain_{index}_rules[] = {{{', '.join(rules) or '{}'}}};\n"
        operands, levels = [], entry.levels()
        for i, size in enumerate(entry.sizes):
            present = sum(1 << d for d, n in enumerate(size) if n != 1)
            operands.append(f"{{{_level(entry, levels.get(i, 0))}, {present}, {entry.vectors.get(i, 0)}}}")
        text += f"constexpr OperandRule chain_{index}_operands[] = {{{', '.join(operands) or '{}'}}};\n\n"
        self.chains.append(text)
        truths = ", ".join(
            map(_truth, (entry.chain.layer_applies_epilogue, entry.bias, entry.normalises, entry.keeps_layout))
        )
        programs = ", ".join(f"passes<{names[n]}>()" for n in ("results", "training", "gradient"))
        self.entries.append(
            f"    {{{entry.layer}, {entry.rank}, {entry.channels}, {truths}, {len(rules)}, {len(operands)}, "
            f"{_level(entry, level[0]) if level else 0}, {entry.wanted}u, chain_{index}_rules, chain_{index}_operands, "
            f"{programs}}},\n"
        )

    def add_running(self) -> None:
        text = '#include "types.cuh"\nnamespace config {\ntypedef float Element;\n}\n'
        for target, _ in TARGETS:
            self._kernel("closing/running.cuh", "closing_running", text, target)

    def add_sums(self, index: int, sums: Sums, layer: Layer) -> None:
        """The kernels of the dimensions that are summed."""
        if "launch/tap_sums.hpp" not in self.headers:
            self.headers.append("launch/tap_sums.hpp")
        cases = ""
        for d in sums.dims:
            k, s, p, a = (v[d - 2] for v in (layer.kernel, layer.stride, layer.padding, layer.dilation))
            text = '#include "types.cuh"\nnamespace config {\ntypedef float Element;\n'
            numbers = (("TAPS", k), ("STRIDE", s), ("PADDING", p), ("DILATION", a))
            text += "".join(f"constexpr int {name} = {value};\n" for name, value in numbers) + "}\n"
            for target, _ in TARGETS:
                space = self._kernel("tap_sums.cuh", "tap_sums", text, target).name
            cases += f"    if (dimension == {d + 1 - layer.rank}) return gradient ? "
            cases += f"address({space}::tap_sums_gradient) : address({space}::tap_sums);\n"
        self.sums_texts.append(
            f"struct sums_{index} {{\n  static const void* kernel(int dimension, bool gradient) {{\n{cases}"
            "    return nullptr;\n  }\n};\n\n"
        )
        self.sums_entries.append(f"    {{{sums.layer}, &sums_{index}::kernel}},\n")

    def sums_table(self) -> str:
        """The sums, after the text that says what they are."""
        table = "".join(self.sums_entries)
        text = f"namespace exported {{\n\n{''.join(self.sums_texts)}constexpr TapSums tap_sums[] = {{\n{table}}};\n\n"
        return text + "}  // namespace exported\n"

    def _step(self, index, layer, which, step, permitted, chain=None):
        """One step in both settings of TF32 (one where `permitted` is None) and for both targets. Its last kernels take
        the sizes that others refuse; those of a bias refuse none."""
        name = which.lower()
        what = name.replace("_", " ")
        any_size = ""
        if permitted:
            parts = self._parts(layer, step, "ieee", "base", chain, any_size=True)
            about = f"{layer.name}, {what}, sizes that the kernels below refuse: {parts.candidate}"
            any_size = ", " + self._special(f"{name}_any_size", about, parts, [t for t, _ in TARGETS])
        for target, macro in TARGETS:
            settings = ((1, permitted), (0, "ieee")) if permitted else ((-1, "ieee"),)
            for tf32, precision in settings:
                parts = self._parts(layer, step, precision, target, chain)
                row = Row(layer.name, what + (f", {precision}" if permitted else ""), target, parts.candidate)
                about = f"{row.layer}, {row.what}, {target}: {row.candidate}, {parts.detail}"
                stem = f"{name}_{ {1: 'tf32', 0: 'ieee', -1: 'any'}[tf32] }_{target}"
                special = self._special(stem, about, parts, [target]) + any_size
                self.steps.append((macro, f"step<{special}>({index}, {which}, {tf32}, {_truth(target == 'hopper')})"))
                self.rows.append(row)

    def _parts(self, layer, step, precision, target, chain, any_size=False) -> Parts:
        """What the library says of a step."""
        problem, model = layer.problem(precision), self.architecture[target]
        if chain is not None:
            answer = torch.ops.upconv._chain_launch_text(problem, model, *chain, any_size)
        else:
            answer = torch.ops.upconv._launch_text(problem, step, model, [], any_size)
        candidate, detail, header, struct, fields, *rest = answer.split("\x1e")
        if header not in self.headers:
            self.headers.append(header)
        return Parts(candidate, detail, struct, fields, [tuple(rest[at : at + 3]) for at in range(0, len(rest), 3)])

    def _kernel(self, file, entry, preamble, target) -> Kernel:
        kernel = self.kernels.get((file, preamble))
        if kernel is None:
            stem = "_".join(Path(file).with_suffix("").parts)  # columns.cuh is not closing/columns.cuh
            count = sum(k.file == file for k in self.kernels.values())
            kernel = self.kernels[file, preamble] = Kernel(f"{stem}_{count}", file, preamble)
        kernel.targets.add(target)
        return kernel

    def _special(self, stem, about, parts, targets) -> str:
        """Writes the struct of a set of kernels and what their launch depends on, for these targets; its name."""
        addresses = []
        for file, entry, preamble in parts.kernels:
            for target in targets:
                space = self._kernel(file, entry, preamble, target).name
            addresses.append(f"address({space}::{entry})")
        lines = "".join(f"    {line}\n" for line in parts.fields.splitlines())
        name = f"{stem}_{len(self.specials)}"
        guard = " || ".join(macro for target, macro in TARGETS if target in targets)
        text = f"#if {guard}\n// {about}\nstruct {name} {{\n  static upconv::launch::{parts.struct} fixed() {{\n"
        text += f"    upconv::launch::{parts.struct} f;\n{lines}    return f;\n  }}\n"
        text += f"  static Kernels kernels() {{ return {{{{{', '.join(addresses)}}}}}; }}\n}};\n#endif\n"
        self.specials.append(text)
        return name

    def sources(self) -> dict[str, str]:
        """Every file of kernels/ that is needed, by its path there; what is included comes first."""
        found: dict[str, str] = {}

        def take(name):
            if name in found:
                return
            text = torch.ops.upconv._kernel_source(name)
            for include in _INCLUDE.findall(text):
                take(include)
            found.setdefault(name, text)

        for kernel in self.kernels.values():
            for include in _INCLUDE.findall(kernel.preamble):
                take(include)
            take(kernel.file)
        for header in self.headers:
            take(header)
        return found

    def table(self, layers: list[Layer]) -> str:
        """The layers, the specialised steps and the table of them, as the end of the CUDA source."""
        text = "namespace exported {\n\nconstexpr Layer layers[] = {\n"
        for layer in layers:
            numbers = [(*pad(v, d), "") for v, d in ((layer.kernel, 1), (layer.stride, 1), (layer.padding, 0),
                                                      (layer.output_padding, 0), (layer.dilation, 1))]  # fmt: skip
            lists = ", ".join("{" + ", ".join(map(str, n[:3])) + "}" for n in numbers)
            text += (
                f"    // {layer.name}\n    {{{layer.rank}, {layer.in_channels}, {layer.out_channels}, {layer.groups}, "
            )
            text += f"{_truth(layer.bias)}, {lists}}},\n"
        text += "};\n\n"
        text += "".join(f"{special}\n" for special in self.specials)
        text += "constexpr Step steps[] = {\n"
        for _, macro in TARGETS:
            text += (
                f"#if {macro}\n"
                + "".join(f"    {entry},\n" for guard, entry in self.steps if guard == macro)
                + "#endif\n"
            )
        text += "};\n"
        return text + "\n}  // namespace exported\n"

    def chain_table(self) -> str:
        """The chains, after the text that says what one is."""
        table = "".join(self.entries)
        text = f"namespace exported {{\n\n{''.join(self.chains)}constexpr Chain chains[] = {{\n{table}}};\n\n"
        return text + "}  // namespace exported\n"


def _shape_rule(step, rank) -> str | None:
    """What a closing step does to sizes, as a ShapeRule."""
    if not isinstance(step, (_chain.Reduce, _chain.Pool)):
        return None
    numbers = step.numbers(rank)
    boxes = ", ".join("{" + ", ".join(map(str, numbers[k : k + 3])) + "}" for k in (6, 9, 12))
    return f"{{{_truth(isinstance(step, _chain.Pool))}, {numbers[2]}, {numbers[3]}, {boxes}}}"


def _level(entry, steps) -> int:
    """Closing steps that change sizes, of the first so many."""
    return sum(isinstance(s, (_chain.Reduce, _chain.Pool)) for s in entry.chain.closing[:steps])


def pad(values: tuple[int, ...], default: int) -> tuple[int, ...]:
    """Three dimensions of one to three."""
    return (default,) * (3 - len(values)) + tuple(values)


def _truth(value: bool) -> str:
    return "true" if value else "false"
