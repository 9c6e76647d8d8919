"""The bar under the prompt of a picture: styles, presets, wildcards, weights, examples and colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QLabel, QPlainTextEdit

from studio.core.recipes import PROMPT_LIMIT
from studio.core.wording import HEAVIEST, Style, parse_a1111
from studio.library import prompts
from studio.ui import theme
from studio.ui.choosing import LISTED, Chooser, NameDialog
from studio.ui.fields import PlainEdit
from studio.ui.prompting import IN_MENU, PASSING, Flow, PromptBar
from studio.ui.weighing import BARE, COLOURED, COLOURED_LINE, COLOURS, STEP, PromptSyntax, weigh, weighed
from studio.ui.widgets import Button
from tests.effort import effort

EVIL = "<b>x</b> & <img src=q>"


@pytest.fixture
def bar(rig: Any) -> PromptBar:
    """The bar in the form of the image tab, as it is wired there."""
    return put_into(rig)


def put_into(rig: Any) -> PromptBar:
    tab = rig.tab("image")
    rig.until(lambda: tab.bar._known)
    made: PromptBar = tab.bar
    return made


def type_in(bar: PromptBar, text: str, start: int | None = None, end: int | None = None) -> QPlainTextEdit:
    """Put a prompt into the edit, with characters from `start` to `end` selected."""
    edit = bar._edit
    assert edit is not None
    edit.setPlainText(text)
    if start is not None:
        select(edit, start, start if end is None else end)
    edit.setFocus()
    return edit


def select(edit: QPlainTextEdit, start: int, end: int) -> None:
    cursor = edit.textCursor()
    cursor.setPosition(start)
    cursor.setPosition(end, QTextCursor.MoveMode.KeepAnchor)
    edit.setTextCursor(cursor)


def choose_entry(bar: PromptBar, which: str, *words: str) -> None:
    """Open a button's menu and press an entry, in a menu under it where there are several words."""
    menu = getattr(bar, f"{which}_button").menu()
    menu.aboutToShow.emit()
    for word in words[:-1]:
        menu = next(a for a in menu.actions() if a.text() == word).menu()
    next(a for a in menu.actions() if a.text() == words[-1]).trigger()


def entries(bar: PromptBar, which: str) -> list[str]:
    menu = getattr(bar, f"{which}_button").menu()
    menu.aboutToShow.emit()
    return [action.text() for action in menu.actions() if action.text()]


def chips(bar: PromptBar) -> list[QAbstractButton]:
    found = bar.chips.findChildren(QAbstractButton, "style_chip")
    return [chip for chip in found if chip.isVisibleTo(bar)]


def dialog(rig: Any, kind: type) -> Any:
    rig.until(lambda: any(d.isVisible() for d in rig.window.findChildren(kind)))
    return next(d for d in rig.window.findChildren(kind) if d.isVisible())


# -- weights


