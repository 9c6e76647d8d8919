"""Walks over every widget of the window: what holds for one must hold for all."""

from __future__ import annotations

import gc
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QObject, QPoint, Qt, QTranslator
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QListWidget,
    QMenu,
    QPlainTextEdit,
    QScrollBar,
    QSlider,
    QSplitterHandle,
    QTextEdit,
    QWidget,
)

from studio.ui import dialogs, export
from studio.ui.palette import Palette
from studio.ui.state import WindowState

UI = Path(__file__).parents[2] / "studio" / "ui"
TABS = ("text", "image", "speech", "train", "evaluate")
EVIL = "<b>x</b> <img src=q>"
LEAST = 28  # px
TARGETS = (QAbstractButton, QLineEdit, QComboBox, QSlider, QAbstractSpinBox)
LARGE = (QPlainTextEdit, QTextEdit, QAbstractItemView)


def open_all(rig: Any) -> list[QWidget]:
    """Everything that can be seen: three tabs in all their modes, the queue, the folds, every dialog."""
    works = {
        "image": rig.made("image", f"{EVIL} picture", count=2),
        "speech": rig.made("speech", f"{EVIL} one. Two."),
        "text": rig.made("text", f"{EVIL} text"),
    }
    rig.until(lambda: rig.window.tabs["text"].page.turns[0].again.isVisible())
    for tab in rig.window.tabs.values():
        for fold in tab.form._folds.values():
            fold.open()
    if not rig.window.queue.isVisible():
        rig.window.toggle_queue()
    return all_dialogs(rig, works["image"])


def all_dialogs(rig: Any, work: Any) -> list[QWidget]:
    palette = Palette(rig.window, rig.desk, rig.window.usable)
    made: list[QWidget] = [
        dialogs.SettingsDialog(rig.window, rig.desk),
        dialogs.ShortcutsDialog(rig.window),
        dialogs.AboutDialog(rig.window, rig.desk),
        dialogs.ClosingDialog(rig.window, 1, 2),
        export.ExportDialog(rig.window, rig.desk, work),
        palette,
    ]
    for dialog in made:
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    return made


def modes(rig: Any) -> Iterator[str]:
    """The window in each of its states, one after another."""
    for kind in TABS:
        tab = rig.tab(kind)
        if kind == "text":
            tab._set_mode(True)
            QApplication.processEvents()
            yield "chat"
            tab._set_mode(False)
        for mode in getattr(tab, "modes", ())[1:]:
            tab.set_mode(mode.name)
            QApplication.processEvents()
            yield mode.name
        if hasattr(tab, "modes"):
            tab.set_mode(tab.modes[0].name)
        QApplication.processEvents()
        yield kind


def seen(root: QWidget) -> list[QWidget]:
    return [w for w in [root, *root.findChildren(QWidget)] if w.isVisible()]


def internal(widget: QWidget) -> bool:
    """Parts that Qt makes inside a widget of ours."""
    if widget.objectName().startswith("qt_") or isinstance(widget, (QScrollBar, QSplitterHandle)):
        return True
    parent = widget.parentWidget()
    return isinstance(parent, (QAbstractSpinBox, QComboBox, QLineEdit)) or (
        isinstance(parent, QAbstractScrollArea) and parent.viewport() is widget
    )


def path(widget: QWidget) -> str:
    names: list[str] = []
    at: QWidget | None = widget
    while at is not None and len(names) < 4:
        names.append(at.objectName() or type(at).__name__)
        at = at.parentWidget()
    return f"{'/'.join(reversed(names))} ({type(widget).__name__})"


@pytest.fixture(scope="module")
def source() -> str:
    return "\n".join(p.read_text("utf-8") for p in sorted(UI.rglob("*.py")))


