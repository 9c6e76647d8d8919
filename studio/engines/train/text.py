"""Language models that learn: from scratch, as a whole, or by a LoRA. The engine “train.text”.

Knows what is learnt (a TextCourse), and what a training is made of from its recipe to the model that is kept; the loop
is in loop.py.

**Rows that are laid end to end do not see each other**: positions begin anew with each row, and from those transformers
makes a mask that keeps attention within rows. Where a model takes no positions (recurrent ones), rows are laid end to
end as in nanoGPT and see what is before them, which is told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import platform
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from studio.core.cards import ModelCard
from studio.core.learning import Made, Sampled, Training, TrainTextRecipe
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadSetting, ModelUnfit, OutOfMemory
from studio.core.recipes import MadeWith, Recipe
from studio.core.text import shown
from studio.core.works import Result
from studio.engines import device as devices
from studio.engines.context import RunContext
from studio.engines.evaluate.folder import look_at
from studio.engines.image import trouble
from studio.engines.text.templates import TemplateFailed
from studio.engines.train import finishing, text_models
from studio.engines.train import logits as last
from studio.engines.train.checkpoints import Checkpoints
from studio.engines.train.loop import LOOKS, Estimate, Learned, Rules, estimate, learn, seed_of
from studio.engines.train.sampling import write
from studio.engines.train.text_data import Windows, corpus, messages_of, nothing_to_learn, rows_of, text_of
from studio.engines.train.tokens import Tokens, new_tokenizer
from studio.models.fingerprint import fingerprint

ENGINE = "train.text"
RATES = {"scratch": 1e-3, "full": 5e-5, "lora": 2e-4, "qlora": 2e-4}
LOOKED_AT = 0.025  # of the windows of a training may be looked at in one validation; there are about twenty
LOOK_LEAST, LOOK_MOST = 16, 2000  # windows
LEAST_LOOKS = 6
TRIES = 4  # in the course of a training, beside before and after
PROMPTS = 2  # taken from the data, where none are given
PROMPT_WORDS = 8
PLAN_BYTES = 4_000_000  # of the data that are read for an estimate
TOKENIZER_BYTES = 200_000_000  # of the data that a new tokenizer is made from
_COSMETIC = {"name", "title", "made_with", "run", "plan_only", "prompts", "sample_tokens"}
_RUN = re.compile(r"[\w-][\w.-]{0,100}")

Batch = dict[str, Any]


@dataclasses.dataclass
class _Picking:
    """What is to reach the last layer in one call. `learnt`: which tokens, None for all; `parted`: later, in parts."""

    learnt: Tensor | None
    parted: bool
    hidden: Tensor | None = None


class TextCourse:
    """See loop.Course. The loss of a token is its cross-entropy; it counts once, whichever batch it is in.

    Args:
        model: in training mode, on the device. train, valid: windows; `valid` may be empty.
        looks: which windows of `valid` are looked at. batch: windows at once. parts: of a step.
        prompts: (as shown, tokens) to be tried.
    """

    unit = "tokens"

    def __init__(
        self, model: Any, tokens: Tokens, train: Windows, valid: Windows, looks: Sequence[int], batch: int, parts: int,
        seed: int, device: str, prompts: Sequence[tuple[str, list[int]]], sample_tokens: int, ctx: RunContext,
    ) -> None:  # fmt: skip
        self._model, self._tokens, self._train, self._valid = model, tokens, train, valid
        self._looks, self._batch, self._parts = looks, batch, parts
        self._seed, self._device = seed, device
        self._prompts, self._sample_tokens, self._ctx = prompts, sample_tokens, ctx
        self._longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        self._order: tuple[int, Any] = (-1, None)
        self._places = text_models.takes_positions(model)
        self._picking: _Picking | None = None
        self._head = model.get_output_embeddings()
        self._head.register_forward_pre_hook(self._before_head)
        self._tail, self._tail_known, self._parted = last.tail_of(model), False, True
        self._rows = last.rows_at_once(tokens.count)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"": self._model}

    def chosen(self, step: int, part: int) -> list[int]:
        """The windows of a part: every window once in each epoch, each time in another order."""
        first = (step * self._parts + part) * self._batch
        found = []
        for at in range(first, first + self._batch):
            epoch, place = divmod(at, len(self._train))
            if self._order[0] != epoch:
                order = np.random.default_rng(seed_of(self._seed, epoch)).permutation(len(self._train))
                self._order = epoch, order
            found.append(int(self._order[1][place]))
        return found

    def weight(self, step: int, part: int) -> float:
        return float(sum(self._train.labels(number) for number in self.chosen(step, part)))

    def batch(self, step: int, part: int) -> Batch:
        return self._laid(self._train, self.chosen(step, part))

    def _laid(self, windows: Windows, numbers: Sequence[int]) -> Batch:
        """Windows beside each other. Shorter ones are filled up behind, where nothing before it can see it."""
        found = [windows.window(number) for number in numbers]
        longest = max(len(ids) for ids, _, _ in found) - 1
        ids, positions = (torch.zeros(len(found), longest, dtype=torch.long) for _ in range(2))
        labels = torch.full((len(found), longest), -100, dtype=torch.long)
        used = 0
        for row, (tokens, learnt, places) in enumerate(found):
            count = len(tokens) - 1
            used += count
            ids[row, :count] = torch.from_numpy(tokens[:-1])
            last = int(places[count - 1]) if count else -1
            filled = np.arange(last + 1, last + 1 + longest - count)
            positions[row] = torch.from_numpy(np.concatenate([places[:count], filled]))
            labels[row, :count] = torch.from_numpy(np.where(learnt[1:], tokens[1:], -100))
        made: Batch = {"input_ids": ids.to(self._device), "labels": labels.to(self._device), "units": used}
        if self._places:
            made["position_ids"] = positions.to(self._device)
        return made

    def units(self, batch: Batch) -> int:
        return int(batch["units"])

    def loss(self, batch: Batch) -> Tensor:
        labels = batch["labels"]
        learnt = labels != -100
        more = {"position_ids": batch["position_ids"]} if self._places else {}
        every = bool(learnt.all())
        wanted = labels.flatten() if every else labels[learnt]
        parted = self._parted and len(wanted) > self._rows
        self._picking = _Picking(None if every else learnt, parted)
        try:
            logits = self._model(input_ids=batch["input_ids"], use_cache=False, **more).logits
            hidden = self._picking.hidden
        finally:
            self._picking = None
        if parted and hidden is not None:
            if not self._tail_known:
                self._parted = self._tail_known = last.holds(self._tail, hidden[:1], logits.reshape(1, -1))
            if self._parted:
                return last.summed(self._tail, self._head, hidden, wanted, self._rows)
            return self.loss(batch)  # a model that does more with its logits than is known
        return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), wanted, reduction="sum")

    def _before_head(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before the last layer: without the tokens that have no label. It is half of the work of a small model."""
        picking = self._picking
        if picking is None:
            return None
        hidden = args[0] if picking.learnt is None else args[0][picking.learnt]
        if picking.parted:
            picking.hidden = hidden.flatten(0, -2)
            hidden = picking.hidden[:1]  # the rest is done afterwards, see logits.py
        return (hidden, *args[1:])

    def validate(self) -> dict[str, float]:
        total, count = 0.0, 0
        for at in range(0, len(self._looks), self._batch):
            self._ctx.check()
            batch = self._laid(self._valid, self._looks[at : at + self._batch])
            total += float(self.loss(batch))
            count += int((batch["labels"] != -100).sum())
        return {"valid": total / count} if count else {}

    def sample(self, step: int) -> Sequence[Sampled]:
        made = []
        for index, (prompt, ids) in enumerate(self._prompts):
            seed = seed_of(self._seed, index) % (1 << 62)
            most = min(self._sample_tokens, self._longest - len(ids)) if self._longest else self._sample_tokens
            written = write(self._model, ids, most, self._tokens.ends(), seed, self._ctx.check)
            sample = Sampled(step, prompt, text=self._tokens.text(written))
            self._ctx.tried(step, index, prompt, text=sample.text)
            made.append(sample)
        return made


