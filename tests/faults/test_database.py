"""The library's database damaged, lost, moved, locked, of another age, on a full disk and where nothing can be written.

While a damaged file is looked at no byte of it changes, and no log is ever deleted that may hold works.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from studio.core.paths import Paths
from studio.core.problems import Busy, LibraryBroken, LibraryMoved, ReadOnly
from studio.library import database as database_module
from studio.library.backups import back_up, backups, verify
from studio.library.database import MIGRATIONS, Database, look
from studio.library.jobs import Jobs
from studio.library.restore import lost, restore
from studio.library.works import Works
from tests.faults import db_library
from tests.faults.db_library import add_works, content, copy_of, fill, state, work
from tests.faults.tools import (
    ROOT,
    environment,
    need_tracing,
    public_folder,
    small_disks,
    studio,
    told_by,
    without_rights,
)

PAGE = 4096


def run(what: str, home: Path, *before: str) -> int:
    """One of the programs of db_library, to its end."""
    command = [*before, sys.executable, "-m", "tests.faults.db_library", what, str(home)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(), timeout=120, stderr=subprocess.DEVNULL, check=False
    ).returncode  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A closed library of 200 works with a backup; tests copy it."""
    paths = Paths(tmp_path_factory.mktemp("whole") / "home")
    paths.make()
    database = fill(paths)
    back_up(database, paths.backups)
    database.close()
    return paths


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A library whose studio was killed: works 40 to 44 are in the log only."""
    home = tmp_path_factory.mktemp("killed") / "home"
    assert run("hot", home) == -signal.SIGKILL
    paths = Paths(home)
    assert (home / "studio.db-wal").stat().st_size > 0
    return paths


@pytest.fixture
def library(whole: Paths, tmp_path: Path) -> Paths:
    return copy_of(whole.home, tmp_path / "library")


def titles(path: Path) -> set[str]:
    database = Database(path)
    try:
        return {each.id for each in Works(database).recent(limit=10_000)}
    finally:
        database.close()


def ids(numbers: range, *but: int) -> set[str]:
    return {work(number).id for number in numbers if number not in but}


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_flipped_byte_on_any_page_is_told_or_harmless_and_every_work_comes_back(library: Paths, whole: Paths) -> None:
    before = content(whole.database)
    sound = whole.database.read_bytes()
    pages = len(sound) // PAGE
    assert pages > 80 and len(before["works"]) == 200
    told = 0
    for page in range(pages):
        damaged = bytearray(sound)
        damaged[page * PAGE] ^= 0xFF
        library.database.write_bytes(damaged)
        as_it_was = state(library.home)
        wrong = look(library.database)
        try:
            seen = content(library.database)
        except LibraryBroken:
            seen = {}
        if not wrong:
            assert seen == before, f"page {page} is damaged and nobody says so"
            continue
        told += 1
        if seen != before:
            assert state(library.home) == as_it_was, f"looking changed something (page {page})"
        done = restore(library)
        assert done.from_backup and done.damaged and done.sentence.endswith(f"is kept in {done.damaged}.")
        assert (library.home / done.damaged / "studio.db").read_bytes() == bytes(damaged)
        assert content(library.database) == before, f"not all came back (page {page})"
        assert look(library.database) == ""
    assert told > pages * 0.9


def test_without_a_backup_every_work_comes_back_from_its_sidecar_and_the_rest_as_far_as_it_can_be_read(
    library: Paths, whole: Paths
) -> None:
    shutil.rmtree(library.backups)
    before = content(whole.database)
    sound = whole.database.read_bytes()
    for page in range(0, len(sound) // PAGE, 6):
        damaged = bytearray(sound)
        damaged[page * PAGE] ^= 0xFF
        library.database.write_bytes(damaged)
        if not look(library.database):
            continue
        done = restore(library)
        assert not done.from_backup and done.salvaged + done.from_sidecars >= 200
        # 2: id, 14 and 16: stars and the bin, which sidecars do not know
        after = content(library.database)
        assert sorted(r[1:14] for r in after["works"]) == sorted(r[1:14] for r in before["works"]), f"page {page}"
        for table in ("jobs", "conversations", "models", "paused"):
            assert set(after[table]) <= set(before[table])
            missing = len(before[table]) - len(after[table])
            assert missing <= 12 or table != "jobs", f"page {page}: {missing} jobs are lost by one page"


def test_many_damaged_pages_at_once_cost_no_work_and_what_can_be_read_is_newer_than_the_backup(library: Paths) -> None:
    database = Database(library.database)
    add_works(library, database, range(200, 230))
    Works(database).star(work(1).id, True)
    queued = Jobs(database).add(work(1).recipe, owner="me")  # type: ignore[arg-type]
    database.close()
    damaged = bytearray(library.database.read_bytes())
    # not the pages that were written last: what they hold is known from them alone
    for page in range(5, len(damaged) // PAGE - 20, 5):
        damaged[page * PAGE : page * PAGE + 64] = bytes(64)
    library.database.write_bytes(damaged)
    assert look(library.database)
    done = restore(library)
    assert done.from_backup and done.salvaged
    database = Database(library.database)
    works, jobs = Works(database), Jobs(database)
    assert {w.id for w in works.recent(limit=1000)} == ids(range(230), 3), "the one in the bin stays there"
    assert [w.id for w in works.recent(limit=1000)] == sorted(ids(range(230), 3), reverse=True), "and in their order"
    assert works.find(work(7).id).starred and works.find(work(3).id).removed  # type: ignore[union-attr]
    assert jobs.find(queued.id) is not None, "a job of after the backup"
    assert queued.id in {job.id for job in jobs.unfinished()}
    database.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"not a database " * 400, bytes(PAGE), bytes(100), b"SQLite format 3\0" + b"\xff" * 84],
    ids=["empty", "text", "zeros", "short", "header"],
)
def test_garbage_in_place_of_the_file_or_its_header_is_told_and_restored(
    library: Paths, whole: Paths, garbage: bytes
) -> None:
    before = content(whole.database)
    sound = whole.database.read_bytes()
    for damaged in (garbage, garbage + sound[len(garbage) :]):
        if damaged == sound:
            continue
        library.database.write_bytes(damaged)
        as_it_was = state(library.home)
        with pytest.raises(LibraryBroken, match="damaged"):
            Database(library.database)
        assert state(library.home) == as_it_was, "it is left as it is"
        done = restore(library)
        assert (library.home / done.damaged / "studio.db").read_bytes() == damaged
        assert content(library.database) == before


def test_a_flipped_byte_of_the_header_is_told_as_damage_or_harmless(library: Paths, whole: Paths) -> None:
    before = content(whole.database)
    sound = whole.database.read_bytes()
    told = 0
    for at in range(104):
        damaged = bytearray(sound)
        damaged[at] ^= 0xFF
        library.database.write_bytes(damaged)
        as_it_was = state(library.home)
        try:
            database = Database(library.database)
        except LibraryBroken:
            told += 1
            assert state(library.home) == as_it_was, f"looking changed something (byte {at})"
            continue
        assert not database.read_only or "newer studio" in database.read_only, f"byte {at}: {database.read_only}"
        database.close()
        assert content(library.database) == before or look(library.database), f"byte {at} is damaged and nobody says so"
    assert told > 20
    assert len(backups(library.backups)) == 1, "none was taken for an older version"


def test_a_file_whose_tables_are_gone_is_told_as_damage(library: Paths) -> None:
    damaged = bytearray(library.database.read_bytes())
    damaged[103:105] = bytes(2)  # of the page that names the tables: how many there are
    library.database.write_bytes(damaged)
    with pytest.raises(LibraryBroken, match="damaged") as raised:
        Database(library.database)
    assert "works.id" in raised.value.problem.detail
    assert library.database.read_bytes() == damaged


def test_a_lost_header_does_not_hide_the_rows_behind_it(library: Paths, whole: Paths) -> None:
    before = content(whole.database)
    database = Database(library.database)
    late = Jobs(database).add(work(1).recipe, owner="me")  # type: ignore[arg-type]
    database.close()
    damaged = bytearray(library.database.read_bytes())
    damaged[:PAGE] = os.urandom(PAGE)
    library.database.write_bytes(damaged)
    done = restore(library)
    assert done.salvaged > 200
    after = content(library.database)
    assert {job[1] for job in after["jobs"]} == {job[1] for job in before["jobs"]} | {late.id}


def test_a_damaged_row_spoils_neither_the_list_nor_a_page_of_it(library: Paths) -> None:
    database = Database(library.database)
    with database.transaction() as db:
        db.execute("update works set recipe = '{\"kind\":' where id = ?", (work(199).id,))
        db.execute("update works set title = cast(x'ff41' as text) where id = ?", (work(197).id,))
        db.execute("update works set assets = '[]' where id = ?", (work(195).id,))
        db.execute("update works set assets = 'x' where id = ?", (work(194).id,))
    works = Works(database)
    page = works.recent(limit=5)
    assert [w.id for w in page] == [work(n).id for n in (198, 196, 193, 192, 191)]
    assert works.recent(limit=5, before=page[-1].id)[0].id == work(190).id
    assert len(works.recent(limit=1000)) == 195 and works.find(work(199).id) is None
    assert works.with_asset(4, lambda: f"{1:064d}") == works.find(work(1).id)
    database.close()


def test_doctor_says_how_the_database_and_its_backups_are(library: Paths) -> None:
    def findings() -> dict[str, tuple[bool, str]]:
        said = json.loads(studio(library.home, "doctor", "--json").stdout)["findings"]
        return {each["about"]: (each["good"], each["sentence"]) for each in said}

    found = findings()
    assert found["database"] == (True, "sound")
    assert found["backups"] == (True, "1, the newest 0 hours old with 200 works, sound")
    assert found["library"] == (True, "199 works, every one with its file")
    database = Database(library.database)
    Jobs(database).add(work(1).recipe, owner="me")  # type: ignore[arg-type]
    (root,) = database.rows("select rootpage from sqlite_schema where name = 'works_kind'")[0]
    with database.transaction() as db:
        db.execute("update works set notes = '[' where id = ?", (work(8).id,))
    database.close()
    with open(library.database, "r+b") as stream:
        stream.seek((root - 1) * PAGE)
        stream.write(b"\0" * PAGE)
    made = backups(library.backups)[0].path
    made.write_bytes(made.read_bytes()[:-1])
    found = findings()
    assert not found["database"][0] and found["database"][1].startswith("damaged: ")
    assert found["backups"] == (False, "1, the newest 0 hours old with 200 works, damaged")
    assert found["library"] == (False, "198 works, and 1 whose entries cannot be read")


# -- lost -------------------------------------------------------------------------------------------------------------


def test_a_library_that_lost_its_database_is_known_to_be_lost_and_comes_back(library: Paths, tmp_path: Path) -> None:
    before = content(library.database)
    assert not lost(library)
    library.database.unlink()
    assert lost(library)
    assert restore(library).from_backup and content(library.database) == before and not lost(library)
    library.database.unlink()
    shutil.rmtree(library.backups)
    assert lost(library)
    assert restore(library).from_sidecars == 200
    assert titles(library.database) == ids(range(200)), "sidecars know of no bin"
    new = Paths(tmp_path / "new")
    new.make()
    assert not lost(new), "a new studio has lost nothing"


def test_a_sound_library_is_left_alone_by_restore(library: Paths) -> None:
    before = state(library.home)
    assert "sound" in restore(library).sentence
    assert state(library.home) == before and not library.damaged.exists()


def test_new_jobs_do_not_take_numbers_of_jobs_that_are_only_known_from_works(library: Paths) -> None:
    library.database.unlink()
    shutil.rmtree(library.backups)
    restore(library)
    database = Database(library.database)
    job = Jobs(database).add(work(1).recipe, owner="me")  # type: ignore[arg-type]
    assert job.seq > 199
    database.close()


# -- the log ----------------------------------------------------------------------------------------------------------


def test_what_is_only_in_the_log_of_a_killed_studio_is_not_lost_and_is_in_the_backup(
    killed: Paths, tmp_path: Path
) -> None:
    paths = copy_of(killed.home, tmp_path / "copy")
    alone = Paths(tmp_path / "alone")
    alone.make()
    shutil.copy(paths.database, alone.database)
    assert work(44).id not in titles(alone.database), "it is in the log only"
    database = Database(paths.database)
    made = back_up(database, paths.backups)
    assert made is not None and verify(made)
    database.close()
    assert titles(paths.database) == ids(range(45), 3)
    (copied,) = backups(paths.backups)
    assert (copied.works, copied.version) == (45, len(MIGRATIONS))


def test_a_damaged_file_keeps_its_log_and_what_is_in_it_comes_back(killed: Paths, tmp_path: Path) -> None:
    paths = copy_of(killed.home, tmp_path / "copy")
    log = (paths.home / "studio.db-wal").read_bytes()
    for sidecar in paths.works.rglob("tale-44.txt.json"):
        sidecar.unlink()  # so that the log alone knows of it
    paths.database.write_bytes(b"")
    with pytest.raises(LibraryBroken):
        Database(paths.database)
    assert (paths.home / "studio.db-wal").read_bytes() == log, "SQLite would have deleted it"
    done = restore(paths)
    assert (paths.home / done.damaged / "studio.db-wal").read_bytes() == log
    assert not (paths.home / "studio.db-wal").exists()
    assert titles(paths.database) >= ids(range(45)), "the one without a sidecar, too"


def test_a_log_without_its_file_is_not_taken_for_a_new_library(killed: Paths, tmp_path: Path) -> None:
    paths = Paths(tmp_path / "rest")
    paths.make()
    shutil.copy(killed.home / "studio.db-wal", paths.home / "studio.db-wal")
    assert lost(paths)
    done = restore(paths)
    assert (paths.home / done.damaged / "studio.db-wal").exists() and paths.database.exists()


def test_the_log_of_another_library_is_noticed_and_no_row_of_it_gets_in(
    killed: Paths, library: Paths, whole: Paths
) -> None:
    """SQLite itself would apply it, and the next checkpoint would make that final."""
    before = content(whole.database)
    # a log that holds every page of its library: sound in itself, and it hides ours wholly
    other = Paths(library.home.parent / "other")
    other.make()
    open_one = fill(other, 16)
    for source in (killed.home, other.home):
        shutil.copy(source / "studio.db-wal", library.home / "studio.db-wal")
        as_it_was = state(library.home)
        with pytest.raises(LibraryBroken, match="not its own"):
            Database(library.database)
        assert look(library.database)
        assert state(library.home) == as_it_was, "neither the file nor the log is touched"
        done = restore(library)
        assert (library.home / done.damaged / "studio.db-wal").read_bytes() == as_it_was["studio.db-wal"][1]
        assert content(library.database) == before
    open_one.close()


def test_an_older_file_under_a_newer_log_of_the_same_library_is_noticed_or_whole(
    library: Paths, tmp_path: Path
) -> None:
    """Somebody copied studio.db back and left the log where it was."""
    older = library.database.read_bytes()
    database = Database(library.database)
    add_works(library, database, range(200, 260))
    database.rows("pragma wal_checkpoint(truncate)")
    with database.transaction() as db:
        db.execute("delete from works where id = ?", (work(20).id,))
        db.execute("update jobs set why = 'x' where seq < 5")
    mixed = copy_of(library.home, tmp_path / "mixed", index=False)
    database.close()
    mixed.database.write_bytes(older)
    as_it_was = state(mixed.home)
    with pytest.raises(LibraryBroken):
        Database(mixed.database)
    assert state(mixed.home) == as_it_was
    restore(mixed)
    assert titles(mixed.database) >= ids(range(260), 3, 20)


def test_a_cut_or_damaged_log_costs_only_what_was_in_it(killed: Paths, tmp_path: Path) -> None:
    log = (killed.home / "studio.db-wal").read_bytes()
    for number, broken in enumerate((log[:1000], log[:-3000], os.urandom(len(log)), b"\0" * 32)):
        paths = copy_of(killed.home, tmp_path / str(number), index=False)
        (paths.home / "studio.db-wal").write_bytes(broken)
        assert titles(paths.database) >= ids(range(40), 3)


def test_a_lost_or_foreign_index_file_is_made_anew(killed: Paths, tmp_path: Path) -> None:
    for number, index in enumerate((None, b"", os.urandom(32768))):
        paths = copy_of(killed.home, tmp_path / str(number), index=False)
        if index is not None:
            (paths.home / "studio.db-shm").write_bytes(index)
        assert titles(paths.database) == ids(range(45), 3)


# -- of another age ---------------------------------------------------------------------------------------------------


def test_a_newer_library_is_shown_and_not_written(library: Paths) -> None:
    db = apsw.Connection(str(library.database))
    db.execute("alter table works add column later text not null default ''; create table more (x)")
    db.pragma("user_version", len(MIGRATIONS) + 5)
    db.close()
    before = state(library.home)["studio.db"]
    database = Database(library.database)
    assert "newer studio" in database.read_only and f"version {len(MIGRATIONS) + 5}" in database.read_only
    assert len(Works(database).recent(limit=1000)) == 199
    with pytest.raises(ReadOnly) as raised, database.transaction():
        pass
    assert raised.value.problem.sentence == database.read_only and "Update" in raised.value.problem.hint
    with pytest.raises(ReadOnly):
        Works(database).star(work(1).id, True)
    assert back_up(database, library.backups) is None
    assert state(library.home)["studio.db"] == before
    newer = apsw.Connection(str(library.database))
    newer.execute("insert into models values ('/newer', '')")
    assert ("/newer",) in database.rows("select path from models"), "what the newer studio does meanwhile is seen"
    newer.close()
    before = state(library.home)["studio.db"]
    database.close()
    assert state(library.home)["studio.db"] == before


def test_a_newer_library_that_lacks_what_we_read_is_refused(library: Paths) -> None:
    db = apsw.Connection(str(library.database))
    db.execute("alter table works rename column title to name")
    db.pragma("user_version", len(MIGRATIONS) + 5)
    db.close()
    with pytest.raises(LibraryBroken, match="newer studio") as raised:
        Database(library.database)
    assert "works.title" in raised.value.problem.detail


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_migration_keeps_a_copy_that_the_older_studio_can_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    paths = Paths(tmp_path / "home")
    db_library.old(paths.home, version)
    before = old_rows(paths.database)
    Database(paths.database).close()
    (kept,) = backups(paths.backups)
    assert kept.path.name == f"studio-0001-version-{version}.db" and kept.version == version and verify(kept.path)
    assert old_rows(kept.path) == before
    shutil.copy(kept.path, paths.database)
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:version])
    older = Database(paths.database)
    assert not older.read_only and older.rows("select id from works") == [("w1",)]
    older.close()


def old_rows(path: Path) -> list[tuple[object, ...]]:
    db = apsw.Connection(f"{path.as_uri()}?immutable=1", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        return [*db.execute("select * from models"), *db.execute("select * from works"), (db.pragma("user_version"),)]
    finally:
        db.close()


def test_a_migration_that_raises_or_is_killed_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths(tmp_path / "home")
    db_library.old(paths.home, len(MIGRATIONS) - 1)
    before = old_rows(paths.database)

    def failing(db: apsw.Connection) -> None:
        MIGRATIONS[-1](db)
        raise ZeroDivisionError

    for _ in range(2):
        monkeypatch.setattr(database_module, "MIGRATIONS", [*MIGRATIONS[:-1], failing])
        with pytest.raises(ZeroDivisionError):
            Database(paths.database)
        assert old_rows(paths.database) == before
        assert len(backups(paths.backups)) == 1, "the same is not copied twice"
    assert run("killed_in_migration", paths.home) == -signal.SIGKILL
    assert (paths.home / "studio.db-wal").stat().st_size > 100 * PAGE, "it was in the middle"
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:-1])
    older = Database(paths.database)
    assert not older.read_only and older.rows("select id from works") == [("w1",)]
    assert older.rows("select name from sqlite_schema where name in ('groups', 'filler')") == []
    older.close()
    assert old_rows(paths.database) == before
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS)
    assert titles(paths.database) == {"w1"}


def test_an_old_library_with_a_row_that_cannot_be_read_is_told_as_damaged(tmp_path: Path) -> None:
    paths = Paths(tmp_path / "home")
    db_library.old(paths.home, 1)
    db = apsw.Connection(str(paths.database))
    db.execute("update works set recipe = 'x'")
    db.close()
    before = paths.database.read_bytes()
    with pytest.raises(LibraryBroken, match="as it was"):
        Database(paths.database)
    assert paths.database.read_bytes() == before


def test_a_database_of_another_program_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "studio.db"
    db = apsw.Connection(str(path))
    db.execute("create table jobs (id text)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(LibraryBroken):
        Database(path)
    assert path.read_bytes() == before


# -- moved, locked ----------------------------------------------------------------------------------------------------


def test_a_library_that_is_moved_while_open_is_not_made_anew_and_is_written_again_when_it_is_back(
    library: Paths,
) -> None:
    database = Database(library.database)
    with database.transaction() as db:
        db.execute("insert into models values ('/late', '')")
    away = library.home.with_name("away")
    library.home.rename(away)
    with pytest.raises(LibraryMoved, match="was moved"), database.transaction():
        pass
    with pytest.raises(LibraryMoved):
        back_up(database, library.backups)
    assert not library.home.exists(), "nothing is made in its place"
    assert len(Works(database).recent(limit=1000)) == 199, "what is open can be read"
    away.rename(library.home)
    with database.transaction() as db:
        db.execute("insert into models values ('/later', '')")
    library.home.rename(away)
    database.close()
    assert not library.home.exists()
    assert ("/later", "") in content(away / "studio.db")["models"], "the log went along and was not lost"


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_library_that_is_deleted_or_replaced_while_open_is_noticed(library: Paths, whole: Paths, how: str) -> None:
    database = Database(library.database)
    shutil.rmtree(library.home)
    if how == "replaced":
        copy_of(whole.home, library.home)
        other = Database(library.database)
        with other.transaction() as db:
            db.execute("insert into models values ('/other', '')")
        log = (library.home / "studio.db-wal").read_bytes()
    with pytest.raises(LibraryMoved), database.transaction():
        pass
    database.close()
    if how == "deleted":
        assert not library.home.exists()
        return
    assert (library.home / "studio.db-wal").read_bytes() == log, "closing took the log of the other library with it"
    other.close()
    assert ("/other", "") in content(library.database)["models"]


def test_a_database_locked_by_another_program_is_waited_for_and_then_told(
    library: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 300)
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.db_library", "locking", str(library.home)], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None and other.stdout.readline() == "ready\n"
    try:
        database = Database(library.database)
        assert not database.read_only, "to read, nobody waits"
        assert len(Works(database).recent(limit=1000)) == 199
        with pytest.raises(Busy, match="Another program keeps"), database.transaction():
            pass
    finally:
        other.kill()
        other.communicate()
    with database.transaction() as db:
        db.execute("insert into models values ('/x', '')")
    database.close()


# -- where nothing can be written -------------------------------------------------------------------------------------

LOOK = """
from tests.faults.db_library import state, work
from studio.library.database import Database, look
from studio.library.works import Works
from studio.library.backups import back_up, backups
from studio.library.restore import restore
import tempfile

