#!/usr/bin/env python3
"""`make gpu-test`: builds with this machine's own tools, runs everything that needs a GPU, writes evidence.json.

Needs a GPU, an interpreter with torch >= 2.10 and pytest, a C++20 compiler; no network. Three phases, each with
progress: the tests that may share the GPU, in parallel; those that measure and want it alone; compute-sanitizer over
small problems. The table is printed last. Most of the time goes into compiling kernels; whatever happens it ends within
8 minutes. The fuzzer draws until its time is over: how many problems it drew is part of the evidence.
A run that was cut off or interrupted goes on with --resume, as long as the kernels are the same.

    make gpu-test                        # everything
    make gpu-test ARGS="-k level1"       # some tests; writes no evidence
    make gpu-test ARGS="--only sanitizer"
    make gpu-test ARGS=--resume          # only what the last run did not pass; what it passed counts
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "gpu"
BUILD = Path(os.environ.get("UPCONV_GPU_BUILD", ROOT / "build-gpu"))
OUT = ROOT / "out" / "gpu"
EVIDENCE = HERE / "evidence.json"
DRIVER = BUILD / "upconv_sanitize"
#: racecheck, which takes longest, begins first.
TOOLS = ("racecheck", "memcheck", "initcheck", "synccheck")
#: racecheck's kernels are others (docs/benchmarking.md).
FOR_RACECHECK = {"UPCONV_EVERY_LANE_ARRIVES": "1"}
# Seconds after the start: no new problem is drawn; a phase that is still running is stopped. --within scales them.
WITHIN = 476.0
FUZZ_UNTIL = 275.0  # a problem may compile for 20 s, and parts that begin later draw one each
PARALLEL_UNTIL, ALONE_UNTIL, SANITIZER_UNTIL = 345.0, 405.0, WITHIN
PHASES = ("parallel", "alone", "sanitizer")


@dataclass
class Outcome:
    """Of one line of the table."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


def cores() -> int:
    """Those that this process may run on, and may keep busy."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


def has_xdist(at_least: tuple[int, ...]) -> bool:
    try:
        version = importlib.metadata.version("pytest-xdist")
    except importlib.metadata.PackageNotFoundError:
        return False
    return tuple(int(n) for n in version.split(".")[:2]) >= at_least


def environment(tally: Path, draws_until: float) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(ROOT / "python"), os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "UPCONV_LIBRARY": os.environ.get("UPCONV_LIBRARY", str(BUILD / "bindings/torch/_upconv_torch.so")),
        "UPCONV_GPU_TALLY": str(tally),
        "UPCONV_GPU_DEADLINE": str(time.time() + draws_until - time.monotonic()),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def earlier(phase: str) -> list[Path]:
    """Reports of a phase of the runs that this one goes on with, oldest first."""
    return sorted(OUT.glob(f"{phase}-[0-9]*.xml"))


def begin(resume: bool, digest: str) -> None:
    """Sets the reports of the last run aside, or away. Raises SystemExit where it was of other kernels."""
    of = OUT / "kernels_sha256"
    if resume and (not of.exists() or of.read_text().strip() != digest):
        raise SystemExit(f"--resume: {OUT} has no run of these kernels ({digest[:12]}) to go on with")
    for phase in ("parallel", "alone"):
        for report in [] if resume else earlier(phase):
            report.unlink()
        last = OUT / f"{phase}.xml"
        if resume and last.exists():
            last.rename(OUT / f"{phase}-{len(earlier(phase))}.xml")
    if not resume:
        shutil.rmtree(OUT / "tally", ignore_errors=True)
    (OUT / "tally").mkdir(exist_ok=True)
    of.write_text(digest + "\n")


def passed(report: Path) -> list[str]:
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return [f"{c.get('classname').split('.')[-1]}::{c.get('name')}" for c in cases if c.get("classname") and not len(c)]


def pytest(phase: str, extra: list[str], env: dict, limit: float) -> tuple[int, Path]:
    report = OUT / f"{phase}.xml"
    report.unlink(missing_ok=True)
    if earlier(phase):
        done = OUT / f"{phase}-done.txt"
        done.write_text("".join(f"{name}\n" for r in earlier(phase) for name in passed(r)))
        env = {**env, "UPCONV_GPU_DONE": str(done)}
    command = [sys.executable, "-m", "pytest", str(HERE), f"--junitxml={report}", "-q", "-rfE", "--tb=short"]
    command += ["--disable-warnings", "-m", "alone" if phase == "alone" else "not alone", *extra]
    if phase == "parallel" and has_xdist((0, 0)):
        command += ["-n", str(cores()), "--dist", "load"]  # in the order that conftest.py gives
        command += ["--maxschedchunk", "2"] if has_xdist((3, 2)) else []
    if importlib.util.find_spec("pytest_timeout"):
        command += ["--timeout", "240"]
    print(f"\n==> {phase}: {' '.join(command[2:])}", flush=True)
    env = {**env, "UPCONV_GPU_FAILURES": str(OUT / f"{phase}-failures.txt")}
    Path(env["UPCONV_GPU_FAILURES"]).unlink(missing_ok=True)
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    try:
        return process.wait(timeout=max(10.0, limit)), report
    except subprocess.TimeoutExpired:
        print(f"{phase}: stopped after {limit:.0f} s", flush=True)
    process.send_signal(signal.SIGINT)  # it then writes its report
    try:
        process.wait(timeout=15.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 124, report


def read(report: Path, table: dict[str, Outcome], failures: list[str], passed_only: bool = False) -> None:
    """Adds a JUnit file to the table, a line a test file. `passed_only`: the others ran again."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if not case.get("classname") or (passed_only and len(case)):
            continue
        name = case.get("classname").split(".")[-1].removeprefix("test_gpu_")
        line = table[name]
        line.seconds += float(case.get("time") or 0)
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            line.failed += 1
            failures.append(f"{name}::{case.get('name')}: {(bad.get('message') or '').strip()[:600]}")
        elif case.find("skipped") is not None:
            line.skipped += 1
        else:
            line.passed += 1


