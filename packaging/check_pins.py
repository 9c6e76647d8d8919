"""Does every pin have a ready-made build for each system and Python the studio runs on? Asks pip without installing.

Knows pip's dry run; fetches metadata only. What was found for a set of pins is remembered in the environment, so it is
asked once per change. torch for Linux is left out: its CPU and GPU builds come from PyTorch's own index, and PyPI's
build of that name is the CUDA one, which run.py never takes.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from environment import is_offline  # noqa: E402 - a neighbour, found only after the line above

PYTHONS = ("3.11", "3.12", "3.13")


class System(NamedTuple):
    """One kind of computer, in pip's words and in those of requirement markers."""

    name: str
    platforms: tuple[str, ...]  # pip's tags, any of which will do
    sys_platform: str
    os_name: str
    platform_system: str
    platform_machine: str


SYSTEMS = (
    System("Windows", ("win_amd64",), "win32", "nt", "Windows", "AMD64"),
    System("macOS on Apple silicon", ("macosx_14_0_arm64",), "darwin", "posix", "Darwin", "arm64"),
    System(
        "Linux",
        # 2.34 for PySide6: the glibc of Ubuntu 22.04 and Debian 12, or newer
        ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64"),
        "linux",
        "posix",
        "Linux",
        "x86_64",
    ),
)


def environment_of(system: System, python: str) -> dict[str, str]:
    """The values that markers such as `sys_platform == "win32"` are compared with."""
    return {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system.sys_platform,
        "os_name": system.os_name,
        "platform_system": system.platform_system,
        "platform_machine": system.platform_machine,
        "extra": "",
    }


def must_ask(pin: Requirement, python: str) -> bool:
    """Whether the index has to be asked about this pin for this Python. What is installed here answers some of it:

    a wheel without a compiled part is for all systems, and one that is bound to no Python version (abi3, or a program)
    needs asking once per system, for the oldest Python.
    """
    try:
        there = importlib.metadata.distribution(pin.name)
    except importlib.metadata.PackageNotFoundError:
        return True
    lines = (there.read_text("WHEEL") or "").splitlines()
    tags = [line.removeprefix("Tag:").strip().split("-") for line in lines if line.startswith("Tag:")]
    fits = there.version in pin.specifier and python in SpecifierSet(there.metadata["Requires-Python"] or "")
    if not tags or not fits:
        return True
    if all(platform == "any" for _, _, platform in tags):
        return not any(version in ("py3", "py2.py3") for version, _, _ in tags)
    return python == PYTHONS[0] or not all(abi in ("abi3", "none") for _, abi, _ in tags)


def pins_for(constraints: str, system: System, python: str) -> list[str]:
    """The pins of the constraints file's text that count on this system, as name==version."""
    values = environment_of(system, python)
    chosen = []
    for line in constraints.splitlines():
        text = line.split("#")[0].strip()
        if not text:
            continue
        pin = Requirement(text)
        if canonicalize_name(pin.name) == "torch" and system.sys_platform == "linux":
            continue
        if pin.marker is None or pin.marker.evaluate(values):
            chosen.append(f"{pin.name}{pin.specifier}")
    return chosen


def command(pins: list[str], system: System, python: str, target: str) -> list[str]:
    """The dry run, with pins as name==version.

    Without dependencies, because the pins hold them all; tests/test_packaging.py makes sure of that.
    """
    made = [sys.executable, "-m", "pip", "install", "--dry-run", "--only-binary=:all:", "--no-deps", "--quiet"]
    # fast-deps: where an index serves no metadata by itself, read it from the wheel's end instead of fetching the wheel
    made += ["--use-feature=fast-deps"]
    made += ["--disable-pip-version-check", "--no-input", "--target", target]
    made += ["--implementation", "cp", "--python-version", python]
    for platform in system.platforms:
        made += ["--platform", platform]
    return made + pins


def ask(constraints: str, system: System, python: str, target: str) -> tuple[int, str]:
    """Run it. Returns pip's exit code and its words."""
    pins = [pin for pin in pins_for(constraints, system, python) if must_ask(Requirement(pin), python)]
    asked = command(pins, system, python, target)
    done = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8", errors="replace")
    return done.returncode, done.stderr


def main() -> int:
    with open(os.path.join(HERE, "constraints.txt"), encoding="utf-8") as file:
        constraints = file.read()
    fingerprint = hashlib.sha256(repr((constraints, SYSTEMS, PYTHONS)).encode()).hexdigest()
    note = os.path.join(sys.prefix, "pins.checked")
    if os.path.exists(note):
        with open(note, encoding="utf-8") as file:
            if file.read() == fingerprint:
                print("Every pin has its builds; these pins were asked for earlier.")
                return 0

    cases = [(system, python) for system in SYSTEMS for python in PYTHONS]
    # A few at a time: pip mostly waits for the index.
    with tempfile.TemporaryDirectory() as target, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda case: ask(constraints, case[0], case[1], target), cases))
    bad = 0
    for (system, python), (code, said) in zip(cases, answers, strict=True):
        if code == 0:
            print(f"{system.name}, Python {python}: every pin has a build.")
        elif is_offline(said):
            print("Left out: the package index cannot be reached.")
            return 0
        else:
            bad += 1
            errors = [line for line in said.splitlines() if line.startswith("ERROR")]
            print(f"{system.name}, Python {python}: {' '.join(errors[-1:]) or said.strip()}")
    if bad:
        return 1
    with open(note, "w", encoding="utf-8") as file:
        file.write(fingerprint)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
