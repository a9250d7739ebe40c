"""The named problems that tests and benchmarks share: reads tests/shapes/*.txt.

Used by `upconv bench`, tools/scale_shapes.py and the tests. One row a line: id, problem, '#' and a title.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from upconv.cli.problem import Problem, ProblemError, parse_problem


@dataclass(frozen=True)
class Shape:
    id: str
    problem: Problem
    title: str


def read_shapes(path: Path) -> list[Shape]:
    """Every row of a shape file, in order; a bad line is reported with its number."""
    shapes: list[Shape] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text, _, title = line.partition("#")
        words = text.split()
        if not words:
            continue
        try:
            shapes.append(Shape(words[0], parse_problem(" ".join(words[1:])), title.strip()))
        except ProblemError as error:
            raise ProblemError(f"{path}:{number}: {error}") from None
    repeated = {s.id for s in shapes if [t.id for t in shapes].count(s.id) > 1}
    if repeated:
        raise ProblemError(f"{path}: these ids occur twice: {', '.join(sorted(repeated))}")
    return shapes


def write_shapes(path: Path, heading: str, shapes: list[Shape]) -> None:
    """Write a shape file that read_shapes reads back; columns aligned, `heading` as comment lines above."""
    ids = max(len(s.id) for s in shapes)
    problems = max(len(s.problem.short()) for s in shapes)
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    lines += [f"{s.id:<{ids}}  {s.problem.short():<{problems}}  # {s.title}" for s in shapes]
    path.write_text("\n".join(lines) + "\n")
