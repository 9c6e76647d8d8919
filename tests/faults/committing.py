"""A studio that does one thing to its library and says when that is acknowledged; killed on the way by the tests.

usage: python -m tests.faults.committing HOME WHAT

It writes “BEGIN” and “ACK” to stderr around the thing, so that they are seen among the system calls.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from studio.app import session as session_module
from studio.app.session import Session
from studio.core.jobs import Job, JobState
from studio.core.paths import Paths
from studio.core.recipes import MadeWith, TextRecipe
from studio.core.works import Result
from studio.engines.context import RunContext
from tests.app.rig import OneModel

TEXTS = ("one", "two")


def open_session(paths: Paths) -> Session:
    """Without workers: what they would have left in staging is put there by hand."""
    session_module.due = lambda *_: False  # type: ignore[assignment]  # a backup would be a thing of its own
    session = Session(paths)
    session._models = OneModel()  # type: ignore[assignment]
    session.pause()
    return session


def at_work(session: Session) -> tuple[Job, RunContext]:
    """A job in the middle of its work."""
    job = session.submit(TextRecipe(prompt="a story", seed=5, n=2))
    session._jobs.start(job.id)
    ctx = RunContext(job.id, session._files.fresh_staging(job.id), session.paths.cache, lambda event: None)
    ctx.trail.made_with(MadeWith(engine="text.fake"))
    return job, ctx


def result_of(ctx: RunContext) -> Result:
    made = [ctx.save(f"{i}.txt", text.encode(), index=i, seed=5 + i) for i, text in enumerate(TEXTS)]
    return Result(artifacts=tuple(made), made_with=MadeWith(engine="text.fake"))


def prepare(session: Session, what: str) -> Any:
    if what in ("finish", "bin"):
        job, ctx = at_work(session)
        result = result_of(ctx)
        if what == "finish":
            return lambda: session._conclude(job.id, JobState.FINISHED, result)
        session._conclude(job.id, JobState.FINISHED, result)
        session.remove(session.works()[0].id)  # “two”
        return session.empty_bin
    if what == "cut off":
        job, ctx = at_work(session)
        ctx.token(0, "half a story")
        return lambda: session._conclude(job.id, JobState.CANCELLED)
    assert what == "settings"
    session.change_settings(threads=1)
    return lambda: session.change_settings(threads=2)


def main() -> None:
    session = open_session(Paths(Path(sys.argv[1])))
    act = prepare(session, sys.argv[2])
    os.write(2, b"BEGIN\n")
    act()
    os.write(2, b"ACK\n")
    os._exit(0)


if __name__ == "__main__":
    main()
