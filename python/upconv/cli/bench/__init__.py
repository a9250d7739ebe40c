"""`upconv bench`: every row of the shape files, every pass and thread count, upconv beside PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path

SHAPE_FILES = ("kernelbench-l1-cpu.txt", "models-cpu.txt")
# Measured in bf16 and fp16 too unless --dtype says otherwise: dense, many weights, few channels, grouped.
HALF_ROWS = ("L1/57", "L1/75", "hifigan/ups1", "dac/ups0", "sam/up3", "monai-unet/up3")
DTYPES = ("f32", "bf16", "f16", "f64")
PASSES = ("forward", "backward_input", "backward_weight", "backward")


def add(commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure KernelBench and model layers beside PyTorch, write results, chart and README table",
        description="Measure each problem of the shape files: forward, dx, dw and both, PyTorch eager "
        "and upconv in turn in this process, with errors against float64 and the share of the "
        "machine's peak. Results are merged into the file after every problem, so an interrupted run loses "
        "nothing: --resume goes on. Ends with 1 when a result is beyond its error bound or a problem failed.",
    )
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default), cuda or cuda:N")
    parser.add_argument("--threads", type=numbers, default=(1, 2), metavar="N,...", help="default: 1,2")
    parser.add_argument("--only", type=words, metavar="ID,...", help="rows by id or the id's beginning: L1/57,dcgan/")
    parser.add_argument("--passes", type=words, default=PASSES, metavar="PASS,...", help=f"default: {','.join(PASSES)}")
    parser.add_argument(
        "--dtype",
        type=words,
        metavar="TYPE,...",
        help="f32, bf16, f16, f64; default: f32, and bf16 and f16 for a few rows; on CUDA bf16 for the model layers",
    )
    parser.add_argument("--layout", choices=("nchw", "nhwc"), default="nchw", help="nhwc: channels_last tensors")
    parser.add_argument(
        "--shapes", type=Path, nargs="+", metavar="FILE", help="default: tests/shapes/*-cpu.txt, on CUDA the full sizes"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: bench/results/, named by the device")
    parser.add_argument(
        "--precision",
        type=words,
        metavar="MODE,...",
        help="CUDA: torch, ieee, tf32, bf16x3 (default: torch; for level 1 bf16x3 and ieee too)",
    )
    parser.add_argument(
        "--chains",
        action="store_true",
        help="the 30 layers with surroundings of KernelBench level 2, optimised: scaled on the CPU; on CUDA at their "
        "own sizes, and the level-3 U-Net",
    )
    parser.add_argument(
        "--decoders",
        action="store_true",
        help="five whole models, optimised: HiFi-GAN, SAM's upscaling, nnU-Net's decoder, DCGAN, U-Net; on the CPU "
        "with smaller inputs; forward, and of the last three training steps",
    )
    parser.add_argument(
        "--compile", action="store_true", help="CUDA, --chains and --decoders: torch.compile as a further peer (slow)"
    )
    parser.add_argument("--minutes", type=float, default=7.0, help="CUDA: rows are measured until then (default: 7)")
    parser.add_argument("--resume", action="store_true", help="skip rows that the file has from this commit and torch")
    parser.add_argument("--quick", action="store_true", help="forward and backward only, fewer calls, no float64 check")
    parser.add_argument("--seconds", type=float, metavar="S", help="time for each figure (default: 0.5, --quick: 0.1)")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    parser.add_argument(
        "--summary", action="store_true", help="print the summary of --output and draw it, nothing more"
    )
    parser.add_argument(
        "--readme",
        type=Path,
        nargs="?",
        const=Path("README.md"),
        metavar="FILE",
        help="also write the table between the README's results markers",
    )
    parser.set_defaults(run=run)


def words(text: str) -> tuple[str, ...]:
    return tuple(w.strip() for w in text.split(",") if w.strip())


def numbers(text: str) -> tuple[int, ...]:
    values = tuple(int(w) for w in words(text))
    if not values or min(values) < 1:
        raise argparse.ArgumentTypeError("thread counts are positive numbers, such as 1,2")
    return tuple(sorted(set(values)))


def run(args: argparse.Namespace) -> int:
    """The command; 0, 1 when a row is wrong or failed, 2 for what cannot be understood."""
    from rich.console import Console

    from upconv.cli import UsageError
    from upconv.cli.bench.results import ResultsError
    from upconv.cli.problem import ProblemError

    if args.decoders:
        from upconv.cli.bench import decoders

        return decoders.run(args)
    if args.chains:
        from upconv.cli.bench import chains
        from upconv.cli.bench.chains import cuda as chains_cuda

        return (chains if args.device == "cpu" else chains_cuda).run(args)
    if args.device != "cpu":
        from upconv.cli.bench import cuda

        return cuda.run(args)
    args.output = args.output or Path("bench/results/cpu.json")
    try:
        shapes = chosen(args)
        if args.list:
            for shape in shapes:
                print(f"{shape.id:<24}{shape.problem.short():<56}{shape.title}")
            return 0
        console = Console()
        failed = [] if args.summary else measure_all(shapes, args, console)
        return conclude(args, failed, console)
    except (ResultsError, ProblemError) as error:
        raise UsageError(str(error)) from None


def chosen(args: argparse.Namespace) -> list:
    """The shapes to measure, one of each dtype asked for."""
    import dataclasses

    from upconv.cli import UsageError
    from upconv.cli.shapes import read_shapes

    for name, given, known in (("--passes", args.passes, PASSES), ("--dtype", args.dtype or (), DTYPES)):
        if unknown := [w for w in given if w not in known]:
            raise UsageError(f"{name}: {', '.join(unknown)} is none of {', '.join(known)}")
    names = SHAPE_FILES if args.device == "cpu" else [n.replace("-cpu", "") for n in SHAPE_FILES]
    files = args.shapes or [shapes_folder() / name for name in names]
    if missing := [str(f) for f in files if not f.is_file()]:
        raise UsageError(f"no shape file {', '.join(missing)}")
    shapes = [shape for file in files for shape in read_shapes(file)]
    if args.only:
        if unknown := [w for w in args.only if not any(s.id.startswith(w) for s in shapes)]:
            raise UsageError(f"--only: no row begins with {', '.join(unknown)}; `upconv bench --list` shows all")
        exact = {s.id for s in shapes} & set(args.only)
        begins = tuple(w for w in args.only if w not in exact)
        shapes = [s for s in shapes if s.id in exact or (begins and s.id.startswith(begins))]
    return [
        dataclasses.replace(s, problem=dataclasses.replace(s.problem, dtype=dtype))
        for dtype in args.dtype or ("f32", "bf16", "f16")
        for s in shapes
        if args.dtype or dtype == "f32" or s.id in HALF_ROWS
    ]


def shapes_folder() -> Path:
    """tests/shapes of the checkout: this file's, or the one around the current folder."""
    from upconv.cli import UsageError

    for root in (Path(__file__).resolve().parents[4], Path.cwd(), *Path.cwd().parents):
        if (root / "tests" / "shapes" / SHAPE_FILES[0]).is_file():
            return root / "tests" / "shapes"
    raise UsageError("the shape files lie in a checkout's tests/shapes: run there, or name files with --shapes")


