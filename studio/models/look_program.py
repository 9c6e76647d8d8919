"""The process in which strange files are looked at. Knows how to bound itself; knows nothing of who asks.

A file that crashes its reader, keeps it busy or makes it grow costs this process and nothing else. So it has little
memory and little processor time, can write no file, and whoever started it may kill it at any moment.

It says "ready", then answers each line with one line, until its input ends: a path (a JSON string, one character per
byte of the path) -> an Answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path

if __name__ == "__main__":
    # Started by its path, with -P: the current folder, which may be that of a model, decides no import here.
    _ROOT = str(Path(__file__).resolve().parents[2])
    if _ROOT not in sys.path:
        sys.path.insert(0, _ROOT)

import msgspec

from studio.core.cards import Broken, Looked, ModelCard, NotThisKind

MEMORY_LIMIT = 1 << 30  # bytes of address space; Python and the readers need about 50 MB of it
CPU_SECONDS = 20  # per path; the parent's clock usually strikes first
FILES_LIMIT = 64  # open at once; a reader needs two or three
NO_MEMORY = 77  # exit code


class Answer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a look said, in a form that can be sent and kept: one of the three is set."""

    card: ModelCard | None = None
    broken: Broken | None = None
    why: str = ""

    @property
    def looked(self) -> Looked:
        return self.card or self.broken or NotThisKind(self.why)


def answer_of(looked: Looked) -> Answer:
    if isinstance(looked, ModelCard):
        return Answer(card=looked)
    if isinstance(looked, Broken):
        return Answer(broken=looked)
    return Answer(why=looked.why)


def question(path: Path) -> bytes:
    """The line that asks about a path. Names that are not text keep their bytes."""
    return json.dumps(os.fsencode(path).decode("latin-1")).encode("ascii") + b"\n"


def asked(line: bytes) -> Path:
    return Path(os.fsdecode(json.loads(line).encode("latin-1")))


def _bound() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits: only the parent's clock bounds us there
        return
    limits = {"AS": MEMORY_LIMIT, "FSIZE": 0, "CORE": 0, "NOFILE": FILES_LIMIT}
    for name, limit in limits.items():
        what = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(what)[1]
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses some of them
            resource.setrlimit(what, (most, most))


def _bound_time() -> None:
    """Allow CPU_SECONDS from now: if the parent is gone, nobody else may stop an endless look."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_SECONDS, hard))


def _listen(lines: queue.SimpleQueue[bytes]) -> None:
    """Hand lines over; end the process with its input, that is with the studio, also in the middle of a look."""
    # not sys.stdin: its lock would still be held here when the interpreter ends, and that aborts
    with open(0, "rb", buffering=0, closefd=False) as stream:
        while line := stream.readline():
            lines.put(line)
    os._exit(0)


def main() -> int:
    from studio.models.identify import look

    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    _bound()  # after the imports, which may write compiled files
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a reader might print is no answer
    out.write(b"ready\n")
    out.flush()
    while True:
        path = asked(lines.get())
        _bound_time()
        try:
            answer = answer_of(look(path))
        except MemoryError:
            os._exit(NO_MEMORY)
        # the standard library's JSON: a path that is not text has half surrogates in it
        out.write(json.dumps(msgspec.to_builtins(answer)).encode("ascii") + b"\n")
        out.flush()


if __name__ == "__main__":
    raise SystemExit(main())
