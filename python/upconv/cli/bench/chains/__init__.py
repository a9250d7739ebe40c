# `upconv bench --chains`: KernelBench level 2 on the CPU, whole chains, upconv.optimize beside PyTorch eager and, with
# --compile, torch.compile. Sizes are scaled (models.py); batch norm is in training mode, as KernelBench measures it.
"""Measures the chains of models.py, prints a table, writes JSON where --output asks for it."""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
from pathlib import Path

#: Of the largest value, in fp32 against float64.
WORST_ERROR = 1e-4


def run(args: argparse.Namespace) -> int:
    """The command; 0, or 1 when a chain is wrong."""
    import torch

    from upconv.cli import UsageError
    from upconv.cli.bench.chains.models import CHAINS

    wanted = list(CHAINS)
    if args.only:
        names = {f"L2/{n}": n for n in CHAINS}
        if unknown := [w for w in args.only if w not in names]:
            raise UsageError(f"--only: {', '.join(unknown)} is no chain; there are {', '.join(names)}")
        wanted = [names[w] for w in args.only]
    if args.list:
        from upconv.cli.bench.chains.models import shapes

        for number in wanted:
            print(f"L2/{number:<5}{shapes(number)}")
        return 0
    threads = torch.get_num_threads()
    torch.set_num_threads(max(args.threads))
    try:
        rows = [row for number in wanted for row in [measure(number, args)] if print_row(row)]
    finally:
        torch.set_num_threads(threads)
    summarise(rows)
    if args.output:
        about = {"torch": torch.__version__, "threads": max(args.threads), "rows": rows}
        Path(args.output).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return int(any(row["error"] > WORST_ERROR for row in rows))


def measure(number: int, args: argparse.Namespace) -> dict:
    """One chain: medians in milliseconds, the error against float64, what was fused."""
    import torch

    import upconv
    from upconv.cli.bench.chains.models import CHAINS, shapes
    from upconv.cli.timing import interleaved

    torch.manual_seed(number)
    inputs = tuple(torch.randn(s) for s in shapes(number))
    model = CHAINS[number]().train()
    wide = copy.deepcopy(model).double()
    fast = upconv.optimize(model, inputs)
    with torch.no_grad():
        want = wide(*(x.double() for x in inputs))
        error = ((fast(*inputs).double() - want).abs().max() / want.abs().max()).item()
        calls = {"eager": lambda: model(*inputs), "upconv": lambda: fast(*inputs)}
        if args.compile:
            compiled = torch.compile(model)
            calls["compile"] = lambda: compiled(*inputs)
        times = interleaved(calls, args.seconds or (0.1 if args.quick else 0.5))
    (row,) = fast.upconv_report.rows
    return {"id": f"L2/{number}", "shapes": [list(x.shape) for x in inputs], "ms": times, "error": error,
            "action": row.action, "detail": row.detail}  # fmt: skip


def print_row(row: dict) -> bool:
    ms = row["ms"]
    others = "".join(f"  {name} {ms[name]:8.2f} ms, {ms[name] / ms['upconv']:5.2f}x" for name in ms if name != "upconv")
    print(f"{row['id']:<7} upconv {ms['upconv']:8.2f} ms{others}  error {row['error']:.1e}  {row['action']}")
    sys.stdout.flush()
    return True


def summarise(rows: list[dict]) -> None:
    for name in ("eager", "compile"):
        ratios = [row["ms"][name] / row["ms"]["upconv"] for row in rows if name in row["ms"]]
        if ratios:
            mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
            slower = [row["id"] for row, ratio in zip(rows, ratios, strict=True) if ratio < 1]
            print(
                f"{len(ratios)} chains beside {name}: geometric mean {mean:.2f}x, slower: {', '.join(slower) or 'none'}"
            )
