"""What is known of a work: its recipe in words, how it was made, and what can be done with it."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QScrollArea, QVBoxLayout, QWidget

from studio.core.declare import StructType
from studio.core.learning import Range, SearchRecipe
from studio.core.recipes import MODEL_FIELD, RECIPES, WORDS, WORK_KIND, fields, kind_of, model_of, words_of
from studio.core.text import shown
from studio.core.works import Work
from studio.ui.actions import keys_of
from studio.ui.desk import Desk
from studio.ui.history import when
from studio.ui.strings import as_tip, duration, one_or_many, size_of, tr
from studio.ui.widgets import Button, Label, ToolButton, copy_text, row


def lines(work: Work, desk: Desk) -> list[tuple[str, str]]:
    """Title and value of everything worth reading, the important first."""
    recipe, kind = work.recipe, kind_of(work.recipe)
    names = {card.id: card.name for card in desk.models} | {each.id: each.name for each in desk.datasets}
    words, model_field = WORDS.get(kind, "title"), MODEL_FIELD.get(kind, "")
    made_from = {"speech": tr("Text"), "image": tr("Prompt"), "text": tr("Prompt")}.get(kind, tr("Made of"))
    found = [(made_from, shown(words_of(recipe), 100))]
    if model := model_of(recipe):
        found.append((tr("Voice") if kind == "speech" else tr("Model"), shown(names.get(model, model))))
    for field in fields(RECIPES[kind]):
        value = getattr(recipe, field.name)
        if field.name in (words, model_field, "n", "count", "width", "height") or field.type == "other":
            continue
        untouched = value == field.default and (field.group != "main" or kind in WORK_KIND)
        if value is None or value in ("", ()) or untouched:
            continue
        if field.refers == "picture" and not isinstance(value, str):
            text = one_or_many(len([each for each in value if each]), "one picture", "{n} pictures")
        elif field.refers == "picture":
            text = tr("kept")
        elif field.item is not None:
            text = _listed(value, names)
        elif field.name == "sources":
            text = ", ".join(shown(PurePath(each).name or each, 40) for each in value[:8]) + (" …" if value[8:] else "")
        elif field.refers and isinstance(value, tuple):
            text = ", ".join(shown(names.get(each, str(each)), 60) for each in value)
        elif field.refers:
            text = shown(names.get(value, str(value)))
        else:
            text = tr(value.replace("_", " ")) if field.type == "choice" else said(value, tr(field.unit))
        found.append((tr(field.title), text))
    if isinstance(recipe, SearchRecipe):
        varied = recipe.training
        found.append((tr("Trainings"), f"{varied.method} · {shown(names.get(varied.data, varied.data), 60)}"))
    if "width" in work.meta and work.kind == "image":
        found.append((tr("Size"), f"{work.meta['width']} × {work.meta['height']} px".replace(" ", "\u00a0")))
    if kind == "speech":
        found.append((tr("Length"), duration(float(work.meta.get("seconds", 0.0)))))
    if "tokens" in work.meta:
        found.append((tr("Written"), tr("{n} tokens", n=f"{work.meta['tokens']:,}")))
    made_with = recipe.made_with
    where = tr(" on {device}", device=made_with.device.upper()) if made_with else ""
    found.append((tr("Time"), f"{duration(work.seconds)}{where}"))
    ending = work.master.path.rsplit(".", 1)[-1].upper()
    found.append((tr("File"), f"{ending}, {size_of(work.master.bytes)}"))
    found.append((tr("Made"), when(work)))
    if not work.complete:
        found.append((tr("State"), tr("the part that was there when it was cancelled")))
    found += [(tr("Note"), note) for note in work.notes]
    return found


def _listed(value: Any, names: dict[str, str]) -> str:
    """LoRAs with their weights, margins with their sides, and the like, in a line."""
    if not isinstance(value, tuple):
        made_of: StructType = type(value)
        sides = {tr(f.title).lower(): getattr(value, f.name) for f in fields(made_of)}
        return ", ".join(f"{side} {said(number, '')}" for side, number in sides.items() if number)
    told = []
    for each in value:
        if isinstance(each, Range):
            between = each.choices or f"{said(each.low, '')} – {said(each.high, '')}"
            told.append(f"{each.field} {shown(between, 80)}")
            continue
        model, weight = getattr(each, "model", getattr(each, "name", "")), getattr(each, "weight", None)
        told.append(shown(names.get(model, model), 40) + ("" if weight is None else f" {said(weight, '')}"))
    return ", ".join(told)


def said(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return tr("yes") if value else tr("no")
    if isinstance(value, tuple):
        return ", ".join(v if isinstance(v, str) else repr(v) for v in value)
    if isinstance(value, float):
        return f"{value:g} {unit}".strip()
    if isinstance(value, int) and value >= 10_000:
        return f"{value:,} {unit}".strip().replace(",", "\u00a0").replace(" ", "\u00a0")
    return f"{shown(str(value), 400)} {unit}".strip()


def _with_keys(tip: str, action: str) -> str:
    return f"{tip}  ({keys_of(action)})"


class DetailsPanel(QWidget):
    """The recipe of one work, with the buttons that use it.

    Signals:
        reuse(Work), vary(Work), reveal(Work), star(Work, bool).
    """

    reuse = Signal(object)
    vary = Signal(object)
    reveal = Signal(object)
    star = Signal(object, bool)

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.work: Work | None = None
        self.star_button = ToolButton(tr("Star this work"), "star", checkable=True, shortcut=keys_of("star_work"))
        self.star_button.setObjectName("star")
        self.star_button.clicked.connect(lambda on: self.work and self.star.emit(self.work, on))
        self.copy_button = ToolButton(tr("Copy the recipe"), "copy", clicked=self.copy_recipe)
        self.copy_button.setObjectName("copy_recipe")
        self.folder_button = ToolButton(
            tr("Show the file in its folder"), "folder-open", shortcut=keys_of("reveal_work")
        )
        self.folder_button.setObjectName("reveal")
        self.folder_button.clicked.connect(lambda: self.work and self.reveal.emit(self.work))
        self._grid_holder = QWidget()
        self._grid_holder.setObjectName("details_rows")
        self._grid = QGridLayout(self._grid_holder)
        self._grid.setContentsMargins(0, 0, 8, 0)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(6)
        self._grid.setColumnStretch(1, 1)
        self._scroll = QScrollArea()
        self._scroll.setObjectName("details")
        self._scroll.setAccessibleName(tr("Details"))
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidget(self._grid_holder)
        self.reuse_button = Button(tr("Reuse"), tip=_with_keys(tr("Take all parameters into the form"), "reuse_work"))
        self.reuse_button.setObjectName("reuse")
        self.reuse_button.clicked.connect(lambda: self.work and self.reuse.emit(self.work))
        self.vary_button = Button(tr("Vary"), tip=_with_keys(tr("Make it once more with another seed"), "vary_work"))
        self.vary_button.setObjectName("vary")
        self.vary_button.clicked.connect(lambda: self.work and self.vary.emit(self.work))
        around = QVBoxLayout(self)
        around.setContentsMargins(12, 8, 12, 12)
        around.setSpacing(8)
        around.addLayout(
            row(
                Label(tr("Details"), "heading"), None, self.star_button, self.copy_button, self.folder_button, spacing=0
            )
        )
        self.badge = Label(role="problem", wrap=True)
        self.badge.setObjectName("file_state")
        self.badge.hide()
        around.addWidget(self.badge)
        around.addWidget(self._scroll, 1)
        around.addLayout(row(self.reuse_button, self.vary_button))
        desk.models_changed.connect(lambda: self.show_work(self.work))  # a model's name may only now be known
        self.show_work(None)

    def show_work(self, work: Work | None) -> None:
        """Show the details of a work; None clears the panel."""
        self.work = work
        self.badge.hide()
        session = self._desk.session
        if work is not None and session is not None:
            self._desk.tasks.picture(self, lambda: session.state_of(work), lambda state: self._mark(work, state))
        while (item := self._grid.takeAt(0)) is not None:
            if (gone := item.widget()) is not None:
                gone.hide()  # it is deleted a little later, and would be drawn under the new ones until then
                gone.deleteLater()
        for part in (self.star_button, self.copy_button, self.folder_button, self.reuse_button, self.vary_button):
            part.setEnabled(work is not None)
        self._grid_holder.setToolTip("")
        self.star_button.setChecked(bool(work and work.starred))
        self.star_button.set_icon(*(("star-filled", "star") if work and work.starred else ("star", "text")))
        if work is None:
            hint = Label(tr("Choose a work to see how it was made."), "soft", wrap=True)
            self._grid.addWidget(hint, 0, 0, 1, 2)
            self._grid.setRowStretch(1, 1)
            return
        made = lines(work, self._desk)
        for at, (title, value) in enumerate(made):
            name = Label(title, "soft")
            text = Label(value, wrap=True)
            text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            text.setAccessibleName(f"{title}: {value}")
            self._grid.addWidget(name, at, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(text, at, 1)
            self._grid.setRowStretch(at, 0)
        if work.recipe.made_with is not None:
            versions = "\n".join(f"{n} {v}" for n, v in work.recipe.made_with.versions.items())
            self._grid_holder.setToolTip(as_tip(versions))
        self._grid.setRowStretch(len(made), 1)

    def _mark(self, work: Work, state: str) -> None:
        """Say that the file is not what the studio made; nothing here ever writes over it."""
        if self.work is not work or not state:
            return
        changed = tr("This file was changed by another program. Its recipe is that of the first version.")
        self.badge.setText(changed if state == "changed" else tr("The file of this work is not there any more."))
        self.badge.show()

    def copy_recipe(self) -> None:
        if self.work is not None:
            copy_text(msgspec.json.format(msgspec.json.encode(self.work.recipe), indent=1).decode())
