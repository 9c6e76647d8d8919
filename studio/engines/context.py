"""What an engine is given for one job: ways to report, to be stopped, and to leave files. No torch here."""

from __future__ import annotations

import contextlib
import errno
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from studio.core.cards import ModelCard
from studio.core.events import Event, Held, Loading, Log, Measured, Piece, Preview, Progress, Token, Tried
from studio.core.files import durable, sha256_of
from studio.core.paths import Paths
from studio.core.problems import ModelMissing, NotFound, NotSaved, Problem
from studio.core.recipes import SEED_LIMIT
from studio.core.text import shown
from studio.core.trail import Trail
from studio.core.works import Artifact

FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM_SECONDS = 1.0  # between two tries to save on a full disk


class JobCancelled(BaseException):
    """Raised inside an engine when its job was cancelled.

    A BaseException, so that no library's `except Exception` swallows it on its way through a callback.
    """


class RunContext:
    """The surroundings of one job.

    Args:
        job: the job's id.
        out_dir: staging folder of the job; exists.
        cache_dir: where what is dear to compute may be kept between runs; may be emptied at any time.
        emit: takes each event; must not block for long.
        cancelled: set from another thread when the job is to stop.
        inputs: the folder of kept input pictures.
        cards: the additions and data sets that the recipe names, by id.
        paths: the studio's folders, for those that keep more than works: data sets, checkpoints, models.
    """

    def __init__(
        self,
        job: str,
        out_dir: Path,
        cache_dir: Path,
        emit: Callable[[Event], None],
        cancelled: threading.Event | None = None,
        *,
        inputs: Path | None = None,
        cards: Mapping[str, ModelCard] | None = None,
        paths: Paths | None = None,
    ) -> None:
        self.job = job
        self.out_dir = out_dir
        self.cache_dir = cache_dir
        self.notes: list[str] = []
        self.saved: list[Artifact] = []  # what is complete; kept even when the job is cancelled later
        self.trail = Trail(out_dir if job else None)
        self._emit = emit
        self._cancelled = cancelled or threading.Event()
        self._done = 0.0
        self._inputs = inputs
        self._cards = dict(cards or {})
        self._paths = paths

    @property
    def paths(self) -> Paths:
        """The studio's folders. Raises NotSaved where the job was given none."""
        if self._paths is None:
            raise NotSaved("This work needs the studio's folder, and was given none.")
        return self._paths

    def input(self, name: str) -> Path:
        """The file of a kept input picture. Raises NotFound."""
        path = self._inputs / name if self._inputs is not None else None
        if path is None or not path.is_file():
            raise NotFound("A picture that this work is made from is gone.", detail=name)
        return path

    def card(self, name: str) -> ModelCard:
        """The card of an addition that the recipe names. Raises ModelMissing."""
        card = self._cards.get(name)
        if card is None:
            raise ModelMissing(f"There is no “{shown(name)}”.", "Was it moved or deleted?")
        return card

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises JobCancelled once the job was cancelled. Cheap: call it as often as you like."""
        if self._cancelled.is_set():
            raise JobCancelled

    def loading(self, model: str, fraction: float | None = None) -> None:
        self._emit(Loading(job=self.job, model=model, fraction=fraction))

    def progress(self, done: float, total: float, unit: str = "", phase: str = "") -> None:
        """Report progress. What would go back is held at the highest value so far."""
        self._done = max(self._done, min(done, total))
        self._emit(Progress(job=self.job, done=self._done, total=total, unit=unit, phase=phase))

    def preview(self, index: int, step: int, jpeg: bytes) -> None:
        self._emit(Preview(job=self.job, index=index, step=step, jpeg=jpeg))

    def token(self, index: int, text: str) -> None:
        text = text.encode("utf-8", "replace").decode()  # half a character cannot be sent
        self.trail.text(index, text)
        self._emit(Token(job=self.job, index=index, text=text))

    def piece(self, index: int, path: Path, start: float, seconds: float, text: str) -> None:
        self._emit(Piece(job=self.job, index=index, path=str(path), start=start, seconds=seconds, text=text))

    def measured(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """A point of the curve. What is not finite is left out: JSON has no word for it."""
        sound = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._emit(Measured(job=self.job, step=step, seconds=seconds, values=sound))

    def tried(self, step: int, index: int, prompt: str, text: str = "", jpeg: bytes = b"") -> None:
        """What the model makes of a prompt after `step` steps."""
        text = text.encode("utf-8", "replace").decode()
        self._emit(Tried(job=self.job, index=index, step=step, prompt=prompt, text=text, jpeg=jpeg))

    def note(self, text: str) -> None:
        """A remark that is shown now and kept with the work."""
        if text not in self.notes:
            self.notes.append(text)
            self.trail.note(text)
            self._emit(Log(job=self.job, text=text[:10_000]))

    @staticmethod
    def seed(first: int, index: int) -> int:
        """The seed of work `index` of a job whose first seed is `first`: they count up and wrap at 32 bits."""
        return (first + index) % SEED_LIMIT

    def file(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Open a file in staging that is complete and on disk when the block ends, or not there at all.

        Raises:
            OSError: the disk is full or refuses.
        """
        return durable(self.out_dir / name)

    def artifact(
        self,
        name: str,
        *,
        index: int = 0,
        seed: int | None = None,
        seconds: float = 0.0,
        role: Literal["master", "thumbnail"] = "master",
        meta: dict[str, Any] | None = None,
        complete: bool = True,
    ) -> Artifact:
        """Describe a file that `file()` left in staging. From here on it is kept, also when the job is cancelled."""
        path = self.out_dir / name
        made = Artifact(
            name=name, sha256=sha256_of(path), bytes=path.stat().st_size, role=role, index=index, seed=seed,
            seconds=seconds, meta=meta or {}, complete=complete,
        )  # fmt: skip
        self.saved.append(made)
        self.trail.artifact(made)
        return made

    def save(self, name: str, data: bytes, **about: Any) -> Artifact:
        """`file()` and `artifact()` in one, for bytes that are already there.

        On a full disk it waits for room and says so: what was computed is dear, and the next job would meet the same.

        Raises:
            JobCancelled: the user gave it up. OSError: the disk refuses for another reason.
        """
        held = False
        while True:
            try:
                with self.file(name) as stream:
                    stream.write(data)
                break
            except OSError as error:
                if error.errno not in FULL:
                    raise
            if not held:
                held = True
                self._emit(Held(job=self.job, problem=no_room()))
            self.check()
            self._cancelled.wait(ROOM_SECONDS)
        return self.artifact(name, **about)


def no_room() -> Problem:
    """What is told while a finished work waits for room."""
    return Problem(
        "not_saved", "It was made, but the disk is full.", "Make room; it is saved as soon as there is some."
    )
