#!/usr/bin/env python3
"""Scale a shape file for CPUs: each row so that PyTorch's forward takes about --target ms on one thread.

Run once by hand; its result (tests/shapes/*-cpu.txt) is data that `upconv bench --device cpu` reads.
Channels, kernel, stride, padding, dilation and groups never change. Rows that are too long lose batch first
(down to 2, or to what the target needs), then length in every dimension alike; short rows gain length.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import time
from pathlib import Path

import torch

from upconv.cli.problem import Problem
from upconv.cli.shapes import Shape, read_shapes, write_shapes

LEAST_LENGTH = {1: 128, 2: 16, 3: 8}  # an image or a sound must not shrink to its border


def measure(problem: Problem) -> float:
    """Median milliseconds that PyTorch's forward keeps one thread busy; other load does not count."""
    module = getattr(torch.nn, f"ConvTranspose{problem.rank}d")(
        problem.in_channels,
        problem.out_channels,
        problem.kernel,
        problem.stride,
        problem.padding,
        problem.output_padding,
        problem.groups,
        problem.bias,
        problem.dilation,
    )
    x = torch.randn(problem.x_shape)
    times = []
    with torch.no_grad():
        for _ in range(4):
            start = time.thread_time()
            module(x)
            times.append((time.thread_time() - start) * 1e3)
    return statistics.median(times[1:])


def scaled(problem: Problem, work: float) -> Problem:
    """`problem` with its batch and input scaled so that about `work` times its operations remain."""
    batch = problem.batch
    if work < 1:
        batch = max(min(batch, 2), round(batch * work))
    left = work * problem.batch / batch
    if left > 0.8 and work < 1:  # the batch alone came near enough
        left = 1.0
    ratio = left ** (1 / problem.rank)
    lengths = (max(min(i, LEAST_LENGTH[problem.rank]), length(i, ratio)) for i in problem.input)
    return dataclasses.replace(problem, batch=batch, input=tuple(lengths))


def length(size: int, ratio: float) -> int:
    """size * ratio, kept a multiple of 8 (or of 2 below 16) when size is even, so that no row turns odd."""
    wanted = size * ratio
    if size % 2 == 0 or ratio > 4:
        step = 8 if wanted >= 16 else 2
        return max(step, round(wanted / step) * step)
    return max(1, round(wanted))


def fit(problem: Problem, target: float) -> tuple[Problem, float]:
    """A scaled problem that takes about `target` ms, and what it took."""
    work = min(1.0, 8e9 / problem.flop)  # start small: an unscaled row may need minutes
    tried: dict[Problem, float] = {}
    for _ in range(6):
        candidate = problem if 1 <= work < 1.3 else scaled(problem, work)
        if candidate in tried:
            break
        tried[candidate] = took = measure(candidate)
        if 0.75 * target <= took <= 1.35 * target:
            break
        work *= target / took
    best = min(tried, key=lambda p: abs(math.log(tried[p] / target)))
    return best, tried[best]


def check(path: Path) -> int:
    """Print the rows of a scaled file that take less than 20 or more than 500 ms; how many there are."""
    outside = 0
    for shape in read_shapes(path):
        took = measure(shape.problem)
        if not 20 <= took <= 500:
            outside += 1
            print(f"{shape.id:<24} {shape.problem.short():<60} {took:7.1f} ms", flush=True)
    print(f"{path}: {outside} rows outside 20 to 500 ms")
    return outside


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", type=Path, nargs="+", help="files such as tests/shapes/models.txt")
    parser.add_argument("--target", type=float, default=90.0, metavar="MS", help="aim at this (default: 90)")
    parser.add_argument(
        "--check", action="store_true", help="measure scaled files, end with 1 if a row is out of range"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.check:
        return 1 if sum(check(path) for path in args.shapes) else 0
    for path in args.shapes:
        rows = []
        for shape in read_shapes(path):
            problem, took = fit(shape.problem, args.target)
            print(
                f"{shape.id:<24} {shape.problem.short():<56} -> {problem.short():<56} {took:7.1f} ms",
                flush=True,
            )
            rows.append(Shape(shape.id, problem, shape.title))
        heading = (
            f"{path.name}, batch and input scaled so that PyTorch's forward takes 20 to 500 ms (1 thread).\n"
            "Begun by tools/scale_shapes.py; everything else about a row is as in the original."
        )
        write_shapes(path.with_name(f"{path.stem}-cpu.txt"), heading, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
