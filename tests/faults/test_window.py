"""What the window shows and does when something goes wrong below it."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import QTimer

from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.library.files import Files
from studio.runtime import watch
from tests.ui.rig import FakeSession, Rig


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def worker_of(rig: Rig, kind: str) -> int:
    assert rig.session is not None
    found = [pid for lane, _, pid in rig.session.workers() if lane == kind and pid]
    return found[0] if found else 0


def test_a_full_disk_is_told_with_a_way_to_try_again_and_nothing_is_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(Files, "settle", _full)
        rig.make("image", "a precious picture")
        rig.until(rig.window.notice.act.isVisible)
        assert "the disk is full" in rig.window.notice.sentence.text()
        assert rig.window.notice.act.text().strip() == "Try now"
        assert "could not be kept yet" in rig.window.strip.status.whole()
        (job,) = rig.desk.track.running()
        assert job.state is JobState.RUNNING, "it has not ended: it is not saved"
        assert rig.window.strip.cancel.text().strip() == "Discard"
        assert rig.desk.track.current("image") is None, "the next picture can be made"
        rig.make("text", "the lane goes on")
        assert rig.session is not None
        rig.until(lambda: len(rig.session.held()) == 2)  # type: ignore[union-attr]
    rig.window.notice.act.click()
    rig.until(lambda: "saved again" in rig.window.notice.sentence.text())


def test_a_worker_that_does_not_answer_is_shown_as_such_and_cancel_ends_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(watch, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(watch, "ASLEEP_SECONDS", 10.0)
    rig.make("image", "hold me")
    rig.until(lambda: (job := rig.desk.track.current("image")) is not None and job.done > 0)
    os.kill(worker_of(rig, "image"), signal.SIGSTOP)
    rig.until(lambda: "not responding" in rig.window.strip.status.whole())
    rig.window.strip.cancel.click()
    rig.until(rig.idle)
    assert rig.made("image", "the next one").title == "the next one"


def test_a_text_that_is_begun_again_is_shown_once(rig: Rig) -> None:
    rig.make("text", "hold on")
    rig.until(lambda: (job := rig.desk.track.current("text")) is not None and job.texts)
    job = rig.desk.track.current("text")
    assert job is not None
    before = job.texts[0]
    os.kill(worker_of(rig, "text"), signal.SIGKILL)
    rig.until(lambda: not job.texts)
    rig.until(lambda: job.texts)
    assert job.texts[0] == before, "not twice over"
    tab = rig.window.tabs["text"]
    rig.until(lambda: tab.page.turns[-1].answers and tab.page.turns[-1].answers[0].text.toPlainText() == before)
    rig.window.strip.cancel.click()
    rig.until(rig.idle)
    (part,) = rig.session.works()  # type: ignore[union-attr]
    assert not part.complete


def two_works(paths: Paths) -> None:
    """A library with two works."""
    with FakeSession(paths) as session:
        for words in ("one", "two"):
            session.wait(session.submit(session.recipe("image", {"prompt": words}).recipe).id)


def test_a_damaged_library_is_brought_back_with_one_press(paths: Paths, open_window: Callable[..., Any]) -> None:
    two_works(paths)
    paths.database.write_bytes(b"garbage " * 4000)
    rig = open_window(opened=False)

    def restorer() -> str:
        from studio.app.session import restore_library

        return restore_library(paths)

    def opener() -> FakeSession:
        rig.session = FakeSession(paths)
        return rig.session

    rig.desk.opener, rig.desk.restorer = opener, restorer
    rig.desk.tasks.read(rig.window, opener, rig.desk.open, rig.desk.not_opened)
    rig.until(rig.window.notice.act.isVisible)
    assert "damaged" in rig.window.notice.sentence.text() and "Restore" in rig.window.notice.act.text()
    rig.window.notice.act.click()
    rig.until(lambda: rig.session is not None and rig.desk.models_known)
    rig.until(lambda: "2 works" in rig.window.notice.sentence.text())
    assert len(rig.session.works()) == 2
    assert rig.desk.closed_because == ""
    assert next(paths.damaged.rglob("studio.db")).read_bytes().startswith(b"garbage")


def test_a_library_of_a_newer_studio_can_be_looked_at_and_says_why_nothing_is_made(
    paths: Paths,
    open_window: Callable[..., Any],
) -> None:
    two_works(paths)
    db = sqlite3.connect(paths.database)
    db.execute("pragma user_version = 99")
    db.close()
    rig = open_window(opened=False)
    rig.session = FakeSession(paths)
    rig.desk.open(rig.session)
    rig.until(lambda: rig.window.notice.isVisible() and "newer studio" in rig.window.notice.sentence.text())
    tab = rig.tab("image")
    rig.until(lambda: len(rig.session.works()) == 2)
    tab.form.put_some({"prompt": "x"})
    tab.make()
    rig.until(tab.notice.isVisible)
    assert "newer studio" in tab.notice.sentence.text()


def test_a_slow_disk_does_not_stop_the_window(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No flush ends before the window's loop has turned: a window that waited for one would not come back."""
    real = os.fsync
    turned = threading.Condition()
    turns, waited = [0], list[bool]()

    def turn() -> None:
        with turned:
            turns[0] += 1
            turned.notify_all()

    def slow(handle: int) -> None:
        with turned:
            enough = turns[0] + 3
            waited.append(turned.wait_for(lambda: turns[0] >= enough, 10))
        real(handle)

    monkeypatch.setattr(os, "fsync", slow)
    timer = QTimer(rig.window, interval=10)
    timer.timeout.connect(turn)
    rig.tab("image")
    timer.start()
    rig.made("image", "slowly kept")
    timer.stop()
    assert len(waited) >= 3 and all(waited)


def test_a_work_that_another_program_changed_is_marked_and_not_written_over(rig: Rig) -> None:
    assert rig.session is not None
    first, second = rig.made("image", "one"), rig.made("image", "two")
    details = rig.window.tabs["image"].details
    path = rig.session.path(first)
    path.write_bytes(path.read_bytes() + b"edited")
    details.show_work(first)
    rig.until(details.badge.isVisible)
    assert "changed by another program" in details.badge.text()
    rig.session.rebuild()
    assert path.read_bytes().endswith(b"edited")
    path.unlink()
    details.show_work(first)
    rig.until(lambda: details.badge.isVisible() and "not there" in details.badge.text())
    details.show_work(second)
    rig.desk.tasks.picture(rig.window, lambda: None, lambda _: rig.problems.append("through"))
    rig.until(lambda: rig.problems == ["through"])
    assert not details.badge.isVisible()