class Sitting:
    """One training, open: a model, its data and its rules.

    Args:
        folder: of the run. shared: of tokens, which other trainings of the same data may use.
        planning: only for an estimate; a part of the data is enough. trial: of a search; no prompts are tried.

    Raises:
        BadRecipe, ModelUnfit, ModelMissing, ModelBroken, ModelRefused, OutOfMemory, NotRead, NotSaved.
    """

    def __init__(
        self, recipe: TrainTextRecipe, plan: Plan, ctx: RunContext, folder: Path, shared: Path, planning: bool = False,
        trial: bool = False,
    ) -> None:  # fmt: skip
        self.recipe, self.ctx, self.folder, self._trial = recipe, ctx, folder, trial
        self.seed = recipe.seed or 0
        self.data = finishing.data_card(ctx, recipe.data)
        self.device, self.dtype = _device(plan, recipe)
        self.kept = Checkpoints(folder)
        self.base: ModelCard | None = None if recipe.method == "scratch" else ctx.card(recipe.model)
        self.threads = plan.threads
        if not planning:
            settings = {k: v for k, v in msgspec.to_builtins(recipe).items() if k not in _COSMETIC}
            settings |= {"data": self.data.sha256, "device": self.device, "precision": self.dtype}
            self.threads = self.kept.begin(settings, plan.threads)
        torch.set_num_threads(max(1, self.threads))
        if recipe.method == "qlora":
            _check_four_bits(self.device)

        self.base_path = folder / "tokenizer"
        if self.base is not None:
            self.base_path = text_models.base_folder(self.base, ctx)
            _check_room(self.base_path, recipe, self.device)
        elif not (self.base_path / "tokenizer.json").is_file():
            self._make_tokenizer(planning)
        tokenizer = text_models.open_tokenizer(self.base_path, self.base.name if self.base else "the new model")
        self.tokens = Tokens(tokenizer, recipe.answers_only)
        try:
            self._open(tokenizer, shared, planning)
        except BaseException:
            self.tokens.close()
            raise

    def _make_tokenizer(self, planning: bool) -> None:
        """A new tokenizer beside the checkpoints: complete, or not there."""
        temporary = self.folder / "tokenizer.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        most = PLAN_BYTES if planning else TOKENIZER_BYTES

        def texts() -> Iterator[str]:
            read = [0]
            for row in rows_of(Path(self.data.path) / "train.jsonl", lambda count: read.__setitem__(0, count)):
                self.ctx.check()
                if messages := messages_of(row):
                    yield from (each["content"] for each in messages)
                else:
                    yield text_of(row)
                if read[0] >= most:
                    return

        self.ctx.loading("tokenizer")
        new_tokenizer(texts(), self.recipe.vocabulary, temporary, self.data.format == "chat")
        text_models.flush(temporary)
        temporary.rename(self.base_path)

    def _open(self, tokenizer: Any, shared: Path, planning: bool) -> None:
        recipe, ctx, data = self.recipe, self.ctx, Path(self.data.path)
        share = 1.0  # of the data to what was read of them

        def told(read: int) -> None:
            ctx.check()

        ctx.loading(self.data.name)
        most = PLAN_BYTES if planning else 0
        chat = self.data.format == "chat"
        lines = [
            corpus(data / f"{s}.jsonl", self.tokens, shared, self.data.sha256, told, most) for s in ("train", "valid")
        ]
        train, valid = (Windows(line, recipe.length, recipe.packing, chat) for line in lines)
        if not len(train):
            raise nothing_to_learn(self.data.name, lines[0].left_out)
        if lines[0].left_out:
            ctx.note(f"{lines[0].left_out:,} rows were left out: they have nothing that could be learnt.")
        if planning:
            share = max(1.0, (data / "train.jsonl").stat().st_size / max(1, lines[0].bytes))
        at_once = recipe.batch * recipe.accumulate
        steps = recipe.steps or max(1, math.ceil(recipe.epochs * len(train) * share / at_once))
        self.total_tokens = round(len(lines[0]) * share)

        most_looks = min(LOOK_MOST, max(LOOK_LEAST, math.ceil(steps * at_once * LOOKED_AT)))
        count = min(len(valid), most_looks)
        looks = [int(i) for i in np.unique(np.linspace(0, len(valid) - 1, count).astype(int))] if count else []
        if not len(valid):
            ctx.note("The data set has no rows for validation: the last weights are kept, and it never stops early.")
        ctx.loading(self.base.name if self.base else self.recipe.name or "model")
        self.model = self._model(tokenizer)
        if recipe.packing and not text_models.takes_positions(self.model):
            ctx.note("Rows that are laid end to end see those before them in this model.")
        self.rules = Rules(
            steps=steps, rate=recipe.rate or RATES[recipe.method], seed=self.seed, accumulate=recipe.accumulate,
            warmup=recipe.warmup, schedule=recipe.schedule, decay=recipe.decay, clip=recipe.clip,
            betas=(0.9, 0.95) if recipe.method == "scratch" else (0.9, 0.999),
            check_every=recipe.check_every or math.ceil(steps / _looks(steps * at_once, len(looks))),
            patience=recipe.patience, device=self.device, precision=self.dtype, threads=self.threads,
        )  # fmt: skip
        every = max(1, math.ceil(steps / (TRIES + 1) / self.rules.look_every)) * self.rules.look_every
        self.rules = msgspec.structs.replace(self.rules, sample_every=every)
        self.course = TextCourse(
            self.model, self.tokens, train, valid, looks, recipe.batch, recipe.accumulate, self.seed, self.device,
            self._prompts(), recipe.sample_tokens, ctx,
        )  # fmt: skip
        self.tokens.close()  # templates are not needed any more
        ids, _, _ = train.window(0)
        self.probe_ids = [int(i) for i in ids[: text_models.PROBE]]

    def _model(self, tokenizer: Any) -> Any:
        recipe = self.recipe
        if self.base is None:
            model = text_models.new_model(recipe, tokenizer, self.seed)
        elif recipe.method == "qlora":
            model = text_models.in_four_bits(self.base_path, self.base.name, self.device)
        else:
            model = text_models.open_model(self.base_path, self.base.name, self.base_dtype)
        longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        if longest and recipe.length > longest:
            raise ModelUnfit(
                f"“{shown(self.base.name if self.base else '')}” reads at most {longest:,} tokens at once.",
                "Choose a shorter length.", field="length",
            )  # fmt: skip
        if recipe.checkpointing:
            text_models.save_memory(model)
        if recipe.method in ("lora", "qlora"):
            assert self.base is not None
            model = text_models.with_adapter(model, recipe, self.seed, self.base.id)
        elif recipe.method == "full":
            for parameter in model.parameters():
                parameter.requires_grad_(True)
        return (model if recipe.method == "qlora" else model.to(self.device)).train()

    @property
    def base_dtype(self) -> str:
        """Weights that are learnt are float32; those under an adapter may be in the format of the computing."""
        return self.dtype if self.recipe.method in ("lora", "qlora") else "float32"

    def _prompts(self) -> list[tuple[str, list[int]]]:
        """What is tried: as given, or the beginnings of some rows."""
        if self._trial:
            return []
        chat = self.data.format == "chat"
        given: list[list[dict[str, str]] | str] = [
            [{"role": "user", "content": prompt}] if chat else prompt for prompt in self.recipe.prompts
        ]
        for split in ("valid", "train"):
            for row in rows_of(Path(self.data.path) / f"{split}.jsonl"):
                if len(given) >= PROMPTS or self.recipe.prompts:
                    break
                messages = messages_of(row)
                if messages is not None:
                    at = next((n for n, each in enumerate(messages) if each["role"] == "assistant"), 0)
                    if at:
                        given.append(messages[:at])
                elif text := " ".join(text_of(row).split()[:PROMPT_WORDS]):
                    given.append(text)
        made = []
        for each in given:
            shows = each if isinstance(each, str) else each[-1]["content"]
            with contextlib.suppress(TemplateFailed):
                ids = self.tokens.opening(each) if isinstance(each, str) else self.tokens.prompt(each)
                if ids:
                    made.append((shows, ids[-self.recipe.length :]))
        return made

    def learn(self, looked: Callable[[int, dict[str, float]], None] | None = None, opened: float = 0.0) -> Learned:
        """As `loop.learn`. `opened`: seconds that everything before took; opening what was saved takes as long."""
        return learn(self.course, self.rules, self.ctx, self.kept, looked=looked, before=opened, after=opened)

    def estimate(self, opened: float) -> Estimate:
        return estimate(self.course, self.rules, self.ctx, before=opened, after=opened)

    def finish(self, learned: Learned, made_with: MadeWith) -> Made:
        """Keep what was learnt as a model among the others, loaded back and tried.

        Raises:
            BadResult: it does not do the same when it is loaded back. JobCancelled. OSError.
        """
        recipe, adapter = self.recipe, self.recipe.method in ("lora", "qlora")
        before = text_models.probe(self.model, self.probe_ids)
        sha = fingerprint(Path(self.base.path), self.ctx.cache_dir) if self.base else ""
        dtype = "float32"
        if self.base is not None and not adapter:
            dtype = _own_dtype(self.base_path)
        name = recipe.name or self.data.name
        about = finishing.about(
            name=name, method=recipe.method, run=recipe.run, seed=self.seed, data=self.data, learned=learned,
            base=self.base, base_sha256=sha, made_with=made_with,
        )  # fmt: skip
        readme = finishing.model_card(
            name, self._lines(learned), learned, licence=self.base.licence if self.base else "", front=self._front()
        )

        def written(folder: Path) -> None:
            if adapter:
                text_models.save_adapter(self.model, folder)
            else:
                text_models.save_whole(self.model, folder, dtype)
                self.tokens.save(folder)
            (folder / "studio.json").write_bytes(about)
            (folder / "README.md").write_bytes(readme)

        def checked(folder: Path) -> str:
            self.release()
            if adapter:
                assert self.base is not None
                if recipe.method == "qlora":
                    model = text_models.in_four_bits(self.base_path, self.base.name, self.device)
                    model = text_models.under_adapter(model, folder)
                else:
                    model = text_models.loaded_adapter(
                        self.base_path, self.base.name, folder, self.base_dtype, self.device
                    )
                how = "with peft"
            else:
                model = text_models.open_model(folder, name).to(self.device)
                how = "with transformers"
            exact = dtype == "float32" and self.dtype == "float32"
            after = text_models.probe(model, self.probe_ids)
            return text_models.compared(before, after, how, text_models.NEAR if exact else text_models.HALF)

        return finishing.place(self.ctx, name, "adapter" if adapter else "model", written, checked)

    def _lines(self, learned: Learned) -> list[str]:
        what = {"scratch": "A language model that was trained from scratch", "full": "A language model, fine-tuned",
                "lora": "A LoRA for a language model", "qlora": "A LoRA for a language model in 4 bits"}  # fmt: skip
        base = f" on “{self.base.name}”" if self.base else ""
        lines = [
            f"{what[self.recipe.method]}{base}, made with an offline studio.",
            f"Data: “{self.data.name}”, SHA-256 `{self.data.sha256}`, {self.total_tokens:,} tokens for training.",
            f"Learning rate {self.rules.rate:g}, {self.recipe.batch * self.recipe.accumulate} windows of "
            f"{self.recipe.length} tokens a step, seed {self.seed}.",
        ]
        if self.data.format == "chat" and not self.tokens.template:
            lines.append(
                "Conversations were laid out plainly, as “User: …” and “Assistant: …”: choose the template “plain”."
            )
        return lines

    def _front(self) -> dict[str, Any]:
        adapter = self.recipe.method in ("lora", "qlora")
        return {
            "library_name": "peft" if adapter else "transformers",
            "base_model": self.base.id if self.base else "",
            "pipeline_tag": "text-generation",
        }

    def release(self) -> None:
        """Let go of the model; tokens stay."""
        self.model = self.course = None  # type: ignore[assignment]
        trouble.give_back(self.device)

    def close(self) -> None:
        self.tokens.close()
        self.release()


