"""The form: every declared parameter can be seen, understood, set, reset and sent."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractSpinBox, QApplication, QSlider, QWidget

from studio.core.recipes import MODEL_FIELD, RECIPES, Field, ImageRecipe, fields
from studio.core.settings import declared
from studio.ui.fields import FieldRow, NumberEditor, OptionalNumber, SeedEditor, StringsEditor, _Scale, editor_for
from studio.ui.forms import is_editable
from studio.ui.state import WindowState
from tests.models import makers

NUMBERS = [
    f for recipe in RECIPES.values() for f in fields(recipe)
    if f.type in ("int", "float") and not f.optional
] + [f for f in declared() if f.type in ("int", "float") and not f.optional]  # fmt: skip


def paste(edit: Any, text: str) -> None:
    data = QMimeData()
    data.setText(text)
    QApplication.clipboard().setMimeData(data)
    edit.setFocus()
    QTest.keyClick(edit, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)


def choose(rig: Any, tab: Any, name: str) -> None:
    tab.form.put_some({MODEL_FIELD[tab.kind]: name})
    assert tab.form.card().name == name


# -- one field ------------------------------------------------------------------------------------------------------


def spread(field: Field) -> list[float]:
    low, high = float(field.low or 0), float(min(field.high or 1, 2**31 - 1))
    values = [low + (high - low) * i / 97 for i in range(98)] + [
        low + (high - low + 1) ** (i / 97) - 1 for i in range(98)
    ]
    if field.type == "int":
        return sorted({float(round(v)) for v in values if low <= v <= high} | {low, high})
    return sorted({min(high, round(v, 2)) for v in values if low <= v <= high} | {low, high})


@pytest.mark.parametrize("field", NUMBERS, ids=lambda f: f.name)
def test_slider_and_box_agree_over_the_whole_range(qtbot: Any, field: Field) -> None:
    editor = NumberEditor(field)
    qtbot.addWidget(editor)
    slider, box = editor.findChild(QSlider), editor.findChild(QAbstractSpinBox)
    scale = _Scale(field)
    low, high = float(field.low or 0), float(field.high or 1)
    top = min(high, float(box.maximum()))
    for at in range(slider.maximum() + 1):
        assert low <= scale.value(at) <= high
    for value in spread(field):
        editor.put(int(value) if field.type == "int" else value)
        assert editor.value() == pytest.approx(value)
        assert slider.value() == scale.at(editor.value())
        assert low <= scale.value(scale.at(value)) <= high
    changes: list[Any] = []
    editor.changed.connect(lambda: changes.append(editor.value()))
    editor.put(field.default)
    for at in range(0, slider.maximum() + 1, 7):
        slider.setValue(at)
        assert low <= editor.value() <= high
        assert slider.value() in (at, scale.at(editor.value()))
    slider.setValue(0)
    assert editor.value() == low
    slider.setValue(slider.maximum())
    assert editor.value() == top
    assert changes


@pytest.mark.parametrize("field", [f for f in NUMBERS if f.type == "int"], ids=lambda f: f.name)
def test_an_arrow_key_on_a_slider_changes_the_value_within_a_few_presses(qtbot: Any, field: Field) -> None:
    editor = NumberEditor(field)
    qtbot.addWidget(editor)
    editor.put(field.low)
    slider = editor.findChild(QSlider)
    for _ in range(4):
        QTest.keyClick(slider, Qt.Key.Key_Right)
    assert editor.value() > field.low


def test_a_number_with_more_digits_than_usual_is_kept(qtbot: Any) -> None:
    """A recipe that is reused must make the same work, also when it was written by hand."""
    field = next(f for f in fields(RECIPES["text"]) if f.name == "temperature")
    row = FieldRow(field, editor_for(field))  # type: ignore[arg-type]
    qtbot.addWidget(row)
    row.put(0.725)
    assert row.value() == 0.725
    row.put(0.8)
    assert row.value() == 0.8 and not row.is_changed()
    assert row.editor.target().text().replace(",", ".") == "0.80"  # type: ignore[attr-defined]


def test_stop_strings_go_in_and_come_out_as_they_are(qtbot: Any) -> None:
    field = next(f for f in fields(RECIPES["text"]) if f.name == "stop")
    editor = StringsEditor(field)
    qtbot.addWidget(editor)
    for value in (("\n",), ("a\nb", "\t", "\\n", "\\"), ("\\\\n", " ", "end\\"), ()):
        editor.put(value)
        assert editor.value() == value
    told: list[Any] = []
    editor.changed.connect(lambda: told.append(editor.value()))
    editor.put(())
    QTest.keyClicks(editor.target(), "\\nQ:")
    QTest.keyClick(editor.target(), Qt.Key.Key_Return)
    QTest.keyClicks(editor.target(), "END")
    assert editor.value() == ("\nQ:", "END") == told[-1]
    editor.put(("x",) * 17)
    assert "16" in editor.complaint()


def test_an_optional_number_says_what_is_wrong_with_it(qtbot: Any) -> None:
    field = next(f for f in fields(RECIPES["image"]) if f.name == "width")
    editor = OptionalNumber(field)
    qtbot.addWidget(editor)
    assert editor.value() is None and not editor.complaint()
    QTest.keyClicks(editor.target(), "9999999")
    assert "8,192" in editor.complaint()
    editor.target().clear()  # type: ignore[attr-defined]
    QTest.keyClicks(editor.target(), "512")
    assert editor.value() == 512 and not editor.complaint()


def test_the_seed_button_keeps_the_last_seed_and_goes_back_to_random(qtbot: Any) -> None:
    field = next(f for f in fields(RECIPES["image"]) if f.name == "seed")
    editor = SeedEditor(field)
    qtbot.addWidget(editor)
    button = editor.findChild(QWidget, "seed_button")
    assert not button.isEnabled()
    editor.set_last(4_294_967_294)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert editor.value() == 4_294_967_294
    assert "random" in button.accessibleName()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert editor.value() is None


# -- the whole form -------------------------------------------------------------------------------------------------


def test_every_declared_field_has_a_row_that_can_be_understood(rig: Any) -> None:
    for kind in ("text", "image", "speech"):
        tab = rig.tab(kind)
        for field in fields(RECIPES[kind]):
            if not is_editable(field) or field.name == "mode":
                continue
            row = tab.form.rows[field.name]
            target = row.editor.target()
            assert row.label.text() == field.title
            assert row.unit.text() == field.unit
            assert row.label.buddy() is target
            # of several numbers side by side the first takes the focus
            first = target.objectName().startswith(field.name) and target.accessibleName().startswith(field.title)
            assert first if field.type == "struct" else target.objectName() == field.name
            assert first if field.type == "struct" else target.accessibleName() == field.title
            assert html.escape(field.help) in row.label.toolTip()
            if field.type in ("int", "float") and field.low is not None and row.isEnabled():
                for tip in (row.label.toolTip(), target.toolTip()):
                    assert f"From {field.low:,g} to " in tip, field.name


def test_the_dot_tells_of_a_change_and_resets_it(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    for name, value in (("steps", 9), ("seed", 7), ("width", 128), ("count", 3)):
        row = tab.form.rows[name]
        assert not row.reset.isEnabled() and not row.reset.text()
        before = row.value()
        row.editor.target().setFocus()
        row.editor.target().selectAll()
        QTest.keyClicks(row.editor.target(), str(value))
        assert row.value() == value and row.reset.isEnabled() and row.reset.text() == "•"
        assert tab.form.values()[name] == value
        assert rig.desk.state.forms["image"][name] == value
        QTest.mouseClick(row.reset, Qt.MouseButton.LeftButton)
        assert row.value() == before and not row.reset.isEnabled()
        assert name not in tab.form.values() and name not in rig.desk.state.forms["image"]


def test_another_models_defaults_are_taken_by_untouched_fields_only(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    rows = tab.form.rows
    assert rows["steps"].value() == 4
    assert rows["width"].editor.target().placeholderText() == "64"
    tab.form.put_some({"guidance": 3.0})
    choose(rig, tab, "Turbo")
    assert rows["steps"].value() == 2
    assert rows["width"].editor.target().placeholderText() == "128"
    assert rows["guidance"].value() == 3.0
    tab.form.put_some({"steps": 9})
    choose(rig, tab, "Painter")
    assert rows["steps"].value() == 9


def test_a_recipe_of_another_model_is_taken_whole_even_where_it_equals_the_present_defaults(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    assert tab.form.rows["steps"].value() == 4
    # 4 is what is shown now, but not what Turbo would take by itself
    tab.form.put_recipe(ImageRecipe(prompt="p", model="turbo", steps=4, guidance=5.0, seed=3, width=128, height=96))
    assert tab.form.card().name == "Turbo"
    assert tab.form.rows["steps"].value() == 4
    assert tab.form.values()["steps"] == 4


def test_a_remembered_value_survives_the_arrival_of_the_models(open_window: Any) -> None:
    # 25 is the declared default; Painter's own is 4
    state = WindowState(tab="image", forms={"image": {"model": "painter", "steps": 25, "guidance": "nonsense"}})
    rig = open_window(state)
    form = rig.tab("image").form
    assert form.card().name == "Painter"
    assert form.rows["steps"].value() == 25
    assert form.values() == {"model": "painter", "prompt": "", "steps": 25}


def test_what_a_model_cannot_do_is_greyed_out_with_a_reason_and_not_sent(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    tab.form.put_some({"negative": "green", "guidance": 9.0, "scheduler": "euler"})
    assert tab.form.values()["negative"] == "green"
    assert "scheduler" not in tab.form.values()
    choose(rig, tab, "Turbo")
    for name in ("negative", "guidance", "guidance_rescale", "scheduler"):
        row = tab.form.rows[name]
        assert not row.isEnabled()
        for widget in (row.label, row.editor.target()):  # the ones a pointer finds
            assert "“Turbo” does not use this." in widget.toolTip(), name
    assert not {"negative", "guidance", "scheduler"} & set(tab.form.values())
    work = rig.made("image", "plain", steps=1)
    assert work.recipe.negative == "" and work.recipe.guidance == 5.0
    choose(rig, tab, "Painter")
    row = tab.form.rows["guidance"]
    assert row.isEnabled() and "does not use" not in row.editor.target().toolTip()
    assert tab.form.values()["guidance"] == 9.0
    voice = rig.tab("speech")
    choose(rig, voice, "Speaker")
    assert not voice.form.rows["speaker"].isEnabled()
    assert "one speaker" in voice.form.rows["speaker"].editor.target().toolTip()
    choose(rig, voice, "Choir")
    assert voice.form.rows["speaker"].isEnabled()
    voice.form.rows["speaker"].editor.findChild(QSlider).setValue(1000)
    assert voice.form.rows["speaker"].value() == 4, "the last of five speakers"


def test_shapes_are_multiples_of_what_the_model_wants(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Turbo")
    rows = tab.form.rows
    menu = tab.form.findChild(QWidget, "shape").menu()
    entries = {a.text(): a for a in menu.actions() if a.text()}
    for title, ratio in (
        ("Square", 1.0), ("Portrait 3:4", 3 / 4), ("Landscape 4:3", 4 / 3), ("Wide 16:9", 16 / 9),
        ("Tall 9:16", 9 / 16),
    ):  # fmt: skip
        entries[title].trigger()
        width, height = rows["width"].value(), rows["height"].value()
        assert width % 8 == 0 and height % 8 == 0
        assert width / height == pytest.approx(ratio, rel=0.15)
        assert width * height == pytest.approx(128 * 96, rel=0.2)
    entries["Swap width and height"].trigger()
    assert (rows["width"].value(), rows["height"].value()) == (height, width)
    entries["The model's own size"].trigger()
    assert rows["width"].value() is None and "width" not in tab.form.values()


def test_problems_stand_beside_their_field(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    rows = tab.form.rows
    # 1. nothing written
    tab.form.put_some({"prompt": "  "})
    QTest.mouseClick(tab.go, Qt.MouseButton.LeftButton)
    rig.until(lambda: rows["prompt"].problem.isVisible())
    assert "empty" in rows["prompt"].problem.text()
    assert rows["prompt"].editor.target().accessibleDescription() == rows["prompt"].problem.text()
    assert rig.window.focusWidget() is rows["prompt"].editor.target()
    tab.form.count()  # as happens when a model has been loaded
    assert rows["prompt"].problem.isVisible()
    QTest.keyClicks(rows["prompt"].editor.target(), "cat")
    assert not rows["prompt"].problem.isVisible()
    # 2. a size the model cannot make
    rows["width"].editor.target().setFocus()
    QTest.keyClicks(rows["width"].editor.target(), "100")
    QTest.mouseClick(tab.go, Qt.MouseButton.LeftButton)
    rig.until(lambda: rows["width"].problem.isVisible())
    assert "multiple of 8" in rows["width"].problem.text()
    rows["width"].put(None)
    # 3. told by the engine
    rig.make("image", "field")
    rig.until(lambda: rows["seed"].problem.isVisible())
    assert rows["seed"].problem.text() == "The seed is unlucky. Take another."
    # 4. in a fold that is closed
    text = rig.tab("text")
    fold = text.form._folds["advanced"]
    assert not fold.is_open()
    text.form.put_some({"prompt": "go on", "context": 9000})
    text.make()
    rig.until(lambda: text.form.rows["context"].problem.isVisible())
    assert fold.is_open() and "4,096" in text.form.rows["context"].problem.text()


def test_a_wrong_value_in_a_closed_fold_is_shown_when_it_is_in_the_way(rig: Any) -> None:
    tab = rig.tab("speech")
    tab.form.put_some({"text": "Hello.", "noise": 7.0})
    assert not tab.form._folds["advanced"].is_open()
    tab.make()
    assert tab.form.rows["noise"].problem.isVisible()
    assert rig.window.focusWidget() is tab.form.rows["noise"].editor.target()
    assert rig.idle()


def test_a_very_long_paste_is_refused_with_a_sentence_and_typing_goes_on(rig: Any) -> None:
    tab = rig.tab("image")
    row = tab.form.rows["prompt"]
    edit = row.editor.target()
    tab.form.put_some({"prompt": "cat"})
    paste(edit, "x" * 300_000)
    assert row.value() == "cat"
    assert row.problem.isVisible() and "300,000 characters were not pasted" in row.problem.text()
    # what is in the field is sound and can be made
    assert tab.form.complaints() == []
    QTest.keyClicks(edit, "s")
    assert row.value() == "cats" and not row.problem.isVisible()
    tab.form.put_some({"prompt": ""})
    paste(edit, "a " * 100_000)
    assert len(row.value()) == 200_000 and not tab.form.complaints()
    QTest.keyClicks(edit, "!")
    assert row.value().endswith("a !")
    # what replaces the rest has room
    edit.selectAll()
    paste(edit, "b " * 100_000)
    assert row.value() == "b " * 100_000


def test_tokens_are_estimated_and_then_counted_by_the_model(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    row = tab.form.rows["prompt"]
    edit = row.editor.target()
    edit.setFocus()
    QTest.keyClicks(edit, "one two three four")
    assert row.counter.text().startswith("≈")
    rig.made("image", "one two three four", steps=1)
    rig.until(lambda: row.counter.text() == "4 of 6 tokens")
    QTest.keyClicks(edit, " five six seven eight")
    assert row.counter.text().startswith("≈")
    rig.until(lambda: row.counter.text() == "8 of 6 tokens")
    assert row.problem.isVisible() and "reads 6 tokens" in row.problem.text()
    edit.selectAll()
    QTest.keyClicks(edit, "few")
    assert not row.problem.isVisible()
    rig.until(lambda: row.counter.text() == "1 of 6 tokens")


def test_a_model_is_counted_with_as_soon_as_it_is_warm(rig: Any) -> None:
    tab = rig.tab("text")
    row = tab.form.rows["prompt"]
    QTest.keyClicks(row.editor.target(), "three short words")
    assert row.counter.text().startswith("≈")
    rig.session.warm("text", tab.form.card().id)
    rig.until(lambda: row.counter.text() == "3 tokens")


def test_models_are_added_by_their_path_or_refused_with_a_sentence(rig: Any, tmp_path: Path) -> None:
    for kind in ("text", "image", "speech"):
        rig.tab(kind)
    image, text, speech = (rig.window.tabs[k] for k in ("image", "text", "speech"))
    # a folder
    folder = makers.diffusers(tmp_path / "Small paint")
    image.form.model_editor.add(folder)
    rig.until(lambda: image.form.card() is not None and image.form.card().path == str(folder))
    assert image.form.values()["model"] == image.form.card().id
    rig.until(lambda: not image.form.rows["model"].problem.text())
    assert not image.form.complaints()
    # files
    (tmp_path / "tiny.gguf").write_bytes(makers.gguf())
    text.form.model_editor.add(tmp_path / "tiny.gguf")
    rig.until(lambda: text.form.card().path.endswith("tiny.gguf"))
    voice = makers.voice(tmp_path / "voices")
    speech.form.model_editor.add(voice)
    rig.until(lambda: speech.form.card().path == str(voice))
    # a pickle
    pickle = tmp_path / "evil.ckpt"
    pickle.write_bytes(b"\x80\x02}q\x00.")
    rig.window.go("image")
    image.form.model_editor.add(pickle)
    rig.until(lambda: image.notice.isVisible())
    assert "pickle" in image.notice.sentence.text()
    assert image.form.card().path == str(folder)
    # another kind
    (tmp_path / "other.gguf").write_bytes(makers.gguf(general__name="Other"))
    image.form.model_editor.add(tmp_path / "other.gguf")
    rig.until(lambda: rig.window.notice.isVisible())
    assert "a text model; it was added to its own tab" in rig.window.notice.sentence.text()
    assert image.form.card().path == str(folder)
    rig.until(lambda: any(c.path.endswith("other.gguf") for c in rig.desk.cards("text")))


def test_keys_on_the_closed_list_of_models_never_open_a_file_dialog(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tab = rig.tab("speech")
    asked: list[bool] = []
    monkeypatch.setattr(tab.form.model_editor, "ask", lambda *, folder: asked.append(folder))
    box = tab.form.model_editor.target()
    box.setFocus()
    for key in (Qt.Key.Key_Down, Qt.Key.Key_End, Qt.Key.Key_A, Qt.Key.Key_PageDown):
        QTest.keyClick(box, key)
        assert box.view().isVisible(), "a key opens the list"
        box.hidePopup()
    assert not asked and tab.form.card().name == "Speaker"
    # and in the open list they choose
    box.showPopup()
    QTest.keyClick(box.view(), Qt.Key.Key_Down)
    QTest.keyClick(box.view(), Qt.Key.Key_Return)
    assert tab.form.card().name == "Choir"


def test_only_what_differs_is_sent(rig: Any) -> None:
    tab = rig.tab("image")
    choose(rig, tab, "Painter")
    tab.form.put({"prompt": "cat", "model": "painter"})
    assert tab.form.values() == {"prompt": "cat", "model": "painter"}
    tab.form.put_some({"steps": 4, "width": 64, "guidance": 5.0, "count": 1})
    assert tab.form.values() == {"prompt": "cat", "model": "painter"}
    tab.form.put_some({"steps": 5, "seed": 0})
    assert tab.form.values() == {"prompt": "cat", "model": "painter", "steps": 5, "seed": 0}


def test_a_recipe_can_be_taken_in_parts(rig: Any) -> None:
    form = rig.tab("image").form
    start = {"prompt": "old", "negative": "bad", "model": "painter", "steps": 9, "seed": 1, "count": 3}
    recipe = ImageRecipe(prompt="new", negative="", model="painter", steps=7, guidance=2.0, seed=5, width=72, height=64)
    expected = {
        "prompt": {**start, "prompt": "new", "negative": ""},
        "seed": {**start, "seed": 5},
        "settings": {**start, "steps": 7, "guidance": 2.0, "width": 72},
        "all": {
            **start, "prompt": "new", "negative": "", "steps": 7, "guidance": 2.0, "width": 72, "seed": 5,
            "count": 1,  # the one picture, not a batch like the one it came from
        },
    }  # fmt: skip
    for part, values in expected.items():
        form.put(start)
        form.put_recipe(recipe, part)
        wanted = {n: v for n, v in values.items() if v != "" and (n, v) != ("count", 1)}
        assert form.values() == wanted, part


def test_ctrl_enter_in_any_field_asks_exactly_once(rig: Any) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "hold"})
    seen = []
    for name in ("prompt", "steps", "seed", "width"):
        target = tab.form.rows[name].editor.target()
        target.setFocus()
        QTest.keyClick(target, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        seen.append(name)
        rig.until(lambda: len(rig.desk.track.jobs) >= len(seen))
        rig.desk.tasks.write(tab, lambda: None, lambda _: seen)  # what was asked for before is through after this
        rig.until(lambda: len(rig.desk.track.jobs) == len(seen))
    assert "\n" not in tab.form.rows["prompt"].value()
    tab.stop_all()
    rig.until(rig.idle)
    assert len(rig.desk.track.jobs) == 4
