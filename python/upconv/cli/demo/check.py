"""Output and gradients of a model against float64, with an error bound that a wrong engine cannot pass.

Used by `upconv demo`. The reference runs sample by sample, so the full sizes fit in memory too; a model whose
samples depend on each other (batch normalisation in training) does not belong here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from upconv import _precision
from upconv.cli.accuracy import bound


@dataclass(frozen=True)
class Tensor:
    """Error of one tensor: largest difference from float64, relative to the largest value."""

    name: str
    error: float
    peer_error: float | None
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # false for NaN


def run(model: torch.nn.Module, inputs: list[torch.Tensor], dy: torch.Tensor | None, seed: int):
    """Forward and backward; returns name -> tensor ('output', 'dx', each parameter's gradient), and dy."""
    x = [t.detach().requires_grad_() for t in inputs]
    y = model(*x)
    if dy is None:
        dy = torch.randn(y.shape, dtype=y.dtype, device=y.device, generator=torch.Generator(y.device).manual_seed(seed))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(y, [*x, *parameters], dy)
    dx_names = ["dx"] if len(x) == 1 else [f"dx{i}" for i in range(len(x))]
    return dict(zip(["output", *dx_names, *names], [y.detach(), *gradients], strict=True)), dy


def compare(
    model: torch.nn.Module,
    inputs: list[torch.Tensor],
    dy: torch.Tensor,
    ours: dict[str, torch.Tensor],
    peer: dict[str, torch.Tensor],
    tick: Callable[[float], None] = lambda fraction: None,
) -> list[Tensor]:
    """Errors of `ours` and of `peer` (results of `run`; empty to leave it out) against `model` in float64."""
    exact = copy.deepcopy(model).double()
    batch = dy.shape[0]
    engines = [results for results in (ours, peer) if results]
    difference = {name: [0.0] * len(engines) for name in ours}
    largest = dict.fromkeys(ours, 0.0)
    summed: dict[str, torch.Tensor] = {}

    def add(name: str, truth: torch.Tensor, parts: list[torch.Tensor]) -> None:
        largest[name] = max(largest[name], truth.abs().max().item())
        for i, part in enumerate(parts):
            error = (part.double() - truth).abs().max().item()
            difference[name][i] = error if math.isnan(error) else max(difference[name][i], error)

    for n in range(batch):
        sample, _ = run(exact, [x[n : n + 1].double() for x in inputs], dy[n : n + 1].double(), 0)
        for name, truth in sample.items():
            if name == "output" or name.startswith("dx"):
                add(name, truth, [t[name][n : n + 1] for t in engines])
            else:
                summed[name] = summed[name] + truth if name in summed else truth
        tick((n + 1) / batch)
    for name, truth in summed.items():
        add(name, truth, [t[name] for t in engines])
    terms = products(model, inputs[0], dy)
    tf32 = _precision.code("torch", inputs[0]) != 0
    relative = {name: [d / largest[name] for d in both] for name, both in difference.items()}
    return [
        Tensor(name, errors[0], errors[1] if peer else None, bound(terms[name], tf32=tf32))
        for name, errors in relative.items()
    ]


def products(model: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor) -> dict[str, float]:
    """How many products each element of a tensor sums up; its bound follows."""
    convs = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.modules.conv._ConvTransposeNd)}
    taps = max(math.prod(m.kernel_size) / m.groups * m.in_channels for m in convs.values())
    taps_back = max(math.prod(m.kernel_size) / m.groups * m.out_channels for m in convs.values())
    terms = {"output": taps, "dx": taps_back}
    for name, parameter in model.named_parameters():
        of_weight = name.rpartition(".")[0] in convs and parameter.dim() > 1
        terms[name] = x.numel() / x.shape[1] if of_weight else dy.numel() / dy.shape[1]
    return terms