def see(home):
    paths = Paths(Path(home))
    said = {}
    try:
        database = Database(paths.database)
        said["read_only"] = database.read_only
        said["works"] = len(Works(database).recent(limit=1000))
        try:
            with database.transaction() as db:
                db.execute("insert into models values ('/see', '')")
            said["written"] = True
        except StudioError as error:
            said["code"], said["hint"] = error.problem.code, error.problem.hint
        database.close()
    except StudioError as error:
        said["code"], said["sentence"] = error.problem.code, error.problem.sentence
    said["left"] = sorted(p.name for p in Path(tempfile.gettempdir()).glob("studio-*"))
    return said
"""


@pytest.fixture
def own_temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that is seen by nobody else."""
    folder = tmp_path / "temp"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.parametrize("kind", ["closed", "killed", "killed without index", "old"])
def test_a_library_on_a_read_only_disk_is_shown_with_all_its_works(
    killed: Paths, whole: Paths, tmp_path: Path, own_temp: Path, kind: str
) -> None:
    home = tmp_path / "home"
    if kind == "old":
        db_library.old(home)
    else:
        copy_of((whole if kind == "closed" else killed).home, home, index=kind == "killed")
    before = small_disks()()
    program = LOOK + (
        "import subprocess\n"
        "home = sys.argv[1]\n"
        "subprocess.run(['mount', '--bind', home, home], check=True)\n"
        "subprocess.run(['mount', '-o', 'remount,bind,ro', home], check=True)\n"
        "os.chdir('/')\n"
        "if sys.argv[2] == 'closed': tempfile.tempdir = '/nowhere'  # without a log no copy is needed\n"
        "before = state(Path(home)); said = see(home)\n"
        "tell({**said, 'same': before == state(Path(home))})\n"
    )
    said = told_by(program, home, kind, before=before)
    assert "open for reading only" in said["read_only"] and "may not be written" in said["read_only"]
    assert said["works"] == {"closed": 199, "killed": 44, "killed without index": 44, "old": 1}[kind]
    assert said["code"] == "read_only" and said["hint"] and said["same"] and said["left"] == []


