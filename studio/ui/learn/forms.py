"""The forms of data sets, trainings, searches and evaluations: declared fields, and what belongs together in them.

Knows which fields mean something beside which; knows nothing of jobs.
"""

from __future__ import annotations

from typing import Any

import msgspec
from PySide6.QtCore import Signal
from PySide6.QtGui import QFont, QFontMetrics
from PySide6.QtWidgets import QDoubleSpinBox, QSpinBox, QWidget

from studio.core.abilities import no_four_bits
from studio.core.declare import Field
from studio.core.learning import Dataset, TrainImageRecipe, TrainTextRecipe
from studio.core.recipes import RECIPES, Recipe, fields
from studio.ui import theme
from studio.ui.desk import Desk
from studio.ui.fields import ChoicesEditor, Editor, OptionalNumber
from studio.ui.forms import Form
from studio.ui.learn.editors import (
    ColumnEditor,
    DatasetEditor,
    PathEditor,
    PlainNumber,
    SourcesEditor,
    TitledChoice,
)
from studio.ui.lists import CardEditor
from studio.ui.strings import tr

COLUMNS = ("text", "question", "answer", "image")  # fields of a data set that name a column
# Fields that name a file or a folder: kind and field -> whether it is a folder.
PATHS = {
    ("evaluate-text", "candidates"): False, ("evaluate-image", "pictures"): True,
    ("evaluate-image", "references"): True, ("evaluate-image", "encoder"): True,
    ("evaluate-image", "classifier"): True, ("evaluate-speech", "sounds"): True, ("evaluate-speech", "listener"): True,
}  # fmt: skip
# Numbers whose 0 means something else than none: what their boxes show then. In few letters: the boxes are small.
AT_ZERO = {
    ("train-text", "steps"): "by epochs", ("train-text", "check_every"): "auto", ("train-text", "patience"): "never",
    ("train-text", "clip"): "off", ("train-image", "size"): "own", ("train-image", "snr"): "off",
    ("train-image", "check_every"): "auto", ("train-image", "sample_every"): "auto",
    ("train-image", "patience"): "never", ("train-image", "clip"): "off", ("dataset", "longest"): "any",
    ("dataset", "most"): "all",
}  # fmt: skip
NARROWEST, WIDEST = 124, 168  # px of the titles beside their editors
SEVERAL = {("dataset", "sources"), ("evaluate-text", "references")}
# By method: groups and fields of a training that mean nothing with it.
UNUSED: dict[str, dict[str, tuple[str, ...]]] = {
    "train-text": {
        "lora": ("scratch",), "qlora": ("scratch",), "full": ("adapter", "scratch"), "scratch": ("adapter", "model"),
    },
    "train-image": {
        "lora": ("scratch", "subject", "others", "others_count"), "dreambooth": ("scratch",),
        "full": ("scratch", "adapter", "subject"),
        "autoencoder": ("adapter", "subject", "model", "channels", "text_width", "text_layers", "vocabulary", "snr",
                        "unguided", "prompts"),
        "scratch": ("adapter", "subject"),
    },
}  # fmt: skip


def method_titles() -> dict[str, str]:
    return {
        "lora": tr("LoRA"), "qlora": tr("QLoRA, in 4 bits"), "full": tr("The whole model"),
        "scratch": tr("From scratch"), "dreambooth": tr("DreamBooth, one subject"),
        "autoencoder": tr("Autoencoder, from scratch"),
    }  # fmt: skip


def measure_titles() -> dict[str, str]:
    return {
        "perplexity": tr("Perplexity"), "bleu": "BLEU", "chrf": "chrF", "rouge": "ROUGE", "meteor": "METEOR",
        "distinct": tr("Distinct words"), "self_bleu": tr("Self-BLEU"), "repetition": tr("Repetition"),
        "bias": tr("Bias"), "toxicity": tr("Toxicity"),
    }  # fmt: skip


def suits_text(dataset: Dataset) -> bool:
    return dataset.shape in ("text", "chat")


def suits_pictures(dataset: Dataset) -> bool:
    return dataset.shape == "captions"


def searchable(kind: str) -> list[Field]:
    """The fields of a training that a search can vary."""
    aside = ("seed", "check_every", "patience", "sample_tokens", "steps", "epochs", "vocabulary", "others_count")
    return [f for f in fields(RECIPES[kind]) if f.type in ("int", "float") and f.name not in aside]


