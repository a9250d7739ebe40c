"""KernelBench level 1 at full size beside PyTorch, as a user swaps the line: the same data, setting and tolerance."""

from dataclasses import replace

import pytest
import torch
from gpu_cases import ROOT
from torch import nn

import upconv
from upconv.cli.bench.cuda.measure import tf32
from upconv.cli.bench.cuda.reference import Reference
from upconv.cli.problem import parse_problem
from upconv.cli.shapes import read_shapes

pytestmark = pytest.mark.usefixtures("cuda")
ROWS = {s.id: s.problem for s in read_shapes(ROOT / "tests" / "shapes" / "kernelbench-l1.txt")}
#: Of level 2, with groups: cuDNN computes it in TF32, those of level 1 (72, 75) not.
GROUPED = {"L2/19 in groups": parse_problem("2d n128 c64 o64 i256x256 k3 g8 b f32")}


def modules(p):
    """torch's module as KernelBench constructs it, ours with the same parameters, and its input: uniform in [0, 1)."""
    torch.manual_seed(42)
    how = dict(
        stride=p.stride, padding=p.padding, output_padding=p.output_padding, groups=p.groups, dilation=p.dilation
    )
    args = (p.in_channels, p.out_channels, p.kernel)
    theirs = getattr(nn, f"ConvTranspose{p.rank}d")(*args, bias=p.bias, **how).cuda()
    ours = getattr(upconv.nn, f"ConvTranspose{p.rank}d")(*args, bias=p.bias, **how).cuda()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours, torch.rand(p.x_shape, device="cuda")


@pytest.mark.parametrize("permitted", (True, False), ids=("tf32", "ieee"))
@pytest.mark.parametrize("row", [*ROWS, *GROUPED])
def test_allclose_to_pytorch(row, permitted):
    theirs, ours, x = modules((ROWS | GROUPED)[row])
    with tf32(permitted), torch.no_grad():
        wanted, got = theirs(x), ours(x)
    assert torch.allclose(got, wanted, atol=1e-4, rtol=1e-4), (
        f"largest difference {(got - wanted).abs().max().item():.3g}"
    )


@pytest.mark.parametrize("row", ROWS)
def test_gradients_are_nearer_to_float64_than_pytorchs(row):
    """dx and dw with TF32 permitted: within TF32's error of float64, or nearer than cuDNN is."""
    p = ROWS[row]
    theirs, ours, x = modules(p)
    dy = torch.rand(p.y_shape, device="cuda")
    reference = Reference(p)
    x.requires_grad_()
    results = {}
    with tf32(True):
        for name, module in (("torch", theirs), ("upconv", ours)):
            results[name] = torch.autograd.grad(module(x), (x, module.weight), dy)
    with torch.no_grad():
        for i, what in enumerate(("backward_input", "backward_weight")):
            exact = getattr(reference, what)(*((dy, theirs.weight) if i == 0 else (x, dy)))
            error = {k: ((v[i].double() - exact).norm() / exact.norm()).item() for k, v in results.items()}
            assert error["upconv"] <= max(5e-4, error["torch"]), f"{what}: {error}"
            del exact


def test_bf16x3_on_57():
    """Recommended mode: error at most 1e-5 relative on normal data, and under 1e-4 at most on #57's own data."""
    p = ROWS["L1/57"]
    theirs, _, x = modules(p)
    reference = Reference(replace(p, batch=2))
    with torch.no_grad():
        for data, limit in ((x[:2], None), (torch.randn(2, *x.shape[1:], device="cuda"), 1e-5)):
            got = upconv.functional.conv_transpose2d(data, theirs.weight, precision="bf16x3")
            exact = reference.forward(data, theirs.weight)
            if limit:
                assert (got - exact).norm() <= limit * exact.norm()
            else:
                assert (got - exact).abs().max().item() < 1e-4
