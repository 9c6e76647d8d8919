"""A worker program with a scriptable engine. The prompt is the script: commands separated by semicolons.

say WORDS      emit a token             save TEXT    leave a work
sleep S        work, hearing cancel     stuck S      work, deaf to cancel
step N         N steps of progress      print WORDS  to stdout, as badly behaved libraries do
die SIGNAL     end by a signal          exit CODE    end the process
garbage        write no frame           raise NAME   raise an error
spawn FILE     start a child that outlives nothing and writes its pid to FILE
once FILE      die, and the next time do not
compute S      keep the processor busy without a word
hoard N        keep N MB for ever, as a library that leaks does
starve N       have the system give this process N MB more and then nothing, from now on

A model whose name has “slow-load”, “no-load” or “die-load” in it does that when it is loaded. Tokens are words, but
“die”, “raise” and “slow” as the first of them do that when they are counted; “slow FILE” makes FILE when it begins.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from studio.core.problems import OutOfMemory
from studio.core.recipes import MadeWith, words_of
from studio.core.works import Result
from studio.engines import ENGINES
from studio.engines.context import RunContext

COMMAND = [sys.executable, "-m", "tests.runtime.fakes"]


HOARD: list[bytes] = []


class Fake:
    kind = "text"

    def __init__(self) -> None:
        self.threads = 0
        self.card: Any = None

    def load(self, card: Any, plan: Any, ctx: RunContext) -> None:
        self.card, self.threads = card, plan.threads
        if "slow-load" in card.name:
            time.sleep(30)  # deaf, like a library that holds the global lock
        if "no-load" in card.name:
            raise OutOfMemory("It needs 9 GB.", "Try less.")
        if "die-load" in card.name:
            os.kill(os.getpid(), signal.SIGKILL)

    def count_tokens(self, text: str) -> int:
        words = text.split()
        if words[:1] == ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if words[:1] == ["slow"]:
            for file in words[1:]:
                open(file, "w").close()
            time.sleep(1)
        if words[:1] == ["raise"]:
            raise ValueError("no")
        return len(words)

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        made = []
        for index, line in enumerate(words_of(recipe).split(";")):
            word, _, rest = line.strip().partition(" ")
            ctx.check()
            if word == "say":
                ctx.token(0, rest)
            elif word == "save":
                made.append(ctx.save(f"{len(made)}.txt", rest.encode(), index=len(made), seed=recipe.seed))
            elif word == "sleep":
                end = time.monotonic() + float(rest)
                while time.monotonic() < end:
                    ctx.check()
                    time.sleep(0.01)
            elif word == "stuck":
                time.sleep(float(rest))
            elif word == "step":
                for done in range(int(rest)):
                    ctx.progress(done + 1, int(rest), "steps")
            elif word == "print":
                os.write(1, rest.encode() + b"\n")
            elif word == "die":
                os.kill(os.getpid(), getattr(signal, rest))
                time.sleep(5)
            elif word == "compute":
                end = time.monotonic() + float(rest)
                while time.monotonic() < end:
                    sum(range(1000))
            elif word == "hoard":
                HOARD.append(os.urandom(1024) * 1024 * int(rest))
            elif word == "starve":
                import resource

                with open("/proc/self/statm") as stream:
                    now = int(stream.read().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (now + (int(rest) << 20), resource.RLIM_INFINITY))
            elif word == "once":
                if not os.path.exists(rest):
                    open(rest, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
            elif word == "exit":
                os._exit(int(rest))
            elif word == "garbage":
                import gc
                import io

                for stream in [o for o in gc.get_objects() if isinstance(o, io.FileIO) and o.mode == "wb"]:
                    stream.write(b"\xff\xff\xff\xffnonsense")
                time.sleep(5)
            elif word == "raise":
                raise {
                    "oom": OutOfMemory("It needs 9 GB.", "Try less."),
                    "memory": MemoryError(),
                    "primitive": OutOfMemory("It needs 9 GB.", detail="could not create a primitive"),
                    "cuda": RuntimeError("CUDA error: an illegal memory access\nmore"),
                }.get(rest, KeyError(rest))
            elif word == "spawn":
                child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                with open(rest, "w") as stream:
                    stream.write(str(child.pid))
            else:
                raise AssertionError(f"command {index}: {line!r}")
        if not made:
            made.append(ctx.save("0.txt", b"done", seed=recipe.seed))
        return Result(artifacts=tuple(made), made_with=self.made_with())

    def unload(self) -> None:
        self.card = None

    def made_with(self) -> MadeWith:
        return MadeWith(engine="text.fake", threads=self.threads, versions={"fake": "1"})


if __name__ == "__main__":
    from studio.runtime.worker import main

    ENGINES["text.fake"] = "tests.runtime.fakes:Fake"  # here only: the list of the tests' own process stays as it is
    raise SystemExit(main())
