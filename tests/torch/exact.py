# What a transposed convolution must give: computed in float64 by torch, with an error bound that scales with
# the sum of |x||w| that went into each number. Used by the parity tests.
"""float64 truth and its tolerance."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

FUNCTIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
# Unit roundoff of what is stored, and of what is accumulated (half types accumulate in float32).
STORED = {torch.float32: 2**-24, torch.float64: 2**-53, torch.bfloat16: 2**-8, torch.float16: 2**-11}
ACCUMULATED = {**STORED, torch.bfloat16: 2**-24, torch.float16: 2**-24}


def double(*tensors):
    return [None if t is None else t.detach().double().contiguous() for t in tensors]


def forward(x, w, b, **how):
    """(y, bound) in float64."""
    f = FUNCTIONS[w.dim() - 2]
    x64, w64, b64 = double(x, w, b)
    size = f(x64.abs(), w64.abs(), None if b is None else b64.abs(), **how)
    return f(x64, w64, b64, **how), size


def gradients(x, w, b, dy, **how):
    """[(dx, bound), (dw, bound), (db, bound)] in float64."""
    f = FUNCTIONS[w.dim() - 2]
    exact, sizes = [], []
    for values, transform in ((exact, lambda t: t), (sizes, torch.abs)):
        leaves = [None if t is None else transform(t).requires_grad_() for t in double(x, w, b)]
        y = f(*leaves, **how)
        values += torch.autograd.grad(y, [t for t in leaves if t is not None], transform(double(dy)[0]))
    return list(zip(exact, sizes, strict=True))


def assert_near(actual, exact, size, terms, what=""):
    """|actual - exact| within rounding of the stored dtype and of a sum of ``terms`` products of total ``size``."""
    assert actual.shape == exact.shape, f"{what}: shape {tuple(actual.shape)} is not {tuple(exact.shape)}"
    error = (actual.detach().double() - exact).abs()
    accumulated = ACCUMULATED[actual.dtype] * (4 + 2 * math.sqrt(terms))
    bound = accumulated * size + 1.01 * STORED[actual.dtype] * exact.abs() + 1e-300
    if actual.dtype == torch.float16:
        bound = bound + 2**-24  # subnormal spacing
    ratio = (error / bound).max().item() if error.numel() else 0.0
    assert ratio <= 1.0, f"{what}: error {error.max().item():.3e} is {ratio:.1f} times what rounding explains"
