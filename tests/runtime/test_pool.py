"""The pool with real processes and a scriptable engine."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from studio.core.cards import ModelCard
from studio.core.events import Cancelling, Event, Started, Token
from studio.core.plans import Plan
from studio.core.problems import ModelMissing, Problem
from studio.core.recipes import TextRecipe
from studio.core.unfinished import Claim
from studio.core.works import Result
from studio.runtime import messages as m
from studio.runtime.link import ProcessLink
from studio.runtime.pool import Pool
from studio.runtime.schedule import Waiting
from tests.runtime.fakes import COMMAND

CARD = ModelCard(id="fake", name="Fake", kind="text", engine="text.fake", path="", format="", sha256="-")


class Notes:
    """A journal that only remembers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scripts: dict[str, tuple[str, ModelCard]] = {}
        self.ends: dict[str, Any] = {}
        self.events: list[Event] = []
        self.busy: dict[str, frozenset[str]] = {}
        self.lanes: list[str] = []
        self.home = ""
        self.changed = threading.Condition()

    def hand_over(self, job: str, busy: frozenset[str]) -> m.Run:
        script, card = self.scripts[job]
        if script == "missing":
            raise ModelMissing("There is no such model.")
        self.busy[job] = busy
        out = self.folder / job
        out.mkdir(exist_ok=True)
        recipe = TextRecipe(prompt=script, seed=1)
        return m.Run(
            job=job, engine=card.engine, card=card, recipe=recipe, plan=Plan(), out_dir=str(out),
            cache_dir=str(self.folder), home=self.home,
        )  # fmt: skip

    def _end(self, job: str, how: Any) -> None:
        with self.changed:
            assert job not in self.ends, f"{job} ended twice: {self.ends[job]} and {how}"
            self.ends[job] = how
            self.changed.notify_all()

    def died(self, job: str, problem: Problem) -> bool:
        return False

    def stalled(self, problem: Problem) -> None:
        raise AssertionError(problem)

    def happened(self, event: Event) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def done(self, job: str, result: Result) -> None:
        self._end(job, result)

    def failed(self, job: str, problem: Problem) -> None:
        self._end(job, problem)

    def cancelled(self, job: str, result: Result | None) -> None:
        self._end(job, ("cancelled", result))

    def lane_changed(self, lane: str) -> None:
        with self.changed:
            self.lanes.append(lane)
            self.changed.notify_all()

    def until(self, ready: Callable[[], bool], timeout: float = 30) -> None:
        with self.changed:
            assert self.changed.wait_for(ready, timeout), (self.ends, self.events[-3:])

    def end_of(self, job: str) -> Any:
        self.until(lambda: job in self.ends)
        return self.ends[job]


class Rig:
    def __init__(self, folder: Path, grace: float = 2.0) -> None:
        self.notes = Notes(folder)
        self.log = folder / "log"
        self.links: list[ProcessLink] = []
        self.pool = Pool(self.notes, self.log, grace_seconds=grace, make_link=self._link)

    def _link(self, lane: str, on_reply: Any, on_end: Any) -> ProcessLink:
        self.links.append(ProcessLink(COMMAND, {}, self.log, on_reply, on_end))
        return self.links[-1]

    def add(self, job: str, script: str, lane: str = "text", card: ModelCard = CARD, **more: Any) -> None:
        self.notes.scripts[job] = (script, card)
        self.pool.add(Waiting(job, lane, card.id, **more))

    def running(self, job: str) -> None:
        self.notes.until(lambda: any(isinstance(e, Token) and e.job == job for e in self.notes.events))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.pool.close()


def test_a_job_runs_and_its_worker_stays_for_the_next(rig: Rig) -> None:
    rig.add("a", "say hello; save one")
    first = rig.notes.end_of("a")
    assert isinstance(first, Result) and first.artifacts[0].bytes == 3
    rig.add("b", "save two")
    assert isinstance(rig.notes.end_of("b"), Result)
    assert len(rig.links) == 1
    assert next(type(e) for e in rig.notes.events if e.job == "a") is Started


