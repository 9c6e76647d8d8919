"""Texts when memory is short. llama.cpp is played by one that opens only what fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.plans import Plan
from studio.core.problems import OutOfMemory
from studio.engines.text import llama, llama_server
from studio.engines.text.llama import Llama
from tests.engines.text.jobs import Job, card_of, recipe

Opened = list[tuple[int, str]]


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[Llama, Opened]]:
    """An engine whose windows fit up to a length on each device; and what it opened, or tried to."""

    def make(fits: dict[str, int], *, graphics: bool = False, **plan: Any) -> tuple[Llama, Opened]:
        opened: Opened = []

        class Server:
            def __init__(self, path: Path, *, n_ctx: int, device: str, **_: Any) -> None:
                opened.append((n_ctx, device))
                if n_ctx > fits.get(device, 0):
                    raise OutOfMemory("There is not enough memory.")
                self.n_ctx, self.device = n_ctx, device

            def close(self) -> None: ...

        monkeypatch.setattr(llama, "LlamaServer", Server)
        monkeypatch.setattr(llama, "graphics_there", lambda: graphics)
        engine = Llama()
        engine._card, engine._plan = card_of(tmp_path), Plan(device="auto" if graphics else "cpu", **plan)
        return engine, opened

    return make


def test_each_text_that_is_written_in_a_shorter_window_says_so(
    short: Callable[..., tuple[Llama, Opened]], tmp_path: Path
) -> None:
    engine, opened = short({"cpu": 2048})
    for name in ("first", "second"):
        job = Job(tmp_path / name)
        assert engine._open(8192, job.ctx).n_ctx == 2048
        assert job.ctx.notes == ["Memory ran out, so the context window was made 2,048 tokens long."]
    assert len(opened) == 3, "what is open is used again"


def test_a_window_that_fitted_before_is_not_given_to_a_text_that_needs_more(
    short: Callable[..., tuple[Llama, Opened]], tmp_path: Path
) -> None:
    engine, opened = short({"cpu": 2048})
    ctx = Job(tmp_path).ctx
    engine._open(4096, ctx)
    with pytest.raises(OutOfMemory):
        engine._open(4096, ctx, 4096)
    assert opened[-1] == (4096, "cpu"), "the whole window was tried"
    engine, opened = short({"cpu": 3328})
    engine._open(4096, ctx)
    assert engine._open(4096, ctx, 3000).n_ctx == 3072
    assert opened == [(4096, "cpu"), (2048, "cpu"), (4096, "cpu"), (3072, "cpu")]


def test_first_the_processor_then_a_shorter_window(short: Callable[..., tuple[Llama, Opened]], tmp_path: Path) -> None:
    engine, opened = short({"auto": 0, "cpu": 1024}, graphics=True)
    job = Job(tmp_path)
    server = engine._open(4096, job.ctx)
    assert (server.n_ctx, server.device) == (1024, "cpu")
    assert opened == [(4096, "auto"), (4096, "cpu"), (2048, "cpu"), (1024, "cpu")]
    assert "processor" in job.ctx.notes[0] and "1,024 tokens" in job.ctx.notes[1]


def test_a_text_that_is_made_again_is_not_made_otherwise(
    short: Callable[..., tuple[Llama, Opened]], tmp_path: Path
) -> None:
    engine, opened = short({"cpu": 2048}, again=True, n_ctx=4096)
    with pytest.raises(OutOfMemory):
        engine._open(4096, Job(tmp_path).ctx)
    assert opened == [(4096, "cpu")]


def test_a_long_prompt_keeps_room_for_an_answer(short: Callable[..., tuple[Llama, Opened]], tmp_path: Path) -> None:
    engine, opened = short({"cpu": 3584})
    engine._card = msgspec.structs.replace(
        engine._card,
        limits=msgspec.structs.replace(engine._card.limits, context=8192),  # type: ignore[union-attr,type-var]
    )
    ctx = Job(tmp_path).ctx
    server = engine._open(1024, ctx)
    fitted = engine._fitted(server, 3000, recipe(prompt="x", max_tokens=2000), ctx)
    assert fitted.n_ctx == 3328 >= 3000 + llama.SHORTEST_ANSWER
    assert [n for n, _ in opened] == [1024, 8192, 4096, 3328]


@pytest.mark.parametrize(
    ("log", "error", "says"),
    [
        ("ggml: failed to allocate CPU buffer of size 402653184\n", RuntimeError("x"), "asked for 403 MB more"),
        ("failed to allocate output buffer of size 5.00 MiB\n", RuntimeError("x"), "open x.gguf; "),
        ("error loading model: mmap failed: Cannot allocate memory\n", RuntimeError("x"), "open x.gguf; "),
        ("", MemoryError("std::bad_alloc"), "open x.gguf; "),
    ],
)
def test_what_llama_cpp_lacked_is_told_in_numbers(log: str, error: Any, says: str) -> None:
    problem = llama_server._explained(Path("x.gguf"), log, error)
    assert isinstance(problem, OutOfMemory)
    assert says in str(problem) and "MB are free now" in str(problem)
