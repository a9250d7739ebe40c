"""`upconv bench --device cuda`: level 1 of KernelBench and the layers of public models beside PyTorch on a GPU.

Called by the command; the rows are measured in measure.py, the tables are report.py's.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

#: Of the results file's name: rows of another layout are not summed up with the others.
SUFFIX = {"nchw": "", "nhwc": "-channels-last"}


def run(args: argparse.Namespace) -> int:
    """The command on a GPU; 0, 1 when a row is wrong or failed, 2 for what cannot be understood."""
    import torch
    from rich.console import Console

    from upconv.cli import UsageError
    from upconv.cli.bench import chosen, results

    if not re.fullmatch(r"cuda(:\d+)?", args.device):
        raise UsageError(f"--device: {args.device} is none of cpu, cuda, cuda:N")
    given = args.dtype
    args.dtype = given or ("f32", "bf16")
    shapes = [s for s in chosen(args) if given or s.problem.dtype == "f32" or not is_level1(s.id)]
    if args.list:
        for shape in shapes:
            print(f"{shape.id:<24}{shape.problem.short():<60}{shape.title}")
        return 0
    console = Console() if sys.stdout.isatty() else Console(width=180)  # a log has no width to keep to
    failed: list[str] = []
    if not args.summary:
        if not torch.cuda.is_available():
            raise UsageError("--device cuda: torch.cuda.is_available() is False")
        args.output = (
            args.output
            or Path("bench/results") / f"{file_name(torch.cuda.get_device_name(args.device))}{SUFFIX[args.layout]}.json"
        )
        failed = measure_all(shapes, args, console)
    args.output = args.output or Path(f"bench/results/nvidia-h200{SUFFIX[args.layout]}.json")
    if not args.output.exists():
        for line in failed:
            console.print(f"failed {line}", style="red", markup=False, highlight=False)
        return 1
    return conclude(results.read(args.output), args, failed, console)


def is_level1(name: str) -> bool:
    return name.startswith("L1/")


def file_name(device: str) -> str:
    """'NVIDIA H200' -> 'nvidia-h200'."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def modes(shape, args: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    """(precision, passes) to measure of a shape."""
    if shape.problem.dtype != "f32":
        return [("torch", passes_of(shape, args))]
    if args.precision:
        return [(name, passes_of(shape, args)) for name in args.precision]
    forward = tuple(p for p in passes_of(shape, args) if p == "forward")
    out = [("torch", passes_of(shape, args))]
    if is_level1(shape.id) and not args.quick and forward:
        out += [("bf16x3", forward), ("ieee", forward)]
    return out


def passes_of(shape, args: argparse.Namespace) -> tuple[str, ...]:
    """All four for level 1; model layers forward and backward, unless asked otherwise."""
    from upconv.cli.bench import PASSES

    if args.passes is not PASSES:
        return args.passes
    return PASSES if is_level1(shape.id) and not args.quick else ("forward", "backward")


def measure_all(shapes: list, args: argparse.Namespace, console) -> list[str]:
    """Measure, merging into the file after every problem; returns what failed, in words."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from upconv.cli.bench import results
    from upconv.cli.bench.cuda import warm
    from upconv.cli.bench.cuda.measure import CEILINGS, DIRECTIONS, Bench, Settings, explained, precision_of

    end = time.monotonic() + 60 * args.minutes
    meta = describe(args, CEILINGS)
    console.print(
        f"{meta['device']}, driver {meta['driver']}, torch {meta['torch']}, cuDNN {meta['cudnn']}, upconv "
        f"{meta['commit']}, kernels {meta['kernels_sha256'][:12]}",
        highlight=False,
    )
    device = args.device if ":" in args.device else "cuda:0"
    torch.cuda.set_device(device)
    peers = ("torch_eager", "torch_benchmark", "torch_channels_last") + ("torch_compile",) * args.compile
    seconds = args.seconds or (0.1 if args.quick else 0.5)
    # What PyTorch does by itself first: the other modes are the ones to do without when time is short.
    todo = [(s, precision, passes) for s in shapes for precision, passes in modes(s, args)]
    todo.sort(key=lambda item: item[1] != "torch")
    kernels = {
        (explained(s.problem, precision_of(s.problem, n, m), args.layout), direction)
        for s, m, passes in todo
        for n in passes
        for direction in DIRECTIONS.get(n, (n,))
    }
    held = results.read(args.output) if args.output.exists() else {}
    order = list(dict.fromkeys([*(s.id for s in shapes), *(r["id"] for r in held.get("rows", []))]))
    failed, skipped = [], 0
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A pipe gets a line now and then instead of a bar.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        compiling = progress.add_task("compiling kernels", total=len(kernels))
        warm.compile_all(sorted(kernels), device, lambda: progress.advance(compiling))
        bar = progress.add_task("", total=sum(len(passes) for _, _, passes in todo))
        benches: dict[str, Bench] = {}
        said = time.monotonic()
        for done, (shape, precision, passes) in enumerate(todo):
            if time.monotonic() > end:
                skipped += 1
                continue
            progress.update(bar, description=f"{shape.id} {shape.problem.dtype} {precision}")
            if not console.is_terminal and time.monotonic() > said + 10:
                said = time.monotonic()
                console.print(f"{done} of {len(todo)}: {shape.id} {shape.problem.dtype} {precision}", highlight=False)
            settings = Settings(passes, peers, precision, args.layout, seconds, check=not args.quick)
            key = f"{precision} {passes}"
            if key not in benches:
                benches[key] = Bench(settings, device, CEILINGS)
            try:
                rows = benches[key].measure(shape, lambda: progress.advance(bar))
                for row in rows:
                    row["commit"], row["date"] = meta["commit"], meta["date"]
                held = results.merge(held, meta, rows, order)
            except Exception as error:  # one problem that breaks must not cost the others
                failed.append(f"{shape.id} ({shape.problem.short()}, {precision}): {type(error).__name__}: {error}")
                if "CUDA error" in str(error):  # nothing runs in this process any more
                    break
            if torch.cuda.memory_reserved() > 60 << 30:
                torch.cuda.empty_cache()
            if done % 20 == 19 and held:
                results.write(held, args.output)
    if held:
        results.write(held, args.output)
    if skipped:
        failed.append(f"{skipped} of {len(todo)} problems were not reached in {args.minutes:g} minutes")
    return failed


