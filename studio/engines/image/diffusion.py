"""Pictures from any diffusers pipeline.

Knows pipelines by their call's signature, so no family is named here. The library's own result is not touched: with
the same arguments, `pipe(...)` of plain diffusers gives the same bytes. Knows nothing of queues, windows or databases.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import platform
import secrets
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, ClassVar

import msgspec

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.problems import BadResult, BadSetting, ModelMissing, ModelUnfit, StudioError
from studio.core.recipes import SEED_LIMIT, ImageRecipe, MadeWith, Recipe
from studio.core.works import Artifact, Result
from studio.engines import device as devices
from studio.engines.context import RunContext
from studio.engines.image import asking, loading, trouble
from studio.engines.image.asking import Asked, ask

READING, PAINTING, FINISHING = "reading the prompt", "painting", "finishing"


class Diffusion:
    """The engine "image.diffusers"; see studio/engines/base.py for the contract."""

    kind: ClassVar[str] = "image"

    def __init__(self) -> None:
        self._pipe: Any = None
        self._card: ModelCard | None = None
        self._plan = Plan()
        self._device = self._dtype = ""
        self._scheduler: Any = None  # as the model came, never run
        self._dtypes: dict[str, Any] = {}  # part -> dtype it was loaded in

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Make a model ready; what is loaded already and fits the plan stays.

        Raises:
            BadSetting: the device is not there. ModelMissing, ModelBroken, ModelRefused, EngineMissing, OutOfMemory.
        """
        loading.go_offline()
        import torch

        device, dtype = self._pick(plan, card)
        torch.set_num_threads(max(1, plan.threads))
        self._plan = plan
        if self._pipe is not None and (card, device, dtype) == (self._card, self._device, self._dtype):
            return
        self.unload()
        ctx.check()
        ctx.loading(card.name)
        try:
            pipe = loading.open_pipeline(card.path, card.name, device, dtype)
        except StudioError:
            trouble.give_back(device)
            raise
        self._scheduler = copy.deepcopy(getattr(pipe, "scheduler", None))
        self._dtypes = {n: c.dtype for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)}
        self._pipe, self._card, self._device, self._dtype = pipe, card, device, dtype
        ctx.loading(card.name, 1.0)

    @staticmethod
    def _pick(plan: Plan, card: ModelCard) -> tuple[str, str]:
        try:
            return devices.pick(plan.device, plan.dtype, weights=card.needs.weights)
        except BadSetting:
            if not plan.again:
                raise
            return devices.pick("auto", "auto", weights=card.needs.weights)  # made on another computer

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Paint `recipe.count` pictures, one after another, with seed, seed + 1, …

        Raises:
            BadRecipe: a size the model cannot do. ModelUnfit: a scheduler or value it cannot do.
            BadResult: what came out is no picture. OutOfMemory. OSError: the disk refuses.
        """
        assert isinstance(recipe, ImageRecipe), "the runtime gives each engine its own kind"
        assert self._pipe is not None, "load comes before run"
        asked = ask(self._pipe, self._scheduler, self._card, recipe, ctx.note)
        previewer = self._previewer(asked, ctx)
        first = recipe.seed if recipe.seed is not None else secrets.randbelow(SEED_LIMIT)
        artifacts: list[Artifact] = []
        for index in range(recipe.count):
            artifacts += self._picture(asked, ctx.seed(first, index), index, recipe, previewer, ctx)
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads a prompt as, with those that mark begin and end.

        Raises:
            ModelMissing: nothing is loaded. ModelUnfit: it has no tokenizer.
        """
        if self._pipe is None:
            raise ModelMissing("No picture model is loaded.")
        return asking.count_tokens(self._pipe, text)

    def unload(self) -> None:
        """Let go of the model and give its memory back to the system."""
        had, device = self._pipe is not None, self._device
        self._pipe = self._card = self._scheduler = None
        self._dtypes, self._device, self._dtype = {}, "", ""
        if had:
            trouble.give_back(device)

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine="image.diffusers",
            device=self._device or "cpu",
            dtype=self._dtype,
            threads=self._plan.threads,
            versions={"python": platform.python_version()} | _versions("torch", "diffusers", "transformers", "pillow"),
            system=f"{platform.system()} {platform.machine()}",
        )

    def _picture(
        self, asked: Asked, seed: int, index: int, recipe: ImageRecipe, previewer: Any, ctx: RunContext
    ) -> list[Artifact]:
        import torch

        from studio.engines.image import saving

        began = time.perf_counter()
        total = float(recipe.steps * recipe.count)
        ctx.check()
        ctx.progress(index * recipe.steps, total, "steps", READING)
        watch = _Watch(ctx, index, recipe, previewer, self._plan.preview_every)
        self._pipe.scheduler = asked.scheduler() if asked.scheduler else self._scheduler
        try:
            with _finite_pixels(self._pipe, watch), _reported(self._pipe, asked, watch) as extra:
                output = self._pipe(generator=torch.Generator("cpu").manual_seed(seed), **asked.arguments, **extra)
        except StudioError:
            raise
        except (
            RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError,
            MemoryError,
        ) as error:  # fmt: skip
            raise self._explained(error, asked) from error
        finally:
            self._restore()
        ctx.check()
        image = saving.checked(output, asked.size, watch.finite)
        seconds = time.perf_counter() - began
        # the recipe of this one picture, so that a copied or exported file can say how it was made
        own = msgspec.structs.replace(recipe, seed=seed, count=1, made_with=self.made_with())
        made = saving.save(image, index, seed, seconds, own, ctx)
        ctx.progress((index + 1) * recipe.steps, total, "steps", FINISHING)
        return made

    def _previewer(self, asked: Asked, ctx: RunContext) -> Any:
        """A Previewer for these pictures, or None (said in a note where it was wanted)."""
        if self._plan.preview_every <= 0:
            return None
        from studio.engines.image import previews

        try:
            colours = previews.cached_fit(previews.autoencoder(self._pipe), ctx.cache_dir, ctx.check)
            return previews.Previewer(self._pipe, colours, *asked.painted)
        except previews.NoPreview as why:
            ctx.note(f"No previews with this model: {why}.")
        except (RuntimeError, MemoryError) as error:
            if not trouble.is_out_of_memory(error):
                raise
            trouble.give_back(self._device)
            ctx.note("No previews this time: memory is too short to prepare them.")
        return None

    def _explained(self, error: Exception, asked: Asked) -> Exception:
        """The sentence for what the pipeline raised; errors that only a new worker can mend pass as they are."""
        name = self._card.name if self._card else "?"
        if trouble.is_out_of_memory(error):
            wide, high = asked.painted
            # the frames of the failed call hold its tensors: let go of them before telling how much is free
            traceback.clear_frames(error.__traceback__)
            trouble.give_back(self._device)
            return trouble.out_of_memory(error, f"painting {wide}×{high} px with “{name}”", self._device)
        if trouble.is_lost_device(error):
            return error
        return ModelUnfit(
            f"The model “{name}” could not paint this: {trouble.first_line(error)}.",
            "Try other settings: size, steps or scheduler.",
            detail="".join(traceback.format_exception(error))[-6000:],
        )

    def _restore(self) -> None:
        """Undo what a call that ended early leaves behind: some pipelines hold the VAE in float32 while decoding."""
        if self._scheduler is not None:
            self._pipe.scheduler = copy.deepcopy(self._scheduler)
        for name, dtype in self._dtypes.items():
            component = getattr(self._pipe, name, None)
            if component is not None and component.dtype != dtype:
                component.to(dtype)


