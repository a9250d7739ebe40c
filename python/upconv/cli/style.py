"""One look for every chart and report: colours of the two engines, and how figures are written.

Used by the charts and reports of demo and bench, and by the README's table.
"""

from __future__ import annotations

UPCONV = "#1f6feb"
TORCH = "#9aa4b2"
BAD = "#c9372c"
INK = "#1d2530"
FAINT = "#d5dae1"


def milliseconds(ms: float) -> str:
    """Three significant digits: '0.0123', '12.3', '1230'."""
    if ms >= 100:
        return f"{ms:.0f}"
    return f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}" if ms >= 1 else f"{ms:.3g}"


def times(ratio: float) -> str:
    return f"{ratio:.2f}x"


def threads(n: int | str) -> str:
    return "1 thread" if int(n) == 1 else f"{n} threads"


def where(facts: dict[str, str | int]) -> str:
    """What ran, in a few words: '2 threads, v3' of a CPU, or the GPU's name."""
    kind, _, name = str(facts["device"]).partition(": ")
    return name if kind == "cuda" else f"{threads(facts['threads'])}, {facts['instruction_set']}"


def axes(ax) -> None:
    """Bare axes: no box, light vertical grid behind the data."""
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    ax.tick_params(length=0, colors=INK)
    ax.grid(axis="x", color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)
