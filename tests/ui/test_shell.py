"""The frame around the tabs: going about, the palette, the sheets and dialogs, the two themes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtGui import QColor, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractButton, QApplication, QDialog, QLabel, QWidget
from pytestqt.qtbot import QtBot

from studio.core.paths import Paths
from studio.core.problems import NotSaved
from studio.core.settings import Settings, declared
from studio.ui import theme
from studio.ui.actions import ACTIONS, BY_NAME, keys_of
from studio.ui.palette import WHAT, Palette, score
from studio.ui.tabs import TABS
from tests.ui.rig import Rig

CTRL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture(scope="module")
def shared(request: Any, qapp: QApplication, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One window for all tests here that leave it as they find it."""
    paths = Paths(tmp_path_factory.mktemp("shell") / "home")
    paths.make()
    rig = Rig(QtBot(request), paths)
    for kind in ("speech", "image", "text"):
        rig.tab(kind)
    yield rig
    rig.close()


@pytest.fixture
def shell(shared: Rig) -> Iterator[Rig]:
    front(shared)
    yield shared
    for dialog in shared.window.findChildren(QDialog):
        dialog.close()
    shared.window.set_theme(theme.DARK)
    assert shared.problems == []
    shared.problems.clear()


def front(rig: Rig) -> None:
    rig.window.activateWindow()
    rig.until(rig.window.isActiveWindow)


def press(widget: QWidget, keys: str) -> None:
    combination: Any = QKeySequence(keys)[0]  # type: ignore[index]  # the stubs do not know it
    QTest.keyClick(widget, combination.key(), combination.keyboardModifiers())


def palette_of(rig: Rig) -> Palette:
    rig.until(lambda: any(p.isVisible() for p in rig.window.findChildren(Palette)))
    return next(p for p in rig.window.findChildren(Palette) if p.isVisible())


def listed(palette: Palette) -> list[Any]:
    return [palette.list.item(row).data(WHAT) for row in range(palette.list.count())]


# ---- tabs


def test_tabs_are_built_when_they_are_asked_for_and_keep_what_is_in_them(rig: Rig) -> None:
    window = rig.window
    front(rig)
    assert set(window.tabs) == {"text"} and window._tab_buttons["text"].isChecked()
    press(window, "Ctrl+2")
    assert set(window.tabs) == {"text", "image"} and window.tab.kind == "image"
    assert window._tab_buttons["image"].isChecked() and not window._tab_buttons["text"].isChecked()
    assert window.focusWidget() is window.tab.form.words.editor.target()
    window.tab.form.put_some({"prompt": "a fox", "steps": 3})
    window._tab_buttons["speech"].click()
    assert window.tab.kind == "speech" and len(window.tabs) == 3
    press(window, "Ctrl+1")
    assert window.tab.kind == "text"
    press(window, "Ctrl+2")
    assert window.tab.form.words.value() == "a fox" and window.tab.form.values()["steps"] == 3
    press(window, "Ctrl+3")
    assert window.tab.kind == "speech" and rig.desk.state.tab == "speech"


# ---- actions


def test_every_action_can_be_done_in_the_window_or_in_its_tab(shell: Rig) -> None:
    for entry in TABS:
        shell.tab(entry.kind)
    for action in ACTIONS:
        kinds = [action.tab] if action.tab else [entry.kind for entry in TABS]
        own = {"palette": "palette_"}.get(action.name, action.name)
        for kind in kinds:
            there = callable(getattr(type(shell.window), own, None)) or callable(
                getattr(type(shell.window.tabs[kind]), action.name, None)
            )
            assert there, f"{action.name} in {kind}"
    assert len(BY_NAME) == len(ACTIONS)


def test_no_shortcut_means_two_things_in_one_tab() -> None:
    for entry in TABS:
        keys = [QKeySequence(k).toString() for a in ACTIONS if a.tab in ("", entry.kind) for k in a.keys]
        assert len(keys) == len(set(keys)), sorted(k for k in keys if keys.count(k) > 1)
    assert all(QKeySequence(k).toString() for a in ACTIONS for k in a.keys)  # each is one that Qt knows


