"""An autoencoder that learns: pictures into latents of an eighth of their side, and back.

A new one learns as a whole. Of one that is there the decoder alone learns, so that models that were made with its
latents still fit. Knows pictures and what makes two of them alike; knows nothing of words.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from studio.core.cards import ModelCard
from studio.core.files import write_durably
from studio.core.learning import Sampled
from studio.core.problems import BadRecipe, BadResult
from studio.engines.context import RunContext
from studio.engines.image import trouble
from studio.engines.train import new_models, picture_card, picture_models
from studio.engines.train.loop import Estimate, seed_of
from studio.engines.train.painter import Brush, at_once, sheet
from studio.engines.train.painter import jpeg as as_jpeg
from studio.engines.train.picture_data import Captioned, Shelf, cut, in_batches
from studio.engines.train.picture_models import plainly
from studio.engines.train.task import Outcome, Task
from studio.models.identify import look

SIZE = 128  # px, where nothing is asked for
LEVELS = 4  # of a new one; each but the last halves the side
SHOWN = 4  # pictures that are tried
SPREAD_OF = 1024  # pictures that the spread of latents is measured on
EDGES, COARSE, SPREAD = 1.0, 0.5, 1e-3  # weights of the parts of the loss, beside 1 for the plain difference
_SHIFT = 8  # px a picture is moved at most, so that nothing is learnt of places


@dataclass
class Mirrors:
    """See `loop.Course`. The loss of a picture is what it lost on the way into latents and back.

    Attributes:
        pixels: (3, H, W) uint8 of each picture, by part of the data. decoder_only: the encoder stays as it is.
    """

    vae: Any
    pixels: dict[str, Shelf]
    shown: list[str]
    seed: int
    size: int
    ctx: RunContext
    folder: Path
    device: str
    accumulate: int = 1
    decoder_only: bool = False
    mirror: bool = False
    judged: int = 64
    at_once: int = 8
    unit: str = "pictures"
    _order: tuple[int, Any] = field(default=(-1, None))

    @property
    def models(self) -> Mapping[str, nn.Module]:
        return {"vae": self.vae}

    def weight(self, step: int, part: int) -> float:
        return float(self.size)

    def units(self, batch: Tensor) -> int:
        return len(batch)

    def batch(self, step: int, part: int) -> Tensor:
        first = (step * self.accumulate + part) * self.size
        draws = np.random.default_rng(seed_of(self.seed, step, part))
        chosen = []
        for position in range(first, first + self.size):
            picture = self.pixels["train"][self._at(position)]["pixels"]
            if self.mirror and draws.random() < 0.5:
                picture = picture.flip(-1)
            if draws.random() < 0.5:
                down, right = draws.integers(-_SHIFT, _SHIFT + 1, 2)
                picture = torch.roll(picture, (int(down), int(right)), (1, 2))
            chosen.append(picture)
        return torch.stack(chosen).to(self.device).float() / 127.5 - 1.0

    def _at(self, position: int) -> int:
        time, place = divmod(position, len(self.pixels["train"]))
        if self._order[0] != time:
            draws = np.random.default_rng(seed_of(self.seed, 1 << 41, time))
            self._order = time, draws.permutation(len(self.pixels["train"]))
        return int(self._order[1][place])

    def loss(self, batch: Tensor) -> Tensor:
        if self.decoder_only:
            with torch.no_grad():
                latents = self.vae.encode(batch).latent_dist.mode()
            return apart(batch, self.vae.decode(latents).sample.float()).sum()
        drawn = self.vae.encode(batch).latent_dist
        seen = self.vae.decode(drawn.sample()).sample.float()
        numbers = drawn.mean[0].numel()
        # the usual pull towards a normal spread, weak: latents should not drift apart, and nothing is drawn from it
        return (apart(batch, seen) + SPREAD * drawn.kl().float() / numbers).sum()

    def validate(self) -> dict[str, float]:
        """ "valid": the loss without draws; "l1": mean difference in 0…1; "psnr": in dB. On pictures kept apart, or on
        some that are learnt from where there are none ("seen")."""
        part = "valid" if "valid" in self.pixels else "train"
        shelf = self.pixels[part]
        count = min(len(shelf), self.judged)
        every = [number * len(shelf) // count for number in range(count)]
        lost = plain = square = 0.0
        for batch in in_batches(count, max(self.size, self.at_once)):
            self.ctx.check()
            given = torch.stack([shelf[every[n]]["pixels"] for n in batch]).to(self.device).float() / 127.5 - 1.0
            seen = self.through(given)
            lost += float(apart(given, seen).sum())
            difference = (given - seen.clamp(-1, 1)) / 2
            plain += float(difference.abs().flatten(1).mean(1).sum())
            square += float((difference**2).flatten(1).mean(1).sum())
        found = {"l1": plain / count, "psnr": -10 * math.log10(max(square / count, 1e-12))}
        return {"valid" if part == "valid" else "seen": lost / count, **found}

    def through(self, pictures: Tensor) -> Tensor:
        latents = self.vae.encode(pictures).latent_dist.mode()
        seen: Tensor = self.vae.decode(latents).sample.float()
        return seen

    def sample(self, step: int) -> Sequence[Sampled]:
        """Some pictures beside what comes back of them."""
        shelf = self.pixels.get("valid", self.pixels["train"])
        made = []
        for index in range(min(SHOWN, len(shelf))):
            given = shelf[index * len(shelf) // min(SHOWN, len(shelf))]["pixels"][None].to(self.device)
            seen = self.through(given.float() / 127.5 - 1.0)
            pair = sheet([[as_picture(given.float() / 127.5 - 1.0), as_picture(seen)]])
            words = self.shown[index * len(self.shown) // min(SHOWN, len(shelf))] or f"picture {index + 1}"
            made.append(Brush.keep(self.ctx, self.folder, step, index, words, pair))
        return made


def apart(one: Tensor, other: Tensor) -> Tensor:
    """How different pictures look, (B,): colours, edges, and edges of the halved picture. Both (B, 3, H, W) in -1…1.

    Edges in place of a network trained on photographs, which would be another model to ship: they keep drawings sharp.
    """
    plain = (one - other).abs().flatten(1).mean(1)
    half, other_half = functional.avg_pool2d(one, 2), functional.avg_pool2d(other, 2)
    return plain + EDGES * _edges(one, other) + COARSE * _edges(half, other_half)


def _edges(one: Tensor, other: Tensor) -> Tensor:
    across = (one.diff(dim=3) - other.diff(dim=3)).abs().flatten(1).mean(1)
    down = (one.diff(dim=2) - other.diff(dim=2)).abs().flatten(1).mean(1)
    return across + down


def as_picture(values: Tensor) -> Image.Image:
    """The first of some pictures in -1…1."""
    pixels = ((values[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)


def train(task: Task) -> Outcome | Estimate:
    """Train an autoencoder, keep it as a folder of its own, and load it back.

    Raises:
        As `TrainImage.run`.
    """
    recipe, ctx = task.recipe, task.ctx
    parts = task.parts()
    course = _begun(task, parts)
    if recipe.checkpointing:
        course.vae.enable_gradient_checkpointing()
    rules = task.rules(betas=(0.9, 0.95))
    if task.rehearsal:
        return task.estimate(course, rules)
    learned = task.learn(course, rules)
    if task.trial:
        return Outcome(learned, (), None)
    ctx.progress(recipe.steps, recipe.steps, "steps", "saving")
    vae = course.vae.eval().requires_grad_(False)
    with torch.no_grad():
        if not course.decoder_only:
            vae.register_to_config(scaling_factor=_scaling(vae, course.pixels["train"], task))
        if recipe.half:
            picture_models.rounded([vae])
        given = course.pixels["train"][0]["pixels"][None].to(task.device).float() / 127.5 - 1.0
        expected = as_picture(course.through(given))
    rows = task.tried_pictures(learned.samples)
    picture = sheet([rows[0], rows[-1]]) if rows else None

    def write(folder: Path) -> None:
        plainly(lambda: picture_models.save_whole(vae, folder, recipe.half))
        write_durably(folder / "studio.json", task.about(learned))
        if picture is not None:
            write_durably(folder / "samples.jpg", as_jpeg(picture))
        write_durably(folder / "README.md", picture_card.text(task, learned).encode())
        picture_models.copy_licences(task.base, folder)

    def check(folder: Path) -> str:
        from diffusers import AutoencoderKL

        seen = look(folder)
        if not isinstance(seen, ModelCard) or seen.kind != "vae":
            raise BadResult("The autoencoder that was made is not recognised as one.", detail=repr(seen)[:2000])
        back = AutoencoderKL.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        course.vae = back.float().to(task.device).eval()
        with torch.no_grad():
            found = as_picture(course.through(given))
        trouble.give_back(task.device)
        return picture_models.compared(expected, found, "Opened with plain diffusers", task.coarse)

    return Outcome(learned, (task.place("autoencoder", write, check),), picture)


def _begun(task: Task, parts: Mapping[str, Sequence[Captioned]]) -> Mirrors:
    from diffusers import AutoencoderKL

    recipe, size = task.recipe, task.recipe.size or SIZE
    vae = new_models.autoencoder(task)
    there = vae is not None
    if not there:
        wide = max(8, recipe.channels // 6)
        task.begin_numbers()
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * LEVELS, up_block_types=("UpDecoderBlock2D",) * LEVELS,
            block_out_channels=tuple(wide * 2**n for n in range(LEVELS)), latent_channels=recipe.latents,
            norm_num_groups=math.gcd(wide, 8), layers_per_block=1, sample_size=size,
        )  # fmt: skip
    multiple = 2 ** (len(vae.config.block_out_channels) - 1)
    if size % (2 * multiple):
        raise BadRecipe(
            f"An autoencoder of this build learns sides that are multiples of {2 * multiple} px; {size} is none.",
            field="size",
        )
    vae = vae.float().to(task.device)
    vae.requires_grad_(not there).train()
    if there:
        task.ctx.note("Only the decoder learns, so that models that were made with this autoencoder still fit it.")
        vae.decoder.requires_grad_(True)
        if getattr(vae, "post_quant_conv", None) is not None:
            vae.post_quant_conv.requires_grad_(True)
    pixels = {name: task.preparing(functools.partial(_pixels, task, name, rows, size)) for name, rows in parts.items()}
    shown = [row.captions[0] for row in parts.get("valid") or parts["train"]]
    return Mirrors(
        vae, pixels, shown, task.seed, recipe.batch, task.ctx, task.folder, task.device, recipe.accumulate, there,
        recipe.mirror, task.judged(task.rules()), at_once(size),
    )  # fmt: skip


def _pixels(task: Task, name: str, rows: Sequence[Captioned], size: int) -> Shelf:
    def made() -> Iterator[dict[str, Tensor]]:
        for number, row in enumerate(rows):
            task.ctx.check()
            task.ctx.loading("pictures", number / len(rows))
            yield {"pixels": cut(row, size, task.ctx.note).pixels}

    return Shelf.of(
        task.folder, f"pixels-{name}", f"{task.data.sha256 or task.data.id}/{size}/{len(rows)}", len(rows), made
    )


def _scaling(vae: Any, shelf: Shelf, task: Task) -> float:
    """What brings latents to a spread of 1, where noise is as strong as they are."""
    count = min(len(shelf), SPREAD_OF)
    numbers, total, square = 0, 0.0, 0.0
    for batch in in_batches(count, at_once(task.recipe.size or SIZE)):
        task.ctx.check()
        given = torch.stack([shelf[n * len(shelf) // count]["pixels"] for n in batch]).to(task.device)
        latents = vae.encode(given.float() / 127.5 - 1.0).latent_dist.mode().double()
        numbers, total, square = (
            numbers + latents.numel(),
            total + float(latents.sum()),
            square + float((latents**2).sum()),
        )
    spread = math.sqrt(max(square / numbers - (total / numbers) ** 2, 1e-12))
    return 1.0 / spread
