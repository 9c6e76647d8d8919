"""What can be told of pictures without a model: light, colour, sharpness, edges, and which are nearly the same."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from PIL import Image

from studio.engines.evaluate.intervals import Array

SIDE = 256  # px that the longer side is brought to, so that sharpness of different sizes can be compared
EDGE = 0.2  # of the steepest slope there can be
NEAR = 6  # bits of 64 in which nearly equal pictures differ at most


class Looks(msgspec.Struct, frozen=True):
    """Of one picture; light and colour from 0 to 100.

    Attributes:
        light: mean of the luma. contrast: its standard deviation.
        colour: colourfulness of Hasler & Süsstrunk 2003, section 3.2.
        sharp: variance of the Laplacian of the luma (0…255), as Pech-Pacheco 2000.
        edges: share of pixels with a steep slope (Sobel), percent.
    """

    light: float
    contrast: float
    colour: float
    sharp: float
    edges: float
    mark: int  # 64 bits: which of two neighbours in a 9 × 8 picture is lighter


def look(image: Image.Image) -> Looks:
    """Measure a picture in RGB."""
    scale = SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
    red, green, blue = small[..., 0], small[..., 1], small[..., 2]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    first, second = red - green, (red + green) / 2 - blue
    colour = np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean())
    padded = np.pad(luma, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    laplace = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * middle
    across = _sobel(padded)
    down = _sobel(padded.T).T
    steep = np.hypot(across, down) / 1020.0  # 255 × 4: from black to white at once
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS), dtype=np.int16)
    bits = (grey[:, 1:] > grey[:, :-1]).reshape(-1)
    return Looks(
        light=float(luma.mean() / 2.55), contrast=float(luma.std() / 2.55), colour=float(colour),
        sharp=float(laplace.var()), edges=100.0 * float((steep > EDGE).mean()),
        mark=int("".join("1" if bit else "0" for bit in bits), 2),
    )  # fmt: skip


def _sobel(padded: Array) -> Array:
    slope = padded[:, 2:] - padded[:, :-2]
    return slope[:-2] + 2 * slope[1:-1] + slope[2:]


def near(marks: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of pictures (places) that are nearly the same: their marks differ in NEAR bits at most."""
    return [
        (i, j)
        for i, first in enumerate(marks)
        for j in range(i + 1, len(marks))
        if (first ^ marks[j]).bit_count() <= NEAR
    ]
