"""Weights in a prompt: what is selected made to count more or less, and what has a meaning shown in colour.

Knows text, text edits and the theme; knows no tab, no form and no model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from PySide6.QtGui import QColor, QFont, QSyntaxHighlighter, QTextCharFormat, QTextCursor, QTextDocument
from PySide6.QtWidgets import QPlainTextEdit

from studio.ui import theme

STEP = 0.1  # of a weight
HEAVIEST = 10.0
_FAR = 4_000  # characters to either side in which brackets are looked for


# -- weights


class Weighing(NamedTuple):
    """A change of text: what is replaced, by what, and what is selected afterwards. Places count characters."""

    start: int
    end: int
    words: str
    select: tuple[int, int]


_NUMBER = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\Z")
_TAG = re.compile(r"<((?:lora|lyco):[^<>:]{1,300})(?::([^<>:]{0,100}))?((?::[^<>:]{0,100}){0,7})>", re.IGNORECASE)
_WITHIN = "'’-"  # what may stand within a word
BARE = 1.1  # what brackets without a number weigh


def weighed(text: str, start: int, end: int, step: float) -> Weighing | None:
    """Make the selected words, or the bracket or word under the cursor, count more or less, as A1111 writes it.

    Args:
        start, end: the selection, or twice the cursor. step: added to the weight.

    Returns:
        None where there is nothing to weigh, or its weight is at an end already. At 1 the brackets go.
    """
    while start < end and (text[start].isspace() or text[start] == ","):
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] == ","):
        end -= 1
    near = max(0, start - _FAR), min(len(text), end + _FAR)
    for tag in _TAG.finditer(text, *near):
        if tag.start() <= start and end <= tag.end() and (tag.start() < start or end > start):
            return _tag_weighed(tag, step)
    group = _group(text, start, end, near)
    if group is not None:
        opened, closed = group
        inner = text[opened + 1 : closed]
        number = _NUMBER.search(inner)
        body, weight = (inner[: number.start()], float(number[1])) if number else (inner, BARE)
        new = _stepped(weight, step)
        return None if new == weight else _written(opened, closed + 1, body, new)
    if start == end:
        start, end = _word(text, start)
    if start == end or not _is_balanced(text[start:end]):
        return None
    return _written(start, end, text[start:end], _stepped(1.0, step))


def _stepped(weight: float, step: float) -> float:
    return round(max(0.0, min(HEAVIEST, weight + step)), 2)


def _written(start: int, end: int, body: str, weight: float) -> Weighing:
    if weight == 1:
        return Weighing(start, end, body, (start, start + len(body)))
    return Weighing(start, end, f"({body}:{weight:g})", (start + 1, start + 1 + len(body)))


def _tag_weighed(tag: re.Match[str], step: float) -> Weighing | None:
    try:
        weight = float(tag[2] or 1)
    except ValueError:
        weight = 1.0
    new = round(max(-HEAVIEST, min(HEAVIEST, weight + step)), 2)
    number = f"{new:g}"
    at = tag.start() + 2 + len(tag[1])
    return Weighing(tag.start(), tag.end(), f"<{tag[1]}:{number}{tag[3]}>", (at, at + len(number)))


def _brackets(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The pairs of round brackets of a stretch, inner ones before those around them."""
    opened: list[int] = []
    at = start
    while at < end:
        if text[at] == "\\":
            at += 1
        elif text[at] == "(":
            opened.append(at)
        elif text[at] == ")" and opened:
            yield opened.pop(), at
        at += 1


def _group(text: str, start: int, end: int, near: tuple[int, int]) -> tuple[int, int] | None:
    """The brackets that hold the selection and no more, or the innermost ones around the cursor."""
    for opened, closed in _brackets(text, *near):
        if start == end:
            if opened < start <= closed:
                return opened, closed
            continue
        inner = text[opened + 1 : closed]
        number = _NUMBER.search(inner)
        body_end = opened + 1 + (number.start() if number else len(inner))
        if (start, end) in ((opened, closed + 1), (opened + 1, closed), (opened + 1, body_end)):
            return opened, closed
    return None


def _word(text: str, at: int) -> tuple[int, int]:
    def belongs(char: str) -> bool:
        return char.isalnum() or char == "_" or char in _WITHIN

    start = end = at
    while start > 0 and belongs(text[start - 1]):
        start -= 1
    while end < len(text) and belongs(text[end]):
        end += 1
    while start < end and text[start] in _WITHIN:
        start += 1
    while start < end and text[end - 1] in _WITHIN:
        end -= 1
    return start, end


