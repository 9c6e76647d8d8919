"""A worker on a thread of this process, behind the same frames as a real one. For tests and for looking inside."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from studio.runtime import messages as m
from studio.runtime.link import Death
from studio.runtime.worker import Worker


class InlineLink:
    """Takes the place of ProcessLink. A kill cannot end a thread: replies are dropped from then on, the end is told."""

    def __init__(self, on_reply: Callable[[m.Reply], None], on_end: Callable[[Death], None]) -> None:
        self._on_reply = on_reply
        self._on_end = on_end
        commands_out, commands_in = os.pipe()
        replies_out, replies_in = os.pipe()
        self._commands = os.fdopen(commands_in, "wb", buffering=0)
        self._replies = os.fdopen(replies_out, "rb")
        self._worker_side = (os.fdopen(commands_out, "rb"), os.fdopen(replies_in, "wb", buffering=0))
        self._worker = Worker(*self._worker_side, embedded=True)
        self._dead = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"inline-{target.__name__}", daemon=True)
            for target in (self._serve, self._read)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return os.getpid()

    def send(self, command: m.Command) -> None:
        if not self._dead.is_set():
            self._commands.write(m.encode(command))

    def kill(self) -> None:
        if not self._dead.is_set():
            self._dead.set()
            self._commands.close()
            self._on_end(Death(-9))

    def close(self, timeout: float) -> None:
        if not self._dead.is_set():
            self.send(m.Stop())
            for thread in self._threads:
                thread.join(timeout)
            self._dead.set()
            self._commands.close()

    def last_words(self) -> str:
        return ""

    def _serve(self) -> None:
        self._worker.serve()
        self._worker_side[1].close()

    def _read(self) -> None:
        while (reply := m.read_reply(self._replies)) is not None:
            if not self._dead.is_set():
                self._on_reply(reply)
        self._replies.close()
