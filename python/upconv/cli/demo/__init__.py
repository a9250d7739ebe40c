"""`upconv demo`: five models through upconv.optimize(), checked against float64, timed beside PyTorch."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

MODELS = ("dense_2d", "every_parameter_2d", "strided_3d", "dilated_2d", "gelu_norm_2d")


def add(commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="run five real models: check them against float64, time them beside PyTorch, write a report",
        description="Swap the transposed convolutions of five models for upconv's, check output and every "
        "gradient against float64, time forward and forward + backward beside PyTorch in this process, and "
        "write a table, a chart and a report. Ends with 1 when a check fails.",
    )
    parser.add_argument("--full", action="store_true", help="the full sizes (needs some 20 GB and many minutes)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda or cuda:1, where sizes are always full")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER", help="default: out/")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of both engines (default: torch's)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, inputs and gradients (default: 0)")
    parser.add_argument("--only", metavar="MODEL,...", help=f"some of {', '.join(MODELS)}")
    parser.add_argument("--scale", type=float, default=1.0, metavar="F", help="scale space further, e.g. 0.25")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="time to measure a model (default: 4)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; 0 when every check passed, 1 otherwise."""
    import torch
    from rich.console import Console

    from upconv.cli import UsageError
    from upconv.cli.models import examples_folder, load_model_file

    names = args.only.split(",") if args.only else list(MODELS)
    if unknown := [n for n in names if n not in MODELS]:
        raise UsageError(f"--only: no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if args.threads is not None and args.threads < 1:
        raise UsageError(f"--threads must be at least 1, got {args.threads}")
    if args.device != "cpu" and not args.device.startswith("cuda"):
        raise UsageError(f"--device must be cpu or a CUDA device, got {args.device}")
    if args.device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"--device {args.device}: this torch sees no CUDA device")
    args.full |= args.device != "cpu"
    if args.scale <= 0:
        raise UsageError(f"--scale must be positive, got {args.scale}")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    folder = examples_folder()
    variants = [v for name in names for v in load_model_file(folder / f"{name}.py")]
    console = Console()
    begin = time.perf_counter()
    results = measure_all(variants, args, console)
    write_all(results, args, console, time.perf_counter() - begin)
    return 0 if all(r.passed for r in results) else 1


def measure_all(variants: list, args: argparse.Namespace, console) -> list:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from upconv.cli.demo.measure import STEPS, Result, measure

    results = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=STEPS * len(variants))
        for i, variant in enumerate(variants):
            progress.update(bar, description=variant.title)
            try:
                result = measure(
                    variant,
                    device=args.device,
                    full=args.full,
                    scale=args.scale,
                    seconds=args.seconds,
                    seed=args.seed,
                    tick=lambda steps, i=i: progress.update(bar, completed=STEPS * i + steps),
                )
            except Exception as error:  # one model that breaks must not hide the others
                result = Result(variant.title, variant.summary, failure=f"{type(error).__name__}: {error}")
            results.append(result)
            progress.update(bar, completed=STEPS * (i + 1))
    return results


def write_all(results: list, args: argparse.Namespace, console, took: float) -> None:
    """Table on the terminal, chart and report in the folder, verdict last."""
    from upconv.cli import style
    from upconv.cli.demo import chart, report
    from upconv.cli.demo.table import table
    from upconv.cli.environment import environment

    facts = environment(args.device)
    console.print(table(results, facts))
    png, html = args.out / "demo.png", args.out / "demo.html"
    sizes = "full sizes" if args.full else "sizes scaled down for a CPU"
    cpu = f"{facts['device']}, " if args.device == "cpu" else ""
    caption = (
        f"{cpu}{style.where(facts)}, "
        f"torch {facts['torch']}, "
        f"upconv {facts['upconv']}, float32, {sizes}, {facts['date']}"
    )
    chart.draw(results, caption, png)
    report.write(results, facts, "upconv " + shlex.join(sys.argv[1:]), png, html)
    failed = [r.title for r in results if not r.passed]
    for r in results:
        if r.failure:
            console.print(f"[red]{r.title}: {r.failure}", highlight=False)
    verdict = (
        f"[red]{len(failed)} of {len(results)} models failed: {', '.join(failed)}"
        if failed
        else (f"[green]{len(results)} models correct in output and gradients")
    )
    console.print(f"{verdict}[/], {took:.0f} s. Chart {png}, report {html}", highlight=False)
