"""How work reaches the GPU: streams, graphs, threads, devices; no synchronisation, no memory of its own."""

import functools
import os
import re
import subprocess
import sys
import threading
import time

import pytest
import torch
from gpu_cases import Judge, candidates, case, none, sanitized, tensors

import upconv
from upconv.cli.bench.cuda.measure import tf32
from upconv.functional import conv_transpose2d

pytestmark = pytest.mark.usefixtures("cuda")
FORMATS = (torch.float32, torch.bfloat16)


def layer(channels=16, kernel=3, size=40, dtype=torch.float32, device="cuda"):
    x = torch.randn(2, channels, size, size, device=device, dtype=dtype, requires_grad=True)
    w = torch.randn(channels, channels, kernel, kernel, device=device, dtype=dtype, requires_grad=True)
    b = torch.randn(channels, device=device, dtype=dtype, requires_grad=True)
    return x, w, b


def step(x, w, b):
    y = conv_transpose2d(x, w, b, stride=2, padding=1)
    return [y, *torch.autograd.grad(y, (x, w, b), torch.ones_like(y))]


@pytest.mark.parametrize("dtype", FORMATS)
def test_work_goes_to_the_current_stream(dtype):
    """On a side stream the work waits for what that stream does, and not for what the default stream does."""
    x, w, b = layer(dtype=dtype)
    wanted = step(x, w, b)
    source = x.detach().clone()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side), torch.no_grad():
        x.zero_()
    side.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(100_000_000)
        with torch.no_grad():
            x.copy_(source)
        got = step(x, w, b)
    side.synchronize()
    for g, v in zip(got, wanted, strict=True):
        assert torch.equal(g, v)
    torch.cuda._sleep(400_000_000)  # the default stream is busy for some 200 ms
    done = torch.cuda.Event()
    with torch.cuda.stream(side), torch.no_grad():
        conv_transpose2d(x, w, b, stride=2, padding=1)
        done.record()
    done.synchronize()
    assert not torch.cuda.default_stream().query()
    torch.cuda.synchronize()


