"""Models on one graphics card, with scripted workers: no machine with a card is needed to see what they are told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import ModelCard, Needs
from studio.core.plans import Plan
from studio.core.recipes import MadeWith, TextRecipe
from studio.core.works import Result
from studio.runtime import messages as m
from studio.runtime.pool import Pool
from studio.runtime.schedule import Waiting
from tests.runtime.test_pool import Notes

GB = 1024**3
RESULT = Result(artifacts=(), made_with=MadeWith(engine="x"))


class Scripted:
    """A link that remembers what it was told and says what the test lets it say."""

    pid = 1

    def __init__(self, lane: str, on_reply: Callable[[m.Reply], None]) -> None:
        self.lane, self.say = lane, on_reply
        self.told: list[m.Command] = []
        self.changed = threading.Event()

    def send(self, command: m.Command) -> None:
        self.told.append(command)
        self.changed.set()

    def kill(self) -> None: ...

    def close(self, timeout: float) -> None: ...

    def last_words(self) -> str:
        return ""


class Rig:
    def __init__(self, folder: Path) -> None:
        self.links: dict[str, Scripted] = {}
        self.notes = Notes(folder)
        self.free = 100 * GB
        self.pool = Pool(
            self.notes, folder / "log", make_link=self._link, resident=lambda pid: 2 * GB, free=lambda: self.free
        )  # fmt: skip

    def _link(self, lane: str, on_reply: Any, on_end: Any) -> Scripted:
        self.links[lane] = Scripted(lane, on_reply)
        return self.links[lane]

    def add(self, lane: str, weights: int, device: str = "auto") -> str:
        job = f"{lane}-{len(self.notes.scripts)}"
        card = ModelCard(
            id=lane, name=lane, kind=lane, engine="x", path="", format="", sha256="-", needs=Needs(weights=weights)
        )
        self.notes.scripts[job] = ("save x", card)
        run = m.Run(
            job=job, engine="x", card=card, recipe=TextRecipe(prompt="x"), plan=Plan(device=device), out_dir="",
            cache_dir="",
        )  # fmt: skip
        self.notes.hand_over = lambda job, busy: run  # type: ignore[method-assign]
        self.pool.add(Waiting(job, lane, lane, weights=weights))
        return job

    def until_told(self, lane: str, kind: type) -> m.Command:
        for _ in range(200):
            link = self.links.get(lane)
            if link is not None and link.told and isinstance(link.told[-1], kind):
                return link.told[-1]
            threading.Event().wait(0.02)
        raise AssertionError(f"{lane} was told {self.links[lane].told}")

    def done(self, lane: str, job: str, free: int) -> None:
        self.links[lane].say(m.Done(job=job, result=RESULT, graphics=m.Graphics("cuda:0", free, 24 * GB)))
        self.notes.end_of(job)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.pool.close()


def test_a_model_on_the_card_is_parked_in_memory_when_another_needs_its_place(rig: Rig) -> None:
    first = rig.add("text", 14 * GB)
    rig.until_told("text", m.Run)
    rig.done("text", first, free=6 * GB)
    second = rig.add("image", 12 * GB)
    rig.until_told("text", m.Park)
    assert not any(isinstance(c, m.Run) for c in (rig.links["image"].told if "image" in rig.links else ()))
    rig.links["text"].say(m.Warmed(model="text"))
    rig.until_told("image", m.Run)
    rig.done("image", second, free=8 * GB)
    assert rig.pool.lanes()["text"].model == "text", "it is still there, in memory"


def test_nothing_is_parked_for_what_fits_or_does_not_go_on_the_card(rig: Rig) -> None:
    first = rig.add("text", 2 * GB)
    rig.until_told("text", m.Run)
    rig.done("text", first, free=6 * GB)
    for lane, weights, device in (("image", 5 * GB, "auto"), ("speech", 12 * GB, "cpu")):
        rig.add(lane, weights, device)
        rig.until_told(lane, m.Run)
    assert not any(isinstance(c, (m.Park, m.Unload)) for c in rig.links["text"].told)


def test_what_does_not_fit_in_memory_either_is_unloaded(rig: Rig) -> None:
    first = rig.add("text", 14 * GB)
    rig.until_told("text", m.Run)
    rig.links["text"].say(m.Done(job=first, result=RESULT))
    rig.notes.end_of(first)
    rig.free = 4 * GB
    rig.add("image", 12 * GB)
    rig.until_told("text", m.Unload)
    rig.links["text"].say(m.Warmed(model=""))
    rig.until_told("image", m.Run)
