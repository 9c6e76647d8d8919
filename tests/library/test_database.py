from __future__ import annotations

import threading

import apsw
import pytest

from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.problems import LibraryBroken, Problem
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
    with pytest.raises(LibraryBroken, match="locked"), database.transaction():
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
