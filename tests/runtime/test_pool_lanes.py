"""Counting tokens and looking at lanes, with real processes and a scriptable engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.lanes import Lane
from studio.core.plans import Plan
from studio.core.recipes import PROMPT_LIMIT
from studio.core.works import Result
from studio.runtime import messages as m
from studio.runtime.link import ProcessLink
from studio.runtime.pool import Pool
from studio.runtime.schedule import Waiting
from tests.runtime.test_pool import CARD, Notes, Rig

NEVER = "never answered"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.pool.close()


class Question:
    """One question to a pool, and how often it was answered."""

    def __init__(self, pool: Pool, text: str, model: str = "fake", lane: str = "text") -> None:
        self.answers: list[int | None] = []
        self._changed = threading.Condition()
        pool.count(lane, model, text, self._take)

    def _take(self, tokens: int | None) -> None:
        with self._changed:
            self.answers.append(tokens)
            self._changed.notify_all()

    def answer(self) -> int | str | None:
        with self._changed:
            self._changed.wait_for(lambda: self.answers, 20)
        assert len(self.answers) <= 1
        return self.answers[0] if self.answers else NEVER


def warmed(rig: Rig, name: str = "Fake", lane: str = "text") -> Lane:
    """The lane after a warming that ended, well or not."""
    before = len(rig.notes.lanes)
    card = msgspec.structs.replace(CARD, name=name)
    assert rig.pool.warm(lane, card.engine, card, Plan(), rig.notes.folder)
    rig.notes.until(lambda: len(rig.notes.lanes) > before)
    return rig.pool.lanes()[lane]


# -- counting


def test_a_loaded_model_counts_and_its_next_job_runs(rig: Rig) -> None:
    warmed(rig)
    assert Question(rig.pool, "three naïve 🦊").answer() == 3
    rig.add("a", "save one")
    assert isinstance(rig.notes.end_of("a"), Result)
    assert Question(rig.pool, "a b").answer() == 2
    assert Question(rig.pool, "").answer() == 0
    assert len(rig.links) == 1


def test_nobody_counts_where_the_model_is_not_loaded(rig: Rig) -> None:
    assert Question(rig.pool, "a b").answer() is None
    assert rig.links == [], "a question starts no worker"
    warmed(rig)
    assert Question(rig.pool, "a b", model="other").answer() is None
    assert Question(rig.pool, "a b", model="").answer() is None
    assert Question(rig.pool, "a b", lane="image").answer() is None
    rig.pool.unload("text")
    rig.notes.until(lambda: len(rig.notes.lanes) == 2)
    assert Question(rig.pool, "a b", model="").answer() is None


def test_a_lane_at_work_answers_at_once_that_it_cannot_tell(rig: Rig) -> None:
    rig.add("a", "say x; sleep 600")
    rig.running("a")
    assert Question(rig.pool, "a b").answer() is None
    assert "a" not in rig.notes.ends
    rig.pool.cancel("a")
    assert rig.notes.end_of("a") == ("cancelled", None)
    assert Question(rig.pool, "a b").answer() == 2, "a cancelled job leaves the model loaded"


def test_a_failed_job_leaves_a_model_that_counts(rig: Rig) -> None:
    rig.add("a", "raise surprise")
    rig.notes.end_of("a")
    assert Question(rig.pool, "a b").answer() == 2


def test_questions_to_a_worker_whose_memory_ran_out_are_answered_too(rig: Rig) -> None:
    rig.add("a", "say x; sleep 0.2; raise oom")
    rig.running("a")
    assert Question(rig.pool, "a b").answer() is None
    rig.notes.end_of("a")
    assert Question(rig.pool, "a b").answer() is None, "its worker is gone, and with it the model"
    assert rig.pool.lanes() == {}


def test_a_text_longer_than_any_prompt_is_not_sent(rig: Rig) -> None:
    warmed(rig)
    assert Question(rig.pool, "a " * (PROMPT_LIMIT // 2)).answer() == PROMPT_LIMIT // 2
    assert Question(rig.pool, "a " * (PROMPT_LIMIT // 2) + "b").answer() is None


def test_a_count_that_fails_is_not_known_and_the_worker_lives_on(rig: Rig) -> None:
    warmed(rig)
    assert Question(rig.pool, "raise").answer() is None
    assert Question(rig.pool, "a b").answer() == 2
    assert len(rig.links) == 1


def test_a_worker_that_dies_while_it_counts_answers_none_and_the_next_job_runs(rig: Rig) -> None:
    warmed(rig)
    first, second = Question(rig.pool, "die"), Question(rig.pool, "a b")
    assert (first.answer(), second.answer()) == (None, None)
    rig.add("a", "save one")
    assert isinstance(rig.notes.end_of("a"), Result)
    assert len(rig.links) == 2


def test_a_job_goes_before_questions_that_wait(rig: Rig) -> None:
    warmed(rig)
    begun = rig.notes.folder / "begun"
    first = Question(rig.pool, f"slow {begun}")
    deadline = time.monotonic() + 20
    while not begun.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    others = [Question(rig.pool, "slow") for _ in range(20)]
    rig.add("a", "save one")
    assert isinstance(rig.notes.end_of("a"), Result)
    assert first.answer() == 2
    # at the latest from the moment the job arrived, nothing was counted any more
    assert [q.answer() for q in others].count(None) >= 18


def test_closing_answers_what_was_asked(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    warmed(rig)
    question = Question(rig.pool, "slow")
    rig.pool.close()
    assert question.answer() in (1, None)


# -- lanes


def test_a_lane_tells_what_it_holds_and_does(rig: Rig) -> None:
    assert rig.pool.lanes() == {}
    assert warmed(rig) == Lane(model="fake", pid=rig.links[0].pid)
    rig.add("a", "say x; sleep 20")
    rig.running("a")
    assert rig.pool.lanes()["text"] == Lane(model="fake", busy=True, pid=rig.links[0].pid)
    rig.pool.cancel("a")
    rig.notes.end_of("a")
    before = len(rig.notes.lanes)
    assert rig.pool.unload("text")
    assert rig.pool.lanes()["text"] == Lane(pid=rig.links[0].pid), "giving back is not loading"
    rig.notes.until(lambda: len(rig.notes.lanes) > before)
    assert rig.pool.lanes()["text"] == Lane(pid=rig.links[0].pid)


def test_a_lane_that_loads_says_so_and_is_not_asked_twice(rig: Rig) -> None:
    slow = msgspec.structs.replace(CARD, name="slow-load")
    assert rig.pool.warm("text", slow.engine, slow, Plan(), rig.notes.folder)
    lane = rig.pool.lanes()["text"]
    assert lane.warming and not lane.busy and lane.model == "fake"
    assert not rig.pool.warm("text", slow.engine, slow, Plan(), rig.notes.folder)


def test_a_model_that_does_not_load_leaves_its_problem_until_the_next_try(rig: Rig) -> None:
    lane = warmed(rig, "no-load")
    assert lane.problem is not None and lane.problem.sentence == "It needs 9 GB."
    assert (lane.model, lane.warming) == ("", False)
    assert warmed(rig).problem is None
    rig.pool.unload("text")
    rig.notes.until(lambda: len(rig.notes.lanes) == 3)
    assert warmed(rig, "no-load").problem is not None
    rig.add("a", "save one")
    rig.notes.end_of("a")
    assert rig.pool.lanes()["text"].problem is None


def test_a_worker_that_dies_while_it_loads_leaves_a_problem(rig: Rig) -> None:
    lane = warmed(rig, "die-load")
    assert lane.problem is not None and lane.problem.code == "worker_died" and "SIGKILL" in lane.problem.sentence
    assert lane == Lane(problem=lane.problem)


def test_a_worker_that_dies_idle_is_told_and_leaves_no_lane(rig: Rig) -> None:
    warmed(rig)
    os.kill(rig.links[0].pid, signal.SIGKILL)
    rig.notes.until(lambda: len(rig.notes.lanes) == 2)
    assert rig.notes.lanes == ["text", "text"]
    assert rig.pool.lanes() == {}


def test_an_unload_right_after_a_load_is_the_last_word(rig: Rig) -> None:
    warmed(rig)
    rig.pool.unload("text")
    rig.pool.unload("text")
    rig.add("a", "save one")
    assert isinstance(rig.notes.end_of("a"), Result)
    assert rig.pool.lanes()["text"].model == "fake", "a late answer about the unloading does not count"


def test_a_worker_that_cannot_be_started_to_load_is_a_problem_and_waiting_jobs_are_told(tmp_path: Path) -> None:
    allowed = threading.Event()

    def broken(*_: Any) -> ProcessLink:
        allowed.wait(20)
        raise OSError("no more processes")

    notes = Notes(tmp_path)
    pool = Pool(notes, tmp_path / "log", make_link=broken)
    assert pool.warm("text", "text.fake", CARD, Plan(), tmp_path)
    notes.scripts["a"] = ("save x", CARD)
    pool.add(Waiting("a", "text", "fake"))  # waits for the worker that is being started
    allowed.set()
    assert "no more processes" in notes.end_of("a").sentence
    assert notes.lanes == ["text"]
    pool.close()


def test_paused_lanes_are_known(rig: Rig) -> None:
    assert rig.pool.paused() == frozenset()
    rig.pool.pause("text")
    rig.pool.pause()
    assert rig.pool.paused() == {"text", "*"}
    rig.pool.resume()
    assert rig.pool.paused() == {"text"}


def test_a_job_that_was_started_meanwhile_is_not_put_back_into_the_queue(rig: Rig) -> None:
    rig.add("a", "say x; sleep 20")
    rig.running("a")
    rig.pool.place(Waiting("a", "text", "fake", priority=3))
    assert rig.pool.queue() == []
    rig.pool.cancel("a")


def test_the_new_messages_come_back_as_they_went() -> None:
    import io

    count = m.Count(id=3, model="x", text="naïve 🦊")
    assert m.read_command(io.BytesIO(m.encode(count))) == count
    for reply in (m.Counted(id=3, tokens=None), m.Counted(id=3, tokens=7)):
        assert m.read_reply(io.BytesIO(m.encode(reply))) == reply
