"""Measures one problem on a GPU: every pass, upconv beside PyTorch as it comes, tuned and channels_last.

Called by `upconv bench --device cuda` once a row of the shape files; returns rows for the results file.
"""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from upconv.cli.bench.cuda.reference import Reference
from upconv.cli.bench.cuda.timer import GRAPH_CALLS, ONCE_MS, Contestant, Timer
from upconv.cli.bench.measure import DTYPES, Data, figure, laid_out, plan_facts, plan_kernel, plan_workspace
from upconv.cli.problem import DTYPE_BYTES, Problem, parse_problem
from upconv.cli.shapes import Shape

PASSES = ("forward", "backward_input", "backward_weight", "backward")
#: The engine's passes that a row runs, where it is not one of them itself.
DIRECTIONS = {"backward": ("backward_input", "backward_weight", "backward_bias")}
OPERANDS = {"forward": (), "backward_input": (0,), "backward_weight": (1,), "backward": (0, 1, 2)}
TUNED = ("torch_benchmark", "torch_channels_last")  # measured with cudnn.benchmark
#: Passes whose call is this short are measured inside a CUDA graph too: the host's share of a single call is not small.
GRAPH_BELOW_MS = {"forward": 0.05, "backward": 0.25}
CHECK_SAMPLES = 2  # of the batch, for y and dx; dw needs all

# Measured on an NVIDIA H200 (docs/benchmarking.md); other GPUs scale by what explain() knows.
CEILINGS = {"bytes_per_second": 4.28e12, "tf32": 364e12, "half": 787e12, "ieee": 51.3e12, "f64": 60.2e12}

# Largest ||error|| / ||exact||, as tests/gpu/gpu_bounds.py derives it.
BOUND = {"ieee": 1e-6, "bf16x3": 1e-5, "tf32": 5e-4}


@dataclass(frozen=True)
class Settings:
    passes: tuple[str, ...] = PASSES
    peers: tuple[str, ...] = ("torch_eager", "torch_benchmark", "torch_channels_last")
    precision: str = "torch"  # or ieee, bf16x3, tf32
    layout: str = "nchw"  # nhwc: all tensors channels_last
    seconds: float = 0.5  # of all contestants' runs of one pass together
    check: bool = True