def _is_balanced(text: str) -> bool:
    depth, at = 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in "()":
            depth += 1 if text[at] == "(" else -1
            if depth < 0:
                return False
        at += 1
    return depth == 0


def _units(text: str) -> int:
    """Length as Qt counts: characters beyond the first plane, such as most emoji, count twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _characters(text: str, units: int) -> int:
    """How many characters of a text are before a place that Qt counted."""
    if text.isascii():
        return min(units, len(text))
    return len(text.encode("utf-16-le", "surrogatepass")[: units * 2].decode("utf-16-le", "replace"))


def weigh(edit: QPlainTextEdit, step: float) -> bool:
    """Weigh what is selected in a text edit, in one step that can be undone. Returns whether anything changed."""
    text, cursor = edit.toPlainText(), edit.textCursor()
    start, end = (_characters(text, at) for at in (cursor.selectionStart(), cursor.selectionEnd()))
    change = weighed(text, start, end, step)
    if change is None:
        return False
    before = _units(text[: change.start])
    cursor.setPosition(before)
    cursor.setPosition(before + _units(text[change.start : change.end]), QTextCursor.MoveMode.KeepAnchor)
    cursor.insertText(change.words)
    made = text[: change.start] + change.words
    cursor.setPosition(_units(made[: change.select[0]]))
    cursor.setPosition(_units(made[: change.select[1]]), QTextCursor.MoveMode.KeepAnchor)
    edit.setTextCursor(cursor)
    return True


# -- colours

# Role -> colour in each theme; all of them can be read on the ground of a text edit.
COLOURS = {
    "dark": {"weight": "#8bbaff", "stop": "#ff9f97", "choice": "#e8b65a", "wild": "#7fd0a4", "lora": "#cda6ff"},
    "light": {"weight": "#1d55b8", "stop": "#a8241c", "choice": "#805500", "wild": "#1c6b43", "lora": "#7138b0"},
}
COLOURED_LINE = 8_192  # characters of a line that are coloured
COLOURED = 32_768  # characters of a text that are

_SYNTAX = re.compile(
    r"(?P<escape>\\.)"
    r"|(?P<lora><(?:lora|lyco|hypernet):[^<>]{1,400}>)"
    r"|(?P<wild>__[^\W_](?:[\w/ -]{0,200}?[^\W_])?__)"
    r"|(?P<stop>\bBREAK\b)"
    r"|(?P<weight>:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)|[()\[\]])"
    r"|(?P<choice>[{}|]|(?:\d{1,4})?-?\d{1,4}\$\$|\d{1,6}(?:\.\d{1,6})?::)"
)
_WIDE = re.compile("[\U00010000-\U0010ffff]")
_DEEPEST = 64


class PromptSyntax(QSyntaxHighlighter):
    """Colours what has a meaning in a prompt: weights, BREAK, alternatives, wildcards, tags of LoRAs.

    The work is bounded: long lines are coloured at their beginning, and long texts too.
    """

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)
        self._formats: dict[str, QTextCharFormat] = {}
        self.retheme()

    def _mix(self) -> None:
        for role, colour in COLOURS[theme.current().name].items():
            made = QTextCharFormat()
            made.setForeground(QColor(colour))
            if role == "stop":
                made.setFontWeight(QFont.Weight.DemiBold)
            self._formats[role] = made

    def retheme(self) -> None:
        """Colour anew, in the theme of now."""
        self._mix()
        document = self.document()
        before = document.blockSignals(True)  # to whoever listens, other colours would be an edit
        self.rehighlight()
        document.blockSignals(before)

    def highlightBlock(self, text: str) -> None:
        depth = max(0, self.previousBlockState())  # braces that earlier lines opened
        left = COLOURED - self.currentBlock().position()
        if left <= 0:
            self.setCurrentBlockState(0)
            return
        text = text[: min(COLOURED_LINE, left)]
        wide = [found.start() for found in _WIDE.finditer(text)] if not text.isascii() else []
        passed = 0  # of the wide ones, which Qt counts twice
        for found in _SYNTAX.finditer(text):
            role = found.lastgroup or ""
            if role == "escape":
                continue
            if role == "choice":
                sign = found[0]
                if sign == "{":
                    depth = min(_DEEPEST, depth + 1)
                elif not depth:
                    continue
                depth -= sign == "}"
            while passed < len(wide) and wide[passed] < found.start():
                passed += 1
            self.setFormat(found.start() + passed, _units(found[0]), self._formats[role])
        self.setCurrentBlockState(depth)
