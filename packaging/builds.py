"""Which builds of torch and llama.cpp fit this computer, and the pip commands that install them.

Pure but for `graphics_card`, which looks at a few files. Knows indexes and versions; installs nothing itself.
CUDA, ROCm and Vulkan could not be tried where this was written: their commands are tested as text only.
"""

from __future__ import annotations

import os

BACKENDS = ("auto", "cpu", "cuda", "rocm", "vulkan")

TORCH_INDEX = "https://download.pytorch.org/whl/"
LLAMA_INDEX = "https://xorbitsai.github.io/xllamacpp/whl/"

# What PyTorch and xllamacpp call their builds. CUDA 12.8 for llama.cpp, since 13.2 left out cards before Turing.
TORCH_BUILD = {"cpu": "cpu", "vulkan": "cpu", "cuda": "cu130", "rocm": "rocm7.2"}
LLAMA_BUILD = {"cuda": "cu128", "rocm": "rocm-7.2.4", "vulkan": "vulkan"}


class Unfit(Exception):
    """There is no such build for this system; the text is one sentence for a person."""


def graphics_card(platform: str, path: str) -> str:
    """The backend that fits this computer, found without loading any library.

    Args:
        platform: as sys.platform.
        path: the PATH variable.

    Returns:
        "cuda", "rocm" or "cpu". On a Mac "cpu", because the ordinary builds use Metal by themselves.
    """
    if platform == "darwin":
        return "cpu"
    names = ("nvidia-smi.exe",) if platform == "win32" else ("nvidia-smi",)
    if any(os.path.isfile(os.path.join(folder, name)) for folder in path.split(os.pathsep) if folder for name in names):
        return "cuda"
    if platform.startswith("linux"):
        if os.path.exists("/proc/driver/nvidia"):
            return "cuda"
        if os.path.exists("/dev/kfd"):
            return "rocm"
    return "cpu"


def check(backend: str, platform: str) -> None:
    """Refuse a backend this system has no builds for.

    Raises:
        Unfit: with the reason.
    """
    if backend not in BACKENDS:
        raise Unfit(f"There is no backend called {backend}; these exist: {', '.join(BACKENDS)}.")
    if platform == "darwin" and backend not in ("auto", "cpu"):
        raise Unfit(f"There is no {backend} build for macOS; without --backend the studio uses Metal there.")
    if platform == "win32" and backend == "rocm":
        raise Unfit("PyTorch has no ROCm build for Windows; --backend vulkan uses the card for texts.")


def read_pins(constraints: str) -> dict[str, str]:
    """Name -> version of every line `name==version` in the constraints file's text; names in lower case."""
    pins = {}
    for line in constraints.splitlines():
        name, found, version = line.split("#")[0].split(";")[0].partition("==")
        if found:
            pins[name.strip().lower()] = version.strip()
    return pins


def commands(
    backend: str,
    platform: str,
    python: str,
    requirements: list[str],
    constraints: str,
    pins: dict[str, str],
    *,
    torch_index: bool | None = None,
) -> list[list[str]]:
    """The pip commands that install everything, in order.

    Args:
        backend: one of BACKENDS but not "auto".
        platform: as sys.platform.
        python: the environment's Python.
        requirements: what to install, as in pyproject.toml, torch among them.
        constraints: path of the constraints file.
        pins: what that file says, from `read_pins`.
        torch_index: whether to name PyTorch's own index. None: only for builds that come from nowhere else. A CPU build
            for Linux may be known to the user's own pip settings, so that is asked for first without it.

    Raises:
        Unfit: this system has no such build.
    """
    check(backend, platform)
    pip = _pip(python)

    torch = f"torch=={pins['torch']}"
    index: list[str] = []
    # PyPI's torch is the right one on a Mac, and on Windows without CUDA; on Linux it is several GB of CUDA.
    if platform.startswith("linux") or (platform == "win32" and backend == "cuda"):
        build = TORCH_BUILD[backend]
        torch += f"+{build}"
        if torch_index if torch_index is not None else build != "cpu":
            index = ["--extra-index-url", TORCH_INDEX + build]
    others = [text for text in requirements if name_of(text) != "torch"]
    # torch first: pip looks in this order, and a missing build is then noticed at once
    made = [[*pip, "--constraint", constraints, *index, torch, *others]]

    if backend in LLAMA_BUILD:
        # The same version as the CPU build, so pip must be told to replace it.
        source = ["--index-url", LLAMA_INDEX + LLAMA_BUILD[backend]]
        made.append([*pip, "--force-reinstall", "--no-deps", *source, f"xllamacpp=={pins['xllamacpp']}"])
    return made


def bare(python: str, packages: list[str]) -> list[list[str]]:
    """The pip commands for packages that come without what they ask for; none where there are no such packages."""
    return [[*_pip(python), "--no-deps", *packages]] if packages else []


def _pip(python: str) -> list[str]:
    # No --isolated and no --index-url: the user's pip settings say where packages come from.
    made = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    return [*made, "--only-binary=:all:"]  # a source package would need a compiler, and minutes


def name_of(requirement: str) -> str:
    """The project's name in a requirement, lower case: "PySide6!=6.12.0" -> "pyside6"."""
    end = 0
    while end < len(requirement) and (requirement[end].isalnum() or requirement[end] in "-_."):
        end += 1
    return requirement[:end].lower()
