"""Rows and bars: small tables that can be sorted, and measures with their intervals, drawn calmly.

Knows words and numbers; knows nothing of what they tell of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QEvent, QModelIndex, QPersistentModelIndex, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QKeyEvent, QKeySequence, QPainter, QPaintEvent
from PySide6.QtWidgets import QAbstractItemView, QHeaderView, QSizePolicy, QTableView, QWidget

from studio.core.text import shown
from studio.ui import theme
from studio.ui.strings import as_tip, tr
from studio.ui.widgets import copy_text

Index = QModelIndex | QPersistentModelIndex
CELL = 300  # characters of a cell that are shown
HIGHEST = 12  # rows of a table that are seen at once
LONG = 24  # characters; a longer cell says all of itself in its tooltip, so it may be cut
LEAST = 140  # px that a column of such cells keeps

Cell = str | int | float | None


def number_of(text: str) -> float | None:
    """The number a cell begins with, for sorting: “1,234 rows” is 1234."""
    try:
        return float(text.strip().split(" ")[0].replace(",", "").rstrip("%"))
    except (ValueError, IndexError):
        return None


def worded(cell: Cell) -> str:
    """A cell as it is shown."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return tr("yes") if cell else tr("no")
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 10_000 else f"{cell:.4g}"
    return shown(cell, CELL)


