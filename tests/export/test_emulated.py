"""Exported files run: their kernels and launches on the emulator, ModelNew and its gradients on CPU tensors, held
against Model in float64, with batches and sizes that the kernels were not chosen for."""

from __future__ import annotations

import copy
import os
import re

import pytest
import torch
from emulation import compiled, load, needs_emulator
from problems import PROBLEMS, write

from upconv.cli.bench.chains.models import CHAINS, shapes
from upconv.export import export

ALL = os.environ.get("UPCONV_EXPORT_ALL") == "1"
#: In every run; the others, and what is built for compute capability 8.0 alone, with UPCONV_EXPORT_ALL=1.
QUICK = [
    ("dense_2d", True), ("wide_2d", True), ("wide_far_2d", True), ("wide_3d", True), ("few_3d", True),
    ("activated_2d", True), ("normed_2d", True), ("normed_2d", False), ("averaged_2d", True), ("averaged_3d", True),
    ("narrow_boxes_1d", True), ("narrow_lines_1d", True), ("narrow_boxes_2d", True), ("long_rows_2d", True),
    ("placed_2d", True), ("before_2d", True),
]  # fmt: skip
CASES = [(name, hopper) for name in PROBLEMS for hopper in (True, False)] if ALL else QUICK
#: By the second set of kernels of every step, as for sizes that the first refuses.
SECOND = [("grouped_2d", True), ("activated_2d", False)]


@needs_emulator
@pytest.mark.parametrize(
    "name, hopper, second",
    [(*case, False) for case in CASES] + [(*case, True) for case in SECOND],
    ids=[f"{n}-{'sm_90' if h else 'sm_80'}" for n, h in CASES] + [f"{n}-second" for n, _ in SECOND],
)
def test_values_and_gradients(name, hopper, second, tmp_path):
    problem = write(name, tmp_path)
    exported = tmp_path / "model_new.py"
    exported.write_text(export(problem))
    old, new = load(problem), load(exported)
    if second:
        new.STEPS = _by_the_second_sets(new.STEPS)
    kernels = compiled(new, hopper, tmp_path)
    new._extension = lambda x: kernels
    torch.manual_seed(3)
    model = old.Model(*old.get_init_inputs())
    torch.manual_seed(3)
    fast = new.ModelNew(*new.get_init_inputs())
    for key, value in model.state_dict().items():
        assert torch.equal(value, fast.state_dict()[key]), key
    exact = copy.deepcopy(model).double()
    for permitted in (True, False):
        new._permits_tf32 = lambda permitted=permitted: permitted
        for batch, *size in PROBLEMS[name][1]:
            x = torch.randn(batch, old.get_init_inputs()[0], *size)
            bound = 2e-3 if permitted else 4e-6
            with torch.no_grad():
                assert _error(fast(x), exact(x.double())) < bound
            leaf, exact_leaf = x.clone().requires_grad_(), x.double().requires_grad_()
            y, exact_y = fast(leaf), exact(exact_leaf)
            assert _error(y, exact_y) < bound
            dy = torch.randn(y.shape)
            for m in (fast, exact):
                m.zero_grad(set_to_none=True)
            y.backward(dy)
            exact_y.backward(dy.double())
            # Sums over few positions can cancel: TF32's error is of their terms.
            bound = 1e-2 if permitted else 1e-5
            assert _error(leaf.grad, exact_leaf.grad) < bound
            for (key, p), q in zip(fast.named_parameters(), exact.parameters(), strict=True):
                assert _error(p.grad, q.grad) < bound, key
    # No size is refused; nothing is launched.
    layer = next(i for i in range(len(new.LAYERS)) if f"({i}, FORWARD, " in new.STEPS)
    huge = (1, new.LAYERS[layer][1], *[8] * (new.LAYERS[layer][0] - 1), 1 << 31)
    for which in (0, 2, 3):
        assert kernels.run(layer, which, 1, huge, None, None, None, None) is None
    settings = {tf32 for _, which, tf32 in kernels.calls if which == 0}
    assert settings == {True, False}


