"""Compiles the kernels of many passes ahead, in many processes that share the disk cache.

`upconv bench --device cuda` calls compile_all(); each process runs this file as a module and reads passes from its
standard input, one a line: its name, a tab, the problem.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable


def compile_all(work: Iterable[tuple[str, str]], device: str, tick: Callable[[], None] = lambda: None) -> None:
    """Passes of problems, as (problem, pass). One that fails here fails again, and is reported, when it is measured."""
    lines = [f"{direction}\t{problem}" for problem, direction in dict.fromkeys(work)]
    workers = min(len(lines), max(1, len(os.sched_getaffinity(0))))
    command = [sys.executable, "-m", "upconv.cli.bench.cuda.warm", device]
    running = []
    for i in range(workers):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
        process.stdin.write("\n".join(lines[i::workers]))
        process.stdin.close()
        running.append(process)
    for process in running:
        for _ in process.stdout:
            tick()
        process.wait()


def environment() -> dict[str, str]:
    """Ours, with the package where this process found it."""
    import upconv

    folder = os.path.dirname(os.path.dirname(upconv.__file__))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))}


def main() -> None:
    from upconv import _ops

    device = sys.argv[1]
    for line in sys.stdin:
        direction, problem = line.rstrip("\n").split("\t")
        try:
            _ops.prepare(problem, direction, device, -1, [])
        except RuntimeError as error:
            print(f"failed {error}".replace("\n", " "), flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    main()
