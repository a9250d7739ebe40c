"""The README's table, written from a results file, so that no figure is typed by hand.

Called by `upconv bench --readme` and tools/readme_table.py, which CI runs with --check.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

from upconv.cli import style
from upconv.cli.bench.results import ResultsError, read
from upconv.cli.bench.summary import PEER, ratio

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
#: What the rows are whose ids begin so.
KINDS = {"L1": "KernelBench level 1", "L2": "KernelBench level 2 (fused)", "L3": "KernelBench level 3 (U-Net)"}
GPU_BEGIN, GPU_END = "<!-- results-cuda:begin -->", "<!-- results-cuda:end -->"
LAST_BEGIN, LAST_END = "<!-- results-channels-last:begin -->", "<!-- results-channels-last:end -->"
EXPORTED_BEGIN, EXPORTED_END = "<!-- results-exported:begin -->", "<!-- results-exported:end -->"


def is_cpu(results: dict) -> bool:
    return results["meta"]["device"].startswith("cpu")


def load(file: Path) -> dict:
    """A file of bench/results: measured by `upconv bench`, or by tools/kernelbench.py. Raises ResultsError."""
    if file.name.startswith("kernelbench-"):
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise ResultsError(f"{file}: {error}") from None
    return read(file)


def is_exported(results: dict) -> bool:
    return results["meta"].get("how") == "tools/kernelbench.py"


def is_channels_last(results: dict) -> bool:
    """On a GPU, where such rows have a file of their own."""
    return not is_exported(results) and not is_cpu(results) and {r["layout"] for r in results["rows"]} == {"nhwc"}


def render(results: dict) -> str:
    """Markdown: KernelBench level 1 row by row, the model layers in one line, the machine below."""
    if is_exported(results):
        return render_exported(results)
    if is_channels_last(results):
        return render_channels_last(results)
    if not is_cpu(results):
        return render_gpu(results)
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


def render_gpu(results: dict) -> str:
    """The same of a GPU, with the floor of the forward pass and the model layers by dtype."""
    meta = results["meta"]
    rows = [r for r in results["rows"] if r.get("asked") == "torch" and r["pass"] in ("forward", "backward")]
    if not rows:
        raise ResultsError("no rows under PyTorch's own settings to show")
    by_id = by_layer(rows)
    lines = [
        "| transposed convolution | floor, ms | forward, ms: PyTorch → upconv | | backward, ms: PyTorch → upconv | |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for (name, dtype), passes in by_id.items():
        if name.startswith("L1/") and dtype == "float32":
            any_row = next(iter(passes.values()))
            problem = any_row["problem"].removesuffix(" f32")
            floor = style.milliseconds(passes["forward"]["floor_ms"]) if "forward" in passes else "–"
            pairs = f"{cells(passes.get('forward'))} | {cells(passes.get('backward'))}"
            lines.append(f"| {name} `{problem}` | {floor} | {pairs} |")
    groups: dict[str, list[dict]] = {}
    for (name, dtype), passes in by_id.items():
        kind = KINDS.get(name.split("/")[0], "layers of public models")
        groups.setdefault(f"{kind}, {dtype}", []).append(passes)
    for title, group in groups.items():
        means = f"| | {bold(group, 'forward')} | | {bold(group, 'backward')} |"
        lines.append(f"| **{len(group)} {title}, geometric mean** | {means}")
    slower = [r for r in rows if ratio(r) < 1]
    lines += [
        "",
        f"Measured by `upconv bench` on an {meta['device']} (driver {meta['driver']}), torch {meta['torch']}, cuDNN "
        f"{meta['cudnn']}, {meta['date'][:10]}, published sizes, PyTorch as it comes (TF32 permitted) and upconv under "
        f"the same setting, cold L2; ratio = PyTorch's time over upconv's; {len(slower)} of {len(rows)} "
        "rows are below 1. "
        "Every row, other settings and peers: `bench/results/nvidia-h200.json`.",
    ]
    return "\n".join(lines)


def render_channels_last(results: dict) -> str:
    """Large layers row by row, the others in a line, against the best of PyTorch's settings."""
    meta = results["meta"]
    by_id = by_layer(results["rows"])
    lines = [
        "| channels-last layer | forward, ms: PyTorch's best → upconv | | backward, ms: PyTorch's best → upconv | |",
        "|---|--:|--:|--:|--:|",
    ]
    for (name, dtype), passes in by_id.items():
        if name.startswith("large/"):
            problem = next(iter(passes.values()))["problem"].rsplit(" ", 1)[0]
            pairs = f"{cells(passes.get('forward'), fastest)} | {cells(passes.get('backward'), fastest)}"
            lines.append(f"| `{problem}` {dtype} | {pairs} |")
    groups: dict[str, list[dict]] = {}
    for (name, dtype), passes in by_id.items():
        kind = "large layers" if name.startswith("large/") else "layers of public models"
        groups.setdefault(f"{kind}, {dtype}", []).append(passes)
    for title, group in groups.items():
        means = f"| {bold(group, 'forward', fastest)} | | {bold(group, 'backward', fastest)} |"
        lines.append(f"| **{len(group)} {title}, geometric mean** | {means}")
    lines += [
        "",
        f"Measured by `upconv bench --layout nhwc` on an {meta['device']}, torch {meta['torch']}, cuDNN "
        f"{meta['cudnn']}, {meta['date'][:10]}: all tensors channels_last, PyTorch with and without "
        "`cudnn.benchmark`, single calls, cold L2. Every row: `bench/results/nvidia-h200-channels-last.json`.",
    ]
    return "\n".join(lines)


