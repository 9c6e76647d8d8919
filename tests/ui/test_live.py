"""Live: the picture follows the prompt; what is out of date is dropped; Generate makes the same picture as a work."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from studio.ui.canvas import _Shows
from tests.ui.hands import press


@pytest.fixture
def live(rig: Any) -> tuple[Any, Any]:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "an apple", "steps": 2})
    QTest.mouseClick(tab.live_button, Qt.MouseButton.LeftButton) if tab.tools.isVisible() else tab.toggle_live()
    rig.until(lambda: tab.canvas._caption == "live")
    return rig, tab


def test_a_picture_comes_without_being_asked_for_and_is_not_kept(live: Any) -> None:
    rig, tab = live
    assert tab.live_button.isChecked()
    assert tab.canvas._shows is _Shows.PREVIEW
    assert tab.form.rows["seed"].value() is not None, "held, so that Generate makes the same"
    assert rig.session.works() == []
    assert rig.idle()
    assert not tab.save_button.isEnabled()


def test_typing_paints_anew_and_only_the_last_word_counts(live: Any) -> None:
    rig, tab = live
    seen: list[Any] = []
    real = rig.session.aside
    rig.session.aside = lambda kind, given, *more: (seen.append(given["prompt"]), real(kind, given, *more))[1]
    editor = tab.form.words.editor.target()
    editor.setFocus()
    QTest.keyClicks(editor, " hold")
    rig.until(lambda: seen)
    QTest.keyClicks(editor, "ing pears")
    rig.until(lambda: len(seen) == 2 and tab.canvas._caption == "live")
    assert seen == ["an apple hold", "an apple holding pears"]
    assert rig.session.works() == []


def test_generate_keeps_what_is_seen(live: Any) -> None:
    rig, tab = live
    seed = tab.form.rows["seed"].value()
    press(rig, Qt.Key.Key_Return)
    rig.until(lambda: tab.work is not None)
    assert tab.work.recipe.seed == seed
    assert not tab.live.on
    assert not tab.live_button.isChecked()


def test_stopping_goes_back_to_what_was_there(rig: Any) -> None:
    work = rig.made("image", "an old house")
    tab = rig.tab("image")
    rig.until(lambda: tab.canvas._key == work.id)
    tab.toggle_live()
    rig.until(lambda: tab.canvas._caption == "live")
    tab.toggle_live()
    rig.until(lambda: tab.canvas._key == work.id)


def test_the_held_seed_goes_with_live_and_a_click_in_the_history_ends_it(rig: Any) -> None:
    work = rig.made("image", "an old house", seed=None)
    tab = rig.tab("image")
    rig.until(lambda: tab.canvas._key == work.id)
    tab.form.put_some({"seed": None})
    tab.toggle_live()
    rig.until(lambda: tab.canvas._caption == "live")
    tab.show_work(work)
    assert not tab.live.on
    assert tab.form.rows["seed"].value() is None
    rig.until(lambda: tab.canvas._key == work.id)
    tab.form.put_some({"seed": 5})
    tab.toggle_live()
    rig.until(lambda: tab.canvas._caption == "live")
    tab.stop()
    assert not tab.live.on
    assert tab.form.rows["seed"].value() == 5


def test_what_cannot_be_painted_is_said_and_live_goes_on(live: Any) -> None:
    rig, tab = live
    tab.form.put_some({"prompt": "fail"})
    tab.live.touch()
    rig.until(tab.notice.isVisible)
    assert "9 GB" in tab.notice.sentence.text()
    tab.form.put_some({"prompt": "a plum"})
    tab.canvas._caption = ""
    tab.live.touch()
    rig.until(lambda: tab.canvas._caption == "live")


def test_a_mask_that_is_drawn_is_followed_too(rig: Any) -> None:
    work = rig.made("image", "an old house")
    tab = rig.tab("image")
    rig.until(lambda: tab.canvas._key == work.id)
    tab.form.put_some({"model": "painter", "prompt": "a roof"})
    tab.paint()
    rig.until(lambda: tab.painting.active)
    page = tab.painting.page
    tab.toggle_live()
    rig.until(page.inset.isVisible)
    asked: list[Any] = []
    real = rig.session.aside
    rig.session.aside = lambda kind, given, listen, pictures: (
        asked.append(pictures),
        real(kind, given, listen, pictures),
    )[1]
    page.document.fill_mask()
    rig.until(lambda: asked)
    assert set(asked[0]) == {"image", "mask"}
    rig.until(lambda: tab.live._running == "")
    rig.until(lambda: not list(rig.session.paths.inputs.iterdir()))
    assert len(rig.session.works()) == 1


def test_an_end_that_is_told_before_the_beginning_leaves_nothing_running(rig: Any) -> None:
    live = rig.tab("image").live
    begun: list[Any] = []
    real, rig.desk.tasks.write = rig.desk.tasks.write, lambda owner, work, then, refused: begun.append((work, then))
    live.start(lambda: ({"prompt": "an apple", "model": "painter"}, dict))
    rig.until(lambda: begun)
    rig.desk.tasks.write = real
    work, then = begun[0]
    shown: list[Any] = []
    live.shown.connect(lambda image, done: shown.append(done))
    name = work()
    rig.until(lambda: True in shown)
    then(name)
    assert live._running == ""
    live.stop()
