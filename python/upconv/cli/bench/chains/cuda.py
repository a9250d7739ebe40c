"""`upconv bench --device cuda --chains`: KernelBench level 2 and the level-3 U-Net at their own sizes, whole models.

upconv.optimize beside PyTorch eager and, with --compile, torch.compile: forward, fp32, TF32 as PyTorch permits it,
batch norm in training mode under no_grad, inputs uniform in [0, 1), as KernelBench measures. Every result is compared
with float64. Rows go into the results file of the GPU. Compiling, by upconv and by torch.compile, is done ahead in
processes that share the disk caches.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

CHECK_SAMPLES = 2  # of the batch, where samples do not depend on each other
UNET = "L3/45"
#: Of the norm of the result, beside twice PyTorch's own error: TF32 in one layer, and what follows it.
BOUND = 1e-3


@dataclasses.dataclass
class Row:
    """One model and its inputs on the GPU."""

    name: str
    model: object
    inputs: tuple
    operations: float

    @property
    def number(self) -> int | None:
        return None if self.name == UNET else int(self.name.removeprefix("L2/"))


def names() -> list[str]:
    from upconv.cli.bench.chains.models import CHAINS

    return [*(f"L2/{n}" for n in CHAINS), UNET]


def make(name: str, device: str) -> Row:
    import torch

    from upconv.cli.bench.chains.models import CHAINS, UNet, shapes

    torch.manual_seed(int(name.split("/")[1]))
    if name == UNET:
        model, sizes = UNet(64, 4, 4, 8), [(8, 8, 64, 512)]
    else:
        number = int(name.removeprefix("L2/"))
        model, sizes = CHAINS[number](), shapes(number, "full")
    model = model.to(device).train()
    generator = torch.Generator(device).manual_seed(1)
    inputs = tuple(torch.rand(s, device=device, generator=generator) for s in sizes)
    return Row(name, model, inputs, operations_of(model, inputs))


def operations_of(model, inputs) -> float:
    """Multiply-adds of all convolutions, times two, from the sizes they meet."""
    import torch
    from torch import nn

    total, handles = [0.0], []

    def count(module, args, result):
        per = module.weight[0].numel() if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d) else None
        places = args[0].numel() // args[0].shape[1] if per is not None else result.numel() // result.shape[1]
        total[0] += 2.0 * places * (args[0].shape[1] * per if per is not None else module.weight.numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            handles.append(module.register_forward_hook(count))
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return total[0]


def run(args: argparse.Namespace) -> int:
    """The command; 0, or 1 when a row is wrong or failed."""
    import torch

    from upconv.cli import UsageError
    from upconv.cli.bench import results
    from upconv.cli.bench.cuda import describe, file_name
    from upconv.cli.bench.cuda.measure import CEILINGS
    from upconv.cli.bench.cuda.timer import Timer

    wanted = names()
    if args.only:
        if unknown := [w for w in args.only if w not in wanted]:
            raise UsageError(f"--only: {', '.join(unknown)} is no chain; there are {', '.join(wanted)}")
        wanted = [name for name in wanted if name in args.only]
    if args.list:
        print("\n".join(wanted))
        return 0
    if not torch.cuda.is_available():
        raise UsageError("--device cuda: torch.cuda.is_available() is False")
    end = time.monotonic() + 60 * args.minutes
    device = args.device if ":" in args.device else "cuda:0"
    torch.cuda.set_device(device)
    output = args.output or Path("bench/results") / f"{file_name(torch.cuda.get_device_name(device))}.json"
    meta = describe(args, CEILINGS)
    began = time.monotonic()
    warm(wanted, device, args.compile)
    print(f"{len(wanted)} rows, compiled ahead in {time.monotonic() - began:.0f} s", flush=True)
    held = results.read(output) if output.exists() else {}
    order = list(dict.fromkeys([*(r["id"] for r in held.get("rows", [])), *wanted]))
    timer, rows, failed = Timer(torch.device(device)), [], []
    for name in wanted:
        if time.monotonic() > end:
            failed.append(f"{name} and what follows was not reached in {args.minutes:g} minutes")
            break
        try:
            row = measure(make(name, device), timer, args, CEILINGS)
        except Exception as error:  # one row that breaks must not cost the others
            failed.append(f"{name}: {type(error).__name__}: {error}")
            if "CUDA error" in str(error):
                break
            continue
        row["commit"], row["date"] = meta["commit"], meta["date"]
        rows.append(row)
        print(line(row), flush=True)
        torch.cuda.empty_cache()
    if rows:
        results.write(results.merge(held, meta, rows, order), output)
    summarise(rows)
    for words in failed:
        print(f"failed {words}")
    wrong = [r["id"] for r in rows if not r["rel_err"] <= r["rel_err_bound"]]
    if wrong:
        print(f"wrong {', '.join(wrong)}")
    return int(bool(wrong or failed))


def warm(wanted: list[str], device: str, compiling: bool) -> None:
    """Runs every row once in processes that share the disk caches."""
    from upconv.cli.bench.cuda.warm import environment

    workers = max(1, min(len(wanted), len(os.sched_getaffinity(0)) // 2, 8))
    command = [sys.executable, "-m", "upconv.cli.bench.chains.cuda", device, str(int(compiling))]
    running = [subprocess.Popen([*command, *wanted[i::workers]], env=environment()) for i in range(workers)]
    for process in running:
        process.wait()


def measure(row: Row, timer, args: argparse.Namespace, ceilings: dict) -> dict:
    import torch

    import upconv
    from upconv.cli.bench.cuda.timer import Contestant
    from upconv.cli.bench.measure import figure

    fast = upconv.optimize(row.model, row.inputs)
    compiled = torch.compile(copy.deepcopy(row.model)) if args.compile else None
    with torch.no_grad():
        error, eager_error, largest = errors(row, fast)
        calls = {
            Contestant("upconv"): lambda: fast(*row.inputs),
            Contestant("torch_eager"): lambda: row.model(*row.inputs),
        }
        if compiled is not None:
            calls[Contestant("torch_compile")] = lambda: compiled(*row.inputs)
        calls = {c: inference(call) for c, call in calls.items()}
        ms = timer.interleaved(calls, args.seconds or (0.1 if args.quick else 0.4))
        result = fast(*row.inputs)
    tensors = [*row.inputs, *row.model.parameters(), result]
    moved = sum(t.numel() * t.element_size() for t in tensors)
    by_bytes = moved / ceilings["bytes_per_second"] * 1e3
    by_operations = row.operations / ceilings["tf32"] * 1e3
    return {
        "id": row.name,
        "problem": problem_of(row),
        "pass": "forward",
        "dtype": "float32",
        "precision": "tf32",
        "asked": "torch",
        "layout": "nchw",
        "threads": 1,
        "upconv_ms": figure(ms.pop("upconv")),
        "peers_ms": {k: figure(v) for k, v in ms.items()},
        "floor_ms": figure(max(by_bytes, by_operations)),
        "floor_by": "bytes" if by_bytes > by_operations else "operations",
        "max_abs_err": figure(largest),
        "rel_err": figure(error),
        "rel_err_bound": figure(max(BOUND, 2 * eager_error)),
        "torch_rel_err": figure(eager_error),
        "kernel": kernels_of(row, fast),
    }


def inference(call):
    """A contestant runs in a thread of its own, where gradients are on unless said otherwise."""
    import torch

    def run():
        with torch.no_grad():
            return call()

    return run


def errors(row: Row, fast) -> tuple[float, float, float]:
    """Norm of the error over the norm of the result, ours and PyTorch's, and our largest error, against float64."""
    import torch
    from torch import nn

    alone = not any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d) for m in row.model.modules())
    part = slice(0, CHECK_SAMPLES if alone else None)
    got = fast(*row.inputs)[part].double()
    eager = row.model(*row.inputs)[part].double()
    exact = copy.deepcopy(row.model).double()(*(x[part].double() for x in row.inputs))
    size = exact.norm()
    found = (
        ((got - exact).norm() / size).item(),
        ((eager - exact).norm() / size).item(),
        (got - exact).abs().max().item(),
    )
    torch.cuda.empty_cache()
    return found


