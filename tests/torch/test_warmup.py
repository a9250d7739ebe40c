"""upconv.warmup compiles what later calls need: problems and models, without a GPU into the disk cache.

The cache's folder and NVRTC are read once a process, so each test runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
import torch

import upconv
from upconv import _ops, _warmup

needs_nvrtc = pytest.mark.skipif(
    "no NVRTC" in _ops.engine_report() or "found none" in _ops.engine_report(), reason="this machine has no NVRTC"
)
LINES = ["2d n2 c4 o4 i9x9 k3 s2 f32", "1d n2 c4 o4 i9 k3 bf16"]


def in_process(code: str, folder, **environment) -> str:
    """What a Python process with an own kernel cache prints; its package is the one under test."""
    paths = [os.path.dirname(upconv.__path__[0]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={
            **os.environ,
            "UPCONV_CACHE_DIR": str(folder),
            "UPCONV_LIBRARY": str(_ops.library_path),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress bar where nobody looks, no notices"
    return done.stdout


@needs_nvrtc
def test_problems_for_a_gpu_that_is_not_here(tmp_path):
    code = f"""
        import time, upconv
        from upconv.cli.cache import entries
        assert upconv.warmup({LINES}, device="sm_90") == 8
        kept = entries()
        print("\\n".join(sorted(str(e.path) for e in kept)))
        assert kept and all("sm_90a" in e.about for e in kept)
    """
    first = in_process(code, tmp_path / "kernels")
    assert in_process(code, tmp_path / "kernels") == first, "a second time there is nothing to compile"
    in_process(f"import upconv; upconv.warmup({LINES[0]!r}, device='sm_80', backward=False)", tmp_path / "kernels")
    assert len(list((tmp_path / "kernels").iterdir())) > len(first.split())


@needs_nvrtc
def test_without_a_cache_it_still_compiles(tmp_path):
    in_process(f"import upconv; upconv.warmup({LINES[:1]}, device='sm_90', backward=False)", "")


def test_an_illegal_problem_is_told():
    with pytest.raises(RuntimeError, match="kernel size should be greater than zero"):
        upconv.warmup(["2d n2 c4 o4 i9x9 k0 f32"], device="sm_90")


def work_of(model, *inputs, **options):
    return _warmup._work_of_model(model, inputs, "sm_90", options.get("backward"))


def test_the_passes_of_a_model_are_those_that_gradients_ask_for():
    model = torch.nn.Sequential(upconv.nn.ConvTranspose2d(3, 4, 3), upconv.nn.ConvTranspose2d(4, 5, 3, bias=False))
    x = torch.randn(2, 3, 8, 8)
    first = "2d n2 c3 o4 i8x8 k3x3 s1x1 p0x0 op0x0 d1x1 g1 b f32"
    second = "2d n2 c4 o5 i10x10 k3x3 s1x1 p0x0 op0x0 d1x1 g1 f32"
    said = [(w.problem, w.direction) for w in work_of(model, x)]
    assert said == [
        (first, "forward"), (first, "backward_weight"), (first, "backward_bias"),
        (second, "forward"), (second, "backward_input"), (second, "backward_weight"),
    ]  # fmt: skip
    assert [w.direction for w in work_of(model, x, backward=False)] == ["forward"] * 2
    with torch.no_grad():
        assert [w.direction for w in work_of(model, x)] == ["forward"] * 2
        assert len(work_of(model, x, backward=True)) == 7


def test_layouts_dtypes_and_precision_of_a_model():
    layer = upconv.nn.ConvTranspose2d(4, 4, 3, precision="bf16x3").requires_grad_(False)
    (work,) = work_of(layer, torch.randn(1, 4, 5, 5).to(memory_format=torch.channels_last))
    assert work.problem.endswith("b f32 xl yl")
    assert work.precision == 2
    layer = layer.to(torch.bfloat16, memory_format=torch.channels_last)
    (work,) = work_of(layer, torch.randn(1, 4, 5, 5, dtype=torch.bfloat16))
    assert work.problem.endswith("b bf16 wl yl")


def test_a_fused_activation_is_part_of_what_is_compiled():
    model = upconv.optimize(torch.nn.Sequential(torch.nn.ConvTranspose1d(3, 4, 3), torch.nn.GELU()))
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        (work,) = work_of(model, x)
    assert len(work.epilogue) == 3
    assert all(w.epilogue == () for w in work_of(model, x)), "with gradients torch's own activation runs"


def test_a_model_on_the_cpu_needs_nothing():
    layer = upconv.nn.ConvTranspose1d(3, 4, 3)
    assert upconv.warmup(layer, torch.randn(1, 3, 8)) == 0


def test_what_is_missing_is_named():
    with pytest.raises(TypeError, match="example_inputs"):
        upconv.warmup(torch.nn.Identity())
    with pytest.raises(RuntimeError, match="cuda:1 or sm_90"):
        upconv.warmup("1d n1 c1 o1 i4 k3", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA driver"):
            upconv.warmup("1d n1 c1 o1 i4 k3")
