"""A large library and a long queue: nothing takes longer for it that a person would notice."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QTimer

from studio.core.paths import Paths
from studio.core.recipes import ImageRecipe
from studio.library.database import Database
from studio.library.jobs import to_json
from tests.app.rig import Rig
from tests.effort import effort

WORKS, JOBS = 100_000, 10_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A library of 100,000 pictures and 10,000 waiting jobs of a studio that is gone."""
    paths = Paths(tmp_path_factory.mktemp("large") / "home")
    paths.make()
    database = Database(paths.database)
    recipe = to_json(ImageRecipe(prompt="a picture", model="painter", seed=1))
    assets = '[{"path":"2026/01/shared.png","role":"master","sha256":"0","bytes":1}]'
    waiting = to_json(ImageRecipe(prompt="hold", model="painter", seed=1, steps=2))
    with database.transaction() as db:
        db.executemany(
            "insert into works (id, seq, job, position, kind, title, created, recipe, assets, meta, notes, seconds, "
            "complete, words) values (?, ?, 'jnone', 0, 'image', ?, '2026-01-01T00:00:00.000Z', ?, ?, '{}', '[]', 1.0, "
            "1, ?)",
            ((f"w{n:012d}", n, f"picture {n}", recipe, assets, f"picture {n}") for n in range(WORKS)),
        )
        db.executemany(
            "insert into jobs (id, kind, state, position, owner, created, recipe) "
            "values (?, 'image', 'queued', ?, '1:1.0', '2026-01-01T00:00:00.000Z', ?)",
            ((f"j{n:012d}", n, waiting) for n in range(JOBS)),
        )
        db.execute("insert into paused values ('*')")
    database.close()
    return paths


def test_a_start_reads_a_page_and_not_the_library(large: Paths) -> None:
    def start() -> None:
        with Rig(large) as session:
            assert len(session.works(limit=100)) == 100
            assert session.count_works() == WORKS

    small = Paths(large.home.parent / "small")
    small.make()
    Rig(small).close()

    def start_small() -> None:
        with Rig(small) as session:
            session.works(limit=100)
            session.count_works()

    base = min(effort(start_small) for _ in range(3))
    # a hundred thousand works cost less than a second more than none
    assert min(effort(start) for _ in range(3)) < base + 1.0


def test_the_window_goes_on_while_ten_thousand_jobs_are_taken_up(large: Paths, qtbot: Any, tmp_path: Path) -> None:
    from tests.ui.rig import FakeSession
    from tests.ui.rig import Rig as Window

    rig = Window(qtbot, Paths(tmp_path), opened=False)
    turns: list[float] = []  # when the loop turned, in processor time of the window's thread
    timer = QTimer(rig.window, interval=5)
    timer.timeout.connect(lambda: turns.append(time.thread_time()))
    rig.session = FakeSession(large, keep_pause=True)
    timer.start()
    began, window_began = time.process_time(), time.thread_time()
    rig.desk.open(rig.session)
    rig.until(lambda: len(rig.desk.track.waiting()) == JOBS and len(rig.desk.track.order) == JOBS, 120)
    timer.stop()
    beside = time.process_time() - began - (time.thread_time() - window_began)
    longest = max(b - a for a, b in itertools.pairwise([window_began, *turns]))
    print(f"longest turn {longest:.3f} s, {beside:.3f} s beside the window, {len(turns)} turns")
    # reading ten thousand is the work of another thread; what the window does of it comes in small pieces
    assert len(turns) > 10 and longest < beside / 2
    rig.window.toggle_queue()
    rig.until(lambda: rig.window.queue.model.rowCount() == JOBS)
    rig.close()
