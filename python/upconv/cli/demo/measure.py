"""One model of the demo, from file to figures: swap, check, time. Called by the command for every variant."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from upconv import _ops, _precision
from upconv.cli.demo import check
from upconv.cli.models import Variant, convs_of
from upconv.cli.problem import Problem, parse_problem
from upconv.cli.timing import interleaved, nothing, once

STEPS = 4  # how often `tick` moves by one whole step


@dataclass
class Result:
    """What the demo knows about one variant. Times in milliseconds, as name -> median."""

    title: str
    summary: str
    scale: str = ""
    x_shape: tuple[int, ...] = ()
    y_shape: tuple[int, ...] = ()
    tensors: list[check.Tensor] = field(default_factory=list)
    first: dict[str, float] = field(default_factory=dict)
    forward: dict[str, float] = field(default_factory=dict)
    training: dict[str, float] = field(default_factory=dict)
    explained: str = ""
    failure: str = ""

    @property
    def passed(self) -> bool:
        return not self.failure and bool(self.tensors) and all(t.passed for t in self.tensors)

    @property
    def worst(self) -> check.Tensor | None:
        """The tensor nearest to its bound, or farthest beyond it; a NaN counts as farthest."""
        return max(self.tensors, key=lambda t: (t.error != t.error, t.error / t.bound), default=None)


def ratio(times: dict[str, float]) -> float:
    """How many times faster than PyTorch."""
    return times["torch"] / times["upconv"]


def geometric_mean(values: list[float]) -> float:
    return statistics.geometric_mean(values) if values else float("nan")


def sizes_of(variant: Variant, full: bool, scale: float) -> dict[str, int]:
    """Keyword arguments of get_inputs: none at full size, else the file's sizes for a CPU times `scale`."""
    if full:
        return {}
    return {k: v if k == "batch" else max(4, round(v * scale)) for k, v in variant.sizes_on_cpu.items()}


def as_torch_computes(problem: Problem, x: torch.Tensor) -> Problem:
    """The problem in the precision that the default policy gives its forward pass on x's device."""
    code = _precision.code("torch", x)
    if code == 0:
        return problem
    return parse_problem(_ops.pass_problem(str(problem), "forward", "cuda", code))


def scale_text(full: tuple[int, ...], used: tuple[int, ...]) -> str:
    """How the run differs from the full size, in words for the table."""
    if full == used:
        return "full size"
    batch = f"batch {used[0]}/{full[0]}, " if used[0] != full[0] else ""
    fractions = sorted({f"{b / a:.2g}" for a, b in zip(full[2:], used[2:], strict=True)})
    return f"{batch}space x{'-'.join(fractions)}"


def measure(
    variant: Variant, *, device: str, full: bool, scale: float, seconds: float, seed: int, tick: Callable[[float], None]
) -> Result:
    """Everything about one variant. `tick` receives progress in steps, STEPS in all."""
    import upconv

    result = Result(variant.title, variant.summary)
    torch.manual_seed(seed)
    model = variant.build().to(device)
    wait = torch.cuda.synchronize if device.startswith("cuda") else nothing
    sizes = sizes_of(variant, full, scale)
    inputs = [x.to(device) for x in variant.inputs(**sizes)]
    with torch.device("meta"):
        full_shape = tuple(variant.inputs()[0].shape)
    result.x_shape = tuple(inputs[0].shape)
    result.scale = scale_text(full_shape, result.x_shape)
    problems = [as_torch_computes(problem, inputs[0]) for _, problem in convs_of(variant, **sizes)]
    result.explained = "\n".join(upconv.explain(str(problem), device).rstrip() for problem in problems)

    # One sample will do as example; the full batch then meets the engine first in the timed first call.
    swapped = upconv.optimize(model, [x[:1] for x in inputs])
    report = getattr(swapped, "upconv_report", None)
    result.explained = f"{report or ''}\n{result.explained}".strip()
    if report is None or report.count("fused") + report.count("replaced") == 0:
        result.failure = "upconv.optimize() replaced no layer"
        return result

    models = {"torch": model, "upconv": swapped}
    with torch.no_grad():
        result.first = {name: once(lambda m=m: m(*inputs), wait) for name, m in models.items()}
    tick(0.5)
    peer, dy = check.run(model, inputs, None, seed)
    ours, _ = check.run(swapped, inputs, dy, seed)
    result.y_shape = tuple(dy.shape)
    if (reason := mismatch(ours, peer)) is not None:
        result.failure = reason
        return result
    tick(1)
    if full and device == "cpu":  # PyTorch's own error is worth a column, but not the memory at these sizes
        peer = {}
    result.tensors = check.compare(model, inputs, dy, ours, peer, lambda fraction: tick(1 + fraction))
    del ours, peer

    with torch.no_grad():
        result.forward = interleaved({n: lambda m=m: m(*inputs) for n, m in models.items()}, seconds / 3, wait=wait)
    tick(3)
    result.training = interleaved(
        {n: lambda m=m: check.run(m, inputs, dy, seed) for n, m in models.items()}, seconds * 2 / 3, wait=wait
    )
    tick(STEPS)
    return result


def mismatch(ours: dict[str, torch.Tensor], peer: dict[str, torch.Tensor]) -> str | None:
    """Why two results cannot be compared element by element, or None."""
    if list(ours) != list(peer):
        return f"the swapped model has tensors {', '.join(ours)}, PyTorch's has {', '.join(peer)}"
    for name, tensor in ours.items():
        if tensor.shape != peer[name].shape or tensor.dtype != peer[name].dtype:
            return (
                f"{name} is {tuple(tensor.shape)} {tensor.dtype}, PyTorch's {tuple(peer[name].shape)} "
                f"{peer[name].dtype}"
            )
    return None