@pytest.mark.parametrize("kind", ["closed", "killed", "only the index is another's"])
def test_a_library_of_another_user_is_shown(killed: Paths, whole: Paths, kind: str) -> None:
    before = without_rights()
    with public_folder() as folder:
        temp = folder / "temp"
        temp.mkdir()
        temp.chmod(0o777)
        index = kind.startswith("only")
        home = copy_of((whole if kind == "closed" else killed).home, folder / "home", index=index).home
        for name in ("studio.db", "studio.db-wal", "studio.db-shm"):
            if (home / name).exists():
                (home / name).chmod(0o666 if index and name != "studio.db-shm" else 0o444)
        home.chmod(0o555)
        program = "import tempfile\ntempfile.tempdir = sys.argv[2]\n" + LOOK + "tell(see(sys.argv[1]))"
        said = told_by(program, home, temp, before=before)
        home.chmod(0o755)
    assert "may not be written" in said["read_only"] and said["code"] == "read_only"
    assert said["works"] == (199 if kind == "closed" else 44) and said["left"] == []


@pytest.mark.parametrize("room_elsewhere", [True, False])
@pytest.mark.parametrize("kind", ["closed", "killed", "old"])
def test_a_library_on_a_full_disk_is_shown_and_can_be_written_once_there_is_room(
    killed: Paths, tmp_path: Path, own_temp: Path, kind: str, room_elsewhere: bool
) -> None:
    home = tmp_path / "home"
    if kind == "old":
        db_library.old(home)
    else:
        copy_of(killed.home, home, index=False)
    if kind == "closed":
        titles(home / "studio.db")
    disk = tmp_path / "disk"
    disk.mkdir()
    before = small_disks(disk="3m")(disk=disk)
    program = LOOK + (
        "import shutil\n"
        "home, disk, elsewhere = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == 'True'\n"
        "on_disk = disk / 'home'; on_disk.mkdir()\n"
        "for file in home.glob('studio.db*'): shutil.copy(file, on_disk)\n"
        "if not elsewhere: tempfile.tempdir = str(disk)\n"
        "fill_up(disk / 'filler')\n"
        "files = state(on_disk); full = see(on_disk); same = files == {k: v for k, v in state(on_disk).items() "
        "if v[1]}\n"
        "(disk / 'filler').unlink()\n"
        "tell({'full': full, 'same': same, 'later': see(on_disk)})\n"
    )
    said = told_by(program, home, disk, room_elsewhere, before=before)
    full = said["full"]
    works = {"closed": 44, "killed": 44, "old": 1}[kind]
    assert said["same"] and full["left"] == []
    if kind == "old" and not room_elsewhere:
        assert full["code"] == "not_saved" and "full" in full["sentence"], "it cannot be brought up to date anywhere"
    else:
        assert "the disk is full" in full["read_only"] and "Make room" in full["hint"]
        assert full["works"] == works and full["code"] == "read_only"
    assert said["later"]["written"] and said["later"]["works"] == works and not said["later"]["read_only"]


