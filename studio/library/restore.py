"""Bringing a library back whose database is damaged, empty or gone.

    1. look: a database that is sound is left alone
    2. build a new one in a folder of its own: the newest backup that is sound, or an empty one; over it the rows that
       can be read in the damaged file; then the works whose sidecars are there and whose rows are not
    3. look through it, flush it, and give it the name studio.db.restored: it only needs to be put in place now
    4. move the damaged file, and what SQLite keeps beside it, into damaged/NNNN/
    5. rename the new one to studio.db

Up to step 3 everything that was there is only read, so a kill loses nothing and the next call begins anew; after it the
next call goes on with step 4. The damaged file and its log are never deleted.

Knows the tables, row by row, as far as is needed to tell a sound row from a damaged one.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from studio.core.conversations import Turn
from studio.core.files import sync_folder
from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.problems import Busy, LibraryBroken, NotSaved, Problem
from studio.core.recipes import Recipe, words_of
from studio.core.text import searchable
from studio.core.works import Asset, Work
from studio.library.backups import Backup, backups, verify
from studio.library.database import MIGRATIONS, SIDE_FILES, Database, copy_aside, look, own_id
from studio.library.files import WORKS_PER_JOB, Files
from studio.library.jobs import to_json
from studio.library.works import Works

STALE_SECONDS = 3600.0  # after so long a half-built database is one whose studio was killed
SINGLY = 2000  # so many rows between two readable ones are tried one by one
FARTHEST = 1 << 40  # rows; beyond it nothing is looked for
PAGE = 4096  # bytes; SQLite's default, which all our databases have

_UNREADABLE = (apsw.Error, MemoryError)
_Row = dict[str, Any]


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restoring brought back.

    Attributes:
        from_backup: name of the backup it began with, or empty.
        salvaged: rows that were read in the damaged file.
        from_sidecars: works that only their sidecars knew.
        damaged: folder the damaged file was put into, relative to the data folder, or empty.
        sentence: all that, for a person.
    """

    from_backup: str = ""
    salvaged: int = 0
    from_sidecars: int = 0
    damaged: str = ""
    sentence: str = ""


def lost(paths: Paths) -> bool:
    """Whether there is no database though there was a library: works, backups, a log, or a restoring cut off."""
    if paths.database.exists():
        return False
    log = paths.database.with_name(paths.database.name + "-wal")
    return (
        _prepared(paths).exists()
        or (log.exists() and log.stat().st_size > 0)
        or bool(backups(paths.backups))
        or next(paths.works.rglob("*.json"), None) is not None
    )


def restore(paths: Paths) -> Restored:
    """Bring the library back. Can be called again at will, also after it was cut off.

    Raises:
        NotSaved: the disk is full or refuses; everything is as it was, or is there under another name.
        Busy: another program keeps the database locked.
    """
    with _explained(paths):
        prepared = _prepared(paths)
        if paths.database.exists():
            if not look(paths.database):
                return Restored(sentence="The library's database is sound; nothing was changed.")
            prepared.unlink(missing_ok=True)  # built from what the file was like then
        done = Restored()
        if not prepared.exists():
            _sweep(paths.home)
            folder = Path(tempfile.mkdtemp(prefix="restoring-", dir=paths.home))
            try:
                done = _build(paths, folder)
                os.replace(folder / "studio.db", prepared)
                sync_folder(paths.home)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        damaged = _put_aside(paths)
        os.replace(prepared, paths.database)
        sync_folder(paths.home)
        return msgspec.structs.replace(done, damaged=damaged, sentence=_said(paths, done, damaged))


# -- building -----------------------------------------------------------------------------------------------------


def _build(paths: Paths, folder: Path) -> Restored:
    """Make a whole database in a folder; nothing else is changed."""
    new = folder / "studio.db"
    backup = _begin(paths, new)
    with open(new, "rb") as stream:
        first_page = stream.read(PAGE)
    database = Database(new)
    try:
        salvaged: set[tuple[str, Any]] = set()
        for copy in _copies(paths, folder):
            salvaged |= _salvage(copy, first_page, database)
        from_sidecars = _add_sidecars(database, Files(paths))
    finally:
        database.close()
    # Closed by its only user, it has no log any more; one that is left could not be written back.
    if new.with_name("studio.db-wal").exists() or (wrong := look(new)):
        raise NotSaved(
            "The library could not be restored: the new database is not whole.",
            "Make room on the disk and try again; nothing was changed.",
            detail=wrong,
        )
    with open(new, "rb+") as stream:
        os.fsync(stream.fileno())
    return Restored(
        from_backup=backup.path.name if backup is not None else "",
        salvaged=len(salvaged),
        from_sidecars=from_sidecars,
    )


