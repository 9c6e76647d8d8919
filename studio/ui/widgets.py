"""Small widgets that everything else is made of. Each shows text as plain text and can be reached with the keyboard."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QEvent, QModelIndex, QObject, QPoint, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics, QFontMetricsF, QKeyEvent, QPainter, QTextCursor, QTextOption, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from studio.core.problems import Problem
from studio.ui import theme
from studio.ui.icons import icon
from studio.ui.strings import as_button, as_tip, tr

LONG_RUN = 5_000  # characters without a space between them


LATER = 200  # ms; what the first look at the window does not need is done then


class Label(QLabel):
    """A label of plain text; with `elide` one line that ends in “…” where it does not fit.

    Args:
        role: "", "soft", "title", "heading", "problem": a colour and size of the style sheet.
    """

    def __init__(self, text: str = "", role: str = "", *, wrap: bool = False, elide: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setProperty("role", role)
        self.setWordWrap(wrap)
        self._whole, self._elide = text, elide
        if elide:
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            self.setMinimumWidth(24)
        super().setText(text)

    def setText(self, text: str) -> None:
        self._whole = text
        super().setText(text)
        if self._elide:
            self.setAccessibleName(text)
            self.update()

    def whole(self) -> str:
        return self._whole

    def sizeHint(self) -> QSize:
        hint = super().sizeHint()
        return QSize(min(hint.width(), 240), hint.height()) if self._elide else hint

    def paintEvent(self, event: Any) -> None:
        if not self._elide:
            super().paintEvent(event)
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        text = QFontMetrics(self.font()).elidedText(
            " ".join(self._whole.split()), Qt.TextElideMode.ElideRight, self.width()
        )
        painter.drawText(self.rect(), int(self.alignment() | Qt.AlignmentFlag.AlignVCenter), text)


def repolish(widget: QWidget, role: str) -> None:
    """Give a widget another role of the style sheet."""
    if widget.property("role") != role:
        widget.setProperty("role", role)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


class _Iconed:
    """Draws its icon anew when the theme changes."""

    _icon_name = ""
    _icon_role = "text"

    def set_icon(self: Any, name: str, role: str = "text") -> None:
        self._icon_name, self._icon_role = name, role
        if name:
            self.setIcon(icon(name, role))
            self.setIconSize(QSize(16, 16))

    def retheme(self: Any) -> None:
        if self._icon_name:
            self.setIcon(icon(self._icon_name, self._icon_role))


class ToolButton(_Iconed, QToolButton):
    """A small button with an icon, a word, or both. `name` is its accessible name and tooltip; the shortcut is shown.

    Args:
        role: "flat", "tab", "fold", "reset" or "".
    """

    def __init__(
        self, name: str, icon_name: str = "", *, text: str = "", role: str = "flat", shortcut: str = "",
        checkable: bool = False, clicked: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.setProperty("role", role)
        self.setCheckable(checkable)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        if icon_name:
            self.set_icon(icon_name)
            if text:
                self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        if text:
            self.say(text)
        self.name(name, shortcut)
        if clicked is not None:
            self.clicked.connect(lambda *_: clicked())

    def say(self, text: str) -> None:
        """Show a word; beside an icon with a little room between the two."""
        self.setText(f" {as_button(text)}" if self._icon_name or self.toolButtonStyle() else as_button(text))

    def flash(self) -> None:
        """Show for a moment that it was done."""
        name, role = self._icon_name, self._icon_role
        if name != "check":
            self.set_icon("check", "accent")
            QTimer.singleShot(1200, self, lambda: self.set_icon(name, role))

    def name(self, name: str, shortcut: str = "") -> None:
        self.setAccessibleName(name)
        self.setToolTip(as_tip(f"{name}  ({shortcut})" if shortcut else name))


class Button(_Iconed, QPushButton):
    """A button with a word. role: "", "primary", "flat", "chip"."""

    def __init__(
        self, text: str, *, role: str = "", tip: str = "", icon_name: str = "", clicked: Callable[[], Any] | None = None
    ) -> None:
        super().__init__(as_button(text))
        self.setProperty("role", role)
        self.setAccessibleName(text)
        self.setAutoDefault(False)
        if tip:
            self.setToolTip(as_tip(tip))
        if icon_name:
            self.set_icon(icon_name, "accent_text" if role == "primary" else "text")
        if clicked is not None:
            self.clicked.connect(lambda *_: clicked())

    def say(self, text: str) -> None:
        self.setText(as_button(text))
        self.setAccessibleName(text)


class WordsIfRoomy(QObject):
    """Lets buttons show a word beside their icon while a page is at least so wide; below that the icon alone."""

    def __init__(self, page: QWidget, width: int, *buttons: QToolButton) -> None:
        super().__init__(page)
        self._width, self._buttons = width, buttons
        page.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
            kinds = Qt.ToolButtonStyle
            roomy = watched.width() >= self._width
            for button in self._buttons:
                button.setToolButtonStyle(kinds.ToolButtonTextBesideIcon if roomy else kinds.ToolButtonIconOnly)
        return False


class OnlyIfRoomy(QObject):
    """Shows widgets only while a page is at least so wide: what can also be done in other ways gives its place up."""

    def __init__(self, page: QWidget, width: int, *widgets: QWidget) -> None:
        super().__init__(page)
        self._width, self._widgets = width, widgets
        page.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Resize and isinstance(watched, QWidget):
            for widget in self._widgets:
                widget.setVisible(watched.width() >= self._width)
        return False


def one_stop(group: QButtonGroup) -> None:
    """Make Tab stop at the button that is down, and at no other of the group; arrows go between them."""

    def put(button: QAbstractButton, down: bool) -> None:
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus if down else Qt.FocusPolicy.ClickFocus)

    for button in group.buttons():
        put(button, button.isChecked())
    group.buttonToggled.connect(put)


def tab_first(page: QWidget, *first: QWidget) -> None:
    """Let Tab come to some widgets of a page before the others, which keep their order."""
    others: list[QWidget] = []
    at = page.nextInFocusChain()
    while at is not None and at is not page:
        if page.isAncestorOf(at) and at not in first and at.focusPolicy() & Qt.FocusPolicy.TabFocus:
            others.append(at)
        at = at.nextInFocusChain()
    for one, next_one in itertools.pairwise((*first, *others)):
        QWidget.setTabOrder(one, next_one)


def line() -> QFrame:
    """A thin horizontal separator."""
    made = QFrame()
    made.setProperty("role", "line")
    return made


def row(
    *widgets: QWidget | int | None, spacing: int = theme.UNIT, margins: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> QHBoxLayout:
    """Widgets side by side; None is a stretch, a number a gap in px."""
    made = QHBoxLayout()
    made.setSpacing(spacing)
    made.setContentsMargins(*margins)
    for widget in widgets:
        if widget is None:
            made.addStretch(1)
        elif isinstance(widget, int):
            made.addSpacing(widget)
        else:
            made.addWidget(widget)
    return made


class Fold(QWidget):
    """A heading that opens and closes what is under it.

    Signals:
        toggled(bool): opened or closed by the user.
    """

    toggled = Signal(bool)

    def __init__(self, title: str, hint: str = "", *, opened: bool = False) -> None:
        super().__init__()
        self._title = title if not hint else f"{title}  {hint}"
        self.head = ToolButton(title, role="fold", text=title if not hint else f"{title}  {hint}")
        self.head.setCheckable(True)
        self.head.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.head.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.body = QWidget()
        self.inside = QVBoxLayout(self.body)
        self.inside.setContentsMargins(0, 0, 0, theme.UNIT)
        self.inside.setSpacing(theme.UNIT)
        around = QVBoxLayout(self)
        around.setContentsMargins(0, 0, 0, 0)
        around.setSpacing(0)
        around.addWidget(self.head)
        around.addWidget(self.body)
        self.head.toggled.connect(self._set)
        self.head.setChecked(opened)
        self._set(opened, told=False)

    def _set(self, opened: bool, told: bool = True) -> None:
        self.body.setVisible(opened)
        self.head.set_icon("chevron-down" if opened else "chevron-right", "soft")
        if told:
            self.toggled.emit(opened)

    def mark(self, marked: bool) -> None:
        """Show with a dot that something inside differs from what is usual."""
        self.head.say(f"{self._title}  •" if marked else self._title)
        self.head.setAccessibleDescription(tr("holds changed values") if marked else "")

    def is_open(self) -> bool:
        return self.head.isChecked()

    def open(self, opened: bool = True) -> None:
        self.head.setChecked(opened)


class CalmWheel(QObject):
    """Lets the wheel scroll the form: sliders and boxes take it only while they have the focus."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