class Bench:
    """What outlives a row: the contestants with their threads, the timer."""

    def __init__(self, settings: Settings, device: str, ceilings: dict):
        self.settings, self.device, self.ceilings = settings, torch.device(device), ceilings
        self.timer = Timer(self.device)
        self.ours = Contestant("upconv")
        self.peers = {name: Contestant(name, benchmark=name in TUNED) for name in settings.peers}

    def measure(self, shape: Shape, tick: Callable[[], None] = lambda: None) -> list[dict]:
        """A row for each pass; none of a layer of one dimension in channels_last, which it does not have."""
        import upconv

        p, layout = shape.problem, self.settings.layout
        if layout == "nhwc" and p.rank == 1:
            return []
        data = kernelbench_data(p, zlib.crc32(shape.id.encode()), self.device)
        ours = convolution(upconv.functional, p, {"precision": self.settings.precision})
        torchs = convolution(torch.nn.functional, p, {})
        last = Data(*(None if t is None else laid_out(t, "nhwc") if t.dim() > 1 else t for t in
                      (data.x, data.w, data.b, data.dy)))  # fmt: skip
        if layout == "nhwc":
            data = last
        compiled = torch.compile(torchs) if "torch_compile" in self.peers else None
        rows = []
        with tf32(self.settings.precision != "ieee"):
            errors = self.errors(p, data, ours) if self.settings.check else {}
            for name in self.settings.passes:
                made = {self.ours: (ours, name, data)}
                for peer, contestant in self.peers.items():
                    if peer == "torch_channels_last":
                        if p.rank == 1 or layout == "nhwc":  # the latter is torch_benchmark
                            continue
                        made[contestant] = (torchs, name, last)
                    else:
                        made[contestant] = (compiled if peer == "torch_compile" else torchs, name, data)
                calls = {contestant: pass_call(*how) for contestant, how in made.items()}
                ms = self.timer.interleaved(calls, self.settings.seconds)
                precision = precision_of(p, name, self.settings.precision)
                floor, by = floor_of(p, name, precision, self.ceilings)
                plan = plan_facts(upconv.explain(explained(p, precision, layout), str(self.device)))
                row = {
                    "id": shape.id,
                    "problem": p.short(),
                    "pass": name,
                    "dtype": str(DTYPES[p.dtype])[6:],
                    "precision": precision,
                    "asked": self.settings.precision,
                    "layout": layout,
                    "threads": 1,
                    "upconv_ms": figure(ms.pop("upconv")),
                    "peers_ms": {k: figure(v) for k, v in ms.items()},
                    "floor_ms": figure(floor),
                    "floor_by": by,
                    **errors.get(name, {}),
                    "workspace_mb": plan_workspace(plan, name),
                    "kernel": plan_kernel(plan, name),
                }
                if min([row["upconv_ms"], *row["peers_ms"].values()]) < GRAPH_BELOW_MS.get(name, 0.0):
                    # Calls of its own: autograd's backward runs on the stream that forward ran on.
                    single = {"upconv": row["upconv_ms"], **row["peers_ms"]}
                    short = {c: how for c, how in made.items() if single[c.name] < ONCE_MS / GRAPH_CALLS}
                    row["graph_ms"] = self.graphs({c: pass_call(*how) for c, how in short.items()})
                rows.append(row)
                tick()
        return rows

    def graphs(self, calls: dict) -> dict[str, float]:
        """Calls inside a CUDA graph. (A peer that cannot be captured is left out.)"""
        out = {}
        for contestant, call in calls.items():
            with contextlib.suppress(RuntimeError):
                out[contestant.name] = figure(self.timer.in_graph(contestant, call))
        return out

    def errors(self, p: Problem, data: Data, ours: Callable) -> dict[str, dict]:
        """max_abs_err, rel_err and its bound of each pass, against float64 on the GPU."""
        reference = Reference(p)
        few = slice(0, CHECK_SAMPLES)
        gradients = set(self.settings.passes) != {"forward"}
        results = self.ours.run(lambda: pass_results(ours, data, gradients))
        found = {"forward": [], "backward_input": [], "backward_weight": []}
        exact = reference.forward(data.x[few], data.w, data.b)
        found["forward"].append(difference(results["y"][few], exact))
        if gradients:
            exact = reference.backward_input(data.dy[few], data.w)
            found["backward_input"].append(difference(results["dx"][few], exact))
            del exact
            exact = reference.backward_weight(data.x, data.dy)
            found["backward_weight"].append(difference(results["dw"], exact))
        found["backward"] = found["backward_input"] + found["backward_weight"]
        out = {}
        for name, pairs in found.items():
            if pairs:
                worst = max(pairs, key=lambda pair: (pair[1] != pair[1], pair[1]))
                out[name] = {
                    "max_abs_err": figure(worst[0]),
                    "rel_err": figure(worst[1]),
                    "rel_err_bound": figure(bound(p, name, precision_of(p, name, self.settings.precision))),
                }
        return out


def difference(got: torch.Tensor, exact: torch.Tensor) -> tuple[float, float]:
    """(largest difference, norm of the difference over norm of the exact result)"""
    if exact.numel() == 0:
        return 0.0, 0.0
    error = got.double() - exact
    return error.abs().max().item(), (error.norm() / exact.norm().clamp_min(1e-300)).item()


