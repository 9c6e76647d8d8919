"""The only crossing between the session's threads and the window's.

Events arrive on many threads and at any rate; they are collected under a lock and handed over on the main thread, at
most once per turn of its loop. Tabs connect to the two signals and never call one another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal

from studio.core.events import Again, Preview, Progress, Token
from studio.core.works import Change


class Bridge(QObject):
    """Listens to a session on any thread; emits on the main one.

    Signals:
        happened: a studio.core.events.Event. Of several Progress or Preview events of one job that arrive within one
            turn only the last is told; Token events are joined.
        change: a studio.core.works.Change.
    """

    happened = Signal(object)
    change = Signal(object)
    _wake = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._lock = threading.Lock()
        self._waiting: list[Any] = []
        self._wake.connect(self._drain, Qt.ConnectionType.QueuedConnection)

    def post(self, event: Any) -> None:
        """Take an event; callable from every thread, never blocks for long."""
        with self._lock:
            self._waiting.append(event)
            first = len(self._waiting) == 1
        if first:
            self._wake.emit()

    def call(self, what: Callable[[], None]) -> None:
        """Have something done on the main thread, in the order in which it was asked for."""
        self.post(what)

    def _drain(self) -> None:
        with self._lock:
            events, self._waiting = self._waiting, []
        left = deque(thinned(events))
        try:
            while left:
                self._tell(left.popleft())
        finally:
            if left:  # one of them raised, which is told elsewhere; the others are told all the same
                with self._lock:
                    self._waiting[:0] = left
                self._wake.emit()

    def _tell(self, event: Any) -> None:
        if isinstance(event, Change):
            self.change.emit(event)
        elif callable(event):
            event()
        else:
            self.happened.emit(event)


def thinned(events: list[Any]) -> list[Any]:
    """The same story in fewer events: later progress and previews replace earlier ones, tokens are joined."""
    kept: list[Any] = []
    last: dict[tuple[str, str, int], int] = {}
    for event in events:
        if isinstance(event, Token):
            key = ("token", event.job, event.index)
            if key in last:
                before = kept[last[key]]
                kept[last[key]] = Token(job=event.job, index=event.index, text=before.text + event.text)
                continue
        elif isinstance(event, (Progress, Preview)):
            key = (type(event).__name__, event.job, getattr(event, "index", 0))
            if key in last:
                kept[last[key]] = None
        else:
            if isinstance(event, Again):  # what came before it is another attempt's
                last = {key: at for key, at in last.items() if key[1] != event.job}
            kept.append(event)
            continue
        last[key] = len(kept)
        kept.append(event)
    return [event for event in kept if event is not None]
