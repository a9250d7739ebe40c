"""What this machine can do at most: multiply-add rate and copy bandwidth. Called once by `upconv bench`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import torch

from upconv.cli.timing import once

FMA_HOW = "multiply-adds in registers, best of 5 runs of 50 ms of processor time, all threads at once"
MATMUL_HOW = "best of 5 float32 matrix products 2048 x 2048 (the library exports no FMA loop)"
COPY_HOW = "torch copy of 256 MiB, best of 7, read + written bytes"


def fma_peak(threads: int) -> tuple[float, str]:
    """GFLOP/s of `threads` threads together, and how it was measured."""
    loop = getattr(torch.ops.upconv, "_fma_peak", None)
    if loop is None:
        return matmul_rate(threads), MATMUL_HOW
    with ThreadPoolExecutor(threads) as pool:
        rates = [sum(pool.map(lambda _: float(loop(0.05)), range(threads))) for _ in range(5)]
    return max(rates), FMA_HOW


def matmul_rate(threads: int) -> float:
    torch.set_num_threads(threads)
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    return 2 * 2048**3 / min(once(lambda: a @ b) for _ in range(5)) * 1e-6


def copy_bandwidth(threads: int) -> float:
    """GB/s, read and write together."""
    torch.set_num_threads(threads)
    source = torch.rand(64 * 2**20)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * 4 * source.numel() / min(once(lambda: target.copy_(source)) for _ in range(7)) * 1e-6


def machine_peak(threads: list[int]) -> dict:
    """The part of a results file's meta that floors are computed from; keys are thread counts as text."""
    peaks = {n: fma_peak(n) for n in threads}
    time.sleep(0.2)  # let the worker threads go to sleep before the copies
    return {
        "fma_peak_gflops": {str(n): round(rate, 1) for n, (rate, _) in peaks.items()},
        "fma_peak_how": peaks[threads[0]][1],
        "copy_gbps": {str(n): round(copy_bandwidth(n), 1) for n in threads},
        "copy_how": COPY_HOW,
    }


def floor_ms(flop: float, moved: float, threads: int, meta: dict) -> tuple[float, str]:
    """Least time for so many operations and bytes, and which of the two sets it."""
    operations = flop / meta["fma_peak_gflops"][str(threads)] * 1e-6
    memory = moved / meta["copy_gbps"][str(threads)] * 1e-6
    return (operations, "operations") if operations >= memory else (memory, "bytes")
