"""What a results file says against the project's targets. Used by `upconv bench` and the README's table."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from rich import box
from rich.table import Table

from upconv.cli import style

PEER = "torch_eager"
OWN_F32 = "upconv_f32"
SLOW = 0.60  # a row is PyTorch's weak spot when it reaches less of the machine's peak
LEAST = 0.95  # and elsewhere upconv must not fall below this


def ratio(row: dict) -> float:
    """How many times faster than PyTorch."""
    return row["peers_ms"][PEER] / row["upconv_ms"]


def of_peak(row: dict, ms: float) -> float:
    """Share of the machine's peak, in operations or in bytes, whichever binds this row."""
    return row["floor_ms"] / ms


def mean(rows: list[dict]) -> float:
    return statistics.geometric_mean([ratio(r) for r in rows]) if rows else float("nan")


def is_dense(row: dict) -> bool:
    """One group, and bound by operations rather than bytes."""
    return row.get("floor_by") == "operations" and " g" not in row["problem"]


@dataclass
class Summary:
    """Figures of one thread count. Passes are forward and backward (dx and dw together)."""

    threads: int
    weak: list[dict] = field(default_factory=list)
    other: list[dict] = field(default_factory=list)
    forward: list[dict] = field(default_factory=list)
    backward: list[dict] = field(default_factory=list)
    dense: list[dict] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    wrong: list[dict] = field(default_factory=list)
    own: list[float] = field(default_factory=list)  # upconv's fp32 time over its time in this dtype

    @property
    def losing(self) -> list[dict]:
        """Rows outside PyTorch's weak spots where upconv is below LEAST, worst first."""
        return sorted((r for r in self.other if ratio(r) < LEAST), key=ratio)


def is_wrong(row: dict) -> bool:
    """Beyond the bound, or NaN (null in the file)."""
    return "rel_err" in row and (row["rel_err"] is None or row["rel_err"] > row["rel_err_bound"])


def summarise(rows: list[dict], dtype: str = "float32", layout: str = "nchw") -> list[Summary]:
    """One summary a thread count."""
    out: dict[int, Summary] = {}
    for row in rows:
        if row["dtype"] != dtype or row["layout"] != layout:
            continue
        s = out.setdefault(row["threads"], Summary(row["threads"]))
        (s.weak if of_peak(row, row["peers_ms"][PEER]) < SLOW else s.other).append(row)
        if row["pass"] in ("forward", "backward"):
            getattr(s, row["pass"]).append(row)
        if is_dense(row):
            s.dense.append(row)
        if "first_ms" in row:
            s.first.append(row["first_ms"]["upconv"] / row["upconv_ms"])
        if OWN_F32 in row["peers_ms"]:
            s.own.append(row["peers_ms"][OWN_F32] / row["upconv_ms"])
        if is_wrong(row):
            s.wrong.append(row)
    return [out[n] for n in sorted(out)]


def table(summaries: list[Summary], title: str) -> Table:
    """The targets and where they stand, a column a thread count."""
    out = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    out.add_column("")
    out.add_column("target", justify="right")
    for s in summaries:
        out.add_column(style.threads(s.threads), justify="right")

    def line(name: str, target: str, cell) -> None:
        out.add_row(name, target, *(cell(s) for s in summaries))

    line(
        "forward, all rows, geometric mean",
        "≥ 1.30x",
        lambda s: against(mean(s.forward), 1.3, len(s.forward)),
    )
    line(
        "backward, all rows, geometric mean",
        "≥ 1.20x",
        lambda s: against(mean(s.backward), 1.2, len(s.backward)),
    )
    line(
        "where PyTorch is under 60% of peak, geometric mean",
        "≥ 2.00x",
        lambda s: against(mean(s.weak), 2.0, len(s.weak)),
    )
    line(
        "elsewhere, smallest ratio",
        "≥ 0.95x",
        lambda s: against(min(map(ratio, s.other), default=float("nan")), LEAST, len(s.other)),
    )
    line("elsewhere, below 0.95x", "0", lambda s: count(len(s.losing)))
    line("dense rows, share of the FMA peak, median", "≥ 75%", lambda s: share(s.dense, statistics.median))
    line("dense rows, share of the FMA peak, least", "≥ 75%", lambda s: share(s.dense, min))
    line("first call over later ones, median", "≤ 1.20x", lambda s: first(s.first, statistics.median))
    line("first call over later ones, most", "", lambda s: first(s.first, max))
    if any(s.own for s in summaries):
        line("upconv's own fp32 time over this, median", "≥ 1.00x", lambda s: own(s.own, statistics.median))
        line("upconv's own fp32 time over this, least", "", lambda s: own(s.own, min))
    line("rows beyond their error bound", "0", lambda s: count(len(s.wrong)))
    return out


def coloured(text: str, good: bool) -> str:
    return f"[{'green' if good else 'red'}]{text}[/]"


def against(value: float, target: float, rows: int) -> str:
    return f"{coloured(style.times(value), value >= target)} [dim]of {rows}[/]" if rows else "–"


def share(rows: list[dict], pick) -> str:
    if not rows:
        return "–"
    value = pick([of_peak(r, r["upconv_ms"]) for r in rows])
    return f"{coloured(f'{value:.0%}', value >= 0.75)} [dim]of {len(rows)}[/]"


def first(ratios: list[float], pick) -> str:
    return coloured(style.times(pick(ratios)), pick(ratios) <= 1.2) if ratios else "–"


def own(ratios: list[float], pick) -> str:
    return coloured(style.times(pick(ratios)), pick(ratios) >= 1.0) if ratios else "–"


def count(number: int) -> str:
    return coloured(str(number), number == 0)


def losing_table(summaries: list[Summary], most: int = 15) -> Table | None:
    """The rows that must get faster, worst first."""
    rows = sorted((r for s in summaries for r in s.losing), key=ratio)
    if not rows:
        return None
    shown = f"the {most} worst of {len(rows)}" if len(rows) > most else f"{len(rows)}"
    out = Table(
        title=f"Below 0.95x where PyTorch is above 60% of peak: {shown}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name in ("row", "pass"):
        out.add_column(name)
    for name in ("threads", "PyTorch", "upconv", "ratio", "of peak"):
        out.add_column(name, justify="right")
    for r in rows[:most]:
        out.add_row(
            r["id"],
            r["pass"],
            str(r["threads"]),
            style.milliseconds(r["peers_ms"][PEER]),
            style.milliseconds(r["upconv_ms"]),
            style.times(ratio(r)),
            f"{of_peak(r, r['upconv_ms']):.0%}",
        )
    return out
