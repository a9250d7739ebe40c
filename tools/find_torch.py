#!/usr/bin/env python3
"""Finds an installed torch without importing it: prints its folder and its version, one a line.

CMake calls it for the stable-ABI headers and setup_python.sh to see whether torch must be installed. It asks a
fresh interpreter, so that it also sees the environment around an isolated package build: pip gives such a build
an environment of its own through PYTHONPATH, which `python -E` ignores. UPCONV_TORCH_DIR names a torch folder outright.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

# Runs in the interpreter that is asked; the current folder is no place to look.
PROBE = """
import importlib.util, sys
sys.path = [p for p in sys.path if p]
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec and spec.origin else "")
"""


def torch_version(folder: str) -> str:
    try:
        with open(os.path.join(folder, "version.py"), encoding="utf-8") as file:
            match = re.search(r"^__version__ = ['\"]([^'\"]+)['\"]", file.read(), re.MULTILINE)
    except OSError:
        return ""
    return match.group(1) if match else ""


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:2])


def folder_of(python: str) -> str:
    try:
        done = subprocess.run([python, "-E", "-c", PROBE], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def candidates(python: str) -> list[str]:
    """Folders to try, best first: named outright, the interpreter's, the activated environment's."""
    if os.environ.get("UPCONV_TORCH_DIR"):
        return [os.environ["UPCONV_TORCH_DIR"]]
    folders = [folder_of(python)]
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(variable):
            folders.append(folder_of(os.path.join(os.environ[variable], "bin", "python")))
    return [folder for folder in folders if folder]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="the interpreter to ask")
    parser.add_argument("--minimum", default="2.10", help="least version that will do")
    arguments = parser.parse_args()

    seen = []
    for folder in candidates(arguments.python):
        version = torch_version(folder)
        if version and as_numbers(version) >= as_numbers(arguments.minimum):
            print(folder)
            print(version)
            return 0
        seen.append(f"{folder} holds {'torch ' + version if version else 'no torch'}")
    where = "; ".join(seen) if seen else f"{arguments.python} has none"
    print(f"no torch >= {arguments.minimum} found: {where}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
