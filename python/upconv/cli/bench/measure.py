"""Measures one problem: every pass, PyTorch and upconv interleaved, with errors against float64.

Called by `upconv bench` once a row of the shape files; returns rows for the results file.
"""

from __future__ import annotations

import math
import re
import statistics
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch

from upconv.cli.accuracy import bound, relative_error
from upconv.cli.bench.peak import floor_ms
from upconv.cli.problem import DTYPE_BYTES, Problem
from upconv.cli.shapes import Shape
from upconv.cli.timing import interleaved, once

PASSES = ("forward", "backward_input", "backward_weight", "backward")
DTYPES = {"f32": torch.float32, "f64": torch.float64, "bf16": torch.bfloat16, "f16": torch.float16}
LAYOUTS = ("nchw", "nhwc")
OWN_F32 = "upconv_f32"  # peer of the 16-bit rows: upconv itself in fp32, in the same turns
TENSORS = {
    "forward": ("y",),
    "backward_input": ("dx",),
    "backward_weight": ("dw",),
    "backward": ("dx", "dw", "db"),
}


@dataclass(frozen=True)
class Settings:
    """What to measure of each problem."""

    threads: tuple[int, ...] = (1, 2)
    passes: tuple[str, ...] = PASSES
    layout: str = "nchw"
    seconds: float = 0.5
    check: bool = True


@dataclass
class Data:
    """Fresh random tensors of one problem."""

    x: torch.Tensor
    w: torch.Tensor
    b: torch.Tensor | None
    dy: torch.Tensor

    @property
    def operands(self) -> list[torch.Tensor]:
        return [self.x, self.w] if self.b is None else [self.x, self.w, self.b]

    def to(self, dtype: torch.dtype) -> Data:
        return Data(
            self.x.to(dtype),
            self.w.to(dtype),
            None if self.b is None else self.b.to(dtype),
            self.dy.to(dtype),
        )


