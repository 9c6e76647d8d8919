"""The Evaluate tab at work: measuring, reports with their intervals, several of them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel

from tests.ui.hands import click_work, drop, press
from tests.ui.test_train_tab import a_dataset, cells

Key, Mod = Qt.Key, Qt.KeyboardModifier


def measured(rig: Any, title: str, **values: Any) -> Any:
    """Ask for an evaluation as a user does; its work. The title is the script, so it is the name of a file here."""
    tab = rig.tab("evaluate")
    tab.set_mode("text")
    known = {w.id for w in tab.history.model.works}
    tab.form.put({"candidates": f"/nowhere/{title}", **values})
    tab.make()
    rig.until(lambda: rig.idle() and any(w.id not in known for w in tab.history.model.works))
    return next(w for w in tab.history.model.works if w.id not in known)


def test_a_report_shows_its_figures_with_their_intervals(rig: Any) -> None:
    work = measured(rig, "texts")
    tab, page = rig.window.tabs["evaluate"], rig.window.tabs["evaluate"].page
    rig.until(lambda: page.report is not None)
    assert work.kind == "report" and tab.work.id == work.id
    bars = page.bars.bars()
    assert [(bar.name, bar.said) for bar in bars] == [("BLEU", "20  (19 – 21)"), ("perplexity", "9.5  (9 – 10)")]
    assert bars[0].low == 19 and "higher is better · 30 rows · nrefs:1" in bars[0].tip
    table = page.findChild(object, "table_0")
    assert cells(table) == [["<b>a</b>", "b"], ["c", "d"]], "plain text, whatever a model writes"
    assert page.findChild(object, "plot_0").describe() == "step 1: loss 2"
    facts = page.facts.text()
    assert "Seeds: 7" in facts and "abababababababab" in facts and "fake 1" in facts and "Signature: nrefs:1" in facts
    assert page.notes.text() == "Measured on 30 rows."
    assert not page.comparison.isVisible(), "there is only one whose figures these are"


def test_two_models_in_one_report_stand_side_by_side(rig: Any) -> None:
    tab = rig.tab("evaluate")
    tab.form.rows["models"].editor.target().click()
    tab.form.rows["models"].editor.target().click()
    rows = tab.form.rows["models"].editor._rows
    for entry, name in zip(rows, ("Writer", "Other writer"), strict=True):
        box = entry.target()
        box.setCurrentIndex(box.findText(name))
        box.activated.emit(box.currentIndex())
    assert tab.form.values()["models"] == ("writer", "other-writer")
    tab.make()
    page = tab.page
    rig.until(lambda: page.report is not None)
    assert page.comparison.isVisible() and page.table.rows_model.heads == ("Measure", "writer", "other-writer")
    assert page.table.rows_model.bold == {(0, 2)} and cells(page.table)[0][1].endswith("≈")


def test_several_reports_of_the_history_are_compared(rig: Any) -> None:
    plain, better = measured(rig, "plain"), measured(rig, "better one")
    tab, page = rig.window.tabs["evaluate"], rig.window.tabs["evaluate"].page
    rig.until(lambda: page.report is not None)
    view = tab.history.view
    click_work(tab, plain)
    rig.until(lambda: tab.work.id == plain.id)
    index = tab.history.model.index(tab.history.model.row_of(better.id))
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, Mod.ControlModifier, view.visualRect(index).center())
    rig.until(lambda: page.title.text() == "2 reports")
    heads = page.table.rows_model.heads
    rows = cells(page.table)
    assert len(heads) == 3 and {row[0] for row in rows} == {"BLEU", "perplexity"}
    new = next(at for at, head in enumerate(heads) if "better one" in head)
    assert {(0, new), (1, new)} == page.table.rows_model.bold
    old = 3 - new
    assert all(row[old].endswith("▾") for row in rows), "the intervals do not touch"
    # one alone is shown again
    click_work(tab, plain)
    rig.until(lambda: page.report is not None and page.title.text() == "plain")


def test_what_is_dropped_is_what_is_measured(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("evaluate")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path))])
    tab.set_mode("image")
    assert drop(tab.centre, data)
    assert tab.form.values()["pictures"] == str(tmp_path)
    tab.set_mode("speech")
    assert drop(tab.centre, data) and tab.form.values()["sounds"] == str(tmp_path)


def test_measures_are_ticked_and_none_means_all(rig: Any) -> None:
    tab = rig.tab("evaluate")
    editor = tab.form.rows["measures"].editor
    assert "measures" not in tab.form.values()
    box = editor.findChild(object, "measures_bleu")
    QTest.mouseClick(box, Qt.MouseButton.LeftButton, pos=box.rect().center() - box.rect().center() / 2)
    box.setFocus()
    if not box.isChecked():
        QTest.keyClick(box, Key.Key_Space)
    assert tab.form.values()["measures"] == ("bleu",)


def test_words_of_groups_are_edited(rig: Any) -> None:
    tab = rig.tab("evaluate")
    tab.form._folds["balance"].open()
    editor = tab.form.rows["groups"].editor
    assert len(editor._rows) == 2 and "groups" not in tab.form.values()
    words = editor._rows[0]._editors["words"].target()
    words.setPlainText("she, her")
    given = tab.form.values()["groups"]
    assert given[0] == {"name": "women", "words": "she, her"} and given[1]["name"] == "men"
    editor.target().click()
    assert len(tab.form.values()["groups"]) == 2, "one without a name does not count yet"
    editor._rows[2]._editors["name"].target().setText("children")
    assert tab.form.values()["groups"][2]["name"] == "children"


def test_a_data_set_is_wanted_where_there_is_none(rig: Any) -> None:
    tab = rig.tab("evaluate")
    editor = tab.form.rows["data"].editor
    box = editor.target()
    assert [box.itemText(at) for at in range(box.count()) if box.itemText(at)] == ["none", "Make a data set …"]
    box.setCurrentIndex(box.count() - 1)
    box.activated.emit(box.currentIndex())
    assert rig.window.tab.kind == "train" and rig.window.tab.mode.name == "data"
    a_dataset(rig, "Stories")
    assert box.findText("Stories") >= 0


def test_it_fails_with_a_sentence_and_can_be_stopped(rig: Any) -> None:
    tab = rig.tab("evaluate")
    tab.form.put({"candidates": "/nowhere/fail"})
    tab.make()
    rig.until(lambda: rig.idle() and tab.notice.isVisible())
    assert "9 GB" in tab.notice.sentence.text() and "9 GB" in tab.page.status.text()
    tab.form.put({"candidates": "/nowhere/hold"})
    tab.make()
    rig.until(lambda: rig.running("evaluate-text"))
    rig.until(lambda: "%" in tab.page.status.text())
    assert "when all is measured" in tab.page.notes.text() and tab.page.notes.isVisible()
    press(rig, Key.Key_Escape, Mod.NoModifier)
    rig.until(rig.idle)
    assert not tab.page.area.isVisible()


def test_the_empty_page_says_what_to_do(rig: Any) -> None:
    tab = rig.tab("evaluate")
    for mode in tab.modes[:3]:
        tab.set_mode(mode.name)
        said = [label.text() for label in tab.page.empty.findChildren(QLabel)]
        assert len(said) == 2 and all(len(text) > 15 for text in said)


# -- voting ---------------------------------------------------------------------------------------------------------


def voting(rig: Any, *prompts: str, what: str = "text", one: str = "writer", other: str = "other-writer") -> Any:
    tab = rig.tab("evaluate")
    tab.set_mode("vote")
    tab.form.put_some({"what": what, "prompts": prompts})
    tab.form.put_some({"one": one, "other": other})
    tab.make()
    page = tab.page
    rig.until(lambda: page.at is not None and len(page.pairs) == max(1, len(prompts)))
    return page


def winner_side(page: Any, model: str) -> int:
    """Where the work of a model stands: -1 left, 1 right."""
    first = page.at.one.recipe.model == model
    return (1 if page.swapped else -1) if first else (-1 if page.swapped else 1)


def test_two_models_are_voted_on_without_being_named(rig: Any) -> None:
    page = voting(rig, "a fox", "a hen", "an owl")
    rig.until(lambda: page.left.text.toPlainText() and page.right.text.toPlainText())
    said = " ".join(label.text() for label in page.findChildren(QLabel) if label.isVisible())
    assert "Writer" not in said and "writer" not in said and page.prompt.text() in ("a fox", "a hen", "an owl")
    assert {page.at.one.recipe.seed} == {page.at.other.recipe.seed}, "both from the same seed"
    for _ in range(3):
        key = {-1: Key.Key_1, 1: Key.Key_3}[winner_side(page, "writer")]
        QTest.keyClick(page.left.text if key is Key.Key_1 else page.buttons[1], key)
    assert page.at is None and page.result.isVisible()
    assert [vote.won for vote in page.votes] == [1, 1, 1], "wherever it stood"
    first = page.rates.bars()[0]
    assert first.name == "Writer" and first.said.startswith("100%")
    assert 0.4 < first.low < 0.5, "three votes may be chance"
    assert "No difference beyond chance" in page.words.text()
    QTest.keyClick(page, Key.Key_Backspace)
    assert len(page.votes) == 2 and page.at is not None and not page.result.isVisible()
    QTest.keyClick(page, Key.Key_2)
    assert page.votes[-1].won == 0 and page.rates.bars()[0].said.startswith("83%")


def test_the_buttons_of_a_vote_are_whole_in_a_narrow_window(rig: Any) -> None:
    rig.window.resize(1024, 640)
    page = voting(rig, "a fox")
    rig.until(lambda: page.choices.isVisible())
    for button, key in zip(page.buttons, "123", strict=True):
        assert button.width() >= button.fontMetrics().horizontalAdvance(button.text()) + 16, button.text()
        assert button.text().endswith(key) and len(button.accessibleName()) > 15


def test_pictures_are_voted_on_too(rig: Any) -> None:
    page = voting(rig, "red", what="image", one="painter", other="turbo")
    rig.until(lambda: not page.left.picture.pixmap().isNull() and not page.right.picture.pixmap().isNull())
    assert not rig.window.tab.form.rows["length"].isVisible()
    page.buttons[2].click()
    assert len(page.votes) == 1 and page.result.isVisible()
    rig.until(lambda: len(rig.session.votes("image", "turbo", "painter")) == 1)
    page.clear()
    again = rig.window.tab
    again.make()  # the same two once more: what was voted on is remembered
    rig.until(lambda: len(page.votes) == 1 and page.at is not None)
    page.undo()
    rig.until(lambda: rig.session.votes("image", "turbo", "painter") == [])


def test_works_that_are_there_are_voted_on_without_prompts(rig: Any) -> None:
    for model in ("writer", "other-writer"):
        rig.made("text", "the same words", model=model, seed=3)
    rig.made("text", "only one has these", model="writer")
    page = voting(rig)
    assert [pair.prompt for pair in page.pairs] == ["the same words"]


def test_one_model_alone_cannot_be_voted_on(rig: Any) -> None:
    tab = rig.tab("evaluate")
    tab.set_mode("vote")
    tab.form.put_some({"one": "writer", "other": "writer"})
    tab.make()
    assert "two different" in tab.form.rows["other"].problem.text() and not rig.desk.track.jobs
    rig.desk.models[:] = [card for card in rig.desk.models if card.id == "writer"]
    tab.make()
    assert "only one such model" in tab.form.rows["other"].problem.text() and not rig.desk.track.jobs


def test_the_order_of_the_two_is_drawn_anew_each_time(rig: Any, monkeypatch: Any) -> None:
    drawn = iter([0, 1, 1, 0])
    monkeypatch.setattr("studio.ui.learn.voting.secrets.randbits", lambda _: next(drawn))
    page = voting(rig, "a", "b", "c")
    sides = []
    for _ in range(3):
        sides.append(page.swapped)
        page.vote(-1)  # always the left one
    assert sides == [False, True, True]
    assert [vote.won for vote in page.votes] == [1, -1, -1]
