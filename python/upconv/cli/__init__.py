"""The command line: `upconv demo | bench | explain | tune | export | check | doctor | cache`.

Exit codes: 0 (ok), 1 (check failed), 2 (usage).

`main` is the console script; each command is a module or package beside this file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


class UsageError(Exception):
    """What was typed cannot be done; the message says why. Ends with exit code 2."""


def parser() -> argparse.ArgumentParser:
    from upconv.cli import bench, cache, check, demo, doctor, explain, export, tune

    top = argparse.ArgumentParser(
        prog="upconv",
        description="Transposed convolutions for PyTorch and C++: see them work, measure and explain them.",
        epilog="Exit code: 0 when all is well, 1 when a check failed, 2 when the command was not understood.",
    )
    top.add_argument("--version", action=Version, nargs=0, help="print the version and stop")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, bench, explain, tune, export, check, doctor, cache):
        command.add(commands)
    return top


class Version(argparse.Action):
    """Like argparse's own, but the engine is loaded only when asked for."""

    def __call__(self, parser, namespace, values, option=None) -> None:
        import upconv

        print(f"upconv {upconv.__version__}")
        parser.exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script and of `python -m upconv`."""
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except UsageError as error:
        print(f"upconv: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name in ("rich", "matplotlib"):
            print(f"upconv: this command needs {error.name}: pip install {error.name}", file=sys.stderr)
            return 2
        raise
    except KeyboardInterrupt:
        print("upconv: interrupted", file=sys.stderr)
        return 130
