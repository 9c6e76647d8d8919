"""Works and what they consist of. Knows names, sizes and checksums; knows nothing of databases or folders."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from studio.core.recipes import MadeWith, Recipe


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One file that an engine left in its job's staging folder, complete and flushed to disk.

    Attributes:
        name: file name inside the staging folder.
        role: "master" is the work itself, "thumbnail" a small picture of it.
        index: which of the recipe's n works it belongs to, from 0.
        meta: facts about the content: width, height; seconds, sample_rate; tokens, finish.
        complete: False for the part of a work that was there when its job was cancelled.
    """

    name: str
    sha256: str
    bytes: int
    role: Literal["master", "thumbnail"] = "master"
    index: int = 0
    seed: int | None = None
    seconds: float = 0.0
    meta: dict[str, Any] = {}
    complete: bool = True


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine hands back: files in staging, the circumstances, and remarks for the user."""

    artifacts: tuple[Artifact, ...]
    made_with: MadeWith
    notes: tuple[str, ...] = ()


class Asset(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a work in the library; `path` is relative to the works folder, with forward slashes."""

    path: str
    role: Literal["master", "thumbnail"]
    sha256: str
    bytes: int


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One finished text, picture or sound, and all that is needed to make it again.

    Attributes:
        id: unique for ever, also across a rebuilt database.
        seq: order of creation within a library; the clock is not trusted for order.
        job: the job that made it; index: its place among that job's works.
        recipe: complete, for this one work: n or count is 1 and the seed is its own.
        seconds: how long making it took.
        complete: False for the part that was there when its job was cancelled.
        starred: marked by its owner. Kept in the database only, not in the sidecar: a rebuilt library has no stars.
    """

    id: str
    seq: int
    job: str
    index: int
    kind: str
    title: str
    created: str  # ISO 8601, UTC
    recipe: Recipe
    assets: tuple[Asset, ...]
    meta: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    complete: bool = True
    starred: bool = False
    removed: str = ""

    @property
    def master(self) -> Asset:
        return next(a for a in self.assets if a.role == "master")

    @property
    def thumbnail(self) -> Asset | None:
        return next((a for a in self.assets if a.role == "thumbnail"), None)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a write changed: ids by table. Views decide for themselves what to refresh.

    `lanes` are names of lanes; "*" is all of them.
    """

    jobs: tuple[str, ...] = ()
    works: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()
    conversations: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
