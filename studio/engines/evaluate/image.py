"""The engine "evaluate.image": pictures measured, against others and against their prompts.

Knows which measures there are and what each needs; looks.py, features.py, distances.py and adherence.py know how.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from studio.core.learning import EvaluateImageRecipe, Report
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import Recipe, check
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.evaluate import adherence, distances, features, intervals, looks, reporting
from studio.engines.evaluate.adherence import Following
from studio.engines.evaluate.features import Judge
from studio.engines.evaluate.gallery import Gallery, Picture, gallery, opened
from studio.engines.evaluate.intervals import Array
from studio.engines.evaluate.judging import Judging
from studio.engines.evaluate.measures import Counted
from studio.engines.evaluate.reporting import Findings, figure

REFERENCES = "References"
LIBRARIES = ("numpy", "pillow", "torch", "transformers", "diffusers", "onnxruntime")
HELD = 32  # pictures that are open at once


class EvaluateImage(Judging):
    """See studio.engines.base."""

    kind: ClassVar[str] = "evaluate-image"
    name = "evaluate.image"
    libraries = LIBRARIES

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Measure the pictures that are there, or those that a model paints. Leaves `0.report.json`.

        Raises:
            BadRecipe: nothing to measure, or what a measure needs is missing. NotRead: a picture or a row.
            ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory: a model.
        """
        if not isinstance(recipe, EvaluateImageRecipe):
            raise ModelUnfit("This measures pictures.")
        ctx.check()
        begun = time.monotonic()
        painted = ctx.out_dir / "painted"  # they are measured and not kept
        try:
            report = _Evaluation(recipe, self._plan, ctx, painted).made()
        finally:
            shutil.rmtree(painted, ignore_errors=True)
        return reporting.save(report, ctx, begun, self.made_with())


