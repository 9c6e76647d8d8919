"""A job without a studio around it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.core.cards import ModelCard
from studio.core.events import Event, Progress, Token
from studio.core.plans import Plan
from studio.core.recipes import check
from studio.core.works import Artifact, Result
from studio.engines.context import RunContext

# One thread: on a busy machine two threads of llama.cpp wait for each other most of the time.
PLAN = Plan(device="cpu", threads=1, n_batch=64, n_ctx=512)


def masters(result: Result) -> list[Artifact]:
    """The texts themselves, without their small pictures."""
    return [artifact for artifact in result.artifacts if artifact.role == "master"]


class Job:
    """One job's surroundings, with everything that was reported."""

    def __init__(self, folder: Path, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self.events: list[Event] = []
        self.cancelled = threading.Event()
        self.out = folder / "out"
        self.out.mkdir(parents=True, exist_ok=True)
        self._on_event = on_event
        self.ctx = RunContext("job", self.out, folder / "cache", self._emit, self.cancelled)

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        self._on_event(event)

    def texts(self, result: Result) -> list[str]:
        return [(self.out / a.name).read_bytes().decode("utf-8") for a in masters(result)]

    def sent(self, index: int = 0) -> str:
        return "".join(e.text for e in self.events if isinstance(e, Token) and e.index == index)

    def progress(self) -> list[Progress]:
        return [e for e in self.events if isinstance(e, Progress)]


def recipe(**given: Any) -> Any:
    """A checked recipe of 16 tokens with seed 1, unless said otherwise."""
    return check("text", {"seed": 1, "max_tokens": 16, **given}).recipe


def card_of(path: Path, **about: Any) -> ModelCard:
    return ModelCard(
        id=path.stem, name=path.stem, kind="text", engine="text.llama", path=str(path), format="gguf", **about
    )