@pytest.mark.parametrize(
    ("text", "marked", "step", "becomes"),
    [
        # `|` is the cursor, `[[` and `]]` the selection
        ("a re|d cat", "", STEP, "a (<red>:1.1) cat"),
        ("a [[red cat]] there", "", STEP, "a (<red cat>:1.1) there"),
        ("a [[ red cat, ]]there", "", -STEP, "a  (<red cat>:0.9), there"),
        ("a ([[red]]:1.1) cat", "", STEP, "a (<red>:1.2) cat"),
        ("a ([[red:1.1]]) cat", "", STEP, "a (<red>:1.2) cat"),
        ("a [[(red:1.1)]] cat", "", -STEP, "a <red> cat"),
        ("a (re|d:0.9) cat", "", STEP, "a <red> cat"),
        ("a (big red| cat) b", "", STEP, "a (<big red cat>:1.2) b"),
        ("a (big red| cat) b", "", -STEP, "a <big red cat> b"),
        ("a (b ([[red]]:1.5) c:1.2)", "", STEP, "a (b (<red>:1.6) c:1.2)"),
        ("a (b [[red]] c:1.2)", "", STEP, "a (b (<red>:1.1) c:1.2)"),
        ("a (b (c:1.5) re|d:1.2)", "", STEP, "a (<b (c:1.5) red>:1.3)"),
        (r"a \(re|d\) cat", "", STEP, r"a \((<red>:1.1)\) cat"),
        ("wolf-d|og's", "", STEP, "(<wolf-dog's>:1.1)"),
        ("'wo|lf'", "", STEP, "'(<wolf>:1.1)'"),
        ("é🎉 🎉gr|ün🎉", "", STEP, "é🎉 🎉(<grün>:1.1)🎉"),
        ("x <lora:fi|lm:0.8> y", "", STEP, "x <lora:film:<0.9>> y"),
        ("x <lora:fi|lm> y", "", -STEP, "x <lora:film:<0.9>> y"),
        ("x <lora:film:0.8:1:lbw|=x> y", "", STEP, "x <lora:film:<0.9>:1:lbw=x> y"),
    ],
)
def test_weights_are_written_as_a1111_does(text: str, marked: str, step: float, becomes: str) -> None:
    start, end = text.find("[["), text.find("]]") - 2
    plain = text.replace("[[", "").replace("]]", "").replace("|", "")
    if start < 0:
        start = end = text.index("|")
    change = weighed(plain, start, end, step)
    assert change is not None
    made = plain[: change.start] + change.words + plain[change.end :]
    low, high = change.select
    shown = f"{made[:low]}<{made[low:high]}>{made[high:]}"
    assert shown == becomes


@pytest.mark.parametrize("text", ["", "   ", "a  , b", "(a:10)", "(a) b", "!?"])
def test_where_there_is_nothing_to_weigh_nothing_changes(text: str) -> None:
    at = {"(a:10)": 2, "a  , b": 2}.get(text, 0)
    assert weighed(text, at, at, STEP) is None
    assert weighed("a) b (c", 0, 7, STEP) is None, "half a bracket would close another one"
    assert weighed("(a:0)", 1, 2, -STEP) is None


@given(st.text("ab ,():\\1.é🎉\n<>lora", max_size=30), st.data())
@settings(max_examples=100, deadline=None)
def test_up_and_down_again_leaves_the_words(text: str, data: Any) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    more = weighed(text, start, end, STEP)
    if more is None:
        return
    made = text[: more.start] + more.words + text[more.end :]
    assert 0 <= more.start <= more.end <= len(text) and more.select[1] <= len(made)
    less = weighed(made, *more.select, -STEP)
    if less is None:
        return
    back = made[: less.start] + less.words + made[less.end :]
    if "(" not in text and "<" not in text and ":" not in text and "\\" not in text:
        assert back == text
        if ")" not in text and made != text:
            assert any(part.weight == pytest.approx(1 + STEP) for part in parse_a1111(made))
    assert HEAVIEST > BARE


