"""upconv tune: which problems its arguments name, and what it says where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import upconv
from upconv import _ops
from upconv.cli import UsageError, main, parser, tune


def named(*words):
    return tune.problems(parser().parse_args(["tune", *words]))


def test_a_problem_a_file_and_rows(tmp_path):
    (line,) = named("2d n8 c64 o64 i256 k3 tf32")
    assert line.startswith("2d n8 c64 o64 i256x256 k3x3") and line.endswith("tf32")

    rows = tmp_path / "rows.txt"
    rows.write_text("a/1 1d n1 c2 o3 i9 k3\na/2 1d n1 c2 o3 i10 k3\nb/1 1d n1 c2 o3 i11 k3\n")
    assert [line.split()[4] for line in named("--shapes", str(rows), "--only", "a/")] == ["i9", "i10"]
    assert len(named("--shapes", str(rows))) == 3

    model = tmp_path / "model.py"
    model.write_text(
        "import torch\n"
        "class Model(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.up = torch.nn.ConvTranspose1d(2, 3, 4, stride=2)\n"
        "    def forward(self, x):\n"
        "        return self.up(x)\n"
        "def get_inputs():\n    return [torch.randn(1, 2, 7)]\n"
        "def get_init_inputs():\n    return []\n"
    )
    (line,) = named(str(model))
    assert line.startswith("1d n1 c2 o3 i7 k4 s2")


def test_what_cannot_be_understood(tmp_path, capsys):
    with pytest.raises(UsageError, match="name a problem"):
        named()
    rows = tmp_path / "rows.txt"
    rows.write_text("a/1 1d n1 c2 o3 i9 k3\n")
    with pytest.raises(UsageError, match="no row"):
        named("--shapes", str(rows), "--only", "c/")
    assert main(["tune", "2d n8 c64 nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert main(["tune", "1d n1 c2 o3 i9 k3"]) == 2
    assert "CUDA driver" in capsys.readouterr().err


def test_forget_counts_what_there_was(tmp_path):
    """In a process of its own, with a folder of its own: the user's choices are none of a test's business."""
    (tmp_path / "tuned.tsv").write_text("g\tforward\tp\t\tcuda_tiles:1\td\n")
    for count in (1, 0):
        done = subprocess.run(
            [sys.executable, "-m", "upconv", "tune", "--forget"],
            env={
                **os.environ,
                "UPCONV_CACHE_DIR": str(tmp_path),
                "UPCONV_LIBRARY": str(_ops.library_path),
                "PYTHONPATH": str(Path(upconv.__path__[0]).parent),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"forgot {count} choices\n"
    assert not (tmp_path / "tuned.tsv").exists()
