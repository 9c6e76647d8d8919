"""Memory of each worker before, with and without its model: `python benchmarks/memory.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from benchmarks.trainer import paused_trainer
from studio.app.session import Session
from studio.core.events import Finished
from studio.core.paths import Paths

JOBS: list[tuple[str, dict[str, Any]]] = [
    ("text", {"prompt": "Once upon a time", "max_tokens": 40}),
    ("image", {"prompt": "red apple", "steps": 10}),
    ("speech", {"text": "Hello there. This is the studio."}),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, paused_trainer(), Session(Paths(Path(folder) / "home")) as session:
        print(f"{'MB resident':10} {'1st job':>9} {'5th job':>9} {'unloaded':>9} {'again':>9} {'unloaded':>9}")
        for kind, given in JOBS:
            figures = []

            def once(kind: str = kind, given: dict[str, Any] = given) -> None:
                end = session.wait(session.submit(session.recipe(kind, given).recipe).id)
                assert isinstance(end, Finished), end

            def resident(kind: str = kind) -> float:
                pid = next(pid for lane, _, pid in session.workers() if lane == kind)
                return float(psutil.Process(pid).memory_info().rss) / 1e6

            once()
            figures.append(resident())
            for _ in range(4):
                once()
            figures.append(resident())
            for _ in range(2):
                session.unload(kind)
                while any(lane == kind and model for lane, model, _ in session.workers()):
                    time.sleep(0.05)
                time.sleep(0.5)
                figures.append(resident())
                once()
                figures.append(resident())
            print(f"{kind:11} " + " ".join(f"{f:>9.0f}" for f in figures[:5]), flush=True)
        mine = psutil.Process().memory_info().rss / 1e6
        print(f"the session's own process: {mine:.0f} MB")


if __name__ == "__main__":
    main()
