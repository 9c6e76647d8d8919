"""A library for the tests of its database: works with files and sidecars, jobs, conversations, stars, a bin.

usage: python -m tests.faults.db_library WHAT HOME ...

As a program it is the studio that is killed: it says “ready” when it is where it should be.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import msgspec

from studio.core.conversations import Conversation, Turn
from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.recipes import TextRecipe
from studio.core.works import Asset, Work
from studio.library import database as database_module
from studio.library.conversations import Conversations
from studio.library.database import MIGRATIONS, Database
from studio.library.files import Files, Sidecar
from studio.library.jobs import Jobs
from studio.library.works import Works

TABLES = ("jobs", "works", "conversations", "groups", "models", "paused")


def work(number: int, job: str = "j0") -> Work:
    return Work(
        id=f"w{number:012d}", seq=number * 1000, job=job, index=0, kind="text", title=f"Tale {number}",
        created=f"2026-01-01T00:00:{number % 60:02}.000Z",
        recipe=TextRecipe(prompt=f"Tell of fox {number}. " * 20, seed=number),
        assets=(Asset(path=f"2026/01/tale-{number}.txt", role="master", sha256=f"{number:064d}", bytes=4),),
    )  # fmt: skip


def add_works(paths: Paths, database: Database, numbers: range) -> None:
    """Works with their files and sidecars."""
    files = Files(paths)
    made = [work(number) for number in numbers]
    Works(database).add(tuple(made))
    for each in made:
        files.path(each.master.path).parent.mkdir(parents=True, exist_ok=True)
        files.path(each.master.path).write_bytes(b"tale")
        files.sidecar_path(each).write_bytes(msgspec.json.encode(Sidecar(work=each)))


def fill(paths: Paths, works: int = 200) -> Database:
    """A new library with something in every table; still open."""
    database = Database(paths.database)
    jobs, conversations = Jobs(database), Conversations(database)
    with database.transaction() as db:
        made = [jobs.add(TextRecipe(prompt=f"job {i} " * 20, seed=i), owner="me") for i in range(works // 4)]
        for job in made[: works // 8]:
            jobs.start(job.id)
            jobs.end(job.id, JobState.CANCELLED)
        add_works(paths, database, range(works))
        for number in range(0, works, 7):
            Works(database).star(work(number).id, True)
        Works(database).set_removed([work(3).id], "2026-02-02")
        for i in range(works // 8):
            turns = tuple(Turn(prompt=f"Question {i} {n} " * 9, jobs=(made[0].id,)) for n in range(3))
            conversations.keep(Conversation(id=f"c{i}", title=f"Talk {i}", created="2026", changed="", turns=turns))
        db.execute("insert into models values ('/models/a.gguf', '2026')")
        jobs.pause("image", True)
    return database


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, by key; opened as the studio does it."""
    database = Database(path)
    try:
        return {table: sorted(database.rows(f"select * from {table}"), key=repr) for table in TABLES}
    finally:
        database.close()


def state(home: Path) -> dict[str, tuple[int, bytes]]:
    """When they were written and what is in them: the database and its log, unless that is empty. The index says
    only who reads."""
    files = [file for file in home.glob("studio.db*") if file.suffix != ".db-shm"]
    return {
        file.name: (file.stat().st_mtime_ns, file.read_bytes())
        for file in files
        if file.name == "studio.db" or file.stat().st_size
    }


def copy_of(home: Path, to: Path, *, index: bool = True) -> Paths:
    """A library copied as a backup program would, in the middle of use."""
    shutil.copytree(home, to, ignore=None if index else shutil.ignore_patterns("*-shm"))
    return Paths(to)


def hot(home: Path, works: int = 40) -> None:
    """Fill a library, leave its last works in the log only, and be killed."""
    paths = Paths(home)
    paths.make()
    fill(paths, works).close()
    database = Database(paths.database)
    add_works(paths, database, range(works, works + 5))
    os.kill(os.getpid(), signal.SIGKILL)


def old(home: Path, version: int = 3) -> None:
    """A library as an older studio left it."""
    paths = Paths(home)
    paths.make()
    database_module.MIGRATIONS = MIGRATIONS[:version]
    Database(paths.database).close()
    database_module.MIGRATIONS = MIGRATIONS
    db = apsw.Connection(str(paths.database))
    db.execute("insert into models values ('/models/old.gguf', '2025')")
    db.execute(
        "insert into works (id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, "
        "complete) values ('w1', 1, 'j', 0, 'text', 'Old', '2025', '{\"kind\":\"text\",\"prompt\":\"x\"}', "
        '\'[{"path":"a","role":"master","sha256":"","bytes":1}]\', \'{}\', \'[]\', 1.0, 1)'
    )
    db.close()


def killed_in_migration(home: Path) -> None:
    """Bring a library up to date, and be killed when all of it is written but not committed."""

    def last(db: apsw.Connection) -> None:
        MIGRATIONS[-1](db)
        # so many pages that some are in the log before the commit
        db.execute(
            "pragma cache_size = 5; create table filler (x); insert into filler select randomblob(4000) from "
            "(with recursive n(i) as (select 1 union all select i + 1 from n where i < 500) select i from n)"
        )
        os.kill(os.getpid(), signal.SIGKILL)

    # the new schema is asked for in a database in memory, too; that is after this
    database_module.MIGRATIONS = [*MIGRATIONS[:-1], last]
    Database(Paths(home).database)


def restoring(home: Path) -> None:
    from studio.library.restore import restore

    os.write(2, b"BEGIN\n")
    restore(Paths(home))
    os.write(2, b"ACK\n")
    os._exit(0)


def backing_up(home: Path) -> None:
    from studio.library.backups import back_up

    paths = Paths(home)
    database = Database(paths.database)
    os.write(2, b"BEGIN\n")
    back_up(database, paths.backups, keep=2)
    os.write(2, b"ACK\n")
    os._exit(0)


def locking(home: Path) -> None:
    db = apsw.Connection(str(Paths(home).database))
    db.execute("begin immediate")
    print("ready", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    programs = {each.__name__: each for each in (hot, killed_in_migration, restoring, backing_up, locking)}
    programs[what](where)
