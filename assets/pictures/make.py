"""Draws the pictures that previews are fitted on: many colours, edges, gradients and grains in few bytes.

    python assets/pictures/make.py

Writes the WebP files beside itself; the same script writes the same pictures. Licence of script and pictures: CC0-1.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 256  # px
HERE = Path(__file__).resolve().parent
rng = np.random.default_rng(20)
Y, X = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)


def smooth(cells: int, channels: int) -> np.ndarray:
    """Soft noise, (SIDE, SIDE, channels) in 0…1, with about `cells` blobs across."""
    small = rng.random((cells, cells, channels))
    planes = [Image.fromarray((small[..., c] * 255).astype(np.uint8)) for c in range(channels)]
    return np.stack([np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for p in planes], -1) / 255


def hues(h: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
    """HSV planes in 0…1 to RGB in 0…1, (H, W, 3)."""
    k = (np.stack([h * 6 + n for n in (5, 3, 1)], -1)) % 6
    return v[..., None] * (1 - s[..., None] * np.clip(np.minimum(k, 4 - k), 0, 1))


def shapes(background: tuple[int, int, int], count: int) -> np.ndarray:
    """Flat ellipses, boxes and triangles on one colour."""
    image = Image.new("RGB", (SIDE, SIDE), background)
    draw = ImageDraw.Draw(image)
    for i in range(count):
        x, y, w, h = (int(v) for v in rng.integers((-30, -30, 20, 20), (226, 226, 130, 130)))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if i % 3 == 0:
            draw.ellipse((x, y, x + w, y + h), fill=colour)
        elif i % 3 == 1:
            draw.rectangle((x, y, x + w, y + h), fill=colour)
        else:
            draw.polygon([(x, y + h), (x + w // 2, y), (x + w, y + h)], fill=colour)
    return np.asarray(image) / 255


def landscape() -> np.ndarray:
    """Sky, sun, three rows of hills, grass."""
    sky = np.stack([0.45 + 0.5 * Y, 0.65 + 0.2 * Y, 0.95 - 0.25 * Y], -1)
    sky[(X - 0.72) ** 2 + (Y - 0.25) ** 2 < 0.008] = (1.0, 0.93, 0.6)
    for row, colour in enumerate([(0.45, 0.5, 0.62), (0.25, 0.42, 0.3), (0.16, 0.3, 0.12)]):
        edge = 0.45 + 0.17 * row + 0.06 * np.sin(X * (7 + 5 * row) + row * 2) + 0.02 * np.sin(X * 31 + row)
        sky = np.where((edge < Y)[..., None], np.asarray(colour), sky)
    return sky + (rng.random((SIDE, SIDE, 1)) - 0.5) * 0.08 * (Y > 0.6)[..., None]


def wood() -> np.ndarray:
    """Browns and skin tones with a soft grain."""
    tone = np.array([0.78, 0.57, 0.44]) * (0.55 + 0.9 * smooth(5, 1))
    return tone + 0.12 * np.sin(60 * Y + 8 * smooth(4, 1)[..., 0])[..., None]


def signs() -> np.ndarray:
    """A table of plain signs on white: discs, rings, bars and faces in strong colours and greys, some with outlines."""
    image = Image.new("RGB", (SIDE, SIDE), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    strong = hues(np.arange(12) / 12, np.where(np.arange(12) % 3, 0.85, 1.0), np.where(np.arange(12) % 2, 0.95, 0.7))
    greys = np.linspace(0, 0.85, 4)[:, None].repeat(3, 1)
    for i, colour in enumerate(np.concatenate([strong, greys])):
        x, y = i % 4 * 64 + 6, i // 4 * 64 + 6
        fill = tuple(int(v * 255) for v in colour)
        dark = tuple(int(v * 120) for v in colour)
        if i % 4 == 0:
            draw.ellipse((x, y, x + 52, y + 52), fill=fill, outline=dark, width=3)
        elif i % 4 == 1:
            draw.ellipse((x, y, x + 52, y + 52), outline=fill, width=13)
        elif i % 4 == 2:
            draw.rounded_rectangle((x, y + 8, x + 52, y + 44), 10, fill=fill)
        else:
            draw.ellipse((x, y, x + 52, y + 52), fill=fill)
            draw.ellipse((x + 12, y + 14, x + 20, y + 24), fill=(30, 30, 30))
            draw.ellipse((x + 32, y + 14, x + 40, y + 24), fill=(30, 30, 30))
    return np.asarray(image) / 255


PICTURES = {
    "1-hues": lambda: hues(X, np.clip(2 - 2 * Y, 0, 1), np.clip(2 * Y, 0, 1) * 0.5 + 0.5),
    "2-dark-hues": lambda: hues((X + 0.5) % 1, 0.4 + 0.6 * X, Y),
    "3-icons-on-white": lambda: shapes((255, 255, 255), 9),
    "4-icons-on-dark": lambda: shapes((24, 26, 34), 14),
    "5-soft": lambda: 0.15 + 0.7 * smooth(6, 3),
    "6-skin-and-wood": wood,
    "7-landscape": landscape,
    "8-signs": signs,
}  # fmt: skip

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        pixels = (np.clip(draw(), 0, 1) * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(HERE / f"{name}.webp", quality=82, method=6)
