"""What an engine is given: saving on a full disk."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from studio.core.events import Event, Held
from studio.engines import context as context_module
from studio.engines.context import JobCancelled, RunContext


def full_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, number: int = errno.ENOSPC
) -> tuple[RunContext, list[Event], threading.Event]:
    """A context on a disk that is full for the first `times` tries."""
    monkeypatch.setattr(context_module, "ROOM_SECONDS", 0.01)
    real, left = RunContext.file, [times]

    @contextmanager
    def file(self: RunContext, name: str) -> Iterator[BinaryIO]:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(number, "no")
        with real(self, name) as stream:
            yield stream

    monkeypatch.setattr(RunContext, "file", file)
    events: list[Event] = []
    cancelled = threading.Event()
    return RunContext("j1", tmp_path, tmp_path, events.append, cancelled), events, cancelled


def test_what_was_computed_waits_for_room_and_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, events, _ = full_context(tmp_path, monkeypatch, 5)
    made = ctx.save("0.png", b"dear", seed=3)
    assert (tmp_path / "0.png").read_bytes() == b"dear" and made.seed == 3
    held = [e for e in events if isinstance(e, Held)]
    assert len(held) == 1, "said once"
    assert "full" in held[0].problem.sentence


def test_a_cancel_is_heard_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, _, cancelled = full_context(tmp_path, monkeypatch, 10**6)
    threading.Timer(0.1, cancelled.set).start()
    with pytest.raises(JobCancelled):
        ctx.save("0.png", b"dear")


def test_other_errors_of_the_disk_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx, events, _ = full_context(tmp_path, monkeypatch, 1, errno.EROFS)
    with pytest.raises(OSError, match="no"):
        ctx.save("0.png", b"dear")
    assert events == []


def test_a_trail_is_left_for_jobs_only(tmp_path: Path) -> None:
    events: list[Any] = []
    RunContext("", tmp_path, tmp_path, events.append).note("loading ahead")
    assert list(tmp_path.iterdir()) == []
