"""A results file: read, check, merge row by row, write. Used by `upconv bench` and the README's table."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from upconv.cli.bench.measure import figure, floor_of
from upconv.cli.problem import parse_problem

META = {
    "device": str,
    "torch": str,
    "commit": str,
    "date": str,
    "threads": list,
}
CPU_META = {
    "fma_peak_gflops": dict,
    "copy_gbps": dict,
}
ROW = {
    "id": str,
    "problem": str,
    "pass": str,
    "dtype": str,
    "layout": str,
    "threads": int,
    "upconv_ms": (int, float),
    "peers_ms": dict,
    "floor_ms": (int, float),
    "kernel": str,
}
PASSES = ("forward", "backward_input", "backward_weight", "backward", "forward_backward")


class ResultsError(Exception):
    """A results file that cannot be used; the message says where and why."""


def key(row: dict) -> tuple:
    """What makes a row that row: measuring it again replaces it."""
    return row["id"], row["pass"], row["dtype"], row["layout"], row["threads"], row.get("asked", "")


def read(path: Path) -> dict:
    """The file as {'meta': ..., 'rows': [...]}, checked."""
    try:
        results = json.loads(path.read_text())
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; measure with `upconv bench`") from None
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}: not JSON: {error}") from None
    check(results, str(path))
    return results


def check(results: dict, where: str = "results") -> None:
    """Raise unless every field that readers rely on is there and of its type."""
    if (
        not isinstance(results, dict)
        or not isinstance(results.get("meta"), dict)
        or not isinstance(results.get("rows"), list)
    ):
        raise ResultsError(f"{where}: not a results file: it needs 'meta' and 'rows'")
    _fields(results["meta"], META, f"{where}: meta")
    if results["meta"]["device"].startswith("cpu"):
        _fields(results["meta"], CPU_META, f"{where}: meta")
    for i, row in enumerate(results["rows"]):
        place = f"{where}: row {i}"
        _fields(row, ROW, place)
        if row["pass"] not in PASSES:
            raise ResultsError(f"{place}: pass {row['pass']!r} is none of {', '.join(PASSES)}")
        times = [row["upconv_ms"], row["floor_ms"], *row["peers_ms"].values()]
        if not row["peers_ms"] or not all(math.isfinite(t) and t > 0 for t in times):
            raise ResultsError(f"{place}: times must be positive, got {times}")
    keys = [key(row) for row in results["rows"]]
    if len(set(keys)) != len(keys):
        raise ResultsError(f"{where}: the same row occurs twice")


def _fields(holder: dict, fields: dict, place: str) -> None:
    for name, kind in fields.items():
        if name not in holder:
            raise ResultsError(f"{place}: {name} is missing")
        if not isinstance(holder[name], kind):
            raise ResultsError(f"{place}: {name} is {holder[name]!r}, not {kind}")


def merge(results: dict, meta: dict, rows: list[dict], order: list[str]) -> dict:
    """`results` with `rows` replaced or added, in the order of the shape files, then of threads and pass.

    A peak is the best ever measured on this device, and every row's floor follows it."""
    kept = {key(row): row for row in [*results.get("rows", []), *rows]}
    place = {name: i for i, name in enumerate(order)}

    def rank(row: dict) -> tuple:
        at = place.get(row["id"], len(place))
        kind = row["dtype"], row["layout"], row["threads"], row.get("asked", "")
        return at, row["id"], *kind, PASSES.index(row["pass"])

    merged = sorted(kept.values(), key=rank)
    before = results.get("meta", {})
    measured_peak = "fma_peak_gflops" in meta  # a GPU's ceilings are given, a CPU's are measured every time
    if measured_peak and before.get("device") == meta["device"] and before.get("isa") == meta["isa"]:
        meta = {
            **meta,
            **{name: _best(before[name], meta[name]) for name in ("fma_peak_gflops", "copy_gbps")},
        }
    meta["threads"] = sorted({row["threads"] for row in merged})
    for row in merged if measured_peak else ():
        if str(row["threads"]) in meta["fma_peak_gflops"]:
            floor, row["floor_by"] = floor_of(parse_problem(row["problem"]), row["pass"], row["threads"], meta)
            row["floor_ms"] = figure(floor)
    return {"meta": meta, "rows": merged}


def _best(a: dict[str, float], b: dict[str, float]) -> dict[str, float]:
    """For each thread count the larger of two rates."""
    return {n: max(a.get(n, 0.0), b.get(n, 0.0)) for n in sorted({*a, *b}, key=int)}


def write(results: dict, path: Path) -> None:
    """Write the file whole or not at all, a row a line, so that a difference between two runs can be read."""
    check(results)
    rows = ",\n".join(" " + json.dumps(row, ensure_ascii=False) for row in results["rows"])
    meta = json.dumps(results["meta"], ensure_ascii=False, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(f'{{"meta": {meta},\n"rows": [\n{rows}\n]}}\n')
    new.replace(path)