def bound(p: Problem, name: str, precision: str) -> float:
    """What ||error|| / ||exact|| may be."""
    products = {
        "forward": p.in_channels // p.groups * math.prod(p.kernel),
        "backward_input": p.out_channels // p.groups * math.prod(p.kernel),
    }.get(name, p.batch * math.prod(p.input))
    if p.dtype in ("f16", "bf16"):
        return torch.finfo(DTYPES[p.dtype]).eps / 2
    if p.dtype == "f64":
        return 1e-12
    # Matrix units truncate their sums, 16 products of one tap a step: tests/gpu/gpu_bounds.py.
    steps = {"ieee": 0, "tf32": 2, "bf16x3": 3}[precision] * -(-products // 16)
    return BOUND[precision] + 2**-24 * math.sqrt(products) + min(2**-25 * steps, 2e-5)


def kernelbench_data(p: Problem, seed: int, device: torch.device) -> Data:
    """x uniform in [0, 1) and torch's initialisation of the module, as KernelBench has them; dy normal."""
    generator = torch.Generator(device).manual_seed(seed)
    dtype = DTYPES[p.dtype]

    def uniform(shape, low, high):
        return torch.empty(shape, device=device).uniform_(low, high, generator=generator).to(dtype)

    edge = 1 / math.sqrt(max(1, p.out_channels // p.groups * math.prod(p.kernel)))
    return Data(
        uniform(p.x_shape, 0, 1),
        uniform(p.w_shape, -edge, edge),
        uniform((p.out_channels,), -edge, edge) if p.bias else None,
        torch.randn(p.y_shape, device=device, generator=generator).to(dtype),
    )


def convolution(source, p: Problem, how: dict) -> Callable[..., torch.Tensor]:
    function = getattr(source, f"conv_transpose{p.rank}d")

    def apply(x, w, b=None):
        return function(x, w, b, p.stride, p.padding, p.output_padding, p.groups, p.dilation, **how)

    return apply


def pass_call(apply: Callable, name: str, data: Data) -> Callable[[], object]:
    """The timed call of one pass; backward through autograd, its forward done in the thread that times it."""
    operands = data.operands
    if name == "forward":

        def forward():
            with torch.no_grad():
                return apply(*operands)

        return forward
    wanted = [i for i in OPERANDS[name] if i < len(operands)]
    leaves = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(operands)]
    held = []

    def backward():
        if not held:
            held.append(apply(*leaves))
        return torch.autograd.grad(held[0], [leaves[i] for i in wanted], data.dy, retain_graph=True)

    return backward


def pass_results(apply: Callable, data: Data, gradients: bool = True) -> dict[str, torch.Tensor]:
    if not gradients:
        with torch.no_grad():
            return {"y": apply(*data.operands)}
    leaves = [t.detach().requires_grad_() for t in data.operands]
    y = apply(*leaves)
    gradients = torch.autograd.grad(y, leaves, data.dy)
    return dict(zip(("y", "dx", "dw", "db"), (y.detach(), *gradients), strict=False))


def precision_of(p: Problem, name: str, asked: str) -> str:
    """The arithmetic of a row: what `torch` stands for with TF32 permitted."""
    from upconv import _ops, _precision

    if p.dtype != "f32":
        return "ieee"
    if asked != "torch":
        return asked
    direction = "forward" if name == "forward" else "backward_input"
    line = _ops.pass_problem(explained(p, "ieee"), direction, "sm_90", _precision._AS_TORCH_WITH_TF32)
    return parse_problem(line).precision


def explained(p: Problem, precision: str, layout: str = "nchw") -> str:
    last = frozenset("xwy") if layout == "nhwc" and p.rank > 1 else p.channels_last
    return str(replace(p, precision=precision, channels_last=last))


def floor_of(p: Problem, name: str, precision: str, ceilings: dict) -> tuple[float, str]:
    """Least milliseconds of a pass, and by what. `backward` is dx and dw: x, w, dy, dx, dw once each."""
    moved, flop = p.min_bytes, p.flop
    if name == "backward":
        moved += (math.prod(p.x_shape) + math.prod(p.w_shape)) * DTYPE_BYTES[p.dtype]
        flop *= 2
    rate = {
        "f64": ceilings["f64"],
        "f16": ceilings["half"],
        "bf16": ceilings["half"],
        "f32": {
            "tf32": ceilings["tf32"],
            "bf16x3": ceilings["half"] / 3,
            "ieee": max(ceilings["ieee"], ceilings["tf32"] / 3, ceilings["half"] / 6),
        }[precision],
    }[p.dtype]
    by_bytes, by_operations = moved / ceilings["bytes_per_second"] * 1e3, flop / rate * 1e3
    return max(by_bytes, by_operations), "bytes" if by_bytes > by_operations else "operations"


@contextlib.contextmanager
def tf32(permitted: bool):
    """torch's switch for fp32 convolutions, by its new name where it has one."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    if not hasattr(conv, "fp32_precision"):
        before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, permitted
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before
        return
    before, conv.fp32_precision = conv.fp32_precision, "tf32" if permitted else "ieee"
    try:
        yield
    finally:
        conv.fp32_precision = before
