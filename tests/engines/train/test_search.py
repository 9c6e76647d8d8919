"""Searches over settings of trainings, on models of a few thousand numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from studio.core.cards import ModelCard
from studio.core.events import Event, Measured, Progress
from studio.core.learning import Range, SearchRecipe, Training, TrainTextRecipe
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult
from studio.engines.context import JobCancelled, RunContext
from studio.engines.train import search as module
from studio.engines.train import text as text_module
from studio.engines.train.loop import Learned
from studio.engines.train.search import Search, distributions
from tests.engines.train.worlds import dataset, surroundings, tales

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft of transformers

RATE = Range("rate", 1e-5, 1e-1, log=True)
GIVEN: dict[str, Any] = {
    "length": 24,
    "steps": 6,
    "check_every": 2,
    "sample_tokens": 4,
    "method": "scratch",
    "width": 16,
}
GIVEN |= {"heads": 2, "layers": 1, "vocabulary": 320, "name": "Best", "patience": 0}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(data: ModelCard, run: str, *over: Range, **more: Any) -> SearchRecipe:
    given = {"trials": 4, "seed": 3, "prune": False, **more}
    return SearchRecipe(training=TrainTextRecipe(data=data.id, **GIVEN), over=over or (RATE,), run=run, **given)


def searched(wanted: SearchRecipe, ctx: RunContext) -> Training:
    engine = Search()
    engine.load(ModelCard(id="search", name="", kind="search", engine="", path="", format=""), Plan(device="cpu"), ctx)
    engine.run(wanted, ctx)
    return msgspec.json.decode((ctx.out_dir / "0.training.json").read_bytes(), type=Training)


def figures(training: Training) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in training.trials]


def test_the_best_of_all_trials_is_kept_and_the_rest_is_gone(tmp_path: Path) -> None:
    data = dataset(tmp_path, tales(40), tales(8, seed=9))
    events: list[Event] = []
    training = searched(
        recipe(data, "s1", RATE, Range("batch", choices="2, 4")), surroundings(tmp_path, data, events=events)
    )
    assert [row["number"] for row in training.trials] == [0, 1, 2, 3]
    assert all(
        row["state"] == "complete" and 1e-5 <= row["rate"] <= 1e-1 and row["batch"] in (2, 4) for row in training.trials
    )
    best = min(training.trials, key=lambda row: row["value"])
    assert training.after["valid"] == best["value"] and training.best_step == best["best_step"]
    assert (tmp_path / "models" / "trained" / "best" / "model.safetensors").is_file()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["s1"]
    assert [p.name for p in (tmp_path / "runs" / "s1").iterdir()] == ["done.json"]
    assert sum(training.importance.values()) == pytest.approx(1.0, abs=0.01) and "rate" in training.importance
    done = [e.done for e in events if isinstance(e, Progress)]
    assert done == sorted(done) and done[-1] == 4 and {e.total for e in events if isinstance(e, Progress)} == {4}
    told = [e.values for e in events if isinstance(e, Measured)]
    assert [v["trial"] for v in told if "value" in v] == [0, 1, 2, 3]


def test_a_search_that_was_stopped_goes_on_as_it_would_have(tmp_path: Path) -> None:
    data = dataset(tmp_path, tales(40), tales(8, seed=9))
    whole = searched(recipe(data, "a"), surroundings(tmp_path, data))
    events: list[Event] = []
    ctx = surroundings(tmp_path, data, events=events, job="j2")

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Progress) and event.done >= 1.6:
            ctx._cancelled.set()

    ctx._emit = emit
    with pytest.raises(JobCancelled):
        searched(recipe(data, "b"), ctx)
    known = msgspec.json.decode((tmp_path / "runs" / "b" / "trials.json").read_bytes(), type=list[module.Trial])
    assert [t.state for t in known] == ["complete", "running"]
    again = searched(recipe(data, "b"), surroundings(tmp_path, data, job="j3"))
    assert figures(again) == figures(whole)


class Scripted:
    """Stands in for a trainer: what each trial finds at its looks."""

    def __init__(self, curves: list[list[float]]) -> None:
        self.curves = curves
        self.asked: list[TrainTextRecipe] = []

    def trial(self, wanted: TrainTextRecipe, ctx: RunContext, looked: Any) -> Learned:
        self.asked.append(wanted)
        curve = self.curves[len(self.asked) - 1]
        if not curve:
            raise BadResult("The loss was not a number any more.")
        for step, value in enumerate(curve, 1):
            looked(step, {"valid": value})
        after = {"valid": min(curve)}
        return Learned(
            steps=len(curve), best_step=1, before={}, after=after, curve=(), samples=(), estimate={}, seconds=1.0,
            peak_bytes=1,
        )  # fmt: skip

    def load(self, *_: Any) -> None: ...
    def unload(self) -> None: ...
    def made_with(self) -> Any:
        return text_module.TrainText().made_with()

    def run(self, wanted: TrainTextRecipe, ctx: RunContext) -> Any:
        self.asked.append(wanted)
        kept = Training(run=wanted.run, name="x", method="scratch", after={"valid": 0.0})
        (ctx.out_dir / "0.training.json").write_bytes(msgspec.json.encode(kept))


def scripted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curves: list[list[float]], **more: Any
) -> tuple[Training, Scripted]:
    trainer = Scripted(curves)
    monkeypatch.setattr(module, "_trainer", lambda training: trainer)
    data = ModelCard(id="d", name="d", kind="dataset", engine="", path="", format="text")
    return searched(recipe(data, "p", trials=len(curves), **more), surroundings(tmp_path, data)), trainer


def test_a_trial_that_is_worse_than_the_middle_one_is_ended_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, poor = [5.0, 4.0, 3.0, 2.0], [9.0, 9.0, 9.0, 9.0]
    training, trainer = scripted(tmp_path, monkeypatch, [good, good, good, poor, [4.0, 3.0, 2.0, 1.0]], prune=True)
    assert [row["state"] for row in training.trials] == ["complete", "complete", "complete", "pruned", "complete"]
    assert training.trials[3]["steps"] < 4
    assert trainer.asked[-1].run == "p-t0004" and trainer.asked[-1].rate == training.trials[4]["rate"]


def test_nothing_is_ended_early_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training, _ = scripted(tmp_path, monkeypatch, [[5.0, 4.0]] * 3 + [[9.0, 9.0]], prune=False)
    assert {row["state"] for row in training.trials} == {"complete"}


def test_a_trial_whose_loss_is_no_number_has_failed_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = scripted(tmp_path, monkeypatch, [[5.0], [], [4.0]])
    assert [row["state"] for row in training.trials] == ["complete", "failed", "complete"]
    assert "not a number" in training.trials[1]["why"]
    with pytest.raises(BadResult):
        scripted(tmp_path / "none", monkeypatch, [[], []])


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (Range("nonsense", 0, 1), "“nonsense” cannot be varied"),
        (Range("data", choices="a, b"), "“data” cannot be varied"),
        (Range("rate", 1, 0.1), "a lower and a higher value"),
        (Range("rate", 0, 0.1, log=True), "above 0"),
        (Range("rank", 0, 4), "Rank"),
        (Range("schedule", choices="cosine, square"), "Schedule"),
    ],
)
def test_what_cannot_be_varied_is_a_sentence(over: Range, words: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        distributions(SearchRecipe(training=TrainTextRecipe(data="d"), over=(over,)))
    assert caught.value.problem.field == "over" and words in caught.value.problem.sentence


def test_values_have_the_type_of_their_setting() -> None:
    over = (Range("rank", 2, 8), Range("packing", choices="true, false"), Range("schedule", choices="linear, cosine"))
    found = distributions(SearchRecipe(training=TrainTextRecipe(data="d"), over=over))
    assert (found["rank"].low, found["rank"].high) == (2, 8)
    assert found["packing"].choices == (True, False) and found["schedule"].choices == ("linear", "cosine")
