"""Works as files: from a job's staging folder into the library, in an order that survives a kill at any moment.

    1. the worker leaves complete, flushed files in staging/<job>/
    2. commit.json in that folder says what they are and where they go; from here on the works will exist
    3. files are renamed into works/, a sidecar JSON is written beside each
    4. one transaction adds the works and ends the job
    5. the staging folder goes

After a crash `pending()` finds folders that reached step 2, and `settle()` repeats 3; it may be repeated at will.
Knows folders and file names; knows nothing of engines or of the database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from studio import __version__
from studio.core.files import durable, sync_folder, write_durably
from studio.core.jobs import Job, JobState
from studio.core.paths import Paths
from studio.core.problems import Problem
from studio.core.recipes import COUNT_FIELD, Recipe, words_of, work_kind
from studio.core.text import file_stem, shown
from studio.core.trail import left_behind
from studio.core.works import Artifact, Asset, Result, Work
from studio.library.jobs import new_id, now

COMMIT = "commit.json"
SIDECAR_FORMAT = "studio-work"
SIDECAR_VERSION = 1
PROBE = 256 * 1024  # bytes
WORKS_PER_JOB = 1000  # a work's seq is its job's seq times this plus its index


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON beside each work: all the database knows of it, so that the library can be rebuilt without."""

    format: str = SIDECAR_FORMAT
    version: int = SIDECAR_VERSION
    studio: str = __version__
    work: Work


class Move(msgspec.Struct, frozen=True):
    """`source` in the staging folder goes to `target`, relative to the works folder."""

    source: str
    target: str


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """What an ended job leaves: its works, where their files go, and how it ended.

    `state` is empty in what an earlier studio wrote; then `complete` tells finished from cancelled.
    """

    job: str
    works: tuple[Work, ...]
    moves: tuple[Move, ...]
    complete: bool = True
    state: str = ""
    problem: Problem | None = None

    @property
    def end(self) -> JobState:
        if self.state:
            return JobState(self.state)
        return JobState.FINISHED if self.complete else JobState.CANCELLED


_commits: msgspec.json.Decoder[Commit] = msgspec.json.Decoder(Commit)
_sidecars: msgspec.json.Decoder[Sidecar] = msgspec.json.Decoder(Sidecar)


