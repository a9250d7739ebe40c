"""`upconv check`: judges an exported file against the problem it was made from, strictly.

By reading it (`rules`), and on a machine with an NVIDIA GPU by running it: values and gradients (`judge`), and how fast
it is beside PyTorch (`race`). docs/exporting.md lists every test.

Exit codes: 0, all was checked and is well; 1, something failed; 3, what could be checked without a GPU is well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

WITHOUT_GPU = 3


def add(commands) -> None:
    parser = commands.add_parser(
        "check",
        help="judge an exported file: rules, values, gradients, speed",
        description="Judge a file that defines ModelNew against the problem file that defines Model.",
        epilog="Exit code: 0 when everything was checked and is well, 1 when something failed, 3 when all that can be "
        "checked without an NVIDIA GPU is well.",
    )
    parser.add_argument("problem", metavar="FILE.py | NAME", help="the problem, as for `upconv export`")
    parser.add_argument("model", metavar="MODEL_NEW.py", type=Path, help="the file that defines ModelNew")
    parser.add_argument("--static", action="store_true", help="only read the file")
    parser.add_argument("--backward", action="store_true", help="gradients too")
    parser.add_argument("--benchmark", action="store_true", help="time it beside PyTorch")
    parser.add_argument("--keep-torch", action="store_true", help="the file may compute with torch, but for "
                        "transposed convolutions (as exported with --keep-torch)")  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command."""
    from upconv.cli import UsageError
    from upconv.cli.check.table import Table
    from upconv.cli.export import problem_path

    problem = problem_path(args.problem)
    for path in (problem, args.model):
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
    table = Table()
    read(args.model, args.keep_torch, table)
    if table.failed or args.static:
        table.show()
        return 1 if table.failed else 0
    import torch

    if not torch.cuda.is_available():
        interface(problem, args.model, table)
        table.show()
        if table.failed:
            return 1
        print("The rest runs the kernels, which needs an NVIDIA GPU: torch finds none on this machine.")
        return WITHOUT_GPU
    from upconv.cli.check.judge import Judge

    judge = Judge(problem, args.model, table, keep_torch=args.keep_torch)
    if table.failed:
        table.show()
        return 1
    judge.forward()
    if args.backward:
        judge.backward()
    if args.benchmark and not table.failed:
        from upconv.cli.check.race import race

        race(judge, args.backward, table)
    table.show()
    return 1 if table.failed else 0


def read(model: Path, keep_torch: bool, table) -> None:
    """The rules of rules.py, one row each finding."""
    from upconv.cli.check.rules import findings

    found = findings(model.read_text(), keep_torch)
    for sentence in found:
        table.fail("rules", sentence)
    if not found:
        table.ok("rules", "nothing forbidden in its syntax tree and its text")


def interface(problem: Path, model: Path, table) -> None:
    """What ModelNew is before it is called: constructor, parameters and how they begin."""
    from upconv.cli.check.pair import Pair, PairError

    try:
        pair = Pair(problem, model)
        for row in pair.interface():
            table.add(*row)
    except PairError as error:
        table.fail("interface", str(error))
