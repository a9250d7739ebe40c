"""`upconv tune`: measure the kernels that could run problems, a model file or named shapes, and keep the fastest."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from upconv.cli.bench import words


def add(commands) -> None:
    parser = commands.add_parser(
        "tune",
        help="measure the CUDA kernels that could run a problem, a model or named shapes, and keep the fastest",
        description="For every pass, each kernel and tile that may be fastest is compiled, checked against the others "
        "and timed on the GPU; later plans on this machine take the winner. A mode's precision never changes.",
        epilog="A problem is a line as upconv explain takes it; its pass runs in the precision that it names. A model "
        "file defines Model, get_inputs() and get_init_inputs().",
    )
    parser.add_argument("what", nargs="*", metavar="PROBLEM | FILE.py")
    parser.add_argument("--shapes", type=Path, nargs="+", metavar="FILE", help="every row of these shape files")
    parser.add_argument("--only", type=words, metavar="ID,...", help="of --shapes: rows by id or the id's beginning")
    parser.add_argument(
        "--precision", default="torch", help="of --shapes and models: torch (default), tf32, bf16x3, ieee"
    )
    parser.add_argument("--device", default="cuda", metavar="DEVICE", help="cuda (default), cuda:1")
    parser.add_argument("--forward-only", action="store_true", help="leave the gradients' passes out")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="timed runs of each (default: 9)")
    parser.add_argument("--report-only", action="store_true", help="measure and print; keep nothing")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write every measured time as JSON")
    parser.add_argument("--forget", action="store_true", help="remove what was kept, and stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; 0, 1 when a kernel was left out as wrong, 2 for what cannot be understood."""
    from upconv import _ops, _tune
    from upconv.cli import UsageError

    if args.forget:
        print(f"forgot {int(_ops.forget_tuned())} choices")
        return 0
    try:
        lines = problems(args)
        report = _tune.tune(
            lines,
            device=args.device,
            backward=not args.forward_only,
            rounds=args.rounds,
            keep=not args.report_only,
            precision=args.precision,
        )
    except (ValueError, RuntimeError) as error:
        raise UsageError(str(error)) from None
    print(report)
    if args.output:
        args.output.write_text(json.dumps([asdict(row) for row in report.rows], indent=1) + "\n")
    return 1 if any(row.refused for row in report.rows) else 0


def problems(args: argparse.Namespace) -> list[str]:
    """The problem lines that the arguments name."""
    from upconv.cli import UsageError
    from upconv.cli.models import ModelFileError, convs_of, load_model_file
    from upconv.cli.problem import parse_problem
    from upconv.cli.shapes import read_shapes

    if args.shapes:
        rows = [shape for path in args.shapes for shape in read_shapes(path)]
        rows = [s for s in rows if not args.only or any(s.id.startswith(start) for start in args.only)]
        if not rows:
            raise UsageError("no row has such an id")
        return [str(s.problem) for s in rows]
    text = " ".join(args.what)
    if not text:
        raise UsageError("tune: name a problem, a model file or --shapes; upconv tune --help shows how")
    if not text.endswith(".py"):
        return [str(parse_problem(text))]
    try:
        return [str(problem) for v in load_model_file(Path(text)) for _, problem in convs_of(v)]
    except ModelFileError as error:
        raise UsageError(str(error)) from None
