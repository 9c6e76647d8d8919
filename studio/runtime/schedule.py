"""Which waiting job goes to which worker. Pure: everything comes in as values, and nothing is started here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec


class Waiting(msgspec.Struct, frozen=True):
    """A job that waits. Higher priority first, then lower position, then order of submission.

    `weights`: bytes that loading its model takes; `work`: bytes that the job takes beside them. 0 where unknown.
    """

    job: str
    lane: str
    model: str
    priority: int = 0
    position: float = 0.0
    seq: int = 0
    weights: int = 0
    work: int = 0


class WorkerView(msgspec.Struct, frozen=True):
    """A worker as the scheduler sees it. `model` is the id of the model it holds, or empty."""

    id: int
    lane: str
    model: str = ""
    idle: bool = True


class Assignment(msgspec.Struct, frozen=True):
    """Hand `job` to `worker`, or to a new worker of `lane` where `worker` is None."""

    job: str
    lane: str
    worker: int | None


def order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """The queue in the order in which it will run."""
    return sorted(waiting, key=lambda w: (-w.priority, w.position, w.seq))


def assign(
    waiting: Iterable[Waiting],
    workers: Sequence[WorkerView],
    *,
    capacity: int = 1,
    paused: Collection[str] = (),
) -> list[Assignment]:
    """Decide what can start now.

    Args:
        waiting: jobs not yet handed over, in any order.
        workers: every live worker.
        capacity: workers per lane.
        paused: lanes that start nothing; "*" is all of them.

    Returns:
        At most one assignment per job and per worker. Within a lane jobs keep their order; among idle workers the one
        that already holds the job's model is preferred, then one that holds none.
    """
    if "*" in paused:
        return []
    idle = {w.id: w for w in workers if w.idle}
    room = {lane: capacity - sum(w.lane == lane for w in workers) for lane in {w.lane for w in waiting}}
    found = []
    for job in order(waiting):
        if job.lane in paused:
            continue
        mine = [w for w in idle.values() if w.lane == job.lane]
        if mine:
            best = min(mine, key=lambda w: (w.model != job.model, bool(w.model), w.id))
            del idle[best.id]
            found.append(Assignment(job.job, job.lane, best.id))
        elif room[job.lane] > 0:
            room[job.lane] -= 1
            found.append(Assignment(job.job, job.lane, None))
    return found


def share_of_threads(cores: int, lane: str, busy: Collection[str]) -> int:
    """How many processor threads a job may use, so that lanes at work do not fight for cores.

    Args:
        cores: physical cores (or the user's limit).
        lane: the lane about to start; busy: lanes at work at this moment, with or without it.

    Returns:
        All cores for a lane alone, an equal part of them otherwise, at least 1.
    """
    # these wait for the disk, or are done in a moment: they must not change the numbers of what runs beside them
    lanes = len({*busy, lane} - {"export", "sheet"})
    return max(1, cores // max(1, lanes))
