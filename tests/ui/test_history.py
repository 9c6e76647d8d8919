"""The history: a thousand works, found, looked at, used again and carried away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QMenu

from studio.core.works import Change
from studio.ui import history
from studio.ui.history import PAGE, THUMBNAILS, WORK
from tests.ui.library import fill

MANY = 1000


@pytest.fixture
def full(rig: Any) -> Any:
    """An image tab with a thousand works."""
    fill(rig.session, MANY)
    tab = rig.tab("image")
    rig.until(lambda: len(tab.history.model.works) == PAGE)
    return tab


def settled(rig: Any) -> None:
    """What was asked of the database has been answered."""
    done: list[int] = []
    rig.desk.tasks.read(rig.window, lambda: 1, done.append)
    rig.desk.tasks.read(rig.window, lambda: 2, done.append)
    rig.until(lambda: len(done) == 2)


def click(view: Any, row: int, modifier: Any = Qt.KeyboardModifier.NoModifier) -> None:
    index = view.model().index(row)
    view.scrollTo(index)
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, modifier, view.visualRect(index).center())


def menu_of(view: Any, row: int) -> dict[str, Any]:
    """The entries of the context menu of a work."""
    index = view.model().index(row)
    view.scrollTo(index)
    view.customContextMenuRequested.emit(view.visualRect(index).center())
    menu = next(m for m in view.parent().findChildren(QMenu) if m.isVisible())
    entries = {a.text(): a for a in menu.actions() if not a.isSeparator()}
    menu.close()
    return entries


def test_a_thousand_works_are_fetched_as_they_are_scrolled_to(rig: Any, full: Any) -> None:
    model, view = full.history.model, full.history.view
    assert [w.title for w in model.works[:2]] == ["picture number 999", "picture number 998"]
    pages = 0
    while len(model.works) < MANY:
        before = len(model.works)

        def scrolled(before: int = before) -> bool:
            view.verticalScrollBar().setValue(view.verticalScrollBar().maximum())
            return len(model.works) > before

        rig.until(scrolled)
        pages += 1
    assert pages > 1
    ids = [w.id for w in model.works]
    assert len(set(ids)) == MANY and model.works[-1].title == "picture number 0"
    settled(rig)
    model.fetchMore(model.index(-1))  # the last page was full: whether there is more is known after one more look
    rig.until(lambda: not model._fetching)
    assert not model.canFetchMore(model.index(-1)) and len(model.works) == MANY
    # small pictures come, and only so many are kept
    rig.until(lambda: any(p is not None for p in model._thumbnails.values()))
    for work in model.works:
        model.thumbnail(work)
        assert len(model._thumbnails) <= THUMBNAILS
    first, last = model.works[0], model.works[-1]
    assert last.id in model._thumbnails and first.id not in model._thumbnails
    rig.until(lambda: model.thumbnail(last) is not None)
    assert max(model.thumbnail(last).width(), model.thumbnail(last).height()) <= history.SIDE


def test_works_are_found_by_words_and_by_their_star(rig: Any, full: Any) -> None:
    model, view = full.history.model, full.history.view
    full.history.search.setFocus()
    QTest.keyClicks(full.history.search, "number 77")
    rig.until(lambda: 0 < len(model.works) < PAGE)
    assert {w.title for w in model.works} >= {"picture number 77", "picture number 770"}
    assert all("77" in f"{w.title} {w.id}" for w in model.works)
    full.history.search.selectAll()
    QTest.keyClicks(full.history.search, "nowhere")
    rig.until(lambda: not model.works)
    assert full.history.nothing.isVisible() and full.history.nothing.text() == "Nothing was found."
    full.history.search.clear()
    rig.until(lambda: len(model.works) == PAGE)
    assert not full.history.nothing.isVisible()
    # a star, by the menu
    click(view, 3)
    starred = model.works[3].id
    menu_of(view, 3)["Star"].trigger()
    rig.until(lambda: model.works[3].starred)
    assert full.details.star_button.isChecked()
    QTest.mouseClick(full.history.star_only, Qt.MouseButton.LeftButton)
    rig.until(lambda: [w.id for w in model.works] == [starred])
    # taken away again, it leaves the list of starred works
    menu_of(view, 0)["Remove the star"].trigger()
    rig.until(lambda: not model.works)
    assert full.history.nothing.isVisible()
    QTest.mouseClick(full.history.star_only, Qt.MouseButton.LeftButton)
    rig.until(lambda: len(model.works) == PAGE)


def test_an_old_work_that_changes_does_not_become_a_new_one(rig: Any, full: Any) -> None:
    model = full.history.model
    old = rig.session.works(limit=500, kind="image")[-1]
    assert model.row_of(old.id) < 0
    rig.session.star(old.id, True)
    settled(rig)
    came: list[Any] = []
    model.came.connect(came.append)
    rig.desk.change.emit(Change(works=(old.id,)))
    settled(rig)
    assert model.row_of(old.id) < 0 and not came
    # nor is it shown twice when it is scrolled to
    while model.row_of(old.id) < 0:
        before = len(model.works)
        model.fetchMore(model.index(-1))
        rig.until(lambda: len(model.works) > before)  # noqa: B023
    assert [w.id for w in model.works].count(old.id) == 1
    assert model.works[model.row_of(old.id)].starred


def test_new_works_come_on_top_and_the_selection_stays(rig: Any, full: Any) -> None:
    model, view = full.history.model, full.history.view
    click(view, 4)
    assert full.work.id == model.works[4].id
    chosen = full.work.id
    rig.make("text", "another kind")
    rig.until(rig.idle)
    settled(rig)
    rig.window.go("image")
    assert view.currentIndex().row() == 4
    full.following = "something else"  # the user looks at an old work while jobs run
    rig.desk.submit("image", {"prompt": "new", "model": "painter", "count": 2}, lambda _: None, rig.problems.append)
    rig.until(lambda: rig.idle() and len(model.works) == PAGE + 2)
    assert [w.index for w in model.works[:2]] == [1, 0]
    assert view.chosen()[0].id in {chosen, full.work.id}
    assert view.currentIndex().data(WORK).id == full.work.id


def test_several_works_are_selected_and_dragged_out_as_files(rig: Any, full: Any) -> None:
    model, view = full.history.model, full.history.view
    view.setFocus()
    click(view, 1)
    click(view, 3, Qt.KeyboardModifier.ShiftModifier)
    assert [w.id for w in view.chosen()] == [w.id for w in model.works[1:4]]
    click(view, 2, Qt.KeyboardModifier.ControlModifier)
    assert [w.id for w in view.chosen()] == [model.works[1].id, model.works[3].id]
    data = model.mimeData(view.selectedIndexes())
    files = sorted(Path(u.toLocalFile()) for u in data.urls())
    assert files == sorted(rig.session.path(w) for w in view.chosen()) and all(f.is_file() for f in files)
    assert model.flags(model.index(0)) & Qt.ItemFlag.ItemIsDragEnabled


def test_keys_move_through_the_works_and_show_them(rig: Any, full: Any) -> None:
    model, view = full.history.model, full.history.view
    rig.window.activateWindow()
    rig.until(rig.window.isActiveWindow)
    view.setFocus()
    click(view, 0)
    QTest.keyClick(view, Qt.Key.Key_Right)
    rig.until(lambda: full.work.id == model.works[1].id)
    rig.window.do("older")
    assert full.work.id == model.works[2].id and view.currentIndex().row() == 2
    rig.window.do("newer")
    assert full.work.id == model.works[1].id


def test_the_menu_of_a_work_offers_what_the_buttons_do(
    rig: Any, full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    view, model = full.history.view, full.history.model
    full.form.put({"prompt": "mine", "model": "painter", "seed": 1, "steps": 9})
    work = model.works[2]

    def take(entry: str) -> None:
        menu_of(view, 2)[entry].trigger()

    take("Reuse only the prompt")
    assert full.form.words.value() == work.title and full.form.values()["seed"] == 1
    full.form.put_some({"prompt": "mine"})
    take("Reuse only the seed")
    assert full.form.values()["seed"] == work.recipe.seed and full.form.words.value() == "mine"
    full.form.put_some({"seed": 1})
    take("Reuse only the settings")
    values = full.form.values()
    assert (values["prompt"], values["seed"], values["steps"]) == ("mine", 1, work.recipe.steps)
    take("Reuse everything")
    assert full.form.values()["prompt"] == work.title and full.form.values()["seed"] == work.recipe.seed
    opened: list[Path] = []
    monkeypatch.setattr("studio.ui.tabs.base.open_folder", opened.append)
    take("Show the file in its folder")
    assert opened == [rig.session.path(work).parent]
    QApplication.clipboard().clear()
    take("Copy")
    clipboard = QApplication.clipboard()
    rig.until(lambda: clipboard.mimeData() is not None and clipboard.mimeData().hasUrls())
    assert [Path(u.toLocalFile()) for u in clipboard.mimeData().urls()] == [rig.session.path(work)]
    assert full.work.id == work.id
    take("Save as …")
    dialog = rig.window.findChild(object, "export_dialog")
    assert dialog is not None and dialog.isVisible() and "picture-number-997" in dialog.file.text()
    dialog.close()
    before = len(rig.desk.track.jobs)
    take("Vary")
    rig.until(lambda: len(rig.desk.track.jobs) == before + 1 and rig.idle())
    fresh = rig.session.works(limit=1)[0]
    assert fresh.recipe.prompt == work.title and fresh.recipe.seed != work.recipe.seed


def test_details_tell_how_a_work_was_made(rig: Any, tmp_path: Path) -> None:
    tab = rig.tab("image")
    work = rig.made("image", "a red square", seed=1234567, steps=3, width=72)
    rig.until(lambda: tab.details.work is not None and tab.details.work.id == work.id)
    grid = tab.details._grid
    rows = [grid.itemAtPosition(at, 0) for at in range(grid.rowCount())]
    told = {
        item.widget().text(): grid.itemAtPosition(at, 1).widget().text() for at, item in enumerate(rows) if item
    }  # fmt: skip
    assert told["Model"] == "Painter" and told["Size"].replace("\u00a0", " ") == "72 × 64 px"
    assert told["Prompt"] == work.recipe.prompt
    assert told["Seed"].replace("\u00a0", "").replace("\u202f", "").replace(",", "") == "1234567"
    assert told["Steps"] == "3" and told["Guidance"] == "5"
    assert " s" in told["Time"] and told["File"].startswith("PNG, ") and ":" in told["Made"]
    # a work with remarks, cut short
    import msgspec

    tab.details.show_work(msgspec.structs.replace(work, notes=("<b>odd</b>", "two"), complete=False))
    shown = list(tab.details._grid_holder.findChildren(QLabel))
    assert {"<b>odd</b>", "two"} <= {label.text() for label in shown}
    assert all(label.textFormat() == Qt.TextFormat.PlainText for label in shown)
    assert any("cancelled" in label.text() for label in shown)
    # the recipe on the clipboard is one that can be opened
    tab.details.show_work(work)
    QTest.mouseClick(tab.details.copy_button, Qt.MouseButton.LeftButton)
    copied = QApplication.clipboard().text()
    assert json.loads(copied)["seed"] == 1234567
    (tmp_path / "copied.json").write_text(copied, "utf-8")
    assert rig.session.recipe_in(tmp_path / "copied.json") == work.recipe
    # star, by key and by button
    rig.window.do("star_work")
    rig.until(lambda: tab.details.star_button.isChecked() and tab.history.model.works[0].starred)
    QTest.mouseClick(tab.details.star_button, Qt.MouseButton.LeftButton)
    rig.until(lambda: not tab.history.model.works[0].starred)
    # nothing shown
    tab.details.show_work(None)
    assert not tab.details.reuse_button.isEnabled() and not tab.details._grid_holder.toolTip()


def test_a_work_made_while_the_first_page_is_read_is_not_lost(rig: Any) -> None:
    tab = rig.tab("image")
    model = tab.history.model
    fill(rig.session, 3)
    works = rig.session.works(limit=3)
    model.ready = False
    stale = list(works[1:])  # read before the newest one was made
    asked = model._round
    model._came([works[0]])
    model._fetched(asked, "", stale)
    rig.until(lambda: model.ready and [w.id for w in model.works] == [w.id for w in works])


def test_a_right_click_beside_the_works_opens_nothing(rig: Any) -> None:
    tab = rig.tab("image")
    view = tab.history.view
    view.customContextMenuRequested.emit(QPoint(5, view.height() - 5))
    assert not [m for m in view.parent().findChildren(QMenu) if m.isVisible()]
