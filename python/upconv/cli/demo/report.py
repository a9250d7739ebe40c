"""The demo's report: one HTML file, nothing outside it, with table, chart, errors, explanations, machine.

Called by `upconv demo`.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from upconv.cli import style
from upconv.cli.demo.measure import Result, geometric_mean, ratio

CSS = """
:root { color-scheme: light; --ink: #1d2530; --faint: #e4e8ee; --soft: #5b6573; --bad: #c9372c; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f8fa; color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 40px 0 8px; }
p { margin: 4px 0 12px; max-width: 76ch; } .soft { color: var(--soft); }
.facts { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0 8px; }
.fact { padding: 12px 18px; min-width: 150px; }
.fact, .scroll, img, details { background: #fff; border: 1px solid var(--faint); border-radius: 8px; }
.fact b { display: block; font-size: 24px; line-height: 1.2; } .fact.bad b { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 8px 9px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--faint); }
tr:last-child td { border-bottom: 0; } th { font-weight: 600; color: var(--soft); font-size: 13px; }
th.l, td.l { text-align: left; } td.wrap { white-space: normal; min-width: 180px; }
td .soft { font-size: 12px; }
.ratio { font-weight: 700; } .slow, .failed { color: var(--bad); font-weight: 700; }
.ok { color: #1a7f37; font-weight: 700; }
img { width: 100%; padding: 12px; }
details { margin: 8px 0; padding: 8px 16px; }
summary { cursor: pointer; font-weight: 600; } pre { overflow-x: auto; font-size: 12.5px; line-height: 1.45; }
code { font-size: 13px; }
"""


def write(results: list[Result], facts: dict[str, str | int], command: str, chart: Path, path: Path) -> None:
    """Write the page; `facts` is the environment, `command` what was typed."""
    image = base64.b64encode(chart.read_bytes()).decode()
    passed = sum(r.passed for r in results)
    body = [
        "<h1>upconv demo</h1>",
        f'<p class="soft">{escape(str(facts["date"]))} &middot; {escape(str(facts["device"]))} &middot; '
        f"{escape(style.where(facts))} &middot; torch {escape(str(facts['torch']))}</p>",
        '<div class="facts">',
        fact(f"{passed} of {len(results)}", "models correct in output and gradients", bad=passed < len(results)),
        fact(mean([r.forward for r in results]), "forward, against PyTorch"),
        fact(mean([r.training for r in results]), "forward + backward"),
        "</div>",
        "<p class=\"soft\">Ratios are PyTorch's time over upconv's, geometric mean over the models: above 1, "
        "upconv is faster.</p>",
        "<h2>Models</h2>",
        table(results),
        '<p class="soft">Milliseconds, medians of interleaved calls in one process with the same threads; '
        "“first” is the first forward after the swap, plan and weight packing included.</p>",
        f'<h2>Chart</h2><img alt="Bars of the times in the table" src="data:image/png;base64,{image}">',
        "<h2>Errors against float64</h2>",
        "<p>Largest difference from the same model in float64, relative to the tensor's largest value. The "
        "bound is (1 + &radic;K) &times; 2<sup>-23</sup> where K products make one element: a plain fp32 "
        "chain stays below it, operands rounded to TF32 or bf16 do not.</p>",
        errors(results),
        "<h2>What was chosen, and why</h2>",
        *(explanation(r) for r in results),
        "<h2>Machine</h2>",
        '<div class="scroll"><table>',
        *(
            f'<tr><td class="l soft">{escape(k.replace("_", " "))}</td><td class="l">{escape(str(v))}</td></tr>'
            for k, v in {**facts, "command": command}.items()
        ),
        "</table></div>",
    ]
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>upconv demo</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}</style></head>\n<body><main>\n" + "\n".join(body) + "\n</main></body></html>\n",
        encoding="utf-8",
    )


def fact(figure: str, words: str, bad: bool = False) -> str:
    return f'<div class="fact{" bad" if bad else ""}"><b>{figure}</b>{words}</div>'


def mean(times: list[dict[str, float]]) -> str:
    measured = [ratio(t) for t in times if t]
    return style.times(geometric_mean(measured)) if measured else "&ndash;"


def shape(sizes: tuple[int, ...]) -> str:
    return "&times;".join(map(str, sizes))


def table(results: list[Result]) -> str:
    rows = [
        '<div class="scroll"><table><tr><th class="l">Model</th><th class="l">x &rarr; y</th>'
        '<th class="l">Device</th>'
        '<th class="l">Check</th><th>Forward<br>PyTorch</th><th><br>upconv</th><th><br>ratio</th>'
        "<th>Fwd + bwd<br>PyTorch</th><th><br>upconv</th><th><br>ratio</th><th>First<br>upconv</th></tr>"
    ]
    for r in results:
        rows.append(
            f'<tr><td class="l wrap"><b>{escape(r.title)}</b></td>'
            f'<td class="l">{shape(r.x_shape)}<br>&rarr; {shape(r.y_shape)}<br>'
            f'<span class="soft">{escape(r.scale)}</span></td><td class="l">cpu</td>{verdict(r)}'
            f"{cells(r.forward)}{cells(r.training)}"
            f"<td>{style.milliseconds(r.first['upconv']) if r.first else '&ndash;'}</td></tr>"
        )
    return "\n".join([*rows, "</table></div>"])


def verdict(result: Result) -> str:
    if result.failure:
        return f'<td class="l wrap failed">failed: {escape(result.failure)}</td>'
    worst = result.worst
    word = '<span class="ok">passed</span>' if result.passed else '<span class="failed">failed</span>'
    sign = "&le;" if worst.passed else "&gt;"
    return (
        f'<td class="l">{word}<br><span class="soft">{escape(worst.name)} {worst.error:.1e} {sign} '
        f"{worst.bound:.1e}</span></td>"
    )


def cells(times: dict[str, float]) -> str:
    if not times:
        return "<td>&ndash;</td>" * 3
    faster = ratio(times)
    return (
        f"<td>{style.milliseconds(times['torch'])}</td><td>{style.milliseconds(times['upconv'])}</td>"
        f'<td class="{"ratio" if faster >= 0.95 else "slow"}">{style.times(faster)}</td>'
    )


def errors(results: list[Result]) -> str:
    rows = [
        '<div class="scroll"><table><tr><th class="l">Model</th><th class="l">Tensor</th><th>upconv</th>'
        '<th>PyTorch</th><th>bound</th><th class="l"></th></tr>'
    ]
    for r in results:
        for i, t in enumerate(r.tensors):
            word = '<span class="ok">passed</span>' if t.passed else '<span class="failed">failed</span>'
            peer = "&ndash;" if t.peer_error is None else f"{t.peer_error:.1e}"
            rows.append(
                f'<tr><td class="l">{escape(r.title) if i == 0 else ""}</td>'
                f'<td class="l"><code>{escape(t.name)}</code></td>'
                f"<td>{t.error:.1e}</td><td>{peer}</td><td>{t.bound:.1e}</td>"
                f'<td class="l">{word}</td></tr>'
            )
    return "\n".join([*rows, "</table></div>"])


def explanation(result: Result) -> str:
    text = escape(result.explained.rstrip() or "no explanation: the model did not run")
    title, summary = escape(result.title), escape(result.summary)
    return f"<details><summary>{title}</summary><p>{summary}</p><pre>{text}</pre></details>"
