"""Evaluations without a studio around them: data sets and files made here, and a job's context."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.events import Event
from studio.core.learning import Report
from studio.core.paths import Paths
from studio.core.works import Result
from studio.engines.context import RunContext


class Job:
    """One job's surroundings, with everything that was reported."""

    def __init__(
        self, folder: Path, *cards: ModelCard, on_event: Callable[[Event], None] = lambda event: None
    ) -> None:  # fmt: skip
        self.events: list[Event] = []
        self.cancelled = threading.Event()
        self.out = folder / "out"
        self.out.mkdir(parents=True, exist_ok=True)
        self._on_event = on_event
        self.ctx = RunContext(
            "job", self.out, folder / "cache", self._emit, self.cancelled, cards={card.id: card for card in cards},
            paths=Paths(folder / "home"),
        )  # fmt: skip

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self._on_event(event)

    def report(self, result: Result) -> Report:
        (master,) = (a for a in result.artifacts if a.role == "master")
        return msgspec.json.decode((self.out / master.name).read_bytes(), type=Report)


def dataset(folder: Path, rows: Sequence[dict[str, Any]], split: str = "test") -> ModelCard:
    """A data set as the studio keeps it, as far as an evaluation looks at it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return ModelCard(
        id=folder.name, name=folder.name, kind="dataset", engine="", path=str(folder), format="text", sha256="d" * 64
    )


def chat(asked: str, answered: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]}


def folder_card(path: Path, name: str = "") -> ModelCard:
    return ModelCard(
        id=path.name, name=name or path.name, kind="text", engine="text.transformers", path=str(path),
        format="transformers",
    )  # fmt: skip


def gguf_card(path: Path) -> ModelCard:
    return ModelCard(id=path.stem, name=path.stem, kind="text", engine="text.llama", path=str(path), format="gguf")


def value(report: Report, name: str, of: str | None = None) -> float:
    """The figure of that name; of the first it is of, unless said."""
    return next(m.value for m in report.measures if m.name == name and of in (None, m.of))
