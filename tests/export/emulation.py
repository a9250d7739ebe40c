"""An exported file's kernels and launches on the emulator (tests/emulator), in the place of its compiled extension.

What load_inline would compile is translated and compiled for the CPU; the functions below do what the torch glue of the
file does with the tensors, so that ModelNew and its autograd functions run on CPU tensors as they are.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import math
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
FORWARD, FORWARD_CHAIN, INPUT_GRADIENT, WEIGHT_GRADIENT, BIAS_GRADIENT = range(5)

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
    defined += ["-DEXPORTED_CHAINS"] if hasattr(module, "CHAINS") else []
    defined += ["-DEXPORTED_SUMS"] if hasattr(module, "SUMS") else []
    defined += ["-DEXPORTED_RUNNING"] if "upconv_update_running" in module.FUNCTIONS else []
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
        self.passes: list[int] = []  #: that each program of a chain ran
        self.module = module
        for name in (
            "exported_run",
            "exported_chain_layer",
            "exported_chain_run",
            "exported_running",
            "exported_tap_sums",
        ):
            if hasattr(library, name):
                getattr(library, name).restype = ctypes.c_char_p

    def upconv_forward(self, x, w, b, layer, tf32):
        out = self._out(layer, x.shape)
        y = torch.full((x.shape[0], self.layers[layer][2], *out), float("nan"))
        bias = b.contiguous() if self.layers[layer][9] else None
        self._run(layer, FORWARD, tf32, x.shape, x, w, bias, y)
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

    def upconv_chain(self, x, w, b, operands, chain, tf32, training):
        layer = self.module.CHAINS[chain][0]
        x = x.contiguous()
        z_shape = x.shape if layer < 0 else (x.shape[0], self.layers[layer][2], *self._out(layer, x.shape))
        call = _ChainCall(self, chain, 1 if training else 0, z_shape, operands)
        y, saved, passes = call.sizes()
        z, statistics = x, torch.full((2, z_shape[1]), float("nan"), dtype=torch.float64)
        if layer >= 0:
            bias = b.contiguous() if self.layers[layer][9] else None
            z = y if passes == 0 else torch.full(z_shape, float("nan"))
            applied = not training and f"({chain}, FORWARD_CHAIN, " in self.module.STEPS
            self.calls.append((layer, FORWARD_CHAIN if applied else FORWARD, tf32))
            if applied:
                call.layer(tf32, x, w.contiguous(), bias, z)
            else:
                self._run(layer, FORWARD, tf32, x.shape, x, w, bias, z)
        call.run(z=z, y=y, saved=saved, statistics=statistics)
        return [y, *([z, *saved] if training else []), statistics]

    def upconv_chain_gradient(self, dy, z, size, saved, operands, chain):
        _, biased, wanted = self.module.CHAINS[chain]
        call = _ChainCall(self, chain, 2, z.shape, operands)
        dz, db = torch.full_like(z, float("nan")), torch.full((z.shape[1] if biased else 0,), float("nan"))
        gradients = [torch.full(t.shape if wanted >> i & 1 else (0,), float("nan")) for i, t in enumerate(operands)]
        before = z.clone()
        call.run(z=z, dy=dy.contiguous(), dz=dz, db=db, saved=saved, gradients=gradients)
        assert torch.equal(before, z)
        return [dz, db, *gradients]

    def upconv_update_running(self, statistics, mean, variance, batches, momentum, size, chain):
        layer = self.module.CHAINS[chain][0]
        shape = (size[0], mean.numel(), *self._out(layer, size))
        averages = (_at(statistics), _at(mean), _at(variance), _at(batches), ctypes.c_double(momentum))
        error = self.library.exported_running(*averages, chain, _sizes([shape]), mean.numel())
        assert error is None, error

    def upconv_tap_sums(self, x, sums):
        return self._tap_sums(x, x.shape, sums, False)

    def upconv_tap_sums_gradient(self, gradient, size, sums):
        return self._tap_sums(gradient, size, sums, True)

    def _tap_sums(self, t, size, sums, gradient):
        layer = int(self.module.STEPS.split("TapSums tap_sums[] = {")[1].split("{")[1 + sums].split(",")[0])
        rank, out, kernel = len(size) - 2, self._out(layer, size), self.layers[layer][3]
        dims = self.module.SUMS[sums]
        scale = 1.0 / math.prod(out[d - 2] for d in dims)
        for d in sorted(dims, reverse=gradient):
            shape = list(t.shape)
            shape[d] = size[d] if gradient else kernel[d - 2]
            to = torch.full(shape, float("nan"))
            sizes = (ctypes.c_longlong * 4)(math.prod(shape[:d]), size[d], math.prod(shape[d + 1 :]), out[d - 2])
            t = t.contiguous()
            error = self.library.exported_tap_sums(sums, d + 1 - rank, int(gradient), _at(t), _at(to), sizes,
                                                   ctypes.c_float(scale), PROCESSORS)  # fmt: skip
            assert error is None, error
            t, scale = to, 1.0
        return t

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


def _five(shape):
    shape = tuple(shape)
    return (*shape[:2], *[1] * (5 - len(shape)), *shape[2:])


def _sizes(shapes):
    flat = [n for s in shapes for n in _five(s)]
    return (ctypes.c_longlong * max(len(flat), 1))(*flat)


class _ChainCall:
    """One program of a chain, as the file's own glue prepares it."""

    def __init__(self, emulated, chain, which, z, operands):
        self.library, self.emulated, self.chain, self.which, self.z = emulated.library, emulated, chain, which, z
        rows = emulated.module.STEPS.split(f"chain_{chain}_operands[] = {{")[1].split("};")[0]
        vectors = [row.rstrip("}").split(", ")[2] != "0" for row in rows.split("{")[1:] if row.strip("}, ")]
        shapes, rank = [], len(z) - 2
        for t, vector in zip(operands, vectors, strict=False):
            own = (1, t.numel()) if vector else (*(1,) * (rank + 2 - t.dim()), *t.shape)
            shapes.append(own)
        self.operands = [t.contiguous() for t in operands]
        self.given = (ctypes.c_void_p * max(len(operands), 1))(*(t.data_ptr() for t in self.operands))
        self.given_sizes = _sizes(shapes)

    def sizes(self):
        y, saved, count = (ctypes.c_longlong * 5)(), (ctypes.c_longlong * 16)(), ctypes.c_int()
        passes = self.library.exported_chain_sizes(self.chain, self.which, PROCESSORS, _sizes([self.z]), self.given,
                                                   self.given_sizes, y, saved, ctypes.byref(count))  # fmt: skip
        shape = [y[0], y[1], *list(y)[7 - len(self.z) :]]
        kept = [torch.full((saved[i],), 255, dtype=torch.uint8) for i in range(count.value)]
        return torch.full(shape, float("nan")), kept, passes

    def layer(self, tf32, x, w, bias, z):
        rank = len(self.z) - 2
        inputs = (ctypes.c_longlong * 3)(*[1] * (3 - rank), *x.shape[2:])
        outputs = (ctypes.c_longlong * 3)(*[1] * (3 - rank), *self.z[2:])
        error = self.library.exported_chain_layer(
            self.chain, int(tf32), int(self.emulated.hopper), PROCESSORS, ctypes.c_longlong(x.shape[0]), inputs,
            outputs, _at(x), _at(w), _at(bias), _at(z), self.given, self.given_sizes)  # fmt: skip
        assert error is None, error

    def run(self, z, y=None, dy=None, dz=None, db=None, saved=(), gradients=(), statistics=None):
        addresses = lambda many: (ctypes.c_void_p * max(len(many), 1))(*(t.data_ptr() for t in many))  # noqa: E731
        error = self.library.exported_chain_run(
            self.chain, self.which, PROCESSORS, _sizes([self.z]), self.given, self.given_sizes, _at(z), _at(dy), _at(y),
            _at(dz), _at(db), addresses(saved), addresses(gradients), _at(statistics))  # fmt: skip
        assert error is None, error
        self.emulated.passes.append(self.library.exported_chain_runs(
            self.chain, self.which, PROCESSORS, _sizes([self.z]), self.given, self.given_sizes))  # fmt: skip
