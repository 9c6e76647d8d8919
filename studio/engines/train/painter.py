"""A picture model that learns to take noise off captioned pictures: the Course of LoRA, DreamBooth, full and scratch.

Latents, and what captions are read as, are computed once into the run's folder and read from there. Knows families and
prepared pictures; knows nothing of recipes, adapters and of how models are saved.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from studio.core.files import write_durably
from studio.core.learning import Sampled
from studio.core.problems import BadResult
from studio.core.recipes import SEED_LIMIT
from studio.engines.context import RunContext
from studio.engines.train.families import Family, Noisy, Words
from studio.engines.train.loop import seed_of
from studio.engines.train.picture_data import Captioned, Shelf, cut, in_batches

JUDGED = 64  # pictures of each part that are looked at to judge by, at most
AT_ONCE = 8  # texts, or small pictures, that are prepared at once
AT_ONCE_PIXELS = 512 * 512  # of larger ones: so many, so that a cancel is heard in between and memory suffices
SAMPLES = "samples"  # folder of what was tried, in that of the run
_JUDGE_SEED = 1 << 41  # in the place of a step: fixed draws of noise


@dataclass(frozen=True)
class Part:
    """Prepared pictures of one part of the data. `captions`: numbers of its texts, for each picture."""

    latents: Shelf
    captions: tuple[tuple[int, ...], ...]


@dataclass
class Prepared:
    """What a course learns from.

    Attributes:
        texts: all captions once, and at the end the empty one. words: what they are read as; None where the text
            encoders learn, and read them anew each time. at_once: pictures that may be computed at once.
    """

    parts: dict[str, Part]
    texts: list[str]
    words: Shelf | None
    at_once: int = AT_ONCE


def prepare(
    family: Family,
    parts: Mapping[str, Sequence[Captioned]],
    folder: Path,
    key: str,
    ctx: RunContext,
    *,
    size: int,
    mirror: bool = False,
    read: bool = True,
) -> Prepared:
    """Compute latents and words once, or find them.

    Args:
        parts: the pictures of "train", "valid" and so on.
        folder: where they are kept. key: changes with everything they depend on.
        size: side of the pictures, px. mirror: keep latents of the mirrored pictures as well.
        read: keep what captions are read as, too.

    Raises:
        NotSaved: the disk is full. NotRead, BadRecipe: a picture is gone or damaged.
    """
    texts = list(dict.fromkeys(c for rows in parts.values() for row in rows for c in row.captions if c.strip()))
    numbers = {text: number for number, text in enumerate(texts)}
    texts.append("")
    made = {}
    for name, rows in parts.items():
        about = f"{key}/{size}/{mirror}/{len(rows)}"
        fill = functools.partial(_latents, family, rows, size, mirror, ctx)
        shelf = Shelf.of(folder, f"latents-{name}", about, len(rows), fill)
        captions = tuple(tuple(numbers.get(c, len(texts) - 1) for c in row.captions) for row in rows)
        made[name] = Part(shelf, captions)
    words = Shelf.of(folder, "words", key, len(texts), lambda: _words(family, texts, ctx)) if read else None
    return Prepared(made, texts, words, at_once(size))


def at_once(size: int) -> int:
    """How many pictures of a side are computed at once, where nothing is learnt."""
    return max(1, min(AT_ONCE, AT_ONCE_PIXELS // (size * size)))


def _latents(
    family: Family, rows: Sequence[Captioned], size: int, mirror: bool, ctx: RunContext
) -> Iterator[dict[str, Tensor]]:
    for batch in in_batches(len(rows), at_once(size)):
        ctx.check()
        ctx.loading("pictures", batch[0] / len(rows))
        cuts = [cut(rows[number], size, ctx.note) for number in batch]
        pixels = torch.stack([each.floats() for each in cuts])
        plain = family.encode(pixels)
        mirrored = family.encode(pixels.flip(-1)) if mirror else None
        for number, each in enumerate(cuts):
            item = {"plain": plain[number]}
            if mirrored is not None:
                item["mirrored"] = mirrored[number]
            where = family.where(each.size, each.corner, each.shown)
            if where is not None:
                item["where"] = where
            yield item


def _words(family: Family, texts: Sequence[str], ctx: RunContext) -> Iterator[dict[str, Tensor]]:
    with torch.no_grad():
        for batch in in_batches(len(texts), AT_ONCE):
            ctx.check()
            ctx.loading("captions", batch[0] / len(texts))
            given = [texts[number] for number in batch if texts[number]]
            if given:
                yield from family.read(given)
        yield family.nothing()


@dataclass
class Batch:
    """One part of a step: noisy pictures, and what is said of them, read or still to be read."""

    noisy: Noisy
    words: Words | None
    texts: list[str]
    where: Tensor | None
    count: int  # without the others of DreamBooth


@dataclass
class Painter:
    """See `loop.Course`.

    Attributes:
        learning: what learns, by name. size: pictures at once. accumulate: parts of a step.
        snr: of min-SNR weighting; 0 is off. unguided: share of captions that are left out.
        looks: tries the prompts. judged: draws of each part that are looked at to judge by.

    "others" among the prepared parts are learnt along with each picture (DreamBooth's prior preservation).
    """

    family: Family
    prepared: Prepared
    learning: dict[str, nn.Module]
    seed: int
    size: int
    accumulate: int = 1
    snr: float = 0.0
    unguided: float = 0.0
    looks: Callable[[int], Sequence[Sampled]] = lambda step: ()
    ctx: RunContext | None = None
    judged: int = JUDGED
    unit: str = "pictures"
    _orders: dict[tuple[str, int], np.ndarray[Any, Any]] = field(default_factory=dict)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return self.learning

    def weight(self, step: int, part: int) -> float:
        return float(self.size)

    def units(self, batch: Batch) -> int:
        return batch.count

    def batch(self, step: int, part: int) -> Batch:
        first = (step * self.accumulate + part) * self.size
        draws = np.random.default_rng(seed_of(self.seed, step, part))
        chosen = [("train", self._at("train", first + number)) for number in range(self.size)]
        if "others" in self.prepared.parts:
            chosen += [("others", self._at("others", first + number)) for number in range(self.size)]
        levels = torch.from_numpy(draws.random(len(chosen)))
        return self._batch(chosen, draws, levels, self.unguided)

    def _batch(
        self, chosen: list[tuple[str, int]], draws: np.random.Generator, levels: Tensor, unguided: float
    ) -> Batch:
        latents, wheres, numbers = [], [], []
        for part, number in chosen:
            prepared = self.prepared.parts[part]
            item = prepared.latents[number]
            turned = "mirrored" in item and draws.random() < 0.5
            latents.append(item["mirrored" if turned else "plain"])
            if "where" in item:
                wheres.append(item["where"])
            captions = prepared.captions[number]
            said = captions[int(draws.integers(len(captions)))]
            numbers.append(len(self.prepared.texts) - 1 if draws.random() < unguided else said)
        noise = torch.Generator().manual_seed(int(draws.integers(1 << 62)))
        clean = torch.stack(latents).float()
        drawn = torch.randn(clean.shape, generator=noise)
        device = self.family.device
        noisy = self.family.noisy(clean.to(device), drawn.to(device), levels, self.snr)
        words, texts = None, [self.prepared.texts[number] for number in numbers]
        if self.prepared.words is not None:
            read = self.family.together([self.prepared.words[number] for number in numbers])
            words = {name: each.to(device) for name, each in read.items()}
        count = sum(part != "others" for part, _ in chosen)
        return Batch(noisy, words, texts, torch.stack(wheres).to(device) if wheres else None, count)

    def _at(self, part: str, position: int) -> int:
        """Which picture comes at a position: all of them in a new order each time round."""
        count = len(self.prepared.parts[part].captions)
        time, place = divmod(position, count)
        if (part, time) not in self._orders:
            while len(self._orders) > 3:
                self._orders.pop(next(iter(self._orders)))
            draws = np.random.default_rng(seed_of(self.seed, _JUDGE_SEED + 1, time))
            self._orders[part, time] = draws.permutation(count)
        return int(self._orders[part, time][place])

    def loss(self, batch: Batch) -> Tensor:
        words = batch.words
        if words is None:
            read = zip(batch.texts, self.family.read(batch.texts), strict=True)
            words = self.family.together([each if text else self.family.blank(each) for text, each in read])
        return self.family.losses(batch.noisy, words, batch.where).sum()

    def validate(self) -> dict[str, float]:
        """The loss on fixed draws: the same pictures, noise and noise levels each time, levels evenly spread.

        "valid" on pictures that are kept apart, "seen" on some of those that are learnt from.
        """
        found = {}
        for name, part in (("valid", "valid"), ("seen", "train")):
            prepared = self.prepared.parts.get(part)
            if prepared is None or not prepared.captions:
                continue
            # few pictures are looked at several times, with other noise
            there, count = len(prepared.captions), self.judged
            every = [n * there // count if count <= there else n % there for n in range(count)]
            draws = np.random.default_rng(_JUDGE_SEED)
            levels = torch.from_numpy((draws.permutation(count) + 0.5) / count)
            total = 0.0
            for batch in in_batches(count, max(self.size, self.prepared.at_once)):
                if self.ctx is not None:
                    self.ctx.check()
                chosen = [(part, every[n]) for n in batch]
                total += float(self.loss(self._batch(chosen, draws, levels[list(batch)], 0.0)))
            found[name] = total / count
        return found

    def sample(self, step: int) -> Sequence[Sampled]:
        return self.looks(step)


# -- trying


@dataclass(frozen=True)
class Brush:
    """How a pipeline is called for a picture: the model's own settings, a size, and words with their seeds."""

    pipe: Any
    size: int
    defaults: Mapping[str, Any]
    prompts: tuple[str, ...]
    seed: int
    ctx: RunContext

    def paint(self, prompt: str, seed: int, steps: int = 0) -> Image.Image:
        """One picture. Raises BadResult: what came out is no picture."""
        takes = inspect.signature(type(self.pipe).__call__).parameters
        given: dict[str, Any] = {
            "prompt": prompt, "width": self.size, "height": self.size, "output_type": "np",
            "generator": torch.Generator().manual_seed(seed),
            "num_inference_steps": steps or int(self.defaults.get("steps", 20)),
            "callback_on_step_end": self._heard,
        }  # fmt: skip
        for name, value in (("guidance_scale", "guidance"), ("guidance_rescale", "guidance_rescale")):
            if value in self.defaults:
                given[name] = self.defaults[value]
        own = self.pipe.scheduler
        self.pipe.scheduler = copy.deepcopy(own)  # it remembers a call
        try:
            made = self.pipe(**{name: value for name, value in given.items() if name in takes}).images[0]
        finally:
            self.pipe.scheduler = own
        if not np.isfinite(made).all():
            raise BadResult(
                "The model makes pictures of numbers that are none, so it cannot be used.",
                "Try a lower learning rate, or the number format float32.",
            )
        return Image.fromarray((made * 255).round().astype(np.uint8))

    def _heard(self, pipe: Any, step: int, time: Any, values: dict[str, Any]) -> dict[str, Any]:
        self.ctx.check()
        return values

    def tried(self, step: int, folder: Path) -> list[Sampled]:
        """All prompts, told and written into `folder`, the run's."""
        return [
            self.keep(self.ctx, folder, step, index, prompt, self.paint(prompt, (self.seed + index) % SEED_LIMIT))
            for index, prompt in enumerate(self.prompts)
        ]

    @staticmethod
    def keep(ctx: RunContext, folder: Path, step: int, index: int, prompt: str, picture: Image.Image) -> Sampled:
        """Tell a picture that was tried, and write it into `folder`, the run's."""
        data = jpeg(picture)
        name = f"{SAMPLES}/{step:08d}-{index}.jpg"
        with contextlib.suppress(OSError):  # a full disk does not stop a training; it was told live
            (folder / SAMPLES).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_durably(folder / name, data)
        ctx.tried(step, index, prompt, jpeg=data)
        return Sampled(step, prompt, image=name)


def jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def sheet(rows: Sequence[Sequence[Image.Image]], gap: int = 4, side: int = 256) -> Image.Image:
    """Pictures in rows on one white page; each at most `side` px wide."""
    sides = [min(side, picture.width) for row in rows for picture in row]
    each = max(sides, default=side)
    across = max((len(row) for row in rows), default=0)
    page = Image.new("RGB", (across * (each + gap) + gap, len(rows) * (each + gap) + gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            small = picture if picture.width == each else picture.resize((each, each), Image.Resampling.LANCZOS)
            page.paste(small, (gap + x * (each + gap), gap + y * (each + gap)))
    return page
