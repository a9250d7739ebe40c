"""The demo's table on the terminal: model, shape, device, error, times, ratio. Called by `upconv demo`."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from upconv.cli import style
from upconv.cli.demo.measure import Result, geometric_mean, ratio


def table(results: list[Result], facts: dict[str, str | int]) -> Table:
    """One row a model and variant, geometric means below; fits 80 columns."""
    out = Table(
        title=f"PyTorch → upconv, ms ({style.where(facts)}, fp32)",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_footer=True,
        leading=1,
        pad_edge=False,
    )
    out.add_column("model, x, scale", footer="geometric mean")
    out.add_column("on")
    out.add_column("error\n≤ bound", justify="right")
    for what, times in (
        ("forward", [r.forward for r in results]),
        ("fwd + bwd", [r.training for r in results]),
    ):
        ratios = [ratio(t) for t in times if t]
        out.add_column(f"{what}\nratio", justify="right", footer=times_text(ratios))
    out.add_column("first\ncall", justify="right")
    for r in results:
        first = style.milliseconds(r.first["upconv"]) if r.first else "–"
        name = Text(r.title, "bold") + Text("\n" + "x".join(map(str, r.x_shape)), "not bold")
        name += Text("\n" + r.scale, "dim not bold")
        out.add_row(name, str(facts["device"]).partition(":")[0], error(r), cell(r.forward), cell(r.training), first)
    return out


def times_text(ratios: list[float]) -> str:
    return style.times(geometric_mean(ratios)) if ratios else ""


def error(result: Result) -> Text:
    """The tensor nearest to its bound."""
    worst = result.worst
    if worst is None:
        return Text("failed", "bold red")
    colour = "" if result.passed else "bold red"
    return Text(f"{worst.name}\n{worst.error:.1e}\n{'≤' if worst.passed else '>'} {worst.bound:.1e}", colour)


def cell(times: dict[str, float]) -> Text:
    if not times:
        return Text("–")
    faster = ratio(times)
    colour = "bold green" if faster >= 1.05 else "red" if faster < 0.95 else "bold"
    both = f"{style.milliseconds(times['torch'])} → {style.milliseconds(times['upconv'])}"
    return Text(both + "\n") + Text(style.times(faster), colour)
