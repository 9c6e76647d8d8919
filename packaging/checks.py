"""All that CI runs, in order; `run.py test` starts this with the environment's Python.

Every step runs, even after one that failed. pytest comes last, so that its closing line is the last one printed. The
exit code is that of the first step that failed. With arguments for pytest, only pytest runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Step(NamedTuple):
    title: str
    arguments: list[str]  # for this Python


def steps(offline: bool) -> list[Step]:
    """The steps before pytest. Offline leaves out what asks the package index."""
    # import-linter cannot be started with -m
    contracts = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    made = [
        Step("ruff check", ["-m", "ruff", "check", "."]),
        Step("ruff format", ["-m", "ruff", "format", "--check", "."]),
        Step("mypy", ["-m", "mypy", "studio", "run.py", "packaging"]),
        Step("import contracts", ["-c", contracts]),
    ]
    if not offline:
        made.append(Step("pins for other systems", [os.path.join("packaging", "check_pins.py")]))
    return made


def run(arguments: list[str]) -> int:
    """Run one step from the checkout's folder. Returns its exit code, 128 + n when signal n ended it."""
    code = subprocess.call([sys.executable, *arguments], cwd=ROOT)
    return 128 - code if code < 0 else code


def main(arguments: list[str]) -> int:
    offline = "--offline" in arguments
    chosen = [argument for argument in arguments if argument != "--offline"]
    failed: list[tuple[str, int]] = []
    if not chosen:
        if offline:
            print("== pins for other systems: left out (--offline)", flush=True)
        for step in steps(offline):
            print(f"== {step.title}", flush=True)
            started = time.monotonic()
            code = run(step.arguments)
            print(f"   {'ok' if code == 0 else f'FAILED with {code}'}, {time.monotonic() - started:.0f} s", flush=True)
            if code != 0:
                failed.append((step.title, code))
        if failed:
            print(f"== failed before the tests: {', '.join(title for title, _ in failed)}", flush=True)
        print("== tests", flush=True)
    code = run(["-m", "pytest", *chosen])
    return failed[0][1] if failed else code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
