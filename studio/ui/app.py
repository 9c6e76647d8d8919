"""The program of the window: looks whether there is a screen, shows the window, then opens the library behind it."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from studio.core.paths import Paths

if TYPE_CHECKING:
    from studio.app.session import Session
    from studio.ui.window import Window

EXIT_PROBLEM, EXIT_NO_SCREEN = 1, 2

NO_SCREEN = (
    "There is no screen to open the window on ({why}). "
    "The same studio works on the command line: “python3 run.py --help” lists what it can do."
)


# What a bare Debian or Ubuntu lacks of what Qt's window and X11 plug-in load.
LIBRARIES = "libegl1 libgl1 libxkbcommon-x11-0 libdbus-1-3 libfontconfig1 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1"


def missing_screen(environ: dict[str, str], platform: str = sys.platform) -> str:
    """Why Qt would end the process with an abort if it were started now; empty where it will work."""
    if platform in ("win32", "darwin"):
        return ""
    chosen = [name.split(":")[0] for name in environ.get("QT_QPA_PLATFORM", "").split(";") if name]
    if any(name not in ("xcb", "wayland", "wayland-egl") for name in chosen):
        return ""  # offscreen, vnc, …: needs no screen
    only_wayland = bool(chosen) and "xcb" not in chosen
    if (environ.get("WAYLAND_DISPLAY") or only_wayland) and chosen != ["xcb"]:
        place = Path(environ.get("XDG_RUNTIME_DIR", ""), environ.get("WAYLAND_DISPLAY") or "wayland-0")
        if _answers(socket.AF_UNIX, str(place)):
            return ""
        if only_wayland or not environ.get("DISPLAY"):
            return f"no Wayland server answers at {place}"
    display = environ.get("DISPLAY", "")
    if not display:
        return "neither DISPLAY nor WAYLAND_DISPLAY is set"
    return _missing_x11(display) or _missing_library() or _refused(display)


def _missing_x11(display: str) -> str:
    host, _, rest = display.rpartition(":")
    number = rest.split(".")[0]
    if not number.isdigit():
        return f"DISPLAY is “{display[:60]}”, which names no screen"
    host = host.rpartition("/")[2]
    if host in ("", "unix"):
        good = _answers(socket.AF_UNIX, f"\0/tmp/.X11-unix/X{number}") or _answers(
            socket.AF_UNIX, f"/tmp/.X11-unix/X{number}"
        )
    else:
        good = _answers(socket.AF_INET, (host, 6000 + int(number)))
    return "" if good else f"no X server answers at DISPLAY “{display[:60]}”"


def _answers(family: int, address: Any) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(3)
        try:
            link.connect(address)
        except (OSError, ValueError):
            return False
        return True


def _missing_library() -> str:
    """Qt's plug-in for X11 needs a library that a bare system lacks; Qt itself would say so and abort."""
    import ctypes

    try:
        ctypes.CDLL("libxcb-cursor.so.0")
    except OSError:
        return "the library libxcb-cursor is missing; on Debian and Ubuntu: apt install libxcb-cursor0"
    return ""


def _refused(display: str) -> str:
    """Whether the X server there lets this user in: with another user's screen it does not."""
    import ctypes

    xcb = ctypes.CDLL("libxcb.so.1")  # libxcb-cursor needs it, so it is there
    xcb.xcb_connect.restype, xcb.xcb_connect.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p)
    for _ in range(3):  # a server whose last window has just closed begins anew, and refuses everybody meanwhile
        link = ctypes.c_void_p(xcb.xcb_connect(os.fsencode(display), None))
        if not xcb.xcb_connection_has_error(link):
            return ""  # it stays open: were it the only one, the server would begin anew as Qt connects
        xcb.xcb_disconnect(link)
        time.sleep(0.1)
    return f"the X server at DISPLAY “{display[:60]}” refuses this user"


