"""What the pages in the middle of the Train tab and the Evaluate tab have in common. Knows jobs and works by id."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from studio.core.events import EndEvent, Event
from studio.core.problems import NotRead, Problem
from studio.core.works import Work
from studio.ui.desk import Desk
from studio.ui.strings import tr
from studio.ui.widgets import Label, row

LARGEST = 64_000_000  # bytes of a description that are read

T = TypeVar("T")


def read_file(path: Path, kind: type[T]) -> T:
    """A description from the disk. Callable from any thread.

    Raises:
        NotRead: it is not there, too large, or not what it should be.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST + 1)
    except OSError as error:
        raise NotRead(tr("Its file cannot be read: {why}.", why=error.strerror or error)) from None
    if len(data) > LARGEST:
        raise NotRead(tr("Its file is too large to be shown."))
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotRead(tr("Its file is damaged."), detail=str(error)) from None


class Page(QWidget):
    """One page: follows a job while it runs, or shows a work.

    Signals:
        problem(Problem): something could not be shown.
    """

    problem = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self.desk = desk
        self.job = ""  # the one that is followed
        self.aside = False  # the user looks at something else until it ends
        self.work: Work | None = None
        self._round = 0  # of what is shown; what was read for an earlier one comes too late

    # -- for subclasses -----------------------------------------------------------------------------------------------

    def begun(self, job_id: str) -> None:
        """Make room for a job; what it told so far is in the track."""

    def happened(self, event: Event) -> None:
        """An event of the followed job that is not its end."""

    def ended(self, event: EndEvent) -> None:
        """The followed job ended."""

    def display(self, work: Work) -> None:
        """Show a work."""

    def clear(self) -> None:
        """Nothing is to be shown."""

    # -- following ----------------------------------------------------------------------------------------------------

    def at_work(self) -> bool:
        job = self.desk.track.jobs.get(self.job)
        return job is not None and not job.state.ended

    def follow(self, job_id: str) -> None:
        if job_id != self.job:
            self.job, self.aside, self.work = job_id, False, None
            self._round += 1
            self.begun(job_id)

    def show_work(self, work: Work) -> None:
        self.aside = work.job != self.job and self.at_work()
        self.work = work
        self._round += 1
        self.display(work)

    def back(self) -> None:
        """Show again what is being made."""
        if self.aside and self.at_work():
            self.aside, self.work = False, None
            self._round += 1
            self.begun(self.job)

    def read(self, work: Work, kind: type[T], done: Callable[[T], Any]) -> None:
        """Read a work's description in the background; `done` is told only while that work is shown."""
        session, now = self.desk.session, self._round
        if session is None:
            return
        path = session.path(work)

        def told(found: T) -> None:
            if now == self._round:
                done(found)

        def failed(problem: Problem) -> None:
            if now == self._round:
                self.problem.emit(problem)

        self.desk.tasks.read(self, lambda: read_file(path, kind), told, failed)


def scrolling(name: str, accessible: str) -> tuple[QScrollArea, QVBoxLayout]:
    """A page that scrolls up and down, and the layout of what is in it."""
    scroll = QScrollArea()
    scroll.setObjectName(name)
    scroll.setAccessibleName(accessible)
    scroll.setWidgetResizable(True)
    scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    holder = QWidget()
    inside = QVBoxLayout(holder)
    inside.setContentsMargins(24, 16, 24, 16)
    inside.setSpacing(12)
    scroll.setWidget(holder)
    return scroll, inside


def heading(title: Label, *buttons: QPushButton) -> QHBoxLayout:
    """A title that takes the room, and buttons beside it that take what they need."""
    made = row(title, *buttons)
    made.setStretch(0, 1)
    for button in buttons:
        button.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
    return made


class Section(QWidget):
    """A heading and what stands under it; hidden while it is empty."""

    def __init__(self, title: str, *inside: QWidget) -> None:
        super().__init__()
        self.around = QVBoxLayout(self)
        self.around.setContentsMargins(0, 0, 0, 0)
        self.around.setSpacing(6)
        self.title = Label(title, "heading")
        self.around.addWidget(self.title)
        for widget in inside:
            self.around.addWidget(widget)