def describe(args: argparse.Namespace, ceilings: dict) -> dict:
    """The file's meta: GPU, versions, the state of the kernels."""
    import datetime

    import torch

    import upconv
    from upconv.cli.environment import commit

    return {
        "device": torch.cuda.get_device_name(args.device),
        "driver": driver_version(),
        "torch": torch.__version__,
        "cudnn": str(torch.backends.cudnn.version()),
        "upconv": upconv.__version__,
        "commit": commit(Path(__file__).resolve().parent) or "unknown",
        "kernels_sha256": kernels_sha256(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "threads": [1],
        "ceilings": ceilings,
    }


def driver_version() -> str:
    import subprocess

    try:
        words = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
        )
        return words.stdout.split("\n")[0].strip() or "unknown"
    except OSError:
        return "unknown"


def kernels_sha256() -> str:
    """What tools/kernels_sha256 of the checkout says."""
    import subprocess

    script = Path(__file__).resolve().parents[5] / "tools" / "kernels_sha256"
    try:
        return subprocess.run([str(script)], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def conclude(held: dict, args: argparse.Namespace, failed: list[str], console) -> int:
    """Chart, README, tables; what failed, last."""
    from upconv.cli.bench import readme
    from upconv.cli.bench.cuda import chart, report

    png = args.output.with_suffix(".png")
    drawn = chart.draw(held, png)
    if args.readme:
        readme.bring_up_to_date(held, args.readme, check=False)
    wrong = [r for r in held["rows"] if report.is_wrong(r)]
    for table in report.tables(held):
        console.print(table)
    for row in wrong:
        console.print(
            f"wrong {row['id']} {row['pass']} {row['dtype']} {row['precision']}: error {row['rel_err']} > "
            f"{row['rel_err_bound']}",
            style="red",
            highlight=False,
        )
    for line in failed:
        console.print(f"failed {line}", style="red", markup=False, highlight=False)
    console.print(f"{len(held['rows'])} rows in {args.output}" + (f", chart {png}" if drawn else ""), highlight=False)
    return 1 if wrong or failed else 0