class TrainText:
    """Engine “train.text”. Between two jobs it holds nothing."""

    kind = "train-text"

    def __init__(self) -> None:
        self._plan = Plan()
        self._device, self._dtype, self._threads = "cpu", "", 0
        self.shared: Path | None = None  # where tokens lie that the trials of a search have in common

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        self._plan, self._threads = plan, plan.threads

    def unload(self) -> None:
        trouble.give_back(self._device)

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine=ENGINE, device=self._device, dtype=self._dtype, threads=self._threads, versions=_versions(),
            system=f"{platform.system()} {platform.machine()}",
        )  # fmt: skip

    def open(self, recipe: TrainTextRecipe, ctx: RunContext, folder: Path, **how: bool) -> Sitting:
        """A training that is ready to begin or to go on."""
        shared = self.shared or folder
        sitting = Sitting(recipe, self._plan, ctx, folder, folder if how.get("planning") else shared, **how)
        self._device, self._dtype, self._threads = sitting.device, sitting.dtype, sitting.threads
        return sitting

    def trial(
        self, recipe: TrainTextRecipe, ctx: RunContext, looked: Callable[[int, dict[str, float]], None] | None = None
    ) -> Learned:
        """Learn and keep nothing but checkpoints, for a search. `looked` as in loop.learn. Raises as `run`."""
        sitting = self.open(recipe, ctx, run_folder(ctx, recipe.run), trial=True)
        try:
            return sitting.learn(looked)
        finally:
            sitting.close()

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        assert isinstance(recipe, TrainTextRecipe)
        ctx.check()
        began = time.perf_counter()
        if recipe.plan_only:
            return self._planned(recipe, ctx)
        folder = run_folder(ctx, recipe.run)
        if (training := finishing.ended(folder)) is not None:  # killed between the end and its being heard
            artifacts = finishing.told(ctx, training, began, _meta(training))
            return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))
        sitting = self.open(recipe, ctx, folder)
        try:
            learned = sitting.learn(opened=time.perf_counter() - began)
            made = sitting.finish(learned, self.made_with())
            training = training_of(sitting, learned, (made,), ctx)
        finally:
            sitting.close()
        artifacts = finishing.report(ctx, folder, training, began, self.made_with(), _meta(training))
        finishing.tidy(folder)
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    def _planned(self, recipe: TrainTextRecipe, ctx: RunContext) -> Result:
        """What it would take; nothing of it is kept."""
        folder, began = ctx.out_dir / "plan", time.perf_counter()
        try:
            sitting = self.open(recipe, ctx, folder, planning=True)
            try:
                found = sitting.estimate(time.perf_counter() - began)
            finally:
                sitting.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        meta = {
            "seconds": found.seconds, "least": found.least, "bytes": found.bytes, "steps": found.steps,
            "tokens": round(found.units * found.steps),
        }  # fmt: skip
        artifact = ctx.save("0.estimate.json", msgspec.json.encode(meta), meta=meta)
        return Result(artifacts=(artifact,), made_with=self.made_with(), notes=tuple(ctx.notes))