def test_every_widget_keeps_the_rules_of_the_house(rig: Any) -> None:
    """One walk for many rules: it is the building of everything that takes time."""
    found = open_all(rig)
    nameless, rich, small, unescaped, anonymous = set(), set(), set(), set(), set()

    def walk(root: QWidget) -> None:
        for widget in seen(root):
            if internal(widget):
                continue
            if isinstance(widget, QLabel) and widget.textFormat() != Qt.TextFormat.PlainText:
                rich.add(path(widget))
            tip = widget.toolTip()
            if tip and (not tip.startswith("<p style='white-space:pre-wrap'>") or "<b>x" in tip or "<img" in tip):
                unescaped.add(f"{path(widget)}: {tip}")
            takes = widget.focusPolicy() & Qt.FocusPolicy.TabFocus
            if takes and not widget.accessibleName() and not isinstance(widget, QDialog):
                text = widget.text() if isinstance(widget, QAbstractButton) else ""
                if not text:
                    nameless.add(path(widget))
            if takes and isinstance(widget, (*TARGETS, *LARGE)) and not widget.objectName():
                anonymous.add(path(widget))
            if isinstance(widget, TARGETS) and widget.height() < LEAST:
                small.add(f"{path(widget)}: {widget.height()} px")

    for _ in modes(rig):
        walk(rig.window)
    for dialog in found:
        dialog.show()
        QApplication.processEvents()
        walk(dialog)
        dialog.close()
    assert not nameless, nameless
    assert not rich, rich
    assert not unescaped, unescaped
    assert not small, small
    assert not anonymous, anonymous


def test_no_modal_boxes_and_no_rich_text_in_the_source(source: str) -> None:
    assert "QMessageBox" not in source
    for forbidden in ("RichText", "setHtml", "appendHtml", "insertHtml", "QTextBrowser", "MarkdownText"):
        assert forbidden not in source, forbidden
    assert not re.search(r"setToolTip\((?!as_tip|tip\)|\"\")", source), "tooltips go through as_tip"


def test_tab_reaches_everything_and_leaves_every_text(rig: Any) -> None:
    for _ in modes(rig):
        tab = rig.window.tab
        rig.window.activateWindow()
        rig.until(rig.window.isActiveWindow)
        wanted = {
            w for w in seen(tab)
            if w.focusPolicy() & Qt.FocusPolicy.TabFocus and w.isEnabled() and not internal(w)
            and w.focusProxy() is None and not isinstance(w, QScrollBar)
            # of buttons of which one is down, Tab goes to that one, and arrows to the others
            and not (isinstance(w, QAbstractButton) and w.group() is not None and not w.isChecked())
        }  # fmt: skip
        tab.focus_prompt()
        reached: list[QWidget] = []
        for _step in range(400):
            now = QApplication.focusWidget()
            assert now is not None
            if reached and now is reached[0]:
                break
            reached.append(now)
            QTest.keyClick(now, Qt.Key.Key_Tab)
        else:
            pytest.fail("Tab goes round in circles")
        missing = {path(w) for w in wanted - set(reached)}
        assert not missing, missing
        # left column before the middle before the right one, and down the form
        form = [w for w in reached if tab.form.isAncestorOf(w)]
        rows = [tab.form.mapFromGlobal(w.mapToGlobal(QPoint(0, 0))).y() for w in form]
        backwards = sum(b < a - 8 for a, b in itertools.pairwise(rows))
        assert backwards <= 1, [path(w) for w in form]  # the walk begins at the prompt and comes round once
        places = ["left" if tab.left.isAncestorOf(w) else "right" if tab.right.isAncestorOf(w) else "centre"
                  for w in reached if tab.isAncestorOf(w)]  # fmt: skip
        turns = [p for i, p in enumerate(places) if i == 0 or places[i - 1] != p]
        assert len(turns) <= 4, turns
        names = [w.objectName() for w in reached]
        if tab.kind == "text":
            mode = "mode_chat" if tab._chat else "mode_complete"
            between = (names.index("model") - names.index(mode)) % len(names)
            assert between in (1, 2, 3), names  # templates and the prompt
        if tab.kind == "speech":
            assert names.index("sample") == names.index("voice") + 1
        assert f"tab_{tab.kind}" in names, "of the three tabs, Tab stops at the open one"
        # and back
        before = QApplication.focusWidget()
        QTest.keyClick(before, Qt.Key.Key_Backtab, Qt.KeyboardModifier.ShiftModifier)
        assert QApplication.focusWidget() is not before


# -- another language -----------------------------------------------------------------------------------------------


class Pseudo(QTranslator):
    """Marks what went through a translator."""

    def translate(self, context: Any, text: Any, disambiguation: Any = None, n: int = -1) -> str:  # type: ignore[override]
        return f"⟦{text}⟧" if text and context == "studio" else ""

    def isEmpty(self) -> bool:
        return False


