"""Sources for tests, and the engine of data sets as a worker runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.events import Event
from studio.core.learning import Dataset, DatasetRecipe
from studio.core.paths import Paths
from studio.core.plans import Plan
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.data import readers, sources
from studio.engines.data.sets import Sets
from studio.engines.data.streams import Bad

_LIST = (
    "river stone lamp garden winter copper violin harbour meadow candle thunder mirror orchard saddle compass "
    "blanket feather kettle lantern marble needle ocean pepper quarry ribbon sparrow timber umbrella valley wagon"
)
WORDS = _LIST.split()
CARD = ModelCard(id="dataset", name="Data", kind="dataset", engine="data.sets", path="", format="")


def recipe(*files: Path, **given: Any) -> DatasetRecipe:
    return DatasetRecipe(sources=tuple(map(str, files)), **given)


class Bench:
    """One studio's folder, and what happened in it."""

    def __init__(self, home: Path) -> None:
        self.paths = Paths(home)
        self.paths.make()
        self.events: list[Event] = []
        self.notes: list[str] = []
        self.cancelled = threading.Event()
        self.heard: Callable[[Event], None] = lambda event: None
        self.cards: dict[str, ModelCard] = {}
        self._jobs = 0

    def run(self, wanted: DatasetRecipe) -> Result:
        self._jobs += 1
        out = self.paths.staging / f"j{self._jobs}"
        out.mkdir(parents=True)

        def emit(event: Event) -> None:
            self.events.append(event)
            self.heard(event)

        ctx = RunContext(
            f"j{self._jobs}", out, self.paths.cache, emit, self.cancelled, cards=self.cards, paths=self.paths
        )
        engine = Sets()
        engine.load(CARD, Plan(), ctx)
        self.notes = ctx.notes
        return engine.run(wanted, ctx)

    def make(self, *files: Path, **given: Any) -> Dataset:
        """A data set of these files, as it was kept."""
        result = self.run(recipe(*files, **given))
        return self.kept(result.artifacts[0].meta["dataset"])

    def kept(self, dataset: str) -> Dataset:
        return msgspec.json.decode((self.folder(dataset) / "dataset.json").read_bytes(), type=Dataset)

    def folder(self, dataset: str) -> Path:
        return self.paths.datasets / dataset

    def rows(self, made: Dataset, part: str = "") -> list[dict[str, Any]]:
        """The rows of a part, or of all."""
        parts = (part,) if part else ("train", "valid", "test")
        found = []
        for name in parts:
            for line in (self.folder(made.id) / f"{name}.jsonl").read_bytes().splitlines():
                found.append(msgspec.json.decode(line))
        return found

    def texts(self, made: Dataset, part: str = "") -> list[str]:
        return [row["text"] for row in self.rows(made, part)]


def read(*files: Path, **given: Any) -> tuple[list[Any], readers.Reading]:
    """What the readers give of files: texts, messages, (picture, caption), or Bad."""
    wanted = recipe(*files, **given)
    notes: list[str] = []
    reading = readers.Reading(wanted, notes.append)
    found: list[Any] = []
    for source in sources.find(wanted, lambda: None).sources:
        for row in readers.read(source, reading):
            if isinstance(row, Bad):
                found.append(row)
            elif row.shape == "text":
                found.append(row.text)
            elif row.shape == "chat":
                found.append([(each["role"], each["content"]) for each in row.messages])
            else:
                found.append((row.picture, row.text))
    return found, reading


def sentences(count: int, *, start: int = 0) -> list[str]:
    """Texts that have little in common."""
    found = []
    for at in range(start, start + count):
        state = at * 7919 + 13
        chosen = []
        for _ in range(14):
            state = (state * 1103515245 + 12345) % (1 << 31)
            chosen.append(WORDS[(state >> 16) % len(WORDS)])
        found.append(f"Text {at}: {' '.join(chosen)}.")
    return found