def laid_out(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """The tensor in the memory format that `layout` names; one-dimensional problems have but one."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if layout == "nhwc" and tensor.dim() in formats:
        return tensor.contiguous(memory_format=formats[tensor.dim()])
    return tensor


def random_data(problem: Problem, seed: int, layout: str) -> Data:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return laid_out(torch.randn(shape, generator=generator).to(DTYPES[problem.dtype]), layout)

    b = draw(problem.out_channels) if problem.bias else None
    return Data(draw(*problem.x_shape), draw(*problem.w_shape), b, draw(*problem.y_shape))


def convolution(source, problem: Problem) -> Callable[..., torch.Tensor]:
    """conv_transpose{rank}d of torch.nn.functional or upconv.functional, as the problem has it."""
    function = getattr(source, f"conv_transpose{problem.rank}d")
    p = problem

    def apply(x, w, b=None):
        return function(x, w, b, p.stride, p.padding, p.output_padding, p.groups, p.dilation)

    return apply


def pass_call(apply: Callable[..., torch.Tensor], name: str, data: Data) -> Callable[[], list[torch.Tensor]]:
    """The timed call of one pass. Backward passes go through autograd, as training does."""
    if name == "forward":

        def forward():
            with torch.no_grad():
                return [apply(*data.operands)]

        return forward
    wanted = {"backward_input": [0], "backward_weight": [1], "backward": range(len(data.operands))}[name]
    operands = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(data.operands)]
    y = apply(*operands)
    leaves = [operands[i] for i in wanted]
    return lambda: list(torch.autograd.grad(y, leaves, data.dy, retain_graph=True))


def measure(shape: Shape, settings: Settings, meta: dict, tick: Callable[[], None] = lambda: None) -> list[dict]:
    """Rows of one problem: a row per pass and thread count."""
    import upconv

    problem = shape.problem
    data = random_data(problem, zlib.crc32(f"{shape.id} {meta['date']}".encode()), settings.layout)
    sources = {"torch_eager": torch.nn.functional, "upconv": upconv.functional}
    applied = {name: convolution(source, problem) for name, source in sources.items()}
    plan = plan_facts(upconv.explain(explained(problem, settings.layout)))

    torch.set_num_threads(settings.threads[0])
    first = first_calls(data, applied, settings.layout)  # before anything else has met this problem
    errors = errors_of(problem, data, applied, settings) if settings.check else {}
    rows = []
    for threads in settings.threads:
        torch.set_num_threads(threads)
        for name in settings.passes:
            calls = {source: pass_call(apply, name, data) for source, apply in applied.items()}
            if problem.dtype in ("bf16", "f16"):
                calls[OWN_F32] = pass_call(applied["upconv"], name, data.to(torch.float32))
            ms = interleaved(calls, settings.seconds)
            floor, limit = floor_of(problem, name, threads, meta)
            row = {
                "id": shape.id,
                "problem": problem.short(),
                "pass": name,
                "dtype": str(DTYPES[problem.dtype])[6:],
                "precision": "ieee",
                "layout": settings.layout,
                "threads": threads,
                "upconv_ms": figure(ms["upconv"]),
                "peers_ms": {peer: figure(ms[peer]) for peer in ms if peer != "upconv"},
                "floor_ms": figure(floor),
                "floor_by": limit,
                "workspace_mb": plan_workspace(plan, name),
                "kernel": plan_kernel(plan, name),
                **errors.get(name, {}),
                "commit": meta["commit"],
                "date": meta["date"],
            }
            if name == "forward" and threads == settings.threads[0]:
                row["first_ms"] = {k: figure(v) for k, v in first.items()}
            rows.append(row)
            tick()
    return rows


def first_calls(data: Data, applied: dict, layout: str) -> dict[str, float]:
    """Median of three first calls: of the problem itself and of two a little longer, each new to the engine."""
    taken: dict[str, list[float]] = {name: [] for name in applied}
    for extra in (0, 1, 2):
        x = laid_out(torch.nn.functional.pad(data.x, (0, extra)), layout)
        with torch.no_grad():
            for name, apply in applied.items():
                taken[name].append(once(lambda apply=apply, x=x: apply(x, *data.operands[1:])))
    return {name: statistics.median(times) for name, times in taken.items()}


def errors_of(problem: Problem, data: Data, applied: dict, settings: Settings) -> dict[str, dict]:
    """For each pass max_abs_err, rel_err, its bound and PyTorch's own rel_err, against torch in float64."""
    torch.set_num_threads(max(settings.threads))
    exact = data.to(torch.float64)
    truth = pass_results(convolution(torch.nn.functional, problem), exact)
    results = {name: pass_results(apply, data) for name, apply in applied.items()}
    products = {
        "y": problem.in_channels / problem.groups * math.prod(problem.kernel),
        "dx": problem.out_channels / problem.groups * math.prod(problem.kernel),
        "dw": problem.batch * math.prod(problem.input),
        "db": problem.batch * math.prod(problem.output),
    }
    out = {}
    for name in settings.passes:
        ours, peer, allowed = [], [], []
        for tensor in (t for t in TENSORS[name] if t in truth):
            ours.append(relative_error(results["upconv"][tensor], truth[tensor]))
            peer.append(relative_error(results["torch_eager"][tensor], truth[tensor])[1])
            allowed.append(bound(products[tensor], data.x.dtype))
        worst = max(range(len(ours)), key=lambda i: (ours[i][1] != ours[i][1], ours[i][1] / allowed[i]))
        out[name] = {
            "max_abs_err": figure(ours[worst][0]),
            "rel_err": figure(ours[worst][1]),
            "rel_err_bound": figure(allowed[worst]),
            "peers_rel_err": {"torch_eager": figure(peer[worst])},
        }
    return out


def pass_results(apply: Callable[..., torch.Tensor], data: Data) -> dict[str, torch.Tensor]:
    operands = [t.detach().requires_grad_() for t in data.operands]
    y = apply(*operands)
    gradients = torch.autograd.grad(y, operands, data.dy)
    return dict(zip(("y", "dx", "dw", "db"), (y.detach(), *gradients), strict=False))


def floor_of(problem: Problem, name: str, threads: int, meta: dict) -> tuple[float, str]:
    """Least time of a pass. `backward` is dx and dw: twice the products; x, w, dy, dx, dw once each."""
    if name != "backward":
        return floor_ms(problem.flop, problem.min_bytes, threads, meta)
    once_each = math.prod(problem.x_shape) + math.prod(problem.w_shape)
    moved = problem.min_bytes + once_each * DTYPE_BYTES[problem.dtype]
    return floor_ms(2 * problem.flop, moved, threads, meta)


def explained(problem: Problem, layout: str) -> str:
    return f"{problem} xl yl" if layout == "nhwc" and problem.rank > 1 else str(problem)


def plan_facts(text: str) -> dict[str, tuple[str, float]]:
    """Kernel and workspace (MB, one worker) of each pass, read from explain()."""
    found = re.findall(r"^\s+(\w+): ([\w.+-]+),?.*?workspace ([\d.]+) MB", text, re.M)
    return {name: (kernel, float(workspace)) for name, kernel, workspace in found}


def plan_kernel(plan: dict[str, tuple[str, float]], name: str) -> str:
    parts = ("backward_input", "backward_weight") if name == "backward" else (name,)
    return " + ".join(dict.fromkeys(plan[p][0] for p in parts if p in plan))


def plan_workspace(plan: dict[str, tuple[str, float]], name: str) -> float:
    parts = ("backward_input", "backward_weight") if name == "backward" else (name,)
    return max((plan[p][1] for p in parts if p in plan), default=0.0)


def figure(value: float) -> float | None:
    """Four significant digits, for people to read and compare. JSON has no NaN: null stands for it."""
    return float(f"{value:.4g}") if math.isfinite(value) else None