def main(home: Path) -> int:
    """Open the window of a data folder. Returns the exit code."""
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ModuleNotFoundError:
        print(
            "The window's library, PySide6, is not installed; “python3 run.py” completes the set-up.", file=sys.stderr
        )
        return EXIT_NO_SCREEN
    except ImportError as error:  # it is there, and a library of the system that it needs is not
        print(NO_SCREEN.replace("{why}", f"{error}"), file=sys.stderr)
        print(f"On Debian and Ubuntu: apt install {LIBRARIES}", file=sys.stderr)
        return EXIT_NO_SCREEN
    why = missing_screen(dict(os.environ))
    if why:
        print(NO_SCREEN.replace("{why}", why), file=sys.stderr)
        return EXIT_NO_SCREEN
    paths = Paths(home)
    try:
        paths.make()
    except OSError as error:
        print(f"The data folder {home} cannot be used: {error.strerror or error}.", file=sys.stderr)
        print("Set STUDIO_HOME to a folder you can write to.", file=sys.stderr)
        return EXIT_PROBLEM

    from studio.ui.instance import Instance, ask_first

    instance = Instance(paths.home)
    if not instance.take():
        if ask_first(paths.home):
            return 0
        print("The studio is open already, but its window does not answer.", file=sys.stderr)
        return EXIT_PROBLEM
    try:
        return _run(paths, instance)
    finally:
        instance.close()


def _run(paths: Paths, instance: Any) -> int:
    from PySide6.QtWidgets import QApplication

    from studio.app.settings import load_settings
    from studio.ui import state, theme
    from studio.ui.desk import Desk
    from studio.ui.window import Window

    # ten lines on codecs when the first sound is played; who wants them sets the variable
    os.environ.setdefault("QT_LOGGING_RULES", "qt.multimedia.*=false")
    app = QApplication(sys.argv[:1])
    app.setApplicationName("Studio")
    app.setDesktopFileName("studio")
    app.setStyle("Fusion")
    app.setQuitOnLastWindowClosed(False)  # the window says when everything has ended
    # looked at, not taken over: the session reads them too, and says what was wrong with them
    wanted = load_settings(paths.settings)[0].theme if paths.settings.exists() else "system"
    theme.colour(app, theme.chosen(wanted))
    remembered = state.load(paths.home / "window.json")
    desk = Desk(None, paths.home / "window.json", remembered)
    window = Window(desk)
    log = Log(paths.log_file, desk.problem)
    sys.excepthook = log.caught
    instance.asked.connect(window.come_forward)
    app.styleHints().colorSchemeChanged.connect(lambda _: window.follow_system())
    window.closed.connect(app.quit)
    window.painted.connect(lambda: _after_paint(paths, desk, window, instance))
    wake = _hear_signals(window)
    app.commitDataRequest.connect(lambda _: window.end("requeue"))
    window.dress()
    window.show()
    code = app.exec()
    del wake
    sys.excepthook = sys.__excepthook__
    return int(code)


def _after_paint(paths: Paths, desk: Any, window: Window, instance: Any) -> None:
    """The window is there; now the rest: the library, later starts, the models."""
    if os.environ.get("STUDIO_PAINTED"):  # benchmarks: seconds since the process began, as the system counts
        Path(os.environ["STUDIO_PAINTED"]).write_text(f"{time.time()}\n")
    instance.listen()

    def open_library() -> Session:
        from studio.app.session import Session

        return Session(paths, keep_pause=True)

    def restore_library() -> str:
        from studio.app.session import restore_library

        return restore_library(paths)

    desk.opener, desk.restorer = open_library, restore_library
    desk.tasks.read(window, open_library, desk.open, desk.not_opened)


class Log:
    """Errors of the window itself: written to the log, and told."""

    def __init__(self, path: Path, tell: Callable[[BaseException], None]) -> None:
        self._path, self._tell = path, tell

    def caught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """What no slot has caught: the third of the three places that answer for anything."""
        text = "".join(traceback.format_exception(kind, error, trace))
        print(text, file=sys.stderr, flush=True)
        from studio.core.rotating import RotatingLog

        log = RotatingLog(self._path)  # a full disk costs the line: it has been printed, and is told
        log.add(text)
        log.close()
        if not issubclass(kind, KeyboardInterrupt):
            self._tell(error)


def _hear_signals(window: Window) -> Any:
    """Ctrl+C in a terminal and a polite kill close the window; what runs begins again the next time."""
    from PySide6.QtCore import QSocketNotifier

    if sys.platform == "win32":
        signal.signal(signal.SIGINT, lambda *_: window.end("requeue"))
        return None
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    notifier = QSocketNotifier(ours.fileno(), QSocketNotifier.Type.Read)

    def heard() -> None:
        if set(ours.recv(64)) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}:
            window.end("requeue")

    notifier.activated.connect(heard)
    return notifier, ours, theirs