@pytest.mark.parametrize("where", ["prompt", "search", "number", "composer"])
def test_every_shortcut_works_while_something_is_typed(shell: Rig, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    done: list[str] = []
    for kind in ("text", "image", "speech"):
        tab = shell.tab(kind)
        if kind == "text":
            (tab.chat_button if where == "composer" else tab.complete_button).click()
        elif where == "composer":
            continue
        row = {"text": "temperature", "image": "steps", "speech": "speed"}[kind]
        target = {
            "prompt": tab.form.words.editor.target(), "search": tab.history.search,
            "number": tab.form.rows[row].editor.target(), "composer": getattr(tab, "composer", None),
        }[where]  # fmt: skip
        target.setFocus()
        with monkeypatch.context() as patched:
            patched.setattr(shell.window, "do", done.append)
            patched.setattr(tab, "make", lambda: done.append("make"))
            try:
                tab._enter.pressed.disconnect()
                tab._enter.pressed.connect(lambda: done.append("make"))
                for action in ACTIONS:
                    if action.tab not in ("", kind):
                        continue
                    for keys in action.keys:
                        done.clear()
                        press(target, keys)
                        assert done == [action.name], f"{keys} in {kind}, {where}"
            finally:
                tab._enter.pressed.disconnect()
        tab._enter.pressed.connect(tab.make)
    shell.tab("text").complete_button.click()


def test_an_action_of_another_tab_does_nothing(shell: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    image, done = shell.tab("image"), []
    shell.tab("text")
    monkeypatch.setattr(image, "compare", lambda: done.append(1))
    shell.window.do("compare")
    assert done == []
    shell.tab("image")
    shell.window.do("compare")
    assert done == [1]


# objectName of a button -> the action it stands for
BUTTONS = {
    "tab_text": "show_text", "tab_image": "show_image", "tab_speech": "show_audio", "theme": "toggle_theme",
    "search": "palette", "strip_queue": "toggle_queue", "queue_pause": "pause_queue", "sample": "sample_voice",
    "audio_play": "toggle_play", "audio_copy": "copy_work", "audio_save": "save_as",
}  # fmt: skip
BY_ATTRIBUTE = {
    "image": {"out_button": "zoom_out", "zoom_button": "zoom_fit", "in_button": "zoom_in",
              "compare_button": "compare", "copy_button": "copy_work", "save_button": "save_as"},
    "speech": {"play_button": "toggle_play", "copy_button": "copy_work", "save_button": "save_as"},
}  # fmt: skip


def test_the_tooltip_of_a_button_shows_the_shortcut_of_its_action(shell: Rig) -> None:
    window = shell.window
    pairs: list[tuple[QAbstractButton, str]] = []
    for name, action in BUTTONS.items():
        found = window.findChild(QAbstractButton, name)
        assert found is not None, name
        pairs.append((found, action))
    for kind, names in BY_ATTRIBUTE.items():
        pairs += [(getattr(window.tabs[kind], name), action) for name, action in names.items()]
    for tab in window.tabs.values():
        for name, action in (("star", "star_work"), ("folder", "reveal_work"), ("reuse", "reuse_work"),
                             ("vary", "vary_work")):  # fmt: skip
            pairs.append((getattr(tab.details, f"{name}_button"), action))
    pairs.append((shell.tab("text").conversations.new, "new_conversation"))
    for button, action in pairs:
        keys = keys_of(action)
        assert keys in button.toolTip(), f"{button.objectName()}: {button.toolTip()}"
        assert button.accessibleName()


def test_no_button_promises_a_shortcut_that_is_not_there(shell: Rig) -> None:
    import re

    known = {keys_of(a.name) for a in ACTIONS if a.keys} | {"Del", "Alt+Up", "Alt+Down", "Ctrl+Up", "Ctrl+Down"}
    for button in shell.window.findChildren(QAbstractButton):
        promised = re.search(r"\(([^()]+)\)</p>$", button.toolTip())
        if promised:
            assert promised[1] in known, f"{button.objectName()}: {button.toolTip()}"


def test_every_widget_that_takes_the_focus_has_a_name(shell: Rig) -> None:
    for kind in ("text", "image", "speech"):
        for widget in shell.tab(kind).findChildren(QWidget):
            if widget.isVisible() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
                inside = widget.parentWidget()
                named = widget.accessibleName() or (inside is not None and inside.accessibleName())
                assert named, f"{kind}: {type(widget).__name__} {widget.objectName()}"


def test_escape_cancels_what_runs(shell: Rig) -> None:
    shell.make("text", "hold")
    shell.until(lambda: shell.running("text"))
    front(shell)
    press(shell.window.tab.form.words.editor.target(), "Esc")
    shell.until(shell.idle)
    assert [j.state.value for j in shell.desk.track.ended()][:1] == ["cancelled"]


# ---- palette


def test_the_palette_runs_an_action_by_a_few_letters(shell: Rig) -> None:
    window = shell.window
    shell.tab("text")
    press(window, "Ctrl+K")
    palette = palette_of(shell)
    assert palette.line.hasFocus() or palette.focusWidget() is palette.line
    usable = {a.name for a in ACTIONS if a.palette and a.tab in ("", "text")}
    assert set(listed(palette)) == usable
    QTest.keyClicks(palette.line, "show aud")
    QTest.keyClicks(palette.line, "\b")
    palette.line.setText("audio")
    assert listed(palette)[0] == "show_audio" and palette.list.currentRow() == 0
    QTest.keyClick(palette.line, Qt.Key.Key_Return)
    assert window.tab.kind == "speech"
    shell.until(lambda: not window.findChildren(Palette))

    window.search.click()
    palette = palette_of(shell)
    assert {"toggle_play"} <= set(listed(palette)) and "compare" not in listed(palette)
    QTest.keyClicks(palette.line, "queue")
    names = listed(palette)
    assert set(names) >= {"toggle_queue", "pause_queue"}
    QTest.keyClick(palette.line, Qt.Key.Key_Down)
    assert palette.list.currentRow() == 1
    for _ in range(2):
        QTest.keyClick(palette.line, Qt.Key.Key_Up)
    assert palette.list.currentRow() == palette.list.count() - 1  # it goes round
    QTest.keyClicks(palette.line, "zzzzqqqq")
    assert not palette.list.count() and palette.nothing.isVisible()
    QTest.keyClick(palette.line, Qt.Key.Key_Return)  # nothing to do, nothing happens
    assert palette.isVisible()
    QTest.keyClick(palette.line, Qt.Key.Key_Escape)
    shell.until(lambda: not window.findChildren(Palette))
    assert window.tab.kind == "speech"


def test_the_palette_finds_works_by_their_words(shell: Rig) -> None:
    work = shell.made("image", "a <b>lonely</b> lighthouse & fog")
    shell.made("text", "something else")
    shell.window.palette_()
    palette = palette_of(shell)
    QTest.keyClicks(palette.line, "lighthouse lonely")
    shell.until(lambda: any(not isinstance(w, str) for w in listed(palette)))
    found = [w for w in listed(palette) if not isinstance(w, str)]
    assert [w.id for w in found] == [work.id]
    row = next(r for r, w in enumerate(listed(palette)) if not isinstance(w, str))
    assert "<b>lonely</b>" in palette.list.item(row).text()
    palette.list.setCurrentRow(row)
    QTest.keyClick(palette.line, Qt.Key.Key_Return)
    assert shell.window.tab.kind == "image" and shell.tab("image").work.id == work.id


@pytest.mark.parametrize(
    ("words", "better", "worse"),
    [("queue", "Show or hide the queue", "Quit"), ("set", "Settings …", "Reset"),
     ("hid q", "Show or hide the queue", "x"), ("tgl", "Toggle", "Generate"), ("TEXT", "Text", "Context")],
)  # fmt: skip
def test_what_begins_with_the_letters_comes_before_what_has_them(words: str, better: str, worse: str) -> None:
    assert score(words, better) > score(words, worse)
    assert score("", better) and not score("ö", better)


# ---- sheets and dialogs


def texts_of(dialog: QWidget) -> list[str]:
    return [label.text() for label in dialog.findChildren(QLabel)]


def dialog_of(rig: Rig, name: str) -> Any:
    rig.until(lambda: any(d.objectName() == name and d.isVisible() for d in rig.window.findChildren(QDialog)))
    return next(d for d in rig.window.findChildren(QDialog) if d.objectName() == name)


def test_the_sheet_names_every_shortcut(shell: Rig) -> None:
    press(shell.window, "F1")
    sheet = dialog_of(shell, "shortcuts_dialog")
    texts = texts_of(sheet)
    for action in ACTIONS:
        if action.keys:
            assert action.title in texts
            keys = keys_of(action.name).replace("PgDown", "Page down").replace("PgUp", "Page up")
            assert keys in texts, action.name
    press(sheet, "Esc")
    shell.until(lambda: not sheet_open(shell))


def sheet_open(rig: Rig) -> bool:
    return any(d.isVisible() for d in rig.window.findChildren(QDialog))


def test_about_tells_versions_place_and_licences(shell: Rig) -> None:
    shell.window.do("about")
    about = dialog_of(shell, "about_dialog")
    licences = about.findChild(QWidget, "licences").toPlainText()
    assert "GNU GENERAL PUBLIC LICENSE" in licences and "PySide6" in licences and licences.count("is not there") == 0
    assert any(str(shell.paths.home) in text for text in texts_of(about))
    press(about, "Esc")
    shell.until(lambda: not sheet_open(shell))


def kept(rig: Rig) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(rig.paths.settings.read_bytes())
    return found


def theme_of(rig: Rig) -> str:
    assert rig.desk.settings is not None
    return rig.desk.settings.theme


def test_every_setting_has_a_row_and_a_change_is_on_the_disk_at_once(rig: Rig) -> None:
    front(rig)
    press(rig.window, "Ctrl+,")
    dialog = dialog_of(rig, "settings_dialog")
    assert list(dialog.rows) == [field.name for field in declared()]
    for field in declared():
        row = dialog.rows[field.name]
        assert row.isVisibleTo(dialog) and field.title in texts_of(row)
        assert row.value() == getattr(rig.desk.settings, field.name)
        assert row.editor.target().accessibleName()
    threads = dialog.rows["threads"].editor.target()
    threads.setValue(3)
    rig.until(lambda: kept(rig).get("threads") == 3)
    dialog.rows["play"].editor.target().click()
    rig.until(lambda: kept(rig).get("play") is False)
    box = dialog.rows["image_model"].editor.target()
    assert [box.itemText(i) for i in range(box.count())] == ["the first", "Painter", "Turbo"]
    box.setCurrentIndex(2)
    box.activated.emit(2)
    rig.until(lambda: kept(rig).get("image_model") == "turbo")
    image = rig.tab("image")
    assert image.form.card().id == "turbo"  # the open form knows it
    theme_box = dialog.rows["theme"].editor.target()
    theme_box.setCurrentIndex(theme_box.findData("light"))
    theme_box.activated.emit(0)
    rig.until(lambda: theme.current() is theme.LIGHT and kept(rig)["theme"] == "light")
    assert dialog.rows["threads"].reset.isEnabled()
    dialog.rows["threads"].reset.click()
    rig.until(lambda: kept(rig).get("threads", 0) == 0 and rig.desk.settings == rig.session.settings)  # type: ignore[union-attr]
    assert rig.desk.settings != Settings()


def test_a_setting_that_is_refused_says_so_beside_its_field(shell: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.window.settings()
    dialog = dialog_of(shell, "settings_dialog")
    row = dialog.rows["threads"]
    before = shell.paths.settings.read_bytes()
    monkeypatch.setattr(row.editor, "value", lambda: 100_000)
    row.editor.changed.emit()
    shell.until(lambda: row.problem.isVisible())
    assert "512" in row.problem.text() and not dialog.notice.isVisible()
    assert shell.paths.settings.read_bytes() == before
    monkeypatch.undo()

    def full(**_: Any) -> None:
        raise NotSaved("The settings could not be kept: No space left on device.", "Make room.")

    monkeypatch.setattr(shell.session, "change_settings", full)
    row.editor.changed.emit()
    shell.until(lambda: dialog.notice.isVisible())
    assert "No space left" in dialog.notice.sentence.text()


# ---- themes


def test_the_theme_is_switched_drawn_and_remembered(shell: Rig) -> None:
    window = shell.window

    def drawn() -> tuple[QColor, QColor, bytes]:
        ground = window.top.grab().toImage().pixelColor(window.top.width() // 2, 10)
        palette = QApplication.palette().color(QApplication.palette().ColorRole.Window)
        icon = window.theme_button.icon().pixmap(16, 16).toImage()
        return ground, palette, bytes(icon.constBits())

    dark = drawn()
    assert dark[0].name() == theme.DARK.panel
    front(shell)
    press(window, "Ctrl+Shift+T")
    light = drawn()
    assert light[0].name() == theme.LIGHT.panel and light[1].name() == theme.LIGHT.panel
    assert light[2] != dark[2]
    shell.until(lambda: kept(shell)["theme"] == "light" and theme_of(shell) == "light")
    window.theme_button.click()
    shell.until(lambda: kept(shell)["theme"] == "dark" and theme_of(shell) == "dark")
    assert drawn() == dark


def test_only_the_theme_system_follows_the_system(shell: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.session is not None
    monkeypatch.setattr(theme, "system_theme", lambda: theme.LIGHT)
    shell.window.follow_system()
    assert theme.current() is theme.DARK  # it was chosen
    shell.session.change_settings(theme="system")
    shell.until(lambda: theme.current() is theme.LIGHT)
    monkeypatch.setattr(theme, "system_theme", lambda: theme.DARK)
    shell.window.follow_system()
    assert theme.current() is theme.DARK
    shell.session.change_settings(theme="dark")
    shell.until(lambda: theme_of(shell) == "dark")


@pytest.mark.parametrize("name", theme.THEMES)
def test_text_can_be_read_on_every_ground(name: str) -> None:
    t = theme.THEMES[name]
    for role in ("text", "soft", "problem"):
        for ground in ("ground", "panel", "field", *(("field_hover",) if role == "text" else ())):
            found = theme.contrast(getattr(t, role), getattr(t, ground))
            assert found >= 4.5, f"{role} on {ground}: {found:.2f}"
    for ground in ("accent", "accent_hover"):
        assert theme.contrast(t.accent_text, getattr(t, ground)) >= 4.5
    for ground in ("ground", "panel", "field"):
        assert theme.contrast(t.accent, getattr(t, ground)) >= 3  # edges and rings, which are no text
        assert theme.contrast(t.star, getattr(t, ground)) >= 3
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)


def test_soft_words_can_be_read_where_the_queue_marks_a_row() -> None:
    for t in theme.THEMES.values():
        for role in ("soft", "problem"):
            found = theme.contrast(getattr(t, role), t.field_hover)
            assert found >= 4.5, f"{t.name}: {role} on field_hover: {found:.2f}"


# ---- messages


def test_a_message_goes_by_itself_and_a_problem_stays(shell: Rig) -> None:
    window, done = shell.window, []
    window.tell("Removed <b>x</b>.", "hint", ("Undo", lambda: done.append(1)))
    assert window.notice.isVisible() and not window._told.isActive()  # a way back must not go while it is looked for
    assert window.notice.sentence.textFormat() == Qt.TextFormat.PlainText
    window.notice.act.click()
    assert done == [1] and not window.notice.isVisible()
    window.tell("Something.")
    assert window._told.isActive()
    window._told.timeout.emit()
    assert not window.notice.isVisible()
    window.tell("Something.")
    window.tell_problem(NotSaved("No room.", "Make some.").problem)
    assert not window._told.isActive() and window.notice.isVisible()
    window.notice.close_button.click()
    assert not window.notice.isVisible()


def test_a_message_lies_neither_over_the_form_nor_over_the_tools_of_the_picture(shared: Rig) -> None:
    window = shared.window
    shared.tab("image")
    tools = window.tab.tools
    before = tools.isVisible()
    tools.setVisible(True)
    window.tell("Something was done.")
    shared.until(lambda: window.notice.isVisible())
    window._place_notice()
    over = window.notice.parentWidget()
    lies = window.notice.geometry()
    for part in (window.tab.left, tools):
        assert not lies.intersects(QRect(part.mapTo(over, QPoint()), part.size())), part.objectName()
    window.notice.put_away()
    tools.setVisible(before)