@pytest.mark.parametrize("dtype", FORMATS)
def test_graph_replays_with_new_values(dtype):
    x, w, b = layer(dtype=dtype)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step(x, w, b)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(x, w, b)
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.no_grad():
            for t in (x, w, b):
                t.copy_(torch.randn_like(t))
        graph.replay()
        torch.cuda.synchronize()
        for got, wanted in zip(captured, step(x, w, b), strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("c", sanitized()[::3], ids=[c.problem.short() for c in sanitized()[::3]])
def test_every_candidate_can_be_captured(c):
    ran = 0
    for what in ("forward", "backward_input", "backward_weight"):
        for name in candidates(what):
            a, b, bias = tensors(c, 3).operands(what)
            call = functools.partial(torch.ops.upconv._run, c.text, what, name, a, b, bias, [])
            try:
                wanted = call()
            except RuntimeError as error:
                assert "no candidate" in str(error)
                continue
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                got = call()
            got.zero_()
            graph.replay()
            ran += 1
            assert torch.equal(got, wanted), f"{what} of {c.text} by {name or 'the list'}"
    assert ran >= 3


def test_a_miss_during_capture_says_what_to_do():
    x, w, _ = layer(kernel=2, channels=23)
    stream = torch.cuda.Stream()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            with pytest.raises(RuntimeError, match="once before"), torch.no_grad():
                conv_transpose2d(x, w, None, stride=2, padding=(0, 1), dilation=(1, 3))
        finally:
            graph.capture_end()
    with torch.no_grad():
        conv_transpose2d(x, w, None, stride=2, padding=(0, 1), dilation=(1, 3))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            conv_transpose2d(x, w, None, stride=2, padding=(0, 1), dilation=(1, 3))


def test_another_length_needs_no_new_kernel():
    """Batch and sizes are no part of what is compiled: after one size, another that the plan gives the same tile may be
    captured at once."""
    w = torch.randn(21, 13, 5, 3, device="cuda")
    plans = [f"2d n{n} c21 o13 i{size} k5x3 s2 p1 f32 ieee" for n, size in ((2, "30x64"), (3, "17x80"))]
    first, second = (re.search(r"forward: (.*?) \(floor", upconv.explain(line, "cuda:0"))[1] for line in plans)
    assert first == second
    with torch.no_grad(), tf32(False):
        conv_transpose2d(torch.randn(2, 21, 30, 64, device="cuda"), w, None, stride=2, padding=1)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            conv_transpose2d(torch.randn(3, 21, 17, 80, device="cuda"), w, None, stride=2, padding=1)


@pytest.mark.parametrize("dtype", FORMATS)
def test_no_call_waits_for_the_gpu(dtype):
    """With 0.5 s of work queued, forward and backward return at once."""
    x, w, b = layer(dtype=dtype)
    step(x, w, b)
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(1_000_000_000)
        start = time.perf_counter()
        step(x, w, b)
        took = time.perf_counter() - start
        busy = not torch.cuda.current_stream().query()
    finally:
        torch.cuda.set_sync_debug_mode(before)
        torch.cuda.synchronize()
    assert busy and took < 0.2, f"{took:.3f} s"


def test_many_host_threads():
    """Threads on streams of their own, some meeting the same new problem at the same time."""
    failures = []

    def work(number: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for round_ in range(2):
                    line = f"2d n2 c{8 + 8 * (number % 3)} o{11 + round_} i9x{20 + number} k3 s2 p1 b"
                    c = case(line, "f32", ("ieee", "tf32", "bf16x3")[number % 3])
                    Judge(c, "integers", number).check_all(forced=none)
                    torch.cuda.current_stream().synchronize()
        except BaseException as error:
            failures.append(f"thread {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, "\n".join(failures)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_devices():
    """Tensors decide where work runs, whatever the current device; a kernel serves both."""
    results = []
    for device in ("cuda:0", "cuda:1", "cuda:0"):
        torch.manual_seed(3)
        x, w, b = (t.detach().to(device).requires_grad_() for t in layer(device="cpu"))
        results.append([t.cpu() for t in step(x, w, b)])
        assert step(x, w, b)[0].device == torch.device(device)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)
    with pytest.raises(RuntimeError, match="cuda:1"):
        conv_transpose2d(layer(device="cuda:0")[0], layer(device="cuda:1")[1])


def test_a_cpu_weight_is_named():
    x, w, b = layer()
    with pytest.raises(RuntimeError, match="same device"):
        conv_transpose2d(x, w.cpu(), b)


def test_explain_names_what_runs():
    text = upconv.explain("2d n8 c64 o64 i64x64 k3 tf32", "cuda")
    assert "tf32" in text and "floor" in text and "registers" in text


def test_tuning_measures_remembers_and_changes_no_number(tmp_path):
    """In a process with a cache folder of its own: what it remembers would change the plans of other tests."""
    script = """
import torch, upconv
from upconv import _ops, _tune
line = "2d n2 c64 o64 i64x64 k3 tf32"
report = upconv.tune(line, backward=True, rounds=3)
assert len(report.rows) == 4 and all(r.ways and not r.refused for r in report.rows), str(report)
assert any(len(r.ways) > 3 for r in report.rows)
row = report.rows[0]
other = next(w for w in row.ways[1:] if ":" in w.name)
_ops.remember(row.problem, "forward", row.device, other.name, [])
assert "by tuning instead of" in upconv.explain(row.problem, row.device)
x, w, _ = _tune.tensors_of(row.problem, "forward", torch.device("cuda"))
torch.backends.cudnn.allow_tf32 = True
y = upconv.functional.conv_transpose2d(x, w)
assert torch.equal(y, _ops.run_single(row.problem, "forward", other.name, x, w, None, []))
wanted = torch.nn.functional.conv_transpose2d(x.double(), w.double())
assert (y - wanted).abs().max() < 2e-3 * wanted.abs().max()
assert int(_ops.forget_tuned()) >= 1
assert "by tuning" not in upconv.explain(row.problem, row.device)
print("tuned", f"{report.within:.2f}")
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "UPCONV_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("tuned")