@needs_emulator
def test_sizes_that_a_kernel_refuses_are_computed_exactly(tmp_path):
    """By cuda_direct, with what follows the layer: rows longer than a tile of cuda_columns takes."""
    problem, (short, long) = write("long_rows_2d", tmp_path), PROBLEMS["long_rows_2d"][1]
    exported = tmp_path / "model_new.py"
    exported.write_text(export(problem))
    old, new = load(problem), load(exported)
    assert "forward chain, tf32 sm_90: cuda_columns" in " ".join(new.__doc__.split())
    kernels = compiled(new, True, tmp_path)
    new._extension = lambda x: kernels
    new._permits_tf32 = lambda: True
    torch.manual_seed(3)
    fast, exact = new.ModelNew(*new.get_init_inputs()), old.Model(*old.get_init_inputs())
    exact.load_state_dict(fast.state_dict())
    exact.double()
    for (batch, *size), rounds in ((short, True), (long, False)):
        x = torch.randn(batch, old.get_init_inputs()[0], *size)
        with torch.no_grad():
            error = _error(fast(x), exact(x.double()))
        assert (error > 2e-5) == rounds and error < 2e-3, size


@needs_emulator
@pytest.mark.parametrize("hopper", (True, False))
def test_a_norm_runs_as_one_kernel_where_its_groups_have_room(hopper, tmp_path):
    """In clusters of four blocks, chosen for 64x64. Many small groups, groups larger than the memory of their blocks,
    and what is compiled for other GPUs run as three kernels."""
    problem = write("normed_2d", tmp_path)
    exported = tmp_path / "model_new.py"
    exported.write_text(export(problem))
    old, new = load(problem), load(exported)
    kernels = compiled(new, hopper, tmp_path)
    new._extension = lambda x: kernels
    new._permits_tf32 = lambda: False
    torch.manual_seed(3)
    fast, exact = new.ModelNew(*new.get_init_inputs()), old.Model(*old.get_init_inputs())
    exact.load_state_dict(fast.state_dict())
    exact.double()
    for size, passes in (((1, 90, 91), 1), ((2, 5, 9), 3), ((1, 230, 262), 3)):
        x = torch.randn(size[0], 16, *size[1:])
        with torch.no_grad():
            assert _error(fast(x), exact(x.double())) < 4e-6, size
        assert kernels.passes[-1] == (passes if hopper else 3), size


LEVEL_2 = list(CHAINS) if ALL else [3, 13, 15, 26, 38, 42, 72, 89]