def test_keys_and_buttons_weigh_and_can_be_undone(rig: Any, bar: PromptBar) -> None:
    edit = type_in(bar, "🎉 a red cat", 5)
    for _ in range(2):
        QTest.keyClick(edit, Qt.Key.Key_Up, Qt.KeyboardModifier.ControlModifier)
    assert edit.toPlainText() == "🎉 a (red:1.2) cat" and edit.textCursor().selectedText() == "red"
    QTest.mouseClick(bar.less_button, Qt.MouseButton.LeftButton)
    assert edit.toPlainText() == "🎉 a (red:1.1) cat"
    edit.undo()
    assert edit.toPlainText() == "🎉 a (red:1.2) cat"
    edit.undo()
    edit.undo()
    assert edit.toPlainText() == "🎉 a red cat"
    QTest.keyClick(edit, Qt.Key.Key_Down, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    assert edit.toPlainText() == "🎉 a red cat", "only Ctrl by itself"
    assert rig.desk.state.forms["image"]["prompt"] == "🎉 a red cat", "the form hears of it"


def test_the_edit_that_was_used_last_is_weighed(rig: Any, bar: PromptBar) -> None:
    other = PlainEdit("Other")
    other.setParent(bar)
    other.show()
    bar.watch(other)
    type_in(bar, "one", 0, 3)
    other.setPlainText("two")
    select(other, 0, 3)
    QTest.keyClick(other, Qt.Key.Key_Up, Qt.KeyboardModifier.ControlModifier)
    QTest.mouseClick(bar.more_button, Qt.MouseButton.LeftButton)
    assert other.toPlainText() == "(two:1.2)" and bar._own_words() == "one"


def test_a_prompt_of_full_size_is_weighed_at_once(qtbot: Any) -> None:
    edit = QPlainTextEdit()
    qtbot.addWidget(edit)
    edit.setPlainText("(" * 60_000 + "word " * 40_000)
    select(edit, 80_002, 80_002)
    done: list[bool] = []
    assert effort(lambda: done.append(weigh(edit, STEP))) < 0.5
    assert done == [True]


# -- styles


def test_a_style_is_kept_chosen_and_left(rig: Any, bar: PromptBar) -> None:
    assert entries(bar, "styles")[0] == "No styles yet"
    type_in(bar, f"{EVIL} in ink")
    bar._values = lambda: {"negative": "photo"}
    choose_entry(bar, "styles", "Keep the prompt as a style …")
    asked = dialog(rig, NameDialog)
    assert not asked.keep.isEnabled()
    QTest.keyClicks(asked.line, " my  ink & pen ")
    QTest.keyClick(asked.line, Qt.Key.Key_Return)
    rig.until(lambda: "my ink & pen" in bar._styles)
    assert rig.session.styles() == (Style("my ink & pen", f"{EVIL} in ink", "photo"),)
    choose_entry(bar, "styles", "my ink && pen")
    assert bar.chosen() == ("my ink & pen",) and bar.values() == {"styles": ["my ink & pen"]}
    (chip,) = chips(bar)
    assert chip.text().strip() == "my ink && pen" and chip.height() >= 28 and bar.chips.isVisible()
    QTest.mouseClick(chip, Qt.MouseButton.LeftButton)
    assert bar.chosen() == () and bar.chips.isHidden() and bar.values() == {}
    type_in(bar, "new")
    bar.ask_style_name()
    asked = dialog(rig, NameDialog)
    asked.line.setText("my ink & pen")
    assert "replaced" in asked.about.text() and asked.keep.text() == "Replace"
    asked.keep.click()
    rig.until(lambda: bar._styles["my ink & pen"].prompt == "new")


def test_a_removed_style_can_be_had_back(rig: Any, bar: PromptBar) -> None:
    rig.session.save_style(Style("Ink", "ink of {prompt}", "photo"))
    rig.until(lambda: "Ink" in bar._styles)
    bar.choose("Ink")
    choose_entry(bar, "styles", "Remove a style", "Ink")
    rig.until(lambda: bar.notice.isVisible() and not bar._styles)
    assert bar.chosen() == () and rig.session.styles() == ()
    bar.notice.act.click()
    rig.until(lambda: bar.chosen() == ("Ink",))
    assert rig.session.styles() == (Style("Ink", "ink of {prompt}", "photo"),)


def test_styles_come_from_a_table_and_go_into_one(rig: Any, bar: PromptBar, tmp_path: Path) -> None:
    table = tmp_path / "styles.csv"
    table.write_text('name,prompt,negative_prompt\n"Ink","ink, fine",photo\n')
    bar.import_styles(table)
    rig.until(lambda: "Ink" in bar._styles)
    rig.until(lambda: "taken over" in bar.notice.sentence.text())
    bar.import_styles(table)
    rig.until(lambda: "no styles that are new" in bar.notice.sentence.text())
    bar.export_styles(tmp_path / "out.csv")
    rig.until(lambda: (tmp_path / "out.csv").exists())
    bar.import_styles(tmp_path / "nowhere.csv")
    rig.until(lambda: "There is no file" in bar.notice.sentence.text())
    assert not rig.problems


def test_of_many_styles_some_are_in_the_menu_and_all_can_be_searched(rig: Any, bar: PromptBar) -> None:
    rig.session._prompts._write_styles([Style(f"Style {at:03}", f"words {at}") for at in range(700)])
    bar.read()
    rig.until(lambda: len(bar._styles) == 700)
    listed = entries(bar, "styles")
    assert sum(text.startswith("Style ") for text in listed) == IN_MENU
    choose_entry(bar, "styles", "All 700 styles …")
    chooser = dialog(rig, Chooser)
    assert chooser.list.count() == LISTED and chooser.about.text() == "words 0"
    QTest.keyClicks(chooser.line, "9 tyl 6")
    assert chooser.list.count() < 100
    chooser.line.setText("style 69")
    assert [chooser.list.item(at).text() for at in range(3)] == ["Style 069", "Style 169", "Style 269"]
    QTest.keyClick(chooser.line, Qt.Key.Key_Down)
    QTest.keyClick(chooser.line, Qt.Key.Key_Return)
    assert bar.chosen() == ("Style 169",) and chooser.isVisible()
    QTest.keyClick(chooser.line, Qt.Key.Key_Return)
    assert bar.chosen() == ()
    chooser.remove.click()
    rig.until(lambda: len(bar._styles) == 699)
    chooser.close()


def test_what_is_chosen_is_remembered(rig: Any, open_window: Any) -> None:
    rig.session.save_style(Style("Ink", "ink"))
    bar = put_into(rig)
    told: list[int] = []
    bar.changed.connect(lambda: told.append(1))
    bar.choose("Ink")
    bar.choose("Gone")
    assert len(told) == 2
    again = PromptBar(rig.desk)
    again.setParent(rig.window)
    rig.until(lambda: again._known)
    assert again.chosen() == ("Ink", "Gone")
    assert [chip.accessibleName() for chip in chips(again)] == [
        "Leave the style Ink",
        "The style Gone is not there any more; leave it",
    ]
    again.clear()
    assert again.chosen() == () and rig.desk.state.forms["prompting"] == {}
    for broken in ({"styles": 3}, {"styles": [1, None, "a", "a"]}, {}):
        again.put(broken)
        assert all(isinstance(name, str) for name in again.chosen())


def test_damaged_styles_are_told_of_beside_the_prompt(rig: Any) -> None:
    (rig.paths.home / "styles.json").write_text("{")
    bar = put_into(rig)
    rig.until(lambda: bar.notice.isVisible())
    assert "damaged/styles.json" in bar.notice.sentence.text()


# -- presets


def test_a_preset_keeps_the_form_and_gives_it_back(rig: Any, bar: PromptBar) -> None:
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "a cat", "steps": 9, "seed": 5})
    choose_entry(bar, "presets", "Keep these settings as a preset …")
    asked = dialog(rig, NameDialog)
    asked.line.setText("quick & small")
    asked.keep.click()
    rig.until(lambda: "quick & small" in bar._presets)
    assert bar._presets["quick & small"] == {"steps": 9, "model": "painter"}
    told: list[Any] = []
    bar.preset.connect(told.append)
    bar.preset.connect(tab.form.put)
    tab.form.put_some({"prompt": "a dog", "seed": 6, "steps": 3, "negative": "photo", "clip_skip": 2})
    choose_entry(bar, "presets", "quick && small")
    assert told == [{"steps": 9, "model": "painter", "prompt": "a dog", "seed": 6, "negative": "photo"}]
    assert tab.form.state().keys() >= {"steps", "prompt", "seed", "negative"}
    assert tab.form.rows["steps"].value() == 9 and not tab.form.rows.is_changed("clip_skip")
    assert tab.form.words.value() == "a dog" and tab.form.rows["seed"].value() == 6
    assert PASSING == prompts.PASSING, "both sides mean the same"
    choose_entry(bar, "presets", "Remove a preset", "quick & small".replace("&", "&&"))
    rig.until(lambda: not bar._presets)
    rig.until(lambda: bar.notice.act.isVisible())
    bar.notice.act.click()
    rig.until(lambda: "quick & small" in bar._presets)