def sanitizer_tool() -> tuple[str, str]:
    """compute-sanitizer, or "" and why it cannot run."""
    if not DRIVER.is_file():
        return "", f"no {DRIVER}"
    found = [*filter(None, [shutil.which("compute-sanitizer")])]
    found += map(str, sorted(Path("/usr/local").glob("cuda*/bin/compute-sanitizer")))
    return (found[0], "") if found else ("", "no compute-sanitizer on this machine")


def start_compiling(env: dict) -> list[subprocess.Popen]:
    """The sanitizers' kernels, by running their problems without a tool: else every tool would compile them anew, and
    slowly. Most are those of tests too; while tests run it takes what these leave of the cores, which is most towards
    their end."""
    calm = ["nice", "-n", "19"] if shutil.which("nice") else []
    if not sanitizer_tool()[0]:
        return []
    return [
        subprocess.Popen([*calm, str(DRIVER), str(part), str(parts)], stdout=subprocess.DEVNULL, env=kind)
        for kind, parts in (({**env, **FOR_RACECHECK}, cores()), (env, max(1, cores() // 4)))
        for part in range(parts)
    ]


def finish_compiling(running: list[subprocess.Popen], limit: float) -> None:
    start = time.monotonic()
    for process in running:
        try:
            process.wait(timeout=max(1.0, limit - (time.monotonic() - start)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if running:
        print(f"the sanitizers' kernels: waited {time.monotonic() - start:.0f} s", flush=True)


def sanitizer(table: dict[str, Outcome], failures: list[str], env: dict, limit: float) -> None:
    """Each tool over the problems of sanitize.cpp, in as many parts as take about as long; as many at once as there are
    cores."""
    tool, missing = sanitizer_tool()
    if missing:
        table["sanitizer"].skipped += len(TOOLS)
        table["sanitizer"].notes.append(missing)
        return
    parts = {name: max(1, cores() * (14 if name == "racecheck" else 6) // 16) for name in TOOLS}
    print(f"\n==> sanitizer: {', '.join(f'{name} in {parts[name]} parts' for name in TOOLS)}", flush=True)
    start = time.monotonic()

    def watch(name: str, part: int) -> int:
        command = [tool, "--tool", name, "--error-exitcode", "9", str(DRIVER), str(part), str(parts[name])]
        own = {**env, **FOR_RACECHECK} if name == "racecheck" else env
        left = limit - (time.monotonic() - start)
        with open(OUT / f"{name}-{part}.log", "w") as file:
            try:
                return subprocess.run(
                    command, stdout=file, stderr=subprocess.STDOUT, env=own, timeout=max(1.0, left), check=False
                ).returncode
            except subprocess.TimeoutExpired:
                return 124

    jobs = [(name, part) for name in TOOLS for part in range(parts[name])]
    codes = defaultdict(list)
    with ThreadPoolExecutor(cores()) as threads:
        for (name, part), code in zip(jobs, threads.map(watch, *zip(*jobs, strict=True)), strict=True):
            codes[name].append(code)
            print(f"{name} {part + 1}/{parts[name]}: {'clean' if code == 0 else f'ended with {code}'}", flush=True)
            if code:
                log = (OUT / f"{name}-{part}.log").read_text(errors="replace")
                lines = [line for line in log.splitlines() if line.strip()]
                telling = [s for s in lines if "WRONG" in s or "upconv_sanitize" in s or "========= " in s][:12]
                reason = "out of time" if code == 124 else "\n    ".join(telling or lines[-5:])
                failures.append(f"{name} part {part}: {reason}")
    for name in TOOLS:
        line = table[f"sanitizer {name}"]
        line.seconds = time.monotonic() - start
        if any(codes[name]):
            line.failed += 1
        else:
            line.passed += 1


def drawn(tally: Path) -> dict[str, tuple[int, int]]:
    """Problems and runs by test, over all processes."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for file in tally.glob("*.txt"):
        for line in file.read_text().splitlines():
            *name, problems, runs = line.split()
            sums[" ".join(name)][0] += int(problems)
            sums[" ".join(name)][1] += int(runs)
    return {name: (a, b) for name, (a, b) in sorted(sums.items())}


def asked(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", metavar="EXPRESSION", help="tests to run, as pytest's -k")
    parser.add_argument("--only", action="append", choices=PHASES, help="run this phase only")
    parser.add_argument("--no-build", action="store_true", help="use what is built, or UPCONV_LIBRARY")
    parser.add_argument("--within", type=float, default=WITHIN, metavar="S", help="end after S seconds (%(default)g)")
    parser.add_argument("--resume", action="store_true", help="go on with the last run, if it was of these kernels")
    parser.add_argument("-x", action="store_true", help="stop at the first failure")
    args = parser.parse_args()

    start, scale = time.monotonic(), args.within / WITHIN
    if not args.no_build and subprocess.run([sys.executable, ROOT / "tools/build_gpu.py"]).returncode:
        return 1
    if not importlib.util.find_spec("pytest"):
        print(f"{sys.executable} has no pytest: install it, or name another interpreter with PYTHON=", file=sys.stderr)
        return 2
    built = time.monotonic() - start
    OUT.mkdir(parents=True, exist_ok=True)
    phases = args.only or PHASES
    digest = asked([str(ROOT / "tools/kernels_sha256")])
    begin(args.resume, digest)
    table: dict[str, Outcome] = defaultdict(Outcome)
    failures: list[str] = []
    env, resumed = environment(OUT / "tally", start + scale * FUZZ_UNTIL), 0
    extra = [*(["-k", args.k] if args.k else []), *(["-x"] if args.x else [])]
    compiling = start_compiling(env) if "sanitizer" in phases and not args.k else []
    for phase, until in (("parallel", PARALLEL_UNTIL), ("alone", ALONE_UNTIL)):
        if phase not in phases:
            continue
        code, report = pytest(phase, extra, env, scale * until - (time.monotonic() - start))
        for before in earlier(phase):
            read(before, table, failures, passed_only=True)
            resumed += len(passed(before))
        if report.exists():
            read(report, table, failures)
        if code not in (0, 1, 5) or not (report.exists() or earlier(phase)):
            table[phase].failed += 1
            failures.append(f"{phase}: pytest ended with {code}" + ("" if report.exists() else ", no report"))
            seen = OUT / f"{phase}-failures.txt"
            if not report.exists() and seen.exists():
                failures += [f"{phase} {line}" for line in seen.read_text().splitlines()]
        if phase == "parallel":
            finish_compiling(compiling, scale * (until + 40.0) - (time.monotonic() - start))
            compiling = []
    if "sanitizer" in phases and not args.k:
        finish_compiling(compiling, scale * (ALONE_UNTIL + 30.0) - (time.monotonic() - start))
        sanitizer(table, failures, env, scale * SANITIZER_UNTIL - (time.monotonic() - start))
    counts = drawn(OUT / "tally")

    total = Outcome(*(sum(getattr(o, k) for o in table.values()) for k in ("passed", "failed", "skipped")))
    took = time.monotonic() - start
    evidence = {
        "kernels_sha256": digest,
        "command": "make gpu-test" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
        "passed": total.passed,
        "failed": total.failed,
        "skipped": total.skipped,
        "passed in earlier runs": resumed,
        "problems": {name: {"problems": p, "runs": r} for name, (p, r) in counts.items()},
        "gpu": asked(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).split("\n")[0],
        "driver": asked(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).split("\n")[0],
        "torch": asked([sys.executable, "-c", "import torch; print(torch.__version__)"]),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(took),
        "failures": [line.split("\n")[0][:200] for line in failures],
    }
    whole = not args.k and not args.only
    if whole:
        EVIDENCE.write_text(json.dumps(evidence, indent=1) + "\n")
    for line in failures:
        print(f"FAILED {line}")
    print(f"\n{'':<22}{'passed':>8}{'failed':>8}{'skipped':>9}{'test s':>9}")
    for name, o in table.items():
        print(f"{name:<22}{o.passed:>8}{o.failed:>8}{o.skipped:>9}{o.seconds:>9.0f}  {'; '.join(o.notes)}".rstrip())
    for name, (problems, runs) in counts.items():
        print(f"{name}: {problems} problems, {runs} runs")
    print(
        f"\n{evidence['gpu']}, driver {evidence['driver']}, torch {evidence['torch']}, kernels "
        f"{evidence['kernels_sha256'][:12]}: {total.passed} passed, {total.failed} failed, {total.skipped} skipped "
        f"in {took:.0f} s (build {built:.0f} s)" + (f"; {EVIDENCE.relative_to(ROOT)}" if whole else "")
    )
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
