"""The README's table, written from a results file, so that no figure is typed by hand.

Called by `upconv bench --readme` and tools/readme_table.py, which CI runs with --check.
"""

from __future__ import annotations

from pathlib import Path

from upconv.cli import style
from upconv.cli.bench.results import ResultsError
from upconv.cli.bench.summary import PEER, mean, ratio

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def render(results: dict) -> str:
    """Markdown: KernelBench level 1 row by row, the model layers in one line, the machine below."""
    meta = results["meta"]
    rows = [r for r in results["rows"] if r["dtype"] == "float32" and r["layout"] == "nchw"]
    if not rows:
        raise ResultsError("no float32 rows to show")
    threads = max(r["threads"] for r in rows)
    by_id: dict[str, dict[str, dict]] = {}
    for row in rows:
        if row["threads"] == threads:
            by_id.setdefault(row["id"], {})[row["pass"]] = row
    lines = [
        "| transposed convolution | forward, ms: PyTorch → upconv | | backward, ms: PyTorch → upconv | |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, passes in by_id.items():
        if name.startswith("L1/"):
            problem = next(iter(passes.values()))["problem"].removesuffix(" f32")
            lines.append(f"| {name} `{problem}` | {cells(passes.get('forward'))} | {cells(passes.get('backward'))} |")
    groups = {
        "KernelBench level 1": [p for name, p in by_id.items() if name.startswith("L1/")],
        "layers of public models": [p for name, p in by_id.items() if not name.startswith("L1/")],
    }
    for title, group in groups.items():
        if group:
            means = f"| {bold(group, 'forward')} | | {bold(group, 'backward')} |"
            lines.append(f"| **{len(group)} {title}, geometric mean** | {means}")
    n = str(threads)
    lines += [
        "",
        f"Measured by `upconv bench` on {meta['device'].removeprefix('cpu: ')} "
        f"({style.threads(n)}, {meta['isa']}, "
        f"{meta['fma_peak_gflops'][n]:.0f} GFLOP/s peak), torch {meta['torch']}, {meta['date'][:10]}, "
        "float32, sizes scaled for a CPU; ratio = PyTorch's time over upconv's. Every row: "
        "`bench/results/cpu.json`.",
    ]
    return "\n".join(lines)


def cells(row: dict | None) -> str:
    if row is None:
        return "– | –"
    peer, ours = style.milliseconds(row["peers_ms"][PEER]), style.milliseconds(row["upconv_ms"])
    return f"{peer} → {ours} | {style.times(ratio(row))}"


def bold(group: list[dict], name: str) -> str:
    rows = [passes[name] for passes in group if name in passes]
    return f"**{style.times(mean(rows))}**" if rows else "–"


def updated(text: str, table: str) -> str:
    """The README's text with the part between the markers replaced."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ResultsError(f"the README needs the lines {BEGIN} and {END}, once each and in this order")
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def bring_up_to_date(results: dict, readme: Path, check: bool) -> bool:
    """Write the table into `readme`; with `check` only say whether it is there already."""
    try:
        text = readme.read_text()
    except OSError as error:
        raise ResultsError(f"{readme}: {error.strerror}") from None
    new = updated(text, render(results))
    if new != text and not check:
        readme.write_text(new)
    return new == text or not check
