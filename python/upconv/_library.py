# Finds and loads _upconv_torch.so, the built operators, once. Imported by _ops.
"""Where the operator library is looked for, and the one sentence that is raised when it is not there."""

from __future__ import annotations

import os
from pathlib import Path

import torch

FILE_NAME = "_upconv_torch.so"
OLDEST_TORCH = (2, 10)


def candidates() -> list[Path]:
    """Places to look in, in order: ``UPCONV_LIBRARY``, beside this file (a wheel), a source tree's build folders."""
    asked = os.environ.get("UPCONV_LIBRARY")
    if asked:
        return [Path(asked)]
    package = Path(__file__).resolve().parent
    built = package.parent.parent.glob(f"build*/**/bindings/torch/{FILE_NAME}")
    return [package / FILE_NAME, *sorted(built, key=lambda p: p.stat().st_mtime, reverse=True)]


def load() -> Path:
    """Load the operators into torch and return the library's path; ``ImportError`` says what is missing."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(f"upconv needs torch >= {oldest}, but torch {torch.__version__} is installed")
    places = candidates()
    for path in places:
        if path.is_file():
            try:
                torch.ops.load_library(str(path))
            except OSError as error:
                raise ImportError(f"upconv: {path} does not load into torch {torch.__version__}: {error}") from error
            return path
    looked = ", ".join(map(str, places))
    raise ImportError(
        f"upconv: the operator library was not found (looked for {looked}): "
        "build it with CMake or `pip install .`, or set UPCONV_LIBRARY to its path"
    )


path = load()
