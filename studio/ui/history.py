"""What was made: works, newest first, fetched page after page; thumbnails are loaded as they come into view."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QItemSelectionModel,
    QMimeData,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QTimer,
    QUrl,
    Signal,
)
from PySide6.QtGui import QColor, QDrag, QImage, QImageReader, QKeyEvent, QPainter, QPainterPath, QPen, QPixmap
from PySide6.QtWidgets import (
    QAbstractItemView,
    QLineEdit,
    QListView,
    QMenu,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from studio.core.problems import NotFound
from studio.core.recipes import kind_of
from studio.core.text import shown
from studio.core.works import Change, Work
from studio.ui import theme
from studio.ui.desk import Desk
from studio.ui.icons import icon
from studio.ui.strings import as_tip, duration, one_or_many, tr
from studio.ui.widgets import LATER, Label, ToolButton, pointed, row

LEARNT = ("dataset", "training", "report")  # kinds of works that are described in a file
PAGE = 100  # works fetched at a time
THUMBNAILS = 240  # kept in memory
SIDE = 192  # px of a kept thumbnail
SEARCH_AFTER = 200  # ms after the last key
WORK = Qt.ItemDataRole.UserRole

Index = QModelIndex | QPersistentModelIndex


class WorksModel(QAbstractListModel):
    """Works of some kinds, newest first.

    Signals:
        came(list): works that have just been made, newest first.
        loaded: the first page is there.
    """

    came = Signal(list)
    loaded = Signal()

    def __init__(self, parent: QWidget, desk: Desk, *kinds: str) -> None:
        super().__init__(parent)
        self._desk, self._kinds = desk, kinds
        self.works: list[Work] = []
        self.search, self.starred = "", False
        self.ready = False
        self._more, self._fetching, self._round = False, False, 0
        self._thumbnails: OrderedDict[str, QPixmap | None] = OrderedDict()
        desk.opened.connect(self.reload)
        desk.change.connect(self._changed)
        if desk.session is not None:
            self.reload()

    # -- reading ----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Begin anew, with the search as it is now."""
        self._round += 1
        self._fetch("")

    def _fetch(self, before: str) -> None:
        session = self._desk.session
        if session is None:
            return
        self._fetching = True
        now, kinds, search, starred = self._round, self._kinds, self.search, self.starred

        def read() -> list[Work]:
            found: list[Work] = []
            for kind in kinds:
                found += session.works(limit=PAGE, kind=kind, before=before, search=search, starred=starred)
            return found if len(kinds) == 1 else sorted(found, key=lambda work: -work.seq)[:PAGE]

        self._desk.tasks.read(self, read, lambda works: self._fetched(now, before, works))

    def _fetched(self, asked: int, before: str, works: list[Work]) -> None:
        if asked != self._round:
            return
        self._fetching, self._more = False, len(works) == PAGE
        if not before:
            self.ready = True
            self.beginResetModel()
            self.works = works
            self.endResetModel()
            self.loaded.emit()
        elif works:
            self.beginInsertRows(QModelIndex(), len(self.works), len(self.works) + len(works) - 1)
            self.works += works
            self.endInsertRows()

    def canFetchMore(self, parent: Index) -> bool:
        return self._more and not self._fetching

    def fetchMore(self, parent: Index) -> None:
        if self.works:
            self._fetch(self.works[-1].id)

    def _changed(self, change: Change) -> None:
        session = self._desk.session
        if not change.works or session is None:
            return
        ids = change.works

        def read() -> list[Work]:
            found = []
            for work_id in ids:
                with contextlib.suppress(NotFound):  # the bin was emptied
                    found.append(session.work(work_id))
            return found

        self._desk.tasks.read(self, read, self._came)

    def _came(self, works: list[Work]) -> None:
        for gone in [w.id for w in works if w.removed]:
            row_at = self.row_of(gone)
            if row_at >= 0:
                self.beginRemoveRows(QModelIndex(), row_at, row_at)
                del self.works[row_at]
                self.endRemoveRows()
        works = [w for w in works if not w.removed]
        mine = [w for w in works if w.kind in self._kinds]
        place = {w.id: i for i, w in enumerate(self.works)}
        # works are told of when they are made and when they are changed; an old one further down is not a new one
        newest = max((w.seq for w in self.works), default=-1)
        fresh = [w for w in mine if w.id not in place and w.seq > newest]
        for work in mine:
            if work.id in place:
                self.works[place[work.id]] = work
                at = self.index(place[work.id])
                self.dataChanged.emit(at, at)
        if self.starred and any(w.starred != (w.id in place) for w in mine):
            self.reload()  # a star came or went
        if fresh:
            fresh.reverse()  # the job's last work is the newest
            if self.search or self.starred or not self.ready:
                self.reload()
            else:
                self.beginInsertRows(QModelIndex(), 0, len(fresh) - 1)
                self.works[:0] = fresh
                self.endInsertRows()
            self.came.emit(fresh)

    # -- showing ----------------------------------------------------------------------------------------------------

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  Qt's own way
        return 0 if parent.isValid() else len(self.works)

    def data(self, index: Index, role: int = 0) -> Any:
        if not 0 <= index.row() < len(self.works):
            return None
        work = self.works[index.row()]
        if role == WORK:
            return work
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return f"{shown(work.title, 80)}, {when(work)}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return as_tip(f"{shown(work.title, 300)}\n{when(work)}")
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        usual = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return usual | Qt.ItemFlag.ItemIsDragEnabled if index.isValid() else usual

    def mimeTypes(self) -> list[str]:
        return ["text/uri-list"]

    def mimeData(self, indexes: Any) -> QMimeData:
        return mime_of([self.works[i.row()] for i in indexes], self._desk)

    def row_of(self, work_id: str) -> int:
        return next((i for i, w in enumerate(self.works) if w.id == work_id), -1)

    def thumbnail(self, work: Work) -> QPixmap | None:
        """The work's small picture, or None until it has been loaded."""
        if work.id in self._thumbnails:
            self._thumbnails.move_to_end(work.id)
            return self._thumbnails[work.id]
        session, asset = self._desk.session, work.thumbnail or work.master
        if session is None:
            return None
        self._thumbnails[work.id] = None
        while len(self._thumbnails) > THUMBNAILS:
            self._thumbnails.popitem(last=False)
        path = session.paths.works / asset.path
        self._desk.tasks.picture(self, lambda: small_picture(path), lambda image: self._pictured(work.id, image))
        return None

    def _pictured(self, work_id: str, image: QImage) -> None:
        if work_id in self._thumbnails and not image.isNull():
            self._thumbnails[work_id] = QPixmap.fromImage(image)
            at = self.index(self.row_of(work_id))
            self.dataChanged.emit(at, at)


