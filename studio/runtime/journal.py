"""Who writes down what happens in the pool."""

from __future__ import annotations

from typing import Protocol

from studio.core.events import Event
from studio.core.problems import Problem
from studio.core.works import Result
from studio.runtime import messages as m


class Journal(Protocol):
    """Called on the pool's threads; `hand_over` and `died` with the pool's lock held."""

    def hand_over(self, job: str, busy: frozenset[str]) -> m.Run:
        """The job is about to run: write that down, and say how.

        Args:
            busy: lanes at work at this moment.

        Raises:
            NotSaved: that cannot be written down now; the job waits, and so do all others.
            StudioError: the job cannot run; it will be told as failed.
        """

    def died(self, job: str, problem: Problem) -> bool:
        """A worker went away under its job. Returns whether the job is to run once more; else `failed` is called."""

    def happened(self, event: Event) -> None: ...

    def done(self, job: str, result: Result) -> None: ...

    def failed(self, job: str, problem: Problem) -> None: ...

    def cancelled(self, job: str, result: Result | None) -> None: ...

    def lane_changed(self, lane: str) -> None:
        """A lane's worker loaded a model ahead of any job, failed to, gave one back, or died without a job."""

    def stalled(self, problem: Problem) -> None:
        """Nothing can be started until `Pool.go_on()`: what starts could not be written down."""