def _begin(paths: Paths, new: Path) -> Backup | None:
    """Begin with the newest backup that is sound, brought up to date, or with nothing."""
    for backup in backups(paths.backups):
        if backup.version > len(MIGRATIONS) or not verify(backup.path):
            continue
        shutil.copyfile(backup.path, new)
        try:
            Database(new).close()
            return backup
        except LibraryBroken:  # sound for SQLite, and still not what its version says
            for file in new.parent.glob(f"{new.name}*"):
                file.unlink()
    Database(new).close()
    return None


def _copies(paths: Paths, folder: Path) -> Iterator[Path]:
    """Copies of the damaged file to read in: by itself, then with its log, which is newer.

    A log that is known to be another library's is passed over.
    """
    database = paths.database
    log = database.with_name(f"{database.name}-wal")
    for name in ("alone", "with-log"):
        place = folder / name
        place.mkdir()
        copy = place / database.name
        if name == "alone" and database.exists():
            shutil.copyfile(database, copy)
            yield copy
        elif name == "with-log" and log.exists():
            if database.exists():
                copy_aside(database, place)
            else:
                copy.touch()
                shutil.copyfile(log, copy.with_name(log.name))
            yield copy
        shutil.rmtree(place, ignore_errors=True)


def _salvage(copy: Path, first_page: bytes, into: Database) -> set[tuple[str, Any]]:
    """Put every sound row of a damaged file into a database, over what is there. Returns table and key of each."""
    db = _readable(copy, first_page)
    if db is None:
        return set()
    found = set()
    try:
        with into.transaction() as target:
            for table, about in _TABLES.items():
                for row in _rows(db, table, _columns(db, table) & _columns(target, table)):
                    with contextlib.suppress(
                        KeyError, TypeError, ValueError, msgspec.DecodeError, apsw.ConstraintError
                    ):  # fmt: skip
                        about.check(row)
                        _put(target, table, row)
                        found.add((table, row[about.key]))
    finally:
        db.close()
    return found


def _readable(copy: Path, first_page: bytes) -> apsw.Connection | None:
    """Open a copy of a damaged file; where its first page is of no use, with one from a database like it."""
    foreign = False
    for graft in (False, True):
        if graft:
            _graft(copy, first_page)
        elif copy.stat().st_size == 0:
            continue  # SQLite would delete the log beside an empty file
        db = apsw.Connection(str(copy))
        try:
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            db.pragma("writable_schema", True)  # entries of the schema that make no sense are passed over
            own = own_id(copy) if not graft else 0
            foreign = foreign or bool(own and db.pragma("application_id") != own)
            if not foreign and any(_columns(db, table) for table in ("jobs", "works")):
                return db
        except _UNREADABLE:
            pass
        db.close()
        if foreign:
            return None
    return None