# -- wildcards


def test_a_wildcard_is_found_and_put_in_at_the_cursor(rig: Any, bar: PromptBar) -> None:
    folder = rig.session.wildcard_folder()
    (folder / "places").mkdir()
    (folder / "places" / "old town.txt").write_text("square\nharbour\n")
    (folder / "colour.txt").write_text("red\n")
    edit = type_in(bar, "a house in at night", 10)
    told: list[str] = []
    bar.insert.connect(told.append)
    QTest.mouseClick(bar.wildcards_button, Qt.MouseButton.LeftButton)
    chooser = dialog(rig, Chooser)
    QTest.keyClicks(chooser.line, "town pla")
    rig.until(lambda: chooser.about.text() == "2 lines: square · harbour")
    QTest.keyClick(chooser.line, Qt.Key.Key_Return)
    assert edit.toPlainText() == "a house in __places/old town__ at night" and told == ["__places/old town__"]
    edit.undo()
    assert edit.toPlainText() == "a house in at night"
    type_in(bar, "(", 1)
    bar.put_in("__colour__")
    assert edit.toPlainText() == "(__colour__"


def test_without_lists_it_is_said_where_they_belong(rig: Any, bar: PromptBar, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        "studio.ui.prompting.QDesktopServices.openUrl", lambda url: opened.append(url.toLocalFile()), raising=False
    )
    bar.wildcards_button.click()
    chooser = dialog(rig, Chooser)
    assert "one choice in each line" in chooser.about.text()
    chooser.act.click()
    rig.until(lambda: bool(opened))
    assert Path(opened[0]) == rig.paths.home / "wildcards" and Path(opened[0]).is_dir()