def test_what_a_library_prints_does_not_disturb_the_frames(rig: Rig) -> None:
    rig.add("a", "print " + "noise " * 40_000 + "; save one")
    assert isinstance(rig.notes.end_of("a"), Result)
    assert "noise" in rig.log.read_text()


def test_two_lanes_work_at_the_same_time_and_know_of_each_other(rig: Rig) -> None:
    rig.add("a", "say x; sleep 20", lane="image")
    rig.running("a")
    rig.add("b", "save one", lane="speech")
    assert isinstance(rig.notes.end_of("b"), Result)
    assert "a" not in rig.notes.ends
    assert rig.notes.busy["b"] == {"image"}
    rig.pool.cancel("a")
    assert rig.notes.end_of("a")[0] == "cancelled"


def test_cancel_stops_the_named_job_and_no_other(rig: Rig) -> None:
    rig.add("a", "say x; sleep 20")
    rig.add("b", "say y; save two", seq=2)
    rig.running("a")
    assert rig.pool.cancel("a")
    assert rig.notes.end_of("a") == ("cancelled", None)
    assert isinstance(rig.notes.end_of("b"), Result)
    assert len(rig.links) == 1, "a job that stops by itself keeps its worker"
    assert any(isinstance(e, Cancelling) for e in rig.notes.events)


def test_a_waiting_job_is_cancelled_without_ever_running(rig: Rig) -> None:
    rig.add("a", "say x; sleep 20")
    rig.add("b", "save two", seq=2)
    assert rig.pool.cancel("b")
    assert rig.notes.end_of("b") == ("cancelled", None)
    assert "b" not in rig.notes.busy
    rig.pool.cancel("a")


def test_cancelling_what_is_not_there_says_so(rig: Rig) -> None:
    assert not rig.pool.cancel("nobody")


def test_works_finished_before_the_cancel_are_kept(rig: Rig) -> None:
    rig.add("a", "save one; say x; sleep 20")
    rig.running("a")
    rig.pool.cancel("a")
    how, result = rig.notes.end_of("a")
    assert how == "cancelled" and [x.name for x in result.artifacts] == ["0.txt"]


def test_a_job_deaf_to_cancel_is_killed_and_a_fresh_worker_is_warmed(rig: Rig) -> None:
    rig.add("a", "say x; stuck 60")
    rig.running("a")
    time.sleep(0.3)  # between its word and its sleep it would hear
    rig.pool.cancel("a")
    assert rig.notes.end_of("a") == ("cancelled", None)
    deadline = time.monotonic() + 20
    while not any(v.model == "fake" and v.idle for v, _ in rig.pool.workers()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert len(rig.links) == 2
    rig.add("b", "save two")
    assert isinstance(rig.notes.end_of("b"), Result)
    assert len(rig.links) == 2


def test_cancel_during_a_load_that_hears_nothing_works(rig: Rig) -> None:
    slow = ModelCard(id="slow", name="slow-load", kind="text", engine="text.fake", path="", format="", sha256="-")
    rig.add("a", "save x", card=slow)
    rig.notes.until(lambda: len(rig.notes.events) >= 2)  # Started, Loading
    rig.pool.cancel("a")
    assert rig.notes.end_of("a") == ("cancelled", None)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("die SIGKILL", "SIGKILL"),
        ("die SIGSEGV", "SIGSEGV"),
        ("die SIGABRT", "SIGABRT"),
        ("exit 0", "exit code 0"),
        ("exit 3", "exit code 3"),
        ("garbage", "not a message"),
    ],
)
def test_a_worker_that_dies_fails_its_job_and_the_next_one_runs(rig: Rig, script: str, says: str) -> None:
    rig.add("a", f"say x; {script}")
    rig.add("b", "save two", seq=2)
    problem = rig.notes.end_of("a")
    assert problem.code == "worker_died" and says in problem.sentence
    assert isinstance(rig.notes.end_of("b"), Result)


def test_an_error_is_a_sentence_and_the_worker_lives_on(rig: Rig) -> None:
    rig.add("c", "raise surprise", seq=3)
    rig.add("d", "save x", seq=4)
    c = rig.notes.end_of("c")
    assert c.code == "engine_error" and "surprise" in c.sentence and "Traceback" in c.detail
    assert isinstance(rig.notes.end_of("d"), Result)
    assert len(rig.links) == 1


