"""The program that looks at models, with a reader that goes wrong: started by tests in place of the real one.

A file that begins with ODD says what its reader does: crash, loop, grow, … Everything else is read as always.
A number as argument is the memory it may have, in bytes beyond what it takes at its start.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from studio.core.cards import Broken, Looked, NotThisKind
from studio.models import identify, look_program

ODD = b"ODD "
ME = Path(__file__)
COMMAND = [sys.executable, "-P", str(ME)]
# One arena: glibc reserves address space for one per thread, which would count
LITTLE = ["env", "MALLOC_ARENA_MAX=1", *COMMAND, "32000000"]
HEAVY = ("torch", "numpy", "PySide6", "shiboken6", "PIL", "onnx", "onnxruntime", "safetensors", "transformers",
         "diffusers", "xllamacpp", "socket", "ssl", "http.client", "subprocess", "pickle")  # fmt: skip
_seen: list[str] = []


def _said(why: str) -> Broken:
    """An answer that no other reader is asked after."""
    return Broken(why, code="model_unfit")


def odd(path: Path) -> Looked:
    """Do as the file says, and tell what came of it."""
    head = b""
    if path.is_file():
        with open(path, "rb") as stream:
            head = stream.read(200)
    _seen.append(path.name)
    if not head.startswith(ODD):
        return NotThisKind("it is not odd")
    word = head.removeprefix(ODD).decode()
    if word == "crash":
        ctypes.string_at(0)
    elif word == "abort":
        os.abort()
    elif word == "leave":
        os._exit(0)
    elif word == "raise":
        raise KeyError("a mistake in a reader")
    elif word == "loop":
        while True:
            pass
    elif word == "sleep":
        time.sleep(3600)
    elif word == "grow":
        kept = []
        while True:
            kept.append(bytes(1 << 24))
    elif word.startswith("take "):
        return _said(f"took {len(bytes(int(word.split()[1]) * 1_000_000))}")
    elif word == "chatter":
        print("x" * 1000, flush=True)
        return _said("it is chatty")
    elif word == "long":
        return _said("x" * 10_000_000)
    elif word == "second" and len(_seen) > 1:  # it cannot stand having read something else before
        ctypes.string_at(0)
    elif word == "modules":
        return _said(f"modules {[m for m in HEAVY if m in sys.modules]}")
    elif word == "limits":
        names = ("AS", "CPU", "FSIZE", "CORE", "NOFILE")
        return _said(f"limits {[resource.getrlimit(getattr(resource, f'RLIMIT_{n}'))[0] for n in names]}")
    elif word == "pid":
        return _said(f"pid {os.getpid()}")
    return _said("nothing happened")


def main() -> int:
    identify.FORMATS = (("odd", odd), *identify.FORMATS)
    bound = look_program._bound

    def bound_tightly() -> None:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        look_program.MEMORY_LIMIT = taken + int(sys.argv[1])
        bound()

    if len(sys.argv) > 1:
        look_program._bound = bound_tightly
    return look_program.main()


if __name__ == "__main__":
    raise SystemExit(main())
