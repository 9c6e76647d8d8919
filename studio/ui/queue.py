"""The job strip at the bottom, and the queue that unfolds above it."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QMimeData,
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPainterPath
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QListView,
    QMenu,
    QProgressBar,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from studio.core.jobs import JobState
from studio.ui import theme
from studio.ui.actions import keys_of
from studio.ui.desk import Desk
from studio.ui.icons import icon
from studio.ui.strings import as_button, as_tip, one_or_many, tr
from studio.ui.track import Tracked
from studio.ui.widgets import Button, Label, ToolButton, pointed, row

Index = QModelIndex | QPersistentModelIndex
JOB = Qt.ItemDataRole.UserRole
MIME = "application/x-studio-job"
ICONS = {
    "text": "message-square-text", "image": "image", "speech": "audio-lines", "export": "download",
    "edit": "crop", "upscale": "expand", "cutout": "wand", "sheet": "grid-2x2",
    "dataset": "database", "train-text": "graduation-cap", "train-image": "graduation-cap", "search": "activity",
    "convert": "file-plus", "evaluate-text": "gauge", "evaluate-image": "gauge", "evaluate-speech": "gauge",
    "training": "graduation-cap", "report": "gauge",
}  # fmt: skip


def noun(job: Tracked) -> str:
    """What a job makes: “Picture”, “4 pictures”."""
    if job.kind == "image":
        return one_or_many(job.count, "Picture", "{n} pictures")
    if job.kind == "text":
        return tr("Text") if job.count == 1 else tr("{n} texts", n=job.count)
    others = {
        "speech": tr("Reading"), "export": tr("Export"), "edit": tr("Adjusting"), "upscale": tr("Enlarging"),
        "cutout": tr("Cutting out"), "sheet": tr("Sheet"), "dataset": tr("Data set"), "train-text": tr("Training"),
        "train-image": tr("Training"), "search": tr("Search"), "convert": tr("Converting"),
        "evaluate-text": tr("Evaluation"), "evaluate-image": tr("Evaluation"), "evaluate-speech": tr("Evaluation"),
    }  # fmt: skip
    return others.get(job.kind, job.kind)


def part(job: Tracked) -> str:
    """Which picture of several is at work: “Picture 2 of 4”."""
    if job.kind == "image" and job.count > 1 and job.total and job.state is JobState.RUNNING:
        now = min(job.count, int(job.done / (job.total / job.count)) + 1)
        return tr("Picture {n} of {all}", n=now, all=job.count)
    return noun(job)


class Chip(ToolButton):
    """A small pill for another job at work."""

    def __init__(self, parent: QWidget, job: Tracked) -> None:
        super().__init__(tr("Show this job"), ICONS.get(job.kind, "list"), text=noun(job), role="chip")
        self.setParent(parent)
        self.job, self.kind = job.id, job.kind

    def refresh(self, job: Tracked) -> None:
        text = f"{noun(job)} · {job.status()}"
        if self.text().strip() != as_button(text):
            self.say(text)
            self.name(f"{text}\n{job.title}")


class JobStrip(QWidget):
    """One line on what runs, with its cancel; the rest as pills.

    Signals:
        unfold: the queue was asked for. go(str): the tab of this kind was asked for.
    """

    unfold = Signal()
    go = Signal(str)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._desk = desk
        self._job = ""
        self._kind = ""
        self._chips: dict[str, Chip] = {}
        self.bar = QProgressBar()
        self.bar.setObjectName("progress")
        self.bar.setAccessibleName(tr("Progress"))
        self.bar.setTextVisible(False)
        self.bar.setFixedWidth(180)
        self.title = Label()
        self.status = Label(role="soft", elide=True)
        self.cancel = Button(tr("Cancel"), role="pill", icon_name="x", clicked=self._cancel)
        self.cancel.setObjectName("strip_cancel")
        self.retry = Button(tr("Retry"), role="pill", icon_name="rotate-ccw", clicked=self._retry)
        self.retry.setObjectName("strip_retry")
        self.put_away = ToolButton(tr("Put this message away"), "x", clicked=self._dismiss)
        self.put_away.setObjectName("strip_dismiss")
        self.paused = Label(tr("paused"), "soft")
        self.toggle = ToolButton(
            tr("Show the queue"),
            "chevron-up",
            text=tr("Jobs"),
            shortcut=keys_of("toggle_queue"),
            clicked=self.unfold.emit,
        )
        self.toggle.setObjectName("strip_queue")
        self._pills = QHBoxLayout()
        self._pills.setSpacing(8)
        across = row(self.bar, 4, self.title, 4)
        across.addWidget(self.status, 1)
        across.addWidget(self.cancel)
        across.addWidget(self.retry)
        across.addWidget(self.put_away)
        across.addLayout(self._pills)
        across.addWidget(self.paused)
        across.addWidget(self.toggle)
        across.setContentsMargins(12, 4, 12, 4)
        self.setLayout(across)
        self.setFixedHeight(40)
        desk.track.changed.connect(self.refresh)
        desk.change.connect(lambda change: self.refresh() if change.lanes else None)
        desk.opened.connect(self.refresh)
        self._second = QTimer(self, interval=1000)  # the time left goes on between two steps
        self._second.timeout.connect(self.refresh)
        self.refresh()

    def prefer(self, kind: str) -> None:
        """Show the job of this kind in front of others."""
        self._kind = kind
        self.refresh()

    def _front(self) -> Tracked | None:
        track = self._desk.track
        running = track.running()
        first = next((j for j in running if j.kind == self._kind), running[0] if running else None)
        if first is not None:
            return first
        waiting = track.waiting()
        if waiting:
            return waiting[0]
        newest = next(iter(track.ended()), None)
        # what the user cancelled is no news
        return newest if newest is not None and newest.state is JobState.FAILED else None

    def refresh(self) -> None:
        """Draw what the track says."""
        track, job = self._desk.track, self._front()
        running = track.running()
        if running and not self._second.isActive():
            self._second.start()
        elif not running:
            self._second.stop()
        self._job = job.id if job else ""
        working = job is not None and job.state is JobState.RUNNING
        failed = job is not None and job.state in (JobState.FAILED, JobState.CANCELLED)
        self.bar.setVisible(working)
        self.cancel.setVisible(job is not None and not failed)
        self.cancel.setEnabled(job is not None and not job.cancelling)
        self.cancel.say(tr("Discard") if job is not None and job.held is not None else tr("Cancel"))
        self.retry.setVisible(failed)
        self.put_away.setVisible(failed)
        if job is None:
            self.title.setText("")
            self.status.setText(self._idle())
        else:
            self.title.setText(part(job))
            loading = self._loading(job.kind) if job.state is JobState.QUEUED else ""
            status = loading or job.status()
            self.status.setText(status if working else f"{status} · {job.title}")
            self.status.setToolTip(as_tip(job.title))
            share = job.share
            self.bar.setRange(0, 0 if share is None else 1000)
            if share is not None:
                self.bar.setValue(round(share * 1000))
        self._refresh_pills([j for j in running if j.id != self._job])
        count = len(running) + len(track.waiting())
        self.toggle.say(one_or_many(count, "{n} job", "{n} jobs") if count else tr("Jobs"))
        session = self._desk.session
        self.paused.setVisible(bool(session and session.paused))

    def _idle(self) -> str:
        session = self._desk.session
        if session is None:
            return self._desk.closed_because or tr("Opening the library …")
        if session.problem is not None:
            return session.problem.sentence
        lane = session.lanes().get(self._kind)
        if lane is None or not lane.model:
            return tr("Ready")
        return self._loading(self._kind) or tr("{model} is loaded", model=self._name(lane.model))

    def _loading(self, kind: str) -> str:
        """Said while a lane's model is loaded ahead of its jobs."""
        lane = self._desk.session.lanes().get(kind) if self._desk.session is not None else None
        return tr("loading {model} …", model=self._name(lane.model)) if lane is not None and lane.warming else ""

    def _name(self, model: str) -> str:
        return next((c.name for c in self._desk.models if c.id == model), model)

    def _refresh_pills(self, jobs: list[Tracked]) -> None:
        ids = {j.id for j in jobs}
        for gone in [i for i in self._chips if i not in ids]:
            chip = self._chips.pop(gone)
            self._pills.removeWidget(chip)
            chip.deleteLater()
        for job in jobs:
            if job.id not in self._chips:
                chip = self._chips[job.id] = Chip(self, job)
                chip.clicked.connect(lambda _=False, k=job.kind: self.go.emit(k))
                self._pills.addWidget(chip)
            self._chips[job.id].refresh(job)

    def mouseReleaseEvent(self, event: Any) -> None:
        # a click beside the buttons goes to what is told here
        job = self._desk.track.jobs.get(self._job)
        if event.button() == Qt.MouseButton.LeftButton and job is not None:
            self.go.emit(job.kind)

    def _cancel(self) -> None:
        if self._job:
            self._desk.cancel(self._job)
            self.refresh()  # it has been heard

    def _retry(self) -> None:
        if self._job:
            self._desk.retry(self._job)
            self.refresh()  # at once: a second press must not run it a second time

    def _dismiss(self) -> None:
        self._desk.track.dismiss(self._job)
        self.refresh()


