"""The program of a worker process: one engine, one job at a time, until its stdin closes.

Commands come in on stdin, replies go out on what was stdout. Both are moved aside before anything is imported, so that
a library that prints lands in the log. Knows the engine protocol; knows nothing of queues, databases or windows.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, BinaryIO

# The libraries read these when they are imported; nothing may reach for a network from here.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

# What torch says when the driver gave up; everything after it in the same process fails too.
LOST_DEVICE = ("CUDA error", "HIP error", "cuDNN error", "CUBLAS_STATUS", "device-side assert")

DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than the system allows",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "there is no permission to write there",
    errno.EPERM: "there is no permission to write there",
    errno.EIO: "the disk reports an error",
}


def main() -> int:
    """Run a worker on the standard streams of this process."""
    commands, replies = _take_streams()
    os.environ.update(OFFLINE)
    from studio.runtime.orphans import die_with_parent

    die_with_parent(int(os.environ.get("STUDIO_PARENT", "0")))
    Worker(commands, replies).serve()
    return 0


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    commands = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return commands, replies


class Worker:
    """Takes commands from one stream and answers on another.

    Args:
        commands, replies: binary streams of frames.
        embedded: served by a thread of another program (tests): do not end the process when the commands end.
    """

    def __init__(self, commands: BinaryIO, replies: BinaryIO, *, embedded: bool = False) -> None:
        from studio.runtime import messages

        self._m = messages
        self._commands = commands
        self._replies = replies
        self._embedded = embedded
        self._send_lock = threading.Lock()
        self._todo: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cancels: dict[str, threading.Event] = {}
        self._cancels_lock = threading.Lock()
        self._engine_name = ""
        self._engine: Any = None
        self._model = ""
        self._ruined = self._swept = False
        self._fingerprints: dict[str, _Fingerprint] = {}

    def serve(self) -> None:
        """Work until told to stop or until the commands end."""
        threading.Thread(target=self._listen, name="commands", daemon=True).start()
        self._send(self._m.Hello(pid=os.getpid()))
        m = self._m
        while True:
            command = self._todo.get()
            if isinstance(command, m.Run):
                self._run(command)
            elif isinstance(command, m.Warm):
                self._warm(command)
            elif isinstance(command, m.Unload):
                self._guarded(self._unload)
                self._send(m.Warmed(model=""))
            elif isinstance(command, m.Park):
                self._park()
                self._send(m.Warmed(model=self._model, graphics=self._graphics()))
            elif isinstance(command, m.Count):
                self._send(m.Counted(id=command.id, tokens=self._count(command)))
            else:
                return

    def _listen(self) -> None:
        m = self._m
        try:
            while (command := m.read_command(self._commands)) is not None:
                if isinstance(command, m.Cancel):
                    with self._cancels_lock:
                        event = self._cancels.get(command.job)
                    if event is not None:
                        event.set()
                    continue
                if isinstance(command, m.Run):
                    with self._cancels_lock:
                        self._cancels[command.job] = threading.Event()
                self._todo.put(command)
        except (m.ProtocolError, OSError, ValueError) as error:
            print(f"commands broke off: {error}", file=sys.stderr, flush=True)
        self._leave()

    def _leave(self) -> None:
        """The studio is gone: stop at once, whatever is running, and take started processes along."""
        if self._embedded:
            self._todo.put(None)
            return
        from studio.runtime.orphans import end_group

        if os.name == "posix" and os.getpgrp() == os.getpid():
            end_group(os.getpid())
        os._exit(0)

    def _send(self, reply: Any) -> None:
        frame = memoryview(self._m.encode(reply))
        with self._send_lock:
            try:
                while frame:
                    frame = frame[self._replies.write(frame) or 0 :]
            except (BrokenPipeError, ValueError):
                self._leave()

    def _load(self, name: str, card: Any, plan: Any, ctx: Any) -> Any:
        from studio.core.problems import EngineMissing
        from studio.engines import ENGINES

        if name not in ENGINES:
            raise EngineMissing(f"This studio has no engine “{name}”.")
        if self._engine_name != name:
            self._unload()
            module, _, attribute = ENGINES[name].partition(":")
            try:
                self._engine = getattr(importlib.import_module(module), attribute)()
            except ImportError as error:
                raise EngineMissing(
                    f"The libraries for {name} are not installed or do not start: {error}.",
                    "Run “python3 run.py” once more; it completes the set-up.",
                    detail=traceback.format_exc(),
                ) from None
            self._engine_name = name
        if self._model != card.id:
            ctx.loading(card.name)
        self._model = ""
        self._engine.load(card, plan, ctx)
        self._model = card.id
        return self._engine

    def _unload(self) -> None:
        if self._engine is not None:
            self._engine.unload()
        self._engine, self._engine_name, self._model = None, "", ""

    def _park(self) -> None:
        """Off the graphics card; where the engine cannot do that, out of memory altogether."""
        park = getattr(self._engine, "park", None)
        parked, problem = self._guarded(park) if park is not None else (False, None)
        if not parked or problem is not None:
            self._guarded(self._unload)

    def _graphics(self) -> Any:
        """The graphics card the model is on, or None."""
        engine, torch = self._engine, sys.modules.get("torch")
        name = engine.made_with().device if engine is not None and self._model else ""
        if name in ("", "cpu"):
            return None
        free = total = 0
        if torch is not None and name.startswith("cuda") and torch.cuda.is_available():
            with contextlib.suppress(RuntimeError, AssertionError):
                free, total = torch.cuda.mem_get_info(name)
        return self._m.Graphics(name, free, total)

    def _warm(self, command: Any) -> None:
        from studio.engines.context import RunContext

        ctx = RunContext("", Path(command.cache_dir), Path(command.cache_dir), lambda event: None)
        _, problem = self._guarded(lambda: self._load(command.engine, command.card, command.plan, ctx))
        self._send(self._m.Warmed(model=self._model, problem=problem, graphics=self._graphics()))

    def _count(self, command: Any) -> int | None:
        """How many tokens a text is, or None: counting is for convenience and never an error."""
        with self._cancels_lock:
            job_waits = bool(self._cancels)  # an entry is there from the arrival of a job until its end
        count = getattr(self._engine, "count_tokens", None)
        if job_waits or count is None or self._model != command.model:
            return None
        tokens, problem = self._guarded(lambda: int(count(command.text)))
        if problem is not None:
            print(f"tokens were not counted: {problem.sentence}", file=sys.stderr, flush=True)
        return tokens if problem is None else None

    def _run(self, command: Any) -> None:
        from studio.core.paths import Paths
        from studio.engines.context import JobCancelled, RunContext

        m = self._m
        with self._cancels_lock:
            cancelled = self._cancels[command.job]
        ctx = RunContext(
            command.job,
            Path(command.out_dir),
            Path(command.cache_dir),
            lambda event: self._send(m.Happened(event=event)),
            cancelled,
            inputs=Path(command.inputs_dir) if command.inputs_dir else None,
            cards=command.cards,
            paths=Paths(Path(command.home)) if command.home else None,
        )

        def work() -> Any:
            ctx.check()
            if command.home:
                self._sweep(Paths(Path(command.home)))
            engine = self._load(command.engine, command.card, command.plan, ctx)
            ctx.trail.made_with(engine.made_with())  # what is left of it, should this process be killed, was made so
            cache = Path(command.cache_dir)
            mark = self._fingerprint(command.card, cache)
            for card in command.cards.values():
                self._fingerprint(card, cache)
            ctx.check()
            return self._finished(engine.run(command.recipe, ctx), mark, command, ctx)

        try:
            result, problem = self._guarded(work)
        except JobCancelled:
            self._send(m.Stopped(job=command.job, result=self._kept(ctx), model=self._model, graphics=self._graphics()))
        else:
            if problem is not None:
                graphics = None if self._ruined else self._graphics()
                self._send(
                    m.Gone(job=command.job, problem=problem, model=self._model, leaving=self._ruined, graphics=graphics)
                )  # fmt: skip
            else:
                self._send(m.Done(job=command.job, result=result, graphics=self._graphics()))
        finally:
            ctx.trail.close()
            with self._cancels_lock:
                self._cancels.pop(command.job, None)
        if self._ruined:
            self._leave()

    def _sweep(self, paths: Any) -> None:
        """Once for each worker: what workers that were killed left half made."""
        from studio.core.unfinished import sweep

        if not self._swept:
            self._swept = True
            sweep(paths.datasets, ".making-*")
            sweep(paths.trained, ".*.tmp")

    def _kept(self, ctx: Any) -> Any:
        """What a cancelled job had finished by then, or None."""
        from studio.core.works import Result

        if not ctx.saved or self._engine is None:
            return None
        return Result(artifacts=tuple(ctx.saved), made_with=self._engine.made_with(), notes=tuple(ctx.notes))

    def _finished(self, result: Any, mark: _Fingerprint, command: Any, ctx: Any) -> Any:
        """Complete what the engine reports with what every engine's report needs."""
        import msgspec

        parts = {card.id: self._fingerprint(card, Path(command.cache_dir)).wait() for card in command.cards.values()}
        made_with = msgspec.structs.replace(result.made_with, model_sha256=mark.wait(), parts=parts)
        notes = [*ctx.notes, *result.notes]
        if command.recipe.made_with is not None:
            notes += differences(command.recipe.made_with, made_with)
        return msgspec.structs.replace(result, made_with=made_with, notes=tuple(dict.fromkeys(notes)))

    def _fingerprint(self, card: Any, cache: Path) -> _Fingerprint:
        # On its own thread beside the job: hashing gigabytes takes longer than many jobs do. Once per model and run.
        if card.id not in self._fingerprints:
            self._fingerprints[card.id] = _Fingerprint(card, cache)
        return self._fingerprints[card.id]

    def _guarded(self, work: Any) -> tuple[Any, Any]:
        """Run `work`; whatever goes wrong becomes a Problem. JobCancelled passes."""
        from studio.core.problems import NotSaved, OutOfMemory, Problem, StudioError

        try:
            return work(), None
        except StudioError as error:
            # oneDNN, once it had no memory for its code, goes on failing for that size: only a new process helps
            self._ruined = self._ruined or "could not create a primitive" in error.problem.detail
            return None, error.problem
        except MemoryError:
            hint = "Close other programs or choose something smaller."
            return None, OutOfMemory("The memory of this computer is used up.", hint, detail=_trace()).problem
        except OSError as error:
            reason = DISK_ERRORS.get(error.errno or 0)
            if reason is None:
                return None, Problem("engine_error", f"The engine met an error: {error}.", detail=_trace())
            where = f" to {error.filename}" if error.filename else ""
            return None, NotSaved(f"Could not write{where}: {reason}.", "Make room or choose another folder.").problem
        except RuntimeError as error:
            if not any(sign in str(error) for sign in LOST_DEVICE):
                return None, _unexpected(error)
            # The driver keeps failing every later call of this process: only a new one helps.
            self._ruined = True
            hint = "The next job gets a fresh worker. If it happens again, choose the device “cpu” in the settings."
            sentence = f"The graphics card stopped working: {str(error).splitlines()[0][:200].rstrip('.')}."
            return None, Problem("device_lost", sentence, hint, detail=_trace())
        except Exception as error:  # the worker's loop: one of the three places that may answer for anything
            return None, _unexpected(error)


