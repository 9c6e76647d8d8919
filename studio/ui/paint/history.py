"""Undo and redo, kept in a folder so that neither a restart nor a crash takes them away.

Knows tiles, steps, a journal and files; knows nothing of layers, brushes or widgets. A step holds the tiles that it
changed as they were before and as they are after. One thread packs and writes them, so that who paints never waits:

    journal       one line for each thing that happened: a checksum, a space, JSON; a cut-off last line does not count
    000012.tiles  packed tiles, one after another; the lines of the journal say which tile lies where

Tiles are on disk before the line that names them. Where the journal has grown long it is written anew, beside the old
one, and put in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PySide6.QtCore import QRect
from PySide6.QtGui import QImage

TILE = 256  # px, the side of a tile
LIMIT = 256_000_000  # bytes on disk, or in memory where there is no folder
WAITING_MOST = 512_000_000  # bytes of tiles that wait for the thread; beyond it a change waits
RETRY = 2.0  # seconds between attempts where nothing can be written
JOURNAL, NEW_JOURNAL, ENDING = "journal", "journal.new", ".tiles"
VERSION = 1
_JOURNAL_LEAST = 256_000  # bytes; a shorter journal is not written anew
_ROOMY = 0.8  # of the limit is kept where it was passed, so that this is not done for every stroke
_LOOSE = 0.9  # a file of which less than this is needed is written anew

_GREY, _COLOUR = QImage.Format.Format_Alpha8, QImage.Format.Format_ARGB32_Premultiplied
_FORMATS = {1: _GREY, 4: _COLOUR}  # bytes per px

Key = tuple[int, int, int]  # surface, column and row of the tile
Sheet = dict[str, Any]  # what the document is but for its pixels; plain JSON values


def tile_rect(column: int, row: int, width: int, height: int) -> QRect:
    """Where a tile lies on a surface of this size; those at the right and lower edge are smaller."""
    return QRect(column * TILE, row * TILE, TILE, TILE).intersected(QRect(0, 0, width, height))


def tiles_under(rect: QRect, width: int, height: int) -> Iterable[tuple[int, int]]:
    """Columns and rows of the tiles that a rectangle touches."""
    rect = rect.intersected(QRect(0, 0, width, height))
    if rect.isEmpty():
        return
    for row in range(rect.top() // TILE, rect.bottom() // TILE + 1):
        for column in range(rect.left() // TILE, rect.right() // TILE + 1):
            yield column, row


class Blob:
    """The content of one tile at one time: as pixels, packed, or a place in a file."""

    __slots__ = ("_image", "_packed", "depth", "folder", "height", "place", "width")

    def __init__(self, image: QImage | None = None) -> None:
        self._image = image
        self._packed = b""
        self.place: tuple[int, int, int] | None = None  # number of the file, offset, length
        self.folder: Path | None = None
        if image is not None:
            self.width, self.height, self.depth = image.width(), image.height(), image.depth() // 8

    @property
    def raw_bytes(self) -> int:
        return self.width * self.height * self.depth if self._image is not None else 0

    @property
    def packed_bytes(self) -> int:
        return len(self._packed)

    def image(self) -> QImage:
        """The pixels.

        Raises:
            OSError: the file is gone or cannot be read. ValueError: its content is damaged.
        """
        image = self._image  # the thread may pack it meanwhile
        if image is not None:
            return image
        packed = self.packed()
        whole = self.width * self.height * self.depth
        if packed[:1] == b"=":
            plain = packed[1:] * (self.width * self.height)
        else:
            unpack = zlib.decompressobj()
            try:
                plain = unpack.decompress(packed[1:], whole + 1)
            except zlib.error as error:
                raise ValueError("a tile of the history is damaged") from error
        if len(plain) != whole:
            raise ValueError("a tile of the history is damaged")
        kind = _FORMATS[self.depth]
        return QImage(plain, self.width, self.height, self.width * self.depth, kind).copy()

    @property
    def plain_bytes(self) -> int:
        """As pixels."""
        return self.width * self.height * self.depth

    def pack(self) -> None:
        """Make it small; a tile of one colour becomes that colour."""
        image = self._image
        if image is None:
            return
        line, wide = image.bytesPerLine(), self.width * self.depth
        raw = bytes(image.constBits())
        if line != wide:  # lines are filled up to 4 bytes with whatever lay there
            raw = b"".join(raw[i : i + wide] for i in range(0, line * self.height, line))
        first = raw[: self.depth]
        alike = raw == first * (self.width * self.height)
        self._packed = b"=" + first if alike else b"z" + zlib.compress(raw, 1)
        self._image = None

    def packed(self) -> bytes:
        if self.place is None:
            return self._packed
        number, offset, length = self.place
        assert self.folder is not None
        with open(self.folder / f"{number:06}{ENDING}", "rb") as file:
            file.seek(offset)
            return file.read(length)

    def put(self, folder: Path, number: int, offset: int, length: int) -> None:
        """Say where it lies now; memory is given back."""
        self.folder, self.place = folder, (number, offset, length)
        self._packed = b""

    def reference(self) -> list[int]:
        assert self.place is not None
        return [*self.place, self.width, self.height, self.depth]

    @staticmethod
    def of(reference: list[int], folder: Path, known: dict[tuple[int, int], Blob]) -> Blob:
        """The blob that a journal names; the same place gives the same blob."""
        number, offset, length, width, height, depth = (int(it) for it in reference)
        if depth not in _FORMATS or not (0 < width <= TILE and 0 < height <= TILE) or min(number, offset, length) < 0:
            raise ValueError("not a tile")
        blob = known.setdefault((number, offset), Blob())
        blob.width, blob.height, blob.depth = width, height, depth
        blob.folder, blob.place = folder, (number, offset, length)
        return blob


@dataclass
class Step:
    """One thing that can be undone.

    Attributes:
        number: counts up. name: for the menu: “Undo: brush stroke”.
        before, after: the sheets. changes: what each changed tile was and is; None is a clear tile.
        key: changes with the same key may become one step (a slider that is dragged).
    """

    number: int
    name: str
    before: Sheet
    after: Sheet
    changes: dict[Key, tuple[Blob | None, Blob | None]] = field(default_factory=dict)
    key: str = ""


@dataclass
class Kept:
    """All that a folder holds: the present, and the steps back and forth."""

    sheet: Sheet
    tiles: dict[Key, Blob] = field(default_factory=dict)
    undo: list[Step] = field(default_factory=list)
    redo: list[Step] = field(default_factory=list)  # the last one comes first

    def apply(self, what: str, value: Any) -> None:
        """Do what happened: "do" a step (or more of the newest one), "undo", "redo", "drop" the oldest.

        Raises:
            ValueError: it cannot have happened here.
        """
        if what == "do":
            if self.undo and self.undo[-1].number == value.number:
                self.undo.pop()
            self.undo.append(value)
            self.redo.clear()
            self._take(value.after, {key: after for key, (_, after) in value.changes.items()})
            return
        stacks = {"undo": self.undo, "redo": self.redo, "drop": self.undo[:1], "drop_redo": self.redo[:1]}
        if what not in stacks or not stacks[what] or stacks[what][-1].number != value:
            raise ValueError(f"{what} {value} does not fit")
        if what == "undo":
            step = self.undo.pop()
            self.redo.append(step)
            self._take(step.before, {key: before for key, (before, _) in step.changes.items()})
        elif what == "redo":
            step = self.redo.pop()
            self.undo.append(step)
            self._take(step.after, {key: after for key, (_, after) in step.changes.items()})
        elif what == "drop":
            self.undo.pop(0)
        else:
            self.redo.pop(0)

    def _take(self, sheet: Sheet, tiles: dict[Key, Blob | None]) -> None:
        self.sheet = sheet
        for key, blob in tiles.items():
            if blob is None:
                self.tiles.pop(key, None)
            else:
                self.tiles[key] = blob

    def blobs(self) -> Iterable[Blob]:
        """Every blob that is still needed; some come more than once."""
        yield from self.tiles.values()
        for step in (*self.undo, *self.redo):
            for pair in step.changes.values():
                yield from (it for it in pair if it is not None)


class History:
    """The steps of a document. All methods but `_run` and what it calls are for the thread that paints.

    Attributes:
        lock: held while tiles of a step are read, so that their files do not go away meanwhile.
        problem: why nothing can be written at the moment; None while all is well. It is tried again by itself.
    """

    def __init__(self, kept: Kept, folder: Path | None = None, limit: int = LIMIT) -> None:
        """Begin with what there is. A folder is taken over: journal and tiles of another history in it are replaced."""
        self.lock = threading.RLock()
        self.problem: OSError | None = None
        self.limit = limit
        self._undo, self._redo = list(kept.undo), list(kept.redo)
        self._next = 1 + max((step.number for step in (*kept.undo, *kept.redo)), default=0)
        self._folder = folder
        # what the thread knows; it lags behind
        self._kept = Kept(kept.sheet, dict(kept.tiles), list(kept.undo), list(kept.redo))
        self._told = self._heard = 0
        self._files: dict[int, int] = {}  # number of a file of tiles, its bytes
        self._journal_bytes = self._journal_began = 0
        self._anew = True  # the journal has to be written anew
        self._waiting = sum(blob.raw_bytes for blob in kept.tiles.values())
        self._room = threading.Condition()
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._queue.put(("anew", None))
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="paint history", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ for who paints

    def number(self) -> int:
        """A number for the next step."""
        self._next += 1
        return self._next - 1

    def push(self, step: Step) -> None:
        """Add a step, or replace the newest one if it has the same number. What was undone is forgotten."""
        raw = sum(after.raw_bytes for _, after in step.changes.values() if after is not None)
        with self._room:  # only where far more was changed than can be packed
            while self._waiting > WAITING_MOST and self._thread is not None and self._thread.is_alive():
                self._room.wait(0.1)
            self._waiting += raw
        with self.lock:
            if self._undo and self._undo[-1].number == step.number:
                self._undo.pop()
            self._undo.append(step)
            self._redo.clear()
            self._tell("do", step)

    def undo(self) -> Step | None:
        """Go one step back. Hold `lock` until its tiles were read."""
        with self.lock:
            if not self._undo:
                return None
            step = self._undo.pop()
            self._redo.append(step)
            self._tell("undo", step.number)
            return step

    def redo(self) -> Step | None:
        """Go one step forth. Hold `lock` until its tiles were read."""
        with self.lock:
            if not self._redo:
                return None
            step = self._redo.pop()
            self._undo.append(step)
            self._tell("redo", step.number)
            return step

    def next(self, *, forth: bool = False) -> Step | None:
        """The step that would be undone, or redone, as it is now."""
        with self.lock:
            steps = self._redo if forth else self._undo
            return steps[-1] if steps else None

    def newest(self) -> Step | None:
        """The step that would be undone, if nothing was undone since."""
        with self.lock:
            return self._undo[-1] if self._undo and not self._redo else None

    @property
    def undo_name(self) -> str:
        """What would be undone, "" for nothing."""
        with self.lock:
            return self._undo[-1].name if self._undo else ""

    @property
    def redo_name(self) -> str:
        with self.lock:
            return self._redo[-1].name if self._redo else ""

    def counts(self) -> tuple[int, int]:
        """How many steps can be undone and redone."""
        with self.lock:
            return len(self._undo), len(self._redo)

    def flush(self, seconds: float = 30.0) -> bool:
        """Wait until everything so far is on disk; False if that cannot be."""
        if self._thread is None:
            return self.problem is None
        done = threading.Event()
        self._queue.put(("flush", done))
        return done.wait(seconds) and self.problem is None

    def close(self, seconds: float = 30.0) -> bool:
        """Write the rest and end the thread. False if something could not be written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(("stop", None))
            thread.join(seconds)
            if thread.is_alive():
                return False
        return self.problem is None

    def _tell(self, what: str, value: Any) -> None:
        self._told += 1
        self._queue.put((what, value))

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        going = True
        while going:
            try:
                batch = [self._queue.get(timeout=RETRY if self.problem else None)]
            except queue.Empty:
                batch = []
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(self._queue.get_nowait())
            going = not any(what == "stop" for what, _ in batch)
            try:
                self._keep([(what, value) for what, value in batch if what not in ("flush", "stop", "anew")])
                self.problem = None
            except OSError as error:  # full, gone, read-only: everything stays in memory and is tried again
                self.problem, self._anew = error, True
            for what, value in batch:
                if what == "flush":
                    value.set()

    def _keep(self, batch: list[tuple[str, Any]]) -> None:
        for what, value in batch:
            self._kept.apply(what, value)
        with self.lock:
            self._heard += len(batch)
        fresh: list[Blob] = []
        steps = [value for what, value in batch if what == "do"]
        for step in steps:
            fresh += [after for _, after in step.changes.values() if after is not None and after.place is None]
        if self._anew:
            fresh = [blob for blob in _each(self._kept.blobs()) if blob.place is None]
        for blob in fresh:
            raw = blob.raw_bytes
            blob.pack()
            with self._room:
                self._waiting -= raw
                self._room.notify_all()
        if self._folder is not None:
            if self._anew:
                self._begin()
            else:
                self._write_tiles(fresh)
                self._append([_line(what, _told(what, value)) for what, value in batch])
        self._trim()

    def _begin(self) -> None:
        """Write the journal anew, and tiles that are in no file yet; then remove files that nothing needs."""
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self._files:
            found = [it for it in self._folder.glob(f"*{ENDING}") if it.stem.isdecimal()]
            self._files = {int(it.stem): it.stat().st_size for it in found}
        self._write_tiles([blob for blob in _each(self._kept.blobs()) if blob.place is None])
        text = _line("all", _whole(self._kept))
        new = self._folder / NEW_JOURNAL
        _write(new, text)
        os.replace(new, self._folder / JOURNAL)
        _flush_folder(self._folder)
        self._journal_bytes = self._journal_began = len(text)
        self._anew = False
        used = {blob.place[0] for blob in self._kept.blobs() if blob.place is not None}
        self._remove([number for number in self._files if number not in used])

    def _write_tiles(self, blobs: list[Blob]) -> None:
        assert self._folder is not None
        blobs = _each(blobs)
        if not blobs:
            return
        number = 1 + max(self._files, default=0)
        places, at = [], 0
        parts = [blob.packed() for blob in blobs]
        for part in parts:
            places.append((at, len(part)))
            at += len(part)
        _write(self._folder / f"{number:06}{ENDING}", b"".join(parts))
        _flush_folder(self._folder)
        self._files[number] = at
        with self.lock:
            for blob, (offset, length) in zip(blobs, places, strict=True):
                blob.put(self._folder, number, offset, length)

    def _append(self, lines: list[bytes]) -> None:
        assert self._folder is not None
        if not lines:
            return
        text = b"".join(lines)
        with open(self._folder / JOURNAL, "ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._journal_bytes += len(text)
        if self._journal_bytes > max(_JOURNAL_LEAST, 4 * self._journal_began):
            self._begin()

    def _remove(self, numbers: Iterable[int]) -> None:
        assert self._folder is not None
        for number in list(numbers):
            (self._folder / f"{number:06}{ENDING}").unlink(missing_ok=True)
            self._files.pop(number, None)

    # ------------------------------------------------------------------ room

    def _size(self) -> int:
        if self._folder is not None:
            return sum(self._files.values()) + self._journal_bytes
        return sum(blob.packed_bytes for blob in _each(self._kept.blobs()))

    def _trim(self) -> None:
        """Let go of the oldest steps while there is too much.

        The present and the newest step stay, whatever they take: a stroke that is being painted adds to the newest.
        """
        if self._size() <= self.limit:
            return
        dropped: list[bytes] = []
        with self.lock:
            if self._told != self._heard:
                return  # what is oldest may be in use; soon it is looked at again
            kept = self._kept
            held = _held(kept.blobs())
            while sum(held.values()) > _ROOMY * self.limit and (len(kept.undo) > 1 or kept.redo):
                what, ours, theirs = (
                    ("drop", kept.undo, self._undo) if len(kept.undo) > 1 else ("drop_redo", kept.redo, self._redo)
                )
                number = ours[0].number
                kept.apply(what, number)
                theirs.pop(0)
                dropped.append(_line(what, number))
                held = _held(kept.blobs())
        if self._folder is None:
            return
        self._append(dropped)
        self._remove([number for number in self._files if number not in held])
        if self._size() > self.limit:
            self._repack(held)

    def _repack(self, held: dict[int, int]) -> None:
        """Write what is needed of files that are mostly not needed into a new one."""
        loose = {number for number, size in self._files.items() if held.get(number, 0) < _LOOSE * size}
        if not loose:
            return
        self._write_tiles([it for it in _each(self._kept.blobs()) if it.place is not None and it.place[0] in loose])
        self._begin()


def load(folder: Path) -> Kept:
    """Read what a folder holds; what comes after a damaged or cut-off line is not there.

    Raises:
        OSError: there is no journal, or it cannot be read. ValueError: it is not a journal of this kind.
    """
    kept: Kept | None = None
    known: dict[tuple[int, int], Blob] = {}
    for line in (folder / JOURNAL).read_bytes().splitlines(keepends=True):
        try:
            what, value = _read(line)
            if what == "all":
                kept = _unfold(value, folder, known)
            elif kept is not None:
                kept.apply(what, _step_of(value, folder, known) if what == "do" else value)
        except (ValueError, KeyError, TypeError):
            break
    if kept is None:
        raise ValueError("not a journal")
    return kept


def _each(blobs: Iterable[Blob]) -> list[Blob]:
    """Each once, in order."""
    return list({id(blob): blob for blob in blobs}.values())


def _held(blobs: Iterable[Blob]) -> dict[int, int]:
    """How many bytes are needed of each file; 0 is memory."""
    held: dict[int, int] = {}
    for blob in _each(blobs):
        number, length = (blob.place[0], blob.place[2]) if blob.place else (0, blob.packed_bytes)
        held[number] = held.get(number, 0) + length
    return held


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _line(what: str, value: Any) -> bytes:
    text = json.dumps([what, value], separators=(",", ":"), ensure_ascii=True).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _read(line: bytes) -> tuple[str, Any]:
    mark, _, text = line.partition(b" ")
    if not text.endswith(b"\n") or int(mark, 16) != zlib.crc32(text[:-1]):
        raise ValueError("cut off")
    what, value = json.loads(text)
    return str(what), value


def _told(what: str, value: Any) -> Any:
    return _step_to(value) if what == "do" else value


def _step_to(step: Step) -> dict[str, Any]:
    return {
        "number": step.number, "name": step.name, "before": step.before, "after": step.after, "key": step.key,
        "tiles": [[*key, *(it and it.reference() for it in pair)] for key, pair in step.changes.items()],
    }  # fmt: skip


def _step_of(value: dict[str, Any], folder: Path, known: dict[tuple[int, int], Blob]) -> Step:
    changes: dict[Key, tuple[Blob | None, Blob | None]] = {}
    for surface, column, row, before, after in value["tiles"]:
        first, second = (Blob.of(it, folder, known) if it else None for it in (before, after))
        changes[int(surface), int(column), int(row)] = (first, second)
    return Step(int(value["number"]), str(value["name"]), value["before"], value["after"], changes, str(value["key"]))


def _whole(kept: Kept) -> dict[str, Any]:
    return {
        "version": VERSION, "sheet": kept.sheet, "tiles": [[*k, blob.reference()] for k, blob in kept.tiles.items()],
        "undo": [_step_to(it) for it in kept.undo], "redo": [_step_to(it) for it in kept.redo], "at": int(time.time()),
    }  # fmt: skip


def _unfold(value: dict[str, Any], folder: Path, known: dict[tuple[int, int], Blob]) -> Kept:
    if value["version"] != VERSION:
        raise ValueError("written by a newer studio")
    tiles = {(int(s), int(x), int(y)): Blob.of(ref, folder, known) for s, x, y, ref in value["tiles"]}
    steps = {name: [_step_of(it, folder, known) for it in value[name]] for name in ("undo", "redo")}
    return Kept(value["sheet"], tiles, steps["undo"], steps["redo"])
