"""explain names kernels for problems and model files; doctor says what it found, notices a broken engine."""

import pytest
import torch

import upconv
from upconv.cli import main
from upconv.cli.models import examples_folder

MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.up = torch.nn.ConvTranspose1d(channels, 4, 3, stride=2)
        self.again = torch.nn.ConvTranspose1d(4, 2, 5, padding=1, bias=False)
    def forward(self, x):
        return self.again(self.up(x, output_size=[20]))
def get_inputs():
    return [torch.rand(3, 6, 9)]
def get_init_inputs():
    return [6]
"""


def test_a_problem(capsys):
    assert main(["explain", "2d n8 c64 o64 i32x32 k3 s2 p1 b f32"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2d n8 c64 o64 i32x32 k3x3 s2x2 p1x1")
    assert all(p in said for p in ("forward:", "backward_input:", "backward_weight:", "workspace"))


def test_a_problem_needs_no_quotes(capsys):
    assert main(["explain", "1d", "n1", "c4", "o4", "i8", "k3", "f32"]) == 0
    assert capsys.readouterr().out.startswith("1d n1 c4 o4 i8 k3")


def test_a_model_file(tmp_path, capsys):
    file = tmp_path / "vocoder.py"
    file.write_text(MODEL)
    assert main(["explain", str(file)]) == 0
    said = capsys.readouterr().out
    assert "vocoder: up\n1d n3 c6 o4 i9 k3 s2 p0 op1 d1 g1 b f32" in said  # output_size asked for one more
    assert "vocoder: again\n1d n3 c4 o2 i20 k5 s1 p1 op0 d1 g1 f32" in said


def test_the_demos_models(capsys):
    for file in sorted(examples_folder().glob("*.py")):
        assert main(["explain", str(file)]) == 0
    said = capsys.readouterr().out
    assert "gelu_norm_2d groups 8: conv" in said
    assert "3d n4 c32 o32 i32x64x128 k3x3x3 s2x2x2 p1x1x1 op0x0x0 d1x1x1 g4 f32" in said


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("x = 1", 2, "does not define Model, get_inputs, get_init_inputs"),
        ("import nothing_like_this", 2, "nothing_like_this"),
        (MODEL.replace("rand(3, 6, 9)", "rand(3, 5, 9)"), 2, "does not run"),
        (MODEL.replace("ConvTranspose1d(channels, 4, 3, stride=2)", "Conv1d(channels, 4, 3)")
         .replace("ConvTranspose1d(4, 2, 5, padding=1, bias=False)", "Conv1d(4, 2, 1)")
         .replace(", output_size=[20]", ""), 1, "no transposed convolution"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_explained(text, code, told, tmp_path, capsys):
    file = tmp_path / "model.py"
    file.write_text(text)
    assert main(["explain", str(file)]) == code
    assert told in capsys.readouterr().err


def test_doctor_finds_everything(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    for name in (
        "library",
        "torch",
        "instruction set",
        "threads",
        "stable ABI",
        "cuda driver",
        "nvrtc",
        "kernel cache",
    ):
        assert name in said
    assert torch.__version__ in said
    if not torch.cuda.is_available():
        assert "cuda engine       cannot run here (no CUDA driver)" in said
    assert f"upconv {upconv.__version__}: works" in said


def test_doctor_notices_a_wrong_engine(monkeypatch, capsys):
    real = upconv.functional.conv_transpose2d
    monkeypatch.setattr(upconv.functional, "conv_transpose2d", lambda *a, **k: real(*a, **k) + 1)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "WRONG" in said and "broken: 2d" in said


def test_doctor_reports_an_engine_that_raises(monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(upconv.functional, "conv_transpose3d", fails)
    assert main(["doctor"]) == 1
    assert "no such kernel" in capsys.readouterr().out