def test_a_lost_graphics_card_gets_a_fresh_worker(rig: Rig) -> None:
    rig.add("a", "raise cuda")
    rig.add("b", "save x", seq=2)
    problem = rig.notes.end_of("a")
    assert problem.code == "device_lost"
    assert "illegal memory access." in problem.sentence
    assert isinstance(rig.notes.end_of("b"), Result)
    assert len(rig.links) == 2


def test_a_library_that_goes_on_failing_gets_a_fresh_worker(rig: Rig) -> None:
    rig.add("a", "raise primitive")
    rig.add("b", "save x", seq=2)
    assert rig.notes.end_of("a").code == "out_of_memory"
    assert isinstance(rig.notes.end_of("b"), Result)
    assert len(rig.links) == 2


def test_after_memory_ran_out_the_next_job_gets_a_fresh_worker(rig: Rig) -> None:
    """Told by the engine, by Python, and while the model was loaded; nothing of the old process goes on."""
    small = msgspec.structs.replace(CARD, id="small", name="no-load")
    rig.add("a", "raise oom")
    rig.add("b", "raise memory", seq=2)
    rig.add("c", "save x", card=small, seq=3)
    rig.add("d", "save x", seq=4)
    rig.add("e", "save x", seq=5)
    assert [rig.notes.end_of(job).code for job in "abc"] == ["out_of_memory"] * 3
    assert isinstance(rig.notes.end_of("d"), Result) and isinstance(rig.notes.end_of("e"), Result)
    assert len({link.pid for link in rig.links}) == len(rig.links) == 4, "after a, b and c, and none between d and e"
    assert not any(psutil.pid_exists(link.pid) for link in rig.links[:3])
    assert [event.job for event in rig.notes.events if isinstance(event, Started)] == list("abcde")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space")
def test_memory_that_really_is_not_there_is_not_missed_by_the_next_job(rig: Rig) -> None:
    rig.add("a", "starve 50; hoard 200")
    rig.add("b", "hoard 200", seq=2)
    assert rig.notes.end_of("a").code == "out_of_memory"
    assert isinstance(rig.notes.end_of("b"), Result), "the limit was that of the old process"


def test_a_waiting_job_of_another_lane_does_not_lose_its_worker_to_it(rig: Rig) -> None:
    rig.add("a", "say x; sleep 600", lane="image")
    rig.running("a")
    rig.add("b", "raise oom")
    assert rig.notes.end_of("b").code == "out_of_memory"
    assert rig.pool.running() == {"a": "image"}
    rig.pool.cancel("a")
    assert rig.notes.end_of("a") == ("cancelled", None)


def test_a_new_worker_sweeps_away_what_a_killed_one_left_half_made(rig: Rig) -> None:
    home = rig.notes.folder / "home"
    rig.notes.home = str(home)
    whole = [home / "datasets" / "tales-0123", home / "models" / "trained" / "mine", home / "runs" / "r1"]
    half = [home / "datasets" / ".making-j1", home / "models" / "trained" / ".mine-j1.tmp"]
    made = home / "datasets" / ".making-j2"
    for folder in (*whole, *half):
        folder.mkdir(parents=True)
        (folder / "x").write_text("x")
    claim = Claim(made)
    rig.add("a", "save x")
    assert isinstance(rig.notes.end_of("a"), Result)
    assert all(folder.exists() for folder in (*whole, made)) and not any(folder.exists() for folder in half)
    claim.release()


def test_an_engine_that_is_not_there_is_a_sentence(rig: Rig) -> None:
    none = ModelCard(id="x", name="X", kind="text", engine="text.none", path="", format="", sha256="-")
    rig.add("a", "save x", card=none)
    assert rig.notes.end_of("a").code == "engine_missing"


def test_a_job_that_cannot_be_handed_over_fails_and_the_next_runs(rig: Rig) -> None:
    rig.add("a", "missing")
    assert rig.notes.end_of("a").code == "model_missing"
    rig.add("b", "save x")
    assert isinstance(rig.notes.end_of("b"), Result)


