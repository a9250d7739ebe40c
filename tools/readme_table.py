#!/usr/bin/env python3
"""Write the README's results table from bench/results/cpu.json; --check only says whether it matches (CI)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from upconv.cli.bench import readme, results

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results/cpu.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--check", action="store_true", help="change nothing, end with 1 when the README differs")
    args = parser.parse_args()
    try:
        matches = readme.bring_up_to_date(results.read(args.results), args.readme, args.check)
    except results.ResultsError as error:
        print(f"readme_table: {error}", file=sys.stderr)
        return 2
    if not matches:
        print(f"{args.readme} does not show {args.results}; run tools/readme_table.py", file=sys.stderr)
    return 0 if matches else 1


if __name__ == "__main__":
    sys.exit(main())
