"""What the window says when the library is opened: of what was interrupted, and where it cannot be opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.problems import Problem
from studio.core.recipes import ImageRecipe
from studio.library.database import Database
from studio.library.jobs import Jobs


def interrupted(paths: Paths) -> str:
    """A job as a killed studio leaves it: at work, of a process that is no more."""
    database = Database(paths.database)
    jobs = Jobs(database)
    job = jobs.add(ImageRecipe(prompt="a lost picture", model="painter", seed=1, steps=2), owner="1:1.00")
    jobs.start(job.id)
    database.close()
    return job.id


def test_an_interrupted_job_is_told_and_run_again_with_one_press(paths: Paths, open_window: Callable[..., Any]) -> None:
    lost = interrupted(paths)
    rig = open_window()
    rig.until(lambda: rig.window.notice.isVisible())
    assert "interrupted" in rig.window.notice.sentence.text()
    assert rig.desk.track.jobs[lost].state is JobState.FAILED
    rig.window.notice.act.click()
    rig.until(lambda: rig.idle() and [w.title for w in rig.session.works()] == ["a lost picture"])
    assert lost not in rig.desk.track.jobs


def test_it_is_told_once_and_not_again_at_the_next_start(paths: Paths, open_window: Callable[..., Any]) -> None:
    interrupted(paths)
    first = open_window()
    first.until(lambda: first.window.notice.isVisible())
    first.close()
    second = open_window()
    second.until(lambda: second.desk.models_known)
    assert second.session.interrupted == ()
    assert not second.window.notice.isVisible()


def test_a_library_that_cannot_be_opened_is_said_wherever_it_is_waited_for(open_window: Callable[..., Any]) -> None:
    rig = open_window(opened=False)
    rig.desk.not_opened(Problem("library_broken", "The library is damaged.", "Rebuild it."))
    rig.until(lambda: rig.window.strip.status.whole() == "The library is damaged.")
    assert rig.window.tab.history.nothing.text() == "The library is damaged."
    assert rig.window.notice.hint.text() == "Rebuild it."


def test_a_slider_of_the_settings_is_written_when_it_rests_and_when_the_dialog_closes(rig: Any) -> None:
    from studio.ui.dialogs import SettingsDialog

    written: list[dict[str, Any]] = []
    change = rig.session.change_settings
    rig.session.change_settings = lambda **values: (written.append(values), change(**values))[1]
    dialog = SettingsDialog(rig.window, rig.desk)
    dialog.open()
    for grace in (1.0, 2.0, 4.0, 5.0):
        dialog.rows["grace_seconds"].put(grace)
        dialog.rows["grace_seconds"].editor.changed.emit()
    rig.until(lambda: rig.session.settings.grace_seconds == 5.0)
    assert written == [{"grace_seconds": 5.0}]
    dialog.rows["grace_seconds"].put(6.0)
    dialog.rows["grace_seconds"].editor.changed.emit()
    dialog.accept()
    rig.until(lambda: rig.session.settings.grace_seconds == 6.0)
