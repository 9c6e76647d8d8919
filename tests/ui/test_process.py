"""The window as a program of its own: real processes that start, meet, are killed, and lose nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QPushButton

from studio.core.jobs import JobState
from studio.core.paths import Paths
from studio.core.recipes import words_of
from studio.ui import app
from studio.ui.dialogs import ClosingDialog
from tests.ui.rig import Rig

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="screens are asked for on Linux only")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Without any screen, unless `more` names one."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "XAUTHORITY", "XDG_SESSION_TYPE")
    kept = {name: value for name, value in os.environ.items() if name not in screens}
    runtime = next(p for p in home.parents if p.is_dir()) / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    return {**kept, "STUDIO_HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), **more}


def run(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "studio", *arguments], env=environment(home, **more), cwd=ROOT, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    """The processes looked at here are others: there is no loop of ours to turn."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.02)


class Program:
    """`python -m studio`, running."""

    def __init__(self, home: Path, *arguments: str, warm: bool = False, **more: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.more = home, more
        if not (home / "settings.json").exists():
            (home / "settings.json").write_text(json.dumps({"warm": warm}))
        self.painted = home.parent / f"painted-{time.monotonic_ns()}"
        self.err = open(home.parent / f"err-{time.monotonic_ns()}", "w+")  # noqa: SIM115  closed in `end`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "studio", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=self.err,
            env=environment(home, STUDIO_PAINTED=str(self.painted), **more),
        )  # fmt: skip

    def ready(self) -> Program:
        until(lambda: self.process.poll() is not None or (self.painted.exists() and Paths(self.home).database.exists()))
        assert self.process.poll() is None, self.words()
        return self

    def words(self) -> str:
        self.err.seek(0)
        return self.err.read()

    def workers(self) -> list[psutil.Process]:
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self.err.close()


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    made: list[Program] = []

    def start(*arguments: Any, **more: Any) -> Program:
        made.append(Program(*arguments, **more))
        return made[-1]

    yield start
    for each in made:
        each.end()


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A virtual X screen of our own, as DISPLAY names it."""
    yield from _xvfb(("-noreset",))


def _xvfb(arguments: tuple[str, ...]) -> Iterator[str]:
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("needs Xvfb")
    ours, theirs = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(theirs), "-screen", "0", "1280x800x24", "-nolisten", "tcp", *arguments],
        pass_fds=(theirs,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(theirs)
    with os.fdopen(ours) as said:
        number = said.readline().strip()
    try:
        assert number, "Xvfb has found no free display"
        yield f":{number}"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["offscreen", "xcb"])
def platform(request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment that names a screen."""
    if request.param == "offscreen":
        return {"QT_QPA_PLATFORM": "offscreen"}
    return {"DISPLAY": request.getfixturevalue("screen")}


# ---- no screen


@linux
@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "neither DISPLAY nor WAYLAND_DISPLAY is set"),
        ({"DISPLAY": ":987"}, "no X server answers at DISPLAY “:987”"),
        ({"DISPLAY": "nonsense"}, "names no screen"),
        ({"WAYLAND_DISPLAY": "wayland-77"}, "no Wayland server answers"),
        ({"QT_QPA_PLATFORM": "wayland"}, "no Wayland server answers"),
        ({"QT_QPA_PLATFORM": "xcb"}, "neither DISPLAY nor"),
    ],
)  # fmt: skip
def test_without_a_screen_it_says_so_and_points_at_the_command_line(
    tmp_path: Path, more: dict[str, str], why: str
) -> None:
    done = run(tmp_path / "home", **more)
    assert done.returncode == 2, done.stderr  # an abort would be negative
    assert done.stdout == ""
    assert why in done.stderr and "command line" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "home").exists()  # nothing was begun


@linux
def test_a_screen_of_the_wrong_kind_does_not_count(screen: str, tmp_path: Path) -> None:
    done = run(tmp_path / "home", DISPLAY=screen, QT_QPA_PLATFORM="wayland")
    assert done.returncode == 2 and "no Wayland server answers" in done.stderr


@linux
def test_a_screen_that_lets_nobody_in_is_no_screen(tmp_path: Path) -> None:
    cookie = bytes.fromhex("0102030405060708090a0b0c0d0e0f10")
    name = b"MIT-MAGIC-COOKIE-1"
    parts = (b"", b"", name, cookie)
    entry = b"\xff\xff" + b"".join(len(p).to_bytes(2, "big") + p for p in parts)
    (tmp_path / "xauth").write_bytes(entry)
    for display in _xvfb(("-auth", str(tmp_path / "xauth"))):
        done = run(tmp_path / "home", DISPLAY=display, XAUTHORITY=str(tmp_path / "nobody"))
        assert done.returncode == 2 and "refuses this user" in done.stderr, done.stderr
        assert done.stdout == ""


def test_other_systems_have_a_screen_always() -> None:
    assert app.missing_screen({}, "win32") == app.missing_screen({}, "darwin") == ""
    assert app.missing_screen({"QT_QPA_PLATFORM": "offscreen:size=10x10"}, "linux") == ""
    assert app.missing_screen({}, "linux") != ""