class _Evaluation:
    """One run."""

    def __init__(self, recipe: EvaluateImageRecipe, plan: Plan, ctx: RunContext, painted: Path) -> None:
        self.recipe, self.plan, self.ctx, self._painted = recipe, plan, ctx, painted
        self.found = Findings(recipe.resamples, reporting.drawn(recipe.seed))
        self.done = self.total = 0
        self._scores: dict[int, float] = {}  # place of a picture -> CLIP score
        if not recipe.pictures and not recipe.model:
            raise BadRecipe(
                "There are no pictures to measure.", "Choose a folder, a data set, or a model with prompts.",
                field="pictures",
            )  # fmt: skip
        if recipe.pictures and recipe.model:
            raise BadRecipe("Either pictures that are there are measured or those of a model.", "Leave one out.",
                            field="model")  # fmt: skip
        if recipe.model and not recipe.prompts:
            raise BadRecipe("A model needs prompts to paint.", "Give one a line.", field="prompts")
        self.others = gallery(recipe.references, ctx.paths, "references", ctx.check) if recipe.references else None
        self.ours = self._paint() if recipe.model else self._there()
        for each in (self.ours, self.others):
            if each is not None and each.left_out:
                ctx.note(f"Of “{each.name}” the first {len(each.pictures):,} pictures are measured.")

    def _there(self) -> Gallery:
        """The pictures of a folder or data set; prompts that are given belong to them in order."""
        found = gallery(self.recipe.pictures, self.ctx.paths, "pictures", self.ctx.check)
        prompts = self.recipe.prompts
        if prompts and len(prompts) != len(found.pictures):
            raise BadRecipe(
                f"There are {len(prompts):,} prompts and {len(found.pictures):,} pictures.",
                "In order they belong together; without prompts those beside the pictures are taken.", field="prompts",
            )  # fmt: skip
        if not prompts:
            return found
        pictures = tuple(Picture(p.path, words) for p, words in zip(found.pictures, prompts, strict=True))
        return Gallery(found.name, pictures, found.left_out)

    def _paint(self) -> Gallery:
        """A picture of each prompt, by the engine of the image tab."""
        from studio.engines.image.diffusion import Diffusion

        card = self.ctx.card(self.recipe.model)
        engine = Diffusion()
        pictures = []
        try:
            for i, prompt in enumerate(self.recipe.prompts):
                folder = self._painted / str(i)
                folder.mkdir(parents=True)
                inner = RunContext(self.ctx.job and "painting", folder, self.ctx.cache_dir, lambda event: None,
                                   _Same(self.ctx))  # fmt: skip
                if not i:
                    self.ctx.loading(card.name)
                engine.load(card, self.plan, inner)
                seed = self.ctx.seed(self.found.seed, i)
                asked = {**card.defaults, "prompt": prompt, "count": 1, "seed": seed}
                checked = check("image", asked).recipe
                (master,) = (a for a in engine.run(checked, inner).artifacts if a.role == "master")
                pictures.append(Picture(folder / master.name, prompt))
                self._step("painting", len(self.recipe.prompts))
        finally:
            engine.unload()
        return Gallery(card.name, tuple(pictures))

    def _step(self, phase: str, more: int = 0) -> None:
        """A picture is done. `more`: how many there are to be done in this phase."""
        if not self.total:
            sides = [self.others] if self.others is not None else []
            painted = len(self.recipe.prompts) if self.recipe.model else 0
            there = painted or len(self.ours.pictures)
            looked = there + sum(len(each.pictures) for each in sides)
            self.total = painted + looked * (1 + bool(self.recipe.encoder)) + there
        self.done += 1
        self.ctx.progress(self.done, max(self.total, self.done), "pictures", phase)

    # -- the run

    def made(self) -> Report:
        self._looks()
        if self.recipe.encoder:
            self._judge()
        self._follow()
        paths = [picture.path for picture in self.ours.pictures]
        return self.found.report(
            self.ctx, self.recipe, libraries=LIBRARIES, data=f"{self.ours.name}: {len(paths):,} pictures",
            data_sha256=reporting.together(paths),
        )  # fmt: skip

    def _looks(self) -> None:
        """Light, colour, edges, and which pictures are nearly the same: needs no model."""
        for whose, each in ((self.ours.name, self.ours), (REFERENCES, self.others)):
            if each is None:
                continue
            every = []
            for picture in each.pictures:
                self.ctx.check()
                every.append(looks.look(opened(picture)))
                self._step("looking")
            for name, unit, how, values in (
                ("Light", "of 100", "mean of luma", [x.light for x in every]),
                ("Contrast", "of 100", "deviation of luma", [x.contrast for x in every]),
                ("Colourfulness", "", "Hasler & Süsstrunk 2003", [x.colour for x in every]),
                ("Sharpness", "", f"variance of the Laplacian at {looks.SIDE} px", [x.sharp for x in every]),
                ("Edges", "% of pixels", f"Sobel above {looks.EDGE:g} at {looks.SIDE} px", [x.edges for x in every]),
            ):
                stats = np.column_stack([np.asarray(values), np.ones(len(values))])
                self.found.count(Counted(name, stats, intervals.ratio, unit, "", f"{how}|mean over pictures"), whose)
            pairs = looks.near([x.mark for x in every])
            twice = {place for pair in pairs for place in pair}
            share = np.asarray([100.0 * (i in twice) for i in range(len(every))])
            interval = intervals.of_means(share, self.found.resamples, self.found.seed)
            self.found.add("Nearly the same as another", interval, whose, len(every), unit="% of pictures",
                           better="lower", signature=f"difference hash|{looks.NEAR} of 64 bits")  # fmt: skip
            names = [picture.path.name for picture in each.pictures]
            self.found.table(f"Nearly the same in {whose}", ["One", "Other"], [[names[a], names[b]] for a, b in pairs])

    def _judge(self) -> None:
        """FID and KID against the references, and CLIP score against the prompts, by a model of the user's."""
        self.ctx.loading(Path(self.recipe.encoder).name)
        judge = Judge(Path(self.recipe.encoder), self.plan.device, self.plan.threads)
        try:
            seen = self._seen(judge, self.ours)
            signature = f"{judge.name}|{judge.how}|features:{seen.shape[1]}"
            n, of, resamples, seed = len(seen), self.ours.name, self.found.resamples, self.found.seed
            if self.others is not None:
                others = self._seen(judge, self.others)
                found = distances.fid_interval(seen, others, resamples, seed, self.ctx.check)
                sizes = f"{signature}|pictures:{n}/{len(others)}"
                self.found.add("FID", found, of, n, better="lower", signature=sizes)
                kid = distances.kid_interval(seen, others, resamples, seed)
                self.found.add("KID", kid, of, n, better="lower", signature=f"{sizes}|cubic kernel")
                if min(n, len(others)) < 2048:
                    self.ctx.note(
                        "FID of fewer than about 2,000 pictures is too high; KID is not, and compares better."
                    )
            elif not judge.reads:
                raise BadRecipe("FID and KID need pictures to compare with.", "Give references.", field="references")
            prompts = [picture.prompt for picture in self.ours.pictures]
            if judge.reads and any(prompts):
                places = [i for i, prompt in enumerate(prompts) if prompt]
                read = judge.read([prompts[i] for i in places], self.ctx.check)
                score = features.likeness(seen[places], read)
                self.found.add("CLIP score", intervals.of_means(score, resamples, seed), of, len(places),
                               better="higher", signature=signature)  # fmt: skip
                self._scores = dict(zip(places, score, strict=True))
        finally:
            judge.close()

    def _seen(self, judge: Judge, each: Gallery) -> Array:
        found = []
        for at in range(0, len(each.pictures), HELD):
            part = [opened(picture) for picture in each.pictures[at : at + HELD]]
            found.append(judge.see(part, self.ctx.check))
            for _ in part:
                self._step("judging")
        return np.concatenate(found)

    def _follow(self) -> None:
        """How many words of the prompts a classifier sees in the pictures."""
        classifier = self._classifier()
        if classifier is None:
            self._sheet([])
            return
        rows: list[dict[str, bool]] = []
        for at in range(0, len(self.ours.pictures), HELD):
            self.ctx.check()
            part = self.ours.pictures[at : at + HELD]
            images = [opened(picture) for picture in part]
            rows += classifier.followed(images, [picture.prompt for picture in part])
            for _ in part:
                self._step("following")
        known = [row for row in rows if row]
        if not known:
            self.ctx.note("None of the prompts has a word that the classifier knows.")
        else:
            about = classifier.about
            signature = f"{len(about.words)} words|right on held-out pictures:{100 * about.accuracy:.1f} %"
            words = np.asarray([(100.0 * sum(row.values()), float(len(row))) for row in known])
            whole = np.asarray([(100.0 * all(row.values()), 1.0) for row in known])
            for name, stats, unit in (("Prompt adherence", words, "% of words"), ("All of the prompt", whole, "%")):
                self.found.count(Counted(name, stats, intervals.ratio, unit, "higher", signature), self.ours.name)
            self._by_word(known, classifier)
        self._sheet(rows)

    def _by_word(self, known: Sequence[dict[str, bool]], classifier: Following) -> None:
        every: dict[str, list[bool]] = {}
        for row in known:
            for word, seen in row.items():
                every.setdefault(word, []).append(seen)
        right = classifier.about.of_word
        rows = [
            [word, str(len(seen)), figure(100.0 * sum(seen) / len(seen)), figure(100.0 * right.get(word, float("nan")))]
            for word, seen in sorted(every.items())
        ]
        self.found.table("Adherence by word", ["Word", "Pictures", "Seen, %", "Classifier right, %"], rows)

    def _classifier(self) -> Following | None:
        """The one that is given, or one that learns from the references where these are captioned and enough."""
        prompts = any(picture.prompt for picture in self.ours.pictures)
        if self.recipe.classifier:
            if not prompts:
                raise BadRecipe("How well prompts are followed needs prompts.", "Give them, or a text beside each "
                                "picture.", field="prompts")  # fmt: skip
            return Following(Path(self.recipe.classifier))
        captioned = [p for p in self.others.pictures if p.prompt] if self.others is not None else []
        if not prompts or len(captioned) < adherence.FEWEST:
            return None

        def progress(done: int, total: int) -> None:
            self.ctx.check()
            if not done % 20:
                self.ctx.progress(self.done, max(self.total, self.done), "pictures", "learning to judge")

        captions = [picture.prompt for picture in captioned]
        mark = reporting.together([p.path for p in captioned], [*captions, str(self.found.seed)])
        folder = self.ctx.cache_dir / "classifiers" / mark[:16]
        try:
            if not (folder / adherence.ABOUT).is_file():
                images: list[Image.Image] = []
                for picture in captioned:
                    self.ctx.check()
                    side = adherence.SIDE, adherence.SIDE
                    images.append(opened(picture).resize(side, Image.Resampling.LANCZOS))
                adherence.train(folder, images, captions, seed=self.found.seed, progress=progress)
            found = Following(folder)
        except BadRecipe as error:
            self.ctx.note(f"How well prompts are followed was not measured: {error.problem.sentence}")
            return None
        about = found.about
        self.ctx.note(
            f"A classifier learnt {len(about.words)} words from {about.pictures:,} of the references; on "
            f"{about.held_out:,} others it was right in {100 * about.accuracy:.1f} % of cases."
        )
        return found

    def _sheet(self, rows: Sequence[dict[str, bool]]) -> None:
        """A row for each picture that has a prompt."""
        if not any(picture.prompt for picture in self.ours.pictures):
            return
        head = ["Picture", "Prompt"] + ["CLIP score"] * bool(self._scores) + ["Seen", "Not seen"] * bool(rows)
        found = []
        for i, picture in enumerate(self.ours.pictures):
            name = str(i + 1) if self.recipe.model else picture.path.name
            row = [name, picture.prompt] + [figure(self._scores.get(i, float("nan")))] * bool(self._scores)
            if rows:
                row += [", ".join(w for w, seen in rows[i].items() if seen is wanted) for wanted in (True, False)]
            found.append(row)
        self.found.table("Prompts", head, found)


class _Same(threading.Event):
    """Set as soon as the job is cancelled that a picture is painted for."""

    def __init__(self, ctx: RunContext) -> None:
        super().__init__()
        self._ctx = ctx

    def is_set(self) -> bool:
        return self._ctx.cancelled or super().is_set()
