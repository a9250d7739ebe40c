# What a wrong argument raises: torch's kind of error, in words that name operator, value and rule.
import re

import pytest
import torch
import torch.nn.functional as F

import upconv
from upconv import functional as U

X, W = torch.randn(2, 4, 5), torch.randn(4, 3, 3)


def t(*shape):
    return torch.randn(*shape)


# (what, arguments, keywords, words the message must have). Both libraries must raise; the kind must agree.
CASES = [
    ("1-D input", (t(5), W), {}, ["conv_transpose1d", "[5]", "2D (unbatched) or 3D (batched)"]),
    ("4-D input", (t(2, 4, 5, 5), W), {}, ["conv_transpose1d", "[2, 4, 5, 5]"]),
    ("2-D weight", (X, t(4, 3)), {}, ["conv_transpose1d", "weight of 3 dimensions", "2"]),
    ("wrong channels", (t(2, 5, 5), W), {}, ["conv_transpose1d", "[4, 3, 3]", "4 channels", "5 channels"]),
    ("channels not divisible by groups", (X, W), dict(groups=3), ["conv_transpose1d", "groups=3", "[4, 3, 3]"]),
    ("zero groups", (X, W), dict(groups=0), ["conv_transpose1d", "groups=0", "non-positive"]),
    ("negative groups", (X, W), dict(groups=-1), ["conv_transpose1d", "groups=-1", "non-positive"]),
    ("output_padding = stride", (X, W), dict(output_padding=1),
     ["conv_transpose1d", "output_padding (1)", "stride (1)"]),
    ("output_padding > both", (X, W), dict(output_padding=5, stride=3, dilation=4),
     ["output_padding (5)", "stride (3)", "dilation (4)"]),
    ("zero stride", (X, W), dict(stride=0), ["conv_transpose1d", "stride", "(0)", "greater than zero"]),
    ("negative stride", (X, W), dict(stride=-2), ["conv_transpose1d", "stride", "(-2)"]),
    ("zero dilation", (X, W), dict(dilation=0), ["conv_transpose1d", "dilation", "(0)"]),
    ("negative padding", (X, W), dict(padding=-1), ["conv_transpose1d", "negative padding", "(-1)"]),
    ("negative output_padding", (X, W), dict(output_padding=-1), ["negative output_padding", "(-1)"]),
    ("bias of another length", (X, W, t(4)), {}, ["conv_transpose1d", "bias", "3 elements", "[4]"]),
    ("2-D bias", (X, W, t(3, 1)), {}, ["conv_transpose1d", "bias", "1-dimensional", "[3, 1]"]),
    ("mixed dtypes", (X, W.double()), {}, ["conv_transpose1d", "f32", "f64", "should be the same"]),
    ("bias of another dtype", (X, W, t(3).double()), {}, ["conv_transpose1d", "f32", "bias", "f64"]),
    ("half and bfloat16", (X.half(), W.bfloat16()), {}, ["conv_transpose1d", "f16", "bf16"]),
    ("int32", (X.int(), W.int()), {}, ["conv_transpose1d", "torch.int32", "float32"]),
    ("empty space", (t(2, 4, 0), W), {}, ["conv_transpose1d", "non-zero", "(0)"]),
    ("no channels", (t(2, 0, 5), t(0, 3, 3)), {}, ["conv_transpose1d", "channels", "0"]),
    ("no output channels", (X, t(4, 0, 3)), {}, ["conv_transpose1d", "out_channels=0"]),
    ("negative output", (t(2, 4, 1), W), dict(padding=2), ["conv_transpose1d", "output size (-1)", "too small"]),
    ("empty kernel", (X, t(4, 3, 0)), {}, ["conv_transpose1d", "kernel", "(0)", "greater than zero"]),
    ("two strides", (X, W), dict(stride=(1, 1)), ["conv_transpose1d", "stride=[1, 1]", "single integer"]),
    ("stride that is no int", (X, W), dict(stride=1.5), ["conv_transpose1d", "'stride'", "float"]),
    ("stride of floats", (X, W), dict(stride=(1.5,)), ["conv_transpose1d", "'stride'", "int"]),
    ("padding by name", (X, W), dict(padding="same"), ["conv_transpose1d", "'padding'", "str"]),
    ("groups that is no int", (X, W), dict(groups=1.0), ["conv_transpose1d", "'groups'", "float"]),
    ("stride that is true", (X, W), dict(stride=True), ["conv_transpose1d", "'stride'", "bool"]),
    ("groups that are true", (X, W), dict(groups=True), ["conv_transpose1d", "'groups'", "bool"]),
    ("complex with a real bias", (X.cfloat(), W.cfloat(), t(3)), {}, ["complex64", "bias", "float32", "the same"]),
    ("no tensor", (None, W), {}, ["conv_transpose1d", "'input'", "NoneType"]),
    ("a list for a weight", (X, [1.0]), {}, ["conv_transpose1d", "'weight'", "list"]),
    ("a number for a bias", (X, W, 1.0), {}, ["conv_transpose1d", "'bias'", "float"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "keywords", "words"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_raises_as_torch_does(arguments, keywords, words):
    with pytest.raises(Exception) as theirs:
        F.conv_transpose1d(*arguments, **keywords)
    with pytest.raises(Exception) as ours:
        U.conv_transpose1d(*arguments, **keywords)
    assert type(ours.value) is type(theirs.value), f"{ours.value!r} where torch raises {theirs.value!r}"
    for word in words:
        assert word in str(ours.value), f"{word!r} is not in {str(ours.value)!r}"


def test_the_dimension_is_named():
    with pytest.raises(RuntimeError, match=r"conv_transpose2d: output_padding \(2\).*stride \(2\).*dimension 1"):
        U.conv_transpose2d(t(1, 2, 3, 3), t(2, 2, 3, 3), stride=(3, 2), output_padding=2)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_empty_output_is_refused(rank):
    # torch returns an empty tensor or raises, depending on its backend; the rule here is one.
    f = getattr(U, f"conv_transpose{rank}d")
    with pytest.raises(RuntimeError, match=f"conv_transpose{rank}d: calculated output size .*0.* is too small"):
        f(t(1, 2, *[1] * rank), t(2, 2, *[2] * rank), padding=1)


def test_sizes_beyond_64_bits_are_refused_not_allocated():
    huge = torch.empty(1, 1, 1).expand(1, 1, 2**40)
    with pytest.raises(RuntimeError, match="64"):
        U.conv_transpose1d(huge, t(1, 1, 3), stride=2**40)


def test_mixed_devices_are_refused():
    with pytest.raises(
        RuntimeError, match=r"conv_transpose1d: input type .*cpu.* weight type .*meta.* should be the same"
    ):
        U.conv_transpose1d(X, W.to("meta"), stride=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_gets_one_clear_sentence():
    with pytest.raises(RuntimeError, match=r"^no CUDA (driver|device)[^\n]*$"):
        upconv.explain("1d i4 k3", device="cuda")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", ""])
def test_unknown_devices_are_named(device):
    with pytest.raises(RuntimeError, match=f"expected a device such as .*, but got '{device}'"):
        upconv.explain("1d i4 k3", device=device)


@pytest.mark.parametrize("precision", ["fp8", None, 3])
def test_unknown_precisions_are_named(precision):
    with pytest.raises(ValueError, match="precision should be one of torch, ieee, tf32, bf16x3, but got"):
        U.conv_transpose1d(X, W, precision=precision)
    with pytest.raises(ValueError, match="precision should be one of"):
        upconv.nn.ConvTranspose1d(4, 4, 3, precision=precision)


@pytest.mark.parametrize(
    ("dy", "what"),
    [((2, 3, 8), "[2, 3, 7]"), ((2, 4, 7), "[2, 3, 7]"), ((1, 3, 7), "[2, 3, 7]"), ((2, 3), "[2, 3, 7]")],
)
def test_output_gradient_of_another_shape(dy, what):
    geometry = ([1], [0], [0], [1], 1)
    for call in (
        lambda: torch.ops.upconv.conv_transpose_backward_input(t(*dy), W, [2, 4, 5], *geometry),
        lambda: torch.ops.upconv.conv_transpose_backward_weight(X, t(*dy), [4, 3, 3], *geometry),
    ):
        with pytest.raises(RuntimeError, match=f"conv_transpose1d: .*gradient.*{re.escape(what)}"):
            call()


@pytest.mark.parametrize(
    "epilogue", [[3.0], [99.0, 0.0, 0.0], [float("nan"), 0.0, 0.0], [9.0, 1.0, -1.0], [12.0, 0.0, 1.0]]
)
def test_epilogues_that_are_none(epilogue):
    with pytest.raises(RuntimeError, match=r"conv_transpose_epilogue|hardtanh|softplus"):
        torch.ops.upconv.conv_transpose_epilogue(X, W, None, [1], [0], [0], [1], 1, epilogue)


@pytest.mark.parametrize("text", ["", "4d", "2d q7", "2d c3 o4 g2", "1d k0"])
def test_explain_refuses(text):
    import upconv

    with pytest.raises(RuntimeError, match=r"explain|conv_transpose"):
        upconv.explain(text)
