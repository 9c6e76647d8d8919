"""What happens at each step of one picture: stop if asked, tell the progress, show a preview, look for what overflowed.

Knows the ways in which pipelines tell of their steps; starts none.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from studio.core.problems import BadResult
from studio.engines.context import RunContext
from studio.engines.image import schedulers
from studio.engines.image.asking import Asked

READING, PAINTING, FINISHING = "reading the prompt", "painting", "finishing"


class Watch:
    """What happens at each step of one picture: stop if asked, tell the progress, show a preview.

    Args:
        before: steps of the job that are behind it when this picture begins. steps: its own. total: of the job.
    """

    def __init__(
        self, ctx: RunContext, index: int, before: float, steps: int, total: float, previewer: Any, every: int
    ) -> None:  # fmt: skip
        self.finite = True
        self._ctx, self._index, self._before, self._steps, self._total = ctx, index, before, steps, total
        self._previewer, self._every = previewer, every
        self._done = 0
        self._seen: Any = None  # the picture the network saw in the step under way, where a preview is due

    @property
    def shows_next(self) -> bool:
        """Whether a preview is due at the end of the step under way."""
        return self._previewer is not None and self._every > 0 and (self._done + 1) % self._every == 0

    def see(self, estimate: Any) -> None:
        """Take the finished picture as the network foresees it, latents of (1, C, …); None if it is not known."""
        self._seen = estimate

    def step(self, done: int, of: int, latents: Any = None) -> None:
        """`done` of `of` calls of the network are behind us; some schedulers call it more than once per step."""
        self._ctx.check()
        seen, self._seen, self._done = self._seen, None, done
        part = self._steps * done / max(of, 1)
        last = done >= of
        at = self._before + (self._steps if last else part)
        self._ctx.progress(round(at, 3), self._total, "steps", FINISHING if last else PAINTING)
        if latents is None or not hasattr(latents, "isfinite"):
            if seen is None:
                return
            latents = seen  # a pipeline that only moves its progress bar
        if last or done % 8 == 0:
            self.finite = self.finite and bool(latents.isfinite().all())
            if not self.finite:
                raise BadResult(
                    "The picture came out as numbers that are not finite (numerical overflow).",
                    "Try the number format float32, or another scheduler; the model file may also be damaged.",
                )
        if self._previewer is not None and self._every > 0 and done % self._every == 0:
            # some pipelines step in another form than the one they tell of; the last latents are the picture itself
            fits = not last and seen is not None and seen.shape[1:] == latents.shape[1:]
            self._show(done, seen if fits else latents)

    def _show(self, done: int, latents: Any) -> None:
        from studio.engines.image.previews import NoPreview

        try:
            self._ctx.preview(self._index, done, self._previewer.jpeg(latents))
        except NoPreview as why:
            self._ctx.note(f"No previews with this model: {why}.")
            self._previewer = None


@contextlib.contextmanager
def reported(
    pipe: Any, asked: Asked, watch: Watch, blend: Callable[[Any, int, Any], Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Arguments that make the pipeline call `watch` at each step, in the best way it has.

    Args:
        blend: makes other latents of those after a step, given the pipeline, the step from 0, and them.
    """
    with _foreseen(getattr(pipe, "scheduler", None), watch), _told(pipe, asked, watch, blend) as arguments:
        yield arguments


@contextlib.contextmanager
def _foreseen(scheduler: Any, watch: Watch) -> Iterator[None]:
    """Let `watch` see the finished picture as the network foresees it, in the steps in which a preview is due.

    Noisy latents show little before the last third of the steps. The estimate is computed beside the step, from what
    goes into it; what comes out of it is handed on untouched.
    """
    own = getattr(scheduler, "step", None)
    if own is None or list(inspect.signature(own).parameters)[:3] != ["model_output", "timestep", "sample"]:
        yield
        return

    @functools.wraps(own)  # pipelines look at its signature
    def step(*args: Any, **kwargs: Any) -> Any:
        if watch.shows_next:
            given = dict(zip(("model_output", "timestep", "sample"), args, strict=False)) | kwargs
            try:
                watch.see(schedulers.denoised(scheduler, given["model_output"], given["timestep"], given["sample"]))
            except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
                watch.see(None)  # a kind of its own: the latents are shown
        return own(*args, **kwargs)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


@contextlib.contextmanager
def _told(
    pipe: Any, asked: Asked, watch: Watch, blend: Callable[[Any, int, Any], Any] | None
) -> Iterator[dict[str, Any]]:
    """`reported`, but for what is foreseen."""
    if asked.reports == "step_end":

        def on_step(pipeline: Any, i: int, _t: Any, values: dict[str, Any]) -> dict[str, Any]:
            latents = values.get("latents")
            if blend is not None and latents is not None:
                latents = blend(pipeline, i, latents)
            watch.step(i + 1, _calls(pipeline, asked), latents)
            return {} if blend is None else {"latents": latents}  # what is not handed back is not replaced

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

    def __init__(self, watch: Watch, of: int, iterable: Any = None) -> None:
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


def _bar(watch: Watch, steps: int) -> Callable[..., _Bar]:
    def progress_bar(iterable: Any = None, total: int | None = None) -> _Bar:
        return _Bar(watch, total or (len(iterable) if iterable is not None else steps), iterable)

    return progress_bar


@contextlib.contextmanager
def finite_pixels(pipe: Any, watch: Watch) -> Iterator[None]:
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
