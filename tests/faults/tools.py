"""What the tests of faults share: system calls that fail, small disks, another user, programs that tell what they saw.

A tool that this computer does not permit skips the test that asks for it, with the reason.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from studio.app.session import Session
from studio.core.cards import Limits, ModelCard
from studio.core.events import EndEvent
from studio.core.paths import Paths
from studio.core.recipes import WORDS, MadeWith, check, words_of
from studio.core.works import Artifact, Result, Work
from studio.engines.context import RunContext
from studio.runtime.link import ProcessLink
from tests.app.rig import CARD, Rig

ROOT = Path(__file__).resolve().parents[2]
NOBODY = "65534"


def until(ready: Callable[[], Any], seconds: float = 30) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


# -- system calls that fail or take their time ------------------------------------------------------------------------

# strace takes a name that this processor's kernel does not have as a mistake, unless there is a question mark before it
RENAMES = "?rename,?renameat,?renameat2"
FLUSHES = "fsync,fdatasync"
READS = "read,pread64,?readv"


class Calls:
    """What strace saw: one line per call, with the paths of descriptors."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def lines(self) -> list[str]:
        """The calls in the order in which they returned, with arguments and result, without the process number."""
        made, open_calls = [], dict[str, str]()
        for line in self._log.read_text("utf-8", "replace").splitlines():
            process, _, call = line.partition(" ")
            call = call.lstrip()
            if call.endswith("<unfinished ...>"):
                open_calls[process] = call.removesuffix("<unfinished ...>").rstrip()
            elif resumed := re.match(r"<\.\.\. \w+ resumed>", call):
                made.append(open_calls.pop(process, "") + call[resumed.end() :])
            else:
                made.append(call)
        return made

    def injected(self) -> list[str]:
        """The calls that were made to fail or to wait."""
        return [line for line in self.lines() if "INJECTED" in line or "DELAYED" in line]


@contextlib.contextmanager
def failing(
    pid: int, *faults: str, only: Sequence[Path] = (), see: str = "", follow: bool = True
) -> Iterator[Calls]:  # fmt: skip
    """Let system calls of a running process and its threads go wrong while the block runs.

    Args:
        faults: as strace's `-e inject=` takes them: "fsync:error=EIO", "read:delay_enter=300000" (microseconds),
            "rename:error=EXDEV:when=2". Counting begins with the block, for each thread on its own.
        only: calls on these paths, or on descriptors of them, and no others.
        see: calls that are noted without failing, separated by commas.

    Skips the test where processes may not be looked into.
    """
    need_tracing()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "calls"
        log.touch()
        names = {name for fault in faults for name in fault.partition(":")[0].split(",")}
        names.update(name for name in see.split(",") if name)
        command = ["strace", "-y", "-o", str(log), "-e", f"trace={','.join(sorted(names))}", "-p", str(pid)]
        if follow:
            command.append("-f")
        for fault in faults:
            command += ["-e", f"inject={fault}"]
        for path in only:
            command += ["-P", str(path)]
        strace = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _until_attached(pid, strace)
            yield Calls(log)
        finally:
            strace.send_signal(signal.SIGTERM)  # it lets go of the process and ends
            strace.communicate(timeout=60)


