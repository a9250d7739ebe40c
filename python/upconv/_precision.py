# How fp32 products are computed on a GPU: the names users write, the numbers the operators take, and what torch's own
# switch says now. Called by functional and nn before every call.
"""Precision of fp32 transposed convolutions on CUDA: ``torch`` (the default), ``ieee``, ``tf32``, ``bf16x3``."""

from __future__ import annotations

import torch

__all__ = ["NAMES", "code"]

#: ``torch`` reproduces what torch computes under its current settings; error of the others against float64, relative:
#: ``ieee`` 3e-7, ``bf16x3`` 4e-6, ``tf32`` 3e-4. Other dtypes, and the CPU, have one way only.
NAMES = ("torch", "ieee", "tf32", "bf16x3")
_CODES = {"ieee": 0, "tf32": 1, "bf16x3": 2}
_AS_TORCH_WITH_TF32 = 3  # what that is for a problem and a pass: bindings/torch/arguments.cpp
_float32 = torch.float32


def _permits_tf32() -> bool:
    conv = getattr(torch.backends.cudnn, "conv", None)
    setting = getattr(conv, "fp32_precision", None)
    # Where fp32_precision exists, reading the old switch can raise.
    return torch.backends.cudnn.allow_tf32 if setting is None else setting == "tf32"


# torch.compile cannot look into torch.backends: it asks once, while it traces, and compiles for that setting.
# (This is all torch.compiler.assume_constant_result does; calling it would import the compiler.)
_permits_tf32._dynamo_marked_constant = True


def code(precision: str, x) -> int:
    """The operators' number for a precision by name, for a call with input ``x``. ValueError for another name."""
    if precision == "torch":
        if getattr(x, "is_cuda", False) and x.dtype is _float32 and _permits_tf32():
            return _AS_TORCH_WITH_TF32
        return 0
    try:
        return _CODES[precision]
    except (KeyError, TypeError):
        raise ValueError(f"precision should be one of {', '.join(NAMES)}, but got {precision!r}") from None