def _unexpected(error: Exception) -> Any:
    from studio.core.problems import Problem

    sentence = f"The engine met an unexpected error: {type(error).__name__}: {str(error)[:300]}"
    return Problem("engine_error", sentence.rstrip(".") + ".", detail=_trace())


def _trace() -> str:
    return traceback.format_exc(limit=-12)[-8000:]


def differences(then: Any, now: Any) -> list[str]:
    """Sentences that say why a work made again may differ from the first one."""
    notes = []
    if then.model_sha256 and now.model_sha256 and then.model_sha256 != now.model_sha256:
        notes.append("The model's file has changed since this was first made.")
    for name in ("device", "dtype", "threads", "n_batch", "n_ctx", "memory", "system"):
        old, new = getattr(then, name), getattr(now, name)
        if name == "memory":
            old, new = old or "full", new or "full"
        if old and new and old != new:
            notes.append(f"First made with {name} {old}, now with {new}.")
    if set(then.speed) != set(now.speed):
        old, new = (", ".join(each) or "none" for each in (then.speed, now.speed))
        notes.append(f"First made with the speed-ups {old}, now with {new}.")
    for card, old in then.parts.items():
        if old and now.parts.get(card, old) != old:
            notes.append(f"The file of “{card}” has changed since this was first made.")
    for library, old in then.versions.items():
        new = now.versions.get(library, "")
        if new and old != new:
            notes.append(f"First made with {library} {old}, now with {new}.")
    return notes


class _Fingerprint:
    """A model's checksum, computed beside the first job that uses it."""

    def __init__(self, card: Any, cache: Path) -> None:
        self._value = card.sha256
        self._thread: threading.Thread | None = None
        if not self._value and card.path:
            self._thread = threading.Thread(target=self._compute, args=(Path(card.path), cache), daemon=True)
            self._thread.start()

    def _compute(self, path: Path, cache: Path) -> None:
        from studio.models.identify import fingerprint

        try:
            self._value = fingerprint(path, cache)
        except OSError as error:  # a work without this mark is still a work
            print(f"no checksum of {path}: {error}", file=sys.stderr, flush=True)

    def wait(self) -> str:
        started = time.monotonic()
        if self._thread is not None:
            self._thread.join()
            if time.monotonic() - started > 1:
                print("waited for the model's checksum", file=sys.stderr, flush=True)
        return str(self._value)


if __name__ == "__main__":
    raise SystemExit(main())
