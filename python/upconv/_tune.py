# Measured choices instead of predicted ones: for every pass of a model or a problem the engine names a bounded list of
# alternatives (candidates and their tiles); here each is checked against the others, timed, and the winner remembered.
# Public as upconv.tune. The walk over a model is _warmup's.
"""``upconv.tune``: measure the CUDA kernels that could run a model's transposed convolutions, and keep the fastest."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch

from . import _ops
from ._precision import _AS_TORCH_WITH_TF32, _permits_tf32, code
from ._warmup import Work, _usable_cores, work_of_model, work_of_problems
from .cli.problem import parse_problem

__all__ = ["TuneReport", "tune"]

#: A choice that is not the cost model's must be this much faster: less is the noise of the measurement.
WORTH = 0.97
#: After the first round, alternatives slower than this times the fastest are not measured again.
HOPELESS = 1.3
#: The largest difference between two alternatives' results, relative to the largest value: what rounding may make of
#: another order of summation, and what no fault in a kernel keeps below.
AGREE = {"tf32": 2e-3, "bf16x3": 1e-4, "ieee": 1e-5, "f64": 1e-12, "f16": 2e-3, "bf16": 2e-2}


@dataclass
class Measured:
    """One way to run one pass."""

    name: str  # "cuda_tiles:3"
    detail: str
    milliseconds: float
    deviation: float = 0.0  # from the cost model's choice, relative to the largest value


@dataclass
class Tuned:
    """What was found for one pass of one problem; ``ways`` begins with the cost model's choice."""

    problem: str
    direction: str
    device: str
    epilogue: tuple[float, ...]
    ways: list[Measured]
    refused: list[tuple[str, str]] = field(default_factory=list)  # (name, why)

    @property
    def model(self) -> Measured:
        return self.ways[0]

    @property
    def best(self) -> Measured:
        fastest = min(self.ways, key=lambda w: w.milliseconds)
        return fastest if fastest.milliseconds < WORTH * self.model.milliseconds else self.model


@dataclass
class TuneReport:
    """What ``upconv.tune`` did; ``str()`` is a table."""

    rows: list[Tuned]

    @property
    def within(self) -> float:
        """The share of passes whose predicted choice is within 10% of the fastest."""
        good = sum(r.model.milliseconds <= 1.1 * min(w.milliseconds for w in r.ways) for r in self.rows)
        return good / len(self.rows) if self.rows else 1.0

    def __str__(self) -> str:
        if not self.rows:
            return "upconv.tune: nothing here runs on a GPU"
        head = ("problem", "pass", "predicted choice, ms", "fastest, ms", "gain", "kept")
        table = [head]
        for r in self.rows:
            fastest = min(r.ways, key=lambda w: w.milliseconds)
            table.append((
                r.problem, r.direction, f"{r.model.milliseconds:.4f}", f"{fastest.milliseconds:.4f}",
                f"{r.model.milliseconds / fastest.milliseconds:.2f}x",
                f"{r.best.name} ({r.best.detail})" if r.best is not r.model else "as predicted",
            ))  # fmt: skip
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        lines += [f"left out: {r.problem} {r.direction}: {name}: {why}" for r in self.rows for name, why in r.refused]
        lines.append(f"predicted choice within 10% of the fastest: {100 * self.within:.0f}% of {len(self.rows)} passes")
        return "\n".join(lines)


def tune(
    model_or_problems: torch.nn.Module | str | Iterable[str],
    example_inputs: torch.Tensor | Sequence[torch.Tensor] | None = None,
    *,
    device: str | torch.device = "cuda",
    backward: bool | None = None,
    precision: str = "as written",
    rounds: int = 9,
    keep: bool = True,
    progress: bool = True,
) -> TuneReport:
    """Measure the alternatives of every pass and remember the fastest on disk, for this GPU and these sizes.

    No choice changes a mode: the same precision, layouts and workspace bound; sums may be added in another order, as
    they are by another tile. What was remembered holds for later processes too, until the kernel that was measured is
    no longer made by the library; ``upconv tune --forget`` removes it. CUDA graphs captured before keep what they have.

    Args:
        model_or_problems: a module (run once on ``example_inputs``, its transposed convolutions left out), or problems
            as lines such as ``"2d n8 c64 o64 i256x256 k3 s2 p1 b f32 tf32"``.
        example_inputs: the model's positional arguments on the GPU; a tuple, or one tensor.
        device: where problems will run. A model is measured where its tensors are.
        backward: the gradients' passes too. Default: for problems yes; for a model, those that it asks for while
            gradients are enabled.
        precision: of fp32 problems: the one that their lines name, or ``torch``, ``tf32``, ``bf16x3``, ``ieee`` for all
            of them. A model's layers have their own.
        rounds: timed runs of an alternative, taken in turns with the others, the L2 cache overwritten between them; the
            median counts.
        keep: remember the choices; otherwise only report.
        progress: show a progress bar on stderr where it is a terminal.

    Returns:
        What was measured, printable as a table.

    Raises:
        RuntimeError: there is no such GPU, a problem is illegal, or a kernel does not compile.
    """
    if isinstance(model_or_problems, torch.nn.Module):
        work = work_of_model("tune", model_or_problems, example_inputs, None, backward)
    else:
        work = work_of_problems(model_or_problems, device, backward, _code(precision))
    distinct = dict.fromkeys(_resolved(w) for w in work if w.device != "cpu")
    rows = []
    for each in _shown(list(distinct), progress):
        rows.append(measure(each, Gpu(each, rounds)))
        if keep and rows[-1].best is not rows[-1].model:
            _ops.remember(each.problem, each.direction, each.device, rows[-1].best.name, list(each.epilogue))
    return TuneReport(rows)