# -- the final words


def test_the_words_of_a_job_are_final(rig: Any, bar: PromptBar) -> None:
    rig.session.save_style(Style("Ink", "ink of {prompt}"))
    rig.until(lambda: "Ink" in bar._styles)
    bar.choose("Ink")
    tab = rig.tab("image")
    tab.form.put_some({"prompt": "a {cat|dog}", "count": 2, "seed": 3})
    found: list[Any] = []
    bar.word(tab.form.values(), found.append, found.append)
    rig.until(lambda: bool(found))
    assert [each["seed"] for each in found[0].given] == [3, 4]
    for each in found[0].given:
        rig.desk.submit("image", each, lambda _: None, rig.problems.append)
    rig.until(lambda: rig.idle() and rig.session.count_works("image") == 2)
    assert {w.recipe.prompt for w in rig.session.works()} <= {"ink of a cat", "ink of a dog"}
    assert {w.recipe.seed for w in rig.session.works()} == {3, 4} and not rig.problems
    (rig.paths.home / "styles.json").unlink()
    (rig.paths.home / "styles.json").mkdir()
    bar.word(tab.form.values(), found.append, lambda problem: found.append(problem.sentence))
    rig.until(lambda: len(found) == 2)
    assert "styles" in found[1]


def test_an_example_shows_what_may_become_of_the_prompt(rig: Any, bar: PromptBar) -> None:
    (rig.session.wildcard_folder() / "animal.txt").write_text("cat\ndog\nfox\n")
    rig.session.save_style(Style("Ink", "ink of {prompt}, {fine|bold}", "photo"))
    rig.until(lambda: "Ink" in bar._styles)
    bar.choose("Ink")
    type_in(bar, f"{EVIL} __animal__ <lora:gone:1>")
    QTest.mouseClick(bar.example_button, Qt.MouseButton.LeftButton)
    rig.until(lambda: bar.example_text.toPlainText())
    assert bar.example_head.text() == "One of 6 prompts:"
    assert "Avoid: photo" in bar.example_notes.text() and "“gone”" in bar.example_notes.text()
    seen = set()

    def another() -> bool:
        seen.add(bar.example_text.toPlainText())
        bar.another_button.click()
        return len(seen) >= 3

    rig.until(another)
    assert all(text.startswith(f"ink of {EVIL} ") and "__" not in text for text in seen)
    type_in(bar, "plain")
    bar.choose("Ink", False)
    rig.until(lambda: bar.example_text.toPlainText() == "plain")
    assert "Nothing is left to chance" in bar.example_head.text()
    (rig.paths.home / "wildcards" / "animal.txt").write_text("__animal__\n")
    type_in(bar, "__animal__")
    rig.until(lambda: "names itself" in bar.example_head.text())
    bar.hide_example()
    assert bar.example.isHidden() and not bar.example_button.isChecked()