class LearnForm(Form):
    """The parameters of one kind of these works.

    Signals:
        dataset_wanted: a data set is to be made first.
    """

    dataset_wanted = Signal()

    def __init__(self, kind: str, desk: Desk, *, leave_out: tuple[str, ...] = (), of: str = "train-text") -> None:
        self.of = of  # of a search: the kind of its trainings
        self._title_width = 0  # px; not known yet
        super().__init__(kind, desk, leave_out=leave_out)

    def put_first(self, widget: QWidget) -> None:
        """Place something above all rows."""
        self._around.insertWidget(0, widget)

    def vary(self, kind: str) -> None:
        """Offer the fields of another kind of training to a search."""
        self.of = kind
        self.rows["over"].put(())
        self._changed("over")

    def _add(self, field: Field) -> None:
        super()._add(field)
        if not self.rows.is_made(field.name):
            return
        made = self.rows[field.name]
        beside = made.label.parentWidget()
        if made.editor.compact and beside is not None:  # titles with their units are longer here than elsewhere
            beside.setFixedWidth(self._titles())
        box = made.editor.target()
        if (words := AT_ZERO.get((self.kind, field.name))) and isinstance(box, (QSpinBox, QDoubleSpinBox)):
            box.setSpecialValueText(tr(words))

    def _titles(self) -> int:
        """How wide the titles of all rows are, so that their editors stand below one another."""
        if not self._title_width:
            text, small = QFontMetrics(self.font()), QFont(self.font())
            small.setPixelSize(theme.SMALL)
            unit = QFontMetrics(small)
            beside = [f for f in fields(self.declared()) if f.type in ("int", "float", "bool", "choice") or f.refers]
            wanted = [
                text.horizontalAdvance(tr(f.title)) + (unit.horizontalAdvance(tr(f.unit)) + 4 if f.unit else 0) + 32
                for f in beside
            ]
            self._title_width = min(WIDEST, max([NARROWEST, *wanted]))
        return self._title_width

    def special(self, field: Field) -> Editor | None:
        name, kind = field.name, self.kind
        if (kind, name) in SEVERAL:
            return SourcesEditor(field, self._desk)
        if (kind, name) in PATHS:
            return PathEditor(field, self._desk, folder=PATHS[kind, name])
        if field.refers == "dataset":
            fits = suits_pictures if kind == "train-image" else suits_text
            data = DatasetEditor(field, self._desk, fits, optional=not field.required)
            data.wanted.connect(self.dataset_wanted)
            return data
        if name == "model" and (kind.startswith("train-") or (kind == "convert" and field.refers == "text")):
            return self.models_of(field.refers, field)
        if field.refers in ("text", "image"):
            empty = {"tokenizer": tr("none: words only"), "models": tr("choose …")}.get(name, tr("none"))
            card = CardEditor(field, self._desk, empty=empty)
            card.refused.connect(self.refused.emit)
            return card if field.type == "str" else None
        if name == "method":
            titles = method_titles()
            method = TitledChoice(field, [(choice, titles.get(choice, choice)) for choice in field.choices])
            method.refuse("qlora", tr(no_four_bits()) if "qlora" in field.choices else "")
            return method
        if kind == "dataset" and name == "seed":
            return PlainNumber(field)
        if name == "rate":
            rate = OptionalNumber(field)
            rate.say_empty(tr("what suits it"))
            return rate
        if name == "measures":
            return ChoicesEditor(field, measure_titles())
        if kind == "dataset" and name in COLUMNS:
            return ColumnEditor(field)
        if kind == "search" and name == "field":
            return TitledChoice(field, [(f.name, tr(f.title)) for f in searchable(self.of)])
        if kind == "search" and name in ("low", "high"):
            return PlainNumber(field)
        return None

    def method(self) -> str:
        return str(self.rows["method"].value()) if "method" in self.rows else ""

    def unused(self) -> set[str]:
        """Groups and fields that mean nothing beside what is chosen now."""
        found = set(UNUSED.get(self.kind, {}).get(self.method(), ()))
        if self.kind == "train-text" and self.rows.is_made("steps") and self.rows["steps"].value():
            found.add("epochs")
        if self.kind == "dataset" and self.rows.is_made("duplicates") and self.rows["duplicates"].value() != "near":
            found.add("likeness")
        return found

    def _arrange(self) -> None:
        super()._arrange()
        unused = self.unused()
        for name, made in self.rows.items():
            made.setVisible(name not in unused and made.field.group not in unused)
        for group, fold in self._folds.items():
            fold.setVisible(group not in unused)

    def values(self) -> dict[str, Any]:
        unused = self.unused()
        given = super().values()
        for name, made in self.rows.items():
            if isinstance(made.editor, DatasetEditor) and (chosen := made.value()):
                given[name] = chosen  # the newest, where nothing was chosen
        return {
            name: value
            for name, value in given.items()
            if name not in unused and self.rows[name].field.group not in unused
        }

    def complaints(self) -> list[str]:
        missing = [
            name for name, made in self.rows.items()
            if made.field.required and not made.isHidden() and not made.value() and made.isEnabled()
        ]  # fmt: skip
        return [*super().complaints(), *missing]

    def go_to(self, name: str) -> None:
        super().go_to(name)
        made = self.rows[name]
        if made.field.required and not made.value():
            words = {
                "data": tr("There is no data to learn from yet. Make a data set first."),
                "sources": tr("Add a file or a folder to read."),
                "over": tr("Add what is to be varied."),
            }  # fmt: skip
            made.complain(words.get(name, tr("This cannot be empty.")))

    def offer_columns(self, columns: list[str]) -> None:
        """Columns that a look at the sources has found."""
        for name in COLUMNS:
            if name in self.rows:
                made = self.rows[name]
                if isinstance(made.editor, ColumnEditor):
                    made.editor.offer(columns)

    def put_recipe(self, recipe: Recipe, part: str = "all") -> None:
        super().put_recipe(recipe, part)
        self._arrange()


def of_search(training: TrainTextRecipe | TrainImageRecipe) -> dict[str, Any]:
    """The values of a training that a search carries, as plain ones."""
    made: dict[str, Any] = msgspec.to_builtins(training)
    return {name: value for name, value in made.items() if name not in ("run", "title", "made_with")}