class _Watch:
    """What happens at each step of one picture: stop if asked, tell the progress, show a preview."""

    def __init__(self, ctx: RunContext, index: int, recipe: ImageRecipe, previewer: Any, every: int) -> None:
        self.finite = True
        self._ctx, self._index, self._steps = ctx, index, recipe.steps
        self._total = float(recipe.steps * recipe.count)
        self._previewer, self._every = previewer, every

    def step(self, done: int, of: int, latents: Any = None) -> None:
        """`done` of `of` calls of the network are behind us; some schedulers call it more than once per step."""
        self._ctx.check()
        part = self._steps * done / max(of, 1)
        last = done >= of
        at = self._index * self._steps + (self._steps if last else part)
        self._ctx.progress(round(at, 3), self._total, "steps", FINISHING if last else PAINTING)
        if latents is None or not hasattr(latents, "isfinite"):
            return
        if last or done % 8 == 0:
            self.finite = self.finite and bool(latents.isfinite().all())
            if not self.finite:
                raise BadResult(
                    "The picture came out as numbers that are not finite (numerical overflow).",
                    "Try the number format float32, or another scheduler; the model file may also be damaged.",
                )
        if self._previewer is not None and self._every > 0 and done % self._every == 0:
            self._show(done, latents)

    def _show(self, done: int, latents: Any) -> None:
        from studio.engines.image.previews import NoPreview

        try:
            self._ctx.preview(self._index, done, self._previewer.jpeg(latents))
        except NoPreview as why:
            self._ctx.note(f"No previews with this model: {why}.")
            self._previewer = None


