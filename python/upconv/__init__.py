# The package's public names. Importing it loads the operator library.
"""upconv: transposed convolutions (ConvTranspose1d/2d/3d), forward and backward, with PyTorch's numbers."""

from __future__ import annotations

from . import _ops, functional, nn
from ._tune import tune
from ._warmup import warmup
from .optimize import optimize

__all__ = ["__version__", "explain", "functional", "nn", "optimize", "tune", "warmup"]

__version__: str = _ops.version()


def explain(problem: str, device: str = "cpu") -> str:
    """What upconv does with a problem such as ``"2d n8 c64 o64 i256x256 k3x3 s2x2"``: per pass the kernel that
    runs, why the others were declined, workspace and floor. ``device`` is ``cpu``, ``cuda``, ``cuda:1``, or
    ``sm_90``: a model of that GPU, which need not be here. A malformed or illegal problem raises RuntimeError."""
    return _ops.explain(problem, device)
