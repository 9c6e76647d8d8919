"""Folders and loaded engines that the picture tests share: one of each per session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported by any test

from studio.core.plans import Plan
from studio.engines.image.diffusion import Diffusion
from tests.engines.image import tiny

PLAN = Plan(device="cpu", threads=1)  # one thread: two that wait for each other on a busy machine are far slower


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny pipeline, or of the starter."""
    home, made = tmp_path_factory.mktemp("models"), {}

    def get(family: str) -> Path:
        if family == "starter":
            return tiny.STARTER
        if family not in made:
            made[family] = tiny.save_tiny(family, home)
        return made[family]

    return get


@pytest.fixture(scope="session")
def engine_of(folder_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Diffusion]:
    """A loaded engine of a family."""
    made: dict[str, Diffusion] = {}

    def get(family: str) -> Diffusion:
        if family not in made:
            made[family] = Diffusion()
        card = tiny.starter_card() if family == "starter" else tiny.card(folder_of(family), family)
        made[family].load(card, PLAN, tiny.Around(tmp_path_factory.mktemp("load")).ctx)
        return made[family]

    return get


@pytest.fixture
def around(tmp_path: Path) -> tiny.Around:
    return tiny.Around(tmp_path)
