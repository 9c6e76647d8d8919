"""What is made only to be looked at: it runs like a job, is told to whom asked for it, and leaves nothing."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from PIL import Image

from studio.core.events import Cancelled, Event, Failed, Progress, Shown
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, StudioError
from studio.core.works import Change
from tests.ui.rig import FakeSession


class Ear:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self._ended = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, (Shown, Failed, Cancelled)):
            self._ended.set()

    def end(self) -> Any:
        assert self._ended.wait(60)
        return self.events[-1]


@pytest.fixture
def session(paths: Paths) -> Any:
    with FakeSession(paths) as session:
        yield session


def left(session: FakeSession) -> list[str]:
    return [p.name for p in session.paths.staging.iterdir()]


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(out, "PNG")
    return out.getvalue()


def test_a_picture_is_made_to_be_looked_at_and_nothing_of_it_is_kept(session: FakeSession) -> None:
    told: list[Event | Change] = []
    session.subscribe(told.append)
    ear = Ear()
    session.aside("image", {"prompt": "an apple", "seed": 7, "count": 3}, ear)
    end = ear.end()
    assert isinstance(end, Shown)
    with Image.open(io.BytesIO(end.data)) as image:
        assert image.size == (64, 64)
    assert end.seed == 7
    assert any(isinstance(event, Progress) for event in ear.events)
    assert session.works() == []
    assert session.jobs() == []
    assert session.queue() == session.mine() == left(session) == []
    assert [event for event in told if not isinstance(event, Change)] == [], "nobody else hears of it"
    assert not [c for c in told if isinstance(c, Change) and (c.jobs or c.works)]


def test_one_that_is_out_of_date_is_dropped_and_the_next_runs(session: FakeSession) -> None:
    old, new = Ear(), Ear()
    first = session.aside("image", {"prompt": "hold an apple"}, old)
    session.drop(first)
    session.aside("image", {"prompt": "a pear"}, new)
    assert isinstance(old.end(), Cancelled)
    assert isinstance(new.end(), Shown)
    session.drop(first)  # long ago
    assert left(session) == []


def test_it_goes_before_what_waits_and_the_queue_goes_on(session: FakeSession) -> None:
    running = session.submit(session.recipe("image", {"prompt": "slow apple", "steps": 6}).recipe)
    waiting = session.submit(session.recipe("image", {"prompt": "a pear"}).recipe)
    ear = Ear()
    session.aside("image", {"prompt": "quick"}, ear)
    order: list[str] = []
    session.subscribe(lambda e: order.append(e.job) if type(e).__name__ == "Started" else None)
    ear.end()
    session.wait(running.id, 60)
    session.wait(waiting.id, 60)
    assert len(session.works()) == 2


@pytest.mark.parametrize("words", ["fail", "field", "die"])
def test_what_goes_wrong_is_told_and_the_lane_goes_on(words: str, session: FakeSession) -> None:
    ear, after = Ear(), Ear()
    session.aside("image", {"prompt": words}, ear)
    end = ear.end()
    assert isinstance(end, Failed)
    assert end.problem.sentence
    session.aside("image", {"prompt": "an apple"}, after)
    assert isinstance(after.end(), Shown)
    assert session.jobs() == []


def test_what_cannot_be_asked_for_is_refused_at_once(session: FakeSession) -> None:
    with pytest.raises(BadRecipe):
        session.aside("image", {"prompt": ""}, Ear())
    assert session._asides.listeners() == []


def test_pictures_for_it_are_kept_only_while_it_runs(session: FakeSession) -> None:
    ear = Ear()
    kept = session.keep_picture(png("green"))
    session.aside("image", {"prompt": "x", "model": "painter"}, ear, {"image": png("red"), "mask": png("green")})
    assert isinstance(ear.end(), Shown)
    assert [p.name for p in session.paths.inputs.iterdir()] == [kept], "what was there before stays"


def test_a_picture_that_was_asked_for_meanwhile_stays(session: FakeSession) -> None:
    ear = Ear()
    session.aside("image", {"prompt": "hold", "model": "painter"}, ear, {"image": png("red")})
    name = session.keep_picture(png("red"))
    session.drop(next(iter(session._asides.listeners())))
    ear.end()
    assert session.picture_path(name).is_file()


def test_the_size_of_a_file_is_told_and_nothing_is_written(session: FakeSession) -> None:
    job = session.submit(session.recipe("image", {"prompt": "an apple"}).recipe)
    session.wait(job.id, 60)
    (work,) = session.works()
    sizes = {}
    for ending, quality in ((".png", 90), (".jpg", 95), (".jpg", 10)):
        ear = Ear()
        session.aside("export", {"work": work.id, "to": ending, "quality": quality}, ear)
        end = ear.end()
        assert isinstance(end, Shown), end
        assert end.data == b""
        sizes[ending, quality] = end.meta["bytes"]
        assert end.meta["exact"] is True
    target = session.paths.home / "out.jpg"
    session.wait(session.export(work.id, target, quality=95).id, 60)
    assert sizes[".jpg", 95] == target.stat().st_size
    assert sizes[".jpg", 10] <= sizes[".jpg", 95]


def test_closing_while_something_is_looked_at_waits_for_no_end_that_nobody_is_told(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession(paths)
    waited: list[str] = []
    monkeypatch.setattr(session, "wait", lambda job, seconds=None: waited.append(job))
    ear = Ear()
    name = session.aside("image", {"prompt": "hold an apple"}, ear)
    until = threading.Event()
    for _ in range(200):
        if name in session._pool.running():
            break
        until.wait(0.05)
    assert name in session._pool.running()
    session.close()
    assert waited == []


def test_two_that_begin_from_the_same_picture_leave_nothing_of_it(session: FakeSession) -> None:
    old, new, bad = Ear(), Ear(), Ear()
    picture = png("teal")
    first = session.aside("image", {"prompt": "hold an apple"}, old, {"image": picture})
    session.aside("image", {"prompt": "an apple"}, new, {"image": picture})
    with pytest.raises(StudioError):
        session.aside("image", {"prompt": "an apple", "model": "gone"}, bad, {"image": picture, "mask": png("white")})
    session.drop(first)
    old.end(), new.end()
    assert list(session.paths.inputs.iterdir()) == []


def test_a_job_that_names_the_same_picture_keeps_it(session: FakeSession) -> None:
    ear = Ear()
    picture = png("teal")
    aside = session.aside("image", {"prompt": "hold an apple"}, ear, {"image": picture})
    (kept,) = session.paths.inputs.iterdir()
    session._inputs.add_bytes(picture)
    session.drop(aside)
    ear.end()
    assert list(session.paths.inputs.iterdir()) == [kept]
