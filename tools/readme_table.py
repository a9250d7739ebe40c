#!/usr/bin/env python3
"""Write the README's results tables from bench/results; --check only says whether they match (CI)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from upconv.cli.bench import readme, results

ROOT = Path(__file__).resolve().parents[1]
FILES = ("cpu.json", "nvidia-h200.json", "nvidia-h200-channels-last.json", "kernelbench-h200.json")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, nargs="+", default=[ROOT / "bench/results" / f for f in FILES])
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--check", action="store_true", help="change nothing, end with 1 when the README differs")
    args = parser.parse_args()
    status = 0
    for file in args.results:
        if not file.exists() and file.parent == ROOT / "bench/results":
            continue  # not measured on this device yet
        try:
            matches = readme.bring_up_to_date(readme.load(file), args.readme, args.check)
        except results.ResultsError as error:
            print(f"readme_table: {error}", file=sys.stderr)
            return 2
        if not matches:
            print(f"{args.readme} does not show {file}; run tools/readme_table.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
