#!/usr/bin/env python3
"""Writes tests/shapes/chains.txt: the 30 chains of KernelBench level 2 at their own sizes, as the operator takes them.

What upconv.optimize makes of each model is run on meta tensors, and the operator's arguments are written down: the
problem, the numbers, the operands' sizes. C++ tests that compile every kernel of these chains read it; a test in
tests/fusion says when it is out of date. --check compares instead of writing.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import upconv
from upconv import _fused_chain
from upconv._fused_chain import FusedChain
from upconv.cli.bench.chains.models import CHAINS, shapes

FILE = Path(__file__).resolve().parents[1] / "tests" / "shapes" / "chains.txt"
HEAD = """# KernelBench level 2 as operator calls: id | problem | numbers of the chain (bindings/torch/steps.hpp)
# | sizes of its operands over (n, channel, d, h, w). Written by tools/chain_table.py.
"""


def main() -> int:
    text = HEAD + "".join(line + "\n" for number in CHAINS for line in lines(number))
    if "--check" in sys.argv[1:]:
        return int(FILE.read_text() != text)
    FILE.write_text(text)
    return 0


def lines(number: int) -> list[str]:
    """The operator calls of one chain, in training mode."""
    model = upconv.optimize(CHAINS[number](), tuple(torch.randn(s) for s in shapes(number, "test"))).to("meta")
    seen = []

    def operator(x, w, b, operands, geometry, numbers):
        seen.append(line(f"L2/{number}", x, w, b, operands, geometry, numbers))
        rank = w.dim() - 2
        split = [geometry[i * rank : (i + 1) * rank] for i in range(4)]
        shape = _fused_chain._shapes.output_shape(x, w, b, *split, geometry[-2])
        return x.new_empty(_fused_chain.shape_after(list(shape), numbers)[0]), None

    before = _fused_chain._operator, _fused_chain._update_running, FusedChain._in_one
    _fused_chain._operator, _fused_chain._update_running = operator, lambda *_: None
    FusedChain._in_one = lambda *_: True
    try:
        with torch.no_grad():
            model.train()(*(torch.empty(s, device="meta") for s in shapes(number, "full")))
    finally:
        _fused_chain._operator, _fused_chain._update_running, FusedChain._in_one = before
    return seen


def line(name, x, w, b, operands, geometry, numbers) -> str:
    rank = w.dim() - 2
    size = lambda values: "x".join(str(v) for v in values)  # noqa: E731
    stride, padding, output_padding, dilation = (geometry[i * rank : (i + 1) * rank] for i in range(4))
    problem = (
        f"{rank}d n{x.shape[0]} c{x.shape[1]} o{w.shape[1] * geometry[-2]} i{size(x.shape[2:])} k{size(w.shape[2:])} "
        f"s{size(stride)} p{size(padding)} op{size(output_padding)} d{size(dilation)}" + (" b" if b is not None else "")
    )
    given = []
    for t in operands:
        five = [1] * 5 if t.dim() == 0 else [1, t.shape[0], 1, 1, 1] if t.dim() == 1 else None
        given.append(size(five or [*t.shape[:2], *[1] * (3 - rank), *t.shape[2:]]))
    return f"{name} | {problem} | {' '.join(f'{v:g}' for v in numbers)} | {' '.join(given)}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
