"""How torch computes transposed convolutions in fp32 on this machine's GPU where it permits TF32: exactly, or with both
operands rounded, and how ties are rounded. What `precision="torch"` stands for (bindings/torch/arguments.cpp) follows
it.

    python tools/torch_precision.py                      # grouped layers, and one without groups for comparison
    python tools/torch_precision.py "2d n8 c64 o64 i64x64 k3 g8 f32"

Needs torch with a GPU, and nothing of upconv's library. Each line ends with ||torch - candidate|| / ||exact|| for every
candidate; the least is named.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python" / "upconv" / "cli"))
from problem import Problem, parse_problem

SAMPLES = 2  # of the batch that are compared; torch computes all


def rounded(t: torch.Tensor, how: str) -> torch.Tensor:
    bits = t.view(torch.int32)
    add = {"to even": 0xFFF + (bits >> 13 & 1), "ties away": 0x1000, "truncated": 0}[how]
    return (bits + add & ~0x1FFF).view(torch.float32)


def convolve(p: Problem, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    function = getattr(torch.nn.functional, f"conv_transpose{p.rank}d")
    return function(x, w, None, p.stride, p.padding, p.output_padding, p.groups, p.dilation)


def permit() -> None:
    conv = getattr(torch.backends.cudnn, "conv", None)
    if getattr(conv, "fp32_precision", None) is None:
        torch.backends.cudnn.allow_tf32 = True
    else:
        conv.fp32_precision = "tf32"


def report(p: Problem) -> str:
    torch.manual_seed(1)
    x = torch.rand(p.x_shape, device="cuda")
    w = (2 * torch.rand(p.w_shape, device="cuda") - 1) * (p.out_channels / p.groups) ** -0.5
    got = convolve(p, x, w)[:SAMPLES].double()
    x = x[:SAMPLES]
    exact = convolve(p, x.double(), w.double())
    distance = {"exact": (got - exact).norm() / exact.norm()}
    for how in ("to even", "ties away", "truncated"):
        candidate = convolve(p, rounded(x, how).double(), rounded(w, how).double())
        distance[f"TF32 {how}"] = (got - candidate).norm() / exact.norm()
    found = min(distance, key=distance.get)
    return f"{found:15s} {p}   " + ", ".join(f"{k} {v.item():.1e}" for k, v in distance.items())


def grid():
    yield "2d n128 c64 o64 i256x256 k3 g8 b f32"
    yield "2d n128 c64 o64 i256x256 k3 b f32"
    yield "3d n8 c32 o32 i12x24x48 k3x5x7 s2 p1x2x3 op1 g4 f32"  # L1/72
    yield "2d n16 c32 o64 i128x256 k3x5 s2x3 p1x2 d2x1 g4 f32"  # L1/75
    for channels, groups, batch in itertools.product((1, 2, 4, 8, 16, 32), (2, 8), (2, 64)):
        for rest in ("k3", "k3 p1", "k4 s2 p1", "k2 s2", "k3 d2", "k1", "k5 p2"):
            yield f"2d n{batch} c{channels * groups} o{channels * groups} i64x64 {rest} g{groups} f32"
    for channels, groups in itertools.product((4, 8, 32), (2, 8)):
        for rest in ("k3", "k16 s8 p4", "k3 d2", "k4 s2 p1"):
            yield f"1d n16 c{channels * groups} o{channels * groups} i4096 {rest} g{groups} f32"
        for rest in ("k3", "k3 p1", "k2 s2", "k3 s2 p1 op1", "k3 d2"):
            yield f"3d n2 c{channels * groups} o{channels * groups} i16x32x32 {rest} g{groups} f32"


def main(lines: list[str]) -> None:
    permit()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    for line in lines or grid():
        print(report(parse_problem(line)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
