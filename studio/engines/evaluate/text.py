"""The engine "evaluate.text": texts and language models measured, and a report of it.

Knows which measures there are and what each needs; how they count is in measures.py, perplexity.py, bias.py and
toxicity.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from studio.core.cards import ModelCard
from studio.core.learning import EvaluateTextRecipe, Point, Report
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import Message, Recipe
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.evaluate import bias, intervals, measures, perplexity, reporting, toxicity
from studio.engines.evaluate.bias import Pair
from studio.engines.evaluate.judging import Judging
from studio.engines.evaluate.material import Task, in_step, read_dataset, read_lines, task_of
from studio.engines.evaluate.measures import Counted
from studio.engines.evaluate.reading import Reader, open_reader
from studio.engines.evaluate.reporting import Findings, short

AGAINST = ("bleu", "chrf", "rouge", "meteor")  # need what the texts should have been
ALONE = ("distinct", "self_bleu", "repetition", "toxicity")
EVERY = ("perplexity", *AGAINST, *ALONE, "bias")
NEEDS = {
    "perplexity": "A perplexity is measured of a model on a data set or a file of texts.",
    "bias": "Bias is measured of a model, with two groups of words.",
}
ALIKE = 200  # texts that are compared with one another
CONTINUED = 12  # beginnings about people that a model goes on with, for each group
CONTINUATION = 24  # tokens of each
REFERENCES = "References"
LIBRARIES = ("sacrebleu", "nltk", "numpy", "transformers", "torch", "tokenizers", "xllamacpp")


class EvaluateText(Judging):
    """See studio.engines.base."""

    kind: ClassVar[str] = "evaluate-text"
    name = "evaluate.text"
    libraries = LIBRARIES

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Measure what the recipe names. Leaves `0.report.json`.

        Raises:
            BadRecipe: nothing to measure, or a measure that lacks what it needs.
            NotRead: the data set is damaged. ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing,
            OutOfMemory: a model.
        """
        if not isinstance(recipe, EvaluateTextRecipe):
            raise ModelUnfit("This measures texts and language models.")
        ctx.check()
        begun = time.monotonic()
        evaluation = _Evaluation(recipe, self._plan, ctx)
        report = evaluation.made()
        self._device = evaluation.device
        return reporting.save(report, ctx, begun, self.made_with())


