"""Jobs and the states they go through."""

from __future__ import annotations

import enum

import msgspec

from studio.core.problems import Problem
from studio.core.recipes import Recipe, kind_of


class JobState(enum.StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self in ENDED


ENDED = frozenset({JobState.FINISHED, JobState.FAILED, JobState.CANCELLED})

# Every other step is a programming error: an ended job stays as it is.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.FINISHED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}),
    JobState.FINISHED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what became of it.

    Attributes:
        id: unique; what cancel names. seq: order of submission.
        priority: higher runs first; within one priority, lower `position` first.
        attempts: how often it was handed to a worker.
        owner: the process that submitted it, as "pid:start time"; another process leaves it alone while that lives.
        redo_of: the work it makes again, or empty.
        problem: why it failed; the code "interrupted" marks a job whose studio went away under it, "set_aside" one
            whose worker went away twice.
        why: what cut its last attempt off, where it was begun again by itself.
        works: ids of the works it made.
    """

    id: str
    seq: int
    recipe: Recipe
    state: JobState = JobState.QUEUED
    priority: int = 0
    position: float = 0.0
    attempts: int = 0
    owner: str = ""
    redo_of: str = ""
    created: str = ""
    started: str = ""
    ended: str = ""
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    why: str = ""
    works: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return kind_of(self.recipe)
