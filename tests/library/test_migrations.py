"""A library that an older studio wrote is taken over as it is."""

from __future__ import annotations

import shutil
from typing import Any

import apsw
import pytest

from studio.core.conversations import Conversation
from studio.core.paths import Paths
from studio.core.problems import LibraryBroken, ReadOnly
from studio.core.recipes import SpeechRecipe, TextRecipe
from studio.library import database as database_module
from studio.library.conversations import Conversations
from studio.library.database import MIGRATIONS, Database
from studio.library.jobs import Jobs, to_json
from studio.library.works import Works

RECIPES = (TextRecipe(prompt="Ein Märchen über FÜCHSE", seed=1), SpeechRecipe(text="Guten Abend", seed=2))


def old_library(paths: Paths, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """A library as the studio of that version left it, with two works."""
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS[:version])
    Database(paths.database).close()
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS)
    db = apsw.Connection(str(paths.database))
    assert db.pragma("user_version") == version
    for i, (kind, recipe) in enumerate(zip(("text", "speech"), RECIPES, strict=True)):
        values: tuple[Any, ...] = (
            f"w{i}", i, "j", i, kind, f"Title {i}", "2025", to_json(recipe),
            f'[{{"path":"a/{i}","role":"master","sha256":"{i}","bytes":{i + 10}}}]', "{}", "[]", 1.0, 1,
        )  # fmt: skip
        db.execute(
            "insert into works (id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, "
            f"complete) values ({','.join('?' * 13)})",
            values,
        )
    db.close()


def test_works_of_the_first_version_are_all_there_and_are_searched_like_new_ones(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_library(paths, monkeypatch, 1)
    database = Database(paths.database)
    works = Works(database)
    assert [(w.id, w.recipe, w.starred) for w in works.recent()] == [
        ("w1", RECIPES[1], False),
        ("w0", RECIPES[0], False),
    ]
    assert [w.id for w in works.recent(search="märchen füchse")] == ["w0"]
    assert [w.id for w in works.recent(search="ABEND title")] == ["w1"]
    works.star("w1", True)
    assert [w.id for w in works.recent(starred=True)] == ["w1"]
    conversations = Conversations(database)
    conversations.keep(Conversation(id="c1", title="T", created="", changed=""))
    assert [c.id for c in conversations.recent()] == ["c1"]
    assert Jobs(database).recent() == []
    assert database.rows("pragma user_version") == [(len(MIGRATIONS),)]
    database.close()
    again = Database(paths.database)
    assert [w.id for w in Works(again).recent(starred=True)] == ["w1"]


def test_a_migration_that_fails_leaves_the_old_library_as_it_was(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    old_library(paths, monkeypatch, 1)

    def failing(db: apsw.Connection) -> None:
        MIGRATIONS[1](db)
        raise ZeroDivisionError

    monkeypatch.setattr(database_module, "MIGRATIONS", [MIGRATIONS[0], failing])
    with pytest.raises(ZeroDivisionError):
        Database(paths.database)
    monkeypatch.setattr(database_module, "MIGRATIONS", MIGRATIONS)
    assert [w.id for w in Works(Database(paths.database)).recent(search="title")] == ["w1", "w0"]


def test_the_newest_version_knows_pauses_and_why_a_job_was_begun_again_and_which_library_it_is(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_library(paths, monkeypatch, 3)
    db = apsw.Connection(str(paths.database))
    db.execute(
        "insert into jobs (id, kind, state, created, recipe) values ('j1', 'text', 'running', '', ?)",
        (to_json(RECIPES[0]),),
    )
    db.close()
    database = Database(paths.database)
    jobs = Jobs(database)
    assert jobs.get("j1").why == "" and jobs.paused() == frozenset()
    jobs.requeue("j1", "The worker went away.")
    jobs.pause("image", True)
    assert jobs.get("j1").why == "The worker went away." and jobs.paused() == {"image"}
    (first,) = database.rows("pragma application_id")
    database.close()
    other = Database(paths.home / "other.db")
    assert first != (0,) and other.rows("pragma application_id") not in ([first], [(0,)])
    other.close()


def test_a_studio_killed_right_after_a_migration_finds_its_log_its_own(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_library(paths, monkeypatch, 3)
    database = Database(paths.database)
    killed = Paths(paths.home / "killed")
    killed.make()
    for name in ("studio.db", "studio.db-wal"):
        shutil.copy(paths.home / name, killed.home / name)
    database.close()
    again = Database(killed.database)  # the file by itself does not know yet which library it is
    assert [w.id for w in Works(again).recent()] == ["w1", "w0"] and not again.read_only
    again.close()


def test_a_version_that_cannot_be_is_not_counted_from_the_end(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    old_library(paths, monkeypatch, len(MIGRATIONS) - 1)
    db = apsw.Connection(str(paths.database))
    db.pragma("user_version", -1)
    db.close()
    before = paths.database.read_bytes()
    with pytest.raises(LibraryBroken, match="damaged"):
        Database(paths.database)
    assert paths.database.read_bytes() == before


def test_without_a_copy_of_the_old_library_it_is_shown_and_not_changed(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_library(paths, monkeypatch, 2)
    before = paths.database.read_bytes()
    paths.backups.write_text("in the way")
    database = Database(paths.database)
    assert "no copy of it" in database.read_only
    assert [w.id for w in Works(database).recent()] == ["w1", "w0"] and Jobs(database).paused() == frozenset()
    with pytest.raises(ReadOnly) as raised:
        Works(database).star("w1", True)
    assert "No backup" in raised.value.problem.hint
    database.close()
    assert paths.database.read_bytes() == before
    paths.backups.unlink()
    database = Database(paths.database)
    Works(database).star("w1", True)
    database.close()


def test_a_file_is_found_by_size_and_content_and_only_hashed_if_need_be(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old_library(paths, monkeypatch, 1)
    works = Works(Database(paths.database))
    asked = []

    def sha256() -> str:
        asked.append(1)
        return "1"

    assert works.with_asset(9, sha256) is None and asked == []
    assert works.with_asset(10, sha256) is None and asked == [1]
    found = works.with_asset(11, sha256)
    assert found is not None and found.id == "w1"


def test_a_new_job_waits_behind_one_that_was_moved_far_back(paths: Paths) -> None:
    jobs = Jobs(Database(paths.database))
    first = jobs.add(RECIPES[0], owner="me")
    jobs.place(first.id, position=100.0)
    second = jobs.add(RECIPES[0], owner="me")
    assert second.position > jobs.get(first.id).position
    jobs.start(second.id)
    jobs.start(first.id)
    third = jobs.add(RECIPES[0], owner="me")
    assert third.position == third.seq, "only what waits counts"
