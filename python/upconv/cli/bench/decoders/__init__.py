# `upconv bench --decoders`: five whole models with transposed convolutions (models.py), upconv.optimize beside PyTorch
# eager and, with --compile, torch.compile in its modes. On the CPU smaller inputs, on CUDA the published ones, there
# with each way replayed as a CUDA graph too.
"""Measures whole models, prints a table, writes JSON where --output asks for it."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

#: Of the largest value, beside four times PyTorch's own error in the same precision.
WORST_ERROR = 1e-4
PASSES = ("forward", "step")


def run(args: argparse.Namespace) -> int:
    """The command; 0, or 1 when a model is wrong or failed."""
    import torch

    from upconv.cli import UsageError
    from upconv.cli.bench.decoders.models import DECODERS

    if unknown := [w for w in args.only or () if w not in DECODERS]:
        raise UsageError(f"--only: {', '.join(unknown)} is no decoder; there are {', '.join(DECODERS)}")
    wanted = [name for name in DECODERS if not args.only or name in args.only]
    size = "bench" if args.device == "cpu" else "full"
    if args.list:
        for name in wanted:
            print(f"{name:<9}{DECODERS[name].title:<36}{DECODERS[name].shapes(size)}")
        return 0
    if args.device != "cpu" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch.cuda.is_available() is False")
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    dtypes = args.dtype or (("f32",) if args.device == "cpu" else tuple(types))
    if unknown := [d for d in dtypes if d not in types]:
        raise UsageError(f"--dtype: {', '.join(unknown)} is none of {', '.join(types)}")
    rows, failed, threads = [], [], torch.get_num_threads()
    torch.set_num_threads(max(args.threads))
    try:
        for name, dtype, what in [(n, d, p) for n in wanted for d in dtypes for p in PASSES]:
            if what == "step" and not DECODERS[name].trained:
                continue
            try:
                rows.append(measure(name, size, types[dtype], what, args))
            except Exception as error:  # one model that breaks must not cost the others
                failed.append(f"{name} {what} {dtype}: {type(error).__name__}: {error}")
                continue
            print(line(rows[-1]), flush=True)
            if args.output:
                write(rows, args)
    finally:
        torch.set_num_threads(threads)
    summarise(rows)
    for words in failed:
        print(f"failed {words}", file=sys.stderr)
    wrong = [f"{r['id']} {r['dtype']}" for r in rows if not r["error"] <= r["error_bound"]]
    if wrong:
        print(f"wrong {', '.join(wrong)}", file=sys.stderr)
    return int(bool(wrong or failed))


def write(rows: list[dict], args: argparse.Namespace) -> None:
    import torch

    from upconv.cli.environment import commit, environment

    facts = environment()
    device = facts["device"] if args.device == "cpu" else torch.cuda.get_device_name(args.device)
    about = {"device": device, "torch": torch.__version__, "threads": max(args.threads), "date": facts["date"],
             "commit": commit(Path(__file__).resolve().parent) or "unknown", "rows": rows}  # fmt: skip
    Path(args.output).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def measure(name: str, size: str, dtype, what: str, args: argparse.Namespace) -> dict:
    """One model: medians in milliseconds, its error and PyTorch's against float64, what was fused."""
    import torch

    import upconv
    from upconv.cli.bench.decoders.models import DECODERS
    from upconv.cli.timing import interleaved, nothing

    model, inputs = DECODERS[name].build(size)
    model, inputs = model.to(args.device, dtype), moved(inputs, args.device, dtype)
    model.train(what == "step")
    fast = upconv.optimize(copy.deepcopy(model), inputs)
    error, bound = errors(model, fast, inputs)
    ways = {"eager": model, "upconv": fast}
    if args.compile:
        modes = ("default",) if args.device == "cpu" else ("default", "max-autotune-no-cudagraphs", "reduce-overhead")
        for mode in modes:
            ways[f"compile {mode}"] = torch.compile(copy.deepcopy(model), mode=mode)
            ways[f"upconv, compile {mode}"] = torch.compile(copy.deepcopy(fast), mode=mode)
    calls = {label: (step if what == "step" else forward)(way, inputs) for label, way in ways.items()}
    wait = nothing if args.device == "cpu" else torch.cuda.synchronize
    if args.device != "cpu" and what == "forward":
        calls |= {f"{k}, graph": graphed(call) for k, call in calls.items() if "reduce-overhead" not in k}
    ms = interleaved(calls, args.seconds or (0.3 if args.quick else 2.0), wait=wait)
    rows = fast.upconv_report.rows
    return {"id": name, "pass": what, "dtype": str(dtype).removeprefix("torch."), "ms": ms, "error": error,
            "error_bound": bound, "fused": sum(r.action == "fused" for r in rows), "layers": len(rows)}  # fmt: skip


def moved(inputs, device, dtype):
    if isinstance(inputs, tuple | list):
        return type(inputs)(moved(x, device, dtype) for x in inputs)
    return inputs.to(device, dtype)


def errors(model, fast, inputs) -> tuple[float, float]:
    """Ours, and what it may be, of the largest value: as the models are, in their mode."""
    import torch

    with torch.no_grad():
        wide = copy.deepcopy(model).double()(*moved(inputs, inputs_device(inputs), torch.float64))
        own, eager = copy.deepcopy(fast)(*inputs), copy.deepcopy(model)(*inputs)
        largest = wide.abs().max()
        ours, theirs = (((y.double() - wide).abs().max() / largest).item() for y in (own, eager))
    return ours, max(WORST_ERROR, 4 * theirs)


def inputs_device(inputs):
    return inputs_device(inputs[0]) if isinstance(inputs, tuple | list) else inputs.device


def forward(model, inputs):
    import torch

    def call():
        with torch.no_grad():
            return model(*inputs)

    return call


def step(model, inputs):
    """Forward, backward and SGD, with a learning rate that changes nothing from call to call."""
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    def call():
        optimizer.zero_grad(set_to_none=True)
        model(*inputs).float().square().mean().backward()
        optimizer.step()

    return call


def graphed(call):
    """The replay of a call as a CUDA graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def line(row: dict) -> str:
    ms = row["ms"]
    others = "".join(f"  {name} {ms[name]:.2f} ({ms[name] / ms['upconv']:.2f}x)" for name in ms if name != "upconv")
    return (
        f"{row['id']:<8} {row['pass']:<8}{row['dtype']:<9} upconv {ms['upconv']:.2f} ms{others}  "
        f"error {row['error']:.1e}  {row['fused']} of {row['layers']} layers fused"
    )


def summarise(rows: list[dict]) -> None:
    import statistics

    for what in PASSES:
        for graph in ("", ", graph"):
            ratios = {r["id"]: best(r, graph, others=True) / best(r, graph, others=False)
                      for r in rows if r["pass"] == what and f"upconv{graph}" in r["ms"]}  # fmt: skip
            if ratios:
                mean, slower = statistics.geometric_mean(ratios.values()), [n for n, r in ratios.items() if r < 1]
                print(f"{what}{graph}: the best without upconv over the best with it, geometric mean {mean:.2f}x, "
                      f"slower: {', '.join(slower) or 'none'}")  # fmt: skip


def best(row: dict, graph: str, others: bool) -> float:
    """The fastest way with, or without, upconv; graphs against graphs, torch.compile's own among them."""
    own = lambda name: name.endswith(", graph") or "reduce-overhead" in name  # noqa: E731
    return min(ms for name, ms in row["ms"].items() if name.startswith("upconv") != others and own(name) == bool(graph))
