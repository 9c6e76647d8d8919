"""The window beside a bare PySide6 window: `python benchmarks/window.py [start|memory|stalls|history …]`.

start    from starting the process to the first painted window, taken in turns with a bare QMainWindow of the same size
memory   resident and proportional memory of the window's process: idle, with all tabs, after a waveform
stalls   the longest gaps of a 5 ms heartbeat in the window's process while a text, a picture and a reading are made
history  a library of 1,000 works: time to the first page, and the time each step of scrolling to its end takes

Runs on the screen of DISPLAY, or on an Xvfb of its own. Needs the starter models for the last three.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.trainer import paused_trainer

ROOT = Path(__file__).resolve().parent.parent

BARE = """
import os, time
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMainWindow
class Bare(QMainWindow):
    def paintEvent(self, event):
        QTimer.singleShot(0, told)
def told():
    open(os.environ["STUDIO_PAINTED"], "w").write(f"{time.time()}\\n")
app = QApplication([]); window = Bare(); window.resize(1280, 800); window.show(); app.exec()
"""

# Runs in a window process of its own; prints lines of figures.
INSIDE = r"""
import os, sys, time
from pathlib import Path
from PySide6.QtCore import QElapsedTimer, QEventLoop, QTimer, Qt
from PySide6.QtWidgets import QApplication
from studio.core.paths import Paths
from studio.ui import state, theme
from studio.ui.desk import Desk
from studio.ui.window import Window

what = sys.argv[1]
app = QApplication([]); app.setStyle("Fusion")
paths = Paths(Path(os.environ["STUDIO_HOME"])); paths.make()
theme.colour(app, theme.DARK)
desk = Desk(None, paths.home / "window.json", state.WindowState())
window = Window(desk); window.dress(); window.show()

def until(true, seconds=180):
    end = time.monotonic() + seconds
    while not true():
        app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        assert time.monotonic() < end, "it took too long"

def rest(seconds):
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)

def memory(name):
    import psutil
    found = psutil.Process().memory_full_info()
    print(f"{name:34} {found.rss / 1e6:6.0f} MB resident {found.pss / 1e6:6.0f} MB proportional", flush=True)

def open_library():
    from studio.app.session import Session
    desk.open(Session(paths))
    until(lambda: desk.models_known and window.tab.history.model.ready)

def idle():
    return not desk.track.running() and not desk.track.waiting()

def fill(kind, **values):
    window.go(kind); tab = window.tabs[kind]; tab.form.put_some(values); return tab

def warm():
    fill("text", prompt="Once upon a time", max_tokens=5).make()
    fill("image", prompt="red apple", steps=2).make()
    fill("speech", text="Good evening.").make()
    rest(1); until(idle)

WORDS = "The little red fox lived at the edge of the forest. Every evening it looked up at the moon. " * 6
if what == "memory":
    rest(0.5); memory("first tab, no library")
    open_library(); rest(3); memory("idle, library open, model loading")
    for kind in ("image", "speech"):
        window.go(kind); rest(0.5)
    memory("all three tabs")
    tab = fill("speech", text=WORDS); tab.make(); rest(0.5); until(idle); rest(1)
    memory("after a reading and its waveform")
    for words in ("apple", "tree", "snowman"):
        fill("image", prompt=words, steps=4, count=2).make(); rest(0.2)
    until(idle); rest(1)
    memory("after six pictures")
elif what == "stalls":
    open_library(); warm()
    clock = QElapsedTimer(); clock.start(); gaps = []
    beat = QTimer(); beat.setTimerType(Qt.TimerType.PreciseTimer); beat.setInterval(5)
    def tick():
        gaps.append(clock.restart())
    beat.timeout.connect(tick)
    def measure(name, seconds, act=lambda i: None):
        gaps.clear(); clock.restart(); beat.start(); end = time.monotonic() + seconds; i = 0
        while time.monotonic() < end:
            act(i); i += 1
            app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 100)
        beat.stop(); found = sorted(gaps)
        late = sum(g > 50 for g in found)
        print(f"{name:46} median {found[len(found) // 2]} ms, 99 % {found[int(len(found) * 0.99)]} ms, "
              f"longest {found[-1]} ms, over 50 ms: {late} of {len(found)}", flush=True)
    measure("idle", 4)
    fill("text", prompt="Once upon a time", max_tokens=700, n=2).make()
    fill("image", prompt="a red apple", steps=60, count=3).make()
    fill("speech", text=WORDS * 4).make()
    until(lambda: len(desk.track.running()) == 3)
    window.go("text"); measure("all three lanes at work, text shown", 5)
    window.go("image"); measure("all three lanes at work, picture shown", 5)
    window.go("speech"); measure("all three lanes at work, reading shown", 5)
    kinds = ["text", "image", "speech"]; last = [0.0]
    def switch(i):
        if time.monotonic() - last[0] > 0.4:
            last[0] = time.monotonic(); window.go(kinds[int(last[0] * 2.5) % 3])
    measure("the same, a tab switched every 0.4 s", 5, switch)
    print("running at the end:", sorted(j.kind for j in desk.track.running()), flush=True)
