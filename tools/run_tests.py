#!/usr/bin/env python3
"""Runs every test suite of the project, one after the other, and closes with one line that sums them up.

`make test` calls it once everything is built. The suites are the list below and nothing else: a suite that cannot
start, or that runs no test, has failed. `--only NAME` (repeatable) picks suites, for work on one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = os.environ.get("UPCONV_BUILD", "build")
REPORTS = ROOT / "out" / "tests"
CORES = str(os.cpu_count() or 1)
WORKERS = str(min(os.cpu_count() or 1, 8))  # of Python: each imports torch


@dataclass
class Suite:
    name: str
    about: str
    command: list[str]
    report: bool = True  # writes a JUnit file that is read for its counts; otherwise it counts as one test


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""


def report_of(name: str) -> Path:
    return REPORTS / f"{name}.xml"


def pytest(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", f"--junitxml={report_of(name)}", *arguments]


def ctest(name: str, build: str) -> list[str]:
    return ["ctest", "--test-dir", build, "--output-on-failure", "--progress", "--no-tests=error",
            "-j", CORES, "--output-junit", str(report_of(name))]  # fmt: skip


SUITES = [
    Suite("lint", "formatting and common mistakes", ["tools/lint.sh"], report=False),
    Suite("cpp", "C++ library: units, operators against the reference, fuzzer", ctest("cpp", BUILD)),
    Suite("sanitizers", "the same under AddressSanitizer and UndefinedBehaviorSanitizer",
          ["tools/test_sanitizers.sh", str(report_of("sanitizers"))]),
    Suite("python", "PyTorch front end, command line, examples, files shared out over the cores",
          pytest("python", "tests", "--ignore=tests/packaging", "-n", WORKERS, "--dist", "loadfile")),
    Suite("packaging", "wheel, source archive, installed C++ library", pytest("packaging", "tests/packaging")),
]  # fmt: skip


def read_report(path: Path) -> Outcome:
    """Counts of a JUnit file, whether pytest or ctest wrote it."""
    outcome = Outcome()
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("disabled", "notrun"):
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome


def run(suite: Suite) -> Outcome:
    print(f"\n==> {suite.name}: {suite.about}", flush=True)
    report_of(suite.name).unlink(missing_ok=True)
    start = time.monotonic()
    try:
        code = subprocess.run(suite.command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        print(f"cannot start {suite.command[0]}: {error}")
        code = 127
    outcome = Outcome()
    if not suite.report:
        outcome.passed = int(code == 0)
    elif report_of(suite.name).exists():
        outcome = read_report(report_of(suite.name))
    if code != 0 and outcome.failed == 0:
        outcome.failed = 1
        outcome.note = f"ended with exit code {code}"
    elif code == 0 and outcome.passed == 0:
        outcome.failed = 1
        outcome.note = "ran no test"
    outcome.seconds = time.monotonic() - start
    return outcome


def evidence() -> str:
    """Whether tests/gpu/evidence.json, written on a machine with a GPU, is about the kernels of this tree."""
    file = ROOT / "tests" / "gpu" / "evidence.json"
    if not file.exists():
        return "none (tests/gpu/evidence.json is not there)"
    found = json.loads(file.read_text(encoding="utf-8"))
    now = subprocess.run([ROOT / "tools" / "kernels_sha256"], capture_output=True, text=True, check=True).stdout.strip()
    whose = "for this tree" if found.get("kernels_sha256") == now else "for an earlier tree"
    told = ", ".join(f"{found[key]} {key}" for key in ("passed", "failed", "skipped") if key in found)
    return f"{whose}: {told}, {found.get('gpu')}, {found.get('date')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[s.name for s in SUITES], help="run this suite only")
    arguments = parser.parse_args()

    # The environment's own tools (ruff, clang-format, perhaps cmake) come first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes = {s.name: run(s) for s in SUITES if not arguments.only or s.name in arguments.only}

    print(f"\n{'suite':<12}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for name, o in outcomes.items():
        print(f"{name:<12}{o.passed:>8}{o.failed:>8}{o.skipped:>9}{o.seconds:>9.0f}  {o.note}".rstrip())
    print(f"\nGPU evidence: {evidence()}")
    passed, failed, skipped = (sum(getattr(o, k) for o in outcomes.values()) for k in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
