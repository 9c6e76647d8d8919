"""The studio killed at every single write, flush, rename and removal while it changes its library.

strace ends the process on its way into the Nth of these system calls; then the library is opened again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.core.jobs import JobState
from studio.core.paths import Paths
from tests.app.rig import Rig
from tests.faults.committing import TEXTS

CALLS = (
    "write", "writev", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "unlink",
    "unlinkat", "rmdir", "mkdir", "ftruncate",
)  # fmt: skip
_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


def _strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _strace_works(), reason="strace is not installed or not permitted here")


def run(home: Path, what: str, log: Path, *inject: str) -> int:
    command = ["strace", "-f", "-y", "-s", "16", "-o", str(log), "-e", f"trace={','.join(CALLS)}", *inject]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, sys.executable, "-m", "tests.faults.committing", str(home), what],
        env=environment, timeout=120, stderr=subprocess.DEVNULL,
    ).returncode  # fmt: skip


def calls(log: Path) -> list[tuple[str, str]]:
    """Name and arguments of the main thread's calls, in order."""
    lines = [m for m in map(_LINE.match, log.read_text(errors="replace").splitlines()) if m]
    return [(m[2], m[3]) for m in lines if m[1] == lines[0][1]]


def between(log: Path) -> list[tuple[str, int, str]]:
    """The calls between BEGIN and ACK: name, its number among the calls of that name, arguments."""
    counted: Counter[str] = Counter()
    found, inside = [], False
    for name, arguments in calls(log):
        counted[name] += 1
        if '"BEGIN' in arguments:
            inside = True
        elif '"ACK' in arguments:
            return found
        elif inside:
            found.append((name, counted[name], arguments))
    raise AssertionError("it was not acknowledged")


def nothing_is_lost_or_left_over(paths: Paths, texts: list[str], ends: set[JobState]) -> None:
    for _ in range(2):  # what the first start mends, the second finds well
        with Rig(paths) as later:
            works = later.works()
            assert sorted(later.path(w).read_text() for w in works) == sorted(texts)
            assert {j.state for j in later.jobs()} <= ends, "every job has ended"
            assert set(later.jobs()[0].works) == {w.id for w in works}
            known = {p for w in works for p in later.files(w)}
            assert all(p.exists() for p in known)
            assert {p for p in paths.works.rglob("*") if p.is_file()} == known, "no file is left over"
            assert list(paths.staging.iterdir()) == []
            assert later.rebuild().works == (), "the sidecars say the same"


def committed(paths: Paths) -> None:
    nothing_is_lost_or_left_over(paths, list(TEXTS), {JobState.FINISHED, JobState.FAILED})


def cut_off(paths: Paths) -> None:
    nothing_is_lost_or_left_over(paths, ["half a story"], {JobState.CANCELLED, JobState.FAILED})


def emptied(paths: Paths) -> None:
    with Rig(paths) as later:
        assert [later.path(w).read_text() for w in later.works()] == ["one"], "what was not in the bin is whole"
        left = later.bin()
        later.empty_bin()
        assert later.bin() == [] and len(left) <= 1
    files = [p for p in paths.works.rglob("*") if p.is_file()]
    assert len(files) == 2, "the work and its sidecar"


def set_(paths: Paths) -> None:
    with Rig(paths) as later:
        assert later.settings.threads in (1, 2) and later.settings_note == ""
    assert not list(paths.home.glob("*.tmp*")) or later.settings.threads in (1, 2)


@pytest.mark.parametrize(
    ("what", "check", "least"),
    [("finish", committed, 25), ("cut off", cut_off, 20), ("bin", emptied, 5), ("settings", set_, 3)],
)
def test_a_kill_at_any_system_call_loses_and_leaves_nothing(
    tmp_path: Path, what: str, check: Callable[[Paths], None], least: int
) -> None:
    log = tmp_path / "whole"
    assert run(tmp_path / "first", what, log) == 0
    points = between(log)
    assert len(points) >= least, points

    def killed_at(point: tuple[str, int, str]) -> tuple[str, Paths]:
        name, number, arguments = point
        paths = Paths(tmp_path / f"{name}-{number}")
        inject = f"inject={name}:signal=KILL:when={number}"
        code = run(paths.home, what, tmp_path / f"{name}-{number}.log", "-e", inject)
        assert code in (-9, 137), f"{name} {number} of {arguments} was not reached: {code}"
        return f"killed at {name} {number}: {arguments[:120]}", paths

    with ThreadPoolExecutor(2) as pool:
        for where, paths in pool.map(killed_at, points):
            try:
                check(paths)
            except AssertionError as error:
                raise AssertionError(where) from error


def test_what_is_acknowledged_has_been_flushed_in_the_right_order(tmp_path: Path) -> None:
    """What a power cut would need: a file is flushed before it gets its name, its folder after that, the log last."""
    log = tmp_path / "whole"
    home = tmp_path / "home"
    assert run(home, "finish", log) == 0
    dirty: set[str] = set()  # written and not flushed
    renamed: set[str] = set()  # folders with a new name in them that is not flushed
    flushed_log = False
    for name, _, arguments in between(log):
        paths = re.findall(r"<([^>]*)>", arguments)
        if name in ("write", "writev", "pwrite64", "ftruncate") and paths and paths[0].startswith(str(home)):
            dirty.add(paths[0])
            flushed_log = flushed_log and not paths[0].endswith("-wal")
        elif name in ("fsync", "fdatasync") and paths:
            dirty.discard(paths[0])
            renamed.discard(paths[0])
            flushed_log = flushed_log or paths[0].endswith("-wal")
        elif name.startswith("rename"):
            source, target = re.findall(r'"([^"]*)"', log_names(arguments, log))
            assert source not in dirty, f"{source} got its name before it was on disk"
            renamed.add(str(Path(target).parent))
    assert not {path for path in dirty if not path.endswith("-shm")}
    assert not renamed, f"the new names in {renamed} are not on disk"
    assert flushed_log, "the database's log is flushed before anything is acknowledged"


def log_names(arguments: str, log: Path) -> str:
    assert "..." not in arguments, "strace cut a name off"
    return arguments
