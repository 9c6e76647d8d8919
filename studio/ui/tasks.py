"""What the window asks of the session, done off the main thread: a database or a disk may take its time.

Writes run one after another in the order in which they were asked for; reads do not wait for them.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import shiboken6
from PySide6.QtCore import QObject

from studio.core.problems import Problem, StudioError
from studio.ui.bridge import Bridge

T = TypeVar("T")


class Tasks:
    """Runs functions in the background and hands their results to the main thread.

    A result whose `owner` has been deleted meanwhile is dropped.
    """

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._writes = ThreadPoolExecutor(1, thread_name_prefix="writes")
        self._reads = ThreadPoolExecutor(2, thread_name_prefix="reads")
        self._pictures = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._closed = False

    def write(
        self, owner: QObject, work: Callable[[], T], done: Callable[[T], Any] | None = None,
        failed: Callable[[Problem], Any] | None = None,
    ) -> None:  # fmt: skip
        """Change something. `failed` is given the Problem where it could not be done."""
        self._start(self._writes, owner, work, done, failed)

    def read(
        self, owner: QObject, work: Callable[[], T], done: Callable[[T], Any],
        failed: Callable[[Problem], Any] | None = None,
    ) -> None:  # fmt: skip
        """Look something up."""
        self._start(self._reads, owner, work, done, failed)

    def picture(
        self, owner: QObject, work: Callable[[], T], done: Callable[[T], Any],
        failed: Callable[[Problem], Any] | None = None,
    ) -> None:  # fmt: skip
        """Read a picture or a sound: slower than a look-up, so these do not stand in its way."""
        self._start(self._pictures, owner, work, done, failed)

    def _start(
        self, pool: ThreadPoolExecutor, owner: QObject, work: Callable[[], Any], done: Any, failed: Any
    ) -> None:  # fmt: skip
        if self._closed:
            return
        future: Future[Any] = pool.submit(work)
        future.add_done_callback(lambda ended: self._ended(ended, owner, done, failed))

    def _ended(self, future: Future[Any], owner: QObject, done: Any, failed: Any) -> None:
        if future.cancelled():
            return
        error = future.exception()
        tell: Callable[[], Any] | None
        if error is None:
            result = future.result()
            tell = (lambda: done(result)) if done is not None else None
        else:
            problem = as_problem(error)
            tell = (lambda: failed(problem)) if failed is not None else None
        if tell is not None:
            told: Callable[[], Any] = tell

            def on_main_thread() -> None:
                if shiboken6.isValid(owner):
                    told()

            self._bridge.call(on_main_thread)

    def close(self) -> None:
        """Finish the writes, drop what else waits."""
        self._closed = True
        self._pictures.shutdown(wait=True, cancel_futures=True)
        self._reads.shutdown(wait=True, cancel_futures=True)
        self._writes.shutdown(wait=True)


def as_problem(error: BaseException) -> Problem:
    """An error as a person may read it; what is not one of ours goes to the log as well."""
    if isinstance(error, StudioError):
        return error.problem
    detail = "".join(traceback.format_exception(error))[-8000:]
    print(detail, file=sys.stderr, flush=True)
    if isinstance(error, OSError):
        return Problem("file_error", f"A file could not be used: {error.strerror or error}.", detail=detail)
    return Problem("unexpected", f"Something unexpected happened: {type(error).__name__}.", detail=detail)
