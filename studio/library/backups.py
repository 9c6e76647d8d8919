"""Copies of the database, made while it is in use. Knows SQLite files and a folder of them; knows nothing of rows.

    studio-0007.db             a copy; the number orders them, because clocks are set back
    studio-0007.json           what it holds and its checksum
    studio-0008-version-3.db   the database as it was before a newer studio changed its schema; never removed by itself

A copy has its name only once it is whole, verified and on disk, and an older one goes only after that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from studio.core.files import sha256_of, sync_folder
from studio.core.problems import LibraryMoved, NotSaved

if TYPE_CHECKING:
    from studio.library.database import Database

PAGES = 256  # copied in one step: 1 MiB
STALE_SECONDS = 3600.0  # after so long an unfinished copy is one whose studio was killed

_NAME = re.compile(r"studio-(\d{4,})(-version-\d+)?\.db")


class Note(msgspec.Struct, frozen=True):
    """What is written beside a copy.

    Attributes:
        version: of the schema.
        works, jobs: how many there are.
        sha256: of the file; SQLite's own check does not see a changed letter.
    """

    version: int
    works: int
    jobs: int
    sha256: str


class Backup(msgspec.Struct, frozen=True):
    """One copy of the database.

    Attributes:
        bytes: its size.
        made: when the library was last known to be like this, ISO 8601, UTC.
        version: of the schema. works, jobs: how many it holds. All 0 where that cannot be told.
    """

    path: Path
    bytes: int
    made: str
    version: int
    works: int
    jobs: int


_notes: msgspec.json.Decoder[Note] = msgspec.json.Decoder(Note)


def back_up(database: Database, folder: Path, *, keep: int = 7) -> Path | None:
    """Copy the database as it is at this moment. Writers do not wait for it.

    Args:
        folder: where backups are; made if need be.
        keep: how many stay; the oldest go once the new one is verified.

    Returns:
        The copy, or None where nothing has changed since the newest one, which then counts as made now; and where the
        library is open for reading only.

    Raises:
        NotSaved: the disk is full or refuses, or the copy is not sound. Older backups are as they were.
        LibraryMoved: the database is no longer where it was.
    """
    if database.read_only:
        return None
    with _explained(folder):
        if database.moved():
            raise LibraryMoved("The data folder was moved, deleted or replaced; no backup was made.")
        with database.reader() as source:
            made = _copy(source, folder)
        for old in [path for path in _copies(folder) if not _suffix(path)][max(1, keep) :]:
            old.unlink(missing_ok=True)
            _beside(old).unlink(missing_ok=True)
        _sweep(folder)
        return made


def keep_old(source: apsw.Connection, folder: Path) -> Path | None:
    """Copy a database whose schema is about to be changed; the name says its version.

    Args:
        source: inside a transaction, so that what it sees does not change meanwhile.

    Returns:
        None where such a copy is there already.

    Raises:
        NotSaved: as for `back_up`.
    """
    with _explained(folder):
        return _copy(source, folder, f"-version-{source.pragma('user_version')}")


def backups(folder: Path) -> list[Backup]:
    """Every copy, newest first. Raises OSError where the folder cannot be read."""
    found = []
    for path in _copies(folder):
        with contextlib.suppress(OSError):  # gone meanwhile
            facts = path.stat()
            note = _note(path) or _counted(path)
            made = datetime.fromtimestamp(facts.st_mtime, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            found.append(Backup(path, facts.st_size, made, note.version, note.works, note.jobs))
    return found


def verify(path: Path) -> bool:
    """Whether a copy is sound: its checksum, where there is one, and SQLite's own check. Writes nothing."""
    try:
        note = _note(path)
        counted = _check(path)
        return note is None or (note.sha256 == sha256_of(path) and counted == (note.version, note.works, note.jobs))
    except (OSError, apsw.Error):
        return False


def due(folder: Path, hours: float) -> bool:
    """Whether the newest backup is older than that, or there is none. A clock that was set back makes it due, too."""
    try:
        newest = next(iter(_copies(folder)), None)
        return newest is None or not 0 <= time.time() - newest.stat().st_mtime <= hours * 3600
    except OSError:
        return True


