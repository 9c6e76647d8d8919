"""What every test may ask for. No test touches the network or the user's own data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.paths import Paths

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "home")
    made.make()
    return made


@pytest.fixture(autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that forgets to choose a data folder must not find the user's."""
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path_factory.getbasetemp() / "nobody"))
    yield  # noqa: PT022
