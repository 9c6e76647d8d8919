"""One worker process and the pipes to it. Knows processes and frames; knows nothing of jobs, queues or models."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from studio.core.rotating import RotatingLog
from studio.runtime import messages as m
from studio.runtime.orphans import bind_to_this_process, end_group

STDERR_LINES = 60  # kept of each worker, for the detail of a problem
LINE_LIMIT = 100_000  # bytes


class Link(Protocol):
    """What the pool needs of a worker, wherever that runs."""

    @property
    def pid(self) -> int: ...

    def send(self, command: m.Command) -> None: ...

    def kill(self) -> None: ...

    def close(self, timeout: float) -> None: ...

    def last_words(self) -> str: ...


class Death:
    """How a worker ended. `code` is Popen's return code: negative for a signal; `reason` is for a person."""

    def __init__(self, code: int | None, garbage: str = "") -> None:
        self.code = code
        self.garbage = garbage

    @property
    def reason(self) -> str:
        if self.garbage:
            return f"it sent something that is not a message ({self.garbage})"
        if self.code is None:
            return "its end was not reported"
        if self.code < 0:
            with contextlib.suppress(ValueError):
                return f"it was ended by {signal.Signals(-self.code).name}"
            return f"it was ended by signal {-self.code}"
        return f"it ended by itself with exit code {self.code}"


class ProcessLink:
    """A worker in a process of its own.

    Threads: one writes commands (a stopped worker must not block the studio), one reads replies and reports the end,
    one drains stderr (a full pipe would block the worker).

    Args:
        command: what to start, for example `worker_command()`.
        environment: variables laid over this process's own.
        log: takes what the worker writes to stderr; a path makes a log of its own.
        on_reply: called on the reader's thread with each reply.
        on_end: called once, on the reader's thread, after the last reply.

    Raises:
        OSError: the process could not be started.

    Call it from a thread that lives as long as the worker should: Linux's parent-death signal is tied to the thread.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        log: RotatingLog | Path,
        on_reply: Callable[[m.Reply], None],
        on_end: Callable[[Death], None],
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **environment, "STUDIO_PARENT": str(os.getpid())},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._job_object = bind_to_this_process(self._process)
        self._owns_log = isinstance(log, Path)
        self._log = RotatingLog(log) if isinstance(log, Path) else log
        self._on_reply = on_reply
        self._on_end = on_end
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._words: collections.deque[str] = collections.deque(maxlen=STDERR_LINES)
        self._threads = [
            threading.Thread(target=target, name=f"worker-{self.pid}-{target.__name__}", daemon=True)
            for target in (self._write, self._read, self._drain)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, command: m.Command) -> None:
        """Hand over a command. Never blocks; a worker that is gone ignores it."""
        self._outbox.put(m.encode(command))

    def kill(self) -> None:
        """End the worker and everything it started, now. The end is reported as always."""
        end_group(self.pid)

    def close(self, timeout: float) -> None:
        """Ask the worker to end, and make it after `timeout` seconds."""
        self._outbox.put(m.encode(m.Stop()))
        self._outbox.put(None)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(2)

    def last_words(self) -> str:
        """The last lines the worker wrote to stderr."""
        return "\n".join(self._words)

    def _write(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            while (frame := self._outbox.get()) is not None:
                self._process.stdin.write(frame)
                self._process.stdin.flush()
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        stdout = cast(BinaryIO, self._process.stdout)
        garbage = ""
        try:
            while (reply := m.read_reply(stdout)) is not None:
                self._on_reply(reply)
        except m.CutOff:
            pass  # it died in the middle of a frame
        except m.ProtocolError as error:
            garbage = str(error)
            self.kill()
        except (OSError, ValueError):
            pass  # the pipe was closed under us: the end is told below
        self._outbox.put(None)
        code = self._end_of_process()
        self._on_end(Death(code, garbage))
        with contextlib.suppress(OSError):
            stdout.close()

    def _end_of_process(self) -> int:
        # What it started goes with it, whoever ended it. Before it is waited for: until then its number is its own.
        if hasattr(os, "waitid") and self._is_dead():
            end_group(self.pid)
        try:
            code = self._process.wait(2)
        except subprocess.TimeoutExpired:  # closed its pipe but goes on
            self.kill()
            code = self._process.wait()
        self._threads[2].join(1)  # let the last words arrive before the end is told
        return code

    def _is_dead(self) -> bool:
        """Whether the process has ended and waits to be asked for its exit code; waits a moment for that."""
        with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
            for _ in range(100):
                if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                    return True
                time.sleep(0.02)
        return False

    def _drain(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            # in pieces: a library may write megabytes without the end of a line
            while line := self._process.stderr.readline(LINE_LIMIT):
                text = line.decode("utf-8", "replace").rstrip()
                self._words.append(text[:2000])
                self._log.add(f"[{self.pid}] {text}")
        if self._owns_log:
            self._log.close()
        self._process.stderr.close()


def worker_command() -> list[str]:
    """How to start a worker with the program that is running now, frozen or not."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "--worker"]
    # Not -m: that would look for modules in the current folder first, which may be anybody's.
    root = str(Path(__file__).resolve().parent.parent.parent)
    start = f"import sys; sys.path.insert(0, {root!r}); from studio.runtime.worker import main; sys.exit(main())"
    return [sys.executable, "-P", "-c", start]
