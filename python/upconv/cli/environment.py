"""What a measurement was taken on: machine, versions, threads, commit. Used by demo, bench and doctor."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

PROBE = "1d n1 c1 o1 i1 k1 f32"  # any problem will do: explain() names the instruction set of all


def cpu_name() -> str:
    """The processor as it names itself."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def instruction_set() -> str:
    """The one that the engine chose at load, as explain() names it."""
    import upconv

    found = re.search(r"instruction set (\w+)", upconv.explain(PROBE))
    return found[1] if found else "unknown"


def commit(folder: Path) -> str:
    """Short commit of the checkout in `folder`, with '-dirty' when sources differ; '' outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", __file__)  # or a package installed inside someone else's checkout
        changed = git("status", "--porcelain", "-uno", "--", ".", ":!bench/results", ":!README.md")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def device_name(device: str) -> str:
    """ "cpu: its name" or "cuda: its name"."""
    return f"cuda: {torch.cuda.get_device_name(device)}" if device.startswith("cuda") else f"cpu: {cpu_name()}"


def environment(device: str = "cpu") -> dict[str, str | int]:
    """The facts a reader needs to judge a time, in the order to print them."""
    import upconv

    return {
        "device": device_name(device),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "instruction_set": instruction_set(),
        "upconv": upconv.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
