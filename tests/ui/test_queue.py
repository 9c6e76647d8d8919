"""The job strip and the queue above it, with jobs that really run, wait, fail and do not hear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
from PySide6.QtCore import QItemSelectionModel, QModelIndex, QObject, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu

from studio.core.events import Cancelled, Cancelling, Failed, Finished, Loading, Measured, Progress, Queued, Started
from studio.core.jobs import Job, JobState
from studio.core.problems import Problem
from studio.core.recipes import ImageRecipe, TextRecipe, words_of
from studio.ui.queue import JOB
from studio.ui.track import KEPT, Track
from tests.effort import effort
from tests.ui.rig import Rig

MOVE = Qt.DropAction.MoveAction
ALT = Qt.KeyboardModifier.AltModifier


def titles(rig: Rig) -> list[str]:
    """Of what waits, as the panel lists it."""
    model = rig.window.queue.model
    jobs = [model.job(row) for row in range(model.rowCount())]
    return [job.title for job in jobs if job is not None and job.state is JobState.QUEUED]


def in_session(rig: Rig) -> list[str]:
    assert rig.session is not None
    return [words_of(rig.session.job(job).recipe) for job in rig.session.queue()]


def choose(rig: Rig, title: str) -> Any:
    """Select a row of the panel. Returns its index."""
    queue = rig.window.queue
    model = queue.model

    def rows() -> list[int]:
        return [r for r in range(model.rowCount()) if (job := model.job(r)) is not None and job.title == title]

    rig.until(rows)  # it is drawn at most ten times a second
    row = rows()[0]
    # the view's own setCurrentIndex looks at the keys that are down, which a test before may have left so
    select = QItemSelectionModel.SelectionFlag.ClearAndSelect
    queue.view.selectionModel().setCurrentIndex(model.index(row), select)
    return model.index(row)


def drop(rig: Rig, title: str, row: int) -> bool:
    model = rig.window.queue.model
    data = model.mimeData([choose(rig, title)])
    return bool(model.dropMimeData(data, MOVE, row, 0, QModelIndex()))


def lined_up(rig: Rig, *words: str) -> None:
    """One picture that holds on, and others that wait behind it."""
    rig.make("image", "hold on")
    rig.until(lambda: rig.running("image"))
    for word in words:
        rig.make("image", word)
    rig.until(lambda: in_session(rig) == list(words) and titles(rig) == list(words))


def test_the_strip_shows_what_runs_and_cancels_only_that(rig: Rig) -> None:
    strip = rig.window.strip
    assert not strip.bar.isVisible() and not strip.cancel.isVisible()
    rig.make("image", "hold a fox", steps=8)
    rig.until(lambda: strip.status.whole() == "step 1 of 8")
    assert strip.bar.isVisible() and (strip.bar.value(), strip.bar.maximum()) == (125, 1000)
    assert strip.title.text() == "Picture" and strip.cancel.isEnabled()
    rig.make("image", "second")
    rig.make("speech", "hold the line.")
    rig.until(lambda: rig.running("speech") and len(titles(rig)) == 1)
    rig.until(lambda: strip.toggle.text().strip() == "3 jobs")
    assert strip.title.text() == "Reading"  # that of the open tab stands in front, the others are pills
    chips = list(strip._chips.values())
    assert len(chips) == 1 and chips[0].text().strip().startswith("Picture · step 1 of 8")
    chips[0].click()
    assert rig.desk.state.tab == "image"
    first = rig.desk.track.current("image")
    assert first is not None and strip.title.text() == "Picture"
    strip.cancel.click()
    assert not strip.cancel.isEnabled() and strip.status.whole() == "cancelling …"  # at once
    rig.until(lambda: first.state.ended)
    rig.until(lambda: not rig.desk.track.unfinished("image"))
    states = {job.title: job.state for job in rig.desk.track.jobs.values()}
    assert states == {
        "hold a fox": JobState.CANCELLED, "second": JobState.FINISHED, "hold the line.": JobState.RUNNING,
    }  # fmt: skip


def test_a_waiting_job_is_moved_with_the_mouse_and_the_keys(rig: Rig) -> None:
    rig.window.toggle_queue()
    lined_up(rig, "a", "b", "c", "d")
    queue = rig.window.queue
    row = {title: i + 1 for i, title in enumerate("abcd")}  # the one that runs is in row 0
    assert drop(rig, "d", row["b"])
    rig.until(lambda: in_session(rig) == titles(rig) == ["a", "d", "b", "c"])
    assert drop(rig, "a", -1)  # below the last row
    rig.until(lambda: in_session(rig) == titles(rig) == ["d", "b", "c", "a"])
    assert drop(rig, "c", 0)  # above what runs: first of what waits
    rig.until(lambda: in_session(rig) == titles(rig) == ["c", "d", "b", "a"])
    assert not drop(rig, "hold on", 3)  # what runs stays
    assert not queue.model.flags(choose(rig, "hold on")) & Qt.ItemFlag.ItemIsDragEnabled
    assert not queue.up_button.isEnabled() and queue.cancel_button.isEnabled()

    queue.view.setFocus()
    choose(rig, "b")
    for _ in range(2):
        QTest.keyClick(queue.view, Qt.Key.Key_Up, ALT)
    rig.until(lambda: in_session(rig) == titles(rig) == ["b", "c", "d", "a"])
    assert [job.title for job in queue.chosen()] == ["b"]  # it stays chosen as it moves
    QTest.keyClick(queue.view, Qt.Key.Key_Up, ALT)
    for _ in range(2):
        QTest.keyClick(queue.view, Qt.Key.Key_Down, ALT)
    rig.until(lambda: in_session(rig) == titles(rig) == ["c", "d", "b", "a"])
    choose(rig, "a")
    queue.first_button.click()
    rig.until(lambda: in_session(rig) == titles(rig) == ["a", "c", "d", "b"])

    # cancelled with the key: only the chosen ones
    choose(rig, "c")
    QTest.keyClick(queue.view, Qt.Key.Key_Delete)
    rig.until(lambda: in_session(rig) == titles(rig) == ["a", "d", "b"])
    assert rig.running("image") and rig.problems == []


def test_the_menu_raises_and_lowers_and_pausing_holds_back(rig: Rig) -> None:
    rig.window.toggle_queue()
    lined_up(rig, "a", "b", "c")
    queue, strip = rig.window.queue, rig.window.strip

    def entry(title: str, *names: str) -> None:
        index = choose(rig, title)
        queue._menu(queue.view.visualRect(index).center())
        menu = queue.findChildren(QMenu, options=Qt.FindChildOption.FindDirectChildrenOnly)[-1]
        shown: Any = menu
        for name in names:
            action = next(a for a in shown.actions() if a.text() == name)
            if action.menu() is not None:
                shown = action.menu()
            else:
                action.trigger()
        menu.close()

    entry("c", "Priority", "High")
    rig.until(lambda: in_session(rig) == titles(rig) == ["c", "a", "b"])
    entry("a", "Priority", "Low")
    rig.until(lambda: in_session(rig) == titles(rig) == ["c", "b", "a"])
    wanted = {"c": 10, "b": 0, "a": -10}
    rig.until(lambda: {j.title: j.priority for j in rig.desk.track.waiting()} == wanted)
    entry("b", "Run next")
    rig.until(lambda: in_session(rig) == titles(rig) == ["b", "c", "a"])

    assert not strip.paused.isVisible() and queue.pause_button.text().strip() == "Pause"
    queue.pause_button.click()
    rig.until(strip.paused.isVisible)
    assert queue.pause_button.text().strip() == "Go on"
    strip.cancel.click()
    rig.until(lambda: not rig.running("image"))
    assert rig.session is not None and rig.session.paused
    rig.until(lambda: strip.status.whole().startswith("waiting"))
    assert titles(rig) == ["b", "c", "a"]
    rig.window.do("pause_queue")
    rig.until(lambda: not strip.paused.isVisible())
    rig.until(rig.idle)
    ends = [j.title for j in rig.desk.track.ended()]
    assert ends == ["a", "c", "b", "hold on"]  # the newest end first
    assert rig.problems == []


def test_a_failed_job_says_why_and_runs_again_once(rig: Rig) -> None:
    rig.window.toggle_queue()
    strip, queue = rig.window.strip, rig.window.queue
    rig.make("image", "fail & <b>say why</b>")
    rig.until(strip.retry.isVisible)
    assert strip.status.whole() == "It needs 9 GB. · fail & <b>say why</b>"
    assert not strip.cancel.isVisible() and not strip.bar.isVisible()
    index = choose(rig, "fail & <b>say why</b>")
    assert "It needs 9 GB." in index.data() and index.data(JOB).problem.hint == "Try less."
    tip = index.data(Qt.ItemDataRole.ToolTipRole)
    assert "<b>" not in tip and "Try less." in tip
    queue.view.grab()
    assert queue.retry_button.isEnabled() and queue.cancel_button.text().strip() == "Put away"

    before = {j.id for j in rig.session.jobs()} if rig.session else set()
    strip.retry.click()
    strip.retry.click()  # a second press finds nothing to run again
    rig.until(lambda: rig.idle() and strip.retry.isVisible())
    fresh = [j for j in rig.session.jobs() if j.id not in before] if rig.session else []
    assert len(fresh) == 1 and fresh[0].state is JobState.FAILED
    rig.until(lambda: [j.id for j in rig.desk.track.ended()] == [fresh[0].id])  # in place of the old one
    rig.until(lambda: queue.model.job(0) is rig.desk.track.jobs[fresh[0].id])

    choose(rig, "fail & <b>say why</b>")
    queue.retry_button.click()
    known = {*before, fresh[0].id}
    rig.until(lambda: [j.id for j in rig.desk.track.ended() if j.id not in known])
    last = rig.desk.track.ended()[0]
    rig.until(lambda: strip._job == last.id and queue.model.rowCount() == 1 and queue.model.job(0) is last)

    strip.put_away.click()
    assert not strip.retry.isVisible() and not strip.put_away.isVisible()
    rig.until(lambda: queue.model.rowCount() == 0 and queue.nothing.isVisible())


def test_a_failure_is_shown_though_a_later_job_ended_before_it(rig: Rig) -> None:
    strip = rig.window.strip
    rig.make("image", "hold me")
    rig.until(lambda: rig.running("image"))
    rig.make("text", "quick")
    rig.until(lambda: [j.title for j in rig.desk.track.ended()] == ["quick"])
    assert rig.session is not None
    for attempt in range(2):  # the first time it begins again by itself
        rig.until(
            lambda: rig.running("image") and any(pid and lane == "image" for lane, _, pid in rig.session.workers())
        )
        job = rig.desk.track.current("image")
        assert job is not None
        rig.until(lambda job=job: job.done > 0)
        for _, _, pid in [w for w in rig.session.workers() if w[0] == "image"]:
            psutil.Process(pid).kill()
        rig.until(lambda job=job, attempt=attempt: job.state.ended if attempt else not job.done)
    rig.until(strip.retry.isVisible)
    assert "went away" in strip.status.whole() and "hold me" in strip.status.whole()


def test_one_that_does_not_hear_is_ended_and_the_queue_goes_on(rig: Rig) -> None:
    assert rig.session is not None
    rig.session.change_settings(grace_seconds=0.3)
    strip = rig.window.strip
    rig.make("image", "deaf")
    rig.until(lambda: strip.status.whole().startswith("step"))
    rig.make("image", "next")
    rig.until(lambda: titles(rig) == ["next"])
    job = rig.desk.track.current("image")
    assert job is not None
    strip.cancel.click()
    rig.until(lambda: strip.status.whole() == "cancelling …")
    assert not strip.cancel.isEnabled() and job.state is JobState.RUNNING
    rig.until(lambda: job.state.ended)
    assert job.status() == "cancelled"  # its step would take longer than is waited
    rig.until(rig.idle)
    assert {j.title: j.state for j in rig.desk.track.jobs.values()}["next"] is JobState.FINISHED


def test_the_second_tick_stops_with_the_last_job(rig: Rig) -> None:
    strip = rig.window.strip
    rig.make("text", "hold")
    rig.until(strip._second.isActive)
    rig.window.do("stop")
    rig.until(lambda: rig.idle() and not strip._second.isActive())


# ---- what is known of jobs


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def picture(job: str, words: str = "x", seq: int = 1, count: int = 1) -> Job:
    return Job(id=job, seq=seq, recipe=ImageRecipe(model="m", prompt=words, count=count))


def test_the_time_left_counts_from_the_first_step_and_goes_on_between_two(qtbot: Any) -> None:
    clock, owner = Clock(), QObject()
    track = Track(owner, clock)
    track.put(picture("a"))
    job = track.jobs["a"]
    for event in (Started(job="a"), Loading(job="a", model="Painter")):
        track.take(event)
    assert job.status() == "loading Painter …" and job.seconds_left() is None
    clock.now += 60  # loading does not count
    track.take(Progress(job="a", done=0, total=20, unit="steps"))
    clock.now += 30  # nor what comes before the first step
    track.take(Progress(job="a", done=1, total=20, unit="steps"))
    assert job.seconds_left() is None and job.status() == "step 1 of 20"
    clock.now += 2
    track.take(Progress(job="a", done=2, total=20, unit="steps"))
    assert job.seconds_left() == 36 and job.status() == "step 2 of 20 · 36 s left"
    clock.now += 1.5
    assert job.seconds_left() == 34.5
    clock.now += 100
    assert job.seconds_left() == 0 and "left" not in job.status()
    track.take(Progress(job="a", done=20, total=20, unit="steps"))
    assert job.seconds_left() is None and job.share == 1


def test_a_training_tells_itself_how_long_it_takes(qtbot: Any) -> None:
    clock, owner = Clock(), QObject()
    track = Track(owner, clock)
    track.put(picture("a"))
    job = track.jobs["a"]
    track.take(Started(job="a"))
    track.take(Progress(job="a", done=1, total=20, unit="steps"))
    clock.now += 2
    track.take(Progress(job="a", done=2, total=20, unit="steps"))
    track.take(Measured(job="a", step=2, seconds=4.0, values={"loss": 1.0, "left": 80.0}))
    assert job.seconds_left() == 80
    clock.now += 5
    assert job.seconds_left() == 75
    track.take(Measured(job="a", step=3, seconds=6.0, values={"loss": 1.0, "left": 10.0, "trial": 1.0}))
    assert job.seconds_left() == 31, "a trial's own time is not that of the search"


def test_writing_is_not_measured_by_reading(qtbot: Any) -> None:
    clock, owner = Clock(), QObject()
    track = Track(owner, clock)
    track.put(Job(id="t", seq=1, recipe=TextRecipe(model="m", prompt="x")))
    track.take(Started(job="t"))
    job = track.jobs["t"]
    for done in (1, 1000):
        track.take(Progress(job="t", done=done, total=2000, unit="tokens", phase="reading"))
        clock.now += 1
    track.take(Progress(job="t", done=1001, total=2000, unit="tokens", phase="writing"))
    assert job.seconds_left() is None
    clock.now += 1
    track.take(Progress(job="t", done=1011, total=2000, unit="tokens", phase="writing"))
    assert round(job.seconds_left() or 0) == 99 and "10 tokens/s" in job.status()


def test_an_ended_job_stays_ended_whatever_is_told_of_it_later(qtbot: Any) -> None:
    owner = QObject()
    track = Track(owner)
    track.put(picture("a"))
    track.take(Failed(job="a", problem=Problem("x", "No.")))
    track.take(Started(job="a"))
    track.put(picture("a"))
    assert track.jobs["a"].state is JobState.FAILED and track.jobs["a"].status() == "No."
    track.put(picture("b"))
    track.take(Started(job="b"))
    track.take(Cancelling(job="b"))
    assert track.jobs["b"].status() == "cancelling …" and track.jobs["b"].state is JobState.RUNNING
    track.dismiss("b")
    assert "b" in track.jobs  # what runs cannot be put away
    track.take(Cancelled(job="b"))
    track.dismiss("b")
    assert "b" not in track.jobs
    track.take(Progress(job="b", done=1, total=2))
    assert "b" not in track.jobs


def test_old_ends_are_forgotten_and_what_waits_never(qtbot: Any) -> None:
    owner = QObject()
    track = Track(owner)
    for number in range(200):
        track.put(picture(f"w{number}"))
        track.put(picture(f"e{number}"))
        track.take(Finished(job=f"e{number}"))
    assert len(track.waiting()) == 200 and KEPT <= len(track.ended()) <= KEPT + 1
    assert track.ended()[0].id == "e199"


def test_a_job_is_listed_when_its_kind_is_known(qtbot: Any) -> None:
    owner = QObject()
    track = Track(owner)
    track.take(Queued(job="a"))
    track.take(Started(job="a"))
    assert not track.running() and not track.waiting()
    track.put(picture("a", count=4))
    (job,) = track.running()
    assert (job.kind, job.count) == ("image", 4)


def test_a_long_queue_is_drawn_in_time_that_grows_with_its_length(
    open_window: Callable[..., Rig], qapp: QApplication
) -> None:
    rig = open_window(opened=False)
    track, queue = rig.desk.track, rig.window.queue
    rig.window.toggle_queue()

    def refresh() -> None:
        queue.model.refresh()
        queue.refresh()
        rig.window.strip.refresh()

    def refreshing(count: int) -> float:
        for number in range(len(track.jobs), count):
            track.put(picture(f"j{number}", f"picture {number}", number))
        track.set_order([f"j{number}" for number in range(count)])
        queue.model.refresh()
        queue.view.grab()
        best = 9.0
        for turn in range(5):
            track.set_order([f"j{number}" for number in range(count)][:: 1 if turn % 2 else -1])
            best = min(best, effort(refresh))
        return best

    short, long = refreshing(50), refreshing(500)
    assert queue.model.rowCount() == 500
    assert long < 1 and long < 40 * max(short, 0.001)
    queue.view.selectAll()
    assert len(queue.chosen()) == 500
    queue.view.scrollToBottom()
    queue.view.grab()
