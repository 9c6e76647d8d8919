"""Captioned pictures as a data set keeps them, cut to size; and what was made of them, kept in a file for a whole run.

Knows rows, pixels and bytes; knows nothing of models.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from studio.core.cards import ModelCard
from studio.core.files import sync_folder, write_durably
from studio.core.problems import BadRecipe, NotRead, NotSaved
from studio.core.text import shown
from studio.engines.context import FULL
from studio.engines.image.opening import open_picture

_ALIGNED = 64  # bytes: where an array may begin in a file


class _Row(msgspec.Struct):
    image: str
    text: str = ""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Captioned:
    """One picture. `captions`: ways to say what is on it, of which each time one is drawn; at least one, maybe empty.

    A data set may list a picture several times, each time with another caption: that is one picture here.
    """

    path: Path
    captions: tuple[str, ...]


def read_rows(data: ModelCard, split: str) -> list[Captioned]:
    """The pictures of one part of a data set; none where it has no such part.

    Args:
        data: the card of a data set. split: "train", "valid" or "test".

    Raises:
        BadRecipe: its rows are no pictures. NotRead: it is damaged, or a picture is gone.
    """
    if data.format and data.format != "captions":
        raise BadRecipe(
            f"The data set “{shown(data.name, 80)}” holds {'conversations' if data.format == 'chat' else 'texts'}, and "
            "a picture model learns from pictures with captions.",
            "Make a data set of a folder of pictures.", field="data",
        )  # fmt: skip
    folder = Path(data.path)
    decoder = msgspec.json.Decoder(_Row)
    found: dict[str, list[str]] = {}
    try:
        with open(folder / f"{split}.jsonl", "rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    row = decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise _damaged(
                        data, f"line {number:,} of {split}.jsonl is no picture with a caption", error
                    ) from None
                if not row.image or Path(row.image).is_absolute() or ".." in Path(row.image).parts:
                    raise _damaged(data, f"line {number:,} of {split}.jsonl points outside of it", row.image)
                found.setdefault(row.image, []).extend(row.texts or (row.text,))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NotRead(f"The data set “{shown(data.name, 80)}” could not be read: {error.strerror or error}.") from None
    return [Captioned(folder / image, tuple(dict.fromkeys(captions))) for image, captions in found.items()]


def _damaged(data: ModelCard, why: str, detail: object) -> NotRead:
    return NotRead(
        f"The data set “{shown(data.name, 80)}” is damaged: {why}.", "Make it anew from its sources.",
        detail=str(detail)[:2000],
    )  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """A picture brought to size. pixels: (3, H, W) uint8. size, corner, shown: (H, W) of the original, of where the cut
    begins in the scaled picture, and of what is seen, px."""

    pixels: Tensor
    size: tuple[int, int]
    corner: tuple[int, int]
    shown: tuple[int, int]

    def floats(self) -> Tensor:
        """From -1 to 1."""
        return self.pixels.float() / 127.5 - 1.0


def cut(row: Captioned, size: int, note: Callable[[str], None] = lambda _: None) -> Cut:
    """The middle of a picture as a square: its shorter side is brought to `size` and the rest cut off.

    What is see-through lies on white.

    Raises:
        NotRead, BadRecipe: it is gone or damaged.
    """
    if not row.path.is_file():
        raise NotRead(f"The picture “{shown(row.path.name, 80)}” of the data set is gone.", "Make the data set anew.")
    picture = open_picture(row.path, note, f"“{shown(row.path.name, 80)}”")
    if picture.mode == "RGBA":
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture)
        picture = page.convert("RGB")
    wide, high = picture.size
    scale = size / min(wide, high)
    if scale != 1.0:
        resized = (max(size, round(wide * scale)), max(size, round(high * scale)))
        picture = picture.resize(resized, Image.Resampling.LANCZOS)
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    picture = picture.crop((left, top, left + size, top + size))
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
    return Cut(pixels, (high, wide), (top, left), (size, size))


# -- kept for a run


class _Place(msgspec.Struct, array_like=True):
    at: int
    shape: tuple[int, ...]
    dtype: str


class _Index(msgspec.Struct):
    """What a shelf holds, and of what it was made: what was made of something else is not used again."""

    key: str
    items: list[dict[str, _Place]]


class Shelf:
    """Tensors laid end to end in one file, each read when it is needed: only what is looked at is in memory.

    The index is written last, so that a shelf that was cut off while it was filled does not exist.
    """

    def __init__(self, folder: Path, name: str, index: _Index) -> None:
        self._items = index.items
        path = folder / f"{name}.bin"
        # copy on write, so that torch does not warn of memory that cannot be written to; nothing writes
        self._bytes = np.memmap(path, np.uint8, "c") if path.stat().st_size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        found = {}
        for name, place in self._items[number].items():
            dtype = getattr(torch, place.dtype)
            length = int(np.prod(place.shape)) * torch.empty(0, dtype=dtype).element_size()
            flat = torch.from_numpy(self._bytes[place.at : place.at + length])
            found[name] = flat.view(dtype).reshape(place.shape)
        return found

    @classmethod
    def of(
        cls, folder: Path, name: str, key: str, count: int, make: Callable[[], Iterator[Mapping[str, Tensor]]]
    ) -> Shelf:
        """The shelf of this name, filled by `make` if it is not there or was made of something else.

        Args:
            key: tells what it is made of. count: how many items it holds when it is whole.
            make: yields the items.

        Raises:
            NotSaved: the disk is full or refuses.
        """
        about = folder / f"{name}.json"
        with contextlib.suppress(OSError, msgspec.DecodeError, ValueError):
            index = msgspec.json.decode(about.read_bytes(), type=_Index)
            if index.key == key and len(index.items) == count:
                return cls(folder, name, index)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            about.unlink(missing_ok=True)
            items = cls._filled(folder / f"{name}.bin", make())
            write_durably(about, msgspec.json.encode(_Index(key, items)))
        except OSError as error:
            if error.errno in FULL:
                raise NotSaved(
                    "The disk is full: what is learnt from could not be prepared.",
                    "Make room and begin the training again.",
                ) from error
            raise NotSaved(f"What is learnt from could not be prepared: {error.strerror or error}.") from error
        return cls(folder, name, _Index(key, items))

    @staticmethod
    def _filled(path: Path, items: Iterator[Mapping[str, Tensor]]) -> list[dict[str, _Place]]:
        places, at = [], 0
        # written and not mapped: a full disk is an error then, and no signal that ends the process
        with open(path, "wb") as stream:
            for item in items:
                place = {}
                for name, tensor in item.items():
                    flat = tensor.detach().cpu().contiguous()
                    place[name] = _Place(at, tuple(flat.shape), str(flat.dtype).removeprefix("torch."))
                    data = flat.reshape(-1).view(torch.uint8).numpy().tobytes()
                    data += b"\0" * (-len(data) % _ALIGNED)
                    stream.write(data)
                    at += len(data)
                places.append(place)
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(path.parent)
        return places


def in_batches(count: int, size: int) -> Iterator[Sequence[int]]:
    for first in range(0, count, size):
        yield range(first, min(first + size, count))
