"""The crossing between threads: nothing is lost, nothing is turned round, and the window never waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import shiboken6
from PySide6.QtCore import QObject, QTimer
from pytestqt.qtbot import QtBot

from studio.core.events import Failed, Finished, Log, Preview, Progress, Queued, Started, Token
from studio.core.jobs import Job
from studio.core.problems import BadRecipe, Problem
from studio.core.recipes import TextRecipe
from studio.core.works import Change
from studio.ui.bridge import Bridge, thinned
from studio.ui.desk import Desk
from studio.ui.state import WindowState
from studio.ui.tasks import Tasks, as_problem


@pytest.fixture
def bridge(qtbot: QtBot) -> Iterator[Bridge]:
    made = Bridge()
    yield made
    made.deleteLater()


@pytest.fixture
def tasks(bridge: Bridge) -> Iterator[Tasks]:
    made = Tasks(bridge)
    yield made
    made.close()


def test_events_of_five_threads_arrive_in_order_on_the_main_thread(bridge: Bridge, qtbot: QtBot) -> None:
    told: list[Any] = []
    threads: set[threading.Thread] = set()

    def heard(event: Any) -> None:
        threads.add(threading.current_thread())
        told.append(event)

    bridge.happened.connect(heard)

    def post(name: str) -> None:
        for number in range(1000):
            bridge.post(Log(job=name, text=str(number)))

    posters = [threading.Thread(target=post, args=(name,)) for name in "abcde"]
    for poster in posters:
        poster.start()
    qtbot.waitUntil(lambda: len(told) == 5000, timeout=20_000)
    for poster in posters:
        poster.join()
    assert threads == {threading.main_thread()}
    for name in "abcde":
        assert [e.text for e in told if e.job == name] == [str(n) for n in range(1000)]


def test_what_comes_between_two_turns_is_joined_and_thinned(bridge: Bridge, qtbot: QtBot) -> None:
    told: list[Any] = []
    bridge.happened.connect(told.append)

    def post() -> None:
        bridge.post(Started(job="a"))
        for step in range(1, 501):
            bridge.post(Token(job="a", index=0, text=f"{step} "))
            bridge.post(Token(job="a", index=1, text="x"))
            bridge.post(Token(job="b", index=0, text="y"))
            bridge.post(Progress(job="a", done=step, total=500))
            bridge.post(Preview(job="a", index=0, step=step, jpeg=b""))
        bridge.post(Finished(job="a"))

    poster = threading.Thread(target=post)
    poster.start()
    poster.join()  # the loop has not turned meanwhile
    qtbot.waitUntil(lambda: bool(told) and isinstance(told[-1], Finished), timeout=10_000)
    assert isinstance(told[0], Started) and len(told) == 7
    texts = {(e.job, e.index): e.text for e in told if isinstance(e, Token)}
    assert texts == {
        ("a", 0): "".join(f"{n} " for n in range(1, 501)), ("a", 1): "x" * 500, ("b", 0): "y" * 500,
    }  # fmt: skip
    assert [e.done for e in told if isinstance(e, Progress)] == [500]
    assert [e.step for e in told if isinstance(e, Preview)] == [500]


def test_thinning_keeps_jobs_and_pictures_apart_and_never_moves_an_end() -> None:
    events = [
        Progress(job="a", done=1, total=2), Preview(job="a", index=0, step=1, jpeg=b"1"),
        Progress(job="b", done=1, total=2), Preview(job="a", index=1, step=1, jpeg=b"2"), Finished(job="a"),
        Progress(job="b", done=2, total=2), Change(jobs=("a",)),
    ]  # fmt: skip
    assert thinned(events) == [e for e in events if e != Progress(job="b", done=1, total=2)]


def test_one_that_fails_does_not_take_the_rest_with_it(bridge: Bridge, qtbot: QtBot) -> None:
    told: list[str] = []
    bridge.happened.connect(lambda e: told.append(e.text))

    def bad() -> None:
        raise ZeroDivisionError("a slot's mistake")

    with qtbot.captureExceptions() as caught:
        bridge.post(Log(job="a", text="before"))
        bridge.call(bad)
        bridge.post(Log(job="a", text="after"))
        bridge.call(lambda: told.append("and on"))
        qtbot.waitUntil(lambda: told == ["before", "after", "and on"], timeout=30_000)
    assert [kind for kind, _, _ in caught] == [ZeroDivisionError]
    bridge.post(Log(job="a", text="later"))
    qtbot.waitUntil(lambda: told[-1] == "later", timeout=30_000)


def test_results_come_on_the_main_thread_and_problems_too(tasks: Tasks, qtbot: QtBot) -> None:
    owner, told = QObject(), []

    def fail(error: Exception) -> Callable[[], None]:
        def failing() -> None:
            raise error

        return failing

    def keep(what: Any) -> None:
        told.append((threading.current_thread(), what))

    tasks.read(owner, threading.current_thread, lambda thread: keep(thread is threading.main_thread()))
    qtbot.waitUntil(lambda: len(told) == 1, timeout=30_000)
    assert told[0] == (threading.main_thread(), False)
    for work in (
        fail(BadRecipe("No.", field="seed")),
        fail(PermissionError(13, "Permission denied")),
        fail(KeyError()),
    ):
        tasks.write(owner, work, lambda _: keep("done"), keep)
    qtbot.waitUntil(lambda: len(told) == 4, timeout=30_000)
    ours, disk, strange = [what for _, what in told[1:]]
    assert (ours.sentence, ours.field) == ("No.", "seed")
    assert disk.code == "file_error" and "Permission denied" in disk.sentence
    assert strange.code == "unexpected" and "KeyError" in strange.sentence and "Traceback" in strange.detail
    assert {thread for thread, _ in told} == {threading.main_thread()}


def test_what_is_not_ours_is_printed_for_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    as_problem(BadRecipe("No."))
    assert capsys.readouterr().err == ""
    as_problem(RuntimeError("odd"))
    assert "RuntimeError: odd" in capsys.readouterr().err


def test_a_result_for_someone_who_is_gone_is_dropped(tasks: Tasks, qtbot: QtBot) -> None:
    gone, here, go_on, told = QObject(), QObject(), threading.Event(), []
    for kind in (tasks.read, tasks.write, tasks.picture):
        kind(gone, go_on.wait, lambda _: told.append("gone"), lambda _: told.append("gone"))
    shiboken6.delete(gone)
    go_on.set()
    for kind in (tasks.read, tasks.write, tasks.picture):
        kind(here, lambda: 1, lambda _: told.append("here"))
    qtbot.waitUntil(lambda: told.count("here") == 3, timeout=30_000)
    assert "gone" not in told


def test_writes_keep_their_order_and_reads_do_not_wait_for_them(tasks: Tasks, qtbot: QtBot) -> None:
    owner, go_on = QObject(), threading.Event()
    written: list[int] = []
    told: list[int] = []
    tasks.write(owner, go_on.wait)
    for number in range(200):

        def write(n: int = number) -> int:
            written.append(n)
            return n

        tasks.write(owner, write, told.append)
    read: list[int] = []
    tasks.read(owner, lambda: 7, read.append)
    qtbot.waitUntil(lambda: read == [7], timeout=30_000)
    assert not written
    go_on.set()
    qtbot.waitUntil(lambda: len(told) == 200, timeout=30_000)
    assert written == told == list(range(200))


def test_the_loop_goes_on_turning_while_something_is_written(tasks: Tasks, qtbot: QtBot) -> None:
    owner = QObject()
    done: list[bool] = []
    turns = threading.Semaphore(0)
    timer = QTimer(owner, interval=10)
    timer.timeout.connect(turns.release)
    timer.start()

    def write() -> bool:
        return all(turns.acquire(timeout=20) for _ in range(10))

    tasks.write(owner, write, done.append)
    qtbot.waitUntil(lambda: bool(done), timeout=60_000)
    assert done == [True]


def test_closing_finishes_the_writes_and_drops_what_else_waits(tasks: Tasks, qtbot: QtBot) -> None:
    owner = QObject()
    made: list[int] = []
    for number in range(20):
        tasks.write(owner, partial(made.append, number))
    tasks.close()
    assert made == list(range(20))
    tasks.write(owner, lambda: made.append(99))
    tasks.read(owner, lambda: 1, made.append)
    assert made == list(range(20))


# ---- the desk


@pytest.fixture
def desk(qtbot: QtBot, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(None, tmp_path / "window.json", WindowState())
    yield made
    made.close("cancel")
    made.deleteLater()


def test_an_end_that_comes_before_the_job_is_known_is_told_once_it_is(desk: Desk, qtbot: QtBot) -> None:
    kinds: list[tuple[str, str]] = []
    desk.happened.connect(lambda e: kinds.append((type(e).__name__, desk.track.jobs[e.job].kind)))
    problem = Problem("not_saved", "No room.")
    for event in (Queued(job="j"), Started(job="j"), Failed(job="j", problem=problem)):
        desk.bridge.post(event)
    qtbot.waitUntil(lambda: "j" in desk.track.jobs and desk.track.jobs["j"].state.ended, timeout=30_000)
    desk.track.put(Job(id="j", seq=1, recipe=TextRecipe(model="m", prompt="words")))
    qtbot.waitUntil(lambda: ("Failed", "text") in kinds, timeout=30_000)
    assert [name for name, kind in kinds if kind] == ["Failed"]
    assert desk.track.jobs["j"].problem == problem
