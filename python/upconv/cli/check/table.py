"""The verdicts of `upconv check`, a row each, and how they are printed."""

from __future__ import annotations

__all__ = ["Table"]


class Table:
    def __init__(self):
        self.rows: list[tuple[bool, str, str]] = []

    @property
    def failed(self) -> bool:
        return any(not good for good, _, _ in self.rows)

    def add(self, good: bool, test: str, what: str) -> None:
        self.rows.append((bool(good), test, what))

    def ok(self, test: str, what: str) -> None:
        self.add(True, test, what)

    def fail(self, test: str, what: str) -> None:
        self.add(False, test, what)

    def show(self) -> None:
        width = max(len(test) for _, test, _ in self.rows)
        for good, test, what in self.rows:
            print(f"{'ok    ' if good else 'FAILED'}  {test:{width}}  {what}")
        wrong = sum(not good for good, _, _ in self.rows)
        print(f"{len(self.rows)} tests, {wrong} failed" if wrong else f"{len(self.rows)} tests, all well")