class QueueModel(QAbstractListModel):
    """Running, then waiting in order, then ended."""

    def __init__(self, parent: QWidget, desk: Desk) -> None:
        super().__init__(parent)
        self._desk = desk
        self._ids: list[str] = []
        desk.track.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        track = self._desk.track
        ids = [j.id for j in (*track.running(), *track.waiting(), *track.ended())]
        if ids != self._ids:
            self.layoutAboutToBeChanged.emit()
            before = self.persistentIndexList()
            old = self._ids
            self._ids = ids
            for index in before:  # the selection stays with its job
                job = old[index.row()] if index.row() < len(old) else ""
                self.changePersistentIndex(index, self.index(ids.index(job)) if job in ids else QModelIndex())
            self.layoutChanged.emit()
        elif ids:
            self.dataChanged.emit(self.index(0), self.index(len(ids) - 1))

    def job(self, at: int) -> Tracked | None:
        return self._desk.track.jobs.get(self._ids[at]) if 0 <= at < len(self._ids) else None

    def row_of(self, job_id: str) -> int:
        return self._ids.index(job_id) if job_id in self._ids else -1

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008  Qt's own way
        return 0 if parent.isValid() else len(self._ids)

    def data(self, index: Index, role: int = 0) -> Any:
        job = self.job(index.row())
        if job is None:
            return None
        if role == JOB:
            return job
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return f"{part(job)}: {job.title} – {job.status()}"
        if role == Qt.ItemDataRole.ToolTipRole:
            hint = f"\n{job.problem.sentence} {job.problem.hint}" if job.problem else ""
            return as_tip(job.title + hint)
        return None

    def flags(self, index: Index) -> Qt.ItemFlag:
        usual = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        job = self.job(index.row()) if index.isValid() else None
        if job is None:
            return usual | Qt.ItemFlag.ItemIsDropEnabled
        return usual | Qt.ItemFlag.ItemIsDragEnabled if job.state is JobState.QUEUED else usual

    def supportedDropActions(self) -> Qt.DropAction:
        return Qt.DropAction.MoveAction

    def mimeTypes(self) -> list[str]:
        return [MIME]

    def mimeData(self, indexes: Any) -> QMimeData:
        data = QMimeData()
        data.setData(MIME, "\n".join(self._ids[i.row()] for i in indexes).encode())
        return data

    def dropMimeData(self, data: QMimeData, action: Qt.DropAction, at: int, column: int, parent: Index) -> bool:
        job_id = bytes(data.data(MIME).data()).decode().split("\n")[0]
        job = self._desk.track.jobs.get(job_id)
        if action != Qt.DropAction.MoveAction or job is None or job.state is not JobState.QUEUED:
            return False
        self.place(job_id, at if at >= 0 else len(self._ids))
        return True

    def place(self, job_id: str, at: int) -> None:
        """Put a waiting job before the one in this row; behind all that wait where that one does not wait."""
        waiting = [j.id for j in self._desk.track.waiting()]
        first = next((i for i, j in enumerate(self._ids) if j in waiting), 0)
        target = max(0, min(len(waiting), at - first))
        session = self._desk.session
        if session is None or job_id not in waiting:
            return
        others = [j for j in waiting if j != job_id]
        target -= waiting.index(job_id) < target
        if target == waiting.index(job_id):
            return
        order = [*others[:target], job_id, *others[target:]]
        self._desk.track.set_order(order)  # at once; the session's order follows
        if target < len(others):
            before = others[target]
            self._desk.tasks.write(self, lambda: session.move(job_id, before=before), None, self._desk.failed.emit)
        else:
            after = others[-1]
            self._desk.tasks.write(self, lambda: session.move(job_id, after=after), None, self._desk.failed.emit)