class _Rows(QAbstractTableModel):
    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.heads: tuple[str, ...] = ()
        self.rows: list[tuple[Cell, ...]] = []
        self.bold: set[tuple[int, int]] = set()
        self.tips: dict[tuple[int, int], str] = {}

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  Qt's own way
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.heads)

    def data(self, index: Index, role: int = 0) -> Any:
        roles = Qt.ItemDataRole
        at = index.row(), index.column()
        if not (0 <= at[0] < len(self.rows) and 0 <= at[1] < len(self.rows[at[0]])):
            return None
        cell = self.rows[at[0]][at[1]]
        if role in (roles.DisplayRole, roles.AccessibleTextRole):
            text = worded(cell)
            return f"{text} ({tr('best')})" if role == roles.AccessibleTextRole and at in self.bold else text
        if role == roles.ToolTipRole:
            return as_tip(self.tips.get(at) or (str(cell)[:2000] if isinstance(cell, str) and len(cell) > LONG else ""))
        if role == roles.FontRole and at in self.bold:
            font = QFont()
            font.setBold(True)
            font.setPixelSize(theme.NORMAL)
            return font
        if role == roles.ForegroundRole and at in self.bold:
            return QColor(theme.current().accent)
        if role == roles.TextAlignmentRole:
            numeric = isinstance(cell, (int, float)) and not isinstance(cell, bool)
            side = Qt.AlignmentFlag.AlignRight if numeric else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(self.heads):
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.heads[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:  # above what it is the head of
            side = Qt.AlignmentFlag.AlignRight if self.is_numeric(section) else Qt.AlignmentFlag.AlignLeft
            return int(side | Qt.AlignmentFlag.AlignVCenter)
        return None

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, and nothing else."""
        cells = [row[column] for row in self.rows if column < len(row) and row[column] not in (None, "")]
        return bool(cells) and all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in cells)

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        if column < 0:
            return

        def key(row: tuple[Cell, ...]) -> tuple[int, float, str]:
            cell = row[column] if column < len(row) else None
            value = float(cell) if isinstance(cell, (int, float)) else number_of(cell or "")
            return (0, value, "") if value is not None else (1, 0.0, worded(cell).casefold())

        self.layoutAboutToBeChanged.emit()
        places = sorted(range(len(self.rows)), key=lambda at: key(self.rows[at]))
        if order == Qt.SortOrder.DescendingOrder:
            places.reverse()
        to = {old: new for new, old in enumerate(places)}
        self.rows = [self.rows[at] for at in places]
        self.bold = {(to[r], c) for r, c in self.bold}
        self.tips = {(to[r], c): tip for (r, c), tip in self.tips.items()}
        self.layoutChanged.emit()


class Table(QTableView):
    """A table of words and numbers: sorted by a click on a head, copied by Ctrl+C, as high as its rows.

    Args:
        cuts: long texts are cut where there is too little room; otherwise the table scrolls sideways.
    """

    def __init__(
        self, name: str, object_name: str, *, sortable: bool = True, highest: int = HIGHEST, cuts: bool = True
    ) -> None:
        super().__init__()
        self._cuts = cuts
        self.setObjectName(object_name)
        self.setAccessibleName(name)
        self.rows_model = _Rows(self)
        self.setModel(self.rows_model)
        self._highest = highest
        self._wanted: list[int] = []  # widths that the columns would like
        self.setProperty("role", "table")
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(28)
        head = self.horizontalHeader()
        head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        head.setHighlightSections(False)
        head.setStretchLastSection(True)
        head.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSortingEnabled(sortable)
        head.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def put(
        self, heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, bold: set[tuple[int, int]] | None = None,
        tips: dict[tuple[int, int], str] | None = None,
    ) -> None:  # fmt: skip
        """Show these rows.

        Args:
            bold: places (row, column) that stand out. tips: more on some places.
        """
        model = self.rows_model
        model.beginResetModel()
        model.heads = tuple(heads)
        model.rows = [tuple(each) for each in rows]
        model.bold, model.tips = set(bold or ()), dict(tips or {})
        model.endResetModel()
        head = self.horizontalHeader()
        if self.isSortingEnabled() and head.sortIndicatorSection() >= 0:
            model.sort(head.sortIndicatorSection(), head.sortIndicatorOrder())
        widest_font = QFont(self.font())
        widest_font.setBold(True)
        metrics = QFontMetrics(widest_font)
        self._wanted = []
        for column, title in enumerate(model.heads):
            widest = max(
                (metrics.horizontalAdvance(worded(r[column])[:60]) for r in model.rows[:50] if column < len(r)),
                default=0,
            )
            self._wanted.append(min(320, max(56, widest + 24, metrics.horizontalAdvance(title) + 36)))
        # a number far to the right of its head would be hard to find
        head.setStretchLastSection(not model.heads or not model.is_numeric(len(model.heads) - 1))
        self._share()
        self._fit()

    def _share(self) -> None:
        """Give the columns their widths; where there is too little room, long texts are cut first."""
        widths = list(self._wanted)
        over = sum(widths) - self.viewport().width()
        rows = self.rows_model.rows[:50]
        long = [
            at for at in range(len(widths))
            if any(at < len(row) and isinstance(row[at], str) and len(str(row[at])) > LONG for row in rows)
        ]  # fmt: skip
        while over > 0 and long and self._cuts:
            widest = max(long, key=lambda at: widths[at])
            if widths[widest] <= LEAST:
                break
            less = min(over, widths[widest] - LEAST, 16)
            widths[widest] -= less
            over -= less
        for column, width in enumerate(widths):
            self.setColumnWidth(column, width)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self._share()

    def _fit(self) -> None:
        rows = min(self._highest, max(1, len(self.rows_model.rows)))
        bar = self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(rows * 28 + self.horizontalHeader().sizeHint().height() + bar + 4)

    def chosen(self) -> int:
        """The current row, or -1."""
        index = self.currentIndex()
        return index.row() if index.isValid() else -1

    def wheelEvent(self, event: Any) -> None:
        if len(self.rows_model.rows) <= self._highest and not event.angleDelta().x():
            event.ignore()  # the page scrolls
        else:
            super().wheelEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            rows = sorted({index.row() for index in self.selectedIndexes()})
            lines = ["\t".join(self.rows_model.heads)]
            lines += ["\t".join(worded(cell) for cell in self.rows_model.rows[at]) for at in rows]
            copy_text("\n".join(lines))
        elif event.key() in (Qt.Key.Key_Escape,):
            event.ignore()
        else:
            super().keyPressEvent(event)

    def resize_mode(self, column: int) -> None:
        """Let a column take the room that is left."""
        self.horizontalHeader().setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)


@dataclass(frozen=True)
class Bar:
    """One bar: what it stands for, its length, and perhaps an interval.

    Attributes:
        said: the value in words. of: whose it is. low, high: its 95 % interval. full: what a whole bar stands for;
            0 takes the longest one.
    """

    name: str
    value: float
    said: str
    of: str = ""
    low: float | None = None
    high: float | None = None
    tip: str = ""
    full: float = 0.0


class Bars(QWidget):
    """Calm horizontal bars, one below the other, with their intervals where they have some."""

    LINE = 26  # px from one to the next

    def __init__(self, name: str, object_name: str) -> None:
        super().__init__()
        self.setObjectName(object_name)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._bars: tuple[Bar, ...] = ()
        self._longest: dict[str, float] = {}
        self.put(())

    def put(self, bars: Sequence[Bar], *, apart: bool = False) -> None:
        """Show these.

        Args:
            apart: bars of different names have scales of their own, as measures of different kinds need.
        """
        self._bars = tuple(bars)
        self._longest = {}
        for bar in self._bars:
            key = bar.name if apart else ""
            reach = max(abs(bar.value), abs(bar.high or 0.0), abs(bar.low or 0.0), bar.full)
            self._longest[key] = max(self._longest.get(key, 0.0), reach)
        self._apart = apart
        self.setFixedHeight(max(self.LINE, self.LINE * len(self._bars) + 8))
        words = [" ".join(part for part in (bar.of, bar.name, bar.said) if part) for bar in self._bars]
        self.setAccessibleDescription("; ".join(words))
        self.setToolTip(as_tip("\n".join(bar.tip for bar in self._bars if bar.tip)[:2000]))
        self.update()

    def bars(self) -> tuple[Bar, ...]:
        return self._bars

    def sizeHint(self) -> QSize:
        return QSize(360, self.height())

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont(self.font())
        font.setPixelSize(theme.NORMAL)
        metrics = QFontMetrics(font)
        painter.setFont(font)
        titles = [f"{bar.name} · {bar.of}" if bar.of else bar.name for bar in self._bars]
        left = min(self.width() * 0.4, max((metrics.horizontalAdvance(t) for t in titles), default=0) + 16.0)
        right = min(self.width() * 0.5, max((metrics.horizontalAdvance(b.said) for b in self._bars), default=0) + 16.0)
        room = max(10.0, self.width() - left - right)
        for at, (bar, title) in enumerate(zip(self._bars, titles, strict=True)):
            top = 4 + at * self.LINE
            base = top + (self.LINE + metrics.ascent() - metrics.descent()) / 2
            painter.setPen(QColor(now.text))
            painter.drawText(
                QRectF(0, top, left - 12, self.LINE), int(Qt.AlignmentFlag.AlignVCenter),
                metrics.elidedText(title, Qt.TextElideMode.ElideMiddle, int(left - 12)),  # both ends tell apart
            )  # fmt: skip
            longest = self._longest.get(bar.name if self._apart else "", 0.0) or 1.0
            scale = room / longest
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(now.field))
            painter.drawRoundedRect(QRectF(left, top + 8, room, self.LINE - 16), 4, 4)
            painter.setBrush(QColor(now.accent))
            painter.drawRoundedRect(QRectF(left, top + 8, max(2.0, abs(bar.value) * scale), self.LINE - 16), 4, 4)
            if bar.low is not None and bar.high is not None:
                one, other = left + max(0.0, bar.low) * scale, left + max(0.0, bar.high) * scale
                middle = top + self.LINE / 2
                painter.fillRect(QRectF(one, middle - 0.75, max(1.0, other - one), 1.5), QColor(now.text))
                for x in (one, other):
                    painter.fillRect(QRectF(x - 0.75, middle - 5, 1.5, 10), QColor(now.text))
            painter.setPen(QColor(now.soft))
            told = metrics.elidedText(bar.said, Qt.TextElideMode.ElideRight, int(self.width() - left - room - 12))
            painter.drawText(round(left + room + 12), round(base), told)
        if self.hasFocus():
            painter.setPen(QColor(now.accent))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self.update()
        super().changeEvent(event)

    def focusInEvent(self, event: Any) -> None:
        self.update()

    def focusOutEvent(self, event: Any) -> None:
        self.update()
