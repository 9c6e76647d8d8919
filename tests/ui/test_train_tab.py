"""The Train tab at work: data sets, trainings with their curves and samples, searches, estimates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel

from studio.core.cards import Limits, ModelCard
from studio.core.learning import Made
from studio.ui.actions import keys_of
from studio.ui.learn.datasets import RemoveDialog
from studio.ui.learn.exporting import ConvertDialog
from studio.ui.learn.runs import MadeCard
from tests.ui.hands import click_work, drop, press
from tests.ui.test_everywhere import outside

Key, Mod = Qt.Key, Qt.KeyboardModifier


def words(widget: Any) -> list[str]:
    """All that is said in labels that can be seen."""
    return [label.text() for label in widget.findChildren(QLabel) if label.isVisible() and label.text()]


def cells(table: Any) -> list[list[str]]:
    model = table.model()
    return [
        [model.data(model.index(r, c)) for c in range(model.columnCount())] for r in range(model.rowCount())
    ]  # fmt: skip


def a_dataset(rig: Any, name: str = "Stories", *, file: str = "a.txt") -> Any:
    """Make a data set through the form; its work."""
    tab = rig.tab("train")
    tab.set_mode("data")
    known = {w.id for w in tab.history.model.works}
    tab.form.put_some({"sources": (file,), "name": name})
    tab.make()
    rig.until(lambda: rig.idle() and any(w.id not in known for w in tab.history.model.works))
    rig.until(lambda: any(each.name == name for each in rig.desk.datasets))
    return next(w for w in tab.history.model.works if w.id not in known)


def train(rig: Any, name: str, mode: str = "text", **more: Any) -> Any:
    tab = rig.tab("train")
    tab.set_mode(mode)
    before = len(rig.desk.track.jobs)
    tab.form.put_some({"name": name, **more})
    tab.make()
    rig.until(lambda: len(rig.desk.track.jobs) > before or tab.notice.isVisible())
    return tab


def trained(rig: Any, name: str, mode: str = "text", **more: Any) -> Any:
    tab = rig.tab("train")
    known = {w.id for w in tab.history.model.works}
    train(rig, name, mode, **more)
    rig.until(lambda: rig.idle() and any(w.id not in known for w in tab.history.model.works))
    return tab


# -- data -----------------------------------------------------------------------------------------------------------


def test_files_that_are_dropped_are_looked_at_before_anything_is_made(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("train")
    tab.set_mode("text")
    file = tmp_path / "book.txt"
    file.write_text("words")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file)), QUrl.fromLocalFile(str(tmp_path))])
    assert drop(tab.centre, data)
    assert tab.mode.name == "data" and tab.form.rows["sources"].value() == (str(file), str(tmp_path))
    page = tab.page
    rig.until(lambda: page.sections["rows"].isVisible())
    assert cells(page.rows) == [["text", "<b>first</b> row"], ["left out: too short", ""]]
    assert cells(page.files)[0][0] == "book.txt" and page.notes.text() == "Read as UTF-8."
    assert not rig.desk.track.jobs and not rig.session.datasets(), "only looked at"
    # its columns are offered, and one of them is taken into the recipe
    tab.form._folds["columns"].open()
    box = tab.form.rows["text"].editor.target()
    assert [box.itemText(at) for at in range(box.count())] == ["", "body", "title"]
    QTest.keyClicks(box.lineEdit(), "body")
    assert tab.form.values()["text"] == "body"


def test_what_cannot_be_read_is_said_at_once(rig: Any) -> None:
    tab = rig.tab("train")
    tab.form.put_some({"sources": ("unreadable.csv",)})
    tab.page.touch()
    rig.until(lambda: tab.page.notice.isVisible())
    assert "no column" in tab.page.notice.sentence.text() and "a, b" in tab.page.notice.hint.text()


def test_a_file_without_rows_is_said_and_no_empty_table_is_shown(rig: Any) -> None:
    tab = rig.tab("train")
    tab.form.put_some({"sources": ("empty.txt",)})
    tab.page.touch()
    rig.until(lambda: tab.page.notice.isVisible())
    assert tab.page.notice.sentence.text() == "No rows were found in it."
    assert tab.page.files.isVisible() and not tab.page.sections["rows"].isVisible()
    assert tab.page.files.rows_model.heads == ("File", "What it is", "Size"), "columns that say nothing are left out"
    assert not tab.page.status.text().strip().endswith("·")


def test_a_note_is_said_once_where_the_page_says_it(rig: Any) -> None:
    a_dataset(rig)
    tab = rig.tab("train")
    rig.until(lambda: tab.page.notes.isVisible())
    assert tab.page.notes.text() == "Two rows were mended." and not tab.notice.isVisible()


def test_no_title_of_a_field_is_cut_off(rig: Any) -> None:
    tab = rig.tab("train")
    for mode in ("data", "text", "image", "search"):
        tab.set_mode(mode)
        for fold in tab.form._folds.values():
            fold.open()
        for name, made in tab.form.rows.items():
            for label in (made.label, made.unit):
                if made.editor.compact and label.isVisible() and label.text():
                    assert label.width() >= label.fontMetrics().horizontalAdvance(label.text()), (mode, name)


def test_no_form_is_wider_than_its_column(rig: Any) -> None:
    tab = rig.tab("train")
    rig.window.resize(1024, 640)
    for mode in ("data", "text", "image", "search"):
        tab.set_mode(mode)
        if mode == "search":
            tab.form.put_some({"over": ({"field": "rate", "low": 1e-4, "high": 1e-2},)})
        for fold in tab.form._folds.values():
            fold.open()
        QApplication.processEvents()
        assert tab.form.minimumSizeHint().width() <= tab.form_scroll.viewport().width(), mode


def test_a_number_whose_zero_means_something_says_what(rig: Any) -> None:
    tab = rig.tab("train")
    tab.set_mode("text")
    steps = tab.form.rows["steps"]
    assert steps.editor.target().text() == "by epochs" and steps.value() == 0
    assert tab.form.rows["patience"].editor.target().text() == "5"
    tab.form.put_some({"patience": 0})
    assert tab.form.rows["patience"].editor.target().text() == "never" and tab.form.values()["patience"] == 0


def test_nothing_to_read_is_said_beside_the_field(rig: Any) -> None:
    tab = rig.tab("train")
    tab.make()
    made = tab.form.rows["sources"]
    assert made.problem.isVisible() and "Add a file" in made.problem.text()
    assert QApplication.focusWidget() is made.editor.target() and not rig.desk.track.jobs


def test_a_data_set_is_made_and_shown_and_can_be_learnt_from(rig: Any) -> None:
    work = a_dataset(rig, "Stories old")
    tab, page = rig.window.tabs["train"], rig.window.tabs["train"].page
    rig.until(lambda: page.dataset is not None)
    assert work.kind == "dataset" and page.title.text() == "Stories old"
    assert cells(page.splits) == [["to learn from", "27", "90", "900 B"], ["for validation", "3", "9", "90 B"]]
    assert cells(page.dropped) == [["the same as another row", "4"]]
    assert [bar.said for bar in page.lengths.bars()] == ["20", "10"]
    assert cells(page.balance)[1][:4] == ["men", "12", "120", "9"]
    assert cells(page.beside) == [["women", "home", "7", "1", "2.5"]]
    assert cells(page.rows) == [["text", "<i>row</i> 0"]]
    page.train_button.click()
    assert tab.mode.name == "text" and tab.form.values()["data"] == page.dataset.id
    assert "Stories old" in tab.form.rows["data"].editor.target().currentText()


def test_pictures_are_learnt_from_in_the_form_for_pictures(rig: Any) -> None:
    a_dataset(rig, "Cats captions")
    tab = rig.window.tabs["train"]
    rig.until(lambda: tab.page.dataset is not None)
    tab.page.train_button.click()
    assert tab.mode.name == "image" and tab.form.values()["data"].startswith("cats-")
    tab.set_mode("text")
    box = tab.form.rows["data"].editor.target()
    assert [box.itemText(at) for at in range(box.count())] == ["Make a data set …"], "no texts are there"
    tab.make()
    assert "Make a data set first" in tab.form.rows["data"].problem.text()


def test_a_data_set_is_deleted_after_a_question_and_not_before(rig: Any) -> None:
    a_dataset(rig)
    tab, page = rig.window.tabs["train"], rig.window.tabs["train"].page
    rig.until(lambda: page.dataset is not None)
    page.remove_button.click()
    asked = rig.window.findChild(RemoveDialog)
    assert asked.isVisible() and any("cannot be undone" in said for said in words(asked))
    asked.reject()
    assert rig.session.datasets()
    page.remove_button.click()
    asked = next(each for each in rig.window.findChildren(RemoveDialog) if each.isVisible())
    asked.accept()
    rig.until(lambda: not rig.desk.datasets)
    assert not rig.session.datasets() and page.dataset is None and page.empty.isVisible()
    # its description is still a work, and says that the rows are gone
    tab.show_work(tab.history.model.works[0])
    rig.until(lambda: page.dataset is not None)
    assert "it was deleted" in page.status.text() and not page.train_button.isEnabled()


def test_the_list_of_data_sets_is_used_with_the_keys(rig: Any) -> None:
    a_dataset(rig, "One")
    a_dataset(rig, "Two")
    page = rig.window.tabs["train"].page
    page.back_button.click()
    assert page.empty.isVisible() and {row[0] for row in cells(page.table)} == {"One", "Two"}
    page.table.setFocus()
    page.table.selectRow(1)
    name = cells(page.table)[1][0]
    QTest.keyClick(page.table, Key.Key_Return)
    assert page.dataset is not None and page.title.text() == name


# -- training -------------------------------------------------------------------------------------------------------


def test_a_training_shows_its_curve_and_samples_while_it_learns(rig: Any) -> None:
    a_dataset(rig)
    tab = train(rig, "hold", prompts=("<b>Once</b>", "Then"))
    page = tab.page
    rig.until(lambda: len(page.loss._curves) and len(page.loss._curves[0].points) == 6)
    assert page.stop_button.isVisible() and not page.empty.isVisible()
    assert "step 5 of 8" in page.status.text()
    assert [curve.name for curve in page.loss._curves] == ["loss", "validation"]
    assert page.loss._best == (4.0, 1.0) and "best 1 at step 4" in page.legend.text()
    assert page.rate._curves[0].points[0] == (0.0, 1e-3) and len(page.norm._curves[0].points) == 6
    rig.until(lambda: "Then" in words(page.samples))
    said = words(page.samples)
    assert said[:5] == ["<b>Once</b>", "before", "sample 0", "step 4 · best", "sample 4"]
    page.stop_button.click()
    rig.until(lambda: rig.idle() and page.go_on_button.isVisible())
    assert not page.stop_button.isVisible() and "kept" in page.status.text()


def test_a_stopped_training_goes_on_where_it_was(rig: Any) -> None:
    a_dataset(rig)
    tab = train(rig, "hold")
    page = tab.page
    rig.until(lambda: rig.running("train-text") and len(page.loss._curves[0].points) == 6)
    first = rig.session.job(page.job).recipe.run
    press(rig, Key.Key_Escape, Mod.NoModifier)
    rig.until(lambda: page.go_on_button.isVisible())
    stopped = page.job
    page.go_on_button.click()
    rig.until(lambda: page.job != stopped and rig.running("train-text"))
    assert rig.session.job(page.job).recipe.run == first, "its checkpoints are in the same folder"
    tab.stop()
    rig.until(rig.idle)


def test_what_a_stopped_training_kept_is_a_work_that_goes_on(rig: Any) -> None:
    a_dataset(rig)
    tab = train(rig, "hold half")
    rig.until(lambda: rig.running("train-text") and len(tab.page.loss._curves[0].points) == 6)
    tab.page.stop_button.click()
    rig.until(lambda: rig.idle() and tab.work is not None and tab.work.kind == "training")
    assert not tab.work.complete
    rig.until(tab.page.go_on_button.isVisible)


def test_after_it_before_and_after_and_what_was_made_are_shown(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a_dataset(rig)
    tab = trained(rig, "My model")
    page = tab.page
    rig.until(lambda: page.facts.isVisible())
    assert page.facts.text() == "Validation loss: 2 → 1 · best at step 4"
    assert page.status.text().startswith("8 of 8 steps · in 0.8 s")
    assert page.notes.text() == "It went well."
    card = page.findChild(MadeCard)
    assert card is not None and "Loaded back: the same logits." in words(card)
    rig.until(lambda: sum(said.startswith("sample") for said in words(page.samples)) == 3)
    assert [c for c in words(page.samples) if c.startswith("sample")] == ["sample 0", "sample 4", "sample 8"]
    opened: list[Path] = []
    monkeypatch.setattr("studio.ui.tabs.train.open_folder", opened.append)
    card.findChild(object, "made_folder").click()
    assert opened == [Path("/nowhere/soft")]
    card.findChild(object, "made_use").click()
    rig.until(lambda: tab.notice.isVisible())
    assert "not among the models any more" in tab.notice.sentence.text()


def test_a_model_that_was_made_is_used_in_its_own_tab(rig: Any) -> None:
    a_dataset(rig)
    tab = trained(rig, "My model")
    rig.until(lambda: tab.page.findChild(MadeCard) is not None)
    card = ModelCard(
        id="soft", name="Soft", kind="text", engine="text.fake", path="/nowhere/soft", format="fake", sha256="-",
        can=("complete",), limits=Limits(context=512),
    )  # fmt: skip
    rig.session._models.all.append(card)
    rig.desk.read_models()
    rig.until(lambda: rig.desk.card("text", "soft").id == "soft")
    tab.page.findChild(MadeCard).findChild(object, "made_use").click()
    rig.until(lambda: rig.window.tab.kind == "text")
    assert rig.window.tab.form.card().id == "soft"


def test_pictures_stand_in_a_strip_for_each_prompt(rig: Any) -> None:
    a_dataset(rig, "Cats captions")
    tab = train(rig, "hold", "image", prompts=("a red square",))
    rig.until(lambda: tab.page.findChild(object, "strip_0") is not None and len(tab.page.loss._curves[0].points) == 6)
    strip = tab.page.findChild(object, "strip_0")
    pictures = [label for label in strip.findChildren(QLabel) if not label.pixmap().isNull()]
    assert [label.accessibleName() for label in pictures] == ["a red square, before", "a red square, now · step 4"]
    tab.stop()
    rig.until(rig.idle)


def test_the_numbers_under_the_pointer_and_the_keys(rig: Any) -> None:
    a_dataset(rig)
    tab = trained(rig, "My model")
    page = tab.page
    rig.until(lambda: page.facts.isVisible())
    page.loss.setFocus()
    QTest.keyClick(page.loss, Key.Key_Home)
    assert page.loss.describe().startswith("step 0: loss 3, validation 2")
    QTest.keyClick(page.loss, Key.Key_Right)
    assert page.loss._at == 1.0 and page.rate._at == 1.0, "the plots point at the same step"
    assert "best 1 at step 4" in page.loss.accessibleDescription()
    page.log.click()
    page.smoothing.setValue(0)
    assert rig.desk.state.forms["curves"] == {"smoothing": 0, "log": True}
    page.grab()  # draws it


def test_only_what_belongs_to_the_method_is_asked_for(rig: Any) -> None:
    a_dataset(rig)
    tab = rig.tab("train")
    tab.set_mode("text")
    form = tab.form
    for fold in form._folds.values():
        fold.open()
    assert form.rows["model"].isVisible() and form.rows["rank"].isVisible() and not form._folds["scratch"].isVisible()
    form.put_some({"rank": 4, "method": "scratch", "layers": 2})
    assert not form.rows["model"].isVisible() and not form.rows["rank"].isVisible()
    assert form.rows["layers"].isVisible()
    values = form.values()
    assert "rank" not in values and values["layers"] == 2 and "model" not in values
    form.put_some({"steps": 10})
    assert not form.rows["epochs"].isVisible()


def test_an_estimate_is_one_honest_line(rig: Any) -> None:
    a_dataset(rig)
    tab = rig.tab("train")
    tab.set_mode("text")
    said: list[str] = []
    write = tab.estimate_label.setText
    tab.estimate_label.setText = lambda text: (said.append(text), write(text))
    tab.estimate_button.click()
    rig.until(lambda: "min" in tab.estimate_label.text())
    assert "reading the weights …" in said, "it may take minutes, so it says what is done"
    assert tab.estimate_label.text() == "about 6 min · 1.4 GB"
    assert not rig.session.works(kind="training"), "nothing was trained"
    tab.form.put_some({"rank": 4})
    tab.form.changed.emit("rank")
    assert tab.estimate_label.text() == "", "it was for other values"
    # the worker is there now, so it comes by itself when the form rests
    rig.until(lambda: tab.estimate_label.text() == "about 6 min · 1.4 GB")


def test_only_the_model_that_was_meant_is_exported(rig: Any) -> None:
    tab = rig.tab("train")
    tab.set_mode("text")
    card = next(each for each in rig.desk.models if each.kind == "text" and each.id != rig.desk.cards("text")[0].id)
    tab.export_model(Made("model", card.path))
    dialog = rig.window.findChild(ConvertDialog)
    assert not dialog.save.isEnabled(), "which model it is, is not known yet"
    rig.until(dialog.save.isEnabled)
    assert dialog.form.rows["model"].value() == card.id
    dialog.reject()
    rig.until(lambda: rig.window.findChild(ConvertDialog) is None)
    tab.export_model(Made("model", "/nowhere/soft"))
    rig.until(lambda: tab.notice.isVisible())
    assert "“soft” is not among the models any more" in tab.notice.sentence.text()
    assert not any(made.isVisible() for made in rig.window.findChildren(ConvertDialog))


def test_a_training_that_fails_says_why_and_can_go_on(rig: Any) -> None:
    a_dataset(rig)
    tab = train(rig, "fail")
    rig.until(lambda: rig.idle() and tab.notice.isVisible())
    assert "9 GB" in tab.notice.sentence.text() and tab.page.go_on_button.isVisible()


def test_data_are_made_while_a_model_learns(rig: Any) -> None:
    a_dataset(rig)
    tab = train(rig, "hold")
    rig.until(lambda: rig.running("train-text"))
    assert tab.go.text().startswith("Cancel")
    tab.set_mode("data")
    assert tab.go.text().startswith("Make data set"), "the button is about what its form makes"
    tab.form.put_some({"name": "Two"})
    tab.make()
    rig.until(lambda: len(rig.desk.datasets) == 2)
    assert rig.running("train-text")
    tab.set_mode("text")
    assert tab.page.stop_button.isVisible()
    tab.stop()
    rig.until(rig.idle)


# -- searches -------------------------------------------------------------------------------------------------------


def test_a_search_varies_the_training_as_its_form_stands(rig: Any) -> None:
    a_dataset(rig)
    tab = rig.tab("train")
    tab.set_mode("text")
    tab.form.put_some({"name": "Base", "rank": 4})
    tab.set_mode("search")
    assert "LoRA" in tab.searched_said.text() and "Stories" in tab.searched_said.text()
    tab.make()
    assert "what is to be varied" in tab.form.rows["over"].problem.text()
    tab.form.rows["over"].editor.target().click()
    entry = tab.form.rows["over"].editor._rows[0]
    titles = [entry._editors["field"].target().itemText(at) for at in range(3)]
    assert "Learning rate" in titles
    entry._editors["field"].put("rate")
    entry._editors["low"].put(1e-5)
    entry._editors["high"].put(1e-3)
    entry._editors["log"].put(True)
    tab.make()
    rig.until(lambda: tab.page.importance_section.isVisible())
    recipe = tab.work.recipe
    assert recipe.training.rank == 4 and recipe.training.name == "Base"
    assert [(r.field, r.low, r.high, r.log) for r in recipe.over] == [("rate", 1e-5, 1e-3, True)]
    assert [bar.name for bar in tab.page.importance.bars()] == ["Learning rate", "Rank"]
    assert tab.page.trials.rows_model.heads == ("Trial", "Learning rate", "Validation loss", "State")
    table = tab.page.trials
    assert (1, 2) in table.rows_model.bold, "the best stands out"
    table.sortByColumn(2, Qt.SortOrder.AscendingOrder)
    assert [row[0] for row in cells(table)] == ["2", "1", "0"] and (1, 2) in table.rows_model.bold
    # taken over, it fills both forms
    tab.set_mode("text")
    tab.form.put({})
    tab.take_recipe(recipe)
    assert tab.mode.name == "search" and tab.forms["text"].rows["rank"].value() == 4
    assert len(tab.form.rows["over"].value()) == 1


def test_the_trials_of_a_search_come_one_by_one(rig: Any) -> None:
    a_dataset(rig)
    tab = rig.tab("train")
    tab.set_mode("text")
    tab.form.put_some({"name": "hold"})  # the search takes its title of the training
    tab.set_mode("search")
    tab.form.put_some({"over": ({"field": "rate", "low": 1e-5, "high": 1e-3},)})
    tab.make()
    page = tab.page
    rig.until(lambda: len(cells(page.trials)) == 3 and page.trials.isVisible())
    assert [curve.points for curve in page.loss._curves] == [
        [(0.0, 2.5), (1.0, 2.0), (2.0, 1.5)], [(0.0, 2.5), (1.0, 2.0), (2.0, 1.5)]
    ]  # fmt: skip
    assert page.trials.rows_model.bold == {(2, column) for column in range(3)}, "so far the last one is the best"
    tab.stop()
    rig.until(rig.idle)


# -- the window -----------------------------------------------------------------------------------------------------


def test_the_tab_has_its_keys_its_history_and_its_memory(rig: Any, open_window: Any) -> None:
    work = a_dataset(rig)
    tab = trained(rig, "My model")
    rig.window._actions["show_text"].trigger()
    assert rig.window.tab.kind == "text"
    rig.window._actions["show_train"].trigger()
    assert rig.window.tab is tab and keys_of("show_train") == "Ctrl+4"
    assert [w.kind for w in tab.history.model.works] == ["training", "dataset"]
    click_work(tab, work)
    assert tab.mode.name == "data" and tab.work.id == work.id
    rig.until(lambda: tab.page.dataset is not None)
    rig.window.show_work(next(w for w in tab.history.model.works if w.kind == "training"))
    assert tab.mode.name == "text" and tab.details.work.kind == "training"
    tab.save_as()
    assert tab.notice.isVisible() or rig.window.findChild(object, "export_dialog") is not None
    state = rig.desk.state
    rig.close()
    again = open_window(state)
    assert again.window.tab.kind == "train" and again.window.tab.mode.name == "text"
    again.until(lambda: again.window.tab.work is not None)
    assert again.window.tab.work.kind == "training", "the newest of this mode is a good place to begin"


def test_a_recipe_in_a_file_fills_the_form_it_belongs_to(rig: Any, tmp_path: Path) -> None:
    a_dataset(rig)
    tab = trained(rig, "My model", rank=4)
    tab.form.put({})
    tab.set_mode("data")
    tab.take_file(rig.session.path(tab.history.model.works[0]))
    rig.until(lambda: tab.mode.name == "text" and tab.form.rows["rank"].value() == 4)
    book = tmp_path / "book.txt"
    book.write_text("once")
    tab.take_file(book)
    rig.until(lambda: tab.mode.name == "data" and str(book) in tab.form.rows["sources"].value())


def test_nothing_is_cut_off_at_the_smallest_size_whatever_is_shown(rig: Any) -> None:
    work = a_dataset(rig, "Stories with a rather long name of their own")
    tab = trained(rig, "A model whose name is long, too long for one line", prompts=("a " * 200,))
    rig.until(lambda: tab.page.facts.isVisible())
    rig.window.resize(1024, 640)
    rig.until(lambda: rig.window.width() == 1024)
    rig.until(lambda: not outside(rig), 3)  # what has just come is laid out in a moment
    tab.show_work(work)
    rig.until(lambda: tab.page.dataset is not None)
    rig.until(lambda: not outside(rig), 3)