def _until_attached(pid: int, strace: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 20
    while not _all_traced(pid):
        if strace.poll() is not None:
            raise AssertionError(f"strace ended: {strace.communicate()[1]}")
        assert time.monotonic() < deadline, "strace did not get hold of the process"
        time.sleep(0.01)


def _all_traced(pid: int) -> bool:
    threads = list(Path(f"/proc/{pid}/task").iterdir())
    return all(re.search(r"^TracerPid:\t[1-9]", (t / "status").read_text(), re.MULTILINE) for t in threads)


@functools.cache
def why_no_tracing() -> str:
    """Empty where strace may look into other processes of ours."""
    if not sys.platform.startswith("linux"):
        return "strace is a program for Linux"
    if shutil.which("strace") is None:
        return "strace is not installed"
    sleeper = subprocess.Popen(["sleep", "30"])
    strace = subprocess.Popen(["strace", "-o", os.devnull, "-p", str(sleeper.pid)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and strace.poll() is None:
            if _all_traced(sleeper.pid):
                return ""
            time.sleep(0.01)
        return "strace may not look into processes here"
    finally:
        strace.terminate()
        strace.wait()
        sleeper.kill()
        sleeper.wait()


def need_tracing() -> None:
    """Skip the test where `failing` is not permitted."""
    if reason := why_no_tracing():
        pytest.skip(reason)


# -- small disks ------------------------------------------------------------------------------------------------------


@functools.cache
def why_no_mounts() -> str:
    """Empty where a process may have mounts of its own."""
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return "unshare is not installed"
    try:
        tried = subprocess.run(
            ["unshare", "-Urm", "mount", "-t", "tmpfs", "t", "/mnt"], timeout=30, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        return "unshare does not come back here"
    return "" if tried.returncode == 0 else "namespaces with mounts are not permitted here"


def small_disks(**sizes: str) -> Callable[..., list[str]]:
    """What to put before a command so that it finds small, empty disks of its own; they go when it ends.

    Args:
        sizes: name -> size, as mount's `size=` takes it, for example out="64k".

    Returns:
        A function that takes the folder for each name and returns the beginning of the command line. The program may
        call `resize`.

    Skips the test where mounts are not permitted.
    """
    if reason := why_no_mounts():
        pytest.skip(reason)

    def before(**folders: Path) -> list[str]:
        assert folders.keys() == sizes.keys()
        script, arguments = "", []
        for number, (name, size) in enumerate(sizes.items(), 1):
            script += f'mount -t tmpfs -o size={size} t "${number}" && '
            arguments.append(str(folders[name]))
        return ["unshare", "-Urm", "sh", "-c", f'{script} shift {len(arguments)} && exec "$@"', "sh", *arguments]

    return before


def resize(folder: Path, size: str) -> None:
    """Give a small disk another size; for programs that run on it."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def fill_up(path: Path) -> None:
    """Fill the disk that `path` is on with one file of that name, to the last byte."""
    with open(path, "wb", buffering=0) as stream, contextlib.suppress(OSError):
        size = 1 << 16
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2


# -- another user -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """An empty folder that every user may enter and write to. Not pytest's: that keeps all of its own to one user."""
    with tempfile.TemporaryDirectory(prefix="studio-test-") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def without_rights() -> list[str]:
    """What to put before a command so that permissions count: root may write everywhere, so it runs as nobody.

    Skips the test where that user cannot run this Python.
    """
    if not hasattr(os, "geteuid"):
        pytest.skip("permissions of files are another thing on this system")
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    before = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
    tried = subprocess.run([*before, sys.executable, "-c", "import studio"], cwd=ROOT, capture_output=True, check=False)
    if tried.returncode:
        pytest.skip("another user cannot read this checkout")
    return before


# -- a session with all three kinds of work ----------------------------------------------------------------------------


def _card(kind: str, **more: Any) -> ModelCard:
    return ModelCard(
        id=f"fake-{kind}", name=f"Fake {kind}", kind=kind, engine=f"{kind}.fake", path="", format="", sha256="-", **more
    )


class ThreeModels:
    """In place of the models on the disk."""

    all = (
        CARD,
        _card("image", can=("picture",), limits=Limits(width=64, height=64, size_multiple=8)),
        _card("speech"),
    )

    def choose(self, kind: str, name_or_path: str) -> ModelCard:
        return next(card for card in self.all if card.kind == kind)

    def cards(self) -> list[ModelCard]:
        return list(self.all)

    def broken(self) -> list[Any]:
        return []


class Trio(Rig):
    """The real session with real workers: scripted texts, pictures and sounds as in tests.ui.fakes, real exports."""

    def __init__(self, paths: Paths, **more: Any) -> None:
        self.events, self.links = [], []
        self.lanes_of: dict[str, ProcessLink] = {}

        def link(lane: str, on_reply: Any, on_end: Any) -> ProcessLink:
            command = [sys.executable, "-m", "tests.faults.tools"]
            made = ProcessLink(command, {}, paths.logs / "workers.log", on_reply, on_end)
            self.links.append(made)
            self.lanes_of[lane] = made
            return made

        Session.__init__(self, paths, make_link=link, **more)
        self._models = ThreeModels()  # type: ignore[assignment]
        self.subscribe(self.events.append)

    def make(self, kind: str, words: str, **fields: Any) -> EndEvent:
        """Make one work and wait for it."""
        checked = check(kind, {WORDS[kind]: words, "seed": 5, **fields})
        return self.end(self.submit(checked.recipe, notes=checked.notes).id)

    def work_of(self, kind: str, words: str = "save hello") -> Work:
        """A finished work."""
        (work,) = self.make(kind, words).works  # type: ignore[union-attr]
        return work

    def export_to(self, work: Work, to: Path, **more: Any) -> EndEvent:
        """Export and wait for the end."""
        return self.end(self.export(work.id, to, **more).id)


class Scripted:
    """A text engine that does as its prompt says: commands separated by semicolons.

    say WORDS     emit a token                       save WORDS   leave a work
    emit HEX      emit a token of these bytes        leave HEX    leave a work of these bytes
    sleep S       work, hearing cancel               step N       N steps of progress
    wait FILE     until that file is there           repeat WORD  emit it without end
    """

    kind = "text"

    def load(self, card: Any, plan: Any, ctx: RunContext) -> None:
        """Nothing to load."""

    def unload(self) -> None:
        """Nothing to unload."""

    def made_with(self) -> MadeWith:
        return MadeWith(engine="text.fake", versions={"fake": "1"})

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        made: list[Artifact] = []
        for line in words_of(recipe).split(";"):
            word, _, rest = line.strip().partition(" ")
            ctx.check()
            if word == "say":
                ctx.token(0, rest)
            elif word == "emit":
                ctx.token(0, bytes.fromhex(rest).decode("utf-8", "surrogatepass"))
            elif word in ("save", "leave"):
                data = rest.encode() if word == "save" else bytes.fromhex(rest)
                made.append(ctx.save(f"{len(made)}.txt", data, index=len(made), seed=recipe.seed))
            elif word == "step":
                for done in range(int(rest)):
                    ctx.progress(done + 1, int(rest), "steps")
            elif word in ("sleep", "wait"):
                began = time.monotonic()
                while time.monotonic() - began < float(rest) if word == "sleep" else not os.path.exists(rest):
                    ctx.check()
                    time.sleep(0.01)
            elif word == "repeat":
                while True:
                    ctx.check()
                    ctx.token(0, rest + " ")
            else:
                made.append(ctx.save(f"{len(made)}.txt", line.encode(), index=len(made), seed=recipe.seed))
        return Result(artifacts=tuple(made), made_with=self.made_with())


def serve() -> int:
    """A worker program with all the engines of the tests."""
    from studio.engines import ENGINES
    from studio.runtime.worker import main

    ENGINES["text.fake"] = "tests.faults.tools:Scripted"
    ENGINES["image.fake"] = "tests.ui.fakes:FakeImage"
    ENGINES["speech.fake"] = "tests.ui.fakes:FakeSpeech"
    return main()


# -- programs that tell what they saw -------------------------------------------------------------------------------

PRELUDE = """
import json, os, sys, time
from pathlib import Path
from studio.core.paths import Paths
from studio.core.problems import StudioError
from tests.app.rig import Rig
from tests.faults.tools import Trio, failing, fill_up, resize, until

def tell(what):
    print(json.dumps(what), flush=True)
"""


def environment(home: Path | None = None) -> dict[str, str]:
    made = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if home is not None:
        made["STUDIO_HOME"] = str(home)
    return made


def told_by(program: str, *arguments: object, before: Sequence[str] = (), timeout: float = 120) -> Any:
    """Run a program in a process of its own, and return what it told last.

    Args:
        program: Python; it has the session of fakes `Rig`, the tools of this file, and `tell` for plain data.
        before: what `small_disks` or `without_rights` returned.
    """
    done = subprocess.run(
        [*before, sys.executable, "-c", PRELUDE + program, *map(str, arguments)],
        capture_output=True, text=True, timeout=timeout, env=environment(), cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def studio(home: Path, *words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command of the studio on a data folder."""
    return subprocess.run(
        [*before, sys.executable, "-m", "studio", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, env=environment(home), cwd="/", check=False,
    )  # fmt: skip


def fake_studio(home: Path, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the studio with the engines of `Trio`: the real command line, session and workers."""
    return subprocess.run(
        [sys.executable, "-c", FAKED, *words], input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True, timeout=120, env=environment(home), cwd=ROOT, check=False,
    )  # fmt: skip


FAKED = """
import sys
import studio.app.session
from tests.faults.tools import Trio
studio.app.session.Session = Trio
from studio.cli import main
sys.exit(main())
"""


def on_a_terminal(home: Path, *words: str) -> bytes:
    """As `fake_studio`, on a terminal; returns all that was written to it."""
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", FAKED, *words], stdin=follower, stdout=follower, stderr=follower, cwd=ROOT,
        env={**environment(home), "TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    os.close(follower)
    drawn = b""
    with contextlib.suppress(OSError):  # the terminal closes with its last user
        while more := os.read(leader, 4096):
            drawn += more
    os.close(leader)
    assert process.wait(60) == 0, drawn
    return drawn


def problem_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The one Problem that a failed command with --json told, without a traceback anywhere."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    assert said["code"] and said["sentence"].endswith((".", ".”", "?")), said
    return said


if __name__ == "__main__":
    raise SystemExit(serve())
