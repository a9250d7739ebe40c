"""The GPU benchmark's chart: for every row how many times its floor PyTorch and upconv take.

Called by `upconv bench --device cuda`; written next to the results file.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from upconv.cli import style
from upconv.cli.bench.cuda.report import PEER, mean, ratio

PASSES = {"forward": "Forward", "backward": "Backward (dx, dw, db)"}


def draw(results: dict, path: Path, dtype: str = "float32", asked: str = "torch") -> bool:
    """Two panels, a line a row: floor at 1, PyTorch and upconv as multiples of it. False when nothing is there."""
    rows = [r for r in results["rows"] if r["dtype"] == dtype and r.get("asked") == asked and r["pass"] in PASSES]
    if not rows:
        return False
    ids = list(dict.fromkeys(r["id"] for r in rows))
    fig, panels = plt.subplots(1, 2, figsize=(11.5, 1.7 + 0.19 * len(ids)), sharey=True)
    for ax, (name, title) in zip(panels, PASSES.items(), strict=True):
        panel(ax, title, [r for r in rows if r["pass"] == name], ids)
    panels[0].set_yticks(range(len(ids)), ids, fontsize=7)
    tall = fig.get_figheight()
    fig.suptitle(
        "Time over the hardware's floor (bytes or operations), less is better",
        x=0.01, y=1 - 0.08 / tall, ha="left", va="top", fontsize=13, fontweight="bold", color=style.INK,
    )  # fmt: skip
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="upper right", ncols=2, frameon=False)
    meta = results["meta"]
    text = f"{meta['device']}, torch {meta['torch']}, kernels {meta['kernels_sha256'][:12]}, {dtype}, {meta['date']}. "
    fig.text(0.01, 0.06 / tall, text + "Beside each row: PyTorch's time over upconv's.", fontsize=8, va="bottom")
    fig.tight_layout(rect=(0, 0.25 / tall, 1, 1 - 0.05 / tall))
    fig.savefig(path, dpi=130)
    plt.close(fig)
    return True


def panel(ax, title: str, rows: list[dict], ids: list[str]) -> None:
    place = {name: i for i, name in enumerate(ids)}
    y = [place[r["id"]] for r in rows]
    ours = [r["upconv_ms"] / r["floor_ms"] for r in rows]
    peer = [r["peers_ms"][PEER] / r["floor_ms"] for r in rows]
    ax.hlines(y, ours, peer, color=style.FAINT, linewidth=2.5, zorder=1)
    ax.scatter(peer, y, s=22, color=style.TORCH, label="PyTorch", zorder=2)
    ax.scatter(ours, y, s=22, color=style.UPCONV, label="upconv", zorder=3)
    right = max([10.0, *ours, *peer])
    for r, at in zip(rows, y, strict=True):
        colour = style.INK if ratio(r) >= 1 else style.BAD
        ax.text(right * 2.6, at, style.times(ratio(r)), ha="right", va="center", fontsize=7, color=colour)
    ax.set_title(f"{title}: {style.times(mean(rows))} geometric mean" if rows else title, loc="left", fontsize=10)
    ax.set_xscale("log")
    ax.set_xlim(0.8, right * 2.8)
    ax.set_ylim(len(ids) - 0.4, -0.6)
    ax.set_xlabel("times the floor", fontsize=8)
    style.axes(ax)
