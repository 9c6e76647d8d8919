"""The studio as a user has it: the command line in processes of its own, with the starter models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Studio:
    """Runs commands on one data folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *words: str, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "studio", *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**os.environ, "STUDIO_HOME": str(self.home), "PYTHONPATH": str(ROOT), **environment},
            timeout=300,
        )

    def json(self, *words: str, stdin: bytes | None = None) -> dict[str, Any]:
        """The object a command prints; the command must succeed and print nothing else."""
        ended = self.run(*words, "--json", stdin=stdin)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        lines = ended.stdout.decode().splitlines()
        assert len(lines) == 1
        made: dict[str, Any] = json.loads(lines[0])
        return made

    def problem(self, *words: str, stdin: bytes | None = None) -> dict[str, Any]:
        """The Problem a command prints; it must fail, say one sentence, and show no traceback."""
        ended = self.run(*words, "--json", stdin=stdin)
        assert ended.returncode not in (0, 134, -6, -9, -11), ended.stdout + ended.stderr
        assert b"Traceback" not in ended.stderr
        lines = ended.stdout.decode().splitlines()
        assert len(lines) == 1, ended.stdout + ended.stderr
        said: dict[str, Any] = json.loads(lines[0])
        assert said["code"]
        assert said["sentence"].endswith((".", ".”", "?"))
        plain = self.run(*words, stdin=stdin)
        assert plain.returncode == ended.returncode
        assert said["sentence"] in plain.stderr.decode()
        assert b"Traceback" not in plain.stderr
        return said


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """One data folder for all end-to-end tests: putting the text starter together takes a second each time."""
    return Studio(tmp_path_factory.mktemp("studio") / "home")
