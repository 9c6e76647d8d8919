"""Pictures and additions in the form: kept, chosen, remembered, and greyed out where the model has no use for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtGui import QColor, QGuiApplication, QImage
from PySide6.QtTest import QTest

from studio.ui.details import lines
from studio.ui.lists import CardEditor, ListEditor, PictureEditor, StructEditor
from tests.ui.hands import drop


@pytest.fixture
def tab(rig: Any) -> Any:
    tab = rig.tab("image")
    tab.form.put_some({"model": "painter"})
    for group in ("start", "additions", "control", "second"):
        tab.form._folds[group].open()
    return tab


def picture(colour: str = "red") -> QImage:
    image = QImage(32, 24, QImage.Format.Format_RGB32)
    image.fill(QColor(colour))
    return image


def test_rows_of_a_closed_fold_are_made_when_it_is_opened_or_they_are_given_a_value(rig: Any) -> None:
    form = rig.tab("image").form
    assert not form.rows.is_made("strength")
    assert "strength" in form.rows
    form.put_some({"strength": 0.6, "clip_skip": 1})
    assert not form.rows.is_made("clip_skip"), "the default needs no row"
    form.put_some({"strength": 0.25})
    assert form.rows["strength"].value() == 0.25
    assert not form.rows.is_made("clip_skip")
    form._folds["advanced"].open()
    names = [form.rows[name].field.name for name in form._order["advanced"]]
    inside = form._folds["advanced"].inside
    laid = [inside.itemAt(at).widget().field.name for at in range(inside.count())]
    assert laid == names, "in the order of declaration"


def test_a_dropped_picture_is_kept_and_asked_for(rig: Any, tab: Any, tmp_path: Path) -> None:
    picture().save(str(tmp_path / "red.png"))
    editor = tab.form.rows["image"].editor
    assert isinstance(editor, PictureEditor)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "red.png"))])
    assert not tab.form.rows["strength"].isVisible(), "without a picture there is nothing to go from"
    assert drop(editor, data)
    rig.until(lambda: editor.value())
    assert rig.session.picture_path(editor.value()).read_bytes() == (tmp_path / "red.png").read_bytes()
    assert tab.form.rows["strength"].isVisible()
    work = rig.made("image", "an apple")
    assert rig.recipe(work)["image"] == editor.value()
    # remembered, and back after a restart of the form
    assert rig.desk.state.forms["image"]["image"] == editor.value()
    QTest.mouseClick(editor._clear, Qt.MouseButton.LeftButton)
    assert editor.value() == ""
    assert not tab.form.rows["strength"].isVisible()


def test_a_picture_is_pasted_or_taken_from_what_is_shown(rig: Any, tab: Any) -> None:
    editor = tab.form.rows["image"].editor
    QGuiApplication.clipboard().setImage(picture("blue"))
    QTest.mouseClick(editor._paste, Qt.MouseButton.LeftButton)
    rig.until(lambda: editor.value())
    pasted = editor.value()
    assert QImage(str(rig.session.picture_path(pasted))).pixelColor(3, 3) == QColor("blue")
    editor.clear()
    work = rig.made("image", "a pear")
    QTest.mouseClick(editor._shown, Qt.MouseButton.LeftButton)
    rig.until(lambda: editor.value())
    assert rig.session.picture_path(editor.value()).read_bytes() == rig.session.path(work).read_bytes()


def test_what_is_no_picture_is_said(rig: Any, tab: Any, tmp_path: Path) -> None:
    (tmp_path / "no.png").write_bytes(b"hello")
    tab.form.rows["image"].editor.take(tmp_path / "no.png")
    rig.until(tab.notice.isVisible)
    assert "not a picture" in tab.notice.sentence.text()
    assert tab.form.rows["image"].value() == ""


def test_a_kept_picture_that_is_gone_leaves_the_field_empty(rig: Any, tab: Any) -> None:
    editor = tab.form.rows["image"].editor
    editor.put("0" * 40 + ".png")
    rig.until(lambda: editor.value() == "")


def test_loras_are_stacked_with_their_weights(rig: Any, tab: Any) -> None:
    editor = tab.form.rows["loras"].editor
    assert isinstance(editor, ListEditor)
    QTest.mouseClick(editor.target(), Qt.MouseButton.LeftButton)
    assert editor.value() == (), "one that is not chosen yet does not count"
    entry = editor._rows[0]
    box = entry._editors["model"]
    assert isinstance(box, CardEditor)
    names = [box._box.itemText(at) for at in range(box._box.count())]
    assert names.index("Soft style") < names.index("Big style"), "what fits comes first"
    assert box._box.model().item(names.index("Big style")).isEnabled() is False
    box._box.setCurrentIndex(names.index("Soft style"))
    box._picked(0)
    entry._editors["weight"].put(0.7)
    entry._editors["weight"].changed.emit()
    assert editor.value() == ({"model": "soft-style", "weight": 0.7},)
    work = rig.made("image", "an apple")
    assert list(rig.recipe(work)["loras"]) == [{"model": "soft-style", "weight": 0.7}]
    assert ("LoRAs", "Soft style 0.7") in lines(work, rig.desk)
    tab.form.put_some({"loras": ()})
    assert editor.value() == ()
    tab.take_recipe(work.recipe)
    assert editor.value() == ({"model": "soft-style", "weight": 0.7},)
    QTest.mouseClick(editor._rows[0].findChild(type(tab.paint_button), "loras_remove"), Qt.MouseButton.LeftButton)
    assert editor.value() == ()


def test_a_control_needs_its_picture_before_it_counts(rig: Any, tab: Any) -> None:
    editor = tab.form.rows["controls"].editor
    editor._press()
    entry = editor._rows[0]
    entry._editors["model"].put("edges")
    assert editor.value() == ()
    entry._editors["image"].take(picture())
    rig.until(lambda: entry._editors["image"].value())
    entry._editors["filter"].put("canny")
    (value,) = editor.value()
    assert value["model"] == "edges"
    assert value["filter"] == "canny"
    assert (value["weight"], value["start"], value["end"]) == (1.0, 0.0, 1.0)
    work = rig.made("image", "an apple")
    assert rig.recipe(work)["controls"][0]["image"] == value["image"]


def test_margins_are_four_numbers_or_nothing(rig: Any, tab: Any) -> None:
    editor = tab.form.rows["extend"].editor
    assert isinstance(editor, StructEditor)
    assert editor.value() is None
    editor._boxes["left"].setValue(64)
    assert editor.value() == {"left": 64, "top": 0, "right": 0, "bottom": 0}
    assert tab.form.rows["extend"].is_changed()
    assert tab.form._folds["start"].head.text().endswith("•")


def test_what_a_model_cannot_do_is_greyed_out_with_the_reason(rig: Any, tab: Any) -> None:
    tab.form.put_some({"model": "turbo"})
    for name in ("image", "loras", "controls", "enlarge"):
        assert not tab.form.rows[name].isEnabled(), name
        assert "Turbo" in tab.form.rows[name].toolTip()
    tab.form.put_some({"model": "painter"})
    assert tab.form.rows["loras"].isEnabled()


def test_lists_come_back_after_a_restart(rig: Any, tab: Any, open_window: Any) -> None:
    tab.form.put_some({"loras": ({"model": "soft-style", "weight": 0.4},), "extend": {"left": 8}})
    tab.form._remember()
    rig.desk.keeper.write()
    remembered = rig.desk.state
    rig.close()
    again = open_window(remembered)
    form = again.tab("image").form
    assert form.rows["loras"].value() == ({"model": "soft-style", "weight": 0.4},)
    assert form.rows["extend"].value()["left"] == 8