def exported_in_words(rows: list[dict]) -> str:
    """How many exported files are correct, and how fast."""
    taken = [row["ms"]["forward"] for row in rows if not row["failed"]]
    ratios = [ms["eager"] / ms["ModelNew"] for ms in taken]
    counts = ", ".join(f"{sum(r >= least for r in ratios)} at least {least}x" for least in (1, 2, 5))
    return f"{len(taken)} of {len(rows)} correct; of PyTorch eager's speed {counts}"


def render_exported(results: dict) -> str:
    """Exported files, problem by problem, as tools/kernelbench.py judged and timed them."""
    meta, rows = results["meta"], results["rows"]
    built = [row["build_s"] for row in rows if "build_s" in row]  # not of what did not build
    lines = [
        f"<details><summary>Exported files on the problems of KernelBench: {exported_in_words(rows)}</summary>",
        "",
        "| problem | ModelNew, ms | eager | best of eager, cudnn.benchmark, channels_last | times eager |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        if row["failed"]:
            lines.append(f"| {row['id']} | failed: {row['failed'][0][:90]} | | | |")
            continue
        taken = dict(row["ms"]["forward"])
        ours, eager = taken.pop("ModelNew"), taken["eager"]
        shown = (style.milliseconds(ms) for ms in (ours, eager, min(taken.values())))
        lines.append(f"| {row['id']} | {' | '.join(shown)} | {style.times(eager / ours)} |")
    lines += [
        "",
        f"`{meta['how']}` on an {meta['device']}, torch {meta['torch']}, CUDA {meta['cuda']}: forward, TF32 permitted, "
        f"cold L2, values of {meta['seeds']} seed{'s' if meta['seeds'] > 1 else ''}"
        + (f"; a file is built in {min(built):.0f} to {max(built):.0f} s beside others." if built else "."),
        "</details>",
    ]
    return "\n".join(lines)


def by_layer(rows: list[dict]) -> dict[tuple[str, str], dict[str, dict]]:
    """The rows of each (id, dtype), by pass."""
    out: dict[tuple[str, str], dict[str, dict]] = {}
    for row in rows:
        out.setdefault((row["id"], row["dtype"]), {})[row["pass"]] = row
    return out


def eager(row: dict) -> float:
    return row["peers_ms"][PEER]


def fastest(row: dict) -> float:
    return min(row["peers_ms"].values())


def cells(row: dict | None, peer: Callable[[dict], float] = eager) -> str:
    if row is None:
        return "– | –"
    shown = f"{style.milliseconds(peer(row))} → {style.milliseconds(row['upconv_ms'])}"
    return f"{shown} | {style.times(peer(row) / row['upconv_ms'])}"


def bold(group: list[dict], name: str, peer: Callable[[dict], float] = eager) -> str:
    ratios = [peer(passes[name]) / passes[name]["upconv_ms"] for passes in group if name in passes]
    return f"**{style.times(statistics.geometric_mean(ratios))}**" if ratios else "–"


def updated(text: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """The README's text with the part between the markers replaced."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ResultsError(f"the README needs the lines {begin} and {end}, once each and in this order")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def bring_up_to_date(results: dict, readme: Path, check: bool) -> bool:
    """Write the table into `readme`; with `check` only say whether it is there already."""
    try:
        text = readme.read_text()
    except OSError as error:
        raise ResultsError(f"{readme}: {error.strerror}") from None
    markers = (GPU_BEGIN, GPU_END)
    if is_exported(results):
        markers = (EXPORTED_BEGIN, EXPORTED_END)
    elif is_cpu(results):
        markers = (BEGIN, END)
    elif is_channels_last(results):
        markers = (LAST_BEGIN, LAST_END)
    new = updated(text, render(results), *markers)
    if new != text and not check:
        readme.write_text(new)
    return new == text or not check
