# PyTorch's own samples for conv_transpose1d/2d/3d (they ship in the torch wheel): forward and gradients.
import pytest
import torch
from exact import assert_near, forward, gradients
from torch.testing._internal.common_methods_invocations import op_db

from upconv import functional as U

INFOS = {info.name: info for info in op_db if info.name.startswith("nn.functional.conv_transpose")}
NAMES = [f"nn.functional.conv_transpose{r}d" for r in (1, 2, 3)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64, torch.complex128]
POSITIONAL = ("stride", "padding", "output_padding", "groups", "dilation")


def arguments(sample):
    w, *rest = sample.args
    b = rest[0] if rest else sample.kwargs.get("bias")
    how = dict(zip(POSITIONAL, rest[1:], strict=False))
    how.update({k: v for k, v in sample.kwargs.items() if k != "bias"})
    return sample.input, w, b, how


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_samples(name, dtype):
    info, ours = INFOS[name], getattr(U, name.rpartition(".")[2])
    if not dtype.is_complex:
        assert dtype in info.dtypes
    count = 0
    for sample in info.sample_inputs("cpu", dtype, requires_grad=True):
        x, w, b, how = arguments(sample)
        y = ours(sample.input, *sample.args, **sample.kwargs)
        count += 1
        leaves = [t for t in (x, w, b) if t is not None]
        if dtype.is_complex:
            expected = info.op(sample.input, *sample.args, **sample.kwargs)
            dy = torch.randn_like(y)
            mine = [y, *torch.autograd.grad(y, leaves, dy)]
            eps = torch.finfo(dtype).eps
            for a, e in zip(mine, [expected, *torch.autograd.grad(expected, leaves, dy)], strict=True):
                torch.testing.assert_close(a, e, rtol=0, atol=30 * eps * e.abs().max().item())
            continue
        assert_near(y, *forward(x, w, b, **how), w[:, 0].numel(), f"y of sample {count}")
        if y.numel() == 0:
            continue
        dy = torch.randn(y.shape).to(dtype)
        for what, actual, (exact, size) in zip(
            "xwb", torch.autograd.grad(y, leaves, dy), gradients(x, w, b, dy, **how), strict=False
        ):
            assert_near(actual, exact, size, dy.numel(), f"d{what} of sample {count}")
    assert count >= 5
