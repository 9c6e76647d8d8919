"""Section F of docs/faults.md: what can happen to processes, and that nothing is lost by it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import ModelCard, Needs
from studio.core.events import Again, Cancelled, Failed, Finished, Silent
from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.runtime import watch
from tests.app.rig import CARD, Rig
from tests.effort import effort
from tests.runtime.test_pool import CARD as POOL_CARD
from tests.runtime.test_pool import Rig as PoolRig
from tests.runtime.test_pool import _gone


def until(ready: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[PoolRig]:
    made = PoolRig(tmp_path, grace=20.0)
    yield made
    made.pool.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchdogs in a hurry, so that a test need not wait for ten seconds; the relations stay."""
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(watch, "SILENT_SECONDS", 0.8)
    monkeypatch.setattr(watch, "ASLEEP_SECONDS", 5.0)  # this machine may be slow
    monkeypatch.setattr(watch, "LOADING_SECONDS", 2.0)


def silences(rig: PoolRig, job: str) -> list[float]:
    return [e.seconds for e in rig.notes.events if isinstance(e, Silent) and e.job == job]


def test_silence_is_told_within_ten_seconds() -> None:
    assert watch.SILENT_SECONDS + 2 * watch.LOOK_SECONDS <= 10


def test_a_stopped_worker_is_told_and_a_cancel_ends_it_at_once(rig: PoolRig, soon: None) -> None:
    rig.add("a", "say x; sleep 60")
    rig.running("a")
    os.kill(rig.links[0].pid, signal.SIGSTOP)
    rig.add("b", "save two", lane="speech")
    rig.notes.until(lambda: bool(silences(rig, "a")))
    assert rig.pool.lanes()["text"].silent > 0
    began = time.monotonic()
    rig.pool.cancel("a")
    assert rig.notes.end_of("a") == ("cancelled", None)
    assert time.monotonic() - began < 15, "not after the grace of 20 s"
    rig.notes.end_of("b")
    rig.add("c", "save three")
    rig.notes.end_of("c")


def test_a_worker_that_goes_on_is_told_as_such(rig: PoolRig, soon: None) -> None:
    rig.add("a", "say x; sleep 4; save y")
    rig.running("a")
    os.kill(rig.links[0].pid, signal.SIGSTOP)
    rig.notes.until(lambda: bool(silences(rig, "a")))
    os.kill(rig.links[0].pid, signal.SIGCONT)
    rig.notes.end_of("a")
    assert silences(rig, "a")[-1] == 0.0 or rig.pool.lanes()["text"].silent == 0


def test_a_worker_that_computes_without_a_word_is_not_taken_for_hung(rig: PoolRig, soon: None) -> None:
    rig.add("a", "say x; compute 3; save y")
    rig.notes.end_of("a")
    assert silences(rig, "a") == []


def test_a_worker_that_hangs_while_it_loads_ahead_is_ended_and_the_lane_is_free(rig: PoolRig, soon: None) -> None:
    slow = ModelCard(id="slow", name="slow-load", kind="text", engine="text.fake", path="", format="", sha256="-")
    from studio.core.plans import Plan

    rig.pool.warm("text", "text.fake", slow, Plan(), Path(rig.notes.folder))
    rig.add("a", "save x")
    assert rig.notes.end_of("a").artifacts
    assert len(rig.links) == 2


def test_a_sleep_of_the_computer_is_no_hang_and_costs_no_job_its_grace(tmp_path: Path) -> None:
    """The clock jumps by an hour under a job that is being cancelled: it still gets its time to stop."""
    now = [0.0]

    def clock() -> float:
        return now[0] + time.monotonic()

    rig = PoolRig(tmp_path, grace=20.0)
    rig.pool.close()
    from studio.runtime.pool import Pool

    rig.pool = Pool(rig.notes, rig.log, grace_seconds=20.0, make_link=rig._link, clock=clock)
    try:
        rig.add("a", "say x; stuck 1.5; save kept; sleep 60")
        rig.running("a")
        time.sleep(0.3)
        rig.pool.cancel("a")
        now[0] = 3600.0
        with rig.pool._lock:
            rig.pool._wake.notify_all()
        assert rig.notes.end_of("a")[0] == "cancelled"
        assert len(rig.links) == 1, "it was not killed"
        assert silences(rig, "a") == []
    finally:
        rig.pool.close()


