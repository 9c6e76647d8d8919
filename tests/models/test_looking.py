"""Looking at files in a process of its own: what it may do, what it costs, and what becomes of a bad one."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from studio.core.cards import Looked, ModelCard
from studio.core.paths import Paths
from studio.core.problems import ModelBroken
from studio.models import identify, look_program, looking, registry
from studio.models.looking import Unread, looks
from tests.faults import model_reader
from tests.models.makers import diffusers, gguf, voice


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were started, of the program with the odd reader."""
    commands: list[list[str]] = []

    def command() -> list[str]:
        commands.append(model_reader.COMMAND)
        return commands[-1]

    monkeypatch.setattr(looking, "command", command)
    return commands


def odd(folder: Path, what: str, name: str = "") -> Path:
    path = folder / f"{name or what.split()[0]}.gguf"
    path.write_bytes(model_reader.ODD + what.encode())
    return path


def why(looked: Looked) -> str:
    assert not isinstance(looked, ModelCard)
    return looked.why


def test_answers_are_those_of_a_look_here(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(gguf(chat=True))
    (tmp_path / "half.gguf").write_bytes(gguf()[:-9])
    (tmp_path / "x.txt").write_text("hello")
    paths = [tmp_path / "a.gguf", diffusers(tmp_path / "birds"), voice(tmp_path / "voices"), tmp_path / "half.gguf"]
    paths += [tmp_path / "x.txt", tmp_path / "none.gguf", Path("a\0b"), tmp_path]
    assert looks(paths) == [identify.look(path) for path in paths]


def test_nothing_is_started_for_what_is_not_there(started: list[list[str]], tmp_path: Path) -> None:
    assert looks([]) == []
    assert [getattr(looked, "code", "") for looked in looks([tmp_path / "none", Path("a\0b")])] == ["model_missing"] * 2
    assert started == []


def test_names_that_are_not_text_are_looked_at_and_remembered(started: list[list[str]], paths: Paths) -> None:
    path = Path(os.fsdecode(os.fsencode(paths.models) + b"/b\xe4r.gguf"))
    try:
        path.write_bytes(gguf())
    except OSError:
        pytest.skip("this file system takes only text")
    first = registry.found(paths)
    assert [card.path for card in first[0] if card.source == "data"] == [str(path)]
    assert registry.found(paths) == first
    assert len(started) == 1


def test_one_process_looks_at_all_that_is_new_and_none_at_what_is_known(started: list[list[str]], paths: Paths) -> None:
    for number in range(5):
        (paths.models / f"{number}.gguf").write_bytes(gguf(general__name=f"n{number}"))
    diffusers(paths.models / "birds")
    first = registry.found(paths)
    assert len(started) == 1
    assert registry.found(paths) == first
    assert len(started) == 1
    (paths.models / "new.gguf").write_bytes(gguf(chat=True))
    assert len(registry.found(paths)[0]) == len(first[0]) + 1
    assert len(started) == 2


def test_threads_that_ask_at_once_get_the_same_and_look_once(started: list[list[str]], paths: Paths) -> None:
    for number in range(5):
        (paths.models / f"{number}.gguf").write_bytes(gguf(general__name=f"n{number}"))
    together = threading.Barrier(6)

    def ask(_: int) -> object:
        together.wait()
        return registry.found(paths)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(6)))
    assert all(answer == answers[0] for answer in answers)
    assert len(started) == 1


def test_the_process_has_limits_and_imports_no_library(started: list[list[str]], tmp_path: Path) -> None:
    (limits, modules) = looks([odd(tmp_path, "limits"), odd(tmp_path, "modules")])
    memory, processor, *rest = ast.literal_eval(why(limits).removeprefix("limits "))
    assert memory == look_program.MEMORY_LIMIT
    assert 0 < processor <= look_program.CPU_SECONDS + 5
    assert rest == [0, 0, look_program.FILES_LIMIT]
    assert why(modules) == "modules []"


def test_a_stranger_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "msgspec", "studio", "queue"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.gguf").write_bytes(gguf())
    assert isinstance(looks([Path("a.gguf")])[0], ModelCard)
    assert not (tmp_path / "marker").exists()
    # and they would run: this is how Python looks for a module without -P
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([sys.executable, "-c", "import json"], env=environment, capture_output=True, timeout=60, check=False)
    assert (tmp_path / "marker").exists()


def test_a_frozen_program_starts_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert looking.command() == [sys.executable, "--look"]
    monkeypatch.setattr(looking, "command", lambda: [sys.executable, "-m", "studio", "--look"])
    monkeypatch.chdir(Path(__file__).parents[2])
    (tmp_path / "ü.gguf").write_bytes(gguf())
    assert isinstance(looks([tmp_path / "ü.gguf"])[0], ModelCard)


