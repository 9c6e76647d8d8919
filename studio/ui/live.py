"""Painting while the user types: the picture follows the prompt, the form and the mask, and nothing of it is kept.

What is out of date is dropped. Generate makes the same picture as a work: while it is live, the seed is held.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QImage

from studio.core.events import Cancelled, Event, Failed, Preview, Shown
from studio.core.problems import Problem
from studio.core.recipes import SEED_LIMIT
from studio.ui.desk import Desk

REST = 350  # ms without a change before it is painted

Pictures = Callable[[], dict[str, bytes]]


class Live(QObject):
    """Signals:
    shown(QImage, bool): a picture, and whether it is done; previews are not.
    refused(Problem): it cannot be painted as it is.
    """

    shown = Signal(object, bool)
    refused = Signal(object)

    def __init__(self, parent: QObject, desk: Desk) -> None:
        super().__init__(parent)
        self._desk = desk
        self.on = False
        self._wanted: tuple[dict[str, Any], Pictures] | None = None
        self._turn = 0  # of requests; events of earlier ones are out of date
        self._running = ""
        self._ended = -1  # the newest turn whose end was told
        self._source: Callable[[], tuple[dict[str, Any], Pictures] | None] = lambda: None
        self._soon = QTimer(self, singleShot=True, interval=REST)
        self._soon.timeout.connect(self._ask)

    def start(self, source: Callable[[], tuple[dict[str, Any], Pictures] | None]) -> None:
        """Follow. `source` gives the values of the form, and a function that encodes pictures off the main thread;
        None where there is nothing to paint yet."""
        self.on, self._source = True, source
        self._soon.start(0)

    def stop(self) -> None:
        self.on = False
        self._soon.stop()
        self._drop()

    def touch(self) -> None:
        """Something changed."""
        if self.on:
            self._soon.start()

    @staticmethod
    def some_seed() -> int:
        return secrets.randbelow(SEED_LIMIT)

    def _drop(self) -> None:
        self._turn += 1
        session, running, self._running = self._desk.session, self._running, ""
        if session is not None and running:
            self._desk.tasks.read(self, lambda: session.drop(running), lambda _: None)

    def _ask(self) -> None:
        session, given = self._desk.session, self._source()
        if session is None or given is None or not self.on:
            return
        self._drop()
        values, pictures = given
        turn = self._turn

        def happened(event: Event) -> None:
            self._desk.bridge.call(lambda: self._happened(turn, event))

        def begin() -> str:
            return session.aside("image", values, happened, pictures())

        def begun(aside: str) -> None:
            if turn == self._turn:
                self._running = "" if turn == self._ended else aside  # its end may be told first
            else:  # something changed meanwhile
                session.drop(aside)

        def refused(problem: Problem) -> None:
            if turn == self._turn:
                self.refused.emit(problem)

        self._desk.tasks.write(self, begin, begun, refused)

    def _happened(self, turn: int, event: Event) -> None:
        if turn != self._turn or not self.on:
            return
        if isinstance(event, Preview):
            self._show(event.jpeg, False)
        elif isinstance(event, Shown):
            self._running, self._ended = "", turn
            self._show(event.data, True)
        elif isinstance(event, Failed):
            self._running, self._ended = "", turn
            self.refused.emit(event.problem)
        elif isinstance(event, Cancelled):
            self._running, self._ended = "", turn

    def _show(self, data: bytes, done: bool) -> None:
        image = QImage.fromData(data)
        if not image.isNull():
            self.shown.emit(image, done)
