"""Copies of the database: when they are made, what makes one count, which of them stay."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from studio.core.paths import Paths
from studio.core.problems import NotSaved
from studio.core.recipes import TextRecipe
from studio.library import backups as backups_module
from studio.library.backups import back_up, backups, due, verify
from studio.library.database import MIGRATIONS, Database
from studio.library.jobs import Jobs

RECIPE = TextRecipe(prompt="a fox", seed=1)


@pytest.fixture
def database(paths: Paths) -> Iterator[Database]:
    made = Database(paths.database)
    yield made
    made.close()


def change(database: Database) -> str:
    return Jobs(database).add(RECIPE, owner="me").id


def names(folder: Path) -> list[str]:
    return [each.path.name for each in backups(folder)]


def test_a_backup_is_a_whole_library_by_itself_and_says_what_it_holds(paths: Paths, database: Database) -> None:
    job = change(database)
    made = back_up(database, paths.backups)
    assert made == paths.backups / "studio-0001.db"
    (found,) = backups(paths.backups)
    assert (found.path, found.bytes) == (made, made.stat().st_size)
    assert (found.version, found.works, found.jobs) == (len(MIGRATIONS), 0, 1)
    assert found.made.endswith("Z") and verify(made)
    assert {p.name for p in paths.backups.iterdir()} == {"studio-0001.db", "studio-0001.json"}, "and nothing beside it"
    copy = Database(made)
    assert Jobs(copy).get(job).recipe == RECIPE
    copy.close()


def test_what_has_not_changed_is_not_copied_again_and_counts_as_made_now(paths: Paths, database: Database) -> None:
    made = back_up(database, paths.backups)
    assert made is not None
    os.utime(made, (1, 1))
    assert back_up(database, paths.backups) is None
    assert names(paths.backups) == ["studio-0001.db"] and not due(paths.backups, 1)
    # things of which neither number nor highest id changes
    job = change(database)
    assert back_up(database, paths.backups) is not None
    for number, sql in enumerate(("update jobs set why = 'x'", "insert into paused values ('*')"), 3):
        with database.transaction() as db:
            db.execute(sql)
        assert back_up(database, paths.backups) == paths.backups / f"studio-{number:04}.db", sql
    database.close()
    database.__init__(paths.database)  # type: ignore[misc]  # opened again, a checkpoint later
    assert back_up(database, paths.backups) is None and Jobs(database).get(job)


def test_a_backup_that_was_damaged_meanwhile_is_made_again(paths: Paths, database: Database) -> None:
    made = back_up(database, paths.backups)
    assert made is not None
    with open(made, "r+b") as stream:
        stream.seek(-5, 2)
        stream.write(b"\xff")
    assert not verify(made)
    assert back_up(database, paths.backups) == paths.backups / "studio-0002.db"


def test_the_number_orders_them_and_not_the_clock_and_the_oldest_go(paths: Paths, database: Database) -> None:
    for number in range(1, 6):
        change(database)
        made = back_up(database, paths.backups, keep=3)
        assert made is not None
        os.utime(made, (2_000_000_000 - number * 1000, 2_000_000_000 - number * 1000))  # a clock that goes back
    assert names(paths.backups) == ["studio-0005.db", "studio-0004.db", "studio-0003.db"]
    assert len(list(paths.backups.iterdir())) == 6
    (paths.backups / "studio-9999.db").write_bytes(b"")
    change(database)
    assert back_up(database, paths.backups, keep=0) == paths.backups / "studio-10000.db"
    assert names(paths.backups) == ["studio-10000.db"], "the new one is never among the oldest"


def test_copies_of_older_versions_are_not_among_those_that_go(paths: Paths, database: Database) -> None:
    with database.reader() as source:
        assert backups_module.keep_old(source, paths.backups) == paths.backups / "studio-0001-version-5.db"
    for _ in range(3):
        change(database)
        back_up(database, paths.backups, keep=1)
    assert names(paths.backups) == ["studio-0004.db", "studio-0001-version-5.db"]


def test_nothing_old_goes_before_the_new_one_is_verified(
    paths: Paths, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(database)
    back_up(database, paths.backups, keep=1)
    before = {p.name: p.read_bytes() for p in paths.backups.iterdir()}
    real = backups_module._check

    def spoiled(path: Path) -> tuple[int, int, int]:
        if path.suffix == ".tmp":
            with open(path, "r+b") as stream:
                stream.seek(4096)
                stream.write(os.urandom(4096))
        return real(path)

    monkeypatch.setattr(backups_module, "_check", spoiled)
    change(database)
    with pytest.raises(NotSaved, match="No backup"):
        back_up(database, paths.backups, keep=1)
    assert {p.name: p.read_bytes() for p in paths.backups.iterdir()} == before
    monkeypatch.setattr(backups_module, "_check", lambda path: (4, 0, 7))
    with pytest.raises(NotSaved, match="not what was copied"):
        back_up(database, paths.backups, keep=1)
    assert {p.name: p.read_bytes() for p in paths.backups.iterdir()} == before


def test_a_backup_its_note_and_its_name_are_flushed_and_a_flush_that_fails_counts_as_not_saved(
    paths: Paths, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    real = os.fsync

    def noting(handle: int) -> None:
        flushed.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", noting)
    change(database)
    made = back_up(database, paths.backups)
    assert made is not None
    wanted = [made, made.with_suffix(".json"), paths.backups]
    assert [number for number in flushed if number in {p.stat().st_ino for p in wanted}] == [
        p.stat().st_ino for p in wanted
    ]

    def failing(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    change(database)
    with pytest.raises(NotSaved, match="Input/output error"):
        back_up(database, paths.backups)
    assert names(paths.backups) == ["studio-0001.db"]


def test_writers_do_not_wait_for_a_backup_and_it_shows_one_moment(
    paths: Paths, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(database)
    in_the_middle, go_on = threading.Event(), threading.Event()
    real = backups_module._count

    def slow(db: apsw.Connection) -> tuple[int, int, int]:
        counted = real(db)
        in_the_middle.set()  # counted, and nothing copied yet
        assert go_on.wait(60)
        return counted

    monkeypatch.setattr(backups_module, "_count", slow)
    thread = threading.Thread(target=back_up, args=(database, paths.backups))
    thread.start()
    assert in_the_middle.wait(20)
    for _ in range(20):
        change(database)
    database.rows("select count(*) from jobs")
    assert thread.is_alive(), "the backup waits for them, and not they for it"
    go_on.set()
    thread.join()
    (made,) = backups(paths.backups)
    assert made.jobs == 1 and verify(made.path)


def test_a_changed_letter_is_noticed_though_sqlite_does_not_see_it(paths: Paths, database: Database) -> None:
    change(database)
    made = back_up(database, paths.backups)
    assert made is not None
    data = made.read_bytes()
    made.write_bytes(data.replace(b"a fox", b"a box"))
    assert made.read_bytes() != data and not verify(made)
    made.write_bytes(data)
    assert verify(made)
    (paths.backups / "studio-0001.json").unlink()
    assert verify(made), "without its note it is looked through all the same"
    assert backups(paths.backups)[0].jobs == 1
    made.write_bytes(data[: len(data) // 2])
    assert not verify(made)
    made.write_bytes(b"x" * 5000)
    assert not verify(made) and backups(paths.backups)[0].version == 0
    assert not verify(paths.backups / "missing.db")


def test_it_is_due_after_its_hours_after_a_jump_of_the_clock_and_when_there_is_none(
    paths: Paths, database: Database
) -> None:
    assert due(paths.backups, 20)
    made = back_up(database, paths.backups)
    assert made is not None and not due(paths.backups, 20)
    for ago, expected in ((19, False), (21, True), (-2, True)):
        os.utime(made, (time.time() - ago * 3600,) * 2)
        assert due(paths.backups, 20) is expected, ago


def test_what_a_killed_studio_left_goes_after_an_hour(paths: Paths, database: Database) -> None:
    paths.backups.mkdir()
    for name in ("old.tmp", "new.tmp", "studio-0007.json"):
        (paths.backups / name).write_bytes(b"x")
    for name in ("old.tmp", "studio-0007.json"):
        os.utime(paths.backups / name, (1, 1))
    made = back_up(database, paths.backups)
    assert made == paths.backups / "studio-0008.db"
    assert {p.name for p in paths.backups.iterdir()} == {"new.tmp", "studio-0008.db", "studio-0008.json"}


def test_two_studios_that_back_up_at_once_take_different_numbers(
    paths: Paths, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(database)
    real = backups_module._number

    def number(path: Path) -> int:
        """The other one takes the next number just when this one has found it free."""
        if path.suffix == ".json":
            path.with_name("studio-0002.json").write_text("{}")
        return real(path)

    back_up(database, paths.backups)
    change(database)
    monkeypatch.setattr(backups_module, "_number", number)
    assert back_up(database, paths.backups) == paths.backups / "studio-0003.db"
    assert (paths.backups / "studio-0002.json").read_text() == "{}"


def test_a_folder_in_the_way_is_a_sentence(paths: Paths, database: Database) -> None:
    paths.backups.write_text("a file")
    with pytest.raises(NotSaved, match="No backup"):
        back_up(database, paths.backups)
    assert backups(paths.backups) == [] and due(paths.backups, 1)
