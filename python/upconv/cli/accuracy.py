"""How far a result may be from float64. Used by `upconv demo` and `upconv bench`; tests/ has its own."""

from __future__ import annotations

import math

import torch

FP32_EPSILON = torch.finfo(torch.float32).eps


TF32_EPSILON = 2.0**-10


def bound(products: float, dtype: torch.dtype = torch.float32, tf32: bool = False) -> float:
    """Largest difference allowed, relative to the largest value, where each element sums `products` products.
    `tf32`: of fp32 operands rounded to TF32 first, which errs by half a TF32 epsilon each.

    A chain of K fp32 roundings errs by about 0.4 sqrt(K) epsilon of the largest sum. sqrt(K) epsilon passes
    it and fails operands rounded to TF32 or bf16; storing the result adds a rounding in its own format."""
    accumulate = torch.finfo(torch.float64).eps if dtype == torch.float64 else FP32_EPSILON
    operands = TF32_EPSILON if tf32 and dtype == torch.float32 else 0.0
    return math.sqrt(products) * accumulate + torch.finfo(dtype).eps + operands


def relative_error(got: torch.Tensor, truth: torch.Tensor) -> tuple[float, float]:
    """(largest absolute difference, the same relative to the largest true value); NaN stays NaN."""
    if truth.numel() == 0:
        return 0.0, 0.0
    largest = truth.abs().max().item()
    difference = (got.to(truth.dtype) - truth).abs().max().item()
    return difference, difference / largest if largest else difference
