"""What is made only to be looked at: a live picture while the prompt is typed, a preview of a change, a file's size.

Such a request is no job of the library: it is in no list, nothing of it is kept, and it goes with the studio. It runs
in the same lanes and workers as jobs do.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import msgspec

from studio.core.events import Cancelled, Event, Failed, Shown
from studio.core.jobs import Job, JobState
from studio.core.problems import Problem
from studio.core.recipes import Recipe
from studio.core.works import Result
from studio.library.files import Files
from studio.library.jobs import new_id

Listener = Callable[[Event], None]
PRIORITY = 1_000  # before the queue: somebody waits for it, and it is small


class Asides:
    """The requests of one session. Thread-safe."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._listeners: dict[str, Listener] = {}

    def begin(self, recipe: Recipe, listener: Listener) -> Job:
        """Note a request. `listener` is told of its events, on the pool's threads, the last of them its end."""
        job = Job(id=new_id("a"), seq=0, recipe=recipe, priority=PRIORITY)
        with self._lock:
            self._listeners[job.id] = listener
        return job

    def __contains__(self, job_id: object) -> bool:
        with self._lock:
            return job_id in self._listeners

    def happened(self, event: Event) -> bool:
        """Tell an event to whom it belongs. False where it is not one of these requests."""
        with self._lock:
            listener = self._listeners.get(event.job)
        if listener is not None:
            listener(event)
        return listener is not None

    def end(self, job_id: str, state: JobState, result: Result | None, problem: Problem | None) -> None:
        """A request ended: what it made is told, and its files go."""
        with self._lock:
            listener = self._listeners.pop(job_id, None)
        event: Event = Cancelled(job=job_id)
        if state is JobState.FAILED and problem is not None:
            event = Failed(job=job_id, problem=problem)
        elif state is JobState.FINISHED and result is not None:
            master = next((a for a in result.artifacts if a.role == "master"), None)
            data = b""
            if master is not None:
                with contextlib.suppress(OSError):
                    data = (self._files.staging(job_id) / master.name).read_bytes()
                about = {**master.meta, "bytes": master.bytes}
                event = Shown(job=job_id, data=data, seed=master.seed, meta=about, notes=result.notes)
        self._files.clear(job_id)
        if listener is not None:
            listener(event)

    def listeners(self) -> list[str]:
        with self._lock:
            return list(self._listeners)


def plain(recipe: Recipe) -> Recipe:
    """A recipe for one picture, whatever it says of their number."""
    return msgspec.structs.replace(recipe, count=1, at_once=1) if hasattr(recipe, "count") else recipe