def test_a_data_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(tmp_path / "file" / "home", QT_QPA_PLATFORM="offscreen")
    assert done.returncode == 1 and "STUDIO_HOME" in done.stderr and "Traceback" not in done.stderr


def test_window_takes_nothing_else_with_it(tmp_path: Path) -> None:
    done = run(tmp_path / "home", "window", "--json", QT_QPA_PLATFORM="offscreen")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert run(tmp_path / "home", "window").returncode == run(tmp_path / "home").returncode == 2


# ---- one window


def test_a_second_start_brings_the_first_forward(
    program: Callable[..., Program], tmp_path: Path, platform: dict[str, str]
) -> None:
    first = program(tmp_path / "home", "window", **platform).ready()
    for _ in range(2):
        done = run(tmp_path / "home", **platform)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert first.process.poll() is None
    other = program(tmp_path / "other", **platform).ready()  # another data folder, another window
    assert other.process.poll() is None

    # killed, it leaves a lock and a socket; neither keeps the next one out
    first.process.kill()
    first.process.wait(10)
    again = program(tmp_path / "home", **platform).ready()
    assert run(tmp_path / "home", **platform).returncode == 0
    again.process.send_signal(signal.SIGTERM)
    assert again.process.wait(10) == 0
    said = [line for line in again.words().splitlines() if not line.startswith("This plugin does not support")]
    assert said == []


def test_a_start_while_the_first_is_starting_waits_for_it(program: Callable[..., Program], tmp_path: Path) -> None:
    first = program(tmp_path / "home", QT_QPA_PLATFORM="offscreen")
    until(lambda: (tmp_path / "home" / "window.lock").exists() or first.process.poll() is not None)
    done = run(tmp_path / "home", QT_QPA_PLATFORM="offscreen")
    assert done.returncode == 0, done.stderr
    assert first.process.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_polite_kill_ends_it_and_its_workers(
    program: Callable[..., Program], tmp_path: Path, platform: dict[str, str]
) -> None:
    studio = program(tmp_path / "home", warm=True, **platform).ready()
    until(studio.workers, 20)  # the model of the open tab is being loaded
    workers = studio.workers()
    studio.process.send_signal(signal.SIGTERM)
    assert studio.process.wait(30) == 0, studio.words()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    assert (tmp_path / "home" / "window.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_a_polite_kill_while_the_library_is_opened_ends_it_too(program: Callable[..., Program], tmp_path: Path) -> None:
    studio = program(tmp_path / "home", QT_QPA_PLATFORM="offscreen")
    until(studio.painted.exists)
    studio.process.send_signal(signal.SIGTERM)
    assert studio.process.wait(10) == 0, studio.words()
    assert "Traceback" not in studio.words()


# ---- a window of fakes in a process of its own

DRIVER = """
import os, sys, time
from pathlib import Path
from PySide6.QtWidgets import QApplication
from studio.core.paths import Paths

app = QApplication([])
app.setStyle("Fusion")

class Bot:
    def waitExposed(self, widget):
        app.processEvents()

    def waitUntil(self, true, timeout):
        end = time.monotonic() + timeout / 1000
        while not true():
            assert time.monotonic() < end, "timed out"
            app.processEvents()
            time.sleep(0.005)

from tests.ui.rig import Rig
paths = Paths(Path(sys.argv[1]))
paths.make()
rig = Rig(Bot(), paths)
"""

ALL_OF_IT = """
works = [rig.made("text", "Once upon a time"), rig.made("image", "a fox", count=2), rig.made("speech", "One. Two.")]
audio = rig.tab("speech")
audio.show_work(works[2])
rig.until(lambda: audio.wave.seconds > 0.9)
audio.toggle_play()
rig.tab("image").show_work(works[1])
rig.window.grab()
target = Path(sys.argv[1]).parent / "fox.webp"
job = rig.session.export(works[1].id, target)
rig.until(lambda: target.exists() and rig.idle())
rig.window.settings()
app.processEvents()
rig.close()
print(" ".join(sorted({name.split(".")[0] for name in sys.modules})))
"""

AT_WORK = """
rig.made("text", "first")
rig.made("text", "second")
rig.make("image", "hold on")
rig.until(lambda: rig.running("image"))
rig.make("image", "waiting one")
rig.make("image", "waiting two")
rig.until(lambda: len(rig.session.queue()) == 2)
print("ready", flush=True)
rig.until(lambda: False)
"""


def test_the_window_never_loads_what_the_workers_compute_with(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER + ALL_OF_IT, str(tmp_path / "home")], cwd=ROOT, capture_output=True, text=True,
        env=environment(tmp_path / "home", QT_QPA_PLATFORM="offscreen"), timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"PySide6", "studio", "msgspec"} <= loaded
    heavy = {"torch", "transformers", "diffusers", "onnxruntime", "xllamacpp", "numpy", "PIL", "soundfile"}
    assert not loaded & heavy
    assert (tmp_path / "fox.webp").read_bytes()[8:12] == b"WEBP"