def test_an_example_that_comes_late_does_not_replace_a_newer_one(
    rig: Any, bar: PromptBar, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    held: list[Any] = []
    monkeypatch.setattr(rig.desk.tasks, "read", lambda owner, work, done, failed=None: held.append((work, done)))
    for words in ("older", "newer"):
        type_in(bar, words)
        bar.example.show()
        bar.another_example()
    for work, done in reversed(held):
        done(work())
    assert bar.example_text.toPlainText() == "newer"


# -- colours


def spans(edit: QPlainTextEdit) -> list[tuple[str, str]]:
    """What is coloured, and in which role."""
    roles = {colour: role for role, colour in COLOURS[theme.current().name].items()}
    found = []
    block = edit.document().begin()
    while block.isValid():
        data = block.text().encode("utf-16-le")
        for each in block.layout().formats():
            words = data[each.start * 2 : (each.start + each.length) * 2].decode("utf-16-le")
            found.append((words, roles[each.format.foreground().color().name()]))
        block = block.next()
    return found


def test_what_has_a_meaning_is_coloured(rig: Any, bar: PromptBar) -> None:
    edit = type_in(bar, "🎉 (red:1.2) | {2::a|b\nc} BREAK __x/y__ <lora:film:0.8> \\(no\\) a|b BREAKER")
    rig.until(lambda: len(spans(edit)) >= 8)
    assert spans(edit) == [
        ("(", "weight"), (":1.2)", "weight"), ("{2::", "choice"), ("|", "choice"), ("}", "choice"),
        ("BREAK", "stop"), ("__x/y__", "wild"), ("<lora:film:0.8>", "lora"),
    ]  # fmt: skip
    rig.window.set_theme(theme.LIGHT)
    assert len(spans(edit)) == 8, "in the colours of the other theme"


@pytest.mark.parametrize("shown", [theme.DARK, theme.LIGHT])
def test_the_colours_can_be_read(shown: theme.Theme) -> None:
    for role, colour in COLOURS[shown.name].items():
        assert theme.contrast(colour, shown.field) >= 4.5, role


def test_colouring_is_not_an_edit(rig: Any, bar: PromptBar) -> None:
    told: list[str] = []
    rig.tab("image").form.changed.connect(told.append)
    PromptSyntax(bar._edit.document())
    rig.qtbot.wait(20)
    bar.retheme()
    assert told == [] and not bar._edit.document().isUndoAvailable()


@pytest.mark.parametrize(
    "text", ["{|(__" * (PROMPT_LIMIT // 5), "__a" * (PROMPT_LIMIT // 3), "(a:1.1)\n" * (PROMPT_LIMIT // 8),
             "🎉(" * (PROMPT_LIMIT // 4)],
)  # fmt: skip
def test_the_work_of_colouring_is_bounded(qtbot: Any, text: str) -> None:
    edit = QPlainTextEdit()
    qtbot.addWidget(edit)
    edit.setPlainText(text)
    syntax = PromptSyntax(edit.document())
    assert effort(syntax.rehighlight) < 1.0
    block, reach = edit.document().begin(), 0
    while block.isValid():
        for each in block.layout().formats():
            assert each.start + each.length <= 2 * COLOURED_LINE
            reach = max(reach, block.position() + each.start)
        block = block.next()
    assert reach < 2 * COLOURED


# -- the rules of the house


def test_the_bar_keeps_the_rules_of_the_house(rig: Any, bar: PromptBar) -> None:
    rig.session.save_style(Style(EVIL, EVIL))
    rig.until(lambda: EVIL in bar._styles)
    bar.choose(EVIL)
    bar.example_button.click()
    rig.until(lambda: bar.example_text.toPlainText() or bar.example_head.text())
    bar.ask_styles()
    chooser = dialog(rig, Chooser)
    parts = (*bar.findChildren(QAbstractButton), *chooser.findChildren(QAbstractButton))
    for button in parts:
        if button.isVisible():
            assert button.accessibleName(), button
            assert button.objectName() or button is bar.notice.close_button or isinstance(button, Button), button
            assert min(button.width(), button.height()) >= 28, (button.objectName(), button.size())
    for label in (*bar.findChildren(QLabel), *chooser.findChildren(QLabel)):
        assert label.textFormat() == Qt.TextFormat.PlainText
    assert "Ctrl+Up" in bar.more_button.toolTip() and "Ctrl+Down" in bar.less_button.toolTip()
    chooser.close()


def test_tab_goes_through_the_bar_and_on(rig: Any, bar: PromptBar) -> None:
    for name in ("One", "Two"):
        bar.choose(name)
    edit = type_in(bar, "x")
    bar.example_button.click()
    rig.until(lambda: bar.example_text.toPlainText() == "x")
    edit.setFocus()
    reached = []
    for _ in range(12):
        QTest.keyClick(rig.window.focusWidget(), Qt.Key.Key_Tab)
        reached.append(rig.window.focusWidget().objectName())
    bars = ["prompt_styles", "prompt_presets", "prompt_wildcards", "prompt_less", "prompt_more", "prompt_example"]
    more = ["style_chip", "style_chip", "prompt_example_close", "prompt_example_text", "prompt_another"]
    assert reached == [*bars, *more, "negative_fold"]


def test_nothing_is_cut_off_in_a_narrow_column(rig: Any, bar: PromptBar) -> None:
    for at in range(5):
        bar.choose(f"A style with a rather long name, number {at}")
    rig.window.resize(1024, 640)
    rig.tab("image").split.setSizes([300, 400, 200])

    def is_whole(button: Any) -> bool:
        return button.visibleRegion().boundingRect().width() == button.width()

    rig.until(lambda: len(chips(bar)) == 5 and all(map(is_whole, (*bar._worded, *bar._signs, *chips(bar)))))
    for button in (*bar._worded, *bar._signs, *chips(bar)):
        assert button.visibleRegion().boundingRect().width() == button.width() >= 28, button.objectName()
        inner = button.parentWidget().rect()
        assert inner.contains(button.geometry()), button.accessibleName()
    assert chips(bar)[-1].geometry().bottom() < bar.chips.height()
    flow = bar.chips.layout()
    assert isinstance(flow, Flow) and flow.heightForWidth(200) > flow.heightForWidth(2_000)


def test_before_the_library_is_open_the_bar_waits(open_window: Any) -> None:
    rig = open_window(opened=False)
    bar = PromptBar(rig.desk)
    bar.setParent(rig.window)
    assert entries(bar, "styles")[0] == "looking …" == entries(bar, "presets")[0]
    failed: list[Any] = []
    bar.word({"prompt": "x"}, failed.append, lambda problem: failed.append(problem.code))
    assert failed == ["not_open"]
    bar.ask_wildcard()
    rig.open()
    rig.until(lambda: bar._known)
    assert entries(bar, "styles")[0] == "No styles yet"
