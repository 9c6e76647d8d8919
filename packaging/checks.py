"""All that CI runs, in order; `run.py test` starts this with the environment's Python.

Every step runs, even after one that failed. pytest comes last, so that its closing line is the last one printed. The
exit code is that of the first step that failed. With arguments for pytest, only pytest runs, in one process.

All tests are run in as many processes as there are processors, four at most, each file in one of them.

--offline leaves out what asks the package index. --without-network takes the network away from pytest, where the system
permits that, which proves that no test needs it; the steps before keep theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
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


def processors() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def all_tests(processors: int) -> list[str]:
    """The arguments for pytest that run them all."""
    if processors < 2:
        return []
    # what a file sets up is set up once; tests/conftest.py puts the slow files first
    return ["-n", str(min(processors, 4)), "--dist", "loadfile", "--no-loadscope-reorder"]


def run(arguments: list[str]) -> int:
    """Run one step from the checkout's folder. Returns its exit code, 128 + n when signal n ended it."""
    return call([sys.executable, *arguments])


def call(command: Sequence[str]) -> int:
    # tests start hundreds of processes; without bytecode each would compile the whole studio again
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = subprocess.call(command, cwd=ROOT, env=environment)
    return 128 - code if code < 0 else code


def without_network() -> list[str]:
    """What to put before a command so that it has no network but its own loopback; empty where that is not permitted.

    Who runs it stays who they are, without more rights than before: tests look at permissions.
    """
    if not sys.platform.startswith("linux"):
        return []
    if os.geteuid() == 0:
        apart, drop = ["unshare", "--net"], []
    else:
        # bringing loopback up takes rights in the new namespace; the command itself must not have them
        apart = ["unshare", "--user", "--map-current-user", "--keep-caps", "--net"]
        drop = ["setpriv", "--ambient-caps=-all", "--inh-caps=-all"]
    if any(shutil.which(program) is None for program in ("ip", apart[0], *drop[:1])):
        return []
    before = [*apart, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *drop]
    tried = subprocess.run([*before, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return before if tried.returncode == 0 else []


def main(arguments: list[str]) -> int:
    offline, alone = "--offline" in arguments, "--without-network" in arguments
    chosen = [argument for argument in arguments if argument not in ("--offline", "--without-network")]
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
    before = without_network() if alone else []
    if alone:
        print(
            "== the tests run without a network" if before
            else "== the tests run WITH the network: this system does not permit to take it away",
            flush=True,
        )  # fmt: skip
    tests = ["-m", "pytest", *(chosen or all_tests(processors()))]
    code = call([*before, sys.executable, *tests]) if before else run(tests)
    return failed[0][1] if failed else code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
