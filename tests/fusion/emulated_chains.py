"""Chains on the CUDA engine without a GPU: the plan of tests/emulator's device over CPU tensors.

``operator`` stands in for ``torch.ops.upconv._chain``; ``installed`` puts it there, so that everything above it, from
``upconv.optimize`` down, runs as it would on CUDA.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import pytest
import torch

from upconv import _fused_chain, _shapes, _training_chain

BUILD = Path(__file__).resolve().parents[2] / os.environ.get("UPCONV_BUILD", "build") / "tests"
LIBRARY, EMULATOR = BUILD / "libupconv_chain_runner.so", BUILD / "libupconv_emulator.so"
needs_emulator = pytest.mark.skipif(not (LIBRARY.exists() and EMULATOR.exists()), reason=f"no emulator in {BUILD}")
_DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
_library = None


class _Call(ctypes.Structure):
    _fields_ = [
        ("problem", ctypes.c_char_p), ("numbers", ctypes.POINTER(ctypes.c_double)), ("number_count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in "xwb"), *((f"{name}_count", ctypes.c_int64) for name in "xwb"),
        ("y", ctypes.c_void_p), ("y_count", ctypes.c_int64), ("statistics", ctypes.c_void_p),
        ("operand_count", ctypes.c_int64), ("operands", ctypes.POINTER(ctypes.c_void_p)),
        ("operand_sizes", ctypes.POINTER(ctypes.c_int64)),
    ]  # fmt: skip


class _Training(ctypes.Structure):
    _fields_ = [
        ("chain", _Call), ("wanted", ctypes.c_int64), ("gradient", ctypes.c_int64), ("z", ctypes.c_void_p),
        ("saved", ctypes.c_void_p), ("z_count", ctypes.c_int64), ("saved_bytes", ctypes.c_int64),
        ("dy", ctypes.c_void_p), ("dz", ctypes.c_void_p), ("db", ctypes.c_void_p),
        ("gradients", ctypes.POINTER(ctypes.c_void_p)),
    ]  # fmt: skip


def _loaded():
    global _library
    if _library is None:
        os.environ.setdefault("UPCONV_EMULATOR_DEVICE", "sm_90")
        os.environ["UPCONV_NVRTC"] = os.environ["UPCONV_CUDA_DRIVER"] = str(EMULATOR)
        os.environ.setdefault("UPCONV_CACHE_DIR", str(BUILD / "emulator-cache"))
        _library = ctypes.CDLL(str(LIBRARY))
        _library.upconv_run_chain.restype = _library.upconv_explain_chain.restype = ctypes.c_char_p
        _library.upconv_train_chain.restype = ctypes.c_char_p
        _library.upconv_saved_bytes.restype = ctypes.c_int64
    return _library


def problem_text(x, w, b, geometry, precision="") -> str:
    """The layer's problem as upconv reads it."""
    n = w.dim() - 2
    stride, padding, output_padding, dilation = (geometry[i * n : (i + 1) * n] for i in range(4))
    groups = geometry[-2]
    size = lambda values: "x".join(str(v) for v in values)  # noqa: E731
    words = [f"{n}d", f"n{x.shape[0]}", f"c{x.shape[1]}", f"o{w.shape[1] * groups}", f"i{size(x.shape[2:])}",
             f"k{size(w.shape[2:])}", f"s{size(stride)}", f"p{size(padding)}", f"op{size(output_padding)}",
             f"d{size(dilation)}", f"g{groups}"]  # fmt: skip
    if b is not None:
        words.append("b")
    return " ".join([*words, precision or _DTYPES[x.dtype]])


def _five(t, rank):
    """Sizes of an operand over (n, channel, d, h, w)."""
    if t.dim() == 0:
        return [1] * 5
    if t.dim() == 1:
        return [1, t.shape[0], 1, 1, 1]
    return [*t.shape[:2], *[1] * (3 - rank), *t.shape[2:]]


