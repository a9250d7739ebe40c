"""`upconv explain`: which kernel runs a problem, or each transposed convolution of a model file, and why."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

EXAMPLE = "2d n8 c64 o64 i256x256 k3 s2 p1 b f32"


def add(commands) -> None:
    parser = commands.add_parser(
        "explain",
        help="say which kernel runs a problem or a model's layers, and why the others were declined",
        description="Say which kernel runs each pass, why the candidates before it were declined, its "
        "workspace and the least work and traffic.",
        epilog=f"A problem is a line such as '{EXAMPLE}': rank, batch, channels in and out, input, kernel, "
        "stride, padding, op (output_padding), d (dilation), g (groups), b (bias), f32 | f64 | bf16 | f16, "
        "tf32 | bf16x3 (of f32, on CUDA), "
        "and xl wl yl for channels_last. A model file defines Model, get_inputs() and get_init_inputs().",
    )
    parser.add_argument("what", nargs="+", metavar="PROBLEM | FILE.py", help=f'for instance "{EXAMPLE}"')
    parser.add_argument(
        "--device", default="cpu", metavar="DEVICE", help="cpu (default), cuda, cuda:1, or a model of a GPU: sm_80, "
        "sm_89, sm_90, sm_100, sm_120",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; 0, or 2 when the problem or the file cannot be read."""
    text = " ".join(args.what)
    if text.endswith(".py"):
        return explain_file(Path(text), args.device)
    explain_problem(text, args.device)
    return 0


def explain_problem(text: str, device: str, title: str = "") -> None:
    import upconv
    from upconv.cli import UsageError
    from upconv.cli.problem import ProblemError, parse_problem

    try:
        said = upconv.explain(str(parse_problem(text)), device)
    except (ProblemError, ValueError, RuntimeError) as error:
        raise UsageError(str(error)) from None
    print((f"{title}\n" if title else "") + said.rstrip())


def explain_file(path: Path, device: str) -> int:
    from upconv.cli import UsageError
    from upconv.cli.models import ModelFileError, convs_of, load_model_file

    try:
        found = [(v, *conv) for v in load_model_file(path) for conv in convs_of(v)]
    except ModelFileError as error:
        raise UsageError(str(error)) from None
    if not found:
        print(f"{path}: the model runs no transposed convolution", file=sys.stderr)
        return 1
    for i, (variant, name, problem) in enumerate(found):
        explain_problem(
            str(problem), device, title=("\n" if i else "") + f"{variant.title}: {name or 'the model itself'}"
        )
    return 0
