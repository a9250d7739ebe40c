#!/usr/bin/env python3
"""Exports the 48 problems of KernelBench that this library is for, builds the files on this machine with load_inline,
judges each as `upconv check` does and times it beside PyTorch. Needs an NVIDIA GPU and a CUDA toolkit.

    tools/kernelbench.py [--only L1/57 L2/19 ...] [--seeds N] [--backward] [--seconds S] [--minutes M]

Writes bench/results/kernelbench-h200.json (another GPU's name on another GPU) and prints its table. Files are built in
parallel first; then one process runs them one after the other, and a file that takes the process down is a failure of
its own. What the minutes do not reach keeps the row that the results had.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out" / "kernelbench"
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "tests" / "export")]


def names() -> list[str]:
    from upconv.cli.bench.chains.models import CHAINS
    from upconv.cli.shapes import read_shapes

    level_1 = [row.id for row in read_shapes(ROOT / "tests/shapes/kernelbench-l1.txt")]
    return [*level_1, *(f"L2/{number}" for number in CHAINS), "L3/45"]


def paths(name: str) -> tuple[Path, Path]:
    stem = name.replace("/", "_")
    return OUT / f"{stem}.py", OUT / f"{stem}_new.py"


def prepare(name: str) -> float:
    """Writes the problem and its export, and builds it: the seconds of the build."""
    import problems

    from upconv.cli.check.pair import _load
    from upconv.export import export

    problem, model = paths(name)
    problem.write_text(problems.written(name))
    model.write_text(export(problem, keep_torch=name.startswith("L3")))
    os.environ["TORCH_EXTENSIONS_DIR"] = str(OUT / "built")
    import torch

    start = time.monotonic()
    _load(model)._build(torch.cuda.get_device_capability())
    return time.monotonic() - start


def reason(error: BaseException) -> str:
    """What the compiler says first, without the folders of this machine; all it says is in the folder of the build."""
    lines = [line for line in str(error).splitlines() if "error" in line.lower()] or [type(error).__name__]
    return re.sub(r"(/[^\s/:()]+)+/", "", next((s for s in lines if "error:" in s), lines[0]))[:200]


def judge(name: str, args: argparse.Namespace) -> dict:
    from upconv.cli.check import read
    from upconv.cli.check.judge import Judge
    from upconv.cli.check.race import race
    from upconv.cli.check.table import Table

    problem, model = paths(name)
    table = Table()
    read(model, name.startswith("L3"), table)
    judge = Judge(problem, model, table, seeds=args.seeds, keep_torch=name.startswith("L3"))
    row = {"id": name}
    if not table.failed:
        judge.forward()
        if args.backward:
            judge.backward()
        row["ms"] = race(judge, args.backward, table, seconds=args.seconds, compiled=args.compile)
    row["tests"] = len(table.rows)
    row["failed"] = [f"{test}: {what}" for good, test, what in table.rows if not good]
    return row


def run_some(args: argparse.Namespace) -> int:
    """The inner process: a line of JSON on stdout for each name it is given."""
    os.environ["TORCH_EXTENSIONS_DIR"] = str(OUT / "built")
    import torch

    for name in args.run:
        print(json.dumps({"begun": name}), flush=True)
        try:
            row = judge(name, args)
        except Exception as error:  # a verdict on the file, like any other
            row = {"id": name, "failed": [f"{type(error).__name__}: {str(error)[:300]}"]}
        print(json.dumps(row), flush=True)
        if any("CUDA error" in reason for reason in row["failed"]):
            return 1  # the context is lost: another process goes on
        torch.cuda.empty_cache()
    return 0


def run_all(wanted: list[str], args: argparse.Namespace, until: float):
    """Rows, as they come."""
    left = list(wanted)
    while left and time.monotonic() < until:
        command = [sys.executable, __file__, "--seeds", str(args.seeds), "--seconds", str(args.seconds),
                   *(["--backward"] if args.backward else []), *(["--compile"] if args.compile else []),
                   "--run", *left]  # fmt: skip
        begun = None
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if not line.startswith("{"):
                    continue
                row = json.loads(line)
                begun = row.get("begun", begun)
                if "id" in row:
                    left.remove(row["id"])
                    begun = None
                    yield row
                if time.monotonic() > until:
                    process.kill()
        if begun is not None and time.monotonic() < until:
            left.remove(begun)
            yield {"id": begun, "failed": [f"the process ended with {process.returncode}"]}


def show(row: dict) -> str:
    if row["failed"]:
        return f"{row['id']:<7} FAILED  {row['failed'][0][:150]}"
    parts = [f"{row['id']:<7} {row['tests']} tests well, built in {row['build_s']:.0f} s"]
    for what, taken in row["ms"].items():
        mine = taken["ModelNew"]
        others = ", ".join(f"{k} {v:.3f}" for k, v in taken.items() if k != "ModelNew")
        parts.append(f"{what} {mine:.3f} ms ({others}), {taken['eager'] / mine:.2f}x eager")
    return "; ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile as a further peer (slow)")
    parser.add_argument("--seconds", type=float, default=20.0, help="a file's timing takes at most")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        return run_some(args)
    import torch

    if not torch.cuda.is_available():
        parser.error("needs an NVIDIA GPU")
    until = time.monotonic() + args.minutes * 60
    wanted = [name for name in names() if not args.only or name in args.only]
    OUT.mkdir(parents=True, exist_ok=True)
    gpu = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-").removeprefix("nvidia-")
    file = ROOT / f"bench/results/kernelbench-{gpu}.json"
    known = {row["id"]: row for row in json.loads(file.read_text())["rows"]} if file.exists() else {}
    built, order = {}, []
    # Not forked: this process has used CUDA.
    spawn = multiprocessing.get_context("spawn")
    # A file is built by two compilers at once.
    with ProcessPoolExecutor(max(1, len(os.sched_getaffinity(0)) // 2), mp_context=spawn) as pool:
        waiting = {pool.submit(prepare, name): name for name in wanted}
        for future in as_completed(waiting):
            name = waiting[future]
            if future.exception():
                known[name] = {"id": name, "failed": [f"not built: {reason(future.exception())}"]}
                print(show(known[name]), flush=True)
            else:
                built[name] = future.result()
                order.append(name)
                print(f"{len(order)} of {len(wanted)} built: {name} in {built[name]:.0f} s", flush=True)
    for row in run_all([name for name in wanted if name in built], args, until):
        row["build_s"] = round(built[row["id"]], 1)
        known[row["id"]] = row
        print(show(row), flush=True)
        rows = [known[name] for name in names() if name in known]
        meta = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
                "seeds": args.seeds, "how": "tools/kernelbench.py"}  # fmt: skip
        file.write_text(json.dumps({"meta": meta, "rows": rows}, indent=1) + "\n")
    rows = [known[name] for name in names() if name in known]
    from upconv.cli.bench.readme import exported_in_words

    print(exported_in_words(rows))
    return int(len(rows) < len(names()) or any(row["failed"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
