from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from studio.core.jobs import Job, JobState
from studio.core.paths import Paths
from studio.core.recipes import MadeWith, TextRecipe
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.library.files import Files


def _finished(paths: Paths, prompt: str = "A fox / in the: night") -> tuple[Files, Job, Result]:
    files = Files(paths)
    job = Job(id="j1", seq=1, recipe=TextRecipe(prompt=prompt, seed=4, n=2))
    ctx = RunContext("j1", files.staging("j1"), paths.cache, lambda event: None)
    made = tuple(ctx.save(f"{i}.txt", f"text {i}".encode(), index=i, seed=4 + i) for i in range(2))
    return files, job, Result(artifacts=made, made_with=MadeWith(engine="x"))


def test_works_are_named_after_their_words_and_dated(paths: Paths) -> None:
    files, job, result = _finished(paths)
    commit = files.plan(job, result, JobState.FINISHED)
    first = commit.works[0]
    assert first.title == "A fox / in the: night"
    assert first.master.path.endswith(f"a-fox-in-the-night-{first.id}.txt")
    assert first.master.path.count("/") == 2
    assert [w.recipe.seed for w in commit.works] == [4, 5]  # type: ignore[union-attr]
    assert [w.recipe.n for w in commit.works] == [1, 1]  # type: ignore[union-attr]


def test_settling_twice_changes_nothing(paths: Paths) -> None:
    files, job, result = _finished(paths)
    commit = files.plan(job, result, JobState.FINISHED)
    files.promise(commit)
    assert files.pending("j1") == commit
    files.settle(commit)
    before = {p: p.read_bytes() for p in paths.works.rglob("*") if p.is_file()}
    files.settle(commit)
    assert {p: p.read_bytes() for p in paths.works.rglob("*") if p.is_file()} == before
    assert len(before) == 4
    assert list(files.sidecars()) == list(commit.works)


def test_a_file_that_is_gone_is_not_passed_over(paths: Paths) -> None:
    files, job, result = _finished(paths)
    commit = files.plan(job, result, JobState.FINISHED)
    (paths.staging / "j1" / "1.txt").unlink()
    with pytest.raises(FileNotFoundError):
        files.settle(commit)


def test_a_works_folder_on_another_disk_is_reached_by_copying(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    files, job, result = _finished(paths)
    real = os.replace

    def across(source: str | Path, target: str | Path) -> None:
        if "staging" in str(source) and "works" in str(target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", across)
    commit = files.plan(job, result, JobState.FINISHED)
    files.settle(commit)
    assert files.path(commit.works[1].master.path).read_text() == "text 1"
    assert not (paths.staging / "j1" / "1.txt").exists()


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "c:\\x", "a\\b"])
def test_a_path_that_leaves_the_library_is_refused(paths: Paths, path: str) -> None:
    with pytest.raises(ValueError, match="outside"):
        Files(paths).path(path)


def test_a_damaged_promise_counts_as_none(paths: Paths) -> None:
    files = Files(paths)
    (files.staging("j1") / "commit.json").write_bytes(b'{"job": "j1", "works"')
    assert files.pending("j1") is None


def test_foreign_and_damaged_sidecars_are_passed_over(paths: Paths) -> None:
    files, job, result = _finished(paths)
    commit = files.plan(job, result, JobState.FINISHED)
    files.settle(commit)
    (paths.works / "notes.json").write_text('{"format": "something else"}')
    (paths.works / "broken.json").write_text("{")
    assert list(files.sidecars()) == list(commit.works)
