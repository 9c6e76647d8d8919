"""What takes long on a large picture, one thing after another on a thread of its own, while the window goes on.

Knows documents and edits; knows nothing of widgets. An edit works on a copy; its result is laid into the document in
between two strokes. If the document was changed meanwhile by something else, the edit is done over on what it is now.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from PySide6.QtCore import QObject, QTimer, Signal

from studio.ui.paint.document import Document, Locked
from studio.ui.paint.edits import Edit, Patch, Turn
from studio.ui.strings import tr
from studio.ui.tasks import as_problem

LOOK_EVERY = 8  # ms; how often it is looked whether an edit is done
LONG = 0.15  # seconds; what takes longer is told

TITLES = {
    "grow": "Growing the mask", "shrink": "Shrinking the mask", "feather": "Softening the mask",
    "invert": "Inverting the mask", "fill_mask": "Filling the mask", "clear": "Clearing the mask",
    "select": "Selecting by colour", "fill": "Filling", "colour": "Colouring the layer",
    "colour_masked": "Colouring the layer", "clear_layer": "Clearing the layer",
    "undo": "Undoing", "redo": "Redoing",
}  # fmt: skip


class _Stopped(Exception):
    """Nobody wants it any more."""


@dataclass
class _Chore:
    what: str
    document: Document
    edit: Edit
    stopped: threading.Event = field(default_factory=threading.Event)
    done: Future[Patch | Turn] | None = None

    def check(self) -> None:
        if self.stopped.is_set():
            raise _Stopped


class Chores(QObject):
    """Signals:
    changed(): something else is being done, or nothing any more, or it takes long.
    failed(str): a sentence why something could not be done.
    """

    changed = Signal()
    failed = Signal(str)

    def __init__(self, parent: QObject, free: Callable[[], bool]) -> None:
        """
        Args:
            free: whether the document may be changed just now.
        """
        super().__init__(parent)
        self._free = free
        self._waiting: deque[_Chore | Callable[[], None]] = deque()
        self._running: _Chore | None = None
        self._began, self._told_long = 0.0, False
        self._thread: ThreadPoolExecutor | None = None
        self._looking = QTimer(self, interval=LOOK_EVERY)
        self._looking.timeout.connect(self._look)

    @property
    def what(self) -> str:
        """The key of what is being done; empty if nothing is."""
        return self._running.what if self._running is not None else ""

    @property
    def title(self) -> str:
        """A few words for it, once it takes long."""
        return tr(TITLES[self.what]) if self._running is not None and self._told_long else ""

    def begin(self, what: str, document: Document, edit: Edit) -> None:
        """Do this after all that waits. `what` is a key of TITLES."""
        self._waiting.append(_Chore(what, document, edit))
        self._next()

    def later(self, does: Callable[[], None]) -> None:
        """Call this when all that was begun before is done; at once if nothing is being done."""
        if self._running is None:
            does()
        else:
            self._waiting.append(does)

    def stop(self) -> None:
        """Give up all edits that are not done. What was to be called after them is called."""
        running, self._running = self._running, None
        if running is not None:
            running.stopped.set()
        calls = [it for it in self._waiting if not isinstance(it, _Chore)]
        self._waiting.clear()
        self._looking.stop()
        for does in calls:
            does()
        if running is not None:
            self.changed.emit()

    def close(self) -> None:
        """Stop, and end the thread."""
        self.stop()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        """Begin what waits, up to the first edit."""
        began = self._running is None
        while self._running is None and self._waiting:
            first = self._waiting.popleft()
            if isinstance(first, _Chore):
                self._began, self._told_long = time.monotonic(), False
                self._start(first)
            else:
                first()
        if began:
            self.changed.emit()

    def _start(self, chore: _Chore) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="edits")
        self._running = chore
        shot, edit, check = chore.document.snapshot(), chore.edit, chore.check
        chore.done = self._thread.submit(lambda: edit(shot, check))
        self._looking.start()

    def _look(self) -> None:
        chore = self._running
        if chore is None or chore.done is None:
            self._looking.stop()
            return
        if not chore.done.done():
            if not self._told_long and time.monotonic() - self._began > LONG:
                self._told_long = True
                self.changed.emit()
            return
        if not self._free():
            return
        self._looking.stop()
        error = chore.done.exception()
        if isinstance(error, KeyError):
            error = None  # its layer is gone
        elif error is None:
            with contextlib.suppress(KeyError):
                try:
                    if not chore.document.apply(chore.done.result()):
                        self._start(chore)  # on what the document is now
                        return
                except Locked as problem:
                    error = problem
        self._running = None
        if error is not None:
            self.failed.emit(str(error) if isinstance(error, ValueError) else as_problem(error).sentence)
        self._next()