def training_of(sitting: Sitting, learned: Learned, made: tuple[Made, ...], ctx: RunContext) -> Training:
    return Training(
        run=sitting.recipe.run, name=sitting.recipe.name or sitting.data.name, method=sitting.recipe.method,
        base=sitting.base.id if sitting.base else "", data=sitting.data.id, data_sha256=sitting.data.sha256,
        steps=learned.steps, planned=sitting.rules.steps, best_step=learned.best_step, before=learned.before,
        after=learned.after, curve=learned.curve, samples=learned.samples, made=made, estimate=learned.estimate,
        seconds=round(learned.seconds, 3), peak_bytes=learned.peak_bytes, why=learned.why, notes=tuple(ctx.notes),
    )  # fmt: skip


def _meta(training: Training) -> dict[str, Any]:
    meta: dict[str, Any] = {"steps": training.steps, "best_step": training.best_step, "method": training.method}
    for when, values in (("before", training.before), ("after", training.after)):
        if "valid" in values:
            meta[when] = round(values["valid"], 4)
    return meta


def run_folder(ctx: RunContext, run: str) -> Path:
    """The folder of a run. Raises BadRecipe: that is no name of one."""
    if not run:
        return ctx.out_dir / "run"
    if not _RUN.fullmatch(run):
        raise BadRecipe("That is not the name of a run.", field="run")
    return ctx.paths.runs / run