def test_a_killed_window_loses_nothing(open_window: Callable[..., Rig], paths: Paths) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER + AT_WORK, str(paths.home)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL, env=environment(paths.home, QT_QPA_PLATFORM="offscreen"),
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            workers = psutil.Process(process.pid).children(recursive=True)
            assert workers
        finally:
            process.kill()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []

    rig = open_window()
    assert rig.session is not None
    text = rig.tab("text")
    rig.until(lambda: [words_of(w.recipe) for w in text.history.model.works] == ["second", "first"])
    for work in text.history.model.works:
        assert rig.session.path(work).read_text().startswith("answer0.0")
    rig.until(lambda: rig.idle() and rig.session is not None and rig.session.count_works("image") == 2)
    states = {words_of(j.recipe): (j.state, j.problem.code if j.problem else "") for j in rig.session.jobs()}
    assert states == {
        "first": (JobState.FINISHED, ""), "second": (JobState.FINISHED, ""),
        "hold on": (JobState.FAILED, "interrupted"),
        "waiting one": (JobState.FINISHED, ""), "waiting two": (JobState.FINISHED, ""),
    }  # fmt: skip
    assert {words_of(w.recipe) for w in rig.session.works(kind="image")} == {"waiting one", "waiting two"}
    assert rig.problems == []


# ---- closing while something runs


def close_and_say(rig: Rig, button: str) -> None:
    """Close the window and press a button of the question that is asked."""
    asked: list[str] = []

    def press() -> None:
        for dialog in rig.window.findChildren(ClosingDialog):
            if dialog.isVisible():
                asked.append(dialog.windowTitle())
                dialog.reject() if (found := dialog.findChild(QPushButton, button)) is None else found.click()

    QTimer.singleShot(0, rig.window, press)
    rig.window.close()
    assert len(asked) == 1


def test_closing_with_a_job_at_work_asks_what_is_to_become_of_it(open_window: Callable[..., Rig], paths: Paths) -> None:
    rig = open_window()
    rig.make("image", "hold on")
    rig.until(lambda: rig.running("image"))
    rig.make("image", "waits")
    rig.until(lambda: rig.session is not None and len(rig.session.queue()) == 1)
    job = rig.desk.track.current("image")
    assert job is not None

    close_and_say(rig, "closing_stay")
    assert rig.window.isVisible() and rig.running("image") and rig.desk.session is rig.session
    assert job.state is JobState.RUNNING and not job.cancelling

    assert rig.session is not None
    workers = [psutil.Process(pid) for _, _, pid in rig.session.workers()]
    assert workers
    close_and_say(rig, "closing_requeue")
    assert not rig.window.isVisible() and rig.desk.session is None
    assert psutil.wait_procs(workers, timeout=20)[1] == []
    rig.close()

    # the next window begins it again, before what waited behind it
    second = open_window()
    second.until(lambda: second.running("image"))
    again = second.desk.track.current("image")
    assert again is not None and again.id == job.id
    assert second.session is not None
    assert [words_of(second.session.job(j).recipe) for j in second.session.queue()] == ["waits"]
    close_and_say(second, "closing_cancel")
    second.close()

    third = open_window()
    assert third.session is not None
    session = third.session
    third.until(lambda: third.idle() and session.count_works("image") == 1)
    assert {words_of(j.recipe): j.state for j in session.jobs()} == {
        "hold on": JobState.CANCELLED, "waits": JobState.FINISHED,
    }  # fmt: skip


def test_closing_with_nothing_at_work_asks_nothing(rig: Rig) -> None:
    rig.window.pause_queue()
    rig.until(lambda: rig.session is not None and rig.session.paused)
    rig.make("text", "later")
    rig.window.close()
    assert not rig.window.isVisible() and rig.desk.session is None


# ---- the library under the window

SIGNALS = """
import sys, threading
from PySide6.QtCore import QCoreApplication, QObject, Qt, QTimer, Signal

app = QCoreApplication([])

class Many(QObject):
    none, yes, thing, words, number = Signal(), Signal(bool), Signal(object), Signal(str), Signal(int)
    three = Signal(str, str, object)
    late = Signal(object)

many, heard = Many(), []
for name in ("none", "yes", "thing", "words", "number", "three"):
    getattr(many, name).connect(lambda *values: heard.append(values))
many.late.connect(heard.append, Qt.ConnectionType.QueuedConnection)
for turn in range(5000):
    many.none.emit()
    many.yes.emit(turn % 2 == 0)
    many.thing.emit({"a": [turn]})
    many.words.emit("ä" * (turn % 50))
    many.number.emit(turn)
    many.three.emit("a", "b", None)

def post():
    for turn in range(5000):
        many.late.emit((turn, "x"))

thread = threading.Thread(target=post)
thread.start()
ticks = QTimer(interval=10)
ticks.timeout.connect(lambda: len(heard) == 35000 and app.quit())
ticks.start()
QTimer.singleShot(30000, lambda: app.exit(3))
code = app.exec()
thread.join()
print(len(heard))
sys.exit(code)
"""


def test_this_pyside_survives_thousands_of_signals() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout.strip() == "35000"
