"""What a job looks like on a terminal: one line of progress, or the text as it is written. Nothing in a pipe."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from typing import Any

from studio.core.events import Again, Cancelling, EndEvent, Failed, Held, Loading, Log, Progress, Silent, Token
from studio.core.jobs import Job
from studio.core.text import clean, shown

BAR = 24  # characters
PAUSE = 0.1  # seconds between redraws


class Show:
    """A subscriber that draws one job.

    Args:
        quiet: draw nothing at all.
    """

    def __init__(self, job: Job, *, quiet: bool = False) -> None:
        self.streamed = False
        self.held = threading.Event()  # it was made and cannot be saved now
        self.problem: Any = None
        self._job = job
        self._label = job.kind
        self._draw = not quiet and sys.stderr.isatty()
        self._stream = not quiet and sys.stdout.isatty() and job.kind == "text"
        self._lock = threading.Lock()
        self._pace: tuple[float, float] | None = None  # when the work itself began, and how much was done then
        self._drawn = 0.0
        self._index = 0

    def __call__(self, event: Any) -> None:
        if getattr(event, "job", None) != self._job.id:
            return
        with self._lock:
            if isinstance(event, Token) and self._stream:
                self._write(event)
            elif isinstance(event, Log) and self._draw:
                self._line("")
                print(shown(event.text, 400), file=sys.stderr)
            elif isinstance(event, Loading) and self._draw:
                share = "" if event.fraction is None else f" {event.fraction:.0%}"
                self._line(f"loading {shown(event.model, 40)}{share} …", force=True)
            elif isinstance(event, Progress) and self._draw and not self.streamed:
                self._line(self._bar(event), force=event.done >= event.total)
            elif isinstance(event, Cancelling) and self._draw:
                self._line("cancelling …", force=True)
            elif isinstance(event, Silent) and event.seconds and self._draw:
                self._line(f"not responding for {event.seconds:.0f} s; Ctrl+C ends it", force=True)
            elif isinstance(event, Again):
                self._again(event)
            elif isinstance(event, Held):
                self.problem = event.problem
                self.held.set()

    def _again(self, event: Again) -> None:
        self._pace = None
        self._line("")
        if self._draw or self._stream:
            print(f"\n{event.why} It begins again.", file=sys.stderr)
        self.streamed = False

    def _write(self, event: Token) -> None:
        if not self.streamed:
            self._line("")
        elif event.index != self._index:
            sys.stdout.write("\n\n")
        self.streamed, self._index = True, event.index
        sys.stdout.write(clean(event.text)[0])  # a model must not drive the terminal
        sys.stdout.flush()

    def _bar(self, event: Progress) -> str:
        share = event.done / event.total if event.total else 0.0
        full = int(share * BAR)
        now = time.monotonic()
        if self._pace is None and event.done > 0:
            self._pace = now, event.done
        left = ""
        if self._pace is not None and event.done > self._pace[1] and share < 1:
            each = (now - self._pace[0]) / (event.done - self._pace[1])
            left = f" · {each * (event.total - event.done):.0f} s left"
        unit = f" {event.unit}" if event.unit else ""
        return (
            f"{'█' * full}{'░' * (BAR - full)} {event.phase or self._label} {event.done:g}/{event.total:g}{unit}{left}"
        )

    def _line(self, text: str, *, force: bool = False) -> None:
        """Redraw the line; an empty text clears it."""
        if not self._draw:
            return
        now = time.monotonic()
        if text and not force and now - self._drawn < PAUSE:
            return
        self._drawn = now
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write("\r\x1b[2K" + text[:width])
        sys.stderr.flush()

    def close(self) -> None:
        """Leave the terminal on a line of its own."""
        with self._lock:
            self._line("")
            if self.streamed:
                sys.stdout.write("\n")
                sys.stdout.flush()


def follow(session: Any, job: Job, *, quiet: bool = False) -> tuple[EndEvent, bool]:
    """Draw a job until it ends. Ctrl+C (or a polite kill) cancels it and waits until that is true.

    Returns:
        How it ended, and whether its text went to the terminal already.
    """
    show = Show(job, quiet=quiet)
    stop = session.subscribe(show)
    asked = threading.Event()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda *_: asked.set())
    told = False
    try:
        while (end := session.wait(job.id, 0.1)) is None:
            if asked.is_set() and not told:
                told = True
                session.cancel(job.id)
            if show.held.is_set() and job.id in session.held():
                # whoever called this waits for an exit code, not for room on a disk: the next start saves it
                return Failed(job=job.id, problem=show.problem), show.streamed
        return end, show.streamed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop()
        show.close()
