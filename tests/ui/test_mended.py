"""Things a newcomer stumbled over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton

from studio.core.jobs import JobState


def test_ctrl_enter_still_works_after_the_menu_beside_the_button_was_open(rig: Any) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "a cat"})
    tab.more.menu().aboutToShow.emit()
    assert any("Ctrl+Enter" in action.text() for action in tab.more.menu().actions())
    tab.form.words.editor.target().setFocus()
    QTest.keyClick(rig.window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 1)


def test_the_window_fits_a_full_hd_screen_at_double_size(rig: Any) -> None:
    for kind in ("text", "image", "speech"):
        rig.window.go(kind)
    rig.window.toggle_queue()
    rig.window.resize(960, 520)
    rig.until(lambda: (rig.window.width(), rig.window.height()) == (960, 520))
    inside = rig.window.rect()
    tab = rig.tab("image")
    for widget in (tab.go, tab.details.reuse_button, rig.window.strip.toggle):
        corner = widget.mapTo(rig.window, widget.rect().bottomRight())
        assert inside.contains(corner), f"{widget.objectName()} ends at {corner.toTuple()}"


def test_an_older_batch_can_be_seen_as_a_grid_again(open_window: Callable[..., Any]) -> None:
    first = open_window()
    first.make("image", "three cats", count=3)
    first.until(lambda: first.idle() and len(first.tab("image").history.model.works) == 3)
    first.made("image", "a dog", count=1)
    first.close()
    rig = open_window()
    tab = rig.tab("image")
    rig.until(lambda: tab.work is not None)
    assert not tab.grid_button.isEnabled()
    tab.show_work(tab.history.model.works[2])
    rig.until(tab.grid_button.isEnabled)
    tab.toggle_grid()
    rig.until(lambda: tab.canvas._shows.name == "GRID")
    assert len(tab._batch) == 3


def test_what_the_user_cancelled_does_not_stay_in_the_strip(rig: Any) -> None:
    rig.make("image", "hold")
    rig.until(lambda: rig.running("image") and rig.window.strip.cancel.isVisible())
    QTest.mouseClick(rig.window.strip.cancel, Qt.MouseButton.LeftButton)
    rig.until(rig.idle)
    rig.until(lambda: not rig.window.strip.retry.isVisible() and not rig.window.strip.title.text())
    (job,) = rig.desk.track.jobs.values()
    assert job.state is JobState.CANCELLED  # the queue still has it, to be run again


def test_a_message_covers_nothing_that_moves(rig: Any) -> None:
    place = rig.window.pages.geometry()
    rig.window.tell("The conversation was removed.", "", ("Undo", lambda: None))
    assert rig.window.notice.isVisible() and rig.window.pages.geometry() == place
    assert rig.window.middle.geometry().contains(rig.window.notice.geometry())
    act = rig.window.notice.findChild(QPushButton)
    assert act is not None and act.isVisible()


def test_once_more_follows_the_form(rig: Any) -> None:
    rig.made("text", "A story", max_tokens=5, seed=7)
    tab = rig.tab("text")
    tab.form.put_some({"max_tokens": 9})
    tab.regenerate()
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 2)
    recipe = tab.history.model.works[0].recipe
    assert recipe.max_tokens == 9 and recipe.seed != 7


def test_the_page_the_history_and_the_details_mean_the_same_text(rig: Any) -> None:
    text = rig.made("text", "A story")
    tab = rig.tab("text")
    rig.until(lambda: tab.work is not None and tab.work.id == text.id)
    assert [w.id for w in tab.history.view.chosen()] == [text.id]
    tab._set_mode(True)
    tab.composer.setPlainText("Hello")
    tab.make()
    rig.until(lambda: rig.idle() and tab.work.id != text.id)
    tab._set_mode(False)
    assert tab.work.id == text.id and tab.details.work.id == text.id


def test_a_text_is_no_longer_than_the_model_can_read(rig: Any) -> None:
    tab = rig.tab("text")
    row = tab.form.rows["max_tokens"]
    row.put(100_000)
    assert row.value() == 4096
    tab.form.put_some({"model": "other-writer"})
    row.put(100_000)
    assert row.value() == 100_000
