"""`upconv export`: one self-contained Python file with the CUDA source inside (docs/exporting.md)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write a model's transposed convolution as one self-contained file of CUDA kernels",
        description="Write one Python file that defines ModelNew, get_inputs and get_init_inputs, holds its CUDA "
        "source, and imports only torch and the standard library.",
        epilog="Needs no GPU. The file compiles its kernels with torch.utils.cpp_extension.load_inline at its first "
        "call. Operations that the kernels do not compute are refused, by name.",
    )
    parser.add_argument("problem", metavar="FILE.py | NAME", help="a file that defines Model, get_inputs() and "
                        "get_init_inputs(), or the name of one of examples/models")  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE.py", type=Path, help="where to write; default: standard output")
    parser.add_argument("--base", default="sm_80", choices=("sm_80", "sm_89"), help="whose limits the kernels for "
                        "other GPUs than compute capability 9.x keep to: 163 KB of shared memory a block (default), or "
                        "99 KB, which every GPU from 8.0 on has")  # fmt: skip
    parser.add_argument("--keep-torch", action="store_true", help="leave what the kernels do not compute to torch, "
                        "instead of refusing it")  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; 0, 1 when the model cannot be exported, 2 when there is no such file."""
    from upconv.cli import UsageError
    from upconv.export import Refusal, export

    path = problem_path(args.problem)
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        text = export(path, base=args.base, keep_torch=args.keep_torch)
    except Refusal as refusal:
        print(f"upconv: {path.name} cannot be exported: {refusal}", file=sys.stderr)
        return 1
    if args.output is None:
        sys.stdout.write(text)
    else:
        args.output.write_text(text)
        print(f"{args.output}: {len(text) / 1e3:.0f} KB, {text.count(chr(10))} lines")
    return 0


def problem_path(name: str) -> Path:
    """A file, or an example model by its name."""
    from upconv.cli.models import ModelFileError, examples_folder

    path = Path(name)
    if path.suffix == ".py":
        return path
    try:
        return examples_folder() / f"{name}.py"
    except ModelFileError:
        return path