def problem_of(row: Row) -> str:
    if row.number is None:
        return "U-Net of 4 scales, 64 to 1024 channels, n8 c8 i64x512"
    conv = row.model.conv
    sizes = "x".join(map(str, row.inputs[0].shape[2:]))
    return f"n{row.inputs[0].shape[0]} i{sizes} {conv}"


def kernels_of(row: Row, fast) -> str:
    """The layer's kernel and the closing kernels, as the plan names them."""
    import torch

    from upconv import _fused_chain

    said = []
    before = _fused_chain._operator

    def asked(x, w, b, operands, geometry, numbers):
        said.append(explained(x, w, b, geometry, numbers))
        return before(x, w, b, operands, geometry, numbers)

    _fused_chain._operator = asked
    try:
        with torch.no_grad():
            fast(*row.inputs)
    finally:
        _fused_chain._operator = before
    return "; ".join(said) or "layers alone"


def explained(x, w, b, geometry, numbers) -> str:
    import torch

    rank = w.dim() - 2
    size = lambda values: "x".join(str(v) for v in values)  # noqa: E731
    stride, padding, output_padding, dilation = (geometry[i * rank : (i + 1) * rank] for i in range(4))
    problem = (
        f"{rank}d n{x.shape[0]} c{x.shape[1]} o{w.shape[1] * geometry[-2]} i{size(x.shape[2:])} k{size(w.shape[2:])} "
        f"s{size(stride)} p{size(padding)} op{size(output_padding)} d{size(dilation)} g{geometry[-2]}"
        + (" b" if b is not None else "")
        + (" tf32" if geometry[-1] in (1, 3) and geometry[-2] == 1 else "")
    )
    # A model of the GPU: explaining the one that is there would compile the backward passes too.
    major, minor = torch.cuda.get_device_capability(x.device) if x.is_cuda else (9, 0)
    device = "sm_89" if (major, minor) == (8, 9) else f"sm_{10 * major}"
    text = torch.ops.upconv._explain_chain(problem, device, list(numbers))
    layer = next((t.split("forward: ")[1].split(",")[0] for t in text.splitlines() if "forward: " in t), "?")
    closing = [t.strip().split(" (")[0] for t in text.splitlines() if t.startswith("  ") and " MB moved, " in t]
    return ", ".join([layer, *closing])


