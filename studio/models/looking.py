"""Looking at strange files in a process that may be lost. Knows processes and pipes; knows no model format.

What a file can do to its reader (crash it, keep it busy, make it grow) happens in look_program.py, started for a list
of paths and thrown away after it. It takes about 0.1 s to start, so whoever asks remembers the answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from studio.core.cards import Broken, Looked
from studio.models import look_program
from studio.models.identify import unreachable
from studio.models.reading import COPY_AGAIN

LOOK_SECONDS = 10.0  # for one path; sound models take milliseconds
START_SECONDS = 15.0  # a busy machine; the readers are imported in this time
END_SECONDS = 2.0  # after a kill; a process that waits for a dead disk takes longer, and is left to it
ANSWER_LIMIT = 4 * 1024 * 1024  # bytes; a card has some hundreds
_WORDS_LIMIT = 64 * 1024  # bytes of stderr


class Unread(Broken, frozen=True):
    """A look that did not end. Another try may: the computer may have been busy, or the disk asleep."""


class Unasked(Unread, frozen=True):
    """There was no look: no process could be had for it. That says nothing about the file."""


class _Lost(Exception):
    """The child did not answer. `certain`: because of this path, whatever it was asked before."""

    def __init__(self, why: str, hint: str = COPY_AGAIN, certain: bool = False) -> None:
        super().__init__(why)
        self.unread: Unread = Unread(why, hint)
        self.certain = certain


class _NoReader(_Lost):
    """There is no child to ask: it could not be started, or was not ready in time."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.unread = Unasked(f"the program that looks at models did not start ({why})", "Start the studio again.")


def command() -> list[str]:
    """How to start the child with the program that is running now, frozen or not."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "--look"]
    # By its path and with -P: a json.py in the current folder, which may be that of a model, must not be imported.
    return [sys.executable, "-P", look_program.__file__]


def looks(paths: Sequence[Path]) -> list[Looked]:
    """Say what files and folders are, as `identify.look` does, in a process of their own.

    Returns:
        An answer for each path, in order. A path that takes longer than LOOK_SECONDS, or that ends the process, is
        Unread, and the rest is looked at in a new one. Nothing is started where no path can be reached.
    """
    child = _Replaced()
    try:
        return [unreachable(path) or child.look(path) for path in paths]
    finally:
        child.end()


class _Replaced:
    """A child when there is something to ask, and a new one after each that was lost."""

    def __init__(self) -> None:
        self._child: _Child | None = None
        self._nothing: Unread | None = None  # said of all paths once no child can be had

    def look(self, path: Path) -> Looked:
        while self._nothing is None:
            fresh = self._child is None
            try:
                self._child = self._child or _Child(command())
                return self._child.ask(path)
            except _NoReader as lost:
                self._nothing = lost.unread
            except _Lost as lost:
                self.end()
                # What a child did before may be why it ended: only a fresh one tells that this path is to blame.
                if fresh or lost.certain:
                    return lost.unread
        return self._nothing

    def end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


class _Child:
    """One process, and a thread that hears it: the kernel may keep both waiting for a disk that is gone, but not us.

    Raises:
        _NoReader
    """

    def __init__(self, how: list[str]) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._said = ""
        try:
            self._process = subprocess.Popen(
                how, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except OSError as error:
            raise _NoReader(error.strerror or str(error)) from None
        self._thread = threading.Thread(target=self._hear, name=f"look-{self._process.pid}", daemon=True)
        self._thread.start()
        line = b""
        try:
            line = self._lines.get(timeout=START_SECONDS)
        except queue.Empty:
            raise _NoReader(f"not within {START_SECONDS:g} s") from None
        finally:
            if line != b"ready\n":
                self.end()
        if line != b"ready\n":
            raise _NoReader(self._said or self._how_it_ended())

    def ask(self, path: Path) -> Looked:
        """Raises _Lost; then this child is of no more use."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it has ended: there will be no answer
            self._process.stdin.write(look_program.question(path))
            self._process.stdin.flush()
        try:
            line = self._lines.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            self.end()
            why = f"looking at it took more than {LOOK_SECONDS:g} seconds"
            raise _Lost(why, "Copy it to a faster disk, or download it again.", certain=True) from None
        if len(line) >= ANSWER_LIMIT:
            raise _Lost("looking at it brought no sensible answer")
        if not line.endswith(b"\n"):
            self.end()
            raise self._death()
        try:
            # not msgspec's JSON, which knows no half surrogates
            return msgspec.convert(json.loads(line), look_program.Answer).looked
        except (ValueError, RecursionError, msgspec.ValidationError):
            raise _Lost("looking at it brought no sensible answer") from None

    def end(self) -> None:
        """Kill it, with all it started, and wait a moment for its end."""
        self._kill()
        self._thread.join(END_SECONDS)

    def _kill(self) -> None:
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)  # it leads a group of its own
            else:
                self._process.kill()

    def _hear(self) -> None:
        """Hand its lines over; b"" is the last one. Then wait for its end and close the pipes."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        while (line := process.stdout.readline(ANSWER_LIMIT)).endswith(b"\n"):
            self._lines.put(line)
        if len(line) >= ANSWER_LIMIT:
            self._kill()
        # Until its end; one that only closed its output is ended by the clock. The last line of a traceback tells of a
        # mistake in a reader.
        last = process.stderr.read(_WORDS_LIMIT).decode("utf-8", "replace").rstrip().rpartition("\n")[2]
        self._said = last.partition(":")[0] if re.match(r"[A-Za-z_.]+(:|$)", last) else ""
        self._kill()  # what it started goes with it
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # what was still buffered for a dead process
                pipe.close()
        self._lines.put(line)

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        if code is None:
            return "its end was not reported"
        if code < 0:
            with contextlib.suppress(ValueError):
                return signal.Signals(-code).name
        return f"exit code {code}"

    def _death(self) -> _Lost:
        ended = self._how_it_ended()
        # SIGKILL that is not ours is the system's, when there is no memory left
        if self._process.returncode == look_program.NO_MEMORY or ended == "SIGKILL":
            return _Lost("looking at it needed too much memory")
        return _Lost(f"looking at it ended its reader ({self._said or ended})")
