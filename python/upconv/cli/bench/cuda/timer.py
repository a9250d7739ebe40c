"""Times calls on a GPU with events: interleaved, each after the L2 cache was overwritten. Used by measure.py.

Every contestant runs in a host thread of its own, because torch keeps the plans that cuDNN's search finds per thread:
in one thread, whoever asks first with `cudnn.benchmark` off or on decides for both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

FLUSH_BYTES = 256 << 20
#: A call that takes longer is not repeated: the faster of its two warm calls counts, and the others get the time.
ONCE_MS = 1000.0
GRAPH_CALLS = 20


class Contestant:
    """One way to do the work, its settings, and its thread."""

    def __init__(self, name: str, benchmark: bool = False):
        self.name, self.benchmark = name, benchmark
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def run(self, work: Callable[[], object]) -> object:
        """The result of `work` in this contestant's thread, under its settings."""

        def inside():
            before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, self.benchmark
            try:
                # Backward in this thread too: autograd's own would share one plan cache among all contestants.
                with torch.autograd.set_multithreading_enabled(False):
                    return work()
            finally:
                torch.backends.cudnn.benchmark = before

        return self._pool.submit(inside).result()


class Timer:
    def __init__(self, device: torch.device):
        self.device = device
        self._flush = torch.empty(FLUSH_BYTES // 4, dtype=torch.int32, device=device)

    def several(self, call: Callable[[], object], times: int, ahead: int = 1) -> list[float]:
        """Milliseconds of each of `times` runs, cold L2. Runs `ahead` do not count: after a pause the host takes 0.1 to
        0.2 ms longer for a call, longer than the flush keeps the GPU busy."""
        events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(times)]
        for _ in range(ahead):
            call()
        for start, end in events:
            self._flush.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize(self.device)
        return [start.elapsed_time(end) for start, end in events]

    def interleaved(
        self, calls: dict[Contestant, Callable[[], object]], seconds: float, runs: int = 30, rounds: int = 6
    ) -> dict[str, float]:
        """Median milliseconds of each call: `runs` runs each, a few in a row, in alternating order; fewer (at least
        5) where all together would take longer than `seconds`. Calls that were never made before warm up first."""
        first = {c: min(c.run(lambda call=call: self.several(call, 2, ahead=0))) for c, call in calls.items()}
        long = {c: [ms] for c, ms in first.items() if ms > ONCE_MS}
        calls = {c: call for c, call in calls.items() if c not in long}
        total = sum(ms for c, ms in first.items() if c in calls) * 1e-3
        runs = max(5, min(runs, int(seconds / max(total, 1e-6))))
        rounds = min(rounds, runs)
        times: dict[Contestant, list[float]] = {c: [] for c in calls}
        order = list(calls)
        for i in range(rounds):
            batch = runs * (i + 1) // rounds - runs * i // rounds
            for c in order:
                times[c] += c.run(lambda call=calls[c], batch=batch: self.several(call, batch))
            order.reverse()
        return {c.name: statistics.median({**times, **long}[c]) for c in first}

    def in_graph(self, contestant: Contestant, call: Callable[[], object], repeats: int = GRAPH_CALLS) -> float:
        """Milliseconds of one call inside a graph of `repeats` calls, L2 warm: what a small layer costs in a model
        that replays. The call is made once before, on the stream of the capture."""

        def capture() -> float:
            stream = torch.cuda.Stream(self.device)
            graph = torch.cuda.CUDAGraph()
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                call()
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    for _ in range(repeats):
                        call()
                finally:
                    graph.capture_end()
            torch.cuda.synchronize(self.device)
            graph.replay()
            return statistics.median(self.several(graph.replay, 10)) / repeats

        return contestant.run(capture)
