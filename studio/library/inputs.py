"""Pictures that works are made from: kept once, under the checksum of their bytes, so that a work can be made again.

Knows bytes and names; decodes nothing. A picture is kept before the job that needs it is queued.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from studio.core.files import durable, write_durably
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotFound, NotRead, NotSaved
from studio.core.text import shown

LIMIT = 512 * 1024 * 1024  # bytes; a picture of 178 million pixels, the most that is decoded, rarely has more
OLD_SECONDS = 7 * 86_400  # what nobody names for so long may go
_NAME = re.compile(r"^[0-9a-f]{40}\.[a-z0-9]{1,5}$")
NAMED = re.compile(r"[0-9a-f]{40}\.[a-z0-9]{1,5}")  # wherever it stands in a text
_HEADS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


def is_name(text: str) -> bool:
    """Whether a text is the name of a kept picture."""
    return bool(_NAME.match(text))


def ending_of(head: bytes) -> str | None:
    """The usual ending of a picture that begins with these bytes (16 will do), or None for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"heic"):
        return "avif"
    return next((ending for begins, ending in _HEADS if head.startswith(begins)), None)


class Passing:
    """A picture that is kept for a moment, by however many ask for it. `stamp`: when they touched it last."""

    def __init__(self, stamp: int) -> None:
        self.holders, self.stamp = 1, stamp


class Inputs:
    """The folder of kept input pictures."""

    def __init__(self, paths: Paths) -> None:
        self.folder = paths.inputs
        self._lock = threading.Lock()
        self._passing: dict[str, Passing] = {}

    def path(self, name: str) -> Path:
        """Where a kept picture lies; it counts as used now. Raises NotFound: no such name, or its file is gone."""
        path = self.folder / name
        if not is_name(name) or not path.is_file():
            raise NotFound(f"The picture “{shown(name, 60)}” is not kept here any more.")
        self._is_there(name)
        return path

    def add(self, file: Path) -> str:
        """Keep a copy of a picture file. Returns its name.

        Raises:
            BadRecipe: it is no picture, or larger than LIMIT. NotRead, NotSaved.
        """
        try:
            with open(file, "rb") as stream:
                ending = self._ending(stream.read(16), os.fstat(stream.fileno()).st_size, file.name)
                stream.seek(0)
                digest = hashlib.file_digest(stream, "sha256").hexdigest()[:40]
                name = f"{digest}.{ending}"
                if self._is_there(name):
                    return name
                stream.seek(0)
                with self._saving():
                    self.folder.mkdir(mode=0o700, exist_ok=True)
                    with durable(self.folder / name) as out:
                        while piece := stream.read(1 << 20):
                            out.write(piece)
                return name
        except OSError as error:
            raise NotRead(f"The picture “{shown(file.name)}” could not be read: {error.strerror or error}.") from None

    def add_bytes(self, data: bytes) -> str:
        """Keep a picture that is in memory, encoded in one of the usual formats. Returns its name.

        Raises:
            BadRecipe: it is no picture, or too large. NotSaved.
        """
        ending = self._ending(data[:16], len(data), "picture")
        name = f"{hashlib.sha256(data).hexdigest()[:40]}.{ending}"
        if not self._is_there(name):
            with self._saving():
                self.folder.mkdir(mode=0o700, exist_ok=True)
                write_durably(self.folder / name, data)
        return name

    def add_passing(self, data: bytes) -> str:
        """Keep a picture for a moment; `forget` takes it away again. Returns its name. Raises as `add_bytes`."""
        with self._lock:
            before = {entry.name: self._stamp(entry.name) for entry in self._entries()}
            name = self.add_bytes(data)
            held = self._passing.get(name)
            if held is not None and held.stamp == before.get(name):
                held.holders += 1
                held.stamp = self._stamp(name)
            elif name not in before:
                self._passing[name] = Passing(self._stamp(name))
            else:  # it was there before, or somebody has named it since: it stays
                self._passing.pop(name, None)
        return name

    def stamped(self, name: str) -> None:
        """What was asked to be kept for a moment was named by its own job: whoever names it from here on keeps it."""
        with self._lock:
            if name in self._passing:
                self._passing[name].stamp = self._stamp(name)

    def forget(self, name: str) -> None:
        """Delete what was kept for a moment, when the last holder lets go, unless somebody has named it since."""
        with self._lock:
            held = self._passing.get(name)
            if held is None:
                return
            held.holders -= 1
            if held.holders == 0:
                del self._passing[name]
                if self._stamp(name) == held.stamp:
                    with contextlib.suppress(OSError):
                        (self.folder / name).unlink()

    def _entries(self) -> list[Path]:
        return list(self.folder.iterdir()) if self.folder.is_dir() else []

    def _stamp(self, name: str) -> int:
        """When it was touched last, in nanoseconds; 0 where it is not."""
        with contextlib.suppress(OSError):
            return (self.folder / name).stat().st_mtime_ns
        return 0

    def clear(self, named: Iterable[str], now: float | None = None) -> tuple[str, ...]:
        """Delete what no one names and no one has touched for a week. Returns the names that went."""
        kept, gone = set(named), []
        with contextlib.suppress(OSError):
            for entry in sorted(self.folder.iterdir()):
                old = (now or time.time()) - entry.stat().st_mtime > OLD_SECONDS
                if is_name(entry.name) and entry.name not in kept and old:
                    entry.unlink()
                    gone.append(entry.name)
        return tuple(gone)

    def _is_there(self, name: str) -> bool:
        """Whether it is kept already; then it counts as touched now, so that `clear` leaves it to the coming job."""
        with contextlib.suppress(OSError):
            os.utime(self.folder / name)
            return True
        return False

    @staticmethod
    def _ending(head: bytes, size: int, called: str) -> str:
        ending = ending_of(head)
        if ending is None:
            raise BadRecipe(
                f"“{shown(called)}” is not a picture the studio can read.",
                "PNG, JPEG, WebP, AVIF, TIFF, GIF and BMP are.",
            )
        if size > LIMIT:
            raise BadRecipe(f"“{shown(called)}” has {size:,} bytes; a picture may have {LIMIT:,}.")
        return ending

    @staticmethod
    @contextlib.contextmanager
    def _saving() -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotSaved(
                f"The picture could not be kept: {error.strerror or error}.", "Make room on the disk and try again."
            ) from None
