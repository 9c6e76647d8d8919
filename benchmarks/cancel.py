"""How long a cancel takes in every phase of a job: `python benchmarks/cancel.py`.

From `Session.cancel` to the Cancelled event, with the starter models in real workers. Where a library cannot hear (it
holds Python's global lock while it loads) the worker is ended after the grace period, 3 s unless the settings say
otherwise; the table says so.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.trainer import paused_trainer
from studio.app.session import Session
from studio.core.events import Cancelled, Loading, Piece, Progress, Token
from studio.core.paths import Paths

LONG = "The fox walked on. " * 600


def cancel_at(session: Session, kind: str, ready: Callable[[Any], bool], given: dict[str, Any]) -> tuple[float, bool]:
    """Cancel a job at the first event that is `ready`; seconds until it is true, and whether by a kill."""
    reached = threading.Event()
    stop = session.subscribe(lambda e: reached.set() if ready(e) else None)
    workers = {pid for lane, _, pid in session.workers() if lane == kind and pid}
    job = session.submit(session.recipe(kind, given).recipe)
    assert reached.wait(120), f"{kind} never got there"
    workers = {pid for lane, _, pid in session.workers() if lane == kind and pid} or workers
    began = time.perf_counter()
    session.cancel(job.id)
    end = session.wait(job.id, 60)
    took = time.perf_counter() - began
    stop()
    assert isinstance(end, Cancelled), end
    time.sleep(0.3)
    return took, workers.isdisjoint({pid for lane, _, pid in session.workers() if lane == kind})


def main() -> None:
    phases: list[tuple[str, str, Callable[[Any], bool], dict[str, Any], bool]] = [
        ("text, loading", "text", lambda e: isinstance(e, Loading), {"prompt": "x"}, True),
        (
            "text, reading the prompt",
            "text",
            lambda e: isinstance(e, Progress) and "reading" in e.phase and e.done > 0,
            {"prompt": LONG, "max_tokens": 5, "context": 8192},
            False,
        ),
        ("text, writing", "text", lambda e: isinstance(e, Token), {"prompt": "Once", "max_tokens": 2000}, False),
        ("picture, loading", "image", lambda e: isinstance(e, Loading), {"prompt": "x"}, True),
        (
            "picture, painting",
            "image",
            lambda e: isinstance(e, Progress) and e.done >= 2,
            {"prompt": "x", "steps": 500},
            False,
        ),
        ("speech, loading", "speech", lambda e: isinstance(e, Loading), {"text": "Hello."}, True),
        ("speech, speaking", "speech", lambda e: isinstance(e, Piece), {"text": LONG}, False),
    ]
    with tempfile.TemporaryDirectory() as folder, paused_trainer():
        home = Path(folder) / "home"
        with Session(Paths(home)) as session:  # puts the text starter together and fits the maps
            for kind, given in (("text", {"prompt": "x", "max_tokens": 1}), ("speech", {"text": "x"})):
                session.wait(session.submit(session.recipe(kind, given).recipe).id)
            session.wait(session.submit(session.recipe("image", {"prompt": "x", "steps": 1}).recipe).id)
        print(f"{'phase':28} {'median, ms':>11} {'worst, ms':>10}   how")
        for name, kind, ready, given, fresh in phases:
            times, killed = [], 0
            session = Session(Paths(home))
            for _ in range(3):
                if fresh and times:  # a phase of loading needs a worker that has loaded nothing
                    session.close()
                    session = Session(Paths(home))
                elif not fresh and not times:
                    session.warm(kind)
                took, kill = cancel_at(session, kind, ready, given)
                times.append(took * 1000)
                killed += kill
            session.close()
            how = f"worker ended in {killed} of 3" if killed else "heard"
            print(f"{name:28} {statistics.median(times):>11.0f} {max(times):>10.0f}   {how}", flush=True)


if __name__ == "__main__":
    main()