class QueueDelegate(QStyledItemDelegate):
    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        return QSize(200, 44)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        now = theme.current()
        job: Tracked | None = index.data(JOB)
        if job is None:
            return
        rect: QRect = option.rect.adjusted(4, 2, -4, -2)
        state = option.state
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if state & (QStyle.StateFlag.State_Selected | QStyle.StateFlag.State_MouseOver):
            frame = QPainterPath()
            frame.addRoundedRect(rect, 6, 6)
            painter.fillPath(frame, QColor(now.field_hover if state & QStyle.StateFlag.State_Selected else now.field))
        grip = QRect(rect.left() + 6, rect.center().y() - 8, 16, 16)
        if job.state is JobState.QUEUED:
            icon("grip-vertical", "soft").paint(painter, grip)
        icon(ICONS.get(job.kind, "list"), "soft").paint(painter, grip.translated(24, 0))
        metrics = painter.fontMetrics()
        left, width = rect.left() + 56, rect.width() - 64
        top = QRect(left, rect.top() + 4, width, metrics.height())
        painter.setPen(QColor(now.text))
        raised = f"  ↑{job.priority}" if job.priority > 0 else f"  ↓{-job.priority}" if job.priority < 0 else ""
        title = f"{part(job)}{raised if job.state is JobState.QUEUED else ''}  ·  {job.title}"
        painter.drawText(top, Qt.AlignmentFlag.AlignLeft, metrics.elidedText(title, Qt.TextElideMode.ElideRight, width))
        bad = job.state is JobState.FAILED
        painter.setPen(QColor(now.problem if bad else now.soft))
        under = top.translated(0, metrics.height() + 1)
        text = job.status()
        if bad and job.problem is not None and job.problem.hint:
            text = f"{text} {job.problem.hint}"
        share = job.share
        if share is not None:
            bar = QRect(left, under.center().y() - 2, 120, 5)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(now.field_hover))
            painter.drawRoundedRect(bar, 2, 2)
            painter.setBrush(QColor(now.accent))
            painter.drawRoundedRect(QRect(bar.left(), bar.top(), round(bar.width() * share), 5), 2, 2)
            painter.setPen(QColor(now.soft))
            under = under.adjusted(132, 0, 0, 0)
        painter.drawText(
            under, Qt.AlignmentFlag.AlignLeft, metrics.elidedText(text, Qt.TextElideMode.ElideRight, under.width())
        )
        painter.restore()