def test_what_a_killed_worker_had_started_goes_with_it(rig: PoolRig, tmp_path: Path) -> None:
    rig.add("a", f"spawn {tmp_path / 'pid'}; say x; sleep 60")
    rig.running("a")
    child = int((tmp_path / "pid").read_text())
    os.kill(rig.links[0].pid, signal.SIGKILL)
    rig.notes.end_of("a")
    until(lambda: _gone(child))


def test_a_kill_by_the_system_for_want_of_memory_is_called_that(rig: PoolRig, monkeypatch: pytest.MonkeyPatch) -> None:
    kills = [3]
    monkeypatch.setattr(watch, "memory_kills", lambda: kills[0])
    rig.add("a", "say x; sleep 60")
    rig.running("a")
    kills[0] = 4
    os.kill(rig.links[0].pid, signal.SIGKILL)
    problem = rig.notes.end_of("a")
    assert problem.code == "out_of_memory" and "memory ran out" in problem.sentence


def test_a_log_does_not_grow_without_end(tmp_path: Path) -> None:
    from studio.core.rotating import RotatingLog

    log = RotatingLog(tmp_path / "log", size=10_000, older=2)
    for number in range(2000):
        log.add(f"line {number} \ud800 \x1b[31m")
    log.close()
    sizes = {p.name: p.stat().st_size for p in tmp_path.iterdir()}
    assert set(sizes) == {"log", "log.1", "log.2"} and max(sizes.values()) <= 10_000
    assert "line 1999" in (tmp_path / "log").read_text()
    gone = RotatingLog(tmp_path / "no" / "folder" / "log")
    gone.add("nothing happens")
    gone.close()


# -- memory -----------------------------------------------------------------------------------------------------------


def _heavy(name: str, size: int) -> ModelCard:
    return ModelCard(
        id=name, name=name, kind="text", engine="text.fake", path="", format="", sha256="-", needs=Needs(weights=size)
    )


def _holds(rig: PoolRig, lane: str) -> str:
    return rig.pool.lanes()[lane].model


def test_a_model_that_nobody_uses_gives_its_memory_back_after_a_time(rig: PoolRig) -> None:
    rig.add("a", "save x")
    rig.notes.end_of("a")
    assert _holds(rig, "text") == "fake"
    rig.pool.idle_seconds = 0.3
    rig.add("b", "save y")
    rig.notes.end_of("b")
    until(lambda: _holds(rig, "text") == "")
    assert len(rig.pool.workers()) == 1, "the worker stays: only its model went"


def test_models_make_room_for_each_other_the_one_used_longest_ago_first(rig: PoolRig) -> None:
    rig.pool.memory_limit = 100
    rig.pool._free = lambda: 10**12
    for lane in ("text", "image", "speech"):
        rig.add(lane, "save x", lane=lane, card=_heavy(lane, 40), weights=40)
        rig.notes.end_of(lane)
    until(lambda: _holds(rig, "text") == "")
    assert (_holds(rig, "image"), _holds(rig, "speech")) == ("image", "speech")
    rig.add("again", "save x", lane="text", card=_heavy("text", 40), weights=40)
    rig.notes.end_of("again")
    assert (_holds(rig, "text"), _holds(rig, "image"), _holds(rig, "speech")) == ("text", "", "speech")


def test_a_model_at_work_never_makes_room(rig: PoolRig) -> None:
    rig.pool.memory_limit = 100
    rig.pool._free = lambda: 10**12
    rig.add("a", "say x; sleep 60", lane="text", card=_heavy("text", 90), weights=90)
    rig.running("a")
    rig.add("b", "save x", lane="image", card=_heavy("image", 90), weights=90)
    rig.notes.end_of("b")
    assert _holds(rig, "text") == "text" and "a" not in rig.notes.ends


def test_a_job_that_waits_for_room_can_be_cancelled(rig: PoolRig) -> None:
    rig.pool.memory_limit = 100
    rig.pool._free = lambda: 10**12
    rig.add("a", "save x", lane="text", card=_heavy("text", 90), weights=90)
    rig.notes.end_of("a")
    os.kill(rig.links[0].pid, signal.SIGSTOP)  # it will not answer
    rig.add("b", "save x", lane="image", card=_heavy("image", 90), weights=90)
    rig.pool.cancel("b")
    assert rig.notes.end_of("b") == ("cancelled", None)
    os.kill(rig.links[0].pid, signal.SIGCONT)
    rig.add("c", "save x", lane="image", card=_heavy("image", 90), weights=90)
    rig.notes.end_of("c")