def small_picture(path: Path, side: int = SIDE) -> QImage:
    """A picture no larger than `side`, or a null one where it cannot be read. Callable from any thread."""
    reader = QImageReader(str(path))
    reader.setAutoTransform(True)
    size = reader.size()
    if size.isValid() and max(size.width(), size.height()) > side:
        reader.setScaledSize(size.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio))
    return reader.read()


def mime_of(works: list[Work], desk: Desk) -> QMimeData:
    """Works as files for other programs."""
    data = QMimeData()
    session = desk.session
    if session is not None:
        data.setUrls([QUrl.fromLocalFile(str(session.path(w))) for w in works])
    return data


def drag_out(source: QWidget, work: Work, desk: Desk, picture: QPixmap | None = None) -> None:
    """Drag a work's file into another program. The library's own file is only ever copied from."""
    drag = QDrag(source)
    drag.setMimeData(mime_of([work], desk))
    if picture is not None and not picture.isNull():
        drag.setPixmap(picture.scaled(96, 96, Qt.AspectRatioMode.KeepAspectRatio))
    drag.exec(Qt.DropAction.CopyAction)


def when(work: Work) -> str:
    """The day and time a work was made, in the user's own time."""
    try:
        made = datetime.fromisoformat(work.created.replace("Z", "+00:00")).astimezone()
    except ValueError:
        return work.created
    return made.strftime("%H:%M" if made.date() == datetime.now().astimezone().date() else "%d.%m.%Y %H:%M")


