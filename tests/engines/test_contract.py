"""What every engine keeps to. A new engine is one line in CASES; an engine without a case fails the first test."""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from studio.core.cards import ModelCard
from studio.core.events import Event, Progress
from studio.core.paths import Paths
from studio.core.plans import Plan
from studio.core.problems import StudioError
from studio.core.recipes import Recipe, check, kind_of
from studio.core.works import Result
from studio.engines import ENGINES
from studio.engines.base import Engine
from studio.engines.context import JobCancelled, RunContext
from studio.models import registry
from tests.engines.text import tiny_models

# engine -> what to make with the starter: small, with several steps
CASES: dict[str, dict[str, Any]] = {
    "text.llama": {"prompt": "Once upon a time", "max_tokens": 12, "n": 2},
    "text.transformers": {"prompt": "Once upon a time", "max_tokens": 12, "n": 2},
    "image.diffusers": {"prompt": "red apple", "steps": 3, "count": 2, "width": 64, "height": 64},
    "speech.piper": {"text": "One. Two. Three."},
}
KINDS = {"text.llama": "text", "text.transformers": "text", "image.diffusers": "image", "speech.piper": "speech"}
NOT_GENERATIVE = {
    "export.files", "data.sets", "image.edit", "image.upscale", "image.cutout", "image.sheet", "evaluate.text",
    "evaluate.image", "evaluate.speech",
    "train.convert", "train.text", "train.search", "train.image",
}  # fmt: skip


class Bench:
    """One engine with its starter loaded."""

    def __init__(self, name: str, folder: Path) -> None:
        paths = Paths(folder)
        paths.make()
        self.name = name
        self.folder = folder
        self.card = self._model(paths)
        module, _, attribute = ENGINES[name].partition(":")
        self.engine: Engine = getattr(importlib.import_module(module), attribute)()
        self.plan = Plan(device="cpu", threads=2)
        self.count = 0
        self.load()

    def _model(self, paths: Paths) -> ModelCard:
        """The starter; of an engine without one, a small model that a person might have brought."""
        if self.name == "text.transformers":
            tiny_models.model(paths.models / "tiny")
            return registry.choose(registry.found(paths)[0], "text", "tiny")
        return registry.choose(registry.found(paths)[0], KINDS[self.name])

    def load(self) -> None:
        self.engine.load(self.card, self.plan, self.context([])[0])

    def recipe(self, **more: Any) -> Recipe:
        given = {**self.card.defaults, **CASES[self.name], "seed": 11, **more}
        return check(KINDS[self.name], given).recipe

    def context(self, events: list[Event], after: int = -1) -> tuple[RunContext, Path]:
        """A fresh context that is cancelled when it has reported progress `after` times."""
        self.count += 1
        out = self.folder / "out" / str(self.count)
        out.mkdir(parents=True)
        cancelled = threading.Event()

        def emit(event: Event) -> None:
            events.append(event)
            if sum(isinstance(e, Progress) for e in events) == after:
                cancelled.set()

        return RunContext("j1", out, self.folder / "cache", emit, cancelled), out

    def run(self, recipe: Recipe) -> tuple[Result, list[Event], Path]:
        events: list[Event] = []
        ctx, out = self.context(events)
        return self.engine.run(recipe, ctx), events, out

    def digests(self, recipe: Recipe) -> list[str]:
        result, _, _ = self.run(recipe)
        return [a.sha256 for a in result.artifacts if a.role == "master"]


@pytest.fixture(scope="module", params=sorted(CASES))
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(request.param, tmp_path_factory.mktemp("bench"))
    yield made
    made.engine.unload()


def test_every_registered_engine_has_a_case() -> None:
    assert set(ENGINES) == set(CASES) | NOT_GENERATIVE


def test_the_same_recipe_and_seed_give_the_same_bytes(bench: Bench) -> None:
    assert bench.digests(bench.recipe()) == bench.digests(bench.recipe())


def test_another_seed_gives_another_work(bench: Bench) -> None:
    assert set(bench.digests(bench.recipe())).isdisjoint(bench.digests(bench.recipe(seed=99)))