def test_a_worker_whose_memory_does_not_come_back_is_replaced(rig: PoolRig) -> None:
    rig.add("a", "hoard 400; save x", card=_heavy("leaky", 400 * 1024**2))
    rig.notes.end_of("a")
    rig.pool._workers[1].size = 400 * 1024**2
    first = rig.links[0].pid
    rig.pool.unload("text")
    until(lambda: _gone(first))
    rig.add("b", "save y")
    rig.notes.end_of("b")
    assert len(rig.links) == 2


def test_a_worker_that_grows_from_job_to_job_is_replaced(rig: PoolRig, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.runtime import budget

    monkeypatch.setattr(budget, "GROWTH", 50 * 1024**2)
    rig.add("a", "save x")
    rig.notes.end_of("a")
    rig.add("b", "hoard 200; save y")
    rig.notes.end_of("b")
    until(lambda: _gone(rig.links[0].pid))
    rig.add("c", "save z")
    rig.notes.end_of("c")
    assert len(rig.links) == 2


def test_a_convenience_never_takes_memory_that_is_not_there(rig: PoolRig) -> None:
    from studio.core.plans import Plan

    rig.pool._free = lambda: 1000
    assert not rig.pool.warm("text", "text.fake", _heavy("big", 2000), Plan(), Path(rig.notes.folder))
    assert rig.pool.warm("text", "text.fake", POOL_CARD, Plan(), Path(rig.notes.folder))


# -- the journal ------------------------------------------------------------------------------------------------------


def test_text_written_before_a_kill_is_kept_and_marked(paths: Paths) -> None:
    with Rig(paths) as session:
        session.change_settings(grace_seconds=0.2)
        job = session.do("say It was a dark and stormy night; stuck 60")
        session.until_said(job)
        session.cancel(job)
        end = session.end(job)
        assert isinstance(end, Cancelled)
        (work,) = end.works
        assert session.path(work).read_text() == "It was a dark and stormy night"
        assert not work.complete and work.meta["finish"] == "cut off"
        assert work.recipe.made_with is not None and work.recipe.made_with.engine == "text.fake"


def test_works_finished_before_a_kill_are_kept_whole(paths: Paths) -> None:
    with Rig(paths) as session:
        session.change_settings(grace_seconds=0.2)
        job = session.do("save one; save two; say x; stuck 60")
        session.until_said(job)
        session.cancel(job)
        end = session.end(job)
        assert isinstance(end, Cancelled)
        assert [(session.path(w).read_text(), w.complete) for w in end.works] == [("one", True), ("two", True)]
        assert [w.recipe.seed for w in end.works] == [5, 5]  # type: ignore[union-attr]


def test_works_finished_before_an_error_are_kept_whole(paths: Paths) -> None:
    with Rig(paths) as session:
        end = session.end(session.do("save one; raise oom"))
        assert isinstance(end, Failed) and end.problem.sentence == "It needs 9 GB."
        assert [session.path(w).read_text() for w in end.works] == ["one"]
        assert session.job(end.job).works == (end.works[0].id,)


STUDIO = """
import sys, time
from pathlib import Path
from studio.core.paths import Paths
from tests.app.rig import Rig
session = Rig(Paths(Path(sys.argv[1])), keep_pause=True)
"""


def _studio(paths: Paths, program: str) -> tuple[subprocess.Popen[str], list[str]]:
    studio = subprocess.Popen(
        [sys.executable, "-c", f"{STUDIO}{program}\ntime.sleep(120)", str(paths.home)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert studio.stdout is not None
    return studio, studio.stdout.readline().split()


def _kill(studio: subprocess.Popen[str]) -> None:
    studio.kill()
    studio.communicate()


def test_text_written_before_studio_and_worker_were_killed_is_kept(paths: Paths) -> None:
    studio, (job, worker) = _studio(
        paths,
        "job = session.do('say half a story; sleep 100')\nsession.until_said(job)\n"
        "print(job, session.links[0].pid, flush=True)",
    )
    os.kill(int(worker), signal.SIGKILL)
    _kill(studio)
    with Rig(paths) as later:
        ended = later.job(job)
        assert ended.state is JobState.FAILED and ended.problem is not None and ended.problem.code == "interrupted"
        (work,) = later.works_of(job)
        assert later.path(work).read_text() == "half a story" and not work.complete
        again = later.retry(job)
        later.cancel(again.id)


def test_the_queue_its_order_priorities_and_pause_come_back_after_a_kill(paths: Paths) -> None:
    studio, (a, b, c) = _studio(
        paths,
        "session.pause()\na, b, c = (session.do(f'save {x}') for x in 'abc')\n"
        "session.move(c, before=a)\nsession.move(b, priority=1)\nprint(a, b, c, flush=True)",
    )
    _kill(studio)
    with Rig(paths) as command:
        assert command.paused == frozenset(), "a command is not held up by a window's pause"
    with Rig(paths, keep_pause=True, resume=True) as later:
        assert later.paused == {"*"} and later.queue() == [b, c, a]
        later.unpause()
        for job in (a, b, c):
            assert isinstance(later.end(job), Finished)
    with Rig(paths, keep_pause=True) as last:
        assert last.paused == frozenset()


def test_a_job_that_takes_the_studio_down_twice_is_set_aside(paths: Paths) -> None:
    """First it kills its worker, then, begun again by itself, the studio is killed under it."""
    mark = paths.home / "mark"
    studio, (job,) = _studio(
        paths,
        f"job = session.do('once {mark}; say x; sleep 100')\nsession.until_said(job)\nprint(job, flush=True)",
    )
    _kill(studio)
    with Rig(paths, resume=True) as later:
        ended = later.job(job)
        assert ended.attempts == 2 and ended.problem is not None and ended.problem.code == "set_aside"
        assert later.mine() == []


def test_a_lost_graphics_card_is_tried_once_more_in_a_fresh_worker(paths: Paths) -> None:
    with Rig(paths) as session:
        job = session.do("raise cuda")
        end = session.end(job)
        assert isinstance(end, Failed) and end.problem.code == "set_aside" and "graphics card" in end.problem.sentence
        assert len(session.links) == 2 and any(isinstance(e, Again) for e in session.events)


def test_works_are_in_order_of_making_whatever_the_clock_says(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.library import files, jobs

    times = iter([f"{year}-01-01T00:00:00.000Z" for year in (2100, 1970, 2026, 2099) for _ in range(20)])
    for module in (files, jobs):
        monkeypatch.setattr(module, "now", lambda: next(times))
    with Rig(paths) as session:
        for n in range(4):
            session.end(session.do(f"save {n}"))
        assert [session.path(w).read_text() for w in session.works()] == ["3", "2", "1", "0"]
        assert len({w.id for w in session.works()}) == 4
        assert [j.recipe.prompt for j in session.jobs()] == [f"save {n}" for n in (3, 2, 1, 0)]  # type: ignore[union-attr]


def test_ten_thousand_waiting_jobs_are_taken_up_in_one_go(paths: Paths) -> None:
    from studio.core.recipes import TextRecipe
    from studio.library.database import Database
    from studio.library.jobs import to_json

    database = Database(paths.database)
    recipe = to_json(TextRecipe(prompt="save x", model=CARD.id, seed=1))
    with database.transaction() as db:
        db.executemany(
            "insert into jobs (id, kind, state, position, owner, created, recipe) "
            "values (?, 'text', 'queued', ?, '1:1.0', '2026-01-01T00:00:00.000Z', ?)",
            ((f"j{n:012d}", n, recipe) for n in range(10_000)),
        )
    database.close()
    with Rig(paths) as session:
        session.pause()
        taken: list[str] = []
        # one transaction each would take minutes
        assert effort(lambda: taken.extend(session.resume_waiting().jobs)) < 20
        assert len(taken) == 10_000
        assert session.queue()[:2] == ["j000000000000", "j000000000001"]
        session.move("j000000009999", before="j000000000000")
        assert session.queue()[0] == "j000000009999"
        session.cancel("j000000000005")
        assert session.job("j000000000005").state is JobState.CANCELLED