class Slider(QSlider):
    """A horizontal slider that jumps to where it is pressed."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setMinimumHeight(28)

    def mousePressEvent(self, event: Any) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            share = (event.position().x() - 7) / max(1, self.width() - 14)
            self.setValue(round(self.minimum() + share * (self.maximum() - self.minimum())))
        super().mousePressEvent(event)


def line_height(edit: QPlainTextEdit) -> int:
    """Height of a line as a plain text is laid out, px: whole pixels, where the font's own figure is rounded."""
    return math.ceil(QFontMetricsF(edit.font()).lineSpacing())


def wrap_for(edit: QPlainTextEdit, text: str) -> None:
    """Choose how lines are broken: looking for words in a run that has none takes seconds."""
    if any(len(run) > LONG_RUN for run in text.split()):
        edit.setWordWrapMode(QTextOption.WrapMode.WrapAnywhere)


class Growing(QPlainTextEdit):
    """A read-only text that is as high as its content, so that the page around it scrolls. Appending is cheap."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setAccessibleName(name)
        self.setProperty("role", "page")
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setTabChangesFocus(True)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.document().documentLayout().documentSizeChanged.connect(lambda *_: self._fit())
        self._fit()

    def setPlainText(self, text: str) -> None:
        wrap_for(self, text)
        super().setPlainText(text)

    def append(self, text: str) -> None:
        """Add text at the end without moving anybody's selection."""
        cursor = QTextCursor(self.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(text)

    def _fit(self) -> None:
        # a plain text document measures its height in lines
        lines = max(1, round(self.document().size().height()))
        edges = self.height() - self.viewport().height()  # frame and padding of the style sheet
        height = lines * line_height(self) + 2 * self.document().documentMargin() + max(4, edges) + 2
        self.setFixedHeight(min(16_000_000, int(height)))

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()  # the page scrolls

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # arrows move the cursor of a text with a selection; otherwise the page scrolls
        super().keyPressEvent(event)


class Notice(QFrame):
    """A sentence beside its cause, with a hint, what can be done, and the details on request.

    Args:
        closable: with a button that takes it away.
    """

    closed = Signal()
    shown = Signal()  # or changed its size

    def __init__(self, *, closable: bool = True) -> None:
        super().__init__()
        self.setProperty("role", "notice")
        self.sentence = Label(wrap=True)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hint = Label(role="soft", wrap=True)
        self.detail: QPlainTextEdit | None = None  # made when first needed: most messages have no details
        self.more = ToolButton(tr("Show the details"), text=tr("Details"), checkable=True)
        self.more.toggled.connect(self._unfold)
        self.more.toggled.connect(lambda _: self.shown.emit())
        self.act = Button("")
        self.close_button = ToolButton(tr("Close this message"), "x", clicked=self.put_away)
        self.close_button.setObjectName("notice_close")
        if not closable:
            self.close_button.hide()
        self._does: Callable[[], Any] | None = None
        self._detail = ""
        self.act.clicked.connect(self._acted)
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addWidget(self.sentence)
        words.addWidget(self.hint)
        across = QHBoxLayout()
        across.setSpacing(theme.UNIT)
        across.addLayout(words, 1)
        across.addWidget(self.act, 0, Qt.AlignmentFlag.AlignTop)
        across.addWidget(self.more, 0, Qt.AlignmentFlag.AlignTop)
        across.addWidget(self.close_button, 0, Qt.AlignmentFlag.AlignTop)
        around = QVBoxLayout(self)
        around.setContentsMargins(12, 8, 8, 8)
        around.addLayout(across)
        self._around = around
        self.hide()

    def tell(
        self, sentence: str, hint: str = "", *, detail: str = "", bad: bool = False, action: str = "",
        does: Callable[[], Any] | None = None,
    ) -> None:  # fmt: skip
        """Show a sentence; `action` is the word on a button that does something about it."""
        self.sentence.setText(sentence)
        repolish(self.sentence, "problem" if bad else "")
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))
        self._detail = detail
        self.more.setChecked(False)
        self.more.setVisible(bool(detail))
        if self.detail is not None:
            self.detail.hide()
        self.act.say(action)
        self.act.setVisible(bool(action))
        self._does = does
        self.setAccessibleName(f"{sentence} {hint}".strip())
        self.show()
        self.shown.emit()

    def problem(self, problem: Problem, *, action: str = "", does: Callable[[], Any] | None = None) -> None:
        self.tell(problem.sentence, problem.hint, detail=problem.detail, bad=True, action=action, does=does)

    def _unfold(self, opened: bool) -> None:
        if self.detail is None:
            self.detail = QPlainTextEdit()
            self.detail.setReadOnly(True)
            self.detail.setAccessibleName(tr("Details"))
            self.detail.setMaximumHeight(140)
            self.detail.setTabChangesFocus(True)
            self._around.addWidget(self.detail)
        self.detail.setPlainText(self._detail)
        self.detail.setVisible(opened)

    def put_away(self) -> None:
        self.hide()
        self.closed.emit()

    def _acted(self) -> None:
        does = self._does
        self.put_away()
        if does is not None:
            does()


def pointed(view: QAbstractItemView, at: QPoint) -> tuple[QModelIndex, QPoint]:
    """The row a context menu is meant for, and where to open it: the one under the pointer, else the chosen one, since
    the menu key has no pointer."""
    index = view.indexAt(at)
    if not index.isValid():
        index = view.currentIndex()
        at = view.visualRect(index).center()
    return index, view.viewport().mapToGlobal(at)


def then(*steps: Callable[[], Any]) -> Callable[[], None]:
    """One function that does several things in turn."""

    def all_of_them() -> None:
        for step in steps:
            step()

    return all_of_them


def copy_text(text: str) -> None:
    QApplication.clipboard().setText(text)