def test_what_is_returned_is_on_disk_complete_and_described(bench: Bench) -> None:
    result, _, out = bench.run(bench.recipe())
    masters = [a for a in result.artifacts if a.role == "master"]
    assert [a.index for a in masters] == list(range(len(masters)))
    assert [a.seed for a in masters] == [11 + i for i in range(len(masters))]
    for artifact in result.artifacts:
        data = (out / artifact.name).read_bytes()
        assert len(data) == artifact.bytes > 0
        assert hashlib.sha256(data).hexdigest() == artifact.sha256
        msgspec.json.encode(artifact)
    assert all(a.seconds > 0 for a in masters)
    thumbnails = [a for a in result.artifacts if a.role == "thumbnail"]
    assert [a.index for a in thumbnails] == [a.index for a in masters]
    for thumbnail in thumbnails:
        with Image.open(out / thumbnail.name) as image:
            assert max(image.size) <= 256
            assert len(image.convert("L").getcolors() or []) > 1, "not one flat colour"
    assert not [p.name for p in out.iterdir() if p.name.endswith(".tmp")]


def test_progress_never_goes_back_and_reaches_its_end(bench: Bench) -> None:
    _, events, _ = bench.run(bench.recipe())
    progress = [e for e in events if isinstance(e, Progress)]
    assert progress
    assert [e.done for e in progress] == sorted(e.done for e in progress)
    assert all(0 <= e.done <= e.total for e in progress)
    assert progress[-1].done > 0


def test_a_cancel_is_heard_within_one_step_and_the_engine_stays_good(bench: Bench) -> None:
    before = bench.digests(bench.recipe())
    events: list[Event] = []
    ctx, _ = bench.context(events, after=1)
    with pytest.raises(JobCancelled):
        bench.engine.run(bench.recipe(), ctx)
    heard = [e for e in events if isinstance(e, Progress)]
    assert len(heard) <= 2, "at most one more step after the cancel"
    assert bench.digests(bench.recipe()) == before


def test_a_job_cancelled_before_it_starts_does_nothing(bench: Bench) -> None:
    ctx, out = bench.context([])
    ctx._cancelled.set()
    with pytest.raises(JobCancelled):
        bench.engine.run(bench.recipe(), ctx)
    assert list(out.iterdir()) == []


def test_it_tells_the_circumstances(bench: Bench) -> None:
    result, _, _ = bench.run(bench.recipe())
    made_with = result.made_with
    assert made_with.engine == bench.name
    assert made_with.device == "cpu"
    assert made_with.threads == 2
    assert "python" in made_with.versions
    assert made_with.system


COUNTING = {"text.llama": "Once upon a time", "text.transformers": "Once upon a time", "image.diffusers": "red apple"}


def test_an_engine_that_counts_tokens_counts_its_own_and_changes_nothing(bench: Bench) -> None:
    count = getattr(bench.engine, "count_tokens", None)
    assert (count is not None) == (bench.name in COUNTING)
    if count is None:
        return
    text = COUNTING[bench.name]
    before = bench.digests(bench.recipe())
    empty, once, thrice = count(""), count(text), count(" ".join([text] * 3))
    assert 0 <= empty < once < thrice < 3 * once + 8
    assert count(text) == once
    assert bench.digests(bench.recipe()) == before
    if bench.card.kind == "text":  # in this mode the engine tells how many tokens it read
        result, _, _ = bench.run(bench.recipe(mode="complete", n=1))
        assert [a.meta["prompt_tokens"] for a in result.artifacts if a.role == "master"] == [once]
    bench.engine.unload()
    with pytest.raises(StudioError):
        count(text)
    bench.load()


def test_unloading_and_loading_again_changes_nothing(bench: Bench) -> None:
    before = bench.digests(bench.recipe())
    bench.engine.unload()
    bench.load()
    assert bench.digests(bench.recipe()) == before


def test_a_model_that_is_not_there_is_a_sentence(bench: Bench, tmp_path: Path) -> None:
    missing = msgspec.structs.replace(bench.card, id="gone", path=str(tmp_path / "gone"), parts=())
    with pytest.raises(StudioError) as caught:
        bench.engine.load(missing, bench.plan, bench.context([])[0])
    assert caught.value.problem.sentence.endswith(".")
    bench.load()
    assert kind_of(bench.recipe()) == bench.card.kind
