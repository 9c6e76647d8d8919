"""Reports and trainings as a PDF: fpdf2 lays out the pages, charts are drawn as lines, and letters are DejaVu's.

DejaVu Sans comes with matplotlib, of which nothing else is loaded. It has the Latin, Greek, Cyrillic, Arabic and
Hebrew letters but no Chinese or Japanese ones: these stand as boxes here, and as they are in the other formats.
"""

from __future__ import annotations

import datetime
import importlib.util
import logging
from pathlib import Path
from typing import Any, BinaryIO

from fpdf import FPDF, FontFace
from fpdf.enums import TableCellFillMode, WrapMode, XPos, YPos

from studio.core.problems import EngineMissing
from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports import report_drawing as drawing
from studio.library.exports.report_html import TONES
from studio.library.exports.report_view import Chart, Table, View, view_of
from studio.library.exports.source import MADE_WITH, SOFTWARE, Sink, Source

MARGIN = 16.0  # mm
GAP = 6.0  # mm between charts
CELL_LIMIT = 400  # characters of a cell: a page must be able to hold it
_FAMILY = "DejaVu"


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write the document. Quality means nothing here."""
    view = view_of(source, recipe.metadata)
    ctx.check()
    document = Document(view, with_tool=recipe.metadata)
    data = bytes(document.output())
    ctx.check()
    sink = Sink(stream, ctx.check)
    sink.write(data)
    sink.finish()
    ctx.progress(len(data), len(data), "bytes", "writing")
    return {"pages": document.pages_count}


class Document(FPDF):
    """The pages of a view."""

    def __init__(self, view: View, with_tool: bool = True) -> None:
        super().__init__(orientation="portrait", unit="mm", format="A4")
        logging.getLogger("fpdf").setLevel(logging.ERROR)  # it names every letter that the font lacks
        logging.getLogger("fontTools").setLevel(logging.ERROR)
        self._view, self._with_tool = view, with_tool
        for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
            self.add_font(_FAMILY, style, fonts() / file)
        self.set_margins(MARGIN, MARGIN)
        self.set_auto_page_break(True, MARGIN)
        self.set_title(view.title)
        self.set_creation_date(_date(view.created))
        if with_tool:
            self.set_creator(SOFTWARE)
        self.add_page()
        self._head()
        for table in view.tables:
            self._table(table)
        self._charts(view.charts)
        for table in view.more:
            self._table(table)

    def footer(self) -> None:
        self.set_y(-12)
        self._font(7)
        self.set_text_color(110)
        words = f"{MADE_WITH} · " if self._with_tool else ""
        self.cell(0, 4, f"{words}{self.page_no()} / {{nb}}", align="R")
        self.set_text_color(0)

    def _font(self, size: float, style: str = "") -> None:
        self.set_font(_FAMILY, style, size)

    def _words(self, text: str, size: float, style: str = "", height: float = 5.0) -> None:
        self._font(size, style)
        self.multi_cell(0, height, text, align="L", wrapmode=WrapMode.WORD, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _head(self) -> None:
        view = self._view
        self._words(view.title[:300], 16, "B", 8)
        self._words(view.created, 8)
        self.ln(2)
        if view.facts:
            self._table(Table("", (), tuple((name, value[:2000]) for name, value in view.facts)), (22, 78))
        for note in view.notes:
            self._words(f"• {note}", 8.5, height=4.5)
        self.ln(2)

    def _table(self, table: Table, widths: tuple[int, ...] = ()) -> None:
        if table.title:
            if self.will_page_break(30):
                self.add_page()
            self.ln(3)
            self._words(table.title, 11, "B", 6)
        self._font(7)
        columns = len(table.head) or len(table.rows[0])
        with self.table(
            col_widths=widths or _widths(table, columns), text_align="L", borders_layout="HORIZONTAL_LINES",
            line_height=3.8, padding=0.8, first_row_as_headings=bool(table.head), wrapmode=WrapMode.CHAR,
            cell_fill_color=246, cell_fill_mode=TableCellFillMode.ROWS if table.head else TableCellFillMode.NONE,
            headings_style=FontFace(emphasis="BOLD"),
        ) as laid:  # fmt: skip
            for cells in (table.head, *table.rows) if table.head else table.rows:
                row = laid.row()
                for cell in cells:
                    row.cell(cell if len(cell) <= CELL_LIMIT or not table.head else cell[: CELL_LIMIT - 1] + "…")
        self.ln(2)

    def _charts(self, charts: tuple[Chart, ...]) -> None:
        if not charts:
            return
        self.ln(3)
        width = (self.epw - GAP) / 2
        scale = width / drawing.WIDTH
        for left, right in zip(charts[::2], [*charts[1::2], None][: len(charts[::2])], strict=True):
            tallest = max(drawing.height_of(chart) for chart in (left, right) if chart is not None) * scale
            if self.will_page_break(tallest):
                self.add_page()
            y = self.get_y()
            for i, chart in enumerate((left, right)):
                if chart is not None:
                    drawing.draw(chart, _Page(self, self.l_margin + i * (width + GAP), y, scale))
            self.set_y(y + tallest + 3)
        self.set_draw_color(0)
        self.set_fill_color(255)
        self.set_line_width(0.2)


class _Page:
    """See report_drawing.Canvas: a field of a page."""

    def __init__(self, pdf: Document, x: float, y: float, scale: float) -> None:
        self._pdf, self._x, self._y, self._scale = pdf, x, y, scale

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return self._x + x * self._scale, self._y + y * self._scale

    @staticmethod
    def _colour(tone: int) -> tuple[int, int, int]:
        if tone < 0:
            return (30, 30, 30) if tone == drawing.INK else (215, 219, 226)
        hexed = TONES[tone % len(TONES)]
        return int(hexed[1:3], 16), int(hexed[3:5], 16), int(hexed[5:7], 16)

    def line(self, points: list[tuple[float, float]], tone: int, width: float = 1.0) -> None:
        self._pdf.set_draw_color(*self._colour(tone))
        self._pdf.set_line_width(width * self._scale)
        placed = [self._place(x, y) for x, y in points]
        if len(placed) > 1:
            self._pdf.polyline(placed)

    def dot(self, x: float, y: float, tone: int) -> None:
        self._pdf.set_fill_color(*self._colour(tone))
        x, y = self._place(x, y)
        radius = 3 * self._scale
        self._pdf.ellipse(x - radius, y - radius, 2 * radius, 2 * radius, style="F")

    def text(
        self, x: float, y: float, words: str, anchor: drawing.Anchor = "start", bold: bool = False
    ) -> None:  # fmt: skip
        self._pdf.set_font(_FAMILY, "B" if bold else "", drawing.TEXT * self._scale * 72 / 25.4)
        x, y = self._place(x, y)
        wide = self._pdf.get_string_width(words)
        self._pdf.text(x - wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor], y, words)


def _widths(table: Table, columns: int) -> tuple[int, ...]:
    """Shares of the columns: by the longest of their cells, within bounds, so that none is squeezed out."""
    longest = [
        max([len(row[i]) for row in (table.head, *table.rows) if i < len(row)], default=1) for i in range(columns)
    ]
    return tuple(min(60, max(9, length)) for length in longest)


def fonts() -> Path:
    """The folder of DejaVu's files. Raises EngineMissing."""
    found = importlib.util.find_spec("matplotlib")
    for folder in (found.submodule_search_locations or []) if found is not None else []:
        path = Path(folder) / "mpl-data" / "fonts" / "ttf"
        if path.is_dir():
            return path
    raise EngineMissing("Writing a PDF needs the letters that come with matplotlib, which is not installed.",
                        "Set the studio up again with run.py, or export to HTML.")  # fmt: skip


def _date(created: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(created)
    except ValueError:
        return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
