"""The window under test: a virtual screen, the real session, fast engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import pytest
from pytestqt.qtbot import QtBot

from studio.core.paths import Paths


@pytest.fixture
def open_window(qtbot: QtBot, paths: Paths) -> Iterator[Callable[..., Any]]:
    """Opens windows and closes them after the test."""
    from tests.ui.rig import Rig

    rigs: list[Rig] = []

    def make(*arguments: Any, **more: Any) -> Rig:
        rigs.append(Rig(qtbot, paths, *arguments, **more))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(open_window: Callable[..., Any]) -> Any:
    """An open window on an empty library."""
    return open_window()