def measure_all(shapes: list, args: argparse.Namespace, console) -> list[str]:
    """Measure, merging into the file after every problem; returns what failed, in words."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from upconv.cli.bench import results
    from upconv.cli.bench.measure import Settings, measure

    passes = ("forward", "backward") if args.quick and args.passes is PASSES else args.passes
    settings = Settings(
        args.threads, passes, args.layout, args.seconds or (0.1 if args.quick else 0.5), check=not args.quick
    )
    with console.status("measuring the machine's peak"):
        meta = describe(args)
    console.print(
        f"{meta['device']}, {meta['isa']}, torch {meta['torch']}, upconv {meta['commit']}: peak "
        + ", ".join(
            f"{g:.0f} GFLOP/s and {meta['copy_gbps'][n]:.0f} GB/s on {n} thread{'s' * (n != '1')}"
            for n, g in meta["fma_peak_gflops"].items()
        ),
        highlight=False,
    )
    held = results.read(args.output) if args.output.exists() else {}
    order = list(dict.fromkeys(s.id for s in shapes)) if not held else known_order(held, shapes)
    todo = [s for s in shapes if not (args.resume and is_done(s, settings_of(s, settings, args), held, meta))]
    failed = []
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(todo) * len(settings.threads) * len(settings.passes))
        for done, shape in enumerate(todo, 1):
            progress.update(bar, description=shape.id)
            own = settings_of(shape, settings, args)
            try:
                rows = measure(shape, own, meta, lambda: progress.advance(bar))
                held = results.merge(held, meta, rows, order)
                results.write(held, args.output)
            except Exception as error:  # one problem that breaks must not cost the others
                failed.append(f"{shape.id} ({shape.problem.short()}): {type(error).__name__}: {error}")
            progress.update(bar, completed=done * len(settings.threads) * len(settings.passes))
    return failed


def settings_of(shape, settings, args: argparse.Namespace):
    """The 16-bit rows that nobody asked for come in two passes: PyTorch takes a second for some of their calls."""
    import dataclasses

    if args.dtype or shape.problem.dtype == "f32":
        return settings
    return dataclasses.replace(settings, passes=tuple(p for p in settings.passes if p in ("forward", "backward")))


def known_order(held: dict, shapes: list) -> list[str]:
    """Ids in the order of the full shape files, so that --only does not reshuffle the results."""
    from upconv.cli import UsageError
    from upconv.cli.shapes import read_shapes

    try:
        everything = [s.id for name in SHAPE_FILES for s in read_shapes(shapes_folder() / name)]
    except (UsageError, OSError):
        everything = []
    return list(dict.fromkeys([*everything, *(s.id for s in shapes), *(r["id"] for r in held["rows"])]))


def is_done(shape, settings, held: dict, meta: dict) -> bool:
    """Whether every row of this problem is there, for this commit and torch and at this size."""
    from upconv.cli.bench.measure import DTYPES as torch_dtypes
    from upconv.cli.bench.results import key

    if not held or held["meta"]["torch"] != meta["torch"]:
        return False
    have = {key(r) for r in held["rows"] if r.get("commit") == meta["commit"] and r["problem"] == shape.problem.short()}
    dtype = str(torch_dtypes[shape.problem.dtype]).removeprefix("torch.")
    return all((shape.id, p, dtype, settings.layout, n, "") in have for p in settings.passes for n in settings.threads)


def describe(args: argparse.Namespace) -> dict:
    """The file's meta: machine, versions, peaks."""
    import torch

    from upconv.cli.bench.peak import machine_peak
    from upconv.cli.environment import commit, environment

    facts = environment()
    return {
        "device": facts["device"],
        "driver": "",
        "cores": facts["cores"],
        "isa": facts["instruction_set"],
        "torch": torch.__version__,
        "cudnn": "",
        "upconv": facts["upconv"],
        "commit": commit(Path(__file__).resolve().parent) or "unknown",
        "date": facts["date"],
        "threads": list(args.threads),
        **machine_peak(list(args.threads)),
    }


