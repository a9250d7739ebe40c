"""The benchmark's chart: for every row, which share of the machine's peak PyTorch and upconv reach.

Called by `upconv bench`; written next to the results file.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from upconv.cli import style
from upconv.cli.bench.summary import LEAST, PEER, mean, of_peak, ratio

PASSES = {"forward": "Forward", "backward": "Backward (dx and dw)"}


def draw(results: dict, path: Path, dtype: str = "float32", layout: str = "nchw") -> bool:
    """Two panels of dots on a line a row, ratio at the right. False when there is nothing to draw."""
    meta = results["meta"]
    rows = [r for r in results["rows"] if r["dtype"] == dtype and r["layout"] == layout and r["pass"] in PASSES]
    if not rows:
        return False
    threads = max(r["threads"] for r in rows)
    rows = [r for r in rows if r["threads"] == threads]
    ids = list(dict.fromkeys(r["id"] for r in rows))
    fig, panels = plt.subplots(1, 2, figsize=(11.5, 1.7 + 0.19 * len(ids)), sharey=True)
    for ax, (name, title) in zip(panels, PASSES.items(), strict=True):
        panel(ax, title, [r for r in rows if r["pass"] == name], ids)
    label(panels[0], ids)
    tall = fig.get_figheight()  # titles and captions keep their distance in inches, however many rows
    fig.suptitle(
        "Share of the machine's peak (operations, or bytes where memory binds), more is better",
        x=0.01, y=1 - 0.08 / tall, ha="left", va="top", fontsize=13, fontweight="bold", color=style.INK,
    )  # fmt: skip
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="upper right", ncols=2, frameon=False)
    fig.text(0.01, 0.06 / tall, caption(meta, threads, dtype), fontsize=8, color="#5b6573", va="bottom")
    fig.tight_layout(rect=(0, 0.25 / tall, 1, 1 - 0.05 / tall))
    fig.savefig(path, dpi=130)
    plt.close(fig)
    return True


def caption(meta: dict, threads: int, dtype: str) -> str:
    n = str(threads)
    return (
        f"{meta['device']}, {style.threads(n)}, torch {meta['torch']}, upconv {meta['commit']}, {dtype}, "
        f"{meta['date']}. "
        f"Peak: {meta['fma_peak_gflops'][n]:.0f} GFLOP/s, {meta['copy_gbps'][n]:.0f} GB/s. "
        "Beside each row: PyTorch's time over upconv's."
    )


def panel(ax, title: str, rows: list[dict], ids: list[str]) -> None:
    place = {name: i for i, name in enumerate(ids)}
    y = [place[r["id"]] for r in rows]
    ours = [100 * of_peak(r, r["upconv_ms"]) for r in rows]
    peer = [100 * of_peak(r, r["peers_ms"][PEER]) for r in rows]
    ax.hlines(y, ours, peer, color=style.FAINT, linewidth=2.5, zorder=1)
    ax.scatter(peer, y, s=22, color=style.TORCH, label="PyTorch", zorder=2)
    ax.scatter(ours, y, s=22, color=style.UPCONV, label="upconv", zorder=3)
    right = max([100.0, *ours, *peer])
    for r, at in zip(rows, y, strict=True):
        ax.text(
            right * 1.13,
            at,
            style.times(ratio(r)),
            ha="right",
            va="center",
            fontsize=7,
            color=style.INK if ratio(r) >= LEAST else style.BAD,
        )
    ax.set_title(f"{title}: {style.times(mean(rows))} geometric mean" if rows else title, loc="left", fontsize=10)
    ax.set_xlim(0, right * 1.14)
    ax.set_ylim(len(ids) - 0.4, -0.6)
    ax.set_xlabel("% of peak", fontsize=8)
    style.axes(ax)


def label(ax, ids: list[str]) -> None:
    """Ids at the left, a thin line between one model and the next."""
    ax.set_yticks(range(len(ids)), ids, fontsize=7)
    models = [name.partition("/")[0] for name in ids]
    for i in range(1, len(ids)):
        if models[i] != models[i - 1]:
            for other in ax.figure.axes:
                other.axhline(i - 0.5, color=style.FAINT, linewidth=0.8, zorder=0)