class WorkDelegate(QStyledItemDelegate):
    """Pictures as tiles, texts and sounds as lines."""

    def __init__(self, parent: QListView, tiles: bool) -> None:
        super().__init__(parent)
        self._tiles, self._view = tiles, parent

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        if self._tiles:
            return self._view.gridSize()
        return QSize(self._view.viewport().width() - 2, 64 if index.data(WORK).kind == "speech" else 52)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        now = theme.current()
        work: Work = index.data(WORK)
        rect: QRect = option.rect.adjusted(4, 4, -4, -4)
        state = option.state
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        chosen = bool(state & QStyle.StateFlag.State_Selected)
        over = bool(state & QStyle.StateFlag.State_MouseOver)
        frame = QPainterPath()
        frame.addRoundedRect(rect, 6, 6)
        if self._tiles:
            painter.fillPath(frame, QColor(now.field))
            picture = index.model().thumbnail(work)  # type: ignore[attr-defined]
            if picture is not None:
                painter.setClipPath(frame)
                size = picture.size().scaled(rect.size(), Qt.AspectRatioMode.KeepAspectRatio)
                place = QRect(QPoint(0, 0), size)
                place.moveCenter(rect.center())
                painter.drawPixmap(place, picture)
                painter.setClipping(False)
            painter.setPen(QPen(QColor(now.line), 1))  # white pictures on a white page
            painter.drawPath(frame)
        else:
            painter.fillPath(frame, QColor(now.field_hover if chosen or over else now.panel))
            self._words(painter, rect.adjusted(10, 4, -10, -4), work, now, index)
        if not work.complete:
            icon("circle-stop", "soft").paint(painter, QRect(rect.right() - 20, rect.top() + 4, 16, 16))
        elif work.starred:
            icon("star-filled", "star").paint(painter, QRect(rect.right() - 20, rect.top() + 4, 16, 16))
        if chosen:
            painter.setPen(QPen(QColor(now.accent), 2))
            painter.drawRoundedRect(rect.adjusted(-2, -2, 2, 2), 8, 8)
        painter.restore()

    def _words(self, painter: QPainter, rect: QRect, work: Work, now: theme.Theme, index: Index) -> None:
        metrics = painter.fontMetrics()
        title = shown(work.title, 120) or tr("untitled")
        painter.setPen(QColor(now.text))
        width = rect.width() - (20 if work.starred or not work.complete else 0)
        painter.drawText(
            QRect(rect.left(), rect.top(), width, metrics.height()), Qt.AlignmentFlag.AlignLeft,
            metrics.elidedText(title, Qt.TextElideMode.ElideRight, width),
        )  # fmt: skip
        painter.setPen(QColor(now.soft))
        under = QRect(rect.left(), rect.top() + metrics.height() + 3, rect.width(), metrics.height())
        painter.drawText(under, Qt.AlignmentFlag.AlignLeft, facts(work))
        if work.kind == "speech":
            picture = index.model().thumbnail(work)  # type: ignore[attr-defined]
            if picture is not None:
                place = QRect(rect.left(), under.bottom() + 1, rect.width(), rect.bottom() - under.bottom())
                painter.setOpacity(0.7)
                painter.drawPixmap(place, picture)


def facts(work: Work) -> str:
    """A short line on a work: time and size."""
    if work.kind == "text":
        words = work.meta.get("words")
        return f"{when(work)} · " + (tr("{n} words", n=f"{words:,}") if isinstance(words, int) else work.kind)
    if work.kind == "speech":
        return f"{when(work)} · {duration(float(work.meta.get('seconds', 0.0)))}"
    if work.kind in LEARNT:
        return f"{when(work)} · {_learnt(work)}"
    return f"{when(work)} · {work.meta.get('width', '?')} × {work.meta.get('height', '?')}"


def _learnt(work: Work) -> str:
    """What a data set, a training or a report is, in a few words."""
    kind, meta = kind_of(work.recipe), work.meta
    if work.kind == "dataset":
        rows = meta.get("rows")
        return one_or_many(rows, "{n} row", "{n} rows") if isinstance(rows, int) else tr("data set")
    method = str(getattr(work.recipe, "method", ""))
    words = {
        "search": tr("search"), "convert": tr("export"), "evaluate-text": tr("texts"),
        "evaluate-image": tr("pictures"), "evaluate-speech": tr("speech"),
    }  # fmt: skip
    found = words.get(kind) or tr(method or "training")
    steps = meta.get("steps")
    return f"{found} · " + one_or_many(steps, "{n} step", "{n} steps") if isinstance(steps, int) else found


