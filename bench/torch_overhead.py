# What one call costs beside its arithmetic: upconv against torch.nn.functional on a problem of four numbers.
# Run by hand (`python bench/torch_overhead.py`); prints nanoseconds a call, the least of interleaved rounds.
"""Per-call overhead of the PyTorch front end."""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F

import upconv


def cases():
    x, dy = torch.randn(1, 1, 4), torch.ones(1, 1, 6)
    w, b = torch.nn.Parameter(torch.randn(1, 1, 3)), torch.nn.Parameter(torch.randn(1))
    xg = x.clone().requires_grad_()

    def functional(f):
        yield "functional, no_grad", torch.no_grad, lambda: f(x, w, b)
        yield "functional, grad: forward", torch.enable_grad, lambda: f(x, w, b)
        yield (
            "functional, forward + backward",
            torch.enable_grad,
            lambda: torch.autograd.grad(f(xg, w, b), (xg, w, b), dy),
        )

    def module(m):
        yield "module, no_grad", torch.no_grad, lambda: m(x)
        yield "module, inference_mode", torch.inference_mode, lambda: m(x)
        yield "module, forward + backward", torch.enable_grad, lambda: m(xg).backward(dy)

    def activated(m):
        yield "module + GELU, no_grad", torch.no_grad, lambda: m(x)

    torch_model = torch.nn.Sequential(torch.nn.ConvTranspose1d(1, 1, 3), torch.nn.GELU())
    theirs = [*functional(F.conv_transpose1d), *module(torch_model[0]), *activated(torch_model)]
    ours = [
        *functional(upconv.functional.conv_transpose1d),
        *module(upconv.nn.ConvTranspose1d(1, 1, 3)),
        *activated(upconv.optimize(torch_model)),
    ]
    return [(name, mode, peer, call) for (name, mode, peer), (_, _, call) in zip(theirs, ours, strict=True)]


def nanoseconds(call, calls):
    start = time.perf_counter_ns()
    for _ in range(calls):
        call()
    return (time.perf_counter_ns() - start) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'x (1, 1, 4), k3, ns a call':34}{'torch':>9}{'upconv':>9}{'ratio':>7}")
    for name, mode, *calls in cases():
        best = [float("inf")] * 2
        with mode():
            for _ in range(arguments.rounds):
                for i, call in enumerate(calls):
                    best[i] = min(best[i], nanoseconds(call, arguments.calls))
        print(f"{name:34}{best[0]:9.0f}{best[1]:9.0f}{best[1] / best[0]:7.2f}")


if __name__ == "__main__":
    main()
