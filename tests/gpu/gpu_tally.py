# Counts problems and runs over all test processes, for the evidence: one line a process and test in a folder that
# tests/gpu/run.py names with UPCONV_GPU_TALLY.
"""How much was run."""

from __future__ import annotations

import os
import time
from pathlib import Path

_deadline = float(os.environ.get("UPCONV_GPU_DEADLINE", "inf"))


def count(test: str, problems: int, runs: int) -> None:
    folder = os.environ.get("UPCONV_GPU_TALLY")
    if folder:
        with open(Path(folder) / f"{os.getpid()}.txt", "a") as file:
            file.write(f"{test} {problems} {runs}\n")


def out_of_time() -> bool:
    """Whether the run that this test belongs to should come to its end: fuzzers stop drawing."""
    return time.time() > _deadline