class WorkView(QListView):
    """The list itself.

    Signals:
        opened(Work): clicked or chosen with the keys. remove([Work]): Delete was pressed on these.
    """

    opened = Signal(object)
    remove = Signal(list)

    def __init__(self, model: WorksModel, tiles: bool) -> None:
        super().__init__()
        self._tiles = tiles
        self.setObjectName("history")
        self.setAccessibleName(tr("History"))
        self.setProperty("role", "list")
        self.setModel(model)
        self.setItemDelegate(WorkDelegate(self, tiles))
        self.setMouseTracking(True)
        self.setDragEnabled(True)
        self.setDragDropMode(QAbstractItemView.DragDropMode.DragOnly)
        self.setDefaultDropAction(Qt.DropAction.CopyAction)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        if tiles:
            self.setViewMode(QListView.ViewMode.IconMode)
            self.setMovement(QListView.Movement.Static)
            self.setDragEnabled(True)  # which the line above took away
            self.setSpacing(0)
        # batches, so that a thousand works do not hold up the window while they are laid out
        self.setLayoutMode(QListView.LayoutMode.Batched)
        self.setBatchSize(100)
        self.selectionModel().currentChanged.connect(self._current)

    def resizeEvent(self, event: Any) -> None:
        if self._tiles:
            # room for the scroll bar is kept, so that its coming does not move the tiles
            width = self.width() - self.verticalScrollBar().sizeHint().width() - 4
            side = max(72, width // max(1, round(width / 112)))
            self.setGridSize(QSize(side, side))
        super().resizeEvent(event)

    def _current(self, index: QModelIndex, _: QModelIndex) -> None:
        work = index.data(WORK)
        if work is not None and self.hasFocus():
            self.opened.emit(work)

    def mousePressEvent(self, event: Any) -> None:
        super().mousePressEvent(event)
        work = self.indexAt(event.position().toPoint()).data(WORK)
        if work is not None and event.button() == Qt.MouseButton.LeftButton and not event.modifiers():
            self.opened.emit(work)  # also the one that was current already

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and self.chosen():
            self.remove.emit(self.chosen())
        else:
            super().keyPressEvent(event)

    def chosen(self) -> list[Work]:
        """The selected works, in the order of the list."""
        indexes = sorted(self.selectedIndexes(), key=lambda i: i.row())
        return [i.data(WORK) for i in indexes]


class HistoryPanel(QWidget):
    """Heading, search, list.

    Signals:
        opened(Work): to be shown large.
        menu(Work, QMenu): the user asked what can be done with it; the tab fills the menu.
    """

    opened = Signal(object)
    menu = Signal(object, object)

    def __init__(self, desk: Desk, *kinds: str, tiles: bool) -> None:
        super().__init__()
        self.model = WorksModel(self, desk, *kinds)
        self.view = WorkView(self.model, tiles)
        self._desk = desk
        heading = Label(tr("History"), "heading")
        self.star_only = ToolButton(tr("Show starred works only"), "star", checkable=True)
        self.star_only.setObjectName("star_only")
        self.star_only.toggled.connect(self._filter)
        self.search = QLineEdit()
        self.search.setObjectName("history_search")
        self.search.setAccessibleName(tr("Search the history"))
        self.search.setPlaceholderText(tr("Search"))
        QTimer.singleShot(LATER, self.search, lambda: self.search.setClearButtonEnabled(True))  # looks for an icon
        self._soon = QTimer(self, singleShot=True, interval=SEARCH_AFTER)
        self._soon.timeout.connect(self._filter)
        self.search.textChanged.connect(lambda _: self._soon.start())
        self.nothing = Label(role="soft", wrap=True)
        self.nothing.setAlignment(Qt.AlignmentFlag.AlignTop)
        around = QVBoxLayout(self)
        around.setContentsMargins(12, 12, 12, 8)
        around.setSpacing(8)
        around.addLayout(row(heading, None, self.star_only))
        around.addWidget(self.search)
        around.addWidget(self.nothing)
        around.addWidget(self.view, 1)
        self.view.opened.connect(self.opened)
        self.view.customContextMenuRequested.connect(self._menu)
        for signal in (self.model.modelReset, self.model.rowsInserted, self.model.rowsRemoved):
            signal.connect(self._tell_nothing)
        desk.refused.connect(self._tell_nothing)
        self._tell_nothing()

    def _filter(self, *_: Any) -> None:
        self.model.search, self.model.starred = self.search.text().strip(), self.star_only.isChecked()
        self.model.reload()

    def _tell_nothing(self, *_: Any) -> None:
        empty = not self.model.works
        if not self.model.ready:
            self.nothing.setText(self._desk.closed_because or tr("Opening the library …"))
        elif self.model.search or self.model.starred:
            self.nothing.setText(tr("Nothing was found."))
        else:
            self.nothing.setText(tr("What you make is kept here, with everything needed to make it again."))
        self.nothing.setVisible(empty)

    def _menu(self, at: QPoint) -> None:
        index, place = pointed(self.view, at)
        work = index.data(WORK)
        if work is not None:
            made = QMenu(self)
            made.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            self.menu.emit(work, made)
            made.popup(place)

    def select(self, work_id: str) -> None:
        """Mark a work as the one that is shown."""
        at = self.model.row_of(work_id)
        if at >= 0:
            index = self.model.index(at)
            if self.view.currentIndex() != index:  # it may be the last one of several that are being selected
                # said outright: the view itself would go by the keys that are held, and Ctrl of Ctrl+Enter often is
                chosen = QItemSelectionModel.SelectionFlag.ClearAndSelect
                self.view.selectionModel().setCurrentIndex(index, chosen)
            self.view.scrollTo(index)

    def neighbour(self, work_id: str, step: int) -> Work | None:
        """The work `step` places further down the list."""
        at = self.model.row_of(work_id) + step
        return self.model.works[at] if 0 <= at < len(self.model.works) else None