DATA = re.compile(
    r"""
    ^[\W\d_]*$                                  # numbers and signs
    | ^\d+\s?%$ | ^[\d.,\s×]+\s?px$ | ^(PNG|TXT|WAV),\ [\d.]+\ k?B$
    | (Ctrl|Alt|Shift|Esc|Enter|F\d|Page)       # keys have their own names
    | ^(Writer|Other.writer|Painter|Turbo|Speaker|Choir)$
    | <b>x | &lt;b&gt;x | answer0 | ^/ | ^\d\d[.:]\d\d | ^fake\ 1 | \bMIT\b | GNU | word0
    """,
    re.VERBOSE,
)


def plain(tip: str) -> str:
    return re.sub(r"^<p style='white-space:pre-wrap'>|</p>$", "", tip)


def said_by(widget: QWidget) -> Iterator[tuple[str, str]]:
    yield "tooltip", plain(widget.toolTip())
    yield "accessible name", widget.accessibleName()
    if isinstance(widget, (QLabel, QAbstractButton)):
        yield "text", widget.text()
    if isinstance(widget, (QLineEdit, QPlainTextEdit)):
        yield "placeholder", widget.placeholderText()
    if isinstance(widget, QComboBox):
        for at in range(widget.count()):
            yield "entry", widget.itemText(at)
    if isinstance(widget, QListWidget) and widget.objectName() == "palette_list":
        for at in range(widget.count()):
            yield "entry", widget.item(at).text()
    if isinstance(widget, QMenu):
        widget.aboutToShow.emit()
        for action in widget.actions():
            yield "menu", action.text()
    if isinstance(widget, QDialog):
        yield "title", widget.windowTitle()


@pytest.fixture
def pseudo(qapp: QApplication) -> Iterator[None]:
    translator = Pseudo()
    qapp.installTranslator(translator)
    yield
    qapp.removeTranslator(translator)


def test_every_word_of_the_window_can_be_translated(pseudo: None, open_window: Any) -> None:
    rig = open_window(WindowState(open=["queue", "text.advanced", "image.advanced", "speech.advanced"]))
    found = open_all(rig)
    raw: set[str] = set()
    for root in (rig.window, *found):
        for widget in [root, *root.findChildren(QWidget)]:
            if internal(widget) or isinstance(widget.parent(), (QLineEdit, QPlainTextEdit)):
                continue
            if widget.objectName() in ("format", "scheduler", "details_rows"):
                continue  # names of formats and methods, versions
            for what, words in said_by(widget):
                if words.strip() and "⟦" not in words and not DATA.search(words):
                    raw.add(f"{what} “{words}” of {path(widget)}")
    for dialog in found:
        dialog.close()
    assert not raw, "\n".join(sorted(raw))


# -- size -----------------------------------------------------------------------------------------------------------


def outside(rig: Any) -> set[str]:
    """Visible widgets that reach out of the window, or out of a parent that does not scroll."""
    bad = set()
    room = rig.window.rect()
    for widget in seen(rig.window):
        if internal(widget) or widget is rig.window or widget.isWindow():
            continue
        at: QWidget | None = widget.parentWidget()
        scrolls = False
        while at is not None and at is not rig.window:
            scrolls |= isinstance(at, QAbstractScrollArea)
            at = at.parentWidget()
        place = widget.rect().translated(widget.mapTo(rig.window, QPoint(0, 0)))
        if scrolls:  # up and down is what scrolling is for; to the side it is not
            area = widget.parentWidget()
            while not isinstance(area, QAbstractScrollArea):
                area = area.parentWidget()
            edge = area.viewport().mapTo(rig.window, QPoint(area.viewport().width(), 0)).x()
            if place.right() > edge:
                bad.add(f"{path(widget)} ends at {place.right()} px, its page at {edge}")
        elif not room.contains(place):
            bad.add(f"{path(widget)} at {place}")
    return bad


