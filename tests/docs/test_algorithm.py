"""The Python of docs/algorithm.md, run as it stands there, against PyTorch in float64."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "algorithm.md"


@pytest.fixture(scope="module")
def page() -> dict:
    names = {"np": np, "math": math, "itertools": itertools}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(block, names)  # the page's own asserts run here
    return names


# in, kernel, stride, padding, output_padding, dilation
CASES = [
    (7, 3, 1, 0, 0, 1),
    (7, 3, 2, 1, 1, 1),
    (5, 4, 4, 0, 0, 1),
    (6, 8, 4, 2, 3, 1),
    (9, 3, 5, 1, 0, 2),
    (4, 5, 3, 6, 2, 2),
    (3, 2, 2, 0, 1, 2),
    (1, 1, 7, 0, 6, 1),
    (8, 6, 3, 4, 4, 5),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "output_padding", "dilation"), CASES)
def test_the_page_agrees_with_torch(page, size, kernel, stride, padding, output_padding, dilation):
    random = np.random.default_rng(sum((size, kernel, stride, padding, output_padding, dilation)))
    x, w, b = (random.standard_normal(shape) for shape in ((3, size), (3, 2, kernel), (2,)))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x[None], w, b)]
    y = torch.nn.functional.conv_transpose1d(
        *tensors, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation
    )
    np.testing.assert_allclose(
        page["forward"](x, w, b, stride, padding, output_padding, dilation), y[0].detach(), atol=1e-12
    )

    dy = random.standard_normal(y.shape[1:])
    expected = torch.autograd.grad(y, tensors, torch.tensor(dy[None]))
    dx, dw, db = page["backward"](x, w, dy, stride, padding, dilation)
    for mine, theirs in zip((dx[None], dw, db), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-12)


def test_sixteen_empty_phases_receive_the_bias_only():
    """k3 s5 d2 in two dimensions: without bias exactly the outputs of the 16 empty phases of 25 are zero."""
    y = torch.nn.functional.conv_transpose2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), stride=5, dilation=2)[0, 0]
    zero = {(row % 5, column % 5) for row, column in (y == 0).nonzero().tolist()}
    reached = {(row % 5, column % 5) for row, column in y.nonzero().tolist()}
    assert len(zero) == 16
    assert len(reached) == 9
    assert not zero & reached