def test_a_worker_that_cannot_be_started_fails_its_job(tmp_path: Path) -> None:
    def broken(*_: Any) -> ProcessLink:
        raise OSError("no more processes")

    notes = Notes(tmp_path)
    pool = Pool(notes, tmp_path / "log", make_link=broken)
    notes.scripts["a"] = ("save x", CARD)
    pool.add(Waiting("a", "text", "fake"))
    assert "no more processes" in notes.end_of("a").sentence
    pool.close()


def test_paused_lanes_start_nothing_until_resumed(rig: Rig) -> None:
    rig.pool.pause("text")
    rig.add("a", "save x")
    rig.add("b", "save y", lane="speech")
    rig.notes.end_of("b")
    assert "a" not in rig.notes.busy
    rig.pool.resume("text")
    rig.notes.end_of("a")


def test_unload_gives_the_model_back_and_the_worker_stays(rig: Rig) -> None:
    rig.add("a", "save x")
    rig.notes.end_of("a")
    rig.pool.unload("text")
    deadline = time.monotonic() + 20
    while not all(v.idle and v.model == "" for v, _ in rig.pool.workers()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    rig.add("b", "save y")
    rig.notes.end_of("b")
    assert len(rig.links) == 1


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_closing_ends_workers_and_what_they_started(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.add("a", f"spawn {tmp_path / 'pid'}; say x; stuck 60")
    rig.running("a")
    child = int((tmp_path / "pid").read_text())
    worker = rig.links[0].pid
    rig.pool.close()
    deadline = time.monotonic() + 20
    while not (_gone(child) and _gone(worker)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["sleep 60", "stuck 60"])
def test_no_worker_outlives_a_killed_studio(tmp_path: Path, script: str) -> None:
    """The studio is a process of its own here; it is killed with SIGKILL while its worker works."""
    import subprocess
    import sys

    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.runtime.test_pool import Rig\n"
        "rig = Rig(Path(sys.argv[1]))\n"
        "rig.add('a', f'spawn {sys.argv[1]}/pid; say x; ' + sys.argv[2])\n"
        "rig.running('a')\n"
        "print(rig.links[0].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    studio = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), script], stdout=subprocess.PIPE, text=True)
    assert studio.stdout is not None
    worker = int(studio.stdout.readline())
    child = int((tmp_path / "pid").read_text())
    os.kill(studio.pid, signal.SIGKILL)
    studio.communicate()  # and close its pipe
    deadline = time.monotonic() + 20  # it would sleep for longer
    while not _gone(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while not _gone(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_whose_library_holds_the_global_lock_does_not_outlive_its_studio_either(tmp_path: Path) -> None:
    import subprocess
    import sys

    # sleep() of a PyDLL keeps the global lock: no thread of the worker can run, as while a model loads
    hold = "import ctypes; ctypes.PyDLL(None).sleep(60)"
    worker = (
        "import os; from studio.runtime.orphans import die_with_parent; "
        f"die_with_parent(os.getppid()); print(1, flush=True); {hold}"
    )
    program = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)\n"
    )
    studio = subprocess.Popen([sys.executable, "-c", program, worker], stdout=subprocess.PIPE, text=True)
    assert studio.stdout is not None
    pid = int(studio.stdout.readline())
    time.sleep(0.2)
    assert not _gone(pid)
    studio.kill()
    studio.communicate()  # and close its pipe
    deadline = time.monotonic() + 20  # it would sleep for longer
    while not _gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stranger_in_the_current_folder_is_not_imported_by_a_worker(tmp_path: Path) -> None:
    """Started from a folder of downloads, a worker must not take its json.py for the standard library's."""
    import subprocess

    from studio.runtime.link import worker_command

    for name in ("json", "errno", "msgspec", "studio"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    worker = subprocess.Popen(worker_command(), cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert isinstance(m.read_reply(worker.stdout), m.Hello)  # type: ignore[arg-type]
    worker.communicate()  # its stdin closes: it ends
    assert not (tmp_path / "ran").exists()
