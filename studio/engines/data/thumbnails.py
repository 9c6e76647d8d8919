"""A small picture of a data set: how long its rows are, or some of its pictures. Knows pillow and the kept facts."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from studio.core.learning import Dataset

WIDTH, HEIGHT = 256, 160
_GROUND, _BAR, _LINE = (246, 247, 249), (70, 110, 180), (205, 209, 216)
_PARTS = {"train": (70, 110, 180), "valid": (214, 145, 60), "test": (120, 160, 110)}


def thumbnail(made: Dataset, folder: Path) -> bytes:
    """As WebP."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), _GROUND)
    draw = ImageDraw.Draw(picture)
    if not (made.shape == "captions" and _pictures(picture, made, folder)):
        _bars(draw, list(made.lengths.values()))
    _strip(draw, {name: split.rows for name, split in made.splits.items()})
    held = io.BytesIO()
    picture.save(held, "WEBP", quality=80, method=3)
    return held.getvalue()


def _bars(draw: ImageDraw.ImageDraw, counts: list[int]) -> None:
    low, high = HEIGHT - 26, 14
    draw.line((16, low, WIDTH - 16, low), fill=_LINE, width=2)
    if not counts:
        return
    step = min(40.0, (WIDTH - 32) / len(counts))
    start = (WIDTH - step * len(counts)) / 2
    for at, count in enumerate(counts):
        if count:
            top = low - max(2, round((low - high) * count / max(counts)))
            draw.rectangle((start + at * step + 2, top, start + (at + 1) * step - 2, low), fill=_BAR)


def _strip(draw: ImageDraw.ImageDraw, rows: dict[str, int]) -> None:
    """How the rows are shared out, along the lower edge."""
    at, whole = 0.0, max(1, sum(rows.values()))
    for name, count in rows.items():
        wide = WIDTH * count / whole
        if count:
            draw.rectangle((at, HEIGHT - 8, at + wide, HEIGHT), fill=_PARTS.get(name, _BAR))
        at += wide


def _pictures(sheet: Image.Image, made: Dataset, folder: Path) -> bool:
    shown = 0
    for value in made.samples[:6]:
        with contextlib.suppress(OSError, ValueError, SyntaxError, KeyError, Image.DecompressionBombError):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(folder / value["image"]) as opened:
                    opened.draft("RGB", (160, 160))
                    small = ImageOps.fit(opened.convert("RGB"), (80, 70))
            sheet.paste(small, (4 + shown % 3 * 84, 4 + shown // 3 * 74))
            shown += 1
    return shown > 0
