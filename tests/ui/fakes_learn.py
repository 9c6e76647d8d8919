"""Fast fakes of what makes data sets, trains and evaluates; their title is the script, as for those of `fakes`."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import msgspec

from studio.core.learning import Dataset, Made, Measure, Point, Report, Sampled, Split, Training
from studio.core.problems import BadRecipe
from studio.core.works import Result
from studio.engines.context import JobCancelled, RunContext
from tests.ui.fakes import JPEG, Fake

STEPS = 8


class FakeSets(Fake):
    kind = "dataset"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        if recipe.preview_only:
            if any("unreadable" in each for each in recipe.sources):
                raise BadRecipe("There is no column “words”.", "There are a, b.", field="text")
            looked = {
                "shape": "text", "count": len(recipe.sources), "bytes": 1234, "columns": ["body", "title"],
                "files": [{"name": Path(each).name, "kind": "text", "bytes": 9} for each in recipe.sources],
                "rows": [{"text": "<b>first</b> row"}, {"text": "", "dropped": "too short"}],
                "notes": ["Read as UTF-8."],
            }  # fmt: skip
            if any("empty" in each for each in recipe.sources):
                looked |= {"shape": "", "rows": [], "columns": []}
            made = ctx.save("0.dataset.json", msgspec.json.encode(looked), meta={"preview": True})
            return Result(artifacts=(made,), made_with=self.made_with())
        words = self.begin(recipe)
        for step in range(STEPS):
            ctx.progress(step + 1, STEPS, "", "reading")
            self.pace(words, ctx)
        rows = [f'{{"text": "row {n} of {recipe.name}"}}\n' for n in range(30)]
        sha = hashlib.sha256("".join(rows).encode()).hexdigest()
        captions = "captions" in words
        dataset = Dataset(
            id=f"{recipe.name.split()[0].lower()}-{sha[:12]}", name=recipe.name,
            shape="captions" if captions else "text", sha256=sha,
            created=f"2026-01-01T00:00:{time.time() % 60:06.3f}Z",
            splits={"train": Split(rows=27, bytes=900, words=90), "valid": Split(rows=3, bytes=90, words=9)},
            recipe=recipe, dropped={"the same as another row": 4}, languages={"en": 29, "de": 1},
            notes=("Two rows were mended.",), lengths={"64": 20, "128": 10}, samples=({"text": "<i>row</i> 0"},),
            balance={
                "groups": [
                    {"name": "women", "count": 9, "per_million": 90.0, "rows": 7, "words": {"she": 9},
                     "beside": [{"word": "home", "count": 7, "others": 1, "z": 2.5}]},
                    {"name": "men", "count": 12, "per_million": 120.0, "rows": 9, "words": {"he": 12}, "beside": []},
                ]
            },
        )  # fmt: skip
        folder = ctx.paths.datasets / dataset.id
        folder.mkdir(parents=True, exist_ok=True)
        data = msgspec.json.encode(dataset)
        (folder / "train.jsonl").write_text("".join(rows))
        (folder / "dataset.json").write_bytes(data)
        about = {"dataset": dataset.id, "rows": 30}
        made = ctx.save("0.dataset.json", data, meta=about)
        return Result(artifacts=(made,), made_with=self.made_with(), notes=dataset.notes)


class FakeTrainer(Fake):
    kind = "train-text"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        if recipe.plan_only:
            ctx.progress(1, 4, "parts", "reading the weights")
            plan = msgspec.json.encode({"seconds": 372.0, "bytes": 1.4e9, "steps": 9})
            made = ctx.save("0.estimate.json", plan, meta={"seconds": 372.0})
            return Result(artifacts=(made,), made_with=self.made_with())
        words = self.begin(recipe)
        curve: list[Point] = []
        samples: list[Sampled] = []
        for step in range(STEPS + 1):
            values = {"loss": 3.0 / (step + 1), "rate": 1e-3, "norm": 1.0}
            if step % 4 == 0:
                values["valid"] = [2.0, 1.0, 1.5][step // 4]
                for index, prompt in enumerate(recipe.prompts or ("<b>Once</b>",)):
                    samples.append(Sampled(step, prompt, f"sample {step}"))
                    if self.kind == "train-image":
                        ctx.tried(step, index, prompt, jpeg=JPEG)
                    else:
                        ctx.tried(step, index, prompt, text=f"sample {step}")
            curve.append(Point(step, step * 0.1, values))
            ctx.measured(step, step * 0.1, values)
            ctx.progress(step, STEPS, "steps", "learning")
            try:
                self.pace(words if step == 5 else words - {"hold"}, ctx)
            except JobCancelled:
                if "half" in words:
                    self._save(recipe, ctx, curve, samples, complete=False)
                raise
        return Result(artifacts=(self._save(recipe, ctx, curve, samples),), made_with=self.made_with())

    def _save(self, recipe: Any, ctx: RunContext, curve: Any, samples: Any, *, complete: bool = True) -> Any:
        training = Training(
            run=recipe.run, name=recipe.name, method=recipe.method, steps=len(curve) - 1, planned=STEPS, best_step=4,
            before={"valid": 2.0}, after={"valid": 1.0}, curve=tuple(curve), samples=tuple(samples), seconds=0.8,
            made=(Made("adapter", "/nowhere/soft", bytes=1200, checked="Loaded back: the same logits."),),
            notes=("It went well.",),
        )  # fmt: skip
        return ctx.save(
            "0.training.json", msgspec.json.encode(training), meta={"steps": len(curve) - 1}, complete=complete
        )


class FakePictureTrainer(FakeTrainer):
    kind = "train-image"


class FakeSearch(Fake):
    kind = "search"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        words = self.begin(recipe)
        for trial in range(3):
            for step in range(3):
                ctx.measured(step, 0.1 * step, {"loss": 3.0 - step, "trial": float(trial)})
            value, best = 2.5 - 0.5 * trial, 2.5 - 0.5 * trial
            ctx.measured(trial, 0.3, {"trial": float(trial), "value": value, "best": best, "rate": 10.0 ** (trial - 4)})
            ctx.progress(trial + 1, 3, "trials", "learning")
        self.pace(words, ctx)
        training = Training(
            run=recipe.run, name=recipe.training.name, method=recipe.training.method,
            trials=({"number": 0, "rate": 1e-4, "value": 2.5, "state": "complete"},
                    {"number": 1, "rate": 1e-3, "value": 1.5, "state": "complete"},
                    {"number": 2, "rate": 1e-2, "value": 0.5, "state": "pruned"}),
            importance={"rate": 0.8, "rank": 0.2},
        )  # fmt: skip
        made = ctx.save("0.training.json", msgspec.json.encode(training), meta={})
        return Result(artifacts=(made,), made_with=self.made_with())


class FakeJudge(Fake):
    kind = "evaluate-text"

    def run(self, recipe: Any, ctx: RunContext) -> Result:
        words = self.begin(recipe)
        for step in range(STEPS):
            ctx.progress(step + 1, STEPS, "rows", "measuring")
            self.pace(words, ctx)
        models = recipe.models or ("texts",)
        better = 5.0 if "better" in words else 0.0
        measures = [
            Measure(name="BLEU", value=20.0 + better + at, low=19.0 + better + at, high=21.0 + better + at, of=of,
                    better="higher", n=30, signature="nrefs:1")
            for at, of in enumerate(models)
        ]  # fmt: skip
        measures.append(Measure(name="perplexity", value=9.5 - better, low=9.0 - better, high=10.0 - better,
                                of=models[0], better="lower", n=30))  # fmt: skip
        report = Report(
            title=recipe.title, created="2026-01-01T00:00:00Z", measures=tuple(measures), data="stories",
            tables={"Candidates": [["prompt", "text"], ["<b>a</b>", "b"], ["c", "d"]]}, data_sha256="ab" * 32,
            plots={"Loss by place": [Point(0, 0.0, {"loss": 3.0}), Point(1, 0.0, {"loss": 2.0})]},
            seeds=(7,), versions={"fake": "1"}, notes=("Measured on 30 rows.",),
        )  # fmt: skip
        made = ctx.save("0.report.json", msgspec.json.encode(report), meta={"measures": len(measures)})
        return Result(artifacts=(made,), made_with=self.made_with())


# as the worker names them: an engine is named by its module and its class
NAMES = {
    "data.sets": "FakeSets", "train.text": "FakeTrainer", "train.image": "FakePictureTrainer",
    "train.search": "FakeSearch", "evaluate.text": "FakeJudge", "evaluate.image": "FakeJudge",
    "evaluate.speech": "FakeJudge",
}  # fmt: skip
