"""Pictures to be measured, with their prompts where these are known: a folder, or a data set. Knows files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from PIL import Image

from studio.core.learning import Dataset
from studio.core.paths import Paths
from studio.core.problems import BadRecipe, NotRead
from studio.core.text import shown
from studio.engines.evaluate.material import SPLITS
from studio.engines.image.opening import open_picture

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif")
MOST = 2000  # pictures: what is compared pair by pair grows with their square
CAPTION_LIMIT = 64 * 1024  # bytes


class Picture(msgspec.Struct, frozen=True):
    """A file, and what it should show; empty where that is not known."""

    path: Path
    prompt: str = ""


class Gallery(msgspec.Struct, frozen=True):
    name: str
    pictures: tuple[Picture, ...]
    left_out: int = 0  # beyond MOST


class _Row(msgspec.Struct):
    image: str = ""
    text: str = ""


def gallery(given: str, paths: Paths, field: str, check: Callable[[], None]) -> Gallery:
    """The pictures of a folder, or of a data set by its name or id.

    Raises:
        BadRecipe: neither is there, or it has no pictures; the problem names `field`. NotRead: damaged rows.
    """
    folder = Path(given)
    try:
        there = folder.is_absolute() and folder.is_dir()
    except (OSError, ValueError):
        there = False
    found = _of_folder(folder) if there else _of_dataset(given, paths, check)
    if not found:
        raise BadRecipe(
            f"There are no pictures in “{shown(folder.name if there else given, 80)}”.",
            "Give a folder of pictures, or the name of a data set of pictures.", field=field,
        )  # fmt: skip
    name = folder.name if there else given
    return Gallery(name, tuple(found[:MOST]), max(0, len(found) - MOST))


def _of_folder(folder: Path) -> list[Picture]:
    names = sorted(entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in PICTURES)
    return [Picture(folder / name, _caption(folder / name)) for name in names if (folder / name).is_file()]


def _caption(path: Path) -> str:
    try:
        with open(path.with_suffix(".txt"), "rb") as stream:
            return stream.read(CAPTION_LIMIT).decode("utf-8-sig", "replace").strip()
    except OSError:
        return ""


def _of_dataset(name: str, paths: Paths, check: Callable[[], None]) -> list[Picture]:
    about = msgspec.json.Decoder(Dataset)
    every = []
    try:
        folders = [Path(entry.path) for entry in os.scandir(paths.datasets) if entry.is_dir()]
    except OSError:
        folders = []
    for folder in folders:
        try:
            found = about.decode((folder / "dataset.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            continue
        if name in (found.id, found.name) and found.shape == "captions":
            every.append((found.created, folder))
    if not every:
        return []
    folder = max(every)[1]
    rows = msgspec.json.Decoder(_Row)
    for split in SPLITS:  # what was kept apart, where there is any
        pictures = []
        try:
            with open(folder / f"{split}.jsonl", "rb") as stream:
                for line in stream:
                    check()
                    row = rows.decode(line)
                    if row.image:
                        pictures.append(Picture(folder / row.image, row.text))
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError) as error:
            raise NotRead(f"The rows of “{shown(name, 80)}” cannot be read.", "Make the data set again.",
                          detail=str(error)) from error  # fmt: skip
        if pictures:
            return pictures
    return []


def opened(picture: Picture) -> Image.Image:
    """The picture in RGB, on white where it is see-through. Raises BadRecipe, NotRead."""
    image = open_picture(picture.path, name=f"“{shown(picture.path.name, 80)}”")
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