def test_backup_and_restore_on_a_full_disk_change_nothing_and_work_once_there_is_room(
    library: Paths, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    before = small_disks(disk="48m")(disk=disk)
    program = LOOK + (
        "import shutil\n"
        "home = Path(sys.argv[2]) / 'home'; shutil.copytree(sys.argv[1], home); paths = Paths(home)\n"
        "filler = home.parent / 'filler'\n"
        "database = Database(paths.database)\n"
        "with database.transaction() as db: db.execute(\"insert into models values ('/x', '')\")\n"
        "said = {}\n"
        "def attempt(name, what):\n"
        "    for when in ('full', 'free'):\n"
        "        if when == 'full': fill_up(filler)\n"
        "        try: said[name, when] = str(what())\n"
        "        except StudioError as error: said[name, when] = error.problem.code + ': ' + error.problem.sentence\n"
        "        said[name, when, 'files'] = sorted(str(p.relative_to(home)) for p in home.rglob('*') "
        "if p.is_file() and 'works' not in p.parts)\n"
        "        filler.unlink(missing_ok=True)\n"
        "def write():\n"
        "    with database.transaction() as db:\n"
        "        db.execute(\"insert into models select hex(randomblob(1000000)), ''\")\n"
        "attempt('write', write)\n"
        "attempt('backup', lambda: back_up(database, paths.backups).name)\n"
        "database.close()\n"
        "data = bytearray(paths.database.read_bytes()); data[0] ^= 255; paths.database.write_bytes(data)\n"
        "attempt('restore', lambda: restore(paths).from_backup)\n"
        "said['seen'] = see(home)\n"
        "said['bad'] = (home / 'damaged/0001/studio.db').read_bytes() == bytes(data)\n"
        "tell({str(k): v for k, v in said.items()})\n"
    )
    said = told_by(program, library.home, disk, before=before)
    assert said["('write', 'full')"].startswith("not_saved") and "full" in said["('write', 'full')"]
    assert said["('write', 'free')"] == "None"
    assert said["('backup', 'full')"].startswith("not_saved: No backup") and "full" in said["('backup', 'full')"]
    assert [f for f in said["('backup', 'full', 'files')"] if f.startswith("backups/")] == [
        "backups/studio-0001.db", "backups/studio-0001.json",
    ]  # fmt: skip
    assert said["('backup', 'free')"] == "studio-0002.db"
    assert said["('restore', 'full')"].startswith("not_saved: The library")
    assert not [f for f in said["('restore', 'full', 'files')"] if "restor" in f or "damaged" in f]
    assert said["('restore', 'free')"] == "studio-0002.db" and said["bad"]
    assert said["seen"]["works"] == 199


def test_a_new_library_that_finds_no_room_leaves_no_half_of_a_database(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    program = LOOK + (
        "home = Path(sys.argv[1])\nfill_up(home / 'filler')\nsaid = see(home)\n"
        "tell({**said, 'files': sorted(p.name for p in home.iterdir())})\n"
    )
    said = told_by(program, disk, before=small_disks(disk="256k")(disk=disk))
    assert said["code"] == "not_saved" and "full" in said["sentence"] and said["files"] == ["filler"]


# -- cut off ----------------------------------------------------------------------------------------------------------

CALLS = ("fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "unlink", "mkdir", "pwrite64")
_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


def killed_at_every_call(what: str, make: Callable[[str], Path], log: Path, every: int) -> list[Path]:
    """Run a program of db_library on copies of a library, killed on its way into every call between BEGIN and ACK.

    Args:
        make: a copy of the library by its name. every: of the many writes only each nth.

    Returns:
        The homes that it was killed in.
    """
    need_tracing()
    trace = ["strace", "-f", "-o", str(log), "-e", f"trace=write,{','.join('?' + call for call in CALLS)}"]
    assert run(what, make("counted"), *trace) == 0
    counted: dict[str, int] = {}
    points: list[tuple[str, int]] = []
    inside = False
    for line in log.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        name, arguments = found[2], found[3]
        if name == "write":
            inside = (inside or "BEGIN" in arguments) and "ACK" not in arguments
            continue
        counted[name] = counted.get(name, 0) + 1
        if inside:
            points.append((name, counted[name]))
    chosen = [(name, at) for n, (name, at) in enumerate(points) if name != "pwrite64" or n % every == 0]
    assert len({name for name, _ in chosen}) >= 3, chosen

    def kill(point: tuple[str, int]) -> Path:
        name, at = point
        home = make(f"{name}-{at}")
        inject = f"inject={name}:signal=KILL:when={at}"
        before = ["strace", "-f", "-o", os.devnull, "-e", f"trace={name}", "-e", inject]
        assert run(what, home, *before) == -signal.SIGKILL, point
        return home

    with ThreadPoolExecutor(os.cpu_count() or 2) as crowd:
        return list(crowd.map(kill, chosen))


def test_a_restore_cut_off_at_any_call_is_completed_by_the_next_and_nothing_is_lost(
    whole: Paths, killed: Paths, tmp_path: Path
) -> None:
    start = copy_of(killed.home, tmp_path / "start")
    database = Database(start.database)
    back_up(database, start.backups)
    late = Jobs(database).add(work(1).recipe, owner="me")  # type: ignore[arg-type]
    start = copy_of(start.home, tmp_path / "late", index=False)  # the job is in the log only
    database.close()
    damaged = bytearray(start.database.read_bytes())
    damaged[9 * PAGE] ^= 0xFF
    start.database.write_bytes(damaged)
    log = (start.home / "studio.db-wal").read_bytes()
    assert look(start.database)
    homes = killed_at_every_call(
        "restoring", lambda name: copy_of(start.home, tmp_path / "homes" / name).home, tmp_path / "log", 80
    )
    assert len(homes) > 10
    for home in homes:
        paths = Paths(home)
        if not paths.database.exists():
            assert lost(paths), home.name
        restore(paths)
        assert titles(paths.database) == ids(range(45), 3), home.name
        assert late.id in {job[1] for job in content(paths.database)["jobs"]}, home.name
        (bad,) = paths.damaged.iterdir()
        assert (bad / "studio.db").read_bytes() == bytes(damaged), home.name
        assert (bad / "studio.db-wal").read_bytes() == log, home.name


def test_a_backup_cut_off_at_any_call_leaves_the_older_ones_and_the_next_is_whole(whole: Paths, tmp_path: Path) -> None:
    start = copy_of(whole.home, tmp_path / "start")
    shutil.rmtree(start.works)
    start.works.mkdir()
    database = Database(start.database)
    for n in range(2):
        Jobs(database).add(work(n).recipe, owner="me")  # type: ignore[arg-type]
        assert n or back_up(database, start.backups)
    database.close()
    assert len(backups(start.backups)) == 2
    homes = killed_at_every_call(
        "backing_up", lambda name: copy_of(start.home, tmp_path / "homes" / name).home, tmp_path / "log", 80
    )
    assert len(homes) > 5
    for home in homes:
        paths = Paths(home)
        there = backups(paths.backups)
        assert len(there) >= 2 and all(verify(each.path) for each in there), home.name
        for leftover in paths.backups.iterdir():
            os.utime(leftover, (1, 1))  # as if it were long ago
        database = Database(paths.database)
        Jobs(database).add(work(9).recipe, owner="me")  # type: ignore[arg-type]
        made = back_up(database, paths.backups, keep=2)
        assert made is not None and verify(made) and len(backups(paths.backups)) == 2, home.name
        assert {p.suffix for p in paths.backups.iterdir()} == {".db", ".json"} and len(
            list(paths.backups.iterdir())
        ) == 4, home.name
        database.close()