def call(x, w, b, operands, geometry, numbers, precision=""):
    rank = w.dim() - 2
    split = [geometry[i * rank : (i + 1) * rank] for i in range(4)]
    shape = _shapes.output_shape(x, w, b, *split, geometry[-2])
    result, normalises = _fused_chain.shape_after(list(shape), numbers)
    x, w = x.contiguous(), w.contiguous()
    b = None if b is None else b.contiguous()
    operands = [t.contiguous() for t in operands]
    y = torch.full(result, float("nan"), dtype=x.dtype)
    statistics = torch.full((2, shape[1] if normalises else 0), float("nan"), dtype=torch.float64)
    at = lambda t: ctypes.c_void_p(None if t is None else t.data_ptr())  # noqa: E731
    sizes = [n for t in operands for n in _five(t, rank)]
    made = _Call(
        problem_text(x, w, b, geometry, precision).encode(), (ctypes.c_double * len(numbers))(*numbers), len(numbers),
        at(x), at(w), at(b), x.numel(), w.numel(), 0 if b is None else b.numel(), at(y), y.numel(), at(statistics),
        len(operands), (ctypes.c_void_p * max(len(operands), 1))(*(t.data_ptr() for t in operands)),
        (ctypes.c_int64 * max(len(sizes), 1))(*sizes),
    )  # fmt: skip
    made._alive = (x, w, b, operands)
    return made, y, statistics


def operator(x, w, b, operands, geometry, numbers):
    """As torch.ops.upconv._chain."""
    made, y, statistics = call(x, w, b, operands, tuple(geometry), list(numbers))
    error = _loaded().upconv_run_chain(ctypes.byref(made))
    if error is not None:
        raise RuntimeError(error.decode())
    return y, statistics


def explain(x, w, b, geometry, numbers, precision="") -> str:
    made, *_ = call(x, w, b, (), tuple(geometry), list(numbers), precision)
    return _loaded().upconv_explain_chain(ctypes.byref(made)).decode()


def _at(t):
    return None if t is None else t.data_ptr()


def _layer_shape(x, w, b, geometry):
    rank = w.dim() - 2
    return _shapes.output_shape(x, w, b, *(geometry[i * rank : (i + 1) * rank] for i in range(4)), geometry[-2])


def training(x, w, b, operands, geometry, numbers, wanted):
    """As torch.ops.upconv._chain_training."""
    made, y, statistics = call(x, w, b, operands, tuple(geometry), list(numbers))
    z = torch.full(_layer_shape(x, w, b, geometry), float("nan"), dtype=x.dtype)
    t = _Training(chain=made, wanted=wanted, z=_at(z), z_count=z.numel())
    t.saved_bytes = _loaded().upconv_saved_bytes(ctypes.byref(t))
    saved = torch.full((max(t.saved_bytes, 0) // 8,), float("nan"), dtype=torch.float64)
    t.saved = _at(saved)
    error = _loaded().upconv_train_chain(ctypes.byref(t))
    if error is not None:
        raise RuntimeError(error.decode())
    return y, z, saved, statistics


def gradient(dy, x, w, bias, z, saved, operands, geometry, numbers, wanted):
    """As torch.ops.upconv._chain_gradient."""
    b = torch.empty(z.shape[1], dtype=x.dtype) if bias else None
    made, *_ = call(x, w, b, operands, tuple(geometry), list(numbers))
    dy = dy.contiguous()
    dz, db = torch.full_like(z, float("nan")), torch.full((z.shape[1] if bias else 0,), float("nan"), dtype=x.dtype)
    gradients = [torch.full(t.shape if wanted >> i & 1 else (0,), float("nan"), dtype=x.dtype)
                 for i, t in enumerate(operands)]  # fmt: skip
    t = _Training(chain=made, wanted=wanted, gradient=1, z=_at(z), z_count=z.numel(), saved=_at(saved), dy=_at(dy),
                  saved_bytes=saved.numel() * 8, dz=_at(dz), db=_at(db) if bias else None,
                  gradients=(ctypes.c_void_p * max(len(gradients), 1))(*(_at(g) for g in gradients)))  # fmt: skip
    error = _loaded().upconv_train_chain(ctypes.byref(t))
    if error is not None:
        raise RuntimeError(error.decode())
    return dz, db, gradients


@contextlib.contextmanager
def installed():
    """Chains on CPU tensors run on the emulated GPU meanwhile; the layer's own gradients stay the CPU engine's."""
    before = _fused_chain._operator, _training_chain._training, _training_chain._gradient
    _fused_chain._operator, _training_chain._training, _training_chain._gradient = operator, training, gradient
    _training_chain.DEVICES.add("cpu")
    try:
        yield
    finally:
        _fused_chain._operator, _training_chain._training, _training_chain._gradient = before
        _training_chain.DEVICES.discard("cpu")
