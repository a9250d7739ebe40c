"""The demo's chart: PyTorch and upconv side by side for every model, forward and forward + backward.

Called by `upconv demo`; the PNG is also embedded in its report.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from upconv.cli import style
from upconv.cli.demo.measure import Result, ratio


def draw(results: list[Result], caption: str, path: Path) -> None:
    """Two panels of paired bars, milliseconds from zero, the ratio written at the end of each pair."""
    shown = [r for r in results if r.forward and r.training]
    fig, panels = plt.subplots(1, 2, figsize=(11, 1.6 + 0.62 * max(1, len(shown))), sharey=True)
    for ax, title, attribute in zip(panels, ("Forward", "Forward + backward"), ("forward", "training"), strict=True):
        panel(ax, title, shown, [getattr(r, attribute) for r in shown])
    panels[0].set_yticks(range(len(shown)), [r.title.replace("_", " ") for r in shown])
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    fig.suptitle(
        "upconv beside PyTorch eager, milliseconds, shorter is better",
        x=0.01,
        y=0.985,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=style.INK,
    )
    fig.legend(handles, labels, loc="upper right", ncols=2, frameon=False)
    fig.text(0.01, 0.01, caption, fontsize=8, color="#5b6573")
    fig.tight_layout(rect=(0, 0.035, 1, 0.99))
    fig.savefig(path, dpi=150)
    plt.close(fig)


def panel(ax, title: str, results: list[Result], times: list[dict[str, float]]) -> None:
    height = 0.36
    for row, (result, taken) in enumerate(zip(results, times, strict=True)):
        first = row == 0
        ax.barh(row - height / 2, taken["torch"], height, color=style.TORCH, label="PyTorch" if first else None)
        ax.barh(row + height / 2, taken["upconv"], height, color=style.UPCONV, label="upconv" if first else None)
        faster = ratio(taken)
        text = style.times(faster) if result.passed else "check failed"
        good = result.passed and faster >= 0.95
        ax.text(
            max(taken.values()),
            row,
            "  " + text,
            va="center",
            fontweight="bold",
            color=style.INK if good else style.BAD,
        )
    ax.set_title(title, loc="left", fontsize=11, color=style.INK)
    ax.set_xlim(0, 1.22 * max((t for taken in times for t in taken.values()), default=1.0))
    style.axes(ax)
