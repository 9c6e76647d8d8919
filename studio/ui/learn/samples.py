"""What a model made of the fixed prompts, before, while and after it learnt: texts side by side, pictures as a strip.

Knows texts and pictures by prompt and step; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import QFrame, QHBoxLayout, QScrollArea, QSizePolicy, QVBoxLayout, QWidget

from studio.core.text import shown
from studio.ui.strings import as_tip, tr
from studio.ui.widgets import Label, row

SIDE = 128  # px of a picture in a strip
LONGEST = 2000  # characters of a sample that are shown


@dataclass(frozen=True)
class Try:
    """One sample. `image`: the bytes of a picture, or where its file lies."""

    step: int
    text: str = ""
    image: bytes | Path | None = None


@dataclass
class Tries:
    """All samples of one prompt, by step."""

    prompt: str
    by_step: dict[int, Try] = field(default_factory=dict)

    def steps(self) -> list[int]:
        return sorted(self.by_step)


def side_by_side(steps: list[int], best: int) -> list[int]:
    """The steps of the texts to show: before, one in between (the best, or the middle one), and the last."""
    if len(steps) <= 2:
        return steps
    inner = steps[1:-1]
    middle = best if best in inner else inner[len(inner) // 2]
    return [steps[0], middle, steps[-1]]


class _Text(QFrame):
    """One text with the step it was made at."""

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.setProperty("role", "card")
        inside = QVBoxLayout(self)
        inside.setContentsMargins(12, 8, 12, 10)
        inside.setSpacing(4)
        inside.addWidget(Label(title, "soft"))
        text = text.strip()  # a model often begins with a space, which would look like a mistake of the page
        body = Label(text[:LONGEST] or tr("(nothing)"), wrap=True)
        body.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        body.setAccessibleName(f"{title}: {text[:LONGEST]}")
        body.setAlignment(Qt.AlignmentFlag.AlignTop)
        body.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        body.setMinimumWidth(40)
        inside.addWidget(body)
        inside.addStretch(1)


class Framed(QWidget):
    """One picture with a word under it."""

    def __init__(self, title: str, picture: QImage | None, prompt: str) -> None:
        super().__init__()
        self._label = Label()
        self._label.setFixedSize(SIDE, SIDE)
        self._label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._label.setAccessibleName(f"{shown(prompt, 80)}, {title}")
        inside = QVBoxLayout(self)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(2)
        inside.addWidget(self._label)
        caption = Label(title, "soft", elide=True)
        caption.setFixedWidth(SIDE)
        caption.setToolTip(as_tip(title))
        caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        inside.addWidget(caption)
        if picture is not None:
            self.put(picture)

    def put(self, image: QImage) -> None:
        scale = self.devicePixelRatioF()
        side = round(SIDE * scale)
        pixmap = QPixmap.fromImage(
            image.scaled(side, side, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
        )
        pixmap.setDevicePixelRatio(scale)
        self._label.setPixmap(pixmap)


class SamplesView(QWidget):
    """All prompts, one below the other.

    Args:
        load: reads a picture's file in the background and hands it over; see `Tasks.picture`.
    """

    def __init__(self, load: Callable[[Path, Callable[[QImage], None]], None]) -> None:
        super().__init__()
        self.setObjectName("samples")
        self._load = load
        self._shown: dict[int, tuple[object, ...]] = {}
        self._rows: dict[int, QWidget] = {}
        self._around = QVBoxLayout(self)
        self._around.setContentsMargins(0, 0, 0, 0)
        self._around.setSpacing(12)

    def clear(self) -> None:
        for made in self._rows.values():
            self._around.removeWidget(made)
            made.hide()
            made.deleteLater()
        self._rows, self._shown = {}, {}
        self.hide()

    def put(self, tries: dict[int, Tries], best: int, *, running: bool) -> None:
        """Show these, by the index of their prompts; what is shown already is left alone."""
        self.setVisible(bool(tries))
        for index in [index for index in self._rows if index not in tries]:
            gone = self._rows.pop(index)
            self._shown.pop(index, None)
            gone.hide()
            gone.deleteLater()
        for place, (index, each) in enumerate(sorted(tries.items())):
            key = (each.prompt, tuple(each.steps()), best, running)
            if self._shown.get(index) == key:
                continue
            before = self._rows.pop(index, None)
            if before is not None:
                self._around.removeWidget(before)
                before.hide()
                before.deleteLater()
            self._shown[index] = key
            self._rows[index] = self._made(index, each, best, running)
            self._around.insertWidget(place, self._rows[index])

    def _made(self, index: int, tries: Tries, best: int, running: bool) -> QWidget:
        holder = QWidget()
        inside = QVBoxLayout(holder)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(6)
        prompt = Label(shown(tries.prompt, 300), "heading", wrap=True)
        inside.addWidget(prompt)
        steps = tries.steps()
        if any(each.image is not None for each in tries.by_step.values()):
            inside.addWidget(self._strip(index, tries, steps, running))
            return holder
        across = row(spacing=8)
        for step in side_by_side(steps, best):
            across.addWidget(_Text(said_step(step, steps, best, running), tries.by_step[step].text), 1)
        inside.addLayout(across)
        return holder

    def _strip(self, index: int, tries: Tries, steps: list[int], running: bool) -> QWidget:
        scroll = QScrollArea()
        scroll.setObjectName(f"strip_{index}")
        scroll.setAccessibleName(tr("Pictures of “{prompt}”", prompt=shown(tries.prompt, 80)))
        scroll.setWidgetResizable(True)
        scroll.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFixedHeight(SIDE + 40)
        holder = QWidget()
        across = QHBoxLayout(holder)
        across.setContentsMargins(0, 0, 0, 0)
        across.setSpacing(8)
        for step in steps:
            image = tries.by_step[step].image
            title = said_step(step, steps, -1, running)
            at_once = QImage.fromData(image) if isinstance(image, bytes) else None
            made = Framed(title, at_once if at_once is not None and not at_once.isNull() else None, tries.prompt)
            across.addWidget(made)
            if isinstance(image, Path):
                self._load(image, lambda picture, m=made: m.put(picture))  # type: ignore[misc]
        across.addStretch(1)
        scroll.setWidget(holder)
        bar = scroll.horizontalScrollBar()
        bar.rangeChanged.connect(lambda _, most: bar.setValue(most))  # the newest is at the end
        return scroll


def said_step(step: int, steps: list[int], best: int, running: bool) -> str:
    """A step in words: “before”, “step 40”, “now”."""
    if step == 0:
        return tr("before")
    said = tr("step {n}", n=f"{step:,}")
    if step == best:
        return f"{said} · {tr('best')}"
    return f"{tr('now') if running else tr('after')} · {said}" if step == steps[-1] else said