def conclude(args: argparse.Namespace, failed: list[str], console) -> int:
    """Chart, README, summary; what failed, last."""
    from upconv.cli.bench import chart, readme, results, summary

    if not args.output.exists() and failed:
        for line in failed:
            console.print(f"[red]failed[/] {line}", highlight=False)
        return 1
    held = results.read(args.output)
    png = args.output.with_suffix(".png")
    drawn = chart.draw(held, png)
    if args.readme:
        readme.bring_up_to_date(held, args.readme, check=False)
    wrong = [r for r in held["rows"] if summary.is_wrong(r)]
    kinds = dict.fromkeys((r["dtype"], r["layout"]) for r in held["rows"])
    for dtype, layout in kinds:
        summaries = summary.summarise(held["rows"], dtype, layout)
        console.print(summary.table(summaries, f"{dtype}, {layout}: {args.output}"))
        if losing := summary.losing_table(summaries):
            console.print(losing)
    for row in wrong:
        console.print(
            f"[red]wrong[/] {row['id']} {row['pass']}: error {row['rel_err']} > {row['rel_err_bound']}",
            highlight=False,
        )
    for line in failed:
        console.print(f"[red]failed[/] {line}", highlight=False)
    console.print(f"{len(held['rows'])} rows in {args.output}" + (f", chart {png}" if drawn else ""), highlight=False)
    return 1 if wrong or failed else 0
