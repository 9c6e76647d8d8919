"""Texts from folders of safetensors through transformers.

Writes by the library's own `generate`, so that the same arguments and seed give the same text there. Knows recipes,
tokens and windows; knows nothing of queues, windows on a screen or databases.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import secrets
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, BadResult, BadSetting, ModelMissing, ModelUnfit
from studio.core.recipes import SEED_LIMIT, MadeWith, Recipe, TextRecipe
from studio.core.works import Artifact, Result
from studio.engines import device as devices
from studio.engines import shortage
from studio.engines.context import JobCancelled, RunContext
from studio.engines.text import opening, underway
from studio.engines.text.adapters import Adapters
from studio.engines.text.reading import Reader, Unrolled
from studio.engines.text.underway import ANSWER_ROOM, USUAL_WINDOW, Underway
from studio.models import memory
from studio.models.fingerprint import model_files


class TransformersText:
    """The engine "text.transformers". Holds one model; see studio.engines.base for the order of calls."""

    kind: ClassVar[str] = "text"

    def __init__(self) -> None:
        self._card: ModelCard | None = None
        self._plan = Plan()
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._model: Any = None
        self._reader: Reader | None = None
        self._adapters: Adapters | None = None
        self._device = self._dtype = ""
        self._window = 0  # of the last text
        self._away = False  # the weights are in this computer's memory, to be moved back to the card

    # --- loading

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Open a folder. What is open already, unchanged and on the same device, stays.

        Raises:
            BadSetting: the device is not there. ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing,
            OutOfMemory
        """
        opening.library()
        import torch

        device, dtype = self._pick(plan, card)
        torch.set_num_threads(max(1, plan.threads))
        self._plan = plan
        stamp = _stamp(Path(card.path))
        if self._model is not None and (card, device, dtype, stamp) == self._loaded:
            if self._away:
                self._model.to(device)
                self._away = False
            return
        self.unload()
        ctx.check()
        ctx.loading(card.name)
        folder = Path(card.path)
        opening.look_at(folder, card.name)
        reader = Reader(opening.open_tokenizer(folder, card.name))
        if reader.template:
            reader.start()  # gets ready while the model loads
        try:
            model = opening.open_model(folder, card.name, device, dtype)
            reader.settle(model)
        except BaseException:
            reader.close()
            shortage.give_back(device)
            raise
        self._model, self._reader, self._adapters = model, reader, Adapters(model, device)
        self._card, self._device, self._dtype, self._stamp = card, device, dtype, stamp
        ctx.loading(card.name, 1.0)

    @property
    def _loaded(self) -> tuple[Any, ...]:
        return self._card, self._device, self._dtype, self._stamp

    @staticmethod
    def _pick(plan: Plan, card: ModelCard) -> tuple[str, str]:
        try:
            return devices.pick(plan.device, plan.dtype, weights=card.needs.weights)
        except BadSetting:
            if not plan.again:
                raise
            return devices.pick("auto", "auto", weights=card.needs.weights)  # made on another computer

    def park(self) -> bool:
        """Move the model from the graphics card to this computer's memory; the next `load` moves it back.

        Returns:
            False where it has no card with memory of its own, or this computer's memory is too short for it.
        """
        if self._model is None or not self._device.startswith("cuda"):
            return False
        if not self._away:
            free = shortage.free_memory("cpu")
            held = sum(p.numel() * p.element_size() for p in self._model.parameters())
            if free is not None and held > free * (1 - memory.RESERVE):
                return False
            self._away = True
            try:
                self._model.to("cpu")
            except (RuntimeError, MemoryError) as error:
                if not shortage.is_out_of_memory(error):
                    raise
                return False
        shortage.give_back(self._device)
        return True

    def unload(self) -> None:
        """Let go of the model and give its memory back to the system."""
        had, device = self._model is not None, self._device
        if self._reader is not None:
            self._reader.close()
        self._model = self._reader = self._adapters = self._card = None
        self._device, self._dtype, self._stamp, self._away, self._window = "", "", (), False, 0
        if had:
            shortage.give_back(device)

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine="text.transformers",
            model_sha256=self._card.sha256 if self._card else "",
            device=self._device or "cpu",
            dtype=self._dtype,
            threads=self._plan.threads,
            n_ctx=self._window,
            versions={"python": platform.python_version()} | _versions("torch", "transformers", "tokenizers", "peft"),
            system=f"{platform.system()} {platform.machine()}",
        )

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads `text` as, with the one that marks the beginning if it wants one.

        Raises:
            ModelMissing: nothing is loaded.
        """
        if self._reader is None:
            raise ModelMissing("No text model is loaded.")
        return len(self._reader.tokens(text, whole=True))

    # --- writing

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Write `recipe.n` texts, one after another with seed, seed + 1, …; each is a file of UTF-8 text.

        The file holds what the model wrote, without the prompt. The pieces sent as tokens, joined, are that text.

        Raises:
            BadRecipe: the prompt does not fit the window. ModelUnfit: no such template, a LoRA that does not fit, or
            not a recipe for a text. BadResult: the numbers are none. OutOfMemory, JobCancelled. OSError: a file could
            not be written.
        """
        if not isinstance(recipe, TextRecipe):
            raise ModelUnfit("A text model can only write texts.")
        if self._reader is None or self._adapters is None:
            raise ModelMissing("No text model is loaded.")
        ctx.check()
        # 1. what is laid over the model
        self._adapters.lay(recipe.loras, ctx)
        # 2. what it reads, as numbers
        prompt, stops, trim = self._prompt(self._reader, recipe, ctx)
        if not prompt:
            raise BadRecipe("The model reads nothing in this prompt.", "Write some words.", field="prompt")
        self._window = self._fitted(len(prompt), recipe, ctx)
        # 3. the texts
        first = secrets.randbelow(SEED_LIMIT) if recipe.seed is None else recipe.seed
        artifacts: list[Artifact] = []
        for index in range(recipe.n):
            ctx.check()
            text = Underway(ctx, recipe, index, len(prompt), stops, trim)
            writing = _Writing(self._reader, ctx, recipe, prompt, text)
            try:
                artifacts += writing.write(self._model, ctx.seed(first, index), self._window)
            except (RuntimeError, MemoryError) as error:
                if not shortage.is_out_of_memory(error):
                    raise
                shortage.give_back(self._device)
                raise opening.out_of_memory(error, "writing", self._device) from error
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    @property
    def _longest(self) -> int:
        """Tokens the model was made for, 0 if it does not say."""
        return (self._card.limits.context if self._card else None) or 0

    def _fitted(self, count: int, recipe: TextRecipe, ctx: RunContext) -> int:
        """The window, in tokens, for a prompt of `count` tokens and its answer. Memory is only taken as it is filled.

        Raises:
            BadRecipe: the prompt does not fit.
        """
        longest = self._longest
        if longest and count >= longest:
            raise underway.beyond_model(count, longest)
        underway.note_shorter(ctx, recipe.context, longest)
        window = recipe.context or max(self._plan.n_ctx or USUAL_WINDOW, count + min(recipe.max_tokens, ANSWER_ROOM))
        window = min(window, longest or window)
        if count >= window:
            raise underway.beyond_window(count, window, longest)
        return window

    def _prompt(self, reader: Reader, recipe: TextRecipe, ctx: RunContext) -> tuple[list[int], tuple[str, ...], bool]:
        """The prompt as tokens, where to stop, and whether white space around the answer is only layout."""
        reader.turn_end = None
        return underway.laid_out(
            recipe,
            ctx,
            bool(reader.template),
            lambda turns: reader.chat(turns, recipe.system, ctx),
            lambda text: reader.tokens(text, whole=True),
        )


