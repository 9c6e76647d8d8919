"""The database file: opening it, its schema, its migrations. Knows SQLite; knows nothing of what the rows mean.

Where the file cannot be written, because of its folder, a full disk or a newer studio that made it, it is opened for
reading only and says why. A file that is damaged is never written to: looking at it changes no byte of it, and a
write-ahead log beside it, which may hold the last works, is neither deleted nor renamed here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from studio.core.files import sync_folder
from studio.core.problems import Busy, LibraryBroken, LibraryMoved, NotSaved, ReadOnly
from studio.core.text import searchable
from studio.library import backups

BUSY_MILLISECONDS = 5000  # how long to wait for another program that is writing
CHECK_SECONDS = 0.5  # how long a start may look through a database whose log was left behind; 100,000 works take 0.4
ROOM = 1 << 20  # bytes free on the disk below which it is called full
SIDE_FILES = ("-wal", "-shm", "-journal")  # what SQLite puts beside a database: the first and last hold content


def _first_schema(db: apsw.Connection) -> None:
    db.execute(
        """
        create table jobs (
            seq integer primary key autoincrement,
            id text not null unique,
            kind text not null,
            state text not null,
            priority integer not null default 0,
            position real not null default 0,
            attempts integer not null default 0,
            owner text not null default '',
            redo_of text not null default '',
            created text not null,
            started text not null default '',
            ended text not null default '',
            recipe text not null,
            problem text,
            notes text not null default '[]'
        ) strict;
        create index jobs_open on jobs (state) where state in ('queued', 'running');

        create table works (
            row integer primary key autoincrement,
            id text not null unique,
            seq integer not null,
            job text not null,
            position integer not null,
            kind text not null,
            title text not null,
            created text not null,
            recipe text not null,
            assets text not null,
            meta text not null,
            notes text not null,
            seconds real not null,
            complete integer not null
        ) strict;
        create index works_job on works (job);
        create index works_kind on works (kind, row);

        create table models (
            path text primary key,
            added text not null
        ) strict;
        """
    )


def _stars_words_conversations(db: apsw.Connection) -> None:
    db.execute(
        """
        alter table works add column starred integer not null default 0;
        alter table works add column words text not null default '';
        create index works_starred on works (row) where starred = 1;

        create table conversations (
            row integer primary key autoincrement,
            id text not null unique,
            sequence integer not null,
            title text not null,
            created text not null,
            changed text not null,
            system text not null,
            turns text not null
        ) strict;
        create index conversations_sequence on conversations (sequence);
        """
    )
    for row, work_id, title, recipe in list(db.execute("select row, id, title, recipe from works")):
        # as plain JSON: today's recipes say nothing about what a later studio makes of them
        said = msgspec.json.decode(recipe)
        words = searchable(title, str(said.get("prompt", said.get("text", ""))), work_id)
        db.execute("update works set words = ? where row = ?", (words, row))


def _bin(db: apsw.Connection) -> None:
    db.execute(
        """
        alter table works add column removed text not null default '';
        create index works_removed on works (row) where removed <> '';
        """
    )


def _pause_and_why(db: apsw.Connection) -> None:
    db.execute(
        """
        create table paused (lane text primary key) strict;
        alter table jobs add column why text not null default '';
        """
    )
    # Which library this is. A log that belongs to another one gives itself away by it: see `_fits`.
    db.pragma("application_id", secrets.randbelow(2**31 - 1) + 1)


def _groups(db: apsw.Connection) -> None:
    db.execute(
        """
        create table groups (
            row integer primary key autoincrement,
            id text not null unique,
            title text not null,
            created text not null,
            plan text not null,
            jobs text not null,
            cancelled integer not null default 0,
            sheet text not null default '',
            open integer not null default 1
        ) strict;
        create index groups_open on groups (row) where open = 1;
        """
    )


# In order; the database's user_version counts how many have been applied. Never change one that was released.
MIGRATIONS: list[Callable[[apsw.Connection], None]] = [
    _first_schema, _stars_words_conversations, _bin, _pause_and_why, _groups,
]  # fmt: skip

CANNOT_WRITE = (apsw.FullError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.IOError)
DAMAGED = (apsw.NotADBError, apsw.CorruptError, apsw.TooBigError)  # the last: a length inside a row that cannot be
CHECK_FOLDER = "Make room, check the folder's permissions, or set STUDIO_HOME to another folder."
RESTORE = (
    "It can be restored from a backup and from the works' sidecar files; the bad file is kept. Your works are files of "
    "their own and are not affected."
)


class Database:
    """One connection, shared by threads under a lock.

    Attributes:
        read_only: why nothing can be written, in a sentence; empty where all can.

    Raises:
        LibraryBroken: the file is not a database, is damaged, or was written by a studio so much newer that
            it cannot be read. It is left as it is.
        NotSaved: there is no database and the folder cannot be written; or an older one cannot be brought up to date.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self.read_only, self._hint = "", ""
        self._aside: Callable[[], Any] = lambda: None  # removes the copy that is read in place of the file
        with explained(self._path):
            try:
                if not path.exists():
                    self._create()
                elif path.stat().st_size == 0:
                    # SQLite would take an empty file for a new database, and delete the log beside it; ours are never
                    # empty.
                    raise LibraryBroken(f"The library's database {path} is empty; it was damaged or cut off.", RESTORE)
                self._db = self._opened()
                self._file = _identity(path)
            except apsw.SQLError as error:  # a header or a schema that makes no sense
                raise _damaged(path, error) from None
            except OSError as error:
                raise NotSaved(
                    f"The library's database {path} cannot be used: {error.strerror or error}.", CHECK_FOLDER
                ) from None

    # -- opening ----------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        """Make a new database under another name and put it in place whole: a kill leaves no half of one."""
        new = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.new")
        try:
            db = apsw.Connection(str(new))
            try:
                _set_up(db)
                with _all_or_nothing(db):
                    _migrate(db)
            finally:
                db.close()
            try:
                os.link(new, self._path)  # unlike a rename, never over the one of a process that was faster
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                if not self._path.exists():
                    os.replace(new, self._path)
            sync_folder(self._path.parent)
        finally:
            for end in ("", *SIDE_FILES):
                with contextlib.suppress(OSError):
                    new.with_name(new.name + end).unlink(missing_ok=True)

    def _opened(self) -> apsw.Connection:
        try:
            return self._open_for_writing()
        except _Newer as newer:
            self.read_only = (
                f"The library is open for reading only, because it was written by a newer studio (version "
                f"{newer.version}; this one knows {len(MIGRATIONS)})."
            )
            self._hint = "Update the studio, or set STUDIO_HOME to another folder."
            return self._open_for_reading(newer)
        except (*CANNOT_WRITE, NotSaved) as error:
            reason, self._hint = self._why(error)
            self.read_only = f"The library in {self._path.parent} is open for reading only, because {reason}."
            return self._open_for_reading(error)

    def _open_for_writing(self) -> apsw.Connection:
        with contextlib.ExitStack() as unless_whole:
            db = _connect(self._path, "rw")
            unless_whole.callback(db.close)
            if db.readonly("main"):  # what SQLite makes of a file that cannot be written
                raise apsw.ReadOnlyError("the file cannot be written")
            _fits(db, self._path)
            version = _version(db)
            if version > len(MIGRATIONS):
                raise _Newer(version)
            _set_up(db)
            _can_write(db)
            if version < len(MIGRATIONS):
                self._bring_up_to_date(db)
            _has_all(db)
            db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            unless_whole.pop_all()
        return db

    def _bring_up_to_date(self, db: apsw.Connection) -> None:
        """Apply what is missing; a copy of the file as it was goes to the backups first."""
        with _all_or_nothing(db):
            version = _version(db)  # another process may have been faster
            if 0 < version < len(MIGRATIONS):
                with self.reader() as source:  # sees what was there before: nothing has been changed yet
                    backups.keep_old(source, self._path.parent / "backups")
            _migrate(db)

    def _open_for_reading(self, error: Exception) -> apsw.Connection:
        """Open a file that cannot be written, in the first way that works.

        1. Beside others, as SQLite does it: it needs the index file (-shm), or may make it.
        2. As a file that does not change, which needs nothing beside it and would pass over a log; so only without one.
        3. A copy of file and log in a private folder for the time being.
        4. Alone: the index is kept in memory, and nobody else can open the file meanwhile.
        """
        for way in (self._beside_others, self._unchanging, self._copied, self._alone):
            with contextlib.ExitStack() as unless_whole, contextlib.suppress(*CANNOT_WRITE, OSError):
                unless_whole.callback(lambda: self._aside())
                db = way()
                if db is None:
                    continue
                unless_whole.callback(db.close)
                version = _version(db)
                if version < len(MIGRATIONS):  # an older one: only a copy can be brought up to date
                    if way != self._copied:
                        continue
                    with _all_or_nothing(db):
                        _migrate(db)
                _fits(db, self._path)
                _has_all(db)
                db.pragma("query_only", True)
                unless_whole.pop_all()
                return db
        raise LibraryBroken(self.read_only, self._hint) if isinstance(error, _Newer) else error

    def _beside_others(self) -> apsw.Connection:
        return _connect(self._path, "ro")

    def _unchanging(self) -> apsw.Connection | None:
        return None if _log_size(self._path) else _connect(self._path, "ro&immutable=1")

    def _copied(self) -> apsw.Connection:
        folder = Path(tempfile.mkdtemp(prefix="studio-"))  # for its owner only
        self._aside = weakref.finalize(self, shutil.rmtree, folder, True)
        return _connect(copy_aside(self._path, folder), "rw")

    def _alone(self) -> apsw.Connection:
        db = _connect(self._path, "rw")
        db.pragma("locking_mode", "exclusive")  # before anything is read
        return db

    def _why(self, error: Exception) -> tuple[str, str]:
        """What is in the way of writing, and what to do about it."""
        folder = self._path.parent
        files = [folder, self._path, *(self._path.with_name(self._path.name + end) for end in SIDE_FILES)]
        if any(file.exists() and not os.access(file, os.W_OK) for file in files):
            return "its folder or a file in it may not be written", CHECK_FOLDER
        if isinstance(error, apsw.FullError) or shutil.disk_usage(folder).free < ROOM:
            return "the disk is full", "Make room on the disk, then start the studio again."
        if isinstance(error, NotSaved):
            reason = "it has to be brought up to date, and no copy of it as it is could be kept before that"
            return reason, f"{error.problem.sentence} {error.problem.hint}"
        return "the disk does not take what is written", "Look at the disk, then start the studio again."

    # -- use --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All or nothing, on disk when the block ends. May be nested; the outermost one counts.

        Raises:
            ReadOnly: the library is open for reading only.
            LibraryMoved: the file that is open is no longer where it was.
            NotSaved, LibraryBroken: as SQLite's errors are explained.
        """
        with explained(self._path), self._lock:
            if self._depth:
                yield self._db
                return
            if self.read_only:
                raise ReadOnly(self.read_only, self._hint)
            if self._moved():
                raise LibraryMoved(
                    f"The data folder {self._path.parent} was moved, deleted or replaced; nothing can be saved there.",
                    "Put it back where it was, or close the studio and start it again. What was saved is in that "
                    "folder, wherever it is now.",
                )
            with _all_or_nothing(self._db):
                self._depth += 1
                try:
                    yield self._db
                finally:
                    self._depth -= 1

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with explained(self._path), self._lock:
            try:
                return list(self._db.execute(sql, values))
            except UnicodeDecodeError as error:  # a text that is not one any more
                raise _damaged(self._path, error) from None

    @contextlib.contextmanager
    def reader(self) -> Iterator[apsw.Connection]:
        """Another connection, which sees the library as it is at this moment for as long as it is open. Writers do not
        wait for it, nor it for them. Raises SQLite's errors as they are."""
        db = _connect(self._path, "ro")
        try:
            db.execute("begin")
            db.execute("select 1 from sqlite_schema").fetchall()  # the moment
            yield db
        finally:
            db.close()

    def moved(self) -> bool:
        """Whether the path leads elsewhere, or nowhere, by now."""
        with self._lock:
            return self._moved()

    def _moved(self) -> bool:
        try:
            return _identity(self._path) != self._file
        except OSError:
            return True

    def close(self) -> None:
        with self._lock:
            self._db.close()  # SQLite looks whether the file was moved, and then leaves the log of that name alone
            self._aside()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about a database file into sentences."""
    try:
        yield
    except DAMAGED as error:
        raise _damaged(path, error) from None
    except apsw.BusyError as error:
        raise Busy(
            "Another program keeps the library's database locked.", "Close it and try again.", detail=str(error)
        ) from None
    except CANNOT_WRITE as error:
        reason = {
            apsw.FullError: "the disk is full",
            apsw.ReadOnlyError: "it is read-only",
            apsw.CantOpenError: "it cannot be opened there",
        }.get(type(error), "the disk reports an error")
        raise NotSaved(
            f"The library's database {path} could not be written: {reason}.", CHECK_FOLDER, detail=str(error)
        ) from None


def _damaged(path: Path, error: Exception) -> LibraryBroken:
    return LibraryBroken(f"The library's database {path} is damaged.", RESTORE, detail=str(error))


def look(path: Path, seconds: float | None = None) -> str:
    """What is wrong with a database file, in SQLite's words; empty where nothing is. Writes nothing into it.

    Args:
        seconds: after so many it is left at what was seen by then; None looks at all of it.

    Raises:
        Busy: it is locked. NotSaved, OSError: it cannot be opened.
    """
    if path.stat().st_size == 0:
        return "the file is empty"
    with explained(path), contextlib.ExitStack() as after:
        try:
            try:
                db = _connect(path, "ro")
                after.callback(db.close)
                db.pragma("user_version")
            except CANNOT_WRITE:  # the index file beside it cannot be made
                folder = after.enter_context(tempfile.TemporaryDirectory(prefix="studio-"))
                db = _connect(copy_aside(path, Path(folder)), "rw")
                after.callback(db.close)
            _fits(db, path)
            if not 0 < _version(db) < len(MIGRATIONS):
                _has_all(db)
            return wrong_with(db, seconds)
        except LibraryBroken as error:
            return error.problem.detail
        except (*DAMAGED, apsw.SQLError) as error:
            return str(error)


def wrong_with(db: apsw.Connection, seconds: float | None = None) -> str:
    """The first thing SQLite finds wrong in a database and its indexes, or nothing. Text inside a row may still differ:
    there are no checksums."""
    if seconds is not None:
        end = time.monotonic() + seconds
        db.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        found = db.execute("pragma integrity_check(1)").fetchall()
        return "" if found == [("ok",)] else str(found[0][0]).removeprefix("*** in database main ***\n")
    except DAMAGED as error:
        return str(error)
    except apsw.InterruptError:
        return ""
    finally:
        db.set_progress_handler(None)


def own_id(path: Path) -> int:
    """Which library a file is of by itself, whatever log is beside it; 0 where that cannot be told."""
    with contextlib.suppress(apsw.Error):
        db = _connect(path, "ro&immutable=1")  # passes over the log
        try:
            return int(db.pragma("application_id"))
        finally:
            db.close()
    return 0


def copy_aside(path: Path, folder: Path) -> Path:
    """Copy a database that nobody has open, with its log, into a folder. Returns the copy. Raises OSError."""
    copy = folder / path.name
    shutil.copyfile(path, copy)
    for end in ("-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(path.with_name(path.name + end), copy.with_name(copy.name + end))
    return copy


class _Newer(Exception):
    def __init__(self, version: int) -> None:
        super().__init__(f"version {version}")
        self.version = version


def _connect(path: Path, mode: str) -> apsw.Connection:
    """Open a file that is there. At its end nothing is written, until that is asked for."""
    writable = mode.startswith("rw")
    flags = apsw.SQLITE_OPEN_READWRITE if writable else apsw.SQLITE_OPEN_READONLY
    db = apsw.Connection(f"{path.absolute().as_uri()}?mode={mode}", flags=flags | apsw.SQLITE_OPEN_URI)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.set_busy_timeout(BUSY_MILLISECONDS)
    return db


def _set_up(db: apsw.Connection) -> None:
    db.pragma("journal_mode", "wal")
    # WAL with NORMAL may lose the last commits in a power cut; what was acknowledged must be there.
    db.pragma("synchronous", "full")
    db.pragma("foreign_keys", True)


@contextlib.contextmanager
def _all_or_nothing(db: apsw.Connection) -> Iterator[None]:
    db.execute("begin immediate")
    try:
        yield
        db.execute("commit")
    except BaseException:
        with contextlib.suppress(apsw.Error):  # after a full disk SQLite has ended it already
            db.execute("rollback")
        raise


def _can_write(db: apsw.Connection) -> None:
    """See whether a transaction could begin. Raises one of CANNOT_WRITE."""
    db.set_busy_timeout(0)
    with contextlib.suppress(apsw.BusyError):  # another process is writing, so it can be written
        db.execute("begin immediate; rollback")
    db.set_busy_timeout(BUSY_MILLISECONDS)


def _migrate(db: apsw.Connection) -> None:
    """Apply what is missing, inside a transaction. Raises LibraryBroken."""
    version = _version(db)
    try:
        for migration in MIGRATIONS[version:]:
            migration(db)
    except (apsw.SQLError, apsw.ConstraintError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LibraryBroken(
            "The library's database is damaged: it could not be brought up to date, and is as it was.",
            RESTORE,
            detail=f"from version {version}: {error}",
        ) from None
    db.pragma("user_version", len(MIGRATIONS))


def _version(db: apsw.Connection) -> int:
    version = int(db.pragma("user_version"))
    if version < 0:
        raise apsw.CorruptError(f"version {version}")
    if version == 0 and db.execute("select count(*) from sqlite_schema").fetchall() != [(0,)]:
        raise apsw.CorruptError("it has tables and no version")  # or it is another program's, and not ours to change
    return version


def _columns(db: apsw.Connection) -> set[tuple[str, str]]:
    sql = "select t.name, c.name from sqlite_schema t, pragma_table_info(t.name) c where t.type = 'table'"
    try:
        return set(db.execute(sql))
    except (apsw.SQLError, UnicodeDecodeError) as error:
        raise apsw.CorruptError(str(error)) from None


def _has_all(db: apsw.Connection) -> None:
    """See whether every table and column is there that this studio asks for. Raises LibraryBroken, apsw.Error."""
    ours = apsw.Connection(":memory:")
    try:
        for migration in MIGRATIONS:
            migration(ours)
        missing = sorted(".".join(each) for each in _columns(ours) - _columns(db))
    finally:
        ours.close()
    if not missing:
        return
    if (version := _version(db)) > len(MIGRATIONS):
        raise LibraryBroken(
            f"The library was written by a newer studio (version {version}; this one knows {len(MIGRATIONS)}) and "
            "cannot be read by this one.",
            "Update the studio, or set STUDIO_HOME to another folder.",
            detail="without " + ", ".join(missing),
        )
    raise apsw.CorruptError("without " + ", ".join(missing))


def _fits(db: apsw.Connection, path: Path) -> None:
    """See whether the log beside a database is its own, where one was left behind.

    SQLite applies any log that is sound in itself, also one of another database or of another age of this one, which
    mixes their pages; and at its next checkpoint that is for good. So before anything is written we look: whether the
    file by itself and the file with its log have the same identity, and whether the whole is sound.

    Raises:
        LibraryBroken: they do not belong together.
    """
    if not _log_size(path):
        return
    own = own_id(path)
    if own and db.pragma("application_id") != own:
        wrong = "the log is of another database"
    else:
        wrong = wrong_with(db, CHECK_SECONDS)
    if wrong:
        raise LibraryBroken(
            f"The library's database {path} is damaged, or the file {path.name}-wal beside it is not its own.",
            RESTORE,
            detail=wrong,
        )


def _log_size(path: Path) -> int:
    try:
        return path.with_name(f"{path.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
