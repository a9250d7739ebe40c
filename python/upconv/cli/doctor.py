"""`upconv doctor`: what was found on this machine, and whether the engine computes what PyTorch computes."""

from __future__ import annotations

import argparse
import sys

STABLE_ABI_TARGET = "2.10"  # TORCH_TARGET_VERSION in bindings/torch/CMakeLists.txt; the wheel asks for the same


def add(commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say what was found: torch, the library, instruction set, threads, GPU",
        description="Say which torch, library, instruction set and threads are in use, and try each rank. "
        "Ends with 1 when something is broken.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The command; prints one line a finding."""
    try:
        import upconv
    except ImportError as error:
        print(f"upconv itself does not load: {error}", file=sys.stderr)
        return 1
    failures = dict(tried())
    bad = [rank for rank, wrong in failures.items() if wrong]
    findings = {
        **software(),
        **machine(),
        **engine(),
        **{k: f"WRONG: {v}" if v else "ok" for k, v in failures.items()},
    }
    width = max(map(len, findings))
    for name, value in findings.items():
        print(f"{name:<{width}}  {value}")
    print(f"\nupconv {upconv.__version__}: " + (f"broken: {', '.join(bad)}" if bad else "works"))
    return 1 if bad else 0


def software() -> dict[str, str]:
    import importlib.metadata
    import platform

    import torch

    import upconv

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f"missing (pip install {package})"

    return {
        "upconv": f"{upconv.__version__} in {upconv.__path__[0]}",
        "library": ", ".join(sorted(p for p in map(str, torch.ops.loaded_libraries) if "upconv" in p)) or "none loaded",
        "torch": f"{torch.__version__} in {torch.__path__[0]}",
        "stable ABI": f"built for LibTorch's stable ABI, target {STABLE_ABI_TARGET}: any torch from there on",
        "python": f"{platform.python_version()} at {sys.executable}",
        "rich, matplotlib": f"{version('rich')}, {version('matplotlib')} (demo and bench need them)",
    }


def machine() -> dict[str, str]:
    import torch

    from upconv.cli.environment import cpu_name, instruction_set, usable_cores

    return {
        "cpu": f"{cpu_name()}, {usable_cores()} cores usable",
        "instruction set": f"{instruction_set()} (chosen at load)",
        "threads": f"{torch.get_num_threads()} (torch.set_num_threads changes them for upconv too)",
    }


def engine() -> dict[str, str]:
    """The CUDA engine: driver, NVRTC, GPUs, kernel cache, and in the last line whether it can run."""
    import torch

    from upconv import _ops

    findings = dict(line.split("\t", 1) for line in _ops.engine_report().split("\n"))
    obstacle = findings["cuda engine"]
    if obstacle == "ok" and not torch.cuda.is_available():
        obstacle = "this torch has no CUDA" if torch.version.cuda is None else "torch sees no GPU"
    if obstacle == "ok":
        findings["cuda engine"] = "runs CUDA tensors"
    else:
        findings["cuda engine"] = f"cannot run here ({obstacle}); the CPU engine serves CPU tensors"
    return findings


def tried():
    """For each device and rank: '' when a small layer and its gradients equal PyTorch's, else what went wrong."""
    import torch

    devices = ["cpu"]
    if torch.cuda.is_available() and engine()["cuda engine"] == "runs CUDA tensors":
        devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    for device in devices:
        for rank in (1, 2, 3):
            yield f"{rank}d layer" + ("" if device == "cpu" else f", {device}"), wrong_with(rank, device)


def wrong_with(rank: int, device: str) -> str:
    """'' when it is right. Small integers: every sum is exact, so the two must agree to the bit."""
    import torch

    import upconv

    generator = torch.Generator().manual_seed(rank)
    x = torch.randint(-4, 5, (2, 4) + (5,) * rank, generator=generator).float().to(device)
    w = torch.randint(-4, 5, (4, 3) + (3,) * rank, generator=generator).float().to(device)
    results = []
    try:
        for source in (torch.nn.functional, upconv.functional):
            tensors = [x.clone().requires_grad_(), w.clone().requires_grad_()]
            y = getattr(source, f"conv_transpose{rank}d")(*tensors, stride=2, padding=1)
            results.append([y, *torch.autograd.grad(y.sum(), tensors)])
        same = all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if same else "the result differs from PyTorch's"