class _Writing:
    """One text on its way: hears of each token and tells of it."""

    def __init__(self, reader: Reader, ctx: RunContext, recipe: TextRecipe, prompt: list[int], text: Underway) -> None:
        self._reader = reader
        self._ctx = ctx
        self._recipe = recipe
        self._prompt = prompt
        self._unrolled = Unrolled(reader, prompt)
        self._text = text

    def write(self, model: Any, seed: int, window: int) -> tuple[Artifact, ...]:
        """Write and save the text, and a small picture of it.

        Raises:
            BadResult: the model's numbers are none. JobCancelled. OSError: it could not be saved.
        """
        import torch

        recipe, text = self._recipe, self._text
        room = min(recipe.max_tokens, window - len(self._prompt))
        text.begin()
        torch.manual_seed(seed)
        ids = torch.tensor([self._prompt], device=model.device)
        try:
            with torch.inference_mode(), self._watched(model):
                model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=self._settings(room),
                    logits_processor=_processors(recipe),
                    stopping_criteria=_heard(self._take),
                )
        except JobCancelled:
            text.cancelled(seed)
            raise
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            raise _no_numbers() from error
        text.finish = text.finish or "length"
        return text.ended(seed, window, self._unrolled.rest())

    def _settings(self, room: int) -> Any:
        """All that decides about the text, said outright: what a folder sets as its own usual values counts nothing."""
        from transformers import GenerationConfig

        recipe, reader = self._recipe, self._reader
        ends = reader.ends if reader.turn_end is None else sorted({*reader.ends, reader.turn_end})
        sampled: dict[str, Any] = {}
        if recipe.temperature > 0:
            sampled = {"temperature": recipe.temperature, "top_p": recipe.top_p, "top_k": recipe.top_k}
            if recipe.min_p > 0:
                sampled["min_p"] = recipe.min_p
        return GenerationConfig(
            max_new_tokens=room, do_sample=bool(sampled), eos_token_id=ends or None, pad_token_id=reader.pad,
            bos_token_id=reader.begin, use_cache=True, **sampled,
        )  # fmt: skip

    @contextlib.contextmanager
    def _watched(self, model: Any) -> Iterator[None]:
        """Hear a cancel, and tell progress, between any two layers: a long prompt is one step."""
        layers = _layers_of(model)

        def passed(at: int) -> None:
            self._ctx.check()
            if not self._text.tokens and self._text.is_time_to_tell():
                self._text.reading(at * len(self._prompt) // len(layers))

        hooks = [layer.register_forward_pre_hook(lambda *_, at=at: passed(at)) for at, layer in enumerate(layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _take(self, ids: list[int]) -> bool:
        """One more token was written. Returns whether to stop."""
        self._ctx.check()
        text, token = self._text, ids[-1]
        if not text.tokens:
            text.begin_writing()
            text.reading(len(self._prompt))
        text.tokens += 1
        if token in self._reader.ends or token == self._reader.turn_end:
            text.finish = "stop"
            return True
        if text.feed(self._unrolled.add(token)):
            return True
        text.tell()
        return False


def _layers_of(model: Any) -> Sequence[Any]:
    """The layers a text passes one after another; the model itself where they are not found."""
    import torch

    config = model.config.get_text_config(decoder=True)
    number = getattr(config, "num_hidden_layers", 0)
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == number:
            return list(module)
    return [model]


def _processors(recipe: TextRecipe) -> Any:
    """What is done to the scores before one is drawn: transformers' penalty, over the last tokens only."""
    from transformers import LogitsProcessor, LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    class Sound(LogitsProcessor):  # type: ignore[misc]
        """Ends a text whose numbers are none: the likeliest of them would still be some token."""

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            if scores.isnan().any():
                raise _no_numbers()
            return scores

    class Lately(LogitsProcessor):  # type: ignore[misc]
        def __init__(self, penalty: float, last: int) -> None:
            self._last, self._penalty = last, RepetitionPenaltyLogitsProcessor(penalty)

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return self._penalty(input_ids[:, -self._last :], scores)

    processors = LogitsProcessorList([Sound()])
    if recipe.repeat_penalty != 1.0 and recipe.repeat_last_n > 0:
        processors.append(Lately(recipe.repeat_penalty, recipe.repeat_last_n))
    return processors


def _heard(take: Any) -> Any:
    """The library's way to ask after each token whether to stop."""
    import torch
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Heard(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            stop = take(input_ids[0, -1:].tolist())
            return torch.full((input_ids.shape[0],), stop, device=input_ids.device, dtype=torch.bool)

    return StoppingCriteriaList([Heard()])


def _no_numbers() -> BadResult:
    return BadResult(
        "The model's numbers are not finite, so there is no text.",
        "Another number format may help (float32 in the settings), or a weaker LoRA.",
    )


@functools.cache
def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Tells a changed folder from an unchanged one; empty where there is none."""
    try:
        files = model_files(folder)
        return tuple((name, (s := file.stat()).st_size, s.st_mtime_ns) for name, file in files)
    except OSError:
        return ()
