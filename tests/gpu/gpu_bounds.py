# How far a result of the CUDA engine may be from float64: the one place of tests/gpu that decides.
# Used by every test there that does not ask for equality.
"""Error bounds by dtype and precision, scaled by S = sum |x||w| (+ |b|) of the very element.

With u = 2^-24 (fp32), K products of independent random sign to an element, and v the exact value:

* *Sums.* fp32 additions err by at most u of the running sum each. Matrix units truncate instead of rounding, which
  doubles that; a running sum of random signs grows with sqrt(k), as does the error: (4 + 2 sqrt(K)) u S holds both.
* *Operands*, fp32 tensors only. `tf32` rounds both to 11 bits: 2 * 2^-11 of a product, plus the square of it.
  `bf16x3` keeps x = hi + lo with an error of 2^-16 x, likewise w, and drops lo * lo: 3 * 2^-16.
  `ieee` may be FFMA (none) or a split, three TF32 products or six bf16 ones: 3 * 2^-22.
* *Store.* One rounding to the tensor's format, of v, and half its smallest number.

Each is a bound of the worst element. A kernel that loses precision by a habit (truncated operands, a dropped product)
can stay inside it, so the whole result has a second one: the norm of its error over the norm of the exact result. In
`tf32` and `bf16x3` that grows with the steps of a matrix unit, 16 products of one tap at most in each, because
truncated sums all err towards zero: half a unit of the running sum, 2^-25 of the result on average, a step.
"""

from __future__ import annotations

import math

import torch

ROUNDOFF = {torch.float32: 2**-24, torch.float64: 2**-53, torch.bfloat16: 2**-8, torch.float16: 2**-11}
TINY = {torch.float32: 2**-149, torch.float64: 2**-1074, torch.bfloat16: 2**-133, torch.float16: 2**-24}
OPERANDS = {"ieee": 3 * 2**-22, "bf16x3": 3.1 * 2**-16, "tf32": 2.1 * 2**-11}

# Relative error of the whole result on normally distributed data; measured values are a third to two thirds of these.
NORM = {"ieee": 1e-6, "bf16x3": 1e-5, "tf32": 5e-4}
NORM_ENOUGH = 256  # elements from which on a norm says something


def element_bound(dtype: torch.dtype, precision: str, exact, size, terms: int):
    """Largest error of each element of a pass with `terms` products to an element."""
    accumulate = 2**-53 if dtype == torch.float64 else 2**-24
    relative = accumulate * (4 + 2 * math.sqrt(terms))
    if dtype == torch.float64:
        relative *= 2  # the oracle sums in float64 too
    if dtype == torch.float32:
        relative += OPERANDS[precision]
    return relative * size + 1.01 * ROUNDOFF[dtype] * exact.abs() + TINY[dtype]


def norm_bound(dtype: torch.dtype, precision: str, terms: int, steps: int) -> float:
    if dtype == torch.float64:
        return 2**-53 * (8 + 2 * math.sqrt(terms))
    if dtype == torch.float32:
        passes = {"ieee": 0, "tf32": 2, "bf16x3": 3}[precision]  # TF32 takes 8 products a step
        return NORM[precision] + 2**-24 * math.sqrt(terms) + 2**-25 * passes * steps
    return ROUNDOFF[dtype]


def assert_near(got, exact, size, terms: int, steps: int, precision: str, what: str) -> None:
    """Raise with the worst element and how far beyond its bound it lies."""
    assert got.shape == exact.shape, f"{what}: shape {tuple(got.shape)} is not {tuple(exact.shape)}"
    if got.numel() == 0:
        return
    error = (got.double() - exact).abs()
    ratio = error / element_bound(got.dtype, precision, exact, size, terms)
    ratio = torch.where(ratio.isnan(), torch.inf, ratio)
    worst, at = (t.item() for t in ratio.flatten().max(0))
    if worst > 1.0:
        wrong = int((ratio > 1).sum())
        place = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), got.shape))
        raise AssertionError(
            f"{what}: {wrong} of {got.numel()} elements are beyond the bound; the worst, at {place}, is "
            f"{got[place].item():.7g} where float64 has {exact[place].item():.7g}: {worst:.3g} times the bound"
        )
    norm = exact.norm().item()
    if got.numel() >= NORM_ENOUGH and norm > 0:
        relative = error.norm().item() / norm
        allowed = norm_bound(got.dtype, precision, terms, steps)
        assert relative <= allowed, f"{what}: ||error|| / ||exact|| is {relative:.3g}, allowed are {allowed:.3g}"
