"""How much memory a job will take, told from its model's card and its recipe. Pure: nothing is opened or measured.

The constants were fitted to peaks of resident memory on a processor, in float32: of the picture starter at 128, 512 and
1024 px (decoder 30, 220, 555 MB; denoiser 26, 136, 464 MB), and of networks of Stable Diffusion's size with random
weights (decoder at 256 px 311 MB; denoiser at 256 and 512 px 223 and 413 MB). They are meant to be right within a
factor of two.
"""

from __future__ import annotations

import math

import msgspec

from studio.core.cards import ModelCard
from studio.core.plans import MEMORY_MODES
from studio.core.recipes import ImageRecipe, Recipe, SpeechRecipe, TextRecipe

MIB = 1024 * 1024
BASE = 24 * MIB  # what any run takes: buffers, the encoded file
UNET_COPIES = 40  # of the first level's activations, alive at once: skips, attention, the feed-forward's wider layers
TOKEN_COPIES = 20  # of a transformer's activations: queries, keys, values, and a feed-forward four times as wide
DECODER_COPIES = 5  # of the autoencoder's widest layer at full size
TILE = 512  # px; diffusers decodes in tiles of this side, unless the model says otherwise
WORDS = 512  # tokens of text that a transformer reads beside the picture's
USUAL_CONTEXT = 4096  # tokens
LETTER = 0.55 * MIB  # of a sentence that is spoken; measured 16, 169 and 222 MB for 32, 301 and 400 letters
SENTENCE = 400  # letters; a voice is given no more at once
LAYERS = 20  # a layer is about this part of a model
RESERVE = 0.1  # of what is free stays free


class Estimate(msgspec.Struct, frozen=True):
    """Bytes.

    Attributes:
        weights: the model itself. decoder: making pixels.
        activations: the denoiser at work, the cache of a text, or a sentence that is spoken.
        mapped: the weights are read from their file as they are needed, and the system may drop them.
    """

    weights: int
    activations: int = 0
    decoder: int = 0
    mapped: bool = False

    @property
    def peak(self) -> int:
        """The most that is held at once: denoising and decoding follow one another."""
        return self.weights + max(self.activations, self.decoder)


def estimate(card: ModelCard, recipe: Recipe | None = None, mode: str = "full", number: int | None = None) -> Estimate:
    """What a job will take on the device it runs on.

    Args:
        recipe: None for the model's own size, or the usual length of a text.
        mode: one of plans.MEMORY_MODES.
        number: bytes per number while it computes; None for float32, which every processor has.
    """
    needs = card.needs
    if isinstance(recipe, TextRecipe) or card.kind == "text":
        context = getattr(recipe, "context", 0) or USUAL_CONTEXT
        context = min(context, card.limits.context or context)
        if card.format == "transformers":  # in the number format that is computed in; the cache as well
            number = number or 4
            weights = needs.weights * number // needs.number if needs.number else needs.weights
            return Estimate(weights, context * needs.per_token * number // 2 + BASE)
        return Estimate(needs.weights, context * needs.per_token + BASE, mapped=True)
    if isinstance(recipe, SpeechRecipe) or card.kind == "speech":
        letters = len(recipe.text) if isinstance(recipe, SpeechRecipe) else SENTENCE
        return Estimate(needs.weights, 8 * MIB + math.ceil(LETTER * min(letters, SENTENCE)))
    if card.kind != "image":
        return Estimate(needs.weights)
    number = number or 4
    weights = needs.weights
    if mode == "offload":
        weights = needs.largest or weights // 2
    elif mode == "sequential":
        weights //= LAYERS
    weights = weights * number // needs.number if needs.number else weights
    return Estimate(weights, *_picture(card, recipe, mode, number))


def _picture(card: ModelCard, recipe: Recipe | None, mode: str, number: int) -> tuple[int, int]:
    needs, limits = card.needs, card.limits
    width, height = limits.width or 512, limits.height or 512
    both = 2  # with guidance, two predictions are made at once
    if isinstance(recipe, ImageRecipe):
        width, height = recipe.width or width, recipe.height or height
    pixels = width * height
    latents = pixels / max(1, needs.latent) ** 2
    if needs.patch:
        tokens = latents / needs.patch**2 + WORDS
        activations = tokens * needs.channels * TOKEN_COPIES * number
    else:
        activations = latents * needs.channels * UNET_COPIES * number * both
    shown = min(pixels, TILE * TILE) if MEMORY_MODES.index(mode) >= MEMORY_MODES.index("tiled") else pixels
    decoder = shown * needs.decoder * DECODER_COPIES * number + pixels * 16
    return math.ceil(activations) + BASE, math.ceil(decoder) + BASE


def modes_of(device: str) -> tuple[str, ...]:
    """The ways to save memory that mean something on a device, from the fastest to the thriftiest.

    Attention in slices is left to Apple's: elsewhere torch computes it without ever holding all of it, and slices take
    far more (measured with the starter at 1024 px on a processor: 4.4 GB instead of 0.5 GB).
    """
    if device.startswith("cuda"):
        return ("full", "tiled", "offload", "sequential")
    if device.startswith("mps"):
        return ("full", "sliced", "tiled")
    return ("full", "tiled")


def first_mode(
    card: ModelCard, recipe: Recipe | None, free: int | None, device: str, *, number: int | None = None, held: int = 0
) -> str:
    """The first way whose peak fits into what is free; the thriftiest where none does.

    Args:
        free: bytes that can be had on the device, None where that is not known.
        device: as torch writes it; ways that mean nothing there are passed over.
        number: bytes per number while it computes; None for float32 on a processor and half of that elsewhere.
        held: bytes of this model that are on the device already, and are not among what is free.
    """
    modes = modes_of(device)
    if free is None or not card.needs.weights:
        return modes[0]
    number = number or (4 if device == "cpu" else 2)
    room = free * (1 - RESERVE) + held
    return next((mode for mode in modes if estimate(card, recipe, mode, number).peak <= room), modes[-1])