@contextlib.contextmanager
def _reported(pipe: Any, asked: Asked, watch: _Watch) -> Iterator[dict[str, Any]]:
    """Arguments that make the pipeline call `watch` at each step, in the best way it has."""
    if asked.reports == "step_end":

        def on_step(pipeline: Any, i: int, _t: Any, values: dict[str, Any]) -> dict[str, Any]:
            watch.step(i + 1, _calls(pipeline, asked), values.get("latents"))
            return {}  # nothing is handed back, so nothing is replaced

        yield {"callback_on_step_end": on_step}
    elif asked.reports == "callback":

        def on_call(i: int, _t: Any, latents: Any) -> None:
            watch.step(i + 1, asked.steps, latents)

        yield {"callback": on_call, "callback_steps": 1}
    else:
        # No callback at all: every pipeline still moves its progress bar, through this method.
        pipe.progress_bar = _bar(watch, asked.steps)
        try:
            yield {}
        finally:
            del pipe.progress_bar


def _calls(pipe: Any, asked: Asked) -> int:
    """How many times this run calls back; a scheduler of second order does so twice per step."""
    count = getattr(pipe, "_num_timesteps", None)
    return count if isinstance(count, int) and count > 0 else asked.steps


class _Bar:
    """Stands in for tqdm."""

    def __init__(self, watch: _Watch, of: int, iterable: Any = None) -> None:
        self._watch, self._of, self._done, self._iterable = watch, of, 0, iterable

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            yield item
            self.update()

    def update(self, n: int = 1) -> None:
        self._done += n
        self._watch.step(min(self._done, self._of), self._of)

    def set_postfix(self, *_: Any, **__: Any) -> None:
        return None

    close = set_description = set_postfix


def _bar(watch: _Watch, steps: int) -> Callable[..., _Bar]:
    def progress_bar(iterable: Any = None, total: int | None = None) -> _Bar:
        return _Bar(watch, total or (len(iterable) if iterable is not None else steps), iterable)

    return progress_bar


@contextlib.contextmanager
def _finite_pixels(pipe: Any, watch: _Watch) -> Iterator[None]:
    """Look at the decoded pixels before they become bytes: a cast turns NaN into black without a word."""
    processor: Any = getattr(pipe, "image_processor", None)
    original = getattr(processor, "postprocess", None)
    if original is None:
        yield
        return

    def postprocess(image: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(image, "isfinite"):
            watch.finite = watch.finite and bool(image.isfinite().all())
        return original(image, *args, **kwargs)

    processor.postprocess = postprocess
    try:
        yield
    finally:
        del processor.postprocess


@functools.cache  # reading a package's metadata takes milliseconds, and it cannot change under a running worker
def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
