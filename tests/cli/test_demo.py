"""The demo ends with 0 on a sound engine and with 1 on every kind of broken one; its files can be read."""

import base64
import types
from html.parser import HTMLParser

import pytest
import torch

import upconv
from upconv.cli import main
from upconv.cli.demo import MODELS
from upconv.cli.models import examples_folder, load_model_file

TINY = ("--scale", "0.08", "--seconds", "0.01", "--threads", "1")
PNG = b"\x89PNG\r\n\x1a\n"


def demo(out, *words: str) -> int:
    threads = torch.get_num_threads()
    try:
        return main(["demo", "--out", str(out), *TINY, *words])
    finally:
        torch.set_num_threads(threads)


class Page(HTMLParser):
    """Collects what the report shows: tags, text and images; complains about tags left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.seen, self.text, self.images, self.links = [], [], "", [], []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        named = dict(attrs)
        self.links += [v for k, v in attrs if k in ("href", "src") and not v.startswith("data:")]
        if tag == "img":
            self.images.append(named["src"])
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def test_all_models_pass(tmp_path, capsys):
    assert demo(tmp_path / "new" / "out") == 0
    said = capsys.readouterr().out
    assert "7 models correct" in said
    png = (tmp_path / "new" / "out" / "demo.png").read_bytes()
    assert png.startswith(PNG) and len(png) > 10_000
    page = Page((tmp_path / "new" / "out" / "demo.html").read_text())
    assert [base64.b64decode(i.partition(",")[2]) for i in page.images] == [png]
    assert not page.links, "the report must be one file"
    assert page.seen.count("details") == 7
    for word in (
        *MODELS,
        "groups 8",
        "conv.weight",
        "conv.bias",
        "norm.weight",
        "7 of 7",
        "forward:",
        torch.__version__,
    ):
        assert word in page.text, word
    assert "failed" not in page.text


def test_full_sizes_are_what_was_asked_for():
    """Shapes only: on the meta device nothing is allocated."""
    with torch.device("meta"):
        found = {v.title: v for name in MODELS for v in load_model_file(examples_folder() / f"{name}.py")}
        shapes = {title: (v.inputs()[0].shape, v.build()(*v.inputs()).shape) for title, v in found.items()}
    assert shapes["dense_2d"] == ((8, 64, 1024, 1024), (8, 64, 1026, 1026))
    assert shapes["strided_3d groups 4"] == ((4, 32, 32, 64, 128), (4, 32, 63, 127, 255))
    assert shapes["dilated_2d"] == ((16, 32, 64, 128), (16, 64, 318, 638))
    assert shapes["gelu_norm_2d groups 1"] == ((128, 64, 256, 256), (128, 64, 258, 258))
    assert len(found) == 7
    conv = found["every_parameter_2d"].build().conv
    for field, default in (("stride", 1), ("padding", 0), ("output_padding", 0), ("dilation", 1)):
        value = getattr(conv, field)
        assert value[0] != value[1] and value != (default, default), field
    assert conv.groups > 1 and conv.bias is not None


class ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        return w.clone()

    @staticmethod
    def backward(ctx, dw):
        return dw * 1.001


def tf32(t: torch.Tensor) -> torch.Tensor:
    """Rounded to TF32's ten bits, with t's gradient."""
    bits = (t.detach().view(torch.int32) + 0x1000) & ~0x1FFF
    return t + (bits.view(torch.float32) - t.detach())


def run(module, x, w):
    return upconv.functional.conv_transpose2d(
        x,
        w,
        module.bias,
        module.stride,
        module.padding,
        module.output_padding,
        module.groups,
        module.dilation,
    )


BROKEN = {
    "zeros": lambda self, x: 0 * run(self, x, self.weight),
    "dw a thousandth too large": lambda self, x: run(self, x, ScaledGradient.apply(self.weight)),
    "TF32 operands": lambda self, x: run(self, tf32(x), tf32(self.weight)),
    "one wrong element": lambda self, x: run(self, x, self.weight).index_fill(-1, torch.tensor([3]), 0.5),
    "not a number": lambda self, x: run(self, x, self.weight) * float("nan"),
    "wrong shape": lambda self, x: run(self, x, self.weight)[..., :-1],
    "raises": lambda self, x: run(self, x[:, :1], self.weight),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_engine_fails(fault, tmp_path, monkeypatch, capsys):
    real = upconv.optimize

    def broken(model, inputs):
        swapped = real(model, inputs)
        for module in swapped.modules():
            if isinstance(module, torch.nn.modules.conv._ConvTransposeNd):
                module.forward = types.MethodType(BROKEN[fault], module)
        return swapped

    monkeypatch.setattr(upconv, "optimize", broken)
    assert demo(tmp_path, "--only", "dense_2d") == 1
    assert "1 of 1 models failed: dense_2d" in capsys.readouterr().out
    assert "failed" in Page((tmp_path / "demo.html").read_text()).text
    assert (tmp_path / "demo.png").read_bytes().startswith(PNG)


def test_a_model_left_alone_fails(tmp_path, monkeypatch, capsys):
    """Comparing PyTorch with itself proves nothing."""
    monkeypatch.setattr(upconv, "optimize", lambda model, inputs: model)
    assert demo(tmp_path, "--only", "dilated_2d") == 1
    assert "replaced no layer" in capsys.readouterr().out
