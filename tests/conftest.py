"""What every test may ask for. No test touches the network or the user's own data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.paths import Paths

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
if "PYTEST_XDIST_WORKER" in os.environ:  # the processors are shared with other tests
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Folders whose files take long. They are begun first, so that no process is left alone with one of them at the end.
SLOW = ("e2e", "test_run.py", "faults", "engines", "runtime", "ui", "app")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        ranks = {name: rank for rank, name in enumerate(SLOW)}
        here = Path(__file__).parent
        items.sort(key=lambda item: ranks.get(item.path.relative_to(here).parts[0], len(SLOW)))


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
