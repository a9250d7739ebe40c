"""What a GPU results file says: geometric means against every peer, rows that lose, rows far from their floor.

Used by `upconv bench --device cuda`, its chart and the README's table.
"""

from __future__ import annotations

import statistics

from rich import box
from rich.table import Table

from upconv.cli import style

PEER = "torch_eager"
LOSES = 1.0  # slower than PyTorch eager
BEST_LOSES = 0.9  # slower than 0.9 times PyTorch's best setting


def ratio(row: dict, peer: str = PEER) -> float:
    """How many times faster than a peer."""
    return row["peers_ms"][peer] / row["upconv_ms"]


def best(row: dict) -> float:
    """How many times faster than the fastest peer."""
    return min(row["peers_ms"].values()) / row["upconv_ms"]


def best_in_graph(row: dict) -> float | None:
    """The same inside a CUDA graph; None where that was not measured."""
    peers = {k: v for k, v in row.get("graph_ms", {}).items() if k != "upconv"}
    return min(peers.values()) / row["graph_ms"]["upconv"] if peers and "upconv" in row["graph_ms"] else None


def mean(rows: list[dict], figure=ratio) -> float:
    return statistics.geometric_mean([figure(r) for r in rows]) if rows else float("nan")


def is_wrong(row: dict) -> bool:
    return "rel_err" in row and (row["rel_err"] is None or row["rel_err"] > row["rel_err_bound"])


def groups(results: dict) -> list[tuple[str, list[dict]]]:
    """Rows that are summed up together, with the words for them."""
    out: dict[tuple, list[dict]] = {}
    for row in results["rows"]:
        level = row["id"][1:2] if row["id"][:1] == "L" and row["id"][2:3] == "/" else ""
        kind = f"KernelBench level {level}" if level else "model layers"
        out.setdefault((kind, row["dtype"], row.get("asked", "torch"), row["pass"]), []).append(row)
    return [
        (f"{kind}, {name}, {dtype}" + (f", {asked}" if asked != "torch" else ""), rows)
        for (kind, dtype, asked, name), rows in out.items()
    ]


def tables(results: dict) -> list[Table]:
    shown = [level1(results), means(results), losing(results)]
    return [t for t in shown if t is not None]


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def level1(results: dict) -> Table | None:
    """Each level-1 problem: milliseconds of its passes, floor, ratio to PyTorch."""
    rows = [r for r in results["rows"] if r["id"].startswith("L1/")]
    if not rows:
        return None
    table = _table(
        f"{results['meta']['device']}, ms",
        ("row", "pass", "mode", "kernel"),
        ("upconv", "floor", "x floor", "eager", "bench.", "ch.last", "x eager", "x best", "rel_err"),
    )
    for r in rows:
        peers = [r["peers_ms"].get(p) for p in ("torch_eager", "torch_benchmark", "torch_channels_last")]
        table.add_row(
            r["id"],
            r["pass"].replace("backward", "bwd"),
            r["precision"],
            r["kernel"].replace("cuda_", ""),
            style.milliseconds(r["upconv_ms"]),
            style.milliseconds(r["floor_ms"]),
            f"{r['upconv_ms'] / r['floor_ms']:.1f}",
            *("–" if p is None else style.milliseconds(p) for p in peers),
            coloured(ratio(r), LOSES),
            coloured(best(r), BEST_LOSES),
            "" if r.get("rel_err") is None else f"{r['rel_err']:.1e}",
        )
    return table


def coloured(value: float, least: float) -> str:
    return f"[{'green' if value >= least else 'red'}]{value:.2f}[/]"


def means(results: dict) -> Table:
    table = _table(
        "Geometric means: times faster than",
        ("rows", ""),
        ("n", "eager", "benchmark", "ch.last", "best", "least", "x floor"),
    )
    for name, rows in groups(results):
        first, _, rest = name.partition(", ")

        def against(peer: str, rows=rows) -> str:
            with_peer = [r for r in rows if peer in r["peers_ms"]]
            return style.times(mean(with_peer, lambda r: ratio(r, peer))) if with_peer else "–"

        table.add_row(
            first,
            rest,
            str(len(rows)),
            against("torch_eager"),
            against("torch_benchmark"),
            against("torch_channels_last"),
            style.times(mean(rows, best)),
            coloured(min(map(ratio, rows)), LOSES),
            f"{1 / mean(rows, lambda r: r['floor_ms'] / r['upconv_ms']):.1f}",
        )
        graphs = [r for r in rows if "upconv" in r.get("graph_ms", {}) and "torch_eager" in r["graph_ms"]]
        if graphs:
            value = mean(graphs, lambda r: r["graph_ms"]["torch_eager"] / r["graph_ms"]["upconv"])
            table.add_row(
                first,
                f"{rest}, small ones in a graph",
                str(len(graphs)),
                style.times(value),
                *[""] * 2,
                style.times(mean(graphs, best_in_graph)),
                *[""] * 2,
            )
    return table


def losing(results: dict, most: int = 25) -> Table | None:
    """Rows slower than PyTorch eager, or than 0.9 of its best setting; worst first."""
    rows = [r for r in results["rows"] if ratio(r) < LOSES or best(r) < BEST_LOSES]
    if not rows:
        return None
    rows.sort(key=best)
    shown = f"the {most} worst of {len(rows)}" if len(rows) > most else str(len(rows))
    table = _table(
        f"Slower than PyTorch eager, or than 0.9 of its best setting: {shown}",
        ("row", "pass", "mode", "kernel"),
        ("upconv", "eager", "best", "x eager", "x best", "in a graph"),
    )
    for r in rows[:most]:
        in_graph = best_in_graph(r)
        table.add_row(
            r["id"],
            r["pass"].replace("backward", "bwd"),
            f"{r['dtype']} {r['precision']}" if r["dtype"] == "float32" else r["dtype"],
            r["kernel"].replace("cuda_", ""),
            style.milliseconds(r["upconv_ms"]),
            style.milliseconds(r["peers_ms"][PEER]),
            style.milliseconds(min(r["peers_ms"].values())),
            f"{ratio(r):.2f}",
            f"{best(r):.2f}",
            "" if in_graph is None else f"{in_graph:.2f}",
        )
    return table
