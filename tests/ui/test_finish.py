"""What is done to a finished picture, through the dialogs: the real engine for changes, in a real worker."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QMouseEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from studio.ui.finish import FinishDialog


@pytest.fixture
def shown(rig: Any) -> tuple[Any, Any, Any]:
    work = rig.made("image", "an old house")
    tab = rig.tab("image")
    rig.until(lambda: tab.canvas._key == work.id)
    return rig, tab, work


def opened(rig: Any, tab: Any, kind: str) -> FinishDialog:
    tab.finish(kind)
    rig.until(lambda: rig.window.findChild(FinishDialog) is not None)
    dialog = rig.window.findChild(FinishDialog)
    assert isinstance(dialog, FinishDialog)
    return dialog


def start(rig: Any, tab: Any, dialog: FinishDialog, before: Any) -> Any:
    QTest.mouseClick(dialog.start, Qt.MouseButton.LeftButton)
    rig.until(lambda: tab.work is not None and tab.work.id != before.id, 60)
    return tab.work


def test_a_picture_is_turned_and_the_result_is_shown_as_a_work_of_its_own(shown: Any) -> None:
    rig, tab, work = shown
    dialog = opened(rig, tab, "edit")
    dialog.rows["crop"].put({"left": 16})
    dialog.rows["rotate"].put("90")
    made = start(rig, tab, dialog, work)
    assert made.kind == "image"
    assert made.title == work.title
    assert rig.recipe(made)["kind"] == "edit"
    assert QImage(str(rig.session.path(made))).size().toTuple() == (64, 48)
    assert QImage(str(rig.session.path(work))).size().toTuple() == (64, 64), "what it was made of is as it was"
    rig.until(lambda: tab.canvas._key == made.id)
    assert ("Made of", work.title) in lines_of(rig, made)


def lines_of(rig: Any, work: Any) -> list[tuple[str, str]]:
    from studio.ui.details import lines

    return lines(work, rig.desk)


def test_a_picture_is_enlarged_and_the_factor_is_remembered(shown: Any) -> None:
    rig, tab, work = shown
    dialog = opened(rig, tab, "upscale")
    dialog.rows["factor"].put(3.0)
    dialog._tell_size()
    assert "192 × 192" in dialog.size_label.text()
    made = start(rig, tab, dialog, work)
    assert QImage(str(rig.session.path(made))).size().toTuple() == (192, 192)
    assert opened(rig, tab, "upscale").rows["factor"].value() == 3.0


def test_tiles_are_asked_of_where_there_are_some(shown: Any) -> None:
    rig, tab, _ = shown
    dialog = opened(rig, tab, "upscale")
    assert dialog.rows["factor"].isVisible() and not dialog.rows["tile"].isVisible(), "Lanczos has no tiles"
    dialog.rows["tile"].put(256)
    assert "tile" not in dialog.values()
    dialog.rows["model"].put("an-upscaler")
    dialog.rows["model"].changed.emit("model")
    assert dialog.rows["tile"].isVisible() and dialog.values()["tile"] == 256


def drag(view: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """From one place of the picture to another, both in its px."""
    target, scale = view._target(), view._scale()
    first, last = (QPoint(round(target.x() + x * scale), round(target.y() + y * scale)) for x, y in (start, end))
    none, left = Qt.MouseButton.NoButton, Qt.MouseButton.LeftButton
    for kind, place, button, held in (
        (QEvent.Type.MouseButtonPress, first, left, left),
        (QEvent.Type.MouseMove, last, none, left),
        (QEvent.Type.MouseButtonRelease, last, left, none),
    ):  # to the view itself: what QTest moves goes by way of the window that lies under the pointer
        event = QMouseEvent(
            kind, QPointF(place), QPointF(view.mapToGlobal(place)), button, held, Qt.KeyboardModifier.NoModifier
        )
        QApplication.sendEvent(view, event)


def test_what_is_cut_by_hand_is_in_the_fields_and_in_the_result(shown: Any) -> None:
    rig, tab, work = shown
    dialog = opened(rig, tab, "edit")
    rig.until(lambda: not dialog._whole.isEmpty())
    assert "64 × 64" in dialog.size_label.text()
    drag(dialog.preview, (64, 64), (48, 56))
    assert dialog.rows["crop"].value() == {"left": 0, "top": 0, "right": 16, "bottom": 8}
    assert "48 × 56" in dialog.size_label.text()
    dialog.rows["rotate"].put("90")
    dialog.rows["rotate"].changed.emit("rotate")
    assert "56 × 48" in dialog.size_label.text()
    assert dialog.preview.margins == (8, 0, 0, 16), "the rectangle turns with the picture"
    drag(dialog.preview, (32, 0), (32, 10))
    assert dialog.rows["crop"].value() == {"left": 10, "top": 0, "right": 16, "bottom": 8}
    made = start(rig, tab, dialog, work)
    assert QImage(str(rig.session.path(made))).size().toTuple() == (56, 38)


def test_a_ratio_is_kept_and_all_is_put_back(shown: Any) -> None:
    rig, tab, _ = shown
    dialog = opened(rig, tab, "edit")
    rig.until(lambda: not dialog._whole.isEmpty())
    dialog.ratio.setCurrentIndex(dialog.ratio.findText("16 : 9"))
    dialog.ratio.activated.emit(0)
    assert "64 × 36" in dialog.size_label.text()
    QTest.keyClick(dialog.preview, Qt.Key.Key_Up, Qt.KeyboardModifier.ControlModifier)
    assert dialog.rows["crop"].value() == {"left": 0, "top": 13, "right": 0, "bottom": 15}
    dialog.swap_button.click()
    assert "36 × 64" in dialog.size_label.text()
    dialog.rows["brightness"].put(1.5)
    dialog.reset_button.click()
    assert dialog.values().keys() == {"image"}
    assert dialog.preview.margins == (0, 0, 0, 0) and "64 × 64" in dialog.size_label.text()


def test_the_size_that_is_asked_for_is_told(shown: Any) -> None:
    rig, tab, _ = shown
    dialog = opened(rig, tab, "edit")
    rig.until(lambda: not dialog._whole.isEmpty())
    dialog.rows["crop"].put({"left": 32})
    for name, value, told in (("width", 320, "320 × 640"), ("height", 100, "320 × 100"), ("fit", "inside", "50 × 100")):
        dialog.rows[name].put(value)
        dialog.rows[name].changed.emit(name)
        assert told in dialog.size_label.text()


def test_cutting_out_asks_for_a_model_first(shown: Any) -> None:
    rig, tab, _ = shown
    dialog = opened(rig, tab, "cutout")
    QTest.mouseClick(dialog.start, Qt.MouseButton.LeftButton)
    assert dialog.isVisible()
    assert dialog.rows["model"].problem.isVisible()


def test_reusing_a_changed_picture_opens_the_same_change_on_the_same_picture(shown: Any) -> None:
    rig, tab, work = shown
    dialog = opened(rig, tab, "edit")
    dialog.rows["flip"].put("across")
    made = start(rig, tab, dialog, work)
    rig.until(lambda: rig.window.findChild(FinishDialog) is None)
    tab.reuse_work()
    again = rig.window.findChild(FinishDialog)
    assert again.rows["flip"].value() == "across"
    assert again.values()["image"] == made.recipe.image
    assert tab.form.values()["prompt"] == "an old house", "the form of pictures is left alone"


def test_changes_are_seen_before_they_are_made_and_nothing_is_kept_of_that(shown: Any) -> None:
    rig, tab, _work = shown
    dialog = opened(rig, tab, "edit")

    def middle() -> tuple[int, int, int]:
        image = dialog.preview.pixmap().toImage()
        colour = image.pixelColor(image.width() // 2, image.height() // 2)
        return colour.red(), colour.green(), colour.blue()

    rig.until(lambda: not dialog.preview.pixmap().isNull())
    dialog.result_button.click()
    assert middle() == (200, 40, 40)
    dialog.rows["saturation"].put(0.0)
    dialog.rows["saturation"].changed.emit("saturation")
    rig.until(lambda: len(set(middle())) == 1)
    dialog.rows["crop"].put({"left": 32})
    dialog.rows["crop"].changed.emit("crop")
    rig.until(lambda: dialog.preview.pixmap().width() < dialog.preview.pixmap().height())
    dialog.reject()
    assert len(rig.session.works()) == 1
    # a preview that is still being made goes with the dialog, soon
    rig.until(lambda: not rig.session.paths.inputs.exists() or not list(rig.session.paths.inputs.iterdir()))
