# What optimize did to a model, as rows that print as a table. Kept by the model as `upconv_report`.
"""The report of an optimisation."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    name: str  # of the module in the model, "(model)" for the model itself
    module: str
    action: str  # "replaced", "fused" or "left"
    detail: str


@dataclass
class Report:
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, module: str, action: str, detail: str = "") -> None:
        self.rows.append(Row(name or "(model)", module, action, detail))

    def count(self, action: str) -> int:
        return sum(row.action == action for row in self.rows)

    @property
    def summary(self) -> str:
        if not self.rows:
            return "upconv.optimize: no ConvTranspose module in this model"
        return (
            f"upconv.optimize: {self.count('fused')} fused with what surrounds them, "
            f"{self.count('replaced')} replaced, {self.count('left')} left as they were"
        )

    def __str__(self) -> str:
        head = ("name", "module", "action", "detail")
        table = [head, *((row.name, row.module, row.action, row.detail) for row in self.rows)]
        widths = [max(len(line[i]) for line in table) for i in range(3)]
        lines = [self.summary]
        if self.rows:
            for line in table:
                lines.append(
                    "  " + "  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[3]]).rstrip()
                )
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def __rich__(self):
        from rich.table import Table

        table = Table(title=self.summary, caption="\n".join(self.notes) or None)
        for column in ("name", "module", "action", "detail"):
            table.add_column(column)
        for row in self.rows:
            table.add_row(row.name, row.module, row.action, row.detail)
        return table
