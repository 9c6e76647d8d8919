"""The Image tab at work: previews, batches, comparing, and looking elsewhere meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QGuiApplication, QImage
from PySide6.QtTest import QTest

from studio.ui.canvas import _Shows
from tests.ui.hands import click_work, entry, press

Key, Mod, Button = Qt.Key, Qt.KeyboardModifier, Qt.MouseButton


def shows(tab: Any) -> str:
    """What is on the canvas: its kind, and of a picture its work."""
    return str(tab.canvas._key) if tab.canvas._shows is _Shows.PICTURE else tab.canvas._shows.name


def cell_of(tab: Any, at: int) -> QPoint:
    spot: QPoint = tab.canvas._cell_rects()[at].center().toPoint()
    return spot


@pytest.fixture
def one(rig: Any) -> tuple[Any, Any, Any]:
    """Window, image tab, and a work that is shown."""
    work = rig.made("image", "the old one")
    tab = rig.tab("image")
    rig.until(lambda: shows(tab) == work.id)
    return rig, tab, work


def test_previews_come_with_a_caption_and_the_picture_takes_their_place(rig: Any) -> None:
    tab = rig.tab("image")
    assert tab._stack.currentWidget() is tab.empty
    assert not tab.tools.isVisible()
    captions: list[str] = []
    real = tab.canvas.show_preview

    def show_preview(image: QImage, caption: str = "") -> None:
        captions.append(caption)
        real(image, caption)

    tab.canvas.show_preview = show_preview
    rig.make("image", "slow apple", steps=8, width=64, height=48)
    rig.until(lambda: shows(tab) == "PREVIEW")
    assert tab._stack.currentWidget() is tab.canvas
    assert captions[0] == "getting ready …"  # the first press is seen to do something
    rig.until(lambda: tab.canvas.accessibleDescription().startswith("preview · step "))
    rig.until(lambda: tab.canvas._natural().toTuple() == (64, 48))  # the size of what is being made
    rig.until(lambda: rig.idle() and tab.work is not None and shows(tab) == tab.work.id)
    assert len(set(captions)) > 2
    assert all(c.startswith("preview · step ") for c in captions[1:]) and captions[-1].endswith(" of 8")
    assert tab.canvas._layer.levels[0].pixelColor(5, 5) == QColor(200, 40, 40)
    assert tab.canvas.accessibleName() == "Picture: slow apple"
    assert tab.tools.isVisible() and tab.save_button.isEnabled() and not tab.compare_button.isEnabled()
    assert tab.form.rows["seed"].value() is None  # chance stays chance
    assert rig.problems == []


def test_a_batch_is_a_grid_whose_cells_open(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    rig.make("image", "slow three", count=3, steps=2)
    rig.until(lambda: "picture 2 of 3" in tab.canvas.accessibleDescription())
    rig.until(lambda: rig.idle() and shows(tab) == "GRID" and len(tab.history.model.works) == 4)
    rig.until(lambda: all(cell is not None for cell in tab.canvas._cells))
    assert len(tab.canvas._cells) == 3
    assert tab.grid_button.isChecked() and tab.grid_button.isEnabled()
    first, second, third = tab._batch
    assert [w.index for w in tab._batch] == [0, 1, 2]
    assert tab.work.id == first.id == tab.details.work.id
    # newest first in the history
    assert [w.id for w in tab.history.model.works] == [third.id, second.id, first.id, old.id]
    # a click chooses, a double click opens
    QTest.mouseClick(tab.canvas, Button.LeftButton, pos=cell_of(tab, 2))
    assert shows(tab) == "GRID" and tab.work.id == third.id == tab.details.work.id
    QTest.mouseDClick(tab.canvas, Button.LeftButton, pos=cell_of(tab, 1))
    QTest.mouseClick(tab.canvas, Button.LeftButton, pos=cell_of(tab, 1))
    QTest.mouseDClick(tab.canvas, Button.LeftButton, pos=cell_of(tab, 1))
    rig.until(lambda: shows(tab) == second.id)
    assert not tab.grid_button.isChecked()
    # Ctrl+G goes back and forth, and knows which one was open
    press(rig, Key.Key_G)
    assert shows(tab) == "GRID" and tab.canvas.selection == 1 and tab.grid_button.isChecked()
    press(rig, Key.Key_G)
    rig.until(lambda: shows(tab) == second.id)
    QTest.mouseClick(tab.grid_button, Button.LeftButton)
    assert shows(tab) == "GRID"
    # what came before the batch is what it is compared with
    press(rig, Key.Key_E)
    rig.until(lambda: tab.canvas.comparing)
    assert tab.canvas._captions[0] == "the old one"
    # another work ends the batch
    click_work(tab, old)
    rig.until(lambda: shows(tab) == old.id)
    assert not tab.grid_button.isEnabled()
    press(rig, Key.Key_G)
    assert shows(tab) == old.id


def test_zoom_follows_buttons_and_keys_and_is_told(one: tuple[Any, Any, Any]) -> None:
    rig, tab, _ = one
    canvas = tab.canvas
    assert tab.zoom_button.text() == "Fit" and canvas.is_fit
    press(rig, Key.Key_0, Mod.ControlModifier | Mod.AltModifier)
    assert (canvas.zoom, canvas.is_fit, tab.zoom_button.text()) == (1.0, False, "100 %")
    QTest.mouseClick(tab.in_button, Button.LeftButton)
    assert tab.zoom_button.text() == "125 %"
    press(rig, Key.Key_Plus)
    assert tab.zoom_button.text() == "150 %"
    press(rig, Key.Key_Equal)
    assert tab.zoom_button.text() == "200 %"
    press(rig, Key.Key_Minus)
    QTest.mouseClick(tab.out_button, Button.LeftButton)
    assert tab.zoom_button.text() == "125 %"
    press(rig, Key.Key_0)
    assert canvas.is_fit and tab.zoom_button.text() == "Fit"
    QTest.mouseClick(tab.in_button, Button.LeftButton)
    QTest.mouseClick(tab.zoom_button, Button.LeftButton)
    assert canvas.is_fit


def test_the_shown_picture_is_compared_with_the_one_before_with_a_chosen_one_and_with_a_dropped_one(
    one: tuple[Any, Any, Any], tmp_path: Path
) -> None:
    rig, tab, first = one
    second = rig.made("image", "the middle one")
    third = rig.made("image", "the new one")
    rig.until(lambda: shows(tab) == third.id)
    press(rig, Key.Key_E)
    rig.until(lambda: tab.canvas.comparing)
    assert tab.canvas._captions == ("the middle one", "the new one")
    assert tab.compare_button.isChecked()
    press(rig, Key.Key_E)
    rig.until(lambda: shows(tab) == third.id)
    assert not tab.canvas.comparing and not tab.compare_button.isChecked()
    entry(tab, first, "Compare with the shown picture")()
    rig.until(lambda: tab.canvas.comparing)
    assert tab.canvas._captions == ("the old one", "the new one")
    # moving on ends it
    press(rig, Key.Key_PageDown)
    rig.until(lambda: shows(tab) == second.id)
    assert not tab.canvas.comparing
    green = QImage(40, 30, QImage.Format.Format_RGB32)
    green.fill(QColor(0, 200, 0))
    green.save(str(tmp_path / "green.png"))
    tab.take_file(tmp_path / "green.png")
    rig.until(lambda: tab.canvas.comparing)
    assert tab.canvas._captions == ("the dropped picture", "the middle one")
    assert tab.canvas._layer.levels[0].pixelColor(3, 3) == QColor(0, 200, 0)
    assert "compared with the shown one" in tab.notice.sentence.text()
    # a partner whose file is gone is told, and the shown one stays
    rig.session.path(first).unlink()
    del tab._pictures[first.id]
    tab._leave_modes()
    tab._compare_with(first)
    rig.until(lambda: "cannot be read" in tab.notice.sentence.text())
    rig.until(lambda: shows(tab) == second.id)
    assert not tab.compare_button.isChecked()


def test_the_history_shows_reuses_and_varies_works(one: tuple[Any, Any, Any]) -> None:
    rig, tab, first = one
    second = rig.made("image", "the new one", steps=3, seed=77)
    rig.until(lambda: shows(tab) == second.id)
    click_work(tab, first)
    rig.until(lambda: shows(tab) == first.id)
    assert tab.details.work.id == first.id
    # keys: newer, and no further; older, and no further
    for key, expected in ((Key.Key_PageUp, second), (Key.Key_PageUp, second), (Key.Key_PageDown, first),
                          (Key.Key_PageDown, first), (Key.Key_PageUp, second)):  # fmt: skip
        press(rig, key)
        rig.until(lambda e=expected: shows(tab) == e.id)
        assert tab.history.view.currentIndex().row() == tab.history.model.row_of(expected.id)
    tab.form.put_some({"prompt": "something else", "seed": None, "steps": 9})
    QTest.mouseClick(tab.details.reuse_button, Button.LeftButton)
    assert [tab.form.rows[n].value() for n in ("prompt", "seed", "steps")] == ["the new one", 77, 3]
    tab.form.put_some({"prompt": "typed meanwhile"})
    QTest.mouseClick(tab.details.vary_button, Button.LeftButton)
    rig.until(lambda: rig.idle() and len(tab.history.model.works) == 3)
    third = tab.history.model.works[0]
    assert (third.recipe.prompt, third.recipe.steps) == ("the new one", 3)
    assert third.recipe.seed != 77
    rig.until(lambda: shows(tab) == third.id)
    assert tab.form.rows["prompt"].value() == "typed meanwhile"
    # star: by key, by button, and seen in the list
    press(rig, Key.Key_D)
    rig.until(lambda: tab.work.starred)
    assert tab.details.star_button.isChecked()
    rig.until(lambda: tab.history.model.works[0].starred)
    assert rig.session.work(third.id).starred
    QTest.mouseClick(tab.details.star_button, Button.LeftButton)
    rig.until(lambda: not rig.session.work(third.id).starred and not tab.work.starred)
    assert rig.problems == []


def test_a_copied_picture_is_an_image_and_a_file(one: tuple[Any, Any, Any]) -> None:
    rig, tab, work = one
    clipboard = QGuiApplication.clipboard()

    def has_image() -> bool:
        return clipboard.mimeData().hasImage()

    clipboard.setText("something before")
    press(rig, Key.Key_C, Mod.ControlModifier | Mod.ShiftModifier)
    rig.until(lambda: has_image())
    assert clipboard.image().pixelColor(2, 2) == QColor(200, 40, 40)
    assert [Path(u.toLocalFile()) for u in clipboard.mimeData().urls()] == [rig.session.path(work)]
    # also from the menu of a work whose picture has not been read yet
    other = rig.made("image", "another", width=32)
    clipboard.setText("something before")
    tab._pictures.clear()
    entry(tab, work, "Copy")()
    rig.until(lambda: has_image())
    assert clipboard.image().width() == 64 and other.meta["width"] == 32


def test_cancelling_goes_back_to_what_was_shown(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    rig.make("image", "hold this")
    rig.until(lambda: shows(tab) == "PREVIEW")
    press(rig, Key.Key_Escape, Mod.NoModifier)
    rig.until(rig.idle)
    rig.until(lambda: shows(tab) == old.id)
    assert tab.work.id == old.id
    # a grid comes back as the grid
    rig.make("image", "two", count=2)
    rig.until(lambda: rig.idle() and shows(tab) == "GRID" and len(tab.history.model.works) == 3)
    rig.make("image", "hold this", count=1)
    rig.until(lambda: shows(tab) == "PREVIEW")
    QTest.mouseClick(tab.go, Button.LeftButton)
    rig.until(rig.idle)
    rig.until(lambda: shows(tab) == "GRID")
    assert tab.grid_button.isEnabled() and len(tab._batch) == 2


def test_with_nothing_there_a_cancelled_picture_leaves_the_empty_place(rig: Any) -> None:
    tab = rig.tab("image")
    rig.make("image", "hold this")
    rig.until(lambda: shows(tab) == "PREVIEW")
    press(rig, Key.Key_Escape, Mod.NoModifier)
    rig.until(lambda: rig.idle() and tab._stack.currentWidget() is tab.empty)
    assert not tab.tools.isVisible()


@pytest.mark.parametrize(("words", "told"), [("fail", "It needs 9 GB."), ("die", "ended")])
def test_a_failure_is_told_and_the_old_picture_stays(one: tuple[Any, Any, Any], words: str, told: str) -> None:
    rig, tab, old = one
    rig.make("image", words)
    rig.until(lambda: rig.idle() and tab.notice.isVisible())
    assert told in tab.notice.sentence.text()
    rig.until(lambda: shows(tab) == old.id)
    assert tab.go.isEnabled() and tab.go.text().startswith("Generate")
    # trying again fails again, and the next one works
    QTest.mouseClick(tab.notice.act, Button.LeftButton)
    rig.until(lambda: tab.notice.isVisible() and rig.idle())
    assert told in tab.notice.sentence.text()
    good = rig.made("image", "good")
    rig.until(lambda: shows(tab) == good.id)


def test_a_problem_of_a_field_stands_beside_it(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    rig.make("image", "field")
    rig.until(lambda: rig.idle() and tab.form.rows["seed"].problem.isVisible())
    assert "The seed is unlucky." in tab.form.rows["seed"].problem.text()
    assert not tab.notice.isVisible() and shows(tab) == old.id


def test_a_job_lined_up_does_not_disturb_the_one_that_is_followed(one: tuple[Any, Any, Any]) -> None:
    rig, tab, _ = one
    rig.make("image", "hold the first")
    rig.until(lambda: shows(tab) == "PREVIEW")
    followed = tab.following
    rig.make("image", "slow second", width=32)
    assert tab.following == followed and len(rig.desk.track.unfinished("image")) == 2
    assert tab.canvas._natural().toTuple() == (64, 64)
    rig.desk.cancel(followed)
    rig.until(lambda: tab.following != followed and shows(tab) == "PREVIEW")  # then it is its turn
    rig.until(lambda: rig.idle() and shows(tab) == tab.history.model.works[0].id)
    assert tab.work.recipe.prompt == "slow second"


def test_a_work_that_is_looked_at_is_not_torn_away_by_previews(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    rig.make("image", "hold this")
    rig.until(lambda: shows(tab) == "PREVIEW")
    click_work(tab, old)
    rig.until(lambda: shows(tab) == old.id)
    job = rig.desk.track.current("image")
    tab._happened(job.preview)  # one more comes
    assert shows(tab) == old.id
    # a click on the job strip brings the running job back
    rig.until(lambda: rig.window.strip.title.isVisible() and rig.window.strip._job == job.id)
    QTest.mouseClick(rig.window.strip.title, Button.LeftButton)
    assert shows(tab) == "PREVIEW"
    # comparing is looking, too; cancelling then leaves it alone
    press(rig, Key.Key_E)
    other = tab._partner()
    assert other is None and shows(tab) == "PREVIEW"  # there is nothing to compare with
    click_work(tab, old)
    rig.until(lambda: shows(tab) == old.id)
    tab.canvas.zoom_in()
    zoom = tab.canvas.zoom
    rig.desk.cancel(job.id)
    rig.until(rig.idle)
    assert shows(tab) == old.id and tab.canvas.zoom == zoom and not tab.aside


def test_what_was_asked_for_is_shown_when_it_is_ready_even_after_looking_elsewhere(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    rig.make("image", "slow", steps=12)
    rig.until(lambda: shows(tab) == "PREVIEW")
    click_work(tab, old)
    rig.until(lambda: shows(tab) == old.id)
    seen: list[str] = []
    tab.canvas.show_preview = lambda *_: seen.append("preview")
    rig.until(lambda: rig.idle() and tab.work.id != old.id)
    assert seen == [] and tab.work.recipe.prompt == "slow"
    rig.until(lambda: shows(tab) == tab.work.id)


def test_generating_once_more_goes_back_to_the_running_job(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    rig.make("image", "hold this")
    rig.until(lambda: shows(tab) == "PREVIEW")
    click_work(tab, old)
    rig.until(lambda: shows(tab) == old.id)
    rig.make("image", "next")
    rig.until(lambda: shows(tab) == "PREVIEW")
    tab.stop_all()
    rig.until(rig.idle)
    rig.until(lambda: shows(tab) == old.id)


def test_a_picture_whose_file_is_broken_is_told(one: tuple[Any, Any, Any]) -> None:
    rig, tab, old = one
    new = rig.made("image", "the new one")
    rig.session.path(old).write_bytes(b"no picture")
    tab._pictures.clear()
    click_work(tab, old)
    rig.until(lambda: tab.notice.isVisible())
    assert tab.notice.sentence.text() == "The picture “the old one” cannot be read."
    assert tab.work.id == old.id and new.id != old.id and shows(tab) == "NOTHING"
    assert rig.problems == []


def test_two_pictures_are_shown_in_turn(one: Any) -> None:
    rig, tab, old = one
    new = rig.made("image", "the new one")
    rig.until(lambda: shows(tab) == new.id)
    tab.flicker()
    rig.until(lambda: tab.canvas.flickering)
    sides: set[float] = set()
    rig.until(lambda: sides.add(tab.canvas._divider) or len(sides) > 1)
    assert sides == {0.0, 1.0}
    tab.flicker()
    rig.until(lambda: not tab.canvas.flickering)
    assert tab.canvas._divider == 0.5
    tab.flicker()
    rig.until(lambda: tab.canvas.flickering)
    tab.show_work(old)
    assert not tab.canvas.flickering


def test_a_picture_of_another_shape_is_compared_whole() -> None:
    from PySide6.QtCore import QSize

    from studio.ui.tabs.image import shaped

    wide = QImage(80, 40, QImage.Format.Format_RGB32)
    wide.fill(QColor("red"))
    made = shaped(wide, QSize(64, 64))
    assert made.size().toTuple() == (64, 64)
    assert made.pixelColor(32, 32) == QColor("red")
    assert made.pixelColor(32, 4).alpha() == 0
    assert made.pixelColor(32, 18).alpha() == 255
    assert shaped(wide, QSize(160, 80)) is wide
