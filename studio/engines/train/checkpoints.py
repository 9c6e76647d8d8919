"""What a training leaves on disk so that it can go on: numbers in safetensors, everything else in JSON, never a pickle.

One folder per run:

    run.json            what the run was begun with: settings and threads
    last.safetensors    weights, moments of AdamW and running average; the State is in the file's own metadata, so that
                        one rename replaces all of it at once
    best.safetensors    the weights that did best so far, with their step and value

Knows tensors by name and nothing of models. A file is written beside its place, flushed and renamed: a kill, a full
disk or a power cut leaves the older one as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from studio.core.events import Held
from studio.core.files import sync_folder, write_durably
from studio.core.learning import Point, Sampled
from studio.core.problems import BadRecipe, ModelBroken
from studio.core.text import shown
from studio.engines.context import FULL, ROOM_SECONDS, RunContext, no_room

LAST = "last.safetensors"
BEST = "best.safetensors"
BEGUN = "run.json"
_STATE = "studio"  # the key of the metadata that holds the State
_OS_ERROR = re.compile(r"os error (\d+)")
USUAL_SPEED = 150e6  # bytes a second a disk is taken to write before it was seen to

T = TypeVar("T")


class State(msgspec.Struct, kw_only=True):
    """Where a training is, apart from its tensors. `loop.py` changes it as it goes.

    Random numbers are not in here: the loop seeds them anew for every step and part, from (seed, step, part).

    Attributes:
        step: how many steps are done. seconds: that they took, over all sittings.
        best_step, best: of the lowest validation so far; None before the first look.
        looks_without_gain: how many looks in a row were not better than the best.
        sum, count: losses of the steps since the last point of the curve.
        scale: of the GradScaler, as its own state says; empty without one.
        before: validation before the first step. samples: what was tried so far. estimate: as told at the start.
        peak_bytes: the most memory that was seen in use. why: it ended early, or empty.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best: float | None = None
    looks_without_gain: int = 0
    sum: float = 0.0
    count: int = 0
    scale: dict[str, Any] = {}
    before: dict[str, float] = {}
    curve: list[Point] = []
    samples: list[Sampled] = []
    estimate: dict[str, float] = {}
    peak_bytes: int = 0
    why: str = ""


class Best(msgspec.Struct):
    """What is written beside the best weights."""

    step: int
    value: float | None = None


class Begun(msgspec.Struct):
    """`run.json`. `settings` may not change while a run goes on; `threads` are those its numbers were made with."""

    settings: dict[str, Any]
    threads: int
    version: int = 1


class Checkpoints:
    """The folder of one run. It is made when the first file is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._speed = USUAL_SPEED

    def begin(self, settings: Mapping[str, Any], threads: int) -> int:
        """Begin the run, or go on with it; returns the threads to compute with, which are those it was begun with.

        Args:
            settings: plain data; what changes the numbers that come out.

        Raises:
            BadRecipe: it was begun with other settings. ModelBroken: its `run.json` cannot be read. OSError.
        """
        path = self.folder / BEGUN
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(settings)))
        try:
            begun = msgspec.json.decode(path.read_bytes(), type=Begun)
        except FileNotFoundError:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(path, msgspec.json.format(msgspec.json.encode(Begun(plain, threads)), indent=1))
            return threads
        except msgspec.DecodeError as error:
            raise self._damaged(BEGUN, error) from None
        changed = sorted(k for k in {*plain, *begun.settings} if plain.get(k) != begun.settings.get(k))
        if changed:
            raise BadRecipe(
                f"This training was begun with other settings ({', '.join(changed[:6])}) and cannot go on with these.",
                "Begin a new one.",
            )
        return begun.threads

    # -- the last state

    def keep(self, state: State, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the last checkpoint. Raises OSError: the older one is still there then."""
        self._write(LAST, tensors, msgspec.json.encode(state))

    def last(self) -> tuple[State, dict[str, torch.Tensor]] | None:
        """The last checkpoint, its tensors on the CPU; None before the first. Raises ModelBroken."""
        found = self._read(LAST)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found[0], type=State), found[1]
        except msgspec.DecodeError as error:
            raise self._damaged(LAST, error) from None

    # -- the best weights

    def keep_best(self, best: Best, tensors: Mapping[str, torch.Tensor]) -> None:
        """Replace the best weights. Raises OSError: the older ones are still there then."""
        self._write(BEST, tensors, msgspec.json.encode(best))

    def best(self) -> tuple[Best, dict[str, torch.Tensor]] | None:
        """The best weights so far; None before the first look. Raises ModelBroken."""
        found = self._read(BEST)
        if found is None:
            return None
        try:
            return msgspec.json.decode(found[0], type=Best), found[1]
        except msgspec.DecodeError as error:
            raise self._damaged(BEST, error) from None

    def seconds_for(self, tensors: Mapping[str, torch.Tensor]) -> float:
        """How long writing these will about take."""
        return sum(t.numel() * t.element_size() for t in tensors.values()) / self._speed

    # -- files

    def _write(self, name: str, tensors: Mapping[str, torch.Tensor], about: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path, began = self.folder / name, time.perf_counter()
        save_tensors(path, tensors, {_STATE: about.decode()})
        size, seconds = path.stat().st_size, time.perf_counter() - began
        if size > 10e6:  # a small file tells more of the flushing than of the writing
            self._speed = size / max(seconds, 1e-3)

    def _read(self, name: str) -> tuple[str, dict[str, torch.Tensor]] | None:
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt", device="cpu") as opened:
                about = (opened.metadata() or {}).get(_STATE, "")
                # cloned: what is only mapped would change under us when the file is replaced on some systems
                return about, {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: Exception) -> ModelBroken:
        return ModelBroken(
            f"The checkpoint “{shown(name)}” of this training is damaged.", "Begin a new training.",
            detail=f"{self.folder / name}: {error}",
        )  # fmt: skip


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file that is complete and on disk at the end; an older one stays until then.

    Raises:
        OSError: the disk is full or refuses.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    sound = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        try:
            save_file(sound, temporary, dict(metadata or {}))
        except SafetensorError as error:  # the library hides the system's error in its text
            number = _OS_ERROR.search(str(error))
            code = int(number[1]) if number else errno.EIO
            raise OSError(code, os.strerror(code) if number else str(error), str(path)) from None
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def with_room(ctx: RunContext, write: Callable[[], T]) -> T:
    """What `write` returns. On a full disk it is tried again until there is room, and told as held.

    For what was dear to make: a model that has learnt for hours is not thrown away for a full disk.

    Raises:
        JobCancelled: the user gave it up. OSError: the disk refuses for another reason.
    """
    held = False
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in FULL:
                raise
        if not held:
            held = True
            ctx._emit(Held(job=ctx.job, problem=no_room()))
        for _ in range(10):
            ctx.check()
            time.sleep(ROOM_SECONDS / 10)
