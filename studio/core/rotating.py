"""Logs that do not grow without end. Knows files; knows nothing of what is logged."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

SIZE = 4_000_000  # bytes of one file
OLDER = 3  # files that are kept beside it, as name.1 and so on


class RotatingLog(logging.handlers.RotatingFileHandler):
    """A file that lines are added to, from any thread. A disk that refuses costs the line and nothing else."""

    def __init__(self, path: Path, size: int = SIZE, older: int = OLDER) -> None:
        # delay: the file is made with its first line
        super().__init__(
            path, maxBytes=size, backupCount=older, encoding="utf-8", delay=True, errors="backslashreplace"
        )
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))

    def add(self, text: str) -> None:
        """Add a line, with the time before it."""
        self.handle(logging.makeLogRecord({"msg": text, "args": None, "levelno": logging.INFO}))

    def handleError(self, record: logging.LogRecord) -> None:
        pass
