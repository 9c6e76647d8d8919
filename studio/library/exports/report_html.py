"""Reports and trainings as one page of HTML that needs nothing else: charts are SVG in it, and it runs no script."""

from __future__ import annotations

from html import escape
from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports import report_drawing as drawing
from studio.library.exports.report_view import Chart, Table, View, view_of
from studio.library.exports.source import MADE_WITH, Source
from studio.library.exports.txt import write_text

TONES = ("#2f6fb3", "#c2571a", "#2c8a57", "#8a4fa3", "#b0323d", "#6b7280", "#a27a00", "#0f8a8a")

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2129; --faint: #d7dbe2; --soft: #5b6472; --stripe: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181d; --ink: #e6e8ec; --faint: #363b45; --soft: #9aa3b2; --stripe: #1d2027; }
}
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 72rem; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p.when, footer { color: var(--soft); } footer { margin-top: 3rem; font-size: .85rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; } th, td { padding: .3rem .7rem; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--faint); overflow-wrap: anywhere; white-space: pre-wrap; }
th { font-weight: 600; } tbody tr:nth-child(even) { background: var(--stripe); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem 1.5rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 8.5px system-ui, sans-serif; }
svg .bold { font-weight: 600; } .ink { stroke: var(--ink); } .faint { stroke: var(--faint); }
@media print { body { margin: 0; max-width: none; } }
"""


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write the page. Quality means nothing here."""
    text = page(view_of(source, recipe.metadata), with_tool=recipe.metadata)
    write_text(text, stream, ctx)
    return {"characters": len(text)}


def page(view: View, with_tool: bool = True) -> str:
    parts = [
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">",
        # what a model wrote is escaped; and were it not, nothing of it could run or call home
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
        f"<title>{escape(view.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(view.title)}</h1><p class=\"when\">{escape(view.created)}</p>",
        "<dl>", *(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in view.facts), "</dl>",
    ]  # fmt: skip
    if view.notes:
        parts += ["<h2>Notes</h2><ul>", *(f"<li>{escape(note)}</li>" for note in view.notes), "</ul>"]
    parts += [_table(table) for table in view.tables]
    if view.charts:
        parts += ['<h2>Charts</h2><div class="charts">', *map(svg, view.charts), "</div>"]
    parts += [_table(table) for table in view.more]
    if with_tool:
        parts.append(f"<footer>{escape(MADE_WITH)}</footer>")
    return "\n".join([*parts, "</body></html>\n"])


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    return (
        f'<h2>{escape(table.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    number = text.replace(",", "").replace(".", "").replace("-", "").replace("−", "").isdigit()
    return f'<td class="number">{escape(text)}</td>' if number else f"<td>{escape(text)}</td>"


def svg(chart: Chart) -> str:
    canvas = _Svg()
    drawing.draw(chart, canvas)
    return (
        f'<svg viewBox="0 0 {drawing.WIDTH:g} {drawing.height_of(chart):g}" role="img" '
        f'aria-label="{escape(chart.title)}">{"".join(canvas.parts)}</svg>'
    )


class _Svg:
    """See report_drawing.Canvas."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    @staticmethod
    def _stroke(tone: int) -> str:
        if tone < 0:
            return f'class="{"ink" if tone == drawing.INK else "faint"}"'
        return f'stroke="{TONES[tone % len(TONES)]}"'

    def line(self, points: list[tuple[float, float]], tone: int, width: float = 1.0) -> None:
        placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{placed}" fill="none" stroke-width="{width:g}" {self._stroke(tone)}/>')

    def dot(self, x: float, y: float, tone: int) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{TONES[tone % len(TONES)]}"/>')

    def text(
        self, x: float, y: float, words: str, anchor: drawing.Anchor = "start", bold: bool = False
    ) -> None:  # fmt: skip
        more = ' class="bold"' if bold else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>')