def _code(precision: str) -> int:
    """The operators' number for problems on a GPU; -1 leaves each line its own."""
    if precision == "as written":
        return -1
    if precision == "torch":
        return _AS_TORCH_WITH_TF32 if _permits_tf32() else 0
    return code(precision, None)


def _resolved(work: Work) -> Work:
    """The same pass by the problem that the engine makes of it, its precision written out."""
    problem = _ops.pass_problem(work.problem, work.direction, work.device, work.precision)
    return Work(problem, work.direction, work.device, epilogue=work.epilogue)


def _shown(items: list[Work], progress: bool):
    """The items, with a progress bar where stderr is a terminal and rich is there."""
    try:
        from rich.console import Console
        from rich.progress import track
    except ModuleNotFoundError:
        return items
    console = Console(stderr=True)
    return track(items, "upconv: measuring", console=console, disable=not (progress and console.is_terminal))


def measure(work: Work, runner: Gpu) -> Tuned:
    """Every alternative of one pass: compiled, compared with the first one's result, then timed in turns."""
    listed = _ops.alternatives(work.problem, work.direction, work.device, list(work.epilogue))
    details = dict(line.split("\t") for line in listed.splitlines())
    refused = runner.prepare(details)
    names = [n for n in details if n not in dict(refused)]
    p = parse_problem(work.problem)
    bound = AGREE[p.precision if p.dtype == "f32" else p.dtype]
    expected, deviation = None, {}
    for name in list(names):
        result = runner.run(name)
        if expected is None:
            expected = result
        scale = max(expected.abs().max().item(), 1e-30) if expected.numel() else 1.0
        deviation[name] = (result - expected).abs().max().item() / scale if expected.numel() else 0.0
        if not deviation[name] <= bound:
            names.remove(name)
            refused.append((name, f"differs from {names[0]} by {deviation[name]:.1e} of the largest value"))
    if not names:
        why = "; ".join(f"{name}: {reason}" for name, reason in refused)
        raise RuntimeError(f"upconv.tune: no kernel for {work.direction} of {work.problem} can be measured: {why}")
    times = runner.times(names)
    ways = [Measured(n, details[n], times[n], deviation[n]) for n in names]
    return Tuned(work.problem, work.direction, work.device, work.epilogue, ways, refused)


class Gpu:
    """Runs and times the alternatives of one pass on random tensors of its problem."""

    def __init__(self, work: Work, rounds: int):
        self.work, self.rounds = work, rounds
        self.device = torch.device(work.device)
        self._tensors: tuple | None = None

    def prepare(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Compiles them on all cores; those that do not compile, with the reason."""
        w = self.work
        refused = []
        with ThreadPoolExecutor(_usable_cores()) as pool:
            jobs = {
                n: pool.submit(_ops.prepare_alternative, w.problem, w.direction, w.device, n, list(w.epilogue))
                for n in names
            }
        for name, job in jobs.items():
            if job.exception() is not None:
                refused.append((name, str(job.exception()).splitlines()[0]))
        return refused

    def run(self, name: str) -> torch.Tensor:
        w = self.work
        if self._tensors is None:
            self._tensors = tensors_of(w.problem, w.direction, self.device)
        a, b, bias = self._tensors
        return _ops.run_single(w.problem, w.direction, name, a, b, bias, list(w.epilogue))

    def times(self, names: Sequence[str]) -> dict[str, float]:
        """Median milliseconds by name."""
        scratch = torch.empty(64 << 20, dtype=torch.int32, device=self.device)
        return times_in_turns(names, lambda name: self._once(name, scratch), self.rounds)

    def _once(self, name: str, scratch: torch.Tensor) -> float:
        with torch.cuda.device(self.device):
            scratch.zero_()  # 256 MiB: nothing of the last run is left in the L2 cache
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            self.run(name)
            end.record()
            end.synchronize()
        return start.elapsed_time(end)


def times_in_turns(names: Sequence[str], once: Callable[[str], float], rounds: int) -> dict[str, float]:
    """The median of ``rounds`` calls of ``once`` a name, in turns; the hopeless ones are left after the third."""
    taken: dict[str, list[float]] = {n: [] for n in names}
    running = list(names)
    for turn in range(max(rounds, 3)):
        for name in running:
            taken[name].append(once(name))
        if turn == 2:
            fastest = min(statistics.median(t) for t in taken.values())
            running = [n for n in names if statistics.median(taken[n]) <= HOPELESS * fastest or n == names[0]]
    return {n: statistics.median(t) for n, t in taken.items()}


def tensors_of(line: str, direction: str, device: torch.device):
    """Random tensors that the engine's single pass takes for a problem: (a, b, bias)."""
    p = parse_problem(line)
    shapes = {
        "x": (p.batch, p.in_channels, *p.input),
        "w": (p.in_channels, p.out_channels // p.groups, *p.kernel),
        "y": (p.batch, p.out_channels, *p.output),
    }

    def random(name):
        t = torch.randn(shapes[name], device=device, dtype=torch.float32).to(_DTYPES[p.dtype])
        if name not in p.channels_last or p.rank == 1:
            return t
        return t.contiguous(memory_format=(torch.channels_last, torch.channels_last_3d)[p.rank - 2])

    if direction == "forward":
        bias = torch.randn(p.out_channels, device=device, dtype=torch.float32).to(_DTYPES[p.dtype]) if p.bias else None
        return random("x"), random("w"), bias
    if direction == "backward_input":
        return random("y"), random("w"), None
    if direction == "backward_weight":
        return random("x"), random("y"), None
    dy = random("y")
    return dy, dy, None


_DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}
