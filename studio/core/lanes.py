"""Lanes: one per kind of work, each with at most one worker. What a window shows of them."""

from __future__ import annotations

import msgspec

from studio.core.problems import Problem


class Lane(msgspec.Struct, frozen=True):
    """One lane at this moment.

    Attributes:
        model: id of the model its worker holds or is loading; empty for none.
        busy: a job runs. warming: the model is being loaded ahead of any job.
        silent: seconds without a sign of life of a worker that should be giving one; 0 while it does.
        pid: the worker's process, 0 while it is being started or where there is none.
        problem: why the last loading ahead failed; kept until the next one or the next job.
    """

    model: str = ""
    busy: bool = False
    warming: bool = False
    pid: int = 0
    silent: float = 0.0
    problem: Problem | None = None