def _looks(learnt: int, looked: int) -> int:
    """How often validation is looked at, so that it takes about a quarter of the time of the learning itself.

    A window that is learnt from takes as long as three that are only looked at.
    """
    return max(LEAST_LOOKS, min(LOOKS, round(0.25 * 3 * learnt / max(1, looked))))


def _device(plan: Plan, recipe: TrainTextRecipe) -> tuple[str, Literal["float32", "bfloat16", "float16"]]:
    try:
        device, suited = devices.pick(plan.device, "auto")
    except BadSetting:
        if not plan.again:
            raise
        device, suited = devices.pick("auto", "auto")
    if recipe.precision != "auto":
        return device, recipe.precision
    if device == "mps" or suited == "float32":
        return device, "float32"
    return device, "bfloat16" if suited == "bfloat16" else "float16"


def _check_four_bits(device: str) -> None:
    from studio.core.abilities import no_four_bits

    if why := no_four_bits(device.startswith("cuda")):
        raise ModelUnfit(why, "Choose the method lora.", field="method")


def _check_room(folder: Path, recipe: TrainTextRecipe, device: str) -> None:
    """Refuse early what cannot fit: weights in float32; with their gradients and moments, where all of them learn."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    number = {"float32": 4}.get(_own_dtype(folder), 2)
    times = 4 / number * (4 if recipe.method == "full" else 1)
    if recipe.method == "qlora":
        times = 0.6 / number
    free = trouble.free_memory(device)
    if free is not None and size * times > free:
        raise OutOfMemory(
            f"This training needs at least {trouble.size(size * times)} of memory; {trouble.size(free)} are free now.",
            "Take the method lora, or a smaller model." if recipe.method == "full" else "Take a smaller model.",
        )


def _own_dtype(folder: Path) -> str:
    config = look_at(folder)
    said = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return said if said in devices.DTYPES else "float32"


@functools.cache  # reading a package's metadata takes milliseconds
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "tokenizers", "safetensors"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