def line(row: dict) -> str:
    peers = "".join(
        f"  {k.removeprefix('torch_')} {v:.3f} ({v / row['upconv_ms']:.1f}x)" for k, v in row["peers_ms"].items()
    )
    return (
        f"{row['id']:<7} upconv {row['upconv_ms']:.3f} ms, floor {row['floor_ms']:.3f}{peers}  "
        f"error {row['rel_err']:.1e} (torch {row['torch_rel_err']:.1e})  {row['kernel']}"
    )


def summarise(rows: list[dict]) -> None:
    import statistics

    for peer in ("torch_eager", "torch_compile"):
        ratios = {r["id"]: r["peers_ms"][peer] / r["upconv_ms"] for r in rows if peer in r["peers_ms"]}
        if ratios:
            slower = [name for name, value in ratios.items() if value < 1]
            mean = statistics.geometric_mean(ratios.values())
            print(
                f"{len(ratios)} rows beside {peer}: geometric mean {mean:.2f}x, slower: {', '.join(slower) or 'none'}"
            )


def main() -> None:
    """One process of `warm`: compiles what the rows named on the command line need, and says nothing."""
    import torch

    import upconv

    device, compiling, *wanted = sys.argv[1:]
    torch.cuda.set_device(device)
    for name in wanted:
        try:
            row = make(name, device)
            fast = upconv.optimize(row.model, row.inputs)
            with torch.no_grad():
                fast(*row.inputs)
                if int(compiling):
                    torch.compile(row.model)(*row.inputs)
            torch.cuda.synchronize()
        except Exception as error:  # it fails again, and is reported, when it is measured
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        del row
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