def test_a_program_that_is_not_there_is_said_once_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    tries: list[str] = []
    for how in (["/none/python"], [sys.executable, "-c", "raise SystemExit(3)"]):

        def command(how: list[str] = how) -> list[str]:
            tries.append(how[0])
            return how

        monkeypatch.setattr(looking, "command", command)
        for looked in looks([odd(tmp_path, "a"), odd(tmp_path, "b")]):
            assert isinstance(looked, Unread)
            assert looked.why.startswith("the program that looks at models did not start (")
    assert len(tries) == 2


def test_models_are_there_again_as_soon_as_the_program_starts(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    (paths.models / "a.gguf").write_bytes(gguf())
    with monkeypatch.context() as without:
        without.setattr(looking, "command", lambda: ["/none/python"])
        assert (
            "did not start (No such file or directory)" in dict(registry.found(paths)[1])[paths.models / "a.gguf"].why
        )
    assert registry.found(paths)[1] == []


def test_a_program_that_does_not_get_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "START_SECONDS", 0.3)
    pid = tmp_path / "pid"
    program = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(looking, "command", lambda: [sys.executable, "-S", "-c", program])
    assert "not within 0.3 s" in why(looks([odd(tmp_path, "a")])[0])
    assert not pid.exists() or not psutil.pid_exists(int(pid.read_text()))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("crash", "looking at it ended its reader (SIGSEGV)"),
        ("abort", "looking at it ended its reader (SIGABRT)"),
        ("leave", "looking at it ended its reader (exit code 0)"),
        ("raise", "looking at it ended its reader (KeyError)"),
        ("grow", "looking at it needed too much memory"),
        ("long", "looking at it brought no sensible answer"),
        ("chatter", "it is chatty"),
        ("second", "nothing happened"),
    ],
)
def test_a_reader_that_goes_wrong_costs_its_file_and_no_other(
    started: list[list[str]], tmp_path: Path, what: str, says: str
) -> None:
    (tmp_path / "one.gguf").write_bytes(gguf())
    (tmp_path / "two.gguf").write_bytes(gguf(chat=True))
    one, bad, two = looks([tmp_path / "one.gguf", odd(tmp_path, what), tmp_path / "two.gguf"])
    assert isinstance(one, ModelCard) and one.name == "one"
    assert isinstance(two, ModelCard) and two.name == "two"
    assert says in why(bad)
    assert isinstance(bad, Unread) == says.startswith("looking at it")
    if isinstance(bad, Unread):
        assert bad.code == "model_broken"
        assert bad.hint


@pytest.mark.parametrize("what", ["loop", "sleep"])
def test_a_reader_that_does_not_come_back_is_ended(
    started: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(looking, "LOOK_SECONDS", 1.0)
    (tmp_path / "one.gguf").write_bytes(gguf())
    pid, bad, one = looks([odd(tmp_path, "pid"), odd(tmp_path, what), tmp_path / "one.gguf"])
    assert why(bad) == "looking at it took more than 1 seconds"
    assert isinstance(one, ModelCard)
    assert not psutil.pid_exists(int(why(pid).split()[1]))


def test_what_could_not_be_read_is_tried_again_later_and_when_it_is_asked_for(
    started: list[list[str]], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = odd(paths.models, "crash")
    for _ in range(3):
        (bad,) = registry.found(paths)[1]
        assert bad[0] == path
        assert "ended its reader" in bad[1].why
    tries = len(started)
    assert tries <= 2
    with pytest.raises(ModelBroken, match=r"“crash\.gguf” cannot be used: looking at it ended its reader \(SIGSEGV\)"):
        registry.examine(path)
    assert len(started) == tries + 1
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + registry.UNREAD_SECONDS + 1)
    registry.found(paths)
    assert len(started) == tries + 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_process_ends_with_the_one_that_started_it_in_the_middle_of_a_look(tmp_path: Path) -> None:
    path = odd(tmp_path, "loop")
    studio = subprocess.Popen(
        [sys.executable, "-c", _ASKS, str(path)], cwd=Path(__file__).parents[2], start_new_session=True
    )
    try:
        child, used = None, 0.0
        deadline = time.monotonic() + 30
        while used < 0.6:  # more than it needs to start: it loops
            assert time.monotonic() < deadline, "it did not come to look"
            child = next(iter(psutil.Process(studio.pid).children()), None)
            used = child.cpu_times().user if child is not None else 0.0
            time.sleep(0.02)
        assert child is not None
    finally:
        os.kill(studio.pid, signal.SIGKILL)
        studio.wait()
    child.wait(5)


_ASKS = """
import sys
from pathlib import Path
from studio.models import looking
from tests.faults import model_reader
looking.command = lambda: model_reader.COMMAND
looking.LOOK_SECONDS = 60
looking.looks([Path(sys.argv[1])])
"""
