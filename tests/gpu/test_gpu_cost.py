"""What a call costs beside its kernels: host time, memory, other people's kernels. Measured alone on the GPU."""

import os
import re
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from gpu_cases import PASSES, ROOT
from torch.profiler import ProfilerActivity, profile

import upconv
from upconv import _ops
from upconv.cli.bench.cuda.measure import explained, precision_of
from upconv.cli.shapes import read_shapes

pytestmark = [pytest.mark.usefixtures("cuda"), pytest.mark.alone]


def calls(source):
    x = torch.randn(1, 4, 4, 4, device="cuda")
    w = torch.randn(4, 4, 3, 3, device="cuda")
    b = torch.randn(4, device="cuda")

    def forward():
        with torch.no_grad():
            source.conv_transpose2d(x, w, b, 2, 1)

    xg, wg, bg = (t.clone().requires_grad_() for t in (x, w, b))
    dy = torch.randn_like(source.conv_transpose2d(xg, wg, bg, 2, 1))

    def train():
        torch.autograd.grad(source.conv_transpose2d(xg, wg, bg, 2, 1), (xg, wg, bg), dy)

    return {"forward": forward, "train": train}


@pytest.mark.parametrize("what", ("forward", "train"))
def test_host_time_of_a_tiny_call(what):
    """The median time of a call's host side is no longer than torch's, measured side by side. (A training step is
    allowed a tenth more: its node in autograd's graph is Python's.)"""
    pair = {name: calls(source)[what] for name, source in (("torch", F), ("upconv", upconv.functional))}
    times = {name: [] for name in pair}
    for call in pair.values():
        for _ in range(50):
            call()
    for _ in range(60):
        for name, call in pair.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(25):
                call()
            times[name].append((time.perf_counter() - start) / 25 * 1e6)
    median = {name: statistics.median(t) for name, t in times.items()}
    print(f"{what}: torch {median['torch']:.1f} us, upconv {median['upconv']:.1f} us")
    assert median["upconv"] <= (1.02 if what == "forward" else 1.1) * median["torch"], median


LEVEL_1 = [s for s in read_shapes(ROOT / "tests/shapes/kernelbench-l1.txt") if s.id not in ("L1/64", "L1/57")]
MODELS = read_shapes(ROOT / "tests/shapes/models.txt")[::5]
FP32, BF16 = torch.float32, torch.bfloat16
#: Of level 1 in both dtypes, of models by turns.
TRACED = [(s.id, s.problem, (FP32, BF16)[n % 2]) for n, s in enumerate(MODELS)]
TRAINED = [(s.id, s.problem, dtype) for s in LEVEL_1 for dtype in (FP32, BF16)] + TRACED


@pytest.fixture(scope="module")
def compiled():
    """The kernels of all these layers, compiled on all cores at once, by threads: processes take long to start."""
    work = []
    for _, p, dtype in TRAINED:
        q = p if dtype == FP32 else replace(p, dtype="bf16")
        work += [(explained(q, precision_of(q, what, "torch")), what) for what in PASSES]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        list(threads.map(lambda w: _ops.prepare(*w, "cuda:0", -1, []), work))


def peak_of_step(source, p, dtype) -> int:
    """Bytes above what was there before, of one forward and backward with everything kept that training keeps."""
    x = torch.randn(p.x_shape, device="cuda", dtype=dtype, requires_grad=True)
    w = torch.randn(p.w_shape, device="cuda", dtype=dtype, requires_grad=True)
    b = torch.randn(p.out_channels, device="cuda", dtype=dtype, requires_grad=True) if p.bias else None
    dy = torch.randn(p.y_shape, device="cuda", dtype=dtype)
    function = getattr(source, f"conv_transpose{p.rank}d")
    for _ in range(2):
        x.grad = w.grad = None
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function(x, w, b, p.stride, p.padding, p.output_padding, p.groups, p.dilation).backward(dy)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize(
    "p,dtype", [t[1:] for t in TRAINED], ids=[f"{t[0]}-{'fp32' if t[2] == FP32 else 'bf16'}" for t in TRAINED]
)
def test_training_takes_no_more_memory(p, dtype, compiled):
    theirs = peak_of_step(F, p, dtype)
    ours = peak_of_step(upconv.functional, p, dtype)
    assert ours <= theirs, f"{ours / 2**20:.1f} MiB, torch {theirs / 2**20:.1f} MiB"


def test_memory_comes_from_the_caching_allocator():
    """Nothing on the GPU is taken outside torch's allocator once kernels are loaded."""
    x = torch.randn(4, 32, 128, 128, device="cuda", requires_grad=True)
    w = torch.randn(32, 32, 3, 3, device="cuda", requires_grad=True)

    def step():
        y = upconv.functional.conv_transpose2d(x, w)
        torch.autograd.grad(y, (x, w), torch.ones_like(y))

    step()
    torch.cuda.synchronize()
    free, reserved = torch.cuda.mem_get_info()[0], torch.cuda.memory_reserved()
    for _ in range(20):
        step()
    torch.cuda.synchronize()
    taken = free - torch.cuda.mem_get_info()[0]
    assert taken == torch.cuda.memory_reserved() - reserved


def test_only_our_kernels_run(compiled):
    """A trace of forward and backward over many layers has no kernel and no convolution but ours."""
    own = set()
    for file in (ROOT / "kernels").rglob("*.cuh"):
        text = re.sub(r"__launch_bounds__\(.*?\)\s+(?=\w+\()", "", file.read_text(), flags=re.S)
        own |= set(re.findall(r"__global__\s+(?:[\w<>]+\s+)*?(\w+)\s*\(", text))
    assert own and "__launch_bounds__" not in own, own
    made = []
    for _, p, dtype in TRACED:
        shapes = (p.x_shape, p.w_shape, *[(p.out_channels,)] * p.bias)
        leaves = [torch.randn(s, device="cuda", dtype=dtype, requires_grad=True) for s in shapes]
        made.append((p, leaves, torch.randn(p.y_shape, device="cuda", dtype=dtype)))

    def all_of_them():
        for p, leaves, dy in made:
            function = getattr(upconv.functional, f"conv_transpose{p.rank}d")
            x, w, b = (*leaves, None)[:3]
            y = function(x, w, b, p.stride, p.padding, p.output_padding, p.groups, p.dilation)
            torch.autograd.grad(y, leaves, dy)

    all_of_them()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
        all_of_them()
        torch.cuda.synchronize()
    events = list(trace.events())
    kernels = {
        e.name for e in events if e.device_type == torch.autograd.DeviceType.CUDA and "Context Sync" not in e.name
    }
    assert kernels, "the trace has no kernel"
    strangers = {k for k in kernels if k not in own and not any(o in k for o in own)}
    assert not strangers, f"{strangers}; ours are {sorted(own)}"
    assert not {e.name for e in events if "convolution" in e.name or "cudnn" in e.name}
