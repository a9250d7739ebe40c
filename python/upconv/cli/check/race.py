"""How fast ModelNew is beside Model: eager, cudnn.benchmark, channels_last, torch.compile; by events and by the host's
clock. Rows of `upconv check --benchmark`."""

from __future__ import annotations

import copy
import time

import torch

from upconv.cli.bench.cuda.timer import Contestant, Timer
from upconv.cli.style import milliseconds, times

__all__ = ["race"]

SECONDS, SECONDS_ON_THE_CLOCK = 20.0, 0.3


def race(judge, backward: bool, table, seconds: float = SECONDS, compiled: bool = True) -> dict[str, dict[str, float]]:
    """Milliseconds by event of everybody, by what was timed. ``compiled``: torch.compile too."""
    inputs = judge.pair.inputs(0, judge.device)
    timer = Timer(torch.device(judge.device))
    calls = _calls(judge, inputs, compiled)
    all_taken = {}
    for what, wrap in (("forward", _forward), *((("forward and backward", _both),) if backward else ())):
        ready = {contestant: wrap(model, given) for contestant, (model, given) in calls.items()}
        taken = all_taken[what] = timer.interleaved(ready, seconds)
        mine, eager = taken["ModelNew"], taken["eager"]
        others = ", ".join(f"{name} {milliseconds(ms)}" for name, ms in taken.items() if name != "ModelNew")
        best = min(ms for name, ms in taken.items() if name != "ModelNew")
        table.ok(f"{what}, events", f"{milliseconds(mine)} ms; {others}; {times(eager / mine)} of eager, "
                                    f"{times(best / mine)} of the best")  # fmt: skip
        clock = {c.name: c.run(lambda call=call: _on_the_clock(call)) for c, call in ready.items()}
        listed = ", ".join(f"{name} {milliseconds(ms)}" for name, ms in clock.items() if name != "ModelNew")
        table.ok(f"{what}, host clock", f"{milliseconds(clock['ModelNew'])} ms; {listed}")
    return all_taken


def _calls(judge, inputs, compiled: bool):
    calls = {
        Contestant("ModelNew"): (judge.new, inputs),
        Contestant("eager"): (judge.old, inputs),
        Contestant("cudnn.benchmark", benchmark=True): (judge.old, inputs),
    }
    if compiled:
        calls[Contestant("compiled")] = (torch.compile(copy.deepcopy(judge.old)), inputs)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    rank = max((t.dim() for t in inputs if isinstance(t, torch.Tensor)), default=0)
    if rank in formats:
        last = [
            t.to(memory_format=formats[rank]) if isinstance(t, torch.Tensor) and t.dim() == rank else t for t in inputs
        ]
        model = copy.deepcopy(judge.old)
        for parameter in model.parameters():  # Module.to refuses where one has another rank: an operand's bias
            if parameter.dim() == rank:
                parameter.data = parameter.data.to(memory_format=formats[rank])
        calls[Contestant("channels_last", benchmark=True)] = (model, last)
    return calls


def _forward(model, inputs):
    def call():
        with torch.no_grad():
            return model(*inputs)

    return call


def _both(model, inputs):
    inputs = [
        t.detach().requires_grad_() if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in inputs
    ]

    def call():
        y = model(*inputs)
        return torch.autograd.grad(
            y, [t for t in (*inputs, *model.parameters()) if t.requires_grad], torch.ones_like(y)
        )

    return call


def _on_the_clock(call) -> float:
    """Milliseconds a call, many in a row, waiting at the end only: what a host that is ahead of the GPU sees."""
    call()
    torch.cuda.synchronize()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS_ON_THE_CLOCK and count < 200:
        call()
        count += 1
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3 / count
