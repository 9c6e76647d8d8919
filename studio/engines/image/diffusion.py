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
from importlib import metadata
from typing import Any, ClassVar

import msgspec

from studio.core.cards import ModelCard
from studio.core.plans import MEMORY_MODES, Plan
from studio.core.problems import BadSetting, EngineMissing, ModelMissing, ModelUnfit, OutOfMemory, StudioError
from studio.core.recipes import SEED_LIMIT, ImageRecipe, MadeWith, Recipe
from studio.core.works import Artifact, Result
from studio.engines import device as devices
from studio.engines.context import RunContext
from studio.engines.image import asking, details, loading, painting, thrift, trouble
from studio.engines.image.additions import Additions
from studio.engines.image.asking import Asked
from studio.engines.image.painting import Painting, Turn
from studio.engines.image.watching import FINISHING, READING, Watch
from studio.models import memory


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
        self._mode = "full"  # how memory is saved, one of MEMORY_MODES
        self._short: dict[str, int] = {}  # mode -> the fewest pixels for which memory ran out in the ones before it
        self._away = False  # weights are in this computer's memory, to be moved back to the card
        self._colours: Any = None  # of previews, once they are known
        self._additions: Additions | None = None  # what is laid over the model

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Make a model ready; what is loaded already and fits the plan stays.

        Raises:
            BadSetting: the device is not there. ModelMissing, ModelBroken, ModelRefused, EngineMissing, OutOfMemory.
        """
        loading.go_offline()
        import torch

        device, dtype = self._pick(plan, card)
        torch.set_num_threads(max(1, plan.threads))
        same = plan.speed == self._plan.speed and (card, device, dtype) == (self._card, self._device, self._dtype)
        self._plan = plan
        if self._pipe is not None and same:
            if self._away:  # it was parked
                ctx.loading(card.name)
                self._settle(self._mode, 0, ctx)
                ctx.loading(card.name, 1.0)
            return
        self.unload()
        self._open(card, device, dtype, self._first_to_load(card, device, dtype), ctx)

    def _open(self, card: ModelCard, device: str, dtype: str, mode: str, ctx: RunContext) -> None:
        """Read a model from disk for a mode. Where the card is too small for all of it, it is kept off the card."""
        import torch

        ctx.check()
        ctx.loading(card.name)
        place, shortage = not thrift.keeps_off_card(mode), ""
        try:
            try:
                pipe = loading.open_model(card, device, dtype, place=place)
            except OutOfMemory:
                if not place or "offload" not in memory.modes_of(device):
                    raise
                trouble.give_back(device)
                place, mode = False, "offload"
                pipe = loading.open_model(card, device, dtype, place=False)
                shortage = _changed(mode)
        except StudioError:
            trouble.give_back(device)
            raise
        painting.quicken(pipe, self._plan.speed)
        self._scheduler = copy.deepcopy(getattr(pipe, "scheduler", None))
        self._dtypes = {n: c.dtype for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)}
        self._pipe, self._card, self._device, self._dtype = pipe, card, device, dtype
        self._additions = Additions(pipe, device if place else "cpu", getattr(torch, dtype))
        self._mode, self._away = "full", not place
        if not place:
            if self._plan.preview_every > 0:
                from studio.engines.image import previews

                with contextlib.suppress(previews.NoPreview, RuntimeError, MemoryError):  # not worth a job
                    self._colours_of(ctx)  # now: weights that come and go cannot be asked
            self._settle(mode, 0, ctx)
        if shortage:
            self._short[self._mode] = 0  # no picture of this model can do with less
            ctx.note(shortage)
        ctx.loading(card.name, 1.0)

    def _first_to_load(self, card: ModelCard, device: str, dtype: str) -> str:
        """The mode to load with: only the last two change where the weights go."""
        if "offload" not in memory.modes_of(device):
            return "full"
        if self._plan.memory != "auto":
            return self._plan.memory
        return memory.first_mode(card, None, trouble.free_memory(device), device, number=_bytes_of(dtype))

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
            BadRecipe: a size the model cannot do, a picture that cannot be used. ModelUnfit: a scheduler, an addition
            or a value it cannot do. BadResult: what came out is no picture. OutOfMemory. OSError: the disk refuses.
        """
        assert isinstance(recipe, ImageRecipe), "the runtime gives each engine its own kind"
        assert self._pipe is not None and self._additions is not None, "load comes before run"
        work = self._planned(recipe, ctx)
        self._begin(recipe, work.largest, ctx)
        seed = recipe.seed if recipe.seed is not None else secrets.randbelow(SEED_LIMIT)
        artifacts: list[Artifact] = []
        for index in range(0, recipe.count, recipe.at_once):
            made: list[Artifact] | None = None
            while made is None:
                try:
                    if work.pipe is not self._pipe:  # a way to save memory needed it loaded anew
                        work = self._planned(recipe, ctx)
                    made = self._pictures(work, seed, index, ctx)
                except OutOfMemory:
                    mode = thrift.after(thrift.ladder(self._pipe, self._device), self._mode)
                    if mode is None:
                        raise
                    ctx.check()
                    self._settle(mode, _pixels(work.largest), ctx)
                    short = self._short.get(self._mode, _pixels(work.largest))
                    self._short[self._mode] = min(_pixels(work.largest), short)
                    ctx.note(_changed(self._mode, index))
            artifacts += made
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    def _planned(self, recipe: ImageRecipe, ctx: RunContext) -> Painting:
        """Bring the model to what a recipe asks for, and decide how it is painted."""
        assert self._additions is not None
        if self._additions.lay(recipe, ctx):
            self._colours = None
            if not thrift.keeps_off_card(self._mode):
                self._mode = "full"  # the new autoencoder knows nothing of tiles yet
        return painting.planned(self._pipe, self._scheduler, self._card, self._additions, recipe, ctx)

    def _begin(self, recipe: ImageRecipe, asked: Asked, ctx: RunContext) -> None:
        """Take the way to save memory that was planned, or that fits what is free now.

        A way that was taken because memory ran out is kept for pictures of that size and larger ones; a smaller one
        begins with what is planned, and so does a work that is made again.
        """
        assert self._card is not None
        planned = self._plan.memory
        if planned == "auto":
            sized = msgspec.structs.replace(recipe, width=asked.painted[0], height=asked.painted[1])
            planned = memory.first_mode(
                self._card, sized, trouble.free_memory(self._device), self._device,
                number=_bytes_of(self._dtype), held=self._held(),
            )  # fmt: skip
        if not self._plan.again:
            known = [mode for mode, pixels in self._short.items() if pixels <= _pixels(asked)]
            planned = max(planned, *known, key=MEMORY_MODES.index) if known else planned
        told = len(ctx.notes)
        self._settle(planned, _pixels(asked), ctx)
        if self._mode not in ("full", self._plan.memory) and len(ctx.notes) == told:
            ctx.note(f"To save memory, {thrift.SAYS[self._mode]}; it may differ slightly from one made without.")

    def _held(self) -> int:
        """Bytes of the model that are on its device now."""
        import torch

        here = torch.device(self._device).type
        parts = [c for c in self._pipe.components.values() if isinstance(c, torch.nn.Module)]
        return sum(p.numel() * p.element_size() for c in parts for p in c.parameters() if p.device.type == here)

    def _settle(self, wanted: str, pixels: int, ctx: RunContext) -> None:
        """Switch to a mode, or to the next thriftier one this pipeline has and that there is memory for.

        Raises:
            OutOfMemory: none of them fits; nothing is loaded then.
        """
        assert self._card is not None
        modes = thrift.ladder(self._pipe, self._device)
        mode, ran_out = thrift.nearest(modes, wanted), False
        while True:
            try:
                if thrift.switch(self._pipe, self._mode, mode, self._device, away=self._away):
                    self._mode, self._away = mode, False
                else:
                    self._reopen(mode, ctx)
                break
            except (RuntimeError, MemoryError) as error:
                if not trouble.is_out_of_memory(error):
                    raise
                self._mode, self._away, ran_out = "full", True, True
                traceback.clear_frames(error.__traceback__)
                trouble.give_back(self._device)
                later = thrift.after(modes, mode)
                if later is None:
                    what = f"moving the model “{self._card.name}”"
                    problem = trouble.out_of_memory(error, what, self._device)
                    self.unload()
                    raise problem from error
                mode = later
        if ran_out:
            self._short[self._mode] = min(pixels, self._short.get(self._mode, pixels))
            ctx.note(_changed(self._mode))

    def _reopen(self, mode: str, ctx: RunContext) -> None:
        """Load the model anew for another mode, and remember what ran out before."""
        assert self._card is not None
        card, device, dtype, short = self._card, self._device, self._dtype, self._short
        self.unload()
        self._short = short
        self._open(card, device, dtype, mode, ctx)
        if not thrift.keeps_off_card(self._mode) and thrift.switch(self._pipe, self._mode, mode, device):
            self._mode = mode

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads a prompt as, with those that mark begin and end.

        Raises:
            ModelMissing: nothing is loaded. ModelUnfit: it has no tokenizer.
        """
        if self._pipe is None:
            raise ModelMissing("No picture model is loaded.")
        return asking.count_tokens(self._pipe, text)

    def park(self) -> bool:
        """Move the model from the graphics card to this computer's memory; the next `load` moves it back.

        Returns:
            False where it has no card with memory of its own, or this computer's memory is too short for it: then
            only unloading gives memory back.
        """
        if self._pipe is None or not self._device.startswith("cuda"):  # Apple's graphics use the computer's memory
            return False
        if not thrift.keeps_off_card(self._mode) and not self._away:
            free = trouble.free_memory("cpu")
            if free is not None and self._held() > free * (1 - memory.RESERVE):
                return False
            self._away = True
            if self._additions is not None:
                self._additions.sight.drop()  # they are read again in a moment, when a job wants them
            try:
                self._pipe.to("cpu", silence_dtype_warnings=True)
            except (RuntimeError, MemoryError) as error:
                if not trouble.is_out_of_memory(error):
                    raise
                return False
        trouble.give_back(self._device)
        return True

    def unload(self) -> None:
        """Let go of the model and give its memory back to the system."""
        had, device = self._pipe is not None, self._device
        self._mode, self._short, self._away = "full", {}, False
        self._pipe = self._card = self._scheduler = self._colours = self._additions = None
        self._dtypes, self._device, self._dtype = {}, "", ""
        if had:
            trouble.give_back(device)

    def made_with(self) -> MadeWith:
        seeing = self._additions.sight if self._additions is not None else None
        return MadeWith(
            engine="image.diffusers",
            device=self._device or "cpu",
            dtype=self._dtype,
            threads=self._plan.threads,
            memory=self._mode if self._mode != "full" else "",
            speed=self._plan.speed,
            versions={"python": platform.python_version()}
            | _versions("torch", "diffusers", "transformers", "pillow", *(seeing.libraries if seeing else ())),
            system=f"{platform.system()} {platform.machine()}",
        )

    def _pictures(self, work: Painting, seed: int, index: int, ctx: RunContext) -> list[Artifact]:
        """The pictures from `index` on that are painted together; mostly one."""
        from studio.engines.image import saving

        began = time.perf_counter()
        recipe = work.recipe
        seeds = [ctx.seed(seed, at) for at in range(index, min(index + recipe.at_once, recipe.count))]
        ctx.check()
        ctx.progress(index * work.steps, work.total, "steps", READING)
        images: list[Any] = [work.given] * len(seeds)
        before = 0
        if work.first is not None:
            images, before = self._turn(work.first, work, seeds, index, ctx), work.first.asked.steps
        if work.second is not None:
            each = []
            for at, image in enumerate(images):
                turn = work.second(image)
                each += self._turn(turn, work, [seeds[at]], index + at, ctx, before=before)
            images = each
        if work.details is not None:
            before = work.steps - work.details.steps
            images = [
                self._detailed(image, work, seeds[at], index + at, before, ctx) for at, image in enumerate(images)
            ]
        seconds = (time.perf_counter() - began) / len(images)
        made: list[Artifact] = []
        for at, image in enumerate(images):
            # the recipe of this one picture, so that a copied or exported file can say how it was made
            own = msgspec.structs.replace(recipe, seed=seeds[at], count=1, made_with=self.made_with())
            try:
                made += saving.save(image, index + at, seeds[at], seconds, own, ctx)
            except MemoryError as error:
                raise self._explained(error, work.largest) from error
        ctx.progress((index + len(images)) * work.steps, work.total, "steps", FINISHING)
        return made

    def _detailed(
        self, picture: Any, work: Painting, seed: int, index: int, before: int, ctx: RunContext
    ) -> Any:  # fmt: skip
        """A picture with what is found in it painted anew.

        Args:
            before: steps of this picture that are behind it already.
        """
        assert self._additions is not None and work.details is not None

        def paint(picture: Any, mask: Any, recipe: ImageRecipe, behind: int, share: int) -> Any:
            turn = work.into(picture, mask, msgspec.structs.replace(recipe, seed=seed))
            return self._turn(turn, work, [seed], index, ctx, before=behind - index * work.steps, share=share)[0]

        try:
            return details.repainted(
                picture, work.details, self._additions.sight, paint, index * work.steps + before, work.total, ctx
            )
        except MemoryError as error:
            raise self._explained(error, work.largest) from error

    def _turn(
        self,
        turn: Turn,
        work: Painting,
        seeds: list[int],
        index: int,
        ctx: RunContext,
        before: int = 0,
        share: int | None = None,
    ) -> list[Any]:
        """One run of a pipeline: as many pictures as there are seeds, checked and laid back into what they began from.

        Args:
            before: steps of these pictures that are behind it already.
            share: what it counts for in the progress; None for its own steps.
        """
        assert self._additions is not None
        asked = turn.asked
        steps = share if share is not None else asked.steps * len(seeds)
        watch = Watch(
            ctx, index, index * work.steps + before, steps, work.total, self._previewer(turn, ctx),
            self._plan.preview_every,
        )  # fmt: skip
        turn.pipe.scheduler = asked.scheduler(seeds[0]) if asked.scheduler else self._scheduler
        output = None
        try:
            with painting.running(turn, seeds, watch, self._additions, ctx) as arguments:
                output = turn.pipe(**arguments)
        except StudioError:
            raise
        except (
            RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError,
            MemoryError,
        ) as error:  # fmt: skip
            raise self._explained(error, asked) from error
        finally:
            if output is None and self._mode == "offload":
                self._free_parts()
            self._restore()
        ctx.check()
        try:
            return [
                turn.begin.laid_back(image) if turn.begin is not None else image
                for image in painting.pictures_in(output, asked.size, watch.finite, len(seeds))
            ]
        except MemoryError as error:
            raise self._explained(error, asked) from error

    def _colours_of(self, ctx: RunContext) -> Any:
        from studio.engines.image import previews

        if self._colours is None:
            self._colours = previews.cached_fit(previews.autoencoder(self._pipe), ctx.cache_dir, ctx.check)
        return self._colours

    def _previewer(self, turn: Turn, ctx: RunContext) -> Any:
        """A Previewer for a run, or None (said in a note where it was wanted)."""
        if self._plan.preview_every <= 0:
            return None
        from studio.engines.image import previews

        try:
            if thrift.keeps_off_card(self._mode) and self._colours is None:
                raise previews.NoPreview("its autoencoder is on the graphics card only while it works")
            return previews.Previewer(turn.pipe, self._colours_of(ctx), *turn.asked.painted)
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
        if "compile" in self._plan.speed and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            return EngineMissing(
                f"The network could not be compiled: {trouble.first_line(error)}.",
                "Turn “Compile” off in the settings; it needs a C++ compiler.", detail=repr(error)[-6000:],
            )  # fmt: skip
        return ModelUnfit(
            f"The model “{name}” could not paint this: {trouble.first_line(error)}.",
            "Try other settings: size, steps or scheduler.",
            detail="".join(traceback.format_exception(error))[-6000:],
        )

    def _free_parts(self) -> None:
        """Take the part that was at work off the card, after a call that ended early; diffusers does it at the end."""
        try:
            self._pipe.maybe_free_model_hooks()
        except (RuntimeError, MemoryError):
            self._away = True  # the next job puts everything in its place

    def _restore(self) -> None:
        """Undo what a call that ended early leaves behind: some pipelines hold the VAE in float32 while decoding."""
        if self._scheduler is not None:
            self._pipe.scheduler = copy.deepcopy(self._scheduler)
        for name, dtype in self._dtypes.items():
            component = getattr(self._pipe, name, None)
            if component is not None and component.dtype != dtype:
                component.to(dtype)


def _changed(mode: str, index: int = 0) -> str:
    since = f" from picture {index + 1} on" if index else ""
    return f"Memory ran out, so{since} {thrift.SAYS[mode]}; it may differ slightly from one made without."


def _pixels(asked: Asked) -> int:
    return asked.painted[0] * asked.painted[1]


def _bytes_of(dtype: str) -> int:
    return 4 if dtype == "float32" else 2


@functools.cache  # reading a package's metadata takes milliseconds, and it cannot change under a running worker
def _versions(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
