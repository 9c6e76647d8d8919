"""What the window remembers from one day to the next: where it stood and what was typed. Saved shortly after a change.

A file that may be lost without harm: works, jobs and conversations live in the database.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import msgspec
from PySide6.QtCore import QObject, QTimer

from studio.core.files import write_durably
from studio.core.text import clean
from studio.ui.tasks import Tasks

SAVE_AFTER = 500  # ms after the last change
LARGEST = 32_000_000  # bytes; a larger file is not ours


class WindowState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Everything remembered.

    Attributes:
        geometry: QMainWindow.saveGeometry() as base64.
        tab: kind of the open tab.
        forms: kind -> field -> value, where it differs from the default.
        splitters: name -> sizes in px. open: names of opened folds and panels. closed: of closed ones.
        folder: where exports went last. export_format: kind -> extension.
        conversation: id of the open conversation. drafts: name -> unsent text.
    """

    geometry: str = ""
    tab: str = "text"
    forms: dict[str, dict[str, Any]] = {}
    splitters: dict[str, list[int]] = {}
    open: list[str] = []
    closed: list[str] = []
    folder: str = ""
    export_format: dict[str, str] = {}
    export_quality: int = 90
    conversation: str = ""
    drafts: dict[str, str] = {}

    def is_open(self, name: str, otherwise: bool = False) -> bool:
        return name in self.open or (otherwise and name not in self.closed)

    def set_open(self, name: str, opened: bool) -> None:
        for names, wanted in ((self.open, opened), (self.closed, not opened)):
            if wanted and name not in names:
                names.append(name)
            elif not wanted and name in names:
                names.remove(name)


def load(path: Path) -> WindowState:
    """The remembered state, or a fresh one where there is none or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        if path.is_file() and path.stat().st_size <= LARGEST:
            found = msgspec.json.decode(path.read_bytes(), type=WindowState)
            found.splitters = {n: s for n, s in found.splitters.items() if all(0 <= px < 100_000 for px in s)}
            found.export_quality = min(100, max(1, found.export_quality))
            return found
    return WindowState()


class Keeper(QObject):
    """Writes the state to its file half a second after the last change, in the background."""

    def __init__(self, parent: QObject, path: Path, state: WindowState) -> None:
        super().__init__(parent)
        self.state = state
        self.path = path
        self._tasks: Tasks | None = None
        self._written = b""
        self._timer = QTimer(self, singleShot=True, interval=SAVE_AFTER)
        self._timer.timeout.connect(self._save)

    def start(self, tasks: Tasks) -> None:
        """From now on changes are saved."""
        self._tasks = tasks

    def touch(self) -> None:
        """Something changed."""
        if not self._timer.isActive():  # while somebody types without a pause, it is saved all the same
            self._timer.start()

    def _save(self) -> None:
        data = encoded(self.state)
        if self._tasks is not None and data != self._written:
            self._written = data
            self._tasks.write(self, lambda: self.write(data))

    def write(self, data: bytes | None = None) -> None:
        """Write now. A disk that refuses costs the memory of splitters and drafts, nothing more."""
        try:
            write_durably(self.path, encoded(self.state) if data is None else data)
        except OSError as error:
            print(f"The state of the window could not be kept: {error}", file=sys.stderr)


def encoded(state: WindowState) -> bytes:
    try:
        return msgspec.json.encode(state)
    except UnicodeEncodeError:  # half a character was pasted into a draft
        return msgspec.json.encode(_cleaned(msgspec.to_builtins(state)))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)[0]
    if isinstance(value, dict):
        return {_cleaned(k): _cleaned(v) for k, v in value.items()}
    return [_cleaned(v) for v in value] if isinstance(value, list) else value
