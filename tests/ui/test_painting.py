"""Painting in the tab: the shown picture on the board, a mask, the job made of it, and its result as a layer."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtTest import QTest

from tests.ui.hands import entry, press


@pytest.fixture
def painting(rig: Any) -> tuple[Any, Any, Any]:
    """Window, tab and page, with a work on the board."""
    work = rig.made("image", "an old house")
    tab = rig.tab("image")
    rig.until(lambda: tab.canvas._key == work.id)
    tab.form.put_some({"model": "painter", "prompt": "a red roof"})
    press(rig, Qt.Key.Key_M)
    rig.until(lambda: tab.painting.active)
    return rig, tab, tab.painting.page


def stroke(board: Any, *, ends: int = 20) -> None:
    middle = board.rect().center()
    QTest.mousePress(board, Qt.MouseButton.LeftButton, pos=middle)
    for at in range(ends):
        QTest.mouseMove(board, middle + QPoint(at, at // 2))
    QTest.mouseRelease(board, Qt.MouseButton.LeftButton, pos=middle + QPoint(ends, ends // 2))


def test_the_shown_picture_lies_on_the_board_and_the_form_asks_for_what_goes_with_a_mask(painting: Any) -> None:
    _, tab, page = painting
    assert tab._stack.currentWidget() is page
    assert (page.document.width, page.document.height) == (64, 64)
    assert page.document.flattened().pixelColor(5, 5) == QColor(200, 40, 40)
    assert not tab.form.rows["image"].isVisible(), "the board gives it"
    for name in ("strength", "mask_blur", "mask_area", "mask_fill"):
        assert tab.form.rows[name].isVisible(), name
    assert tab.paint_button.isChecked()


def test_a_painted_mask_is_repainted_and_the_result_is_a_layer_of_that_part(painting: Any) -> None:
    rig, tab, page = painting
    stroke(page.board)
    rig.until(lambda: not page.document.is_empty_mask())
    masked = page.document.bounds_of_mask()
    tab.make()
    rig.until(lambda: len(page.document.layers) == 2, 60)
    work = tab.work
    made = rig.recipe(work)
    assert made["image"]
    assert made["mask"]
    assert made["extend"] is None
    kept = QImage(str(rig.session.picture_path(made["mask"])))
    assert kept.size().toTuple() == (64, 64)
    assert kept.pixelColor(masked.center()).lightness() > 200
    assert kept.pixelColor(1, 1).lightness() == 0
    layer = page.document.layers[-1]
    assert layer.image.pixelColor(masked.center()).alpha() > 200
    assert layer.image.pixelColor(1, 1).alpha() == 0
    assert page.document.bounds_of_mask() == masked, "it stays for another try"
    assert tab._stack.currentWidget() is page, "the board stays"
    assert not page.inset.isVisible()
    page.document.undo()
    assert len(page.document.layers) == 1


def test_without_a_mask_the_whole_is_painted_over(painting: Any) -> None:
    rig, tab, page = painting
    tab.make()
    rig.until(lambda: len(page.document.layers) == 2, 60)
    made = rig.recipe(tab.work)
    assert (bool(made["image"]), made["mask"], made["extend"]) == (True, "", None)


def test_the_dragged_frame_is_painted_on(painting: Any) -> None:
    rig, tab, page = painting
    page.document.set_frame(0, 0, 32, 16)
    tab.make()
    rig.until(lambda: len(page.document.layers) == 2, 60)
    assert rig.recipe(tab.work)["extend"] == {"right": 32, "bottom": 16}
    assert (page.document.width, page.document.height) == (96, 80)


def test_a_preview_is_small_in_the_corner(painting: Any) -> None:
    rig, tab, page = painting
    tab.form.put_some({"prompt": "a hold roof"})
    tab.make()
    rig.until(page.inset.isVisible)
    assert tab._stack.currentWidget() is page
    tab.stop()
    rig.until(lambda: rig.idle() and not page.inset.isVisible())
    assert len(page.document.layers) == 1


def test_of_several_results_the_first_is_seen_and_the_others_lie_over_it_switched_off(painting: Any) -> None:
    rig, tab, page = painting
    tab.form.put_some({"count": 3})
    page.document.fill_mask()
    tab.make()
    rig.until(lambda: len(page.document.layers) == 4, 60)
    assert [layer.visible for layer in page.document.layers] == [True, True, False, False]
    seeds = [rig.recipe(work)["seed"] for work in reversed(rig.session.works(kind="image")[:3])]
    assert [layer.name.split(" · ")[0] for layer in page.document.layers[1:]] == [str(seed) for seed in seeds]


def test_a_result_lands_also_while_something_else_is_looked_at(painting: Any) -> None:
    rig, tab, page = painting
    old = tab.work
    tab.form.put_some({"prompt": "a slow roof"})
    page.document.fill_mask()
    tab.make()
    rig.until(lambda: rig.running("image"))
    tab.show_work(old)
    assert not tab.painting.active
    rig.until(lambda: len(page.document.layers) == 2, 60)
    assert "layer" in tab.notice.sentence.text()


def test_the_size_is_the_boards_but_for_a_masked_part_alone(painting: Any) -> None:
    rig, tab, page = painting
    tab.form.put_some({"width": 128, "height": 96})
    tab.make()
    rig.until(lambda: len(page.document.layers) == 2, 60)
    assert (tab.work.recipe.width, tab.work.recipe.height) != (128, 96)
    page.document.fill_mask()
    tab.form.put_some({"mask_area": "mask"})
    tab.make()
    rig.until(lambda: len(page.document.layers) == 3, 60)
    assert (tab.work.recipe.width, tab.work.recipe.height) == (128, 96)


def test_paint_on_another_picture_begins_anew_and_on_a_result_goes_on(painting: Any) -> None:
    rig, tab, page = painting
    page.document.add_layer(name="notes")
    tab.make()
    rig.until(lambda: len(page.document.layers) == 3, 60)
    result = tab.work
    tab.stop()
    other = rig.made("image", "another", width=32, height=32)
    rig.until(lambda: tab.canvas._key == other.id or tab.work.id == other.id)
    tab.show_work(result)
    rig.until(lambda: tab.canvas._key == result.id)
    tab.paint()
    rig.until(lambda: tab.painting.active)
    assert len(page.document.layers) == 3
    tab.show_work(other)
    rig.until(lambda: tab.canvas._key == other.id)
    tab.paint()
    rig.until(lambda: page.document is not None and page.document.width == 32)
    tab.painting.bring_back()
    rig.until(lambda: page.document.width == 64)


def test_what_is_on_the_board_is_kept_as_a_picture(painting: Any) -> None:
    rig, tab, page = painting
    page.document.fill_layer(page.document.add_layer(name="sky").id, QColor("blue"))
    QTest.mouseClick(tab.keep_button, Qt.MouseButton.LeftButton)
    rig.until(lambda: len(rig.session.works(kind="image")) == 2, 60)
    kept = rig.session.works(kind="image")[0]
    assert kept.title == "an old house"
    assert QImage(str(rig.session.path(kept))).pixelColor(5, 5) == QColor("blue")


def test_esc_leaves_the_board(painting: Any) -> None:
    _rig, tab, _ = painting
    tab.stop()
    assert not tab.painting.active


def test_looking_at_a_work_leaves_the_board_and_painting_goes_on_where_it_was(painting: Any) -> None:
    rig, tab, page = painting
    page.document.fill_mask()
    tab.show_work(tab.work)
    assert not tab.painting.active
    assert tab._stack.currentWidget() is tab.canvas
    assert tab.form.rows["image"].isVisible()
    press(rig, Qt.Key.Key_M)
    rig.until(lambda: tab.painting.active)
    assert not page.document.is_empty_mask()
    press(rig, Qt.Key.Key_M)
    rig.until(lambda: not tab.painting.active)


def test_a_painting_comes_back_after_a_restart(painting: Any, open_window: Any) -> None:
    rig, tab, page = painting
    stroke(page.board)
    page.document.add_layer(name="notes")
    rig.close()
    again = open_window()
    tab = again.tab("image")
    tab.paint()
    again.until(lambda: tab.painting.active)
    document = tab.painting.page.document
    assert [layer.name for layer in document.layers][-1] == "notes"
    assert not document.is_empty_mask()
    document.undo()
    assert len(document.layers) == 1


def test_another_painting_lays_the_old_one_aside_and_it_can_be_brought_back(painting: Any) -> None:
    rig, tab, page = painting
    page.document.add_layer(name="notes")
    told: list[Any] = []
    rig.desk.told.connect(lambda sentence, hint, action: told.append((sentence, action)))
    work = rig.session.works(kind="image")[0]
    entry(tab, work, "Paint on it")()
    rig.until(lambda: told)
    assert [layer.name for layer in page.document.layers] == ["Picture"]
    told[0][1][1]()
    rig.until(lambda: [layer.name for layer in page.document.layers][-1] == "notes")


def test_how_the_mask_is_repainted_is_said_in_words_a_painter_uses(painting: Any) -> None:
    _, tab, _ = painting
    editor = tab.form.rows["mask_area"].editor
    box = editor.target()
    assert [box.itemText(i) for i in range(box.count())] == ["in the whole picture", "in a close-up"]
    editor.put("mask")
    assert box.currentText() == "in a close-up" and tab.form.values()["mask_area"] == "mask"


def test_layers_are_saved_for_other_programs_and_opened_again(painting: Any, tmp_path: Any) -> None:
    import zipfile

    rig, tab, page = painting
    page.document.add_layer(QImage(16, 16, QImage.Format.Format_RGB32), "sky", x=8, y=4)
    page.document.set_opacity(page.document.layers[-1].id, 0.5)
    page.document.fill_mask()
    told: list[str] = []
    rig.desk.told.connect(lambda sentence, hint, action: told.append(sentence))
    tab.painting.save_layers(tmp_path / "house.ora")
    rig.until(lambda: told)
    with zipfile.ZipFile(tmp_path / "house.ora") as archive:
        assert archive.infolist()[0].filename == "mimetype"
        assert b'name="sky"' in archive.read("stack.xml")
    page.document.flatten()
    tab.painting.save_layers(tmp_path / "house.psd")
    rig.until(lambda: (tmp_path / "house.psd").is_file())
    with Image.open(tmp_path / "house.psd") as opened:
        assert opened.format == "PSD"
    tab.take_file(tmp_path / "house.ora")
    rig.until(lambda: [layer.name for layer in page.document.layers] == ["Picture", "sky"])
    assert page.document.layers[-1].opacity == 0.5
    assert (page.document.layers[-1].x, page.document.layers[-1].y) == (8, 4)
    assert not page.document.is_empty_mask()
    (tmp_path / "no.ora").write_bytes(b"no zip")
    tab.take_file(tmp_path / "no.ora")
    rig.until(tab.notice.isVisible)