def test_nothing_is_cut_off_at_the_smallest_size(rig: Any) -> None:
    open_all(rig)
    rig.window.resize(1024, 640)
    rig.until(lambda: rig.window.width() == 1024 and rig.window.height() == 640)
    for mode in modes(rig):
        QApplication.processEvents()
        assert not outside(rig), (mode, outside(rig))
        squeezed = {
            f"{path(w)} “{w.text()}”: {w.width()} px of {w.sizeHint().width()}"
            for w in seen(rig.window)
            if isinstance(w, QAbstractButton) and w.text() not in ("", "•") and w.width() < w.sizeHint().width()
        }
        assert not squeezed, (mode, squeezed)
        for edit in rig.window.findChildren(QPlainTextEdit):
            if edit.isVisible() and edit.placeholderText():
                room = edit.viewport().width() * max(1, (edit.viewport().height() - 8) // edit.fontMetrics().height())
                assert edit.fontMetrics().horizontalAdvance(edit.placeholderText()) < room, path(edit)
        tab = rig.window.tab
        go = tab.send_button if mode == "chat" else tab.go
        assert go.isVisible() and rig.window.rect().contains(go.mapTo(rig.window, go.rect().bottomRight()))


CHILD = """
import sys
from pathlib import Path
from PySide6.QtWidgets import QApplication
from PySide6.QtTest import QTest
app = QApplication([])
from studio.ui import theme
from studio.ui.desk import Desk
from studio.ui.state import WindowState
from studio.ui.window import Window
theme.colour(app, theme.LIGHT)
home = Path(sys.argv[1])
window = Window(Desk(None, home / "window.json", WindowState(open=["queue"])))
window.dress()
window.resize(1024, 640)
window.show()
from tests.ui.test_everywhere import outside
class Rig: pass
rig = Rig(); rig.window = window
for kind in ("text", "image", "speech", "train", "evaluate"):
    window.go(kind)
    QTest.qWait(50)
    bad = outside(rig)
    assert not bad, bad
    shot = window.grab()
    assert (shot.width(), shot.height()) == (2048, 1280), shot.size()
    assert shot.save(str(home / f"{kind}.png"))
"""


def test_nothing_is_cut_off_on_a_screen_of_double_density(tmp_path: Path) -> None:
    environment = {**os.environ, "QT_SCALE_FACTOR": "2", "QT_QPA_PLATFORM": "offscreen"}
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path)], env=environment, cwd=UI.parents[1], capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-3000:]
    for kind in TABS:
        picture = QImage(str(tmp_path / f"{kind}.png"))
        colours = {picture.pixelColor(x, y).name() for x in range(0, 2048, 16) for y in range(0, 1280, 16)}
        assert len(colours) > 5, "an empty window"


# -- coming and going -----------------------------------------------------------------------------------------------


def swept() -> int:
    """How many widgets there are once everything that is to go has gone."""
    for _ in range(3):
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        QApplication.processEvents()
        gc.collect()
    return len(QApplication.allWidgets())


def test_dialogs_leave_nothing_behind(rig: Any) -> None:
    work = rig.made("image", "red")

    def once() -> None:
        for dialog in all_dialogs(rig, work):
            dialog.show()
            QApplication.processEvents()
            dialog.close()
        for name in ("settings", "shortcuts", "about", "palette"):
            rig.window.do(name)
            QApplication.processEvents()
            opened = [w for w in QApplication.topLevelWidgets() if isinstance(w, QDialog) and w.isVisible()]
            assert len(opened) == 1, name
            opened[0].close()
        view = rig.window.tabs["image"].history.view
        view.customContextMenuRequested.emit(view.visualRect(view.model().index(0)).center())
        for menu in view.parent().findChildren(QMenu):
            menu.close()
        rig.window.tabs["image"].show_work(work)

    once()
    widgets, objects = swept(), len(rig.window.findChildren(QObject))
    for _ in range(5):
        once()
    assert swept() <= widgets
    assert len(rig.window.findChildren(QObject)) <= objects


def test_windows_leave_nothing_behind(open_window: Any) -> None:
    def once() -> None:
        rig = open_window(opened=False)
        for kind in TABS:
            rig.window.go(kind)
        rig.close()

    once()
    before = swept()
    for _ in range(3):
        once()
    assert swept() <= before


class Strays(QObject):
    """Notes every top-level widget that is shown, however shortly."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Show and isinstance(watched, QWidget) and watched.isWindow():
            self.shown.append(type(watched).__name__)
        return False


def test_nothing_flashes_up_as_a_window_of_its_own(open_window: Any, qapp: QApplication) -> None:
    strays = Strays()
    qapp.installEventFilter(strays)
    try:
        rig = open_window(WindowState(open=["queue", "text.advanced", "image.negative"]))
        for _ in modes(rig):
            QApplication.processEvents()
        rig.made("text", "hello", n=3)
        rig.made("image", "red", count=2)
        rig.window.tabs["image"].notice.tell("a", "b", detail="c", action="d")
        rig.window.tabs["text"].new_conversation()
    finally:
        qapp.removeEventFilter(strays)
    assert strays.shown == ["Window"]
