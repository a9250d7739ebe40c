"""Model files: Python files that define Model, get_inputs() and get_init_inputs(), in KernelBench's form.

Used by `upconv demo` (the files of examples/models) and `upconv explain FILE`.
"""

from __future__ import annotations

import importlib.util
import itertools
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from upconv.cli.problem import Problem

DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
_loaded = itertools.count()


class ModelFileError(Exception):
    """A file that is no model file; the message says what is missing."""


@dataclass(frozen=True)
class Variant:
    """One model of a file: its class with one set of arguments."""

    file: Path
    name: str
    module: ModuleType
    init: dict
    sizes_on_cpu: dict[str, int]

    @property
    def title(self) -> str:
        return f"{self.file.stem} {self.name}".strip()

    @property
    def summary(self) -> str:
        return (self.module.__doc__ or "").strip().partition("\n")[0]

    def build(self) -> torch.nn.Module:
        return self.module.Model(*self.module.get_init_inputs(**self.init))

    def inputs(self, **sizes: int) -> list[torch.Tensor]:
        return self.module.get_inputs(**sizes)


def examples_folder() -> Path:
    """Where the demo's models lie: examples/models of a checkout, which a wheel has as upconv/examples."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "examples", package.parents[1] / "examples" / "models"):
        if folder.is_dir():
            return folder
    raise ModelFileError(f"the demo's model files are missing: neither {package}/examples nor a checkout has them")


def load_model_file(path: Path) -> list[Variant]:
    """Run the file and return its variants; a file without VARIANTS has one."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"upconv_model_{next(_loaded)}", path)
    if spec is None or spec.loader is None:
        raise ModelFileError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelFileError(f"{path} does not import: {type(error).__name__}: {error}") from error
    missing = [name for name in ("Model", "get_inputs", "get_init_inputs") if not hasattr(module, name)]
    if missing:
        raise ModelFileError(
            f"{path} does not define {', '.join(missing)}; a model file defines Model, get_inputs() "
            "and get_init_inputs()"
        )
    sizes = getattr(module, "SIZES_ON_CPU", {})
    variants = getattr(module, "VARIANTS", {"": {}})
    return [Variant(path, name, module, init, sizes) for name, init in variants.items()]


def convs_of(variant: Variant, **sizes: int) -> list[tuple[str, Problem]]:
    """Name and problem of each transposed convolution of a variant, computing nothing where torch can."""
    try:
        with torch.device("meta"):
            return transposed_convs(variant.build(), variant.inputs(**sizes))
    except Exception:  # an operator without meta kernel, or inputs made on a device of their own: run it for real
        pass
    try:
        return transposed_convs(variant.build(), variant.inputs(**sizes))
    except Exception as error:
        raise ModelFileError(f"{variant.file}: the model does not run: {type(error).__name__}: {error}") from error


def transposed_convs(model: torch.nn.Module, inputs: list[torch.Tensor]) -> list[tuple[str, Problem]]:
    """Name and problem of every transposed convolution that a forward of `model` runs, in its order."""
    seen: list[tuple[str, Problem]] = []
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.conv._ConvTransposeNd):
            module.register_forward_hook(lambda m, args, y, name=name: seen.append((name, _problem(m, args[0], y))))
    with torch.no_grad():
        model(*inputs)
    return seen


def _problem(conv: torch.nn.modules.conv._ConvTransposeNd, x: torch.Tensor, y: torch.Tensor) -> Problem:
    rank = len(conv.kernel_size)
    if x.shape[-rank - 1] != conv.in_channels:  # which the meta device lets pass
        raise ValueError(f"{conv} got an input of shape {tuple(x.shape)}")
    batch = x.shape[0] if x.dim() == rank + 2 else 1
    problem = Problem(
        rank=rank,
        batch=batch,
        in_channels=conv.in_channels,
        out_channels=conv.out_channels,
        input=tuple(x.shape[-rank:]),
        kernel=tuple(conv.kernel_size),
        stride=tuple(conv.stride),
        padding=tuple(conv.padding),
        dilation=tuple(conv.dilation),
        groups=conv.groups,
        bias=conv.bias is not None,
        dtype=DTYPES[x.dtype],
    )
    # What the layer was built with, or what a caller's output_size asked for: the output tells.
    extra = tuple(int(a) - b for a, b in zip(y.shape[-rank:], problem.output, strict=True))
    return Problem(**{**vars(problem), "output_padding": extra})
