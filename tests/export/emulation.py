"""An exported file's kernels and launches on the emulator (tests/emulator), in the place of its compiled extension.

What load_inline would compile is translated and compiled for the CPU; the functions below do what the torch glue of the
file does with the tensors, so that ModelNew and its autograd functions run on CPU tensors as they are.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("UPCONV_BUILD", "build") / "tests"
TRANSLATOR, LIBRARY = BUILD / "upconv_emulate", BUILD / "libupconv_emulator.so"
HEADER = ROOT / "tests" / "emulator" / "cuda.hpp"
FLAGS = ["-std=c++17", "-O1", "-w", "-fPIC", "-shared", "-fno-threadsafe-statics", "-fno-strict-aliasing",
         "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden"]  # fmt: skip
#: Multiprocessors: few, so that persistent grids take turns.
PROCESSORS = 3
FORWARD, FORWARD_ACTIVATED, INPUT_GRADIENT, WEIGHT_GRADIENT, BIAS_GRADIENT = range(5)

needs_emulator = pytest.mark.skipif(
    not (TRANSLATOR.exists() and LIBRARY.exists() and HEADER.exists()), reason=f"the emulator is not built in {BUILD}"
)
_loaded = itertools.count()


def load(path: Path):
    """An exported or problem file as a module."""
    spec = importlib.util.spec_from_file_location(f"exported_{next(_loaded)}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(module, hopper: bool, folder: Path) -> Emulated:
    """The module's CUDA source as it is built for compute capability 9.0 or 8.0."""
    source, translated = folder / "source.cu", folder / "source.cpp"
    source.write_text(module.kernel_source() + (ROOT / "tests/export/emulated.cpp").read_text())
    subprocess.run([TRANSLATOR, source, translated], check=True)
    # Kernels of one name in different namespaces: their entries must not meet.
    exposed = 'extern "C" __attribute__((visibility("default"))) void emu_entry_'
    text = translated.read_text().replace(exposed, "static void emu_entry_")
    translated.write_text(text)
    defined = [
        f"-D__CUDA_ARCH__={900 if hopper else 800}",
        f"-DUPCONV_HOPPER={int(hopper)}",
        f"-DUPCONV_BASE={int(not hopper)}",
    ]
    defined += ["-DEXPORTED_ACTIVATION"] if module.ACTIVATED else []
    defined += ["-DEXPORTED_NORM"] if hasattr(module, "_GroupNorm") else []
    library = folder / f"source{next(_loaded)}.so"
    command = ["g++", *FLAGS, *defined, "-I", ROOT / "tests", "-I", ROOT / "tests/emulator/include", "-include", HEADER,
               translated, LIBRARY, f"-Wl,-rpath,{BUILD}", "-o", library]  # fmt: skip
    made = subprocess.run(command, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[:4000]
    return Emulated(module, ctypes.CDLL(str(library)), hopper)


class Emulated:
    """The functions that load_inline binds, on CPU tensors."""

    def __init__(self, module, library, hopper: bool):
        self.layers, self.hopper, self.library = module.LAYERS, hopper, library
        self.calls: list[tuple] = []
        for name in ("exported_run", "exported_activation", "exported_norm", "exported_norm_gradient"):
            if hasattr(library, name):
                getattr(library, name).restype = ctypes.c_char_p

    def upconv_forward(self, x, w, b, layer, tf32, activated):
        out = self._out(layer, x.shape)
        y = torch.full((x.shape[0], self.layers[layer][2], *out), float("nan"))
        bias = b.contiguous() if self.layers[layer][9] else None
        self._run(layer, FORWARD_ACTIVATED if activated else FORWARD, tf32, x.shape, x, w, bias, y)
        return y

    def upconv_input_gradient(self, dy, w, size, layer, tf32):
        dx = torch.full(tuple(size), float("nan"))
        self._run(layer, INPUT_GRADIENT, tf32, size, dy, w, None, dx)
        return dx

    def upconv_weight_gradient(self, x, dy, layer, tf32):
        _, ci, co, kernel, *_, groups, _ = self.layers[layer]
        dw = torch.full((ci, co // groups, *kernel), float("nan"))
        self._run(layer, WEIGHT_GRADIENT, tf32, x.shape, x, dy, None, dw)
        return dw

    def upconv_bias_gradient(self, dy, size, layer):
        db = torch.full((self.layers[layer][2],), float("nan"))
        self._run(layer, BIAS_GRADIENT, False, size, dy, None, None, db)
        return db

    def upconv_activation(self, z, dy, layer, gradient):
        result = torch.full_like(z, float("nan"))
        error = self.library.exported_activation(layer, int(gradient), _at(z), _at(dy.contiguous()), _at(result),
                                                 ctypes.c_longlong(z.numel()))  # fmt: skip
        assert error is None, error
        return result

    def upconv_group_norm(self, x, weight, bias, groups, eps):
        y, statistics = torch.full(x.shape, float("nan")), torch.full((x.shape[0] * groups, 2), float("nan"))
        error = self.library.exported_norm(_at(x), _at(weight), _at(bias), ctypes.c_float(eps), *_planes(x, groups),
                                           _at(statistics), _at(y))  # fmt: skip
        assert error is None, error
        return y, statistics

    def upconv_group_norm_gradient(self, x, dy, weight, statistics, groups):
        dx, dweight, dbias = (torch.full_like(t, float("nan")) for t in (x, weight, weight))
        error = self.library.exported_norm_gradient(_at(x), _at(dy.contiguous()), _at(weight), _at(statistics),
                                                    *_planes(x, groups), _at(dx), _at(dweight), _at(dbias))  # fmt: skip
        assert error is None, error
        return dx, dweight, dbias

    def _out(self, layer, size):
        _, _, _, kernel, stride, padding, output_padding, dilation, _, _ = self.layers[layer]
        return [
            (i - 1) * s - 2 * p + d * (k - 1) + op + 1
            for i, k, s, p, op, d in zip(size[2:], kernel, stride, padding, output_padding, dilation, strict=True)
        ]

    def _run(self, layer, which, tf32, size, a, b, bias, result):
        self.calls.append((layer, which, tf32))
        error = self.run(layer, which, tf32, size, a, b, bias, result)
        assert error is None, error

    def run(self, layer, which, tf32, size, a, b, bias, result) -> bytes | None:
        """What the launches themselves answer: None, or what is wrong."""
        rank = self.layers[layer][0]
        inputs = (ctypes.c_longlong * 3)(*[1] * (3 - rank), *size[2:])
        outputs = (ctypes.c_longlong * 3)(*[1] * (3 - rank), *self._out(layer, size))
        a, b = None if a is None else a.contiguous(), None if b is None else b.contiguous()
        return self.library.exported_run(layer, which, int(tf32), int(self.hopper), PROCESSORS,
                                         ctypes.c_longlong(size[0]), inputs, outputs, _at(a), _at(b), _at(bias),
                                         _at(result))  # fmt: skip


def _at(tensor):
    return ctypes.c_void_p(tensor.data_ptr() if tensor is not None else None)


def _planes(x, groups):
    volume = x[0, 0].numel()
    return (ctypes.c_longlong(n) for n in (x.shape[0], x.shape[1], groups, volume))
