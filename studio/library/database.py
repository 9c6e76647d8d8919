"""The database file: opening it, its schema, its migrations. Knows SQLite; knows nothing of what the rows mean."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from studio.core.problems import LibraryBroken, NotSaved
from studio.core.text import searchable

BUSY_MILLISECONDS = 5000  # how long to wait for another program that is writing


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


# In order; the database's user_version counts how many have been applied. Never change one that was released.
MIGRATIONS: list[Callable[[apsw.Connection], None]] = [_first_schema, _stars_words_conversations, _bin, _pause_and_why]


class Database:
    """One connection, shared by threads under a lock.

    Raises:
        LibraryBroken: the file is not a database, is damaged, or was written by a newer studio. It is left as it is.
        NotSaved: the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._depth = 0
        self.read_only = ""
        with self.explained():
            if path.exists() and path.stat().st_size == 0:
                # SQLite would take an empty file for a new database; ours are never empty.
                raise LibraryBroken(
                    f"The library's database {path} is empty; it was damaged or cut off.",
                    "Move the file away; “studio doctor --rebuild” then makes a new one from the works' sidecar files.",
                )
            self._db = apsw.Connection(str(path))
            self._db.set_busy_timeout(BUSY_MILLISECONDS)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        version = self._db.pragma("user_version")
        if version > len(MIGRATIONS):
            raise LibraryBroken(
                f"The library was written by a newer studio (version {version}; this one knows {len(MIGRATIONS)}).",
                "Update the studio, or set STUDIO_HOME to another folder.",
            )
        self._db.pragma("journal_mode", "wal")
        # WAL with NORMAL may lose the last commits in a power cut; what was acknowledged must be there.
        self._db.pragma("synchronous", "full")
        self._db.pragma("foreign_keys", True)
        if version < len(MIGRATIONS):
            with self.transaction() as db:
                for migration in MIGRATIONS[db.pragma("user_version") :]:  # another process may have been faster
                    migration(db)
                db.pragma("user_version", len(MIGRATIONS))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """All or nothing, on disk when the block ends. May be nested; the outermost one counts."""
        with self.explained(), self._lock:
            if self._depth:
                yield self._db
                return
            self._db.execute("begin immediate")
            self._depth += 1
            try:
                yield self._db
            except BaseException:
                self._depth -= 1
                self._db.execute("rollback")
                raise
            self._depth -= 1
            try:
                self._db.execute("commit")
            except BaseException:
                with contextlib.suppress(apsw.Error):
                    self._db.execute("rollback")
                raise

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.explained(), self._lock:
            return list(self._db.execute(sql, values))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn SQLite's errors into sentences."""
        try:
            yield
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise LibraryBroken(
                f"The library's database {self._path} is damaged.",
                "Move it away with its -wal and -shm files; “studio doctor --rebuild” makes a new one from the works' "
                "sidecar files. Your works are files of their own and are not affected.",
                detail=str(error),
            ) from None
        except apsw.BusyError as error:
            raise LibraryBroken(
                "Another program keeps the library's database locked.", "Close it and try again.", detail=str(error)
            ) from None
        except (apsw.FullError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.IOError) as error:
            reason = {
                apsw.FullError: "the disk is full",
                apsw.ReadOnlyError: "it is read-only",
                apsw.CantOpenError: "it cannot be opened there",
            }.get(type(error), "the disk reports an error")
            raise NotSaved(
                f"The library's database {self._path} could not be written: {reason}.",
                "Make room, check the folder's permissions, or set STUDIO_HOME to another folder.",
                detail=str(error),
            ) from None
