"""Times several ways to do the same work: interleaved, so that a slow spell of the machine hits all alike.

Used by `upconv demo` and `upconv bench`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def nothing() -> None:
    """How a CPU waits for its own work."""


def once(call: Callable[[], object], wait: Callable[[], None] = nothing) -> float:
    """Milliseconds of one call; `wait` returns when the device has done what it was given."""
    wait()
    start = time.perf_counter()
    call()
    wait()
    return (time.perf_counter() - start) * 1e3


PATIENCE_MS = 4000  # a call this slow is not repeated: PyTorch's 16-bit CPU paths can take minutes


def interleaved(
    calls: dict[str, Callable[[], object]],
    seconds: float,
    least: int = 3,
    most: int = 30,
    wait: Callable[[], None] = nothing,
) -> dict[str, float]:
    """Median milliseconds of each call. Rounds run all once, in alternating order, for about `seconds`, after one
    round to warm up."""
    warm = {name: once(call, wait) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [ms] if ms > PATIENCE_MS else [] for name, ms in warm.items()}
    order = [name for name, ms in warm.items() if ms <= PATIENCE_MS]
    end = time.perf_counter() + seconds
    for done in range(most):
        if done >= least and time.perf_counter() > end:
            break
        for name in order:
            times[name].append(once(calls[name], wait))
        order.reverse()
    return {name: statistics.median(taken) for name, taken in times.items()}
