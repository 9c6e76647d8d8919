"""The pins, the ranges and the licences agree with each other and with what the code imports."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import builds
import check_pins
import checks
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = (ROOT / "packaging" / "constraints.txt").read_text()
PINS = {canonicalize_name(name): version for name, version in builds.read_pins(CONSTRAINTS).items()}
DECLARED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {extra: [Requirement(text) for text in texts] for extra, texts in PROJECT["optional-dependencies"].items()}
ALL = DECLARED + [requirement for extra in EXTRAS.values() for requirement in extra]
CASES = [
    pytest.param(system, python, id=f"{system.sys_platform}-{python}")
    for system in check_pins.SYSTEMS
    for python in check_pins.PYTHONS
]


def test_every_requirement_has_a_pin_inside_its_range() -> None:
    for requirement in ALL:
        assert Version(PINS[canonicalize_name(requirement.name)]) in requirement.specifier, requirement


def test_pyside_6_12_0_is_never_chosen() -> None:
    (window,) = EXTRAS["window"]
    assert not window.specifier.contains("6.12.0")
    assert window.specifier.contains("6.11.3")
    for name in ("pyside6", "pyside6-essentials", "pyside6-addons", "shiboken6"):
        assert PINS[name] == "6.11.3"


def test_torchvision_is_neither_asked_for_nor_pinned_nor_installed() -> None:
    assert "torchvision" not in PINS
    assert "torchvision" not in {canonicalize_name(requirement.name) for requirement in ALL}
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("torchvision")


def test_torch_is_pinned_without_a_build_so_that_every_backend_fits() -> None:
    assert Version(PINS["torch"]).local is None
    for build in set(builds.TORCH_BUILD.values()):
        assert f"{PINS['torch']}+{build}" in SpecifierSet(f"=={PINS['torch']}")


def test_the_pins_are_sorted_and_say_each_name_once() -> None:
    lines = [line for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")]
    assert lines == sorted(lines, key=str.lower)
    assert len(PINS) == len(lines)


@pytest.mark.parametrize(("system", "python"), CASES)
def test_the_pins_leave_no_dependency_open_on_any_system(system: check_pins.System, python: str) -> None:
    # Read from what is installed here: a requirement that counts only on Windows is still written there.
    values = check_pins.environment_of(system, python)
    unpinned = set()
    for name in PINS:
        try:
            wanted = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # PySide6 and colorama are not installed everywhere
        for text in wanted:
            requirement = Requirement(text)
            # torch for Linux brings its own libraries, each pinned by torch itself
            if name == "torch" and "platform_system" in text:
                continue
            counts = requirement.marker is None or requirement.marker.evaluate(values)
            if counts and canonicalize_name(requirement.name) not in PINS:
                unpinned.add(f"{name} needs {text}")
    assert not unpinned


@pytest.mark.parametrize(("system", "python"), CASES)
def test_pip_is_asked_for_ready_made_builds_of_every_pin(system: check_pins.System, python: str) -> None:
    pins = check_pins.pins_for(CONSTRAINTS, system, python)
    command = check_pins.command(pins, system, python, "target")
    assert {"--dry-run", "--only-binary=:all:", "PySide6==6.11.3", f"msgspec=={PINS['msgspec']}"} <= set(command)
    # PyPI's torch for Linux is several GB of CUDA, which run.py never takes from there
    assert ("torch==2.13.0" in command) == (system.sys_platform != "linux")


def test_a_pin_with_a_marker_counts_only_where_the_marker_holds() -> None:
    windows, _, linux = check_pins.SYSTEMS
    text = 'a==1\nb==2 ; sys_platform == "win32"  # note\n# c==3\n'
    assert check_pins.pins_for(text, windows, "3.12") == ["a==1", "b==2"]
    assert check_pins.pins_for(text, linux, "3.12") == ["a==1"]


def test_the_index_is_asked_about_compiled_packages_and_about_others_only_where_needed() -> None:
    def asked(name: str, python: str, version: str = "") -> bool:
        return check_pins.must_ask(Requirement(f"{name}=={version or PINS[name]}"), python)

    assert not asked("jinja2", "3.13")  # one file for all
    assert asked("jinja2", "3.13", version="1.0")  # not the one looked at
    assert asked("jinja2", "3.2")  # too old for it
    assert [asked("msgspec", python) for python in check_pins.PYTHONS] == [True, True, True]  # one file per Python
    assert [asked("xllamacpp", python) for python in check_pins.PYTHONS] == [True, False, False]  # abi3
    assert asked("colorama", "3.13", version="0")  # not this one


def test_everything_the_studio_imports_is_declared() -> None:
    modules = importlib.metadata.packages_distributions()
    declared = {
        canonicalize_name(requirement.name)
        for requirement in [*DECLARED, *EXTRAS["starter"], *EXTRAS["learn"], *EXTRAS["window"]]
    }
    undeclared = set()
    for path in (ROOT / "studio").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names} - {"studio", "__future__"}:
                if name in sys.stdlib_module_names or name in ("PySide6", "shiboken6"):
                    continue
                owners = {canonicalize_name(owner) for owner in modules.get(name, [])}
                if not owners & declared:
                    undeclared.add(f"{path.relative_to(ROOT)} imports {name}")
    assert not undeclared


def test_every_dependency_and_starter_has_its_licence_written_down() -> None:
    text = (ROOT / "LICENSES.md").read_text(encoding="utf-8")
    named = {canonicalize_name(name) for name in re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)}
    wanted = {
        canonicalize_name(requirement.name)
        for requirement in [*DECLARED, *EXTRAS["starter"], *EXTRAS["learn"], *EXTRAS["window"]]
    }
    assert wanted <= named
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "GPL-3.0-or-later"


def test_the_checks_end_with_the_code_of_the_first_that_failed_and_run_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def some(offline: bool) -> list[checks.Step]:
        codes = (0, 3, 4) if offline else ()
        return [checks.Step(f"step {code}", ["-c", f"print('ran {code}'); exit({code})"]) for code in codes]

    monkeypatch.setattr(checks, "steps", some)
    real = checks.run

    def run(arguments: list[str]) -> int:
        return real(["-c", "print('5 passed')"] if "pytest" in arguments else arguments)

    monkeypatch.setattr(checks, "run", run)
    assert checks.main(["--offline"]) == 3
    lines = capfd.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("ran")] == ["ran 0", "ran 3", "ran 4"]
    assert "== failed before the tests: step 3, step 4" in lines
    assert lines[-1] == "5 passed"


def test_a_step_that_was_killed_is_a_failure() -> None:
    # as PySide6 6.12.0 does: every test passes, and then the process aborts
    assert checks.run(["-c", "import os; print('9 passed'); os.abort()"]) != 0


@pytest.mark.skipif(sys.platform == "win32", reason="CI runs on Linux")
def test_the_script_of_ci_can_be_read_by_bash_and_ends_in_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert script.stat().st_mode & 0o100
    assert script.read_text().splitlines()[-1] == 'exec python3 run.py test "$@"'
