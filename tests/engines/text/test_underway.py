from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.core.events import Token
from studio.core.problems import ModelUnfit
from studio.core.recipes import Message
from studio.engines.text import underway
from studio.engines.text.templates import TemplateFailed
from studio.engines.text.underway import Underway, beyond_window, laid_out
from tests.engines.text.jobs import Job, recipe


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in a list of one, to be set."""
    time = [100.0]
    monkeypatch.setattr(underway.time, "monotonic", lambda: time[0])
    return time


def a_text(job: Job, stops: tuple[str, ...] = (), **given: Any) -> Underway:
    text = Underway(job.ctx, recipe(prompt="x", **given), 0, 3, stops, False)
    text.begin()
    return text


def test_the_first_piece_is_sent_at_once_and_the_next_ones_together(tmp_path: Path, now: list[float]) -> None:
    job = Job(tmp_path)
    text = a_text(job)
    for piece, after in (("One", 0.0), (" two", 0.01), (" three", 0.01), (" four", 1.0)):
        now[0] += after
        text.tokens += 1
        assert not text.feed(piece)
        text.tell()
    assert [e.text for e in job.events if isinstance(e, Token)] == ["One", " two three four"]
    now[0] += 1
    text.finish = "stop"
    master, _ = text.ended(1, 512, rest="!")
    assert job.sent() == (job.out / master.name).read_text("utf-8") == "One two three four!"
    assert (master.meta["tokens"], master.meta["prompt_tokens"], master.meta["words"]) == (4, 3, 4)
    assert master.seconds == pytest.approx(2.02) and master.meta["tokens_per_second"] == pytest.approx(1.98)
    assert job.progress()[-1].done == job.progress()[-1].total == 19


def test_what_follows_a_stop_is_neither_sent_nor_kept(tmp_path: Path) -> None:
    job = Job(tmp_path)
    text = a_text(job, stops=("END",))
    assert not text.feed("Hello EN") and text.feed("D and more") and text.finish == "stop"
    master, _ = text.ended(1, 512, rest="still more")
    assert job.sent() == (job.out / master.name).read_text("utf-8") == "Hello "


def test_a_cancelled_text_is_kept_as_a_part_unless_it_is_blank(tmp_path: Path) -> None:
    job, blank = Job(tmp_path / "a"), Job(tmp_path / "b")
    text = a_text(job)
    text.tokens = 1
    text.feed("Half a")
    text.cancelled(7)
    (kept,) = [a for a in job.ctx.saved if a.role == "master"]
    assert not kept.complete and kept.seed == 7 and kept.meta["finish"] == "cancelled" and job.sent() == "Half a"
    text = a_text(blank)
    text.feed(" \n")
    text.cancelled(7)
    assert not blank.ctx.saved


def test_a_full_window_and_an_empty_text_are_told(tmp_path: Path) -> None:
    job = Job(tmp_path)
    text = a_text(job, max_tokens=16)
    text.tokens, text.finish = 9, "length"
    text.ended(1, 12)
    assert len(job.ctx.notes) == 2 and "12 tokens was full after 9 of 16" in job.ctx.notes[0]


def test_a_template_that_fails_makes_way_for_a_plain_one(tmp_path: Path) -> None:
    job = Job(tmp_path)
    chat = recipe(prompt="Hello", mode="chat", template="auto")

    def fails(turns: tuple[Message, ...]) -> list[int]:
        raise TemplateFailed("it is odd")

    read: list[str] = []

    def reads(text: str) -> list[int]:
        read.append(text)
        return [1]

    assert laid_out(chat, job.ctx, True, lambda turns: [len(turns)], reads) == ([1], chat.stop, False) and not read
    _, stops, trim = laid_out(chat, job.ctx, True, fails, reads)
    assert stops and trim and "Hello" in read[0] and "it is odd" in job.ctx.notes[0]
    wants = recipe(prompt="Hello", mode="chat", template="model")
    with pytest.raises(ModelUnfit, match="no chat template"):
        laid_out(wants, job.ctx, False, fails, reads)


def test_how_far_a_window_may_grow_is_told_where_it_is_known() -> None:
    assert "(up to 2,048)" in beyond_window(600, 512, 2048).problem.hint
    assert "up to" not in beyond_window(600, 512, 0).problem.hint
