from __future__ import annotations

import threading

import apsw
import pytest

from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.problems import Busy, LibraryBroken, NotSaved, Problem
from studio.core.recipes import TextRecipe
from studio.library import database as database_module
from studio.library.database import Database
from studio.library.jobs import BadTransition, Jobs, new_id


@pytest.fixture
def jobs(paths: Paths) -> Jobs:
    return Jobs(Database(paths.database))


def test_a_failed_transaction_leaves_nothing(paths: Paths) -> None:
    database = Database(paths.database)

    def fail() -> None:
        with database.transaction() as db:
            db.execute("insert into models values ('x', 'now')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.rows("select * from models") == []


def test_a_nested_transaction_is_part_of_the_outer_one(paths: Paths) -> None:
    database = Database(paths.database)

    def inner() -> None:
        with database.transaction() as db:
            db.execute("insert into models values ('x', 'now')")

    def outer() -> None:
        with database.transaction():
            inner()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        outer()
    assert database.rows("select * from models") == []


def test_an_ended_job_stays_as_it_is(jobs: Jobs) -> None:
    job = jobs.add(TextRecipe(prompt="x", seed=1), owner="me")
    jobs.start(job.id)
    jobs.end(job.id, JobState.FAILED, problem=Problem("a", "b."))
    for state in (JobState.FINISHED, JobState.CANCELLED, JobState.FAILED):
        with pytest.raises(BadTransition):
            jobs.end(job.id, state)
    with pytest.raises(BadTransition):
        jobs.start(job.id)
    assert jobs.get(job.id).problem == Problem("a", "b.")


def test_a_waiting_job_cannot_finish(jobs: Jobs) -> None:
    job = jobs.add(TextRecipe(prompt="x", seed=1), owner="me")
    with pytest.raises(BadTransition):
        jobs.end(job.id, JobState.FINISHED)


def test_a_recipe_comes_back_as_it_went(jobs: Jobs) -> None:
    recipe = TextRecipe(prompt="naïve 🦊 \u202e ‮", seed=1, stop=("a", "\n"), temperature=0.1)
    assert jobs.add(recipe, owner="me").recipe == recipe


def test_a_database_locked_by_another_program_is_a_sentence(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_MILLISECONDS", 50)
    database = Database(paths.database)
    other = apsw.Connection(str(paths.database))
    other.execute("begin immediate")
    with pytest.raises(Busy, match="locked"), database.transaction():
        pass
    other.execute("rollback")
    with database.transaction() as db:
        db.execute("insert into models values ('x', 'now')")


def test_threads_share_one_connection_without_losing_rows(jobs: Jobs) -> None:
    def add() -> None:
        for _ in range(10):
            jobs.add(TextRecipe(prompt="x", seed=1), owner="me")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = jobs.unfinished()
    assert len({job.id for job in found}) == 40
    assert [job.seq for job in found] == sorted(job.seq for job in found)


def test_ids_are_short_plain_and_do_not_meet() -> None:
    ids = {new_id("w") for _ in range(5000)}
    assert len(ids) == 5000
    assert all(i.isalnum() and i.isascii() and len(i) == 13 for i in ids)


def test_a_new_database_is_put_in_place_whole_and_once(paths: Paths) -> None:
    threads = [threading.Thread(target=lambda: Database(paths.database).close()) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [p.name for p in paths.home.glob("studio.db*")] == ["studio.db"]
    Database(paths.database).close()


def test_a_full_disk_is_told_as_such_and_the_transaction_leaves_nothing(paths: Paths) -> None:
    database = Database(paths.database)
    database.rows("pragma max_page_count = 20")

    def too_much() -> None:
        with database.transaction() as db:
            db.execute("insert into models select hex(randomblob(200000)), ''")

    for _ in range(2):
        with pytest.raises(NotSaved, match="the disk is full"):
            too_much()
    assert database.rows("select * from models") == []
    database.rows("pragma max_page_count = 2000")
    too_much()
    assert len(database.rows("select * from models")) == 1
    database.close()


def test_a_text_that_is_none_any_more_is_told_as_damage(jobs: Jobs, paths: Paths) -> None:
    database = Database(paths.database)
    with database.transaction() as db:
        db.execute("insert into models values ('x', cast(x'ff' as text))")
    with pytest.raises(LibraryBroken, match="damaged"):
        database.rows("select * from models")
    database.close()


def test_of_two_studios_that_make_a_new_library_at_once_the_faster_one_counts(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = database_module._migrate
    faster: list[Database] = []

    def slow(db: apsw.Connection) -> None:
        real(db)
        if not faster:
            monkeypatch.setattr(database_module, "_migrate", real)
            faster.append(Database(paths.database))

    monkeypatch.setattr(database_module, "_migrate", slow)
    slower = Database(paths.database)
    for database, name in ((faster[0], "a"), (slower, "b")):
        with database.transaction() as db:
            db.execute("insert into models values (?, '')", (name,))
    assert slower.rows("select path from models order by path") == [("a",), ("b",)]
    slower.close()
    faster[0].close()
    assert [p.name for p in paths.home.glob("studio.db*")] == ["studio.db"]


def test_a_job_that_cannot_be_read_hides_no_other(jobs: Jobs, paths: Paths) -> None:
    good, bad = (jobs.add(TextRecipe(prompt=words, seed=1), owner="me") for words in ("good", "bad"))
    with jobs._database.transaction() as db:
        db.execute('update jobs set recipe = \'{"kind": "smell"\' where id = ?', (bad.id,))
    assert [j.id for j in jobs.recent()] == [good.id] == [j.id for j in jobs.unfinished()]
    assert jobs.find(bad.id) is None and jobs.many([bad.id, good.id]) == [good]
