"""Exported files on a GPU: compiled by load_inline, results and gradients against float64. Needs nvcc and ninja."""

import copy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))
from emulation import load
from problems import PROBLEMS, write

from upconv.cli.bench.chains.models import shapes
from upconv.cli.bench.cuda.measure import tf32
from upconv.export import export

pytestmark = [
    pytest.mark.usefixtures("cuda"),
    pytest.mark.skipif(
        shutil.which("nvcc") is None or not cpp_extension.is_ninja_available(), reason="needs nvcc and ninja"
    ),
]
#: Kernels with tensor maps; a bias, GELU and GroupNorm; BatchNorm and average pooling; sizes for which boxes are fitted
#: anew, and that a kernel refuses.
NAMES = ("wide_2d", "normed_2d", "L2/72", "narrow_boxes_1d", "long_rows_2d")


@pytest.mark.parametrize("name", NAMES)
def test_exported(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    problem = write(name, tmp_path)
    exported = tmp_path / "model_new.py"
    exported.write_text(export(problem))
    old, new = load(problem), load(exported)
    torch.manual_seed(3)
    model = old.Model(*old.get_init_inputs()).cuda()
    fast = new.ModelNew(*new.get_init_inputs()).cuda()
    fast.load_state_dict(model.state_dict())
    channels = old.get_init_inputs()[0]
    sizes = [(b, channels, *s) for b, *s in PROBLEMS[name][1]] if name in PROBLEMS else shapes(int(name[3:]), "test")
    # Behind a batch norm TF32's error is of terms that cancel.
    for permitted in (True, False) if name in PROBLEMS else (False,):
        for size in sizes:
            exact, eager = copy.deepcopy(model).double(), copy.deepcopy(model)
            fast.load_state_dict(model.state_dict())
            with tf32(permitted):
                errors = _errors(fast, exact, torch.randn(size, device="cuda"))
                of_torch = _errors(eager, copy.deepcopy(model).double(), torch.randn(size, device="cuda"))
            value, gradient = (2e-3, 1e-2) if permitted else (1e-5, 1e-4)
            for what, error in errors.items():
                bound = value if what.startswith("y") else gradient
                assert error < max(bound, 4 * of_torch[what]), (permitted, size, what, error, of_torch[what])
            for (key, got), want in zip(fast.named_buffers(), exact.buffers(), strict=True):
                torch.testing.assert_close(got.double(), want.double(), rtol=1e-4, atol=1e-6, msg=key)


def _errors(model, exact, x) -> dict[str, float]:
    """Of the result and every gradient, relative to the largest value; what cancels to nothing, to the largest
    gradient."""
    with torch.no_grad():
        alone = model(x), exact(x.double())
    leaves = x.clone().requires_grad_(), x.double().requires_grad_()
    got, want = model(leaves[0]), exact(leaves[1])
    dy = torch.randn(want.shape, device="cuda")
    for m in (model, exact):
        m.zero_grad(set_to_none=True)
    got.backward(dy)
    want.backward(dy.double())
    pairs = {"x": (leaves[0].grad, leaves[1].grad)}
    for (key, p), q in zip(model.named_parameters(), exact.parameters(), strict=True):
        pairs[key] = p.grad, q.grad
    largest = max(w.abs().max().item() for _, w in pairs.values())
    errors = {}
    for what, (y, exact_y) in (("y", (got, want)), ("y without gradients", alone)):
        errors[what] = ((y.double() - exact_y).abs().max() / exact_y.abs().max()).item()
    for key, (g, w) in pairs.items():
        errors[key] = (g.double() - w).abs().max().item() / max(w.abs().max().item(), 0.01 * largest)
    return errors
