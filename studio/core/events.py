"""What happens to a job, told as it happens. Exactly one of Finished, Failed, Cancelled ends each job."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from studio.core.problems import Problem
from studio.core.works import Work


class _Event(msgspec.Struct, frozen=True, tag_field="event", kw_only=True):
    job: str


class Queued(_Event, frozen=True, kw_only=True, tag="queued"):
    """The job is in the database and waits for its lane."""


class Started(_Event, frozen=True, kw_only=True, tag="started"):
    """The job was handed to a worker."""


class Again(_Event, frozen=True, kw_only=True, tag="again"):
    """The job begins once more from its start, by itself: what came from it so far is void. `why` in one sentence."""

    why: str


class Held(_Event, frozen=True, kw_only=True, tag="held"):
    """It was made and waits until it can be saved; it ends when that is done. `problem` says what is in the way."""

    problem: Problem


class Silent(_Event, frozen=True, kw_only=True, tag="silent"):
    """The worker has given no sign of life for `seconds`; 0 once it does again. A cancel ends it at once."""

    seconds: float


class Loading(_Event, frozen=True, kw_only=True, tag="loading"):
    """The model is being made ready. `fraction` 0…1, or None where the library does not tell."""

    model: str
    fraction: float | None = None


class Progress(_Event, frozen=True, kw_only=True, tag="progress"):
    """`done` of `total` units; never goes back within a job. `phase` is a word for the user."""

    done: float
    total: float
    unit: str = ""
    phase: str = ""


class Preview(_Event, frozen=True, kw_only=True, tag="preview"):
    """A small JPEG of picture `index` as it looks after `step` steps."""

    index: int
    step: int
    jpeg: bytes


class Token(_Event, frozen=True, kw_only=True, tag="token"):
    """The next piece of text `index`; joined, the pieces are the text."""

    index: int
    text: str


class Piece(_Event, frozen=True, kw_only=True, tag="piece"):
    """One spoken sentence, ready to play: a WAV file in staging that lives until the job ends.

    `start` and `seconds` are its place and length in the whole; `text` is what is said.
    """

    index: int
    path: str
    start: float
    seconds: float
    text: str


class Measured(_Event, frozen=True, kw_only=True, tag="measured"):
    """A point of a training's curve: `values` as in learning.Point."""

    step: int
    seconds: float
    values: dict[str, float]


class Tried(_Event, frozen=True, kw_only=True, tag="tried"):
    """What a model that learns makes of prompt `index` after `step` steps: a text, or a small JPEG."""

    index: int
    step: int
    prompt: str
    text: str = ""
    jpeg: bytes = b""


class Log(_Event, frozen=True, kw_only=True, tag="log"):
    """A remark for the user."""

    text: Annotated[str, Meta(max_length=10_000)]


class Cancelling(_Event, frozen=True, kw_only=True, tag="cancelling"):
    """Cancel was asked for and is not true yet."""


class Finished(_Event, frozen=True, kw_only=True, tag="finished"):
    works: tuple[Work, ...] = ()
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Shown(_Event, frozen=True, kw_only=True, tag="shown"):
    """What was made only to be looked at, see app/asides.py. `data`: its file; `meta`: facts about it."""

    data: bytes = b""
    seed: int | None = None
    meta: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class Failed(_Event, frozen=True, kw_only=True, tag="failed"):
    """`works` is what had been finished before, or kept in part."""

    problem: Problem
    works: tuple[Work, ...] = ()


class Cancelled(_Event, frozen=True, kw_only=True, tag="cancelled"):
    """The job was stopped as asked. `works` is what had been finished by then, or kept in part."""

    works: tuple[Work, ...] = ()


Event = (
    Queued | Started | Again | Held | Silent | Loading | Progress | Preview | Token | Piece | Measured | Tried | Log
    | Cancelling
    | Finished | Shown | Failed | Cancelled
)  # fmt: skip
EndEvent = Finished | Failed | Cancelled
