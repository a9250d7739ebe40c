# Whole models as their authors wrote them, small (upconv bench --decoders has them as published): what is fused, and
# values, gradients and running averages against torch in float64.
from __future__ import annotations

import copy

import pytest
import torch

import upconv
from upconv.cli.bench.decoders import moved
from upconv.cli.bench.decoders.models import DECODERS

#: Layers fused with what surrounds them, of all.
FUSED = {"hifigan": (4, 4), "sam": (1, 2), "nnunet": (0, 5), "dcgan": (5, 5), "unet": (0, 4)}


def run(model, inputs):
    """The result, and the gradients of a number made of it."""
    model.zero_grad(set_to_none=True)
    y = model(*inputs)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    return y, [p.grad for p in model.parameters()]


def distance(got, want):
    return ((got.double() - want).abs().max() / want.abs().max().clamp(min=1e-30)).item()


@pytest.mark.parametrize("train", (False, True), ids=("eval", "train"))
@pytest.mark.parametrize("name", DECODERS)
def test_values_gradients_and_averages(name, train):
    model, inputs = DECODERS[name].build("test")
    model.train(train)
    wide = copy.deepcopy(model).double()
    fast = upconv.optimize(copy.deepcopy(model), inputs)
    rows = fast.upconv_report.rows
    assert (sum(r.action == "fused" for r in rows), len(rows)) == FUSED[name], str(fast.upconv_report)
    assert dict(fast.state_dict()).keys() == dict(model.state_dict()).keys()
    with torch.no_grad():
        exact = copy.deepcopy(wide)(*moved(inputs, "cpu", torch.float64))
        assert distance(copy.deepcopy(fast)(*inputs), exact) < 2e-5
    want, gradients = run(wide, moved(inputs, "cpu", torch.float64))
    got, found = run(fast, inputs)
    eager, theirs = run(model, inputs)
    assert distance(got, want) < max(2e-5, 4 * distance(eager, want))
    for ours, torch_s, g in zip(found, theirs, gradients, strict=True):
        assert distance(ours, g) < max(2e-4, 4 * distance(torch_s, g))
    for name_of, buffer in fast.named_buffers():
        torch.testing.assert_close(buffer.double(), wide.get_buffer(name_of).double(), rtol=1e-4, atol=1e-5)


def test_sizes_are_the_published_ones():
    """Upsampling by 256 of 80 mel bands; masks of 256x256; patches of 128; images of 64; as many classes."""
    shapes = {name: d.shapes("full") for name, d in DECODERS.items()}
    assert shapes["hifigan"] == [(1, 80, 861)] and shapes["sam"] == [(1, 256, 64, 64)]
    assert shapes["nnunet"][0] == (1, 320, 4, 4, 4) and shapes["nnunet"][-1] == (1, 32, 128, 128, 128)
    results = {name: tuple(d.build("test")[0](*d.build("test")[1]).shape) for name, d in DECODERS.items()}
    assert results == {"hifigan": (1, 1, 1280), "sam": (1, 4, 36, 28), "nnunet": (1, 3, 32, 32, 32),
                       "dcgan": (3, 3, 64, 64), "unet": (2, 2, 32, 48)}  # fmt: skip