elif what == "history":
    from studio.app.session import Session
    from benchmarks.window import fill_library
    session = Session(paths); fill_library(session, 1000); session.close()
    began = time.perf_counter(); open_library()
    window.go("image"); tab = window.tabs["image"]; until(lambda: tab.history.model.ready)
    print(f"library open and first page shown after {time.perf_counter() - began:.2f} s", flush=True)
    view, steps = tab.history.view, []
    bar = view.verticalScrollBar(); rest(0.5)
    while bar.value() < bar.maximum() or len(tab.history.model.works) < 1000:
        began = time.perf_counter()
        bar.setValue(min(bar.maximum(), bar.value() + 60)); view.viewport().repaint()
        steps.append((time.perf_counter() - began) * 1000)
        app.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 5)
    steps.sort()
    print(f"{len(tab.history.model.works)} works, {len(steps)} scroll steps of 60 px with their painting: median "
          f"{steps[len(steps) // 2]:.1f} ms, 99 % {steps[int(len(steps) * 0.99)]:.1f} ms, longest {steps[-1]:.1f} ms")
    memory("after scrolling through")
window.end("cancel")
os._exit(0)
"""


def fill_library(session: object, count: int) -> None:
    """Put works with real files into a library, without making them."""
    from tests.ui.library import fill

    fill(session, count)


@contextlib.contextmanager
def screen() -> Iterator[dict[str, str]]:
    """The environment of a process that shows a window."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONDONTWRITEBYTECODE", "QT_QPA_PLATFORM")}
    environ["PYTHONPATH"] = str(ROOT)
    if environ.get("DISPLAY"):
        yield environ
        return
    readable, writable = os.pipe()
    command = ["Xvfb", "-displayfd", str(writable), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=(writable,), stderr=subprocess.DEVNULL)
    os.close(writable)
    try:
        with os.fdopen(readable) as told:
            environ["DISPLAY"] = ":" + told.readline().strip()
        yield environ
    finally:
        server.terminate()
        server.wait()


def painted(environ: dict[str, str], arguments: list[str], note: Path) -> float:
    """Seconds from starting a process to its first painted window."""
    note.unlink(missing_ok=True)
    began = time.time()
    child = subprocess.Popen([sys.executable, *arguments], env={**environ, "STUDIO_PAINTED": str(note)})
    while not note.exists() or not note.read_text().endswith("\n"):
        if child.poll() is not None:
            raise SystemExit(f"it ended with {child.returncode} before it had painted anything")
        time.sleep(0.002)
    took = float(note.read_text()) - began
    time.sleep(0.3)
    child.send_signal(signal.SIGTERM)
    child.wait(30)
    return took


def start(environ: dict[str, str], home: Path, rounds: int) -> None:
    ours, bare = [], []
    note = home.parent / "painted"
    for turn in range(rounds + 1):  # the first fills caches and does not count
        one = painted(environ, ["-c", BARE], note)
        other = painted({**environ, "STUDIO_HOME": str(home)}, ["-m", "studio"], note)
        if turn:
            bare.append(one)
            ours.append(other)
    low, middle = min(ours), statistics.median(ours)
    ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
    print(
        f"process start to first painted window, median of {rounds}: bare {statistics.median(bare):.2f} s, studio "
        f"{middle:.2f} s (least {low:.2f} s), {ratio:.1f}×"
    )


def main(arguments: list[str]) -> None:
    chosen = arguments or ["start", "memory", "stalls", "history"]
    with tempfile.TemporaryDirectory() as folder, paused_trainer(), screen() as environ:
        for what in chosen:
            home = Path(folder) / what
            print(f"== {what}", flush=True)
            if what == "start":
                start(environ, home, 7)
            else:
                subprocess.run(
                    [sys.executable, "-c", INSIDE, what], env={**environ, "STUDIO_HOME": str(home)}, check=True
                )


if __name__ == "__main__":
    main(sys.argv[1:])
