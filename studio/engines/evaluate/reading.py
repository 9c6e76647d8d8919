"""A language model that is asked how likely a text is, and what it would go on with. Knows no measure and no report.

Two kinds answer alike: a GGUF file through llama.cpp (gguf.py), and a folder of safetensors through transformers
(folder.py), so that their figures can stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from studio.core.cards import ModelCard
from studio.core.problems import ModelUnfit
from studio.core.recipes import Message
from studio.engines.context import RunContext

Check = Callable[[], None]
Numbers = NDArray[np.float64]


class Reader(Protocol):
    """A model held open.

    Attributes:
        name: what it is called. device: where it runs. how: the library, for the report.
        longest: tokens it was made to read at once, 0 if it does not say.
        begin: the tokens that stand before every text; mostly one, or none.
    """

    name: str
    device: str
    how: str
    longest: int
    begin: list[int]

    def tokens(self, text: str) -> list[int]:
        """The numbers a text is read as, without what stands before every text; nothing in it is a control token."""
        ...

    def chat(self, turns: Sequence[Message]) -> tuple[list[int], tuple[str, ...]]:
        """A conversation up to where the answer begins, as numbers; and the texts that end an answer."""
        ...

    def logprobs(self, tokens: Sequence[int], check: Check, first: int = 1) -> Numbers:
        """The natural logarithm of how likely each token from place `first` (1 or later) on is after all before it."""
        ...

    def write(self, tokens: Sequence[int], most: int, check: Check, stops: Sequence[str] = ()) -> str:
        """What the model goes on with, the likeliest token each time, up to its own end, a stop or `most` tokens."""
        ...

    def close(self) -> None: ...


def stopped(text: str, stops: Sequence[str]) -> str | None:
    """The text up to the first of the stops in it; None where there is none of them."""
    places = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(places)] if places else None


def open_reader(card: ModelCard, window: int, device: str, threads: int, ctx: RunContext) -> Reader:
    """Open a model of any kind.

    Args:
        window: tokens it is to read at once.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory.
    """
    ctx.loading(card.name)
    opened: Reader
    if card.format == "gguf" or card.path.lower().endswith(".gguf"):
        from studio.engines.evaluate.gguf import GgufReader
        from studio.models import starter

        if card.parts and not starter.assembled(card):
            starter.assemble(card, lambda fraction: ctx.check())
        opened = GgufReader(Path(card.path), card.name, window, threads)
    elif Path(card.path).is_dir():
        from studio.engines.evaluate.folder import FolderReader

        opened = FolderReader(Path(card.path), card.name, device, threads)
    else:
        raise ModelUnfit(f"“{card.name}” is no language model that can be measured.", "Choose a GGUF file or a folder.")
    ctx.loading(card.name, 1.0)
    return opened