class Files:
    """The staging and works folders of one studio."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def staging(self, job: str) -> Path:
        """The staging folder of a job, made if need be. Raises OSError."""
        folder = self._paths.staging / job
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def fresh_staging(self, job: str) -> Path:
        """An empty one: what an earlier attempt left is of no use to the next. Raises OSError."""
        self.clear(job)
        return self.staging(job)

    def left_behind(self, job: Job) -> Result | None:
        """What a job that was cut off had made by then. Raises OSError."""
        return left_behind(self._paths.staging / job.id, getattr(job.recipe, "seed", None))

    def plan(self, job: Job, result: Result, state: JobState, problem: Problem | None = None) -> Commit:
        """Decide what the works of an ended job are called and where they go.

        Args:
            state, problem: how the job ends. Works it had finished before a cancel or a failure are complete.
        """
        created = now()
        works: list[Work] = []
        moves: list[Move] = []
        for master in sorted((a for a in result.artifacts if a.role == "master"), key=lambda a: a.index):
            work_id = new_id("w")
            title = shown(words_of(job.recipe), 80) or job.kind
            stem = f"{created[:4]}/{created[5:7]}/{file_stem(words_of(job.recipe))}-{work_id}"
            mine = [master, *(a for a in result.artifacts if a.role == "thumbnail" and a.index == master.index)]
            assets = []
            for artifact in mine:
                target = stem + _ending(artifact)
                moves.append(Move(artifact.name, target))
                assets.append(
                    Asset(path=target, role=artifact.role, sha256=artifact.sha256, bytes=artifact.bytes)
                )  # fmt: skip
            works.append(
                Work(
                    id=work_id,
                    seq=job.seq * WORKS_PER_JOB + master.index,
                    job=job.id,
                    index=master.index,
                    kind=work_kind(job.kind),
                    title=title,
                    created=created,
                    recipe=_recipe_of_one(job.recipe, master, result),
                    assets=tuple(assets),
                    meta=master.meta,
                    notes=(*job.notes, *result.notes),
                    seconds=master.seconds,
                    complete=master.complete,
                )
            )
        return Commit(job=job.id, works=tuple(works), moves=tuple(moves), state=str(state), problem=problem)

    def promise(self, commit: Commit) -> None:
        """Step 2: once this returns, the works survive whatever happens. Raises OSError."""
        write_durably(self.staging(commit.job) / COMMIT, msgspec.json.encode(commit))

    def settle(self, commit: Commit) -> None:
        """Step 3. Finds what is done already and does the rest. Raises OSError."""
        staging = self._paths.staging / commit.job
        folders = set()
        for move in commit.moves:
            source, target = staging / move.source, self.path(move.target)
            folders.add(target.parent)
            if source.exists():
                _make_folders(target.parent, self._paths.works)
                _move(source, target)
            elif not target.exists():
                raise FileNotFoundError(errno.ENOENT, "the file of a finished work is gone", str(source))
        for work in commit.works:
            self.write_sidecar(work)
        for folder in folders:
            sync_folder(folder)

    def write_sidecar(self, work: Work) -> None:
        """Write a work's sidecar durably. Raises OSError."""
        plain = msgspec.to_builtins(Sidecar(work=work))
        del plain["work"]["starred"]  # the owner's mark, not a fact about the work: the database alone keeps it
        write_durably(self.sidecar_path(work), msgspec.json.format(msgspec.json.encode(plain), indent=1))

    def clear(self, job: str) -> None:
        """Step 5: a job's staging folder goes, with whatever is left in it."""
        shutil.rmtree(self._paths.staging / job, ignore_errors=True)

    def pending(self, job: str) -> Commit | None:
        """The commit of a job that was cut off after step 2, or None. A damaged one counts as none."""
        try:
            commit = _commits.decode((self._paths.staging / job / COMMIT).read_bytes())
            return commit if commit.job == job and (not commit.state or commit.state in list(JobState)) else None
        except (OSError, msgspec.DecodeError):
            return None

    def probe(self) -> None:
        """See whether the disk takes a file of some size. Raises OSError."""
        path = self._paths.staging / "probe"
        try:
            write_durably(path, bytes(PROBE))
        finally:
            path.unlink(missing_ok=True)

    def staged(self) -> list[str]:
        """Jobs that have a staging folder."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(p.name for p in self._paths.staging.iterdir() if p.is_dir())
        return []

    def path(self, relative: str) -> Path:
        """The absolute path of an asset.

        Raises:
            ValueError: the path leaves the works folder.
        """
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or "\\" in relative or ":" in relative:
            raise ValueError(f"{relative!r} is outside the library")
        return self._paths.works.joinpath(*pure.parts)

    def sidecar_path(self, work: Work) -> Path:
        master = self.path(work.master.path)
        return master.with_name(master.name + ".json")

    def delete(self, work: Work) -> None:
        """Delete a work's files for good; its sidecar first, so that a rebuild does not bring half a work back.

        Raises:
            OSError: a file could not be deleted.
        """
        for path in (self.sidecar_path(work), *(self.path(asset.path) for asset in work.assets)):
            path.unlink(missing_ok=True)

    def sidecars(self) -> Iterator[Work]:
        """Every work whose sidecar can be read, in order of making: what a database is rebuilt from."""
        found = []
        for path in self._paths.works.rglob("*.json"):
            with contextlib.suppress(OSError, msgspec.DecodeError):
                sidecar = _sidecars.decode(path.read_bytes())
                if sidecar.format == SIDECAR_FORMAT and sidecar.version <= SIDECAR_VERSION:
                    found.append(sidecar.work)
        yield from sorted(found, key=lambda w: (w.created, w.seq))


def _ending(artifact: Artifact) -> str:
    """`.png`, `.wav`, `.txt`; `.thumb.webp` for thumbnails: all of the name after its index."""
    _, dot, ending = artifact.name.partition(".")
    return dot + ending


def _recipe_of_one(recipe: Recipe, master: Artifact, result: Result) -> Recipe:
    """The recipe that makes this one work again: its own seed, one of it, and the circumstances."""
    changes: dict[str, object] = {"made_with": result.made_with}
    if master.seed is not None and hasattr(recipe, "seed"):
        changes["seed"] = master.seed
    for name in COUNT_FIELD.values():
        if hasattr(recipe, name):
            changes[name] = 1
    return msgspec.structs.replace(recipe, **changes)


def _make_folders(folder: Path, root: Path) -> None:
    """Create a folder below `root`, flushing every new entry on the way."""
    missing = []
    while folder != root and not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        sync_folder(new.parent)


def _move(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # the works folder is on another disk: copy, flush, then remove
            raise
        with open(source, "rb") as old, durable(target) as new:
            shutil.copyfileobj(old, new, 1 << 20)
        source.unlink()
