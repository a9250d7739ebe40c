# Asks the library how each step of each layer runs, and writes kernels, launches and the table of steps as text.
# Asked by upconv.export.
"""The CUDA parts of an exported file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import _ops  # noqa: F401  (loads the library)
from ._layers import Layer

__all__ = ["Kernels", "text_of"]

#: Where a step's plan comes from, and the macro that says whether it is compiled: the first for every GPU from compute
#: capability 8.0 on, the second for 9.x with the instructions of sm_90a.
TARGETS = (("base", "UPCONV_BASE"), ("hopper", "UPCONV_HOPPER"))
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
    detail: str


class Kernels:
    """Kernels, launch headers and steps, collected layer by layer."""

    def __init__(self, base: str):
        self.architecture = {"base": base, "hopper": "sm_90"}
        self.kernels: dict[tuple[str, str], Kernel] = {}
        self.headers: list[str] = []
        self.specials: dict[str, str] = {}  #: text of a struct: its name
        self.steps: list[tuple[str, str]] = []  #: (guard, entry of the table)
        self.rows: list[Row] = []
        self.activations: list[tuple[int, str]] = []  #: (layer, namespace)

    def add(self, index: int, layer: Layer) -> None:
        forward = layer.as_torch_with_tf32()
        flat = [number for step in layer.steps for number in step]
        self._step(index, layer, "FORWARD", "forward", forward, [])
        if flat:
            self._step(index, layer, "FORWARD_ACTIVATED", "forward", forward, flat)
            name = self._kernel("activation.cuh", "activation", torch.ops.upconv._activation_text(flat), "base").name
            self._kernel("activation.cuh", "activation", torch.ops.upconv._activation_text(flat), "hopper")
            self.activations.append((index, name))
        self._step(index, layer, "INPUT_GRADIENT", "backward_input", "tf32", [])
        self._step(index, layer, "WEIGHT_GRADIENT", "backward_weight", "tf32", [])
        if layer.bias:
            self._step(index, layer, "BIAS_GRADIENT", "backward_bias", None, [])

    def add_norm(self) -> None:
        for target, _ in TARGETS:
            self._kernel("group_norm.cuh", "group_norm", "", target)

    def _step(self, index, layer, which, step, permitted, epilogue):
        """One step in both settings of TF32 (one where `permitted` is None) and for both targets."""
        for target, macro in TARGETS:
            settings = ((1, permitted), (0, "ieee")) if permitted else ((-1, "ieee"),)
            for tf32, precision in settings:
                answer = torch.ops.upconv._launch_text(
                    layer.problem(precision), step, self.architecture[target], [float(v) for v in epilogue]
                )
                candidate, detail, header, struct, fields, *rest = answer.split("\x1e")
                if header not in self.headers:
                    self.headers.append(header)
                entries = []
                for at in range(0, len(rest), 3):
                    file, entry, preamble = rest[at : at + 3]
                    entries.append(f"{self._kernel(file, entry, preamble, target).name}::{entry}")
                special = self._special(which, target, tf32, struct, fields, entries)
                self.steps.append((macro, f"step<{special}>({index}, {which}, {tf32}, {_truth(target == 'hopper')})"))
                what = which.lower().replace("_", " ") + (f", {precision}" if permitted else "")
                self.rows.append(Row(layer.name, what, target, candidate, detail))

    def _kernel(self, file, entry, preamble, target) -> Kernel:
        kernel = self.kernels.get((file, preamble))
        if kernel is None:
            stem = Path(file).stem
            count = sum(k.file == file for k in self.kernels.values())
            kernel = self.kernels[file, preamble] = Kernel(f"{stem}_{count}", file, preamble)
        kernel.targets.add(target)
        return kernel

    def _special(self, which, target, tf32, struct, fields, entries) -> str:
        lines = "".join(f"    {line}\n" for line in fields.splitlines())
        body = f"  static upconv::launch::{struct} fixed() {{\n    upconv::launch::{struct} f;\n{lines}"
        body += "    return f;\n  }\n"
        addresses = ", ".join(f"address({entry})" for entry in entries)
        body += f"  static Kernels kernels() {{ return {{{{{addresses}}}}}; }}\n"
        name = f"{which.lower()}_{ {1: 'tf32', 0: 'ieee', -1: 'any'}[tf32] }_{target}_{len(self.specials)}"
        self.specials[name] = body
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
        of = {entry.split("<")[1].split(">")[0]: guard for guard, entry in self.steps}
        for (name, body), row in zip(self.specials.items(), self.rows, strict=True):
            text += f"#if {of[name]}\n// {row.layer}, {row.what}, {row.target}: {row.candidate}, {row.detail}\n"
            text += f"struct {name} {{\n{body}}};\n#endif\n\n"
        text += "constexpr Step steps[] = {\n"
        for _, macro in TARGETS:
            text += (
                f"#if {macro}\n"
                + "".join(f"    {entry},\n" for guard, entry in self.steps if guard == macro)
                + "#endif\n"
            )
        text += "};\n"
        if self.activations:
            text += _ACTIVATION_HEAD
            for index, name in self.activations:
                text += f"  if (layer == {index})\n    kernel = gradient ? address({name}::activation_backward) : "
                text += f"address({name}::activation_forward);\n"
            text += _ACTIVATION_TAIL
        return text + "\n}  // namespace exported\n"


_ACTIVATION_HEAD = """
/// y = f(z), or dz = dy * f'(z), of the activation after a layer.
inline cudaError_t run_activation(int layer, bool gradient, const void* z, const void* dy, void* result,
                                  long long count, cudaStream_t stream) {
  const void* kernel = nullptr;
"""
_ACTIVATION_TAIL = """  void* forward[] = {&z, &result, &count};
  void* backward[] = {&z, &dy, &result, &count};
  const long long blocks = (count + 1023) / 1024;
  const unsigned grid = static_cast<unsigned>(blocks < 65536 ? blocks : 65536);
  return cudaLaunchKernel(kernel, dim3(grid), dim3(256), gradient ? backward : forward, 0, stream);
}
"""


def pad(values: tuple[int, ...], default: int) -> tuple[int, ...]:
    """Three dimensions of one to three."""
    return (default,) * (3 - len(values)) + tuple(values)


def _truth(value: bool) -> str:
    return "true" if value else "false"
