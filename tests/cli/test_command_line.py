"""What is typed wrongly ends with exit code 2 and one clear line; help and version end with 0."""

import pytest

from upconv.cli import main

COMMANDS = ("demo", "bench", "explain", "doctor")


def exit_code(*words: str) -> int:
    """main returns a code for what it understood; argparse leaves through SystemExit."""
    try:
        return main(list(words))
    except SystemExit as left:
        return left.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert exit_code(command, "--help") == 0
    assert f"upconv {command}" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    assert exit_code("--help") == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


def test_version(capsys):
    import upconv

    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"upconv {upconv.__version__}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "COMMAND"),
        (["deconvolve"], "deconvolve"),
        (["demo", "--device", "cuda"], "cuda"),
        (["demo", "--only", "resnet"], "resnet"),
        (["demo", "--threads", "0"], "at least 1"),
        (["demo", "--scale", "-1"], "positive"),
        (["bench", "--threads", "0,1"], "positive"),
        (["bench", "--threads", "two"], "two"),
        (["bench", "--only", "L1/9999"], "L1/9999"),
        (["bench", "--passes", "sideways"], "sideways"),
        (["bench", "--dtype", "f8"], "f8"),
        (["bench", "--shapes", "nowhere.txt"], "nowhere.txt"),
        (["bench", "--summary", "--output", "nowhere.json"], "nowhere.json"),
        (["explain"], "PROBLEM"),
        (["explain", "4d n1"], "1d, 2d or 3d"),
        (["explain", "2d n1 z5"], "z5"),
        (["explain", "2d n1 c4x4"], "in_channels"),
        (["explain", "2d i8x8x8"], "input"),
        (["explain", "2d n1 c3 o4 i8 k3 g2 f32"], "groups"),
        (["explain", "2d n1 c4 o4 i8 k3 s2 op2 f32"], "output_padding"),
        (["explain", "nowhere.py"], "nowhere.py"),
    ],
)
def test_usage_errors(words, told, capsys):
    assert exit_code(*words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Traceback" not in said