# -- inside -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn errors into a sentence."""
    try:
        yield
    except (OSError, apsw.Error) as error:
        full = isinstance(error, apsw.FullError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)
        reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
        raise NotSaved(
            f"No backup of the library's database could be made in {folder}: {reason}.",
            "Make room on the disk or look at the folder. The older backups are as they were.",
            detail=repr(error),
        ) from None


def _copy(source: apsw.Connection, folder: Path, suffix: str = "") -> Path | None:
    """Copy, verify, flush, rename. Returns None where the newest of that kind has the same content."""
    folder.mkdir(mode=0o700, exist_ok=True)
    version, works, jobs = counted = _count(source)
    temporary = folder / f"{secrets.token_hex(6)}.tmp"
    try:
        target = apsw.Connection(str(temporary))
        try:
            target.pragma("journal_mode", "off")  # it has no name yet: what is cut off is thrown away
            target.pragma("synchronous", "off")  # flushed once, below
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(PAGES)
        finally:
            target.close()
        if _check(temporary) != counted:
            raise apsw.CorruptError("the copy is not what was copied")
        note = Note(version, works, jobs, sha256_of(temporary))
        newest = next((path for path in _copies(folder) if _suffix(path) == suffix), None)
        if newest is not None and _note(newest) == note and sha256_of(newest) == note.sha256:
            os.utime(newest)  # it is what the library is like now
            return None
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        path = _claim(folder, suffix, note)
        os.replace(temporary, path)
        sync_folder(folder)
        return path
    finally:
        temporary.unlink(missing_ok=True)


def _claim(folder: Path, suffix: str, note: Note) -> Path:
    """The next number; writing the note takes it, so that two studios do not take the same."""
    number = max((_number(path) for path in folder.glob("studio-*.*")), default=0)
    while True:
        number += 1
        path = folder / f"studio-{number:04}{suffix}.db"
        with contextlib.suppress(FileExistsError), open(_beside(path), "xb") as stream:
            stream.write(msgspec.json.encode(note))
            stream.flush()
            os.fsync(stream.fileno())
            return path


def _sweep(folder: Path) -> None:
    """Remove what killed studios left: unfinished copies, and notes without a copy."""
    for path in (*folder.glob("*.tmp"), *folder.glob("studio-*.json")):
        alone = path.suffix == ".tmp" or not path.with_suffix(".db").exists()
        with contextlib.suppress(OSError):
            if alone and time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


def _copies(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted((p for p in folder.glob("studio-*.db") if _NAME.fullmatch(p.name)), key=_number, reverse=True)


def _number(path: Path) -> int:
    found = re.match(r"studio-(\d+)", path.name)
    return int(found[1]) if found else 0


def _suffix(path: Path) -> str:
    found = _NAME.fullmatch(path.name)
    return (found[2] or "") if found else ""


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _note(path: Path) -> Note | None:
    try:
        return _notes.decode(_beside(path).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None


def _counted(path: Path) -> Note:
    try:
        with _opened(path) as db:
            return Note(*_count(db), "")
    except apsw.Error:
        return Note(0, 0, 0, "")


def _check(path: Path) -> tuple[int, int, int]:
    """Look through a copy. Returns its version and how many works and jobs it holds. Raises apsw.Error."""
    with _opened(path) as db:
        found = db.pragma("quick_check")
        if found != "ok":
            raise apsw.CorruptError(str(found))
        return _count(db)


def _count(db: apsw.Connection) -> tuple[int, int, int]:
    sql = "select user_version, (select count(*) from works), (select count(*) from jobs) from pragma_user_version"
    counted: tuple[Any, ...] = db.execute(sql).fetchall()[0]
    version, works, jobs = counted
    return version, works, jobs


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """A copy, which nobody writes: so nothing is put beside it."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    db = apsw.Connection(f"{path.absolute().as_uri()}?mode=ro&immutable=1", flags=flags)
    try:
        yield db
    finally:
        db.close()