class QueueView(QListView):
    """The list; Alt with arrows moves a waiting job, Delete cancels.

    Signals:
        nudge(int): move the chosen job by so many places. remove: cancel or put away the chosen ones.
    """

    nudge = Signal(int)
    remove = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        alt = bool(event.modifiers() & Qt.KeyboardModifier.AltModifier)
        if alt and event.key() in (Qt.Key.Key_Up, Qt.Key.Key_Down):
            self.nudge.emit(-1 if event.key() == Qt.Key.Key_Up else 1)
        elif event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.remove.emit()
        else:
            super().keyPressEvent(event)


class QueuePanel(QWidget):
    """The queue with what can be done in it.

    Signals:
        pause: the queue is to pause or to go on.
    """

    pause = Signal()

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._desk = desk
        self.model = QueueModel(self, desk)
        self.view = QueueView()
        self.view.setObjectName("queue")
        self.view.setAccessibleName(tr("Queue"))
        self.view.setProperty("role", "list")
        self.view.setModel(self.model)
        self.view.setItemDelegate(QueueDelegate(self.view))
        self.view.setMouseTracking(True)
        self.view.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.view.setDragDropMode(QAbstractItemView.DragDropMode.InternalMove)
        self.view.setDefaultDropAction(Qt.DropAction.MoveAction)
        self.view.setDropIndicatorShown(True)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._menu)
        self.view.nudge.connect(self._nudge)
        self.view.remove.connect(self._cancel)
        self.cancel_button = ToolButton(
            tr("Cancel the chosen jobs"), "x", text=tr("Cancel"), shortcut="Del", clicked=self._cancel
        )
        self.retry_button = ToolButton(
            tr("Run the chosen jobs again"), "rotate-ccw", text=tr("Retry"), clicked=self._retry
        )
        self.up_button = ToolButton(tr("Move up"), "arrow-up", shortcut="Alt+Up", clicked=lambda: self._nudge(-1))
        self.down_button = ToolButton(
            tr("Move down"), "arrow-down", shortcut="Alt+Down", clicked=lambda: self._nudge(1)
        )
        self.first_button = ToolButton(tr("Run next"), "chevrons-up", clicked=self._next)
        self.pause_button = ToolButton("", "pause", text=tr("Pause"), clicked=self.pause.emit)
        for name in ("cancel", "retry", "up", "down", "first", "pause"):
            getattr(self, f"{name}_button").setObjectName(f"queue_{name}")
        self.nothing = Label(
            tr("Nothing waits. What you start while something runs is lined up here."), "soft", wrap=True
        )
        around = QVBoxLayout(self)
        around.setContentsMargins(12, 8, 12, 4)
        around.setSpacing(4)
        around.addLayout(
            row(
                Label(tr("Queue"), "heading"), 12, self.pause_button, None, self.first_button, self.up_button,
                self.down_button, self.retry_button, self.cancel_button, spacing=2,
            )
        )  # fmt: skip
        around.addWidget(self.nothing)
        around.addWidget(self.view, 1)
        self.view.selectionModel().selectionChanged.connect(lambda *_: self.refresh())
        desk.track.changed.connect(self.refresh)
        desk.change.connect(lambda change: self.refresh() if change.lanes else None)
        self.refresh()

    def chosen(self) -> list[Tracked]:
        found = [self.model.job(i.row()) for i in sorted(self.view.selectedIndexes(), key=lambda i: i.row())]
        return [job for job in found if job is not None]

    def refresh(self) -> None:
        """What can be done follows what is chosen."""
        jobs = self.chosen()
        waiting = bool(jobs) and all(j.state is JobState.QUEUED for j in jobs)
        self.cancel_button.setEnabled(bool(jobs))
        self.cancel_button.say(tr("Put away") if jobs and all(j.state.ended for j in jobs) else tr("Cancel"))
        self.retry_button.setEnabled(bool(jobs) and all(j.state.ended for j in jobs))
        for button in (self.up_button, self.down_button, self.first_button):
            button.setEnabled(waiting)
        session = self._desk.session
        paused = bool(session and session.paused)
        self.pause_button.say(tr("Go on") if paused else tr("Pause"))
        self.pause_button.set_icon("play" if paused else "pause")
        self.pause_button.name(
            tr("Start waiting jobs again") if paused else tr("Start nothing new; what runs goes on"),
            keys_of("pause_queue"),
        )
        self.pause_button.setEnabled(session is not None)
        self.nothing.setVisible(self.model.rowCount() == 0)

    def _cancel(self) -> None:
        for job in self.chosen():
            if job.state.ended:
                self._desk.track.dismiss(job.id)
            else:
                self._desk.cancel(job.id)

    def _retry(self) -> None:
        for job in self.chosen():
            if job.state.ended:
                self._desk.retry(job.id)

    def _nudge(self, step: int) -> None:
        jobs = [j for j in self.chosen() if j.state is JobState.QUEUED]
        if jobs:
            at = self.model.row_of(jobs[0].id)
            self.model.place(jobs[0].id, at + step + (step > 0))
            self.model.refresh()

    def _next(self) -> None:
        for job in reversed([j for j in self.chosen() if j.state is JobState.QUEUED]):
            self.model.place(job.id, 0)
            self.model.refresh()

    def _priority(self, job_id: str, priority: int) -> None:
        session = self._desk.session
        if session is not None:
            self._desk.tasks.write(self, lambda: session.move(job_id, priority=priority), None, self._desk.failed.emit)

    def _menu(self, at: QPoint) -> None:
        index, place = pointed(self.view, at)
        job = index.data(JOB)
        if job is None:
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if job.state is JobState.QUEUED:
            menu.addAction(tr("Run next")).triggered.connect(lambda *_: self._next())
            ranks = menu.addMenu(tr("Priority"))
            for title, value in ((tr("High"), 10), (tr("Normal"), 0), (tr("Low"), -10)):
                action = ranks.addAction(title)
                action.setCheckable(True)
                action.setChecked(job.priority == value)
                action.triggered.connect(lambda _=False, v=value: self._priority(job.id, v))
        if job.state.ended:
            menu.addAction(tr("Run again")).triggered.connect(lambda *_: self._retry())
            menu.addAction(tr("Put away")).triggered.connect(lambda *_: self._cancel())
        else:
            menu.addAction(tr("Cancel")).triggered.connect(lambda *_: self._cancel())
        menu.popup(place)