def _graft(copy: Path, first_page: bytes) -> None:
    """Give a file the first page of another: it says where the tables begin, which is the same in most."""
    pages = max(1, copy.stat().st_size // PAGE)
    page = bytearray(first_page)
    page[28:32] = pages.to_bytes(4, "big")  # the file's length (SQLite file format, section 1.3)
    page[32:40] = bytes(8)  # and no free pages
    with open(copy, "r+b") as stream:
        stream.write(page)


def _columns(db: apsw.Connection, table: str) -> set[tuple[str, str]]:
    """Name and type of each column; empty where there is no such table."""
    return set(db.execute("select name, type from pragma_table_info(?)", (table,)))


def _rows(db: apsw.Connection, table: str, columns: set[tuple[str, str]]) -> Iterator[_Row]:
    """Every row of a table that can be read, around those that cannot."""
    names = [name for name, _ in columns]
    # texts as bytes: what is no text any more spoils its own row only
    chosen = ", ".join(f"cast({name} as blob)" if kind.upper() == "TEXT" else name for name, kind in columns)
    texts = {name for name, kind in columns if kind.upper() == "TEXT"}
    for _, *values in _walk(db, f"select rowid, {chosen} from {table}") if columns else ():
        row = dict(zip(names, values, strict=True))
        with contextlib.suppress(UnicodeDecodeError, TypeError):
            for name in texts:
                if row[name] is not None:
                    row[name] = str(row[name], "utf-8")
            yield row


def _walk(db: apsw.Connection, select: str) -> Iterator[tuple[Any, ...]]:
    """Rows by their number: upwards until one cannot be read, then from the next that can be read down to it."""
    seen = set[int]()

    def run(condition: str, *values: int) -> Iterator[tuple[Any, ...]]:
        """Rows not given yet. Ends early where one cannot be read or the order is broken."""
        rising, last = not condition.endswith("desc"), None
        with contextlib.suppress(*_UNREADABLE):
            for row in db.execute(f"{select} where {condition}", values):
                if last is not None and (row[0] > last) != rising:
                    return  # pages that lead in a circle
                last = row[0]
                if last not in seen:
                    seen.add(last)
                    yield row

    def next_after(number: int) -> int | None:
        """The next row that can be found; -1 where there is none. None: that cannot be told."""
        with contextlib.suppress(*_UNREADABLE):
            rows: list[Any] = db.execute(f"{select} where rowid > ? order by rowid limit 1", (number,)).fetchall()
            return int(rows[0][0]) if rows else -1
        return None

    low = 0
    while True:
        yield from run("rowid > ? order by rowid", low)
        low = max(seen, default=low)
        step = 1
        while step < FARTHEST and (found := next_after(low + step)) is None:
            step *= 2
        if found is not None:
            high = found if found > 0 else low + step
            yield from run("rowid <= ? and rowid > ? order by rowid desc", high, low)
            lowest = min((number for number in seen if number > low), default=high)
        else:  # nothing farther up leads anywhere
            high = lowest = low + SINGLY
        for number in range(low + 1, min(lowest, low + SINGLY)):
            yield from run("rowid = ?", number)
        if found is None or found < 0:
            return
        low = high


def _put(db: apsw.Connection, table: str, row: _Row) -> None:
    """Insert a row, or change the one of the same key."""
    key, number = _TABLES[table].key, _TABLES[table].number
    changes = ", ".join(f"{name} = excluded.{name}" for name in row if name not in (key, number))
    action = f"do update set {changes}" if changes else "do nothing"
    for columns in (list(row), [name for name in row if name != number]):
        try:
            db.execute(
                f"insert into {table} ({', '.join(columns)}) values ({', '.join('?' * len(columns))}) "
                f"on conflict ({key}) {action}",
                tuple(row[name] for name in columns),
            )
            return
        except apsw.ConstraintError:  # its number belongs to another row
            if columns != list(row) or number not in row:
                raise


def _add_sidecars(database: Database, files: Files) -> int:
    """Add works that have a sidecar and no row, and mend rows that say something else than the sidecar. Returns how
    many were added."""
    known = Works(database)
    added = highest = 0
    with database.transaction() as db:
        rows: list[tuple[int, int]] = sorted(db.execute("select seq, row from works"))
        taken = {number for _, number in rows}
        ids = {work_id for (work_id,) in db.execute("select id from works")}
        for work in files.sidecars():
            highest = max(highest, work.seq)
            if work.id not in ids:
                row = _row_of(work)
                if number := _place(rows, taken, work.seq):
                    row["row"] = number
                _put(db, "works", row)
                ids.add(work.id)
                added += 1
                continue
            kept = known.find(work.id)
            if kept is None or msgspec.structs.replace(kept, starred=work.starred, removed=work.removed) != work:
                _put(db, "works", _row_of(work))
        # numbers of jobs that are not known any more must not be given again: the order of works follows from them
        db.execute(
            "insert into sqlite_sequence select 'jobs', 0 where 'jobs' not in (select name from sqlite_sequence)"
        )
        db.execute("update sqlite_sequence set seq = max(seq, ?) where name = 'jobs'", (highest // WORKS_PER_JOB,))
    return added


def _place(rows: list[tuple[int, int]], taken: set[int], seq: int) -> int:
    """A free number that lists a work among its neighbours in time; 0 where the next one will do."""
    at = bisect.bisect(rows, (seq, 0))
    if at == len(rows):
        return 0
    number = rows[at - 1][1] + 1 if at else rows[at][1] - 1
    if number < 1 or number in taken:
        return 0
    rows.insert(at, (seq, number))
    taken.add(number)
    return number


def _row_of(work: Work) -> _Row:
    return {
        "id": work.id,
        "seq": work.seq,
        "job": work.job,
        "position": work.index,
        "kind": work.kind,
        "title": work.title,
        "created": work.created,
        "recipe": to_json(work.recipe),
        "assets": to_json(work.assets),
        "meta": to_json(work.meta),
        "notes": to_json(work.notes),
        "seconds": work.seconds,
        "complete": int(work.complete),
        "words": searchable(work.title, words_of(work.recipe), work.id),
    }


# -- rows that are sound ------------------------------------------------------------------------------------------

_recipes: msgspec.json.Decoder[Recipe] = msgspec.json.Decoder(Recipe)
_problems: msgspec.json.Decoder[Problem] = msgspec.json.Decoder(Problem)
_assets: msgspec.json.Decoder[tuple[Asset, ...]] = msgspec.json.Decoder(tuple[Asset, ...])
_metas: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_notes: msgspec.json.Decoder[tuple[str, ...]] = msgspec.json.Decoder(tuple[str, ...])
_turns: msgspec.json.Decoder[tuple[Turn, ...]] = msgspec.json.Decoder(tuple[Turn, ...])


def _check_job(row: _Row) -> None:
    JobState(row["state"])
    _recipes.decode(row["recipe"])
    _notes.decode(row["notes"])
    if row["problem"]:
        _problems.decode(row["problem"])


def _check_work(row: _Row) -> None:
    _recipes.decode(row["recipe"])
    if not any(asset.role == "master" for asset in _assets.decode(row["assets"])):
        raise ValueError("no master")
    _metas.decode(row["meta"])
    _notes.decode(row["notes"])


def _check_conversation(row: _Row) -> None:
    _turns.decode(row["turns"])


def _check_nothing(row: _Row) -> None:
    """The table's own types are all there is to check."""


class _Table(msgspec.Struct, frozen=True):
    """`key`: by which rows of two files are the same. `number`: the column that is the row's number, or empty.
    `check`: raises for a row that cannot be used."""

    key: str
    number: str
    check: Callable[[_Row], None]


_TABLES = {
    "jobs": _Table("id", "seq", _check_job),
    "works": _Table("id", "row", _check_work),
    "conversations": _Table("id", "row", _check_conversation),
    "groups": _Table("id", "row", _check_nothing),
    "models": _Table("path", "", _check_nothing),
    "paused": _Table("lane", "", _check_nothing),
}


# -- putting in place ---------------------------------------------------------------------------------------------


def _prepared(paths: Paths) -> Path:
    return paths.database.with_name(f"{paths.database.name}.restored")


def _put_aside(paths: Paths) -> str:
    """Move what is there of the old database into a folder of its own. Returns its name relative to home, or nothing.

    The file goes first: while it is gone the library is known to be lost, and the rest follows at the next call.
    """
    database = paths.database
    there = [file for end in ("", *SIDE_FILES) if (file := database.with_name(database.name + end)).exists()]
    if not there:
        return ""
    numbers = [int(p.name) for p in paths.damaged.glob("[0-9]*") if p.name.isdigit()] if paths.damaged.exists() else []
    folder = paths.damaged / f"{max(numbers, default=0):04}"
    begun = {file.name for file in folder.iterdir()} if numbers else set()
    # a call that was cut off here goes on in its folder; without the main file everything that is there belongs to it
    if not numbers or begun & {file.name for file in there} or (begun and database.exists()):
        folder = paths.damaged / f"{max(numbers, default=0) + 1:04}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for new in (folder.parent, paths.home):
        sync_folder(new)
    for file in there:
        os.rename(file, folder / file.name)
        sync_folder(folder)
        sync_folder(paths.home)
    return folder.relative_to(paths.home).as_posix()


def _sweep(home: Path) -> None:
    """Remove what killed studios had half built."""
    for folder in home.glob("restoring-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _said(paths: Paths, done: Restored, damaged: str) -> str:
    parts = []
    if done.from_backup:
        made = next((b.made for b in backups(paths.backups) if b.path.name == done.from_backup), "")
        parts.append(f"from the backup of {made[:10]} {made[11:16]} UTC")
    if done.salvaged:
        parts.append(f"{done.salvaged} entries from the damaged file")
    if done.from_sidecars:
        parts.append(f"{done.from_sidecars} works from the files beside them")
    said = "The library was restored" + (": " + ", ".join(parts) if parts else "") + "."
    return f"{said} The damaged file is kept in {damaged}." if damaged else said


@contextlib.contextmanager
def _explained(paths: Paths) -> Iterator[None]:
    try:
        yield
    except apsw.BusyError as error:
        raise Busy(
            "Another program keeps the library's database locked.", "Close it and try again.", detail=str(error)
        ) from None
    except (OSError, apsw.Error) as error:
        full = isinstance(error, apsw.FullError)
        reason = "the disk is full" if full else getattr(error, "strerror", None) or str(error)
        raise NotSaved(
            f"The library in {paths.home} could not be restored: {reason}.",
            "Make room on the disk or look at the folder, and try again. Nothing is lost by that.",
            detail=repr(error),
        ) from None