@needs_emulator
@pytest.mark.parametrize(
    "number, second",
    [(number, False) for number in LEVEL_2] + [(26, True)],
    ids=[*map(str, LEVEL_2), "26-second"],
)
def test_level_2(number, second, tmp_path):
    """The chains of KernelBench level 2, small: results without gradients and with them, every gradient, and the
    averages of a batch norm; in evaluation too where there is one."""
    problem = write(f"L2/{number}", tmp_path)
    exported = tmp_path / "model_new.py"
    exported.write_text(export(problem))
    old, new = load(problem), load(exported)
    if second:
        new.STEPS = _by_the_second_sets(new.STEPS)
    kernels = compiled(new, True, tmp_path)
    new._extension = lambda x: kernels
    new._permits_tf32 = lambda: False
    torch.manual_seed(3)
    model = old.Model(*old.get_init_inputs())
    torch.manual_seed(3)
    fast = new.ModelNew(*new.get_init_inputs())
    assert list(model.state_dict()) == list(fast.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(value, fast.state_dict()[key]), key
    exact = copy.deepcopy(model).double()
    for mode in (True, False) if any("running" in n for n, _ in model.named_buffers()) else (True,):
        for m in (fast, exact):
            m.train(mode)
        inputs = [torch.randn(s) for s in shapes(number, "test")]
        with torch.no_grad():
            want, got = exact(*(x.double() for x in inputs)), fast(*inputs)
            assert got.shape == want.shape
            assert _error(got, want) < 2e-5
        leaves = [[x.clone().to(d).requires_grad_() for x in inputs] for d in (torch.double, torch.float)]
        y = []
        for m, given in zip((exact, fast), leaves, strict=True):
            m.zero_grad(set_to_none=True)
            y.append(m(*given))
            torch.manual_seed(1)
            y[-1].backward(torch.randn(y[-1].shape).to(y[-1].dtype))
        assert _error(y[1], y[0]) < 2e-5
        pairs = [(f"x{i}", a.grad, b.grad) for i, (a, b) in enumerate(zip(*leaves, strict=True))]
        pairs += [(n, p.grad, q.grad) for (n, p), q in zip(exact.named_parameters(), fast.parameters(), strict=True)]
        largest = max(g.abs().max().item() for _, g, _ in pairs)
        for name, want, got in pairs:
            scale = max(want.abs().max().item(), 0.01 * largest)
            assert (got.double() - want).abs().max().item() < 2e-4 * scale, name
        for name, buffer in fast.named_buffers():
            torch.testing.assert_close(buffer.double(), exact.get_buffer(name).double(), rtol=1e-4, atol=1e-6)


@needs_emulator
@pytest.mark.parametrize("hopper", (True, False) if ALL else (True,), ids=lambda h: "sm_90" if h else "sm_80")
def test_tf32_rounds_both_operands_to_nearest_even(hopper, tmp_path):
    """As torch does (tools/torch_precision.py): on numbers of which every other one lies between two of TF32."""
    problem = write("dense_2d", tmp_path)
    exported = tmp_path / "model_new.py"
    exported.write_text(export(problem))
    old, new = load(problem), load(exported)
    kernels = compiled(new, hopper, tmp_path)
    new._extension = lambda x: kernels
    new._permits_tf32 = lambda: True
    torch.manual_seed(5)
    fast, model = new.ModelNew(*new.get_init_inputs()), old.Model(*old.get_init_inputs())
    model.load_state_dict(fast.state_dict())
    batch, *size = PROBLEMS["dense_2d"][1][0]
    x = _in_bits(torch.randn(batch, old.get_init_inputs()[0], *size), 12)
    with torch.no_grad():
        for m in (fast, model):
            for parameter in m.parameters():
                if parameter.dim() > 1:
                    parameter.copy_(_in_bits(parameter, 12))
        got = fast(x)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(_in_bits(parameter, 11))
        want = model.double()(_in_bits(x, 11).double())
    assert _error(got, want) < 2e-6


def _in_bits(t, bits):
    """Rounded to that many significant bits, to nearest, ties to even."""
    mantissa, exponent = torch.frexp(t)
    return torch.ldexp(torch.round(mantissa * 2**bits), exponent - bits)


@needs_emulator
def test_refusals_at_run_time(tmp_path):
    """What was specialised is checked: the constructor's arguments."""
    exported = tmp_path / "model_new.py"
    exported.write_text(export(write("dense_2d", tmp_path)))
    new = load(exported)
    with pytest.raises(ValueError, match=r"made for out_channels=16, but got out_channels=17"):
        new.ModelNew(16, 17, 3)
    with pytest.raises(RuntimeError, match="NVIDIA GPU"):
        new.ModelNew(16, 16, 3)(torch.rand(1, 16, 4, 4))


@needs_emulator
def test_errors_of_launches_are_not_left_behind(tmp_path):
    """Whoever asks next would raise them again as its own."""
    exported = tmp_path / "model_new.py"
    exported.write_text(export(write("strided_1d", tmp_path)))
    assert compiled(load(exported), True, tmp_path).library.exported_refused_launches(None) == 2


def _by_the_second_sets(steps: str) -> str:
    """The steps without the kernels that were chosen for them."""
    alone, count = re.subn(r"step<\w+, (\w+)>", r"step<\1>", steps)
    assert count
    return alone


def _error(value, exact) -> float:
    return ((value.double() - exact).abs().max() / exact.abs().max()).item()