class _Evaluation:
    """One run."""

    def __init__(self, recipe: EvaluateTextRecipe, plan: Plan, ctx: RunContext) -> None:
        self.recipe, self.plan, self.ctx = recipe, plan, ctx
        self.device = "cpu"
        self.found = Findings(recipe.resamples, reporting.drawn(recipe.seed))
        self.cards = [ctx.card(name) for name in recipe.models]
        self.names = _different([card.name for card in self.cards])
        self.data = read_dataset(ctx.card(recipe.data), recipe.rows, ctx.check) if recipe.data else None
        self.file = read_lines(Path(recipe.candidates), "candidates", ctx.check) if recipe.candidates else None
        self.references = [read_lines(Path(each), "references", ctx.check) for each in recipe.references]
        if self.references and self.file is None:
            raise BadRecipe("References need a file of texts to compare.", "Give one.", field="candidates")
        if self.file is not None:
            in_step(self.file, self.references)
        self.tasks = self._tasks()
        self.measures = self._chosen()
        self.writes = bool(self.tasks) and any(name in self.measures for name in (*AGAINST, *ALONE))
        self.pairs = self._pairs() if "bias" in self.measures else []
        self.begun = bias.beginnings(self.pairs, CONTINUED)
        self.written: dict[str, list[str]] = {}  # whose -> the texts that are measured
        self.surprises: dict[str, list[perplexity.Surprise | None]] = {}
        self.leans: dict[str, dict[str, float]] = {}  # model -> topic -> nats
        self.done = 0
        self.total = self._amount()

    # -- what there is, and what can be measured of it

    def _tasks(self) -> list[Task]:
        if self.data is None or not self.cards or self.file is not None:
            return []
        every = [task_of(row, self.recipe.max_tokens) for row in self.data.rows]
        tasks = [task for task in every if task is not None]
        if len(tasks) < len(every):
            self.ctx.note(f"{len(every) - len(tasks):,} of {len(every):,} rows are too short to go on from.")
        return tasks

    def _chosen(self) -> tuple[str, ...]:
        """The measures that are asked for, or all that can be; in the order of a report."""
        texts = self.file is not None or self.data is not None
        if not texts and not self.cards:
            raise BadRecipe("There is nothing to measure.", "Choose a model, data or a file of texts.", field="models")
        can = dict.fromkeys(ALONE, texts)
        can |= {name: bool(self.references or self.tasks) for name in AGAINST}
        can["perplexity"] = bool(self.cards) and texts
        can["bias"] = bool(self.cards) and len(self.recipe.groups) > 1
        for name in self.recipe.measures:
            if not can[name]:
                sentence = NEEDS.get(name, "Texts are compared with references, and there are none.")
                raise BadRecipe(sentence, "Choose what it needs, or leave it out.", field="measures")
        asked: set[str] = set(self.recipe.measures) or {name for name in EVERY if can[name]}
        return tuple(name for name in EVERY if name in asked)

    def _pairs(self) -> list[Pair]:
        first, second = self.recipe.groups[0], self.recipe.groups[1]
        pairs = bias.pairs(first, second)
        if not pairs:
            raise BadRecipe(
                f"None of the words of “{first.name}” is in the sentences that probe for bias.",
                "Add words such as she, her, woman.", field="groups",
            )  # fmt: skip
        if len(self.recipe.groups) > 2:
            self.ctx.note(f"Bias is probed between the first two groups: {first.name} and {second.name}.")
        return pairs

    def _amount(self) -> int:
        """Units of progress: a text read or written is one."""
        each = len(self.tasks) * self.writes + 2 * len(self.pairs) + 2 * len(self.begun)
        each += len(self._read()) * ("perplexity" in self.measures)
        texts = len(self.measures) * (len(self.cards) * self.writes or 1)
        return len(self.cards) * each + texts

    def _read(self) -> Sequence[Any]:
        """What perplexity is measured on."""
        material = self.data if self.data is not None else self.file
        return material.rows if material is not None else ()

    def _step(self, phase: str) -> None:
        self.done += 1
        self.ctx.progress(self.done, max(self.total, self.done), "", phase)

    # -- the run

    def made(self) -> Report:
        for card, name in zip(self.cards, self.names, strict=True):
            self._ask(card, name)
        if self.file is not None:
            self.written[self.file.name] = self.file.texts()
        elif not self.cards and self.data is not None:
            self.written[self.data.name] = self.data.texts()
        self._texts()
        self.found.compare(list(dict.fromkeys([*self.names, *self.written])))
        self._tables()
        material = self.data or self.file
        about = f"{material.name}: {material.split} rows" if material and material.split else ""
        return self.found.report(
            self.ctx, self.recipe, libraries=LIBRARIES,
            data=about or (material.name if material else ""), data_sha256=material.sha256 if material else "",
        )  # fmt: skip

    def _ask(self, card: ModelCard, name: str) -> None:
        """All that a model itself is needed for."""
        room = self.recipe.window + max(self.recipe.max_tokens, CONTINUATION)
        reader = open_reader(card, room, self.plan.device, self.plan.threads, self.ctx)
        try:
            if reader.device != "cpu":
                self.device = reader.device
            window = min(self.recipe.window, reader.longest or self.recipe.window)
            if window < self.recipe.window:
                self.ctx.note(f"{name} was made to read {window:,} tokens at once; its window is that long.")
            if "perplexity" in self.measures:
                self._surprise(reader, name, window)
            if self.writes:
                self.written[name] = [
                    self._write(reader, window, task.beginning, task.turns, self.recipe.max_tokens)
                    for task in self.tasks
                ]
            if self.pairs:
                self._probe(reader, name, window)
        finally:
            reader.close()

    def _surprise(self, reader: Reader, name: str, window: int) -> None:
        check = self.ctx.check
        rows = []
        every: list[perplexity.Surprise | None] = []
        for row in self._read():
            check()
            if row.messages:
                whole = self._answers(reader, row.messages, window)
            else:
                whole = perplexity.of_text(reader, row.text, window, check)
            every.append(whole)
            rows.append(whole.row() if whole is not None else (0.0, 0.0, 0.0, 0.0))
            self._step("reading")
        self.surprises[name] = every
        stats = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
        scope = "answers" if any(row.messages for row in self._read()) else "texts"
        signature = f"window:{window}|stride:{max(1, window // 2)}|of:{scope}|by:{reader.how}"
        for measure, metric, unit in (
            ("Perplexity", perplexity.per_token, "per token"),
            ("Bits per byte", perplexity.bits_per_byte, "bits"),
            ("Bits per character", perplexity.bits_per_character, "bits"),
            ("Loss", perplexity.loss, "nats per token"),
        ):
            self.found.count(Counted(measure, stats, metric, unit, "lower", signature), name)

    def _answers(self, reader: Reader, turns: Sequence[Message], window: int) -> perplexity.Surprise | None:
        """Of all answers of a conversation together, each after what was said before it."""
        found = []
        for i, turn in enumerate(turns):
            if turn.role == "assistant" and i:
                before, stops = reader.chat(turns[:i])
                # a dialogue in plain text has a space after its colon; a model's own layout ends where answers begin
                lead = " " if stops else ""
                answer = perplexity.of_answer(reader, before, turn.content, window, self.ctx.check, lead)
                if answer is not None:
                    found.append(answer)
        return perplexity.joined(found) if found else None

    def _write(self, reader: Reader, window: int, beginning: str, turns: Sequence[Message], most: int) -> str:
        """What a model writes: the likeliest token each time."""
        self.ctx.check()
        tokens, stops = reader.chat(turns) if turns else (reader.tokens(beginning), ())
        tokens = [*reader.begin, *tokens][-window:]
        text = reader.write(tokens, most, self.ctx.check, stops) if tokens else ""
        self._step("writing")
        return text.strip() if turns else text

    def _probe(self, reader: Reader, name: str, window: int) -> None:
        """How much likelier a model finds the same sentence of one group than of the other, and how it goes on."""
        first, second = self.recipe.groups[0], self.recipe.groups[1]
        gaps = []
        for pair in self.pairs:
            nats = []
            for text in (pair.first, pair.second):
                found = perplexity.of_text(reader, text, window, self.ctx.check)
                nats.append(found.nats if found is not None else 0.0)
                self._step("probing")
            gaps.append(nats[1] - nats[0])
        gap = np.asarray(gaps, dtype=np.float64)
        signature = f"{first.name}/{second.name}|pairs:{len(gap)}"
        resamples, seed, add = self.found.resamples, self.found.seed, self.found.add
        likelier = intervals.of_means(100.0 * (gap > 0) + 50.0 * (gap == 0), resamples, seed)
        add(
            f"Likelier with {first.name}", likelier, name, len(gap), unit="% of pairs", signature=signature + "|even:50"
        )
        add(
            "Likelihood gap", intervals.of_means(gap, resamples, seed), name, len(gap), unit="nats", signature=signature
        )
        lean = bias.lean(gap, self.pairs)
        if len(lean) > 2:
            self.leans[name] = lean
            values = np.asarray(list(lean.values()), dtype=np.float64)
            without = np.asarray([np.std(np.delete(values, i)) for i in range(len(values))])
            spread = intervals.jackknifed(float(np.std(values)), without, low=0.0)
            add("Lean of topics", spread, name, len(values), unit="nats", better="lower", signature=signature)
        self._continue(reader, name, window, signature)

    def _continue(self, reader: Reader, name: str, window: int, signature: str) -> None:
        if not self.begun:
            return
        tone, words = toxicity.Tone(), toxicity.given(self.recipe.toxic)
        first, second = self.recipe.groups[0].name, self.recipe.groups[1].name
        tones, hits, rows = [], [], []
        for pair in self.begun:
            said = [self._write(reader, window, text, (), CONTINUATION) for text in (pair.first, pair.second)]
            tones.append(tone.of(said[0]) - tone.of(said[1]))
            hits.append(100.0 * (bool(words.found(said[0])) - bool(words.found(said[1]))))
            rows.append([pair.first + said[0], pair.second + said[1]])
        n, resamples, seed = len(rows), self.found.resamples, self.found.seed
        signature = f"{signature.split('|')[0]}|beginnings:{n}|tokens:{CONTINUATION}|greedy"
        self.found.add("Gap of tone", intervals.of_means(np.asarray(tones), resamples, seed), name, n,
                       signature=signature)  # fmt: skip
        self.found.add("Gap of listed words", intervals.of_means(np.asarray(hits), resamples, seed), name, n,
                       unit="% of texts", signature=signature)  # fmt: skip
        self.found.table(f"How {name} goes on", [f"Of {first}", f"Of {second}"], rows)

    # -- the texts

    def _texts(self) -> None:
        """Measure what was written, and what it should have been."""
        references = [each.texts() for each in self.references] or (
            [[task.reference for task in self.tasks]] if self.tasks else []
        )
        for of, texts in self.written.items():
            against: dict[str, Callable[[], list[Counted]]] = {
                "bleu": lambda texts=texts: [measures.bleu(texts, references)],  # type: ignore[misc]
                "chrf": lambda texts=texts: [measures.chrf(texts, references)],  # type: ignore[misc]
                "rouge": lambda texts=texts: measures.rouge(texts, references),  # type: ignore[misc]
                "meteor": lambda texts=texts: [measures.meteor(texts, references)],  # type: ignore[misc]
            }
            for name in AGAINST:
                if name in self.measures:
                    self.ctx.check()
                    for counted in against[name]():
                        self.found.count(counted, of)
                    self._step("measuring")
            self._alone(texts, of)
        if references and self.written:  # what the figures of the texts alone are to be seen beside
            self._alone(references[0], REFERENCES)

    def _alone(self, texts: list[str], of: str) -> None:
        found, check = self.found, self.ctx.check
        if "distinct" in self.measures:
            for n in (1, 2, 3):
                check()
                value, without = measures.distinct(texts, n)
                found.add(f"Distinct-{n}", intervals.jackknifed(value, without, 0.0, 100.0), of, len(texts), unit="%",
                          better="higher", signature=f"{n}-grams of words|jackknife")  # fmt: skip
            self._step("measuring")
        if "self_bleu" in self.measures and len(texts) > 1:
            found.count(measures.self_bleu(texts, ALIKE, check), of)
            self._step("measuring")
        if "repetition" in self.measures:
            check()
            found.count(measures.repetition(texts, 4), of)
            found.count(measures.longest_repeats(texts), of)
            self._step("measuring")
        if "toxicity" in self.measures:
            words = toxicity.given(self.recipe.toxic)
            for counted in toxicity.counted(texts, words):
                found.count(counted, of)
            hits = [[str(i + 1), ", ".join(dict.fromkeys(words.found(text)))] for i, text in enumerate(texts)]
            found.table(f"Listed words in {of}", ["Row", "Words"], [hit for hit in hits if hit[1]])
            self._step("measuring")

    def _tables(self) -> None:
        if self.tasks and self.written:
            rows = [
                [short(task.prompt, 300), task.reference, *(texts[i] for texts in self.written.values())]
                for i, task in enumerate(self.tasks)
            ]
            self.found.table("What was written", ["Prompt", "Reference", *self.written], rows)
        elif self.file is not None:
            columns = [self.file.texts(), *(each.texts() for each in self.references)]
            head = [self.file.name, *(each.name for each in self.references)]
            self.found.table("What was measured", head, list(zip(*columns, strict=True)))
        if self.surprises:
            points = []
            for i in range(len(self._read())):
                values = {
                    name: each.nats / (each.bytes * perplexity.LN2)
                    for name, every in self.surprises.items()
                    if (each := every[i]) is not None and each.bytes
                }
                points.append(Point(i + 1, 0.0, values))
            self.found.plots["Bits per byte of each row"] = points
        if self.leans:
            topics = sorted({topic for lean in self.leans.values() for topic in lean})
            first = next(iter(self.leans.values()))
            topics.sort(key=lambda topic: -first.get(topic, 0.0))
            toward = f"Leans to {self.recipe.groups[0].name} (below 0: to {self.recipe.groups[1].name}), nats"
            rows = [[t, *(reporting.figure(lean.get(t, float("nan"))) for lean in self.leans.values())] for t in topics]
            self.found.table("Lean of topics", ["Topic", *(f"{name}: {toward}" for name in self.leans)], rows)


def _different(names: Sequence[str]) -> list[str]:
    """The names, numbered where two are the same."""
    found: list[str] = []
    for name in names:
        count = names[: len(found)].count(name)
        found.append(f"{name} ({count + 1})" if count else name)
    return found
