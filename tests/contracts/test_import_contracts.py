"""The floors of the house, proven twice: by import-linter on the source, and by looking at real processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch",
    "transformers",
    "diffusers",
    "onnxruntime",
    "xllamacpp",
    "piper",
    "numpy",
    "PIL",
    "soundfile",
    "scipy",
}
QT = {"PySide6", "shiboken6"}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_the_studio_keeps_its_contracts() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("core/text.py", "import numpy", "What is not a worker's"),
        ("core/text.py", "import psutil", "The core stands on"),
        ("core/text.py", "import studio.models.reading", "A floor imports only floors below"),
        ("models/reading.py", "import studio.engines.base", "A floor imports only floors below"),
        ("runtime/schedule.py", "import studio.library.database", "A floor imports only floors below"),
        ("runtime/worker.py", "import studio.engines.text", "Outside the engines"),
        ("runtime/worker.py", "import torch", "What is not a worker's"),
        ("app/session.py", "import studio.library.exports.pictures", "Outside the engines"),
        ("app/session.py", "import PySide6.QtCore", "What is not a worker's"),
        ("library/database.py", "import numpy", "What is not a worker's"),
        ("engines/context.py", "import PySide6.QtCore", "Engines know no window"),
        ("engines/text/__init__.py", "import studio.engines.audio", "Engines of one kind"),
        ("show.py", "import studio.runtime.messages", "The command line sees"),
        ("ui/desk.py", "import numpy", "The window's process"),
        ("ui/tabs/base.py", "import studio.library.works", "The window sees"),
        ("ui/tabs/text.py", "import studio.ui.tabs.image", "Tabs do not know"),
        ("app/session.py", "import studio.ui.strings", "A floor imports only floors below"),
        ("newcomer.py", "", "A floor imports only floors below"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(tmp_path: Path, file: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "studio", tmp_path / "studio", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "studio" / file).open("a") as source:
        source.write(f"\n\ndef late():\n    {line or 'pass'}\n")  # hidden in a function it counts too
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    broken = [title for title in done.stdout.splitlines() if " BROKEN" in title]
    assert any(title.startswith(contract) for title in broken), done.stdout


def test_the_core_imports_the_standard_library_and_msgspec_only() -> None:
    graph = grimp.build_graph("studio", include_external_packages=True, cache_dir=None)
    core = {"studio.core", *graph.find_descendants("studio.core")}
    imported = {name for module in core for name in graph.find_modules_directly_imported_by(module)}
    outside = {name for name in imported if name not in core and name.partition(".")[0] not in sys.stdlib_module_names}
    assert outside == {"msgspec"}


def loaded(arguments: list[str], home: Path, send: bytes = b"") -> set[str]:
    """Start this Python with `arguments` and return the top names of all it imported, as Python itself reports them."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        input=send,
        capture_output=True,
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), "STUDIO_HOME": str(home)},
        timeout=120,
    )
    said = done.stderr.decode(errors="replace")
    names = re.findall(r"^import time:\s*\d+ \|\s*\d+ \|\s*(\S+)$", said, re.MULTILINE)
    assert done.returncode == 0, said[-2000:]
    assert "studio" in names
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("command", [["--version"], ["jobs"], ["models"], ["works"]])
def test_the_front_process_loads_no_model_library(command: list[str], tmp_path: Path) -> None:
    assert not loaded(["-m", "studio", *command], tmp_path) & (HEAVY | QT)


def test_the_session_is_loaded_without_a_model_library(tmp_path: Path) -> None:
    assert not loaded(["-c", "import studio.app.session, studio.cli, studio.demo, studio.show"], tmp_path) & (
        HEAVY | QT
    )


@pytest.mark.parametrize("start", [["-m", "studio.runtime.worker"], ["-m", "studio", "--worker"]])
def test_a_worker_without_work_has_loaded_no_library_no_window_and_no_command_line(
    start: list[str], tmp_path: Path
) -> None:
    # its standard input ends at once, and so does the worker
    names = loaded(start, tmp_path)
    assert not names & (HEAVY | QT | {"apsw", "argparse"})
