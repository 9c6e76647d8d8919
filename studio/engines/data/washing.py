"""Rows as they are read, made into rows as they are kept: one after another, each by itself.

Knows what a row looks like in a data set, and which of its texts are cleaned how; knows no file but pictures, and
nothing of duplicates.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from studio.core.learning import DatasetRecipe
from studio.engines.data import chats, cleaning
from studio.engines.data.readers import Row
from studio.engines.data.streams import PIECE_LIMIT, Bad, cut

PICTURE_LIMIT = 256 << 20  # bytes of a picture's file
EXTENSIONS = {
    "PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "BMP": "bmp", "GIF": "gif", "TIFF": "tif",
    "AVIF": "avif",
}  # fmt: skip
# pillow's readers raise all of these for damaged files
_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, ArithmeticError, struct.error,
    zlib.error,
)  # fmt: skip
RAW = 2_000_000  # characters of a text that are cleaned at once
SAMPLED = 300  # rows whose language is told where none is asked for; of later ones every 32nd


class Kept(msgspec.Struct):
    """A row of a data set.

    Attributes:
        value: as it is written. text: all that is said in it, for counting and for telling it from others.
        part: the text that decides on the part it belongs to, where that is another one.
        picture: the content of its picture's file.
    """

    value: dict[str, Any]
    text: str
    part: str = ""
    picture: bytes = b""


class Washing:
    """Cleans rows as a recipe says. `shape` is that of the first row where the recipe leaves it open.

    Args:
        check: called now and then; may raise JobCancelled.
        tell: tell languages also where none are asked for. It needs a model that takes a second to load.

    Raises:
        BadRecipe: a language is not known.
    """

    def __init__(self, recipe: DatasetRecipe, check: Callable[[], None], *, tell: bool = True) -> None:
        self._recipe = recipe
        self._tell = tell
        self._check = check
        self.shape: str = "" if recipe.shape == "auto" else recipe.shape
        self._mend = cleaning.Mender()
        self._languages = cleaning.Languages(recipe.languages) if recipe.languages else None
        self._all: cleaning.Languages | None = None
        self._repeated = cleaning.Repeated() if recipe.boilerplate else None
        self.languages: Counter[str] = Counter()
        self._told = 0
        self.cut = 0  # texts, or large parts of texts, that were cut into pieces

    @property
    def repeated(self) -> int:
        """How many lines were left out because they came again and again."""
        return self._repeated.lines if self._repeated else 0

    def rows(self, row: Row) -> Iterator[Kept | Bad]:
        """What becomes of a row: pieces of it, itself, or why it is dropped."""
        if not self.shape:
            self.shape = row.shape
        if self.shape == "captions":
            yield self._picture(row) if row.picture is not None else Bad("a text among pictures")
        elif row.picture is not None:
            yield Bad("a picture among texts")
        elif self.shape == "chat":
            yield self._chat(row.messages) if row.shape == "chat" else Bad("a text among conversations")
        else:
            yield from self._texts(row.text if row.shape == "text" else chats.told(row.messages))

    def _clean(self, text: str) -> str:
        return cleaning.tidy(self._mend(text) if self._recipe.fix else text)

    def _texts(self, text: str) -> Iterator[Kept | Bad]:
        # A text of a hundred megabytes is cut before it is cleaned: cleaning makes copies.
        longest = self._recipe.longest or PIECE_LIMIT
        for part in cut(text, max(longest, RAW)):
            self._check()
            part = self._clean(part)
            if self._repeated is not None:
                part = self._repeated.without(part)
            self.cut += len(part) > longest or len(part) < len(text) > RAW
            yield from self._pieces(part, longest)

    def _pieces(self, text: str, longest: int) -> Iterator[Kept | Bad]:
        for piece in cut(text, longest):
            self._check()
            if len(piece) < len(text):
                piece = piece.strip("\n").rstrip()
            why = self._why(piece)
            if not why and self._recipe.boilerplate:
                found = cleaning.boilerplate(piece)
                why = f"boilerplate: {found}" if found else ""
            yield Bad(why) if why else Kept({"text": piece}, piece)

    def _why(self, text: str) -> str:
        """Why a text is not wanted, or empty."""
        if not text or text.isspace():
            return "empty"
        if len(text) < self._recipe.shortest:
            return "too short"
        if self._languages is None:
            if self._tell and (self._told < SAMPLED or self._told % 32 == 0):
                self._all = self._all or cleaning.Languages(())
                language, _ = self._all.of(text)
                if language:
                    self.languages[language] += 1
            self._told += 1
            return ""
        language, wanted = self._languages.of(text)
        if not wanted:
            return f"in another language ({language})"
        if language:
            self.languages[language] += 1
        return ""

    def _chat(self, messages: list[chats.Message]) -> Kept | Bad:
        said = [{"role": each["role"], "content": self._clean(each["content"])} for each in messages]
        said = [each for each in said if each["content"].strip()]
        while said and said[-1]["role"] != "assistant":
            said.pop()  # a question that was not answered teaches nothing
        if not chats.whole(said):
            return Bad("a conversation without a question and an answer")
        text = chats.told(said)
        why = self._why("\n".join(each["content"] for each in said))
        return Bad(why) if why else Kept({"messages": said}, text)

    def _picture(self, row: Row) -> Kept | Bad:
        caption = " ".join(self._clean(row.text).split())
        if caption or self._recipe.shortest > 1:
            why = self._why(caption)
            if why:
                return Bad(why)
        if isinstance(row.picture, bytes):
            data = row.picture
        else:
            try:
                data = _file(row.picture) if row.picture is not None else b""
            except FileNotFoundError:
                return Bad("a picture that is not there")
            except OSError:
                return Bad("a picture that cannot be read")
        if len(data) > PICTURE_LIMIT:
            return Bad("a picture of more than 256 MB")
        extension = _decodable(data)
        if not extension:
            return Bad("a picture that is damaged or none")
        name = hashlib.sha256(data).hexdigest()
        value = {"image": f"images/{name[:32]}.{extension}", "text": caption}
        # a picture that comes twice, with two captions, is in one part
        return Kept(value, f"{name}\n{caption}" if caption else name, name, data)


def _file(path: Path) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(PICTURE_LIMIT + 1)


def _decodable(data: bytes) -> str:
    """The ending of a picture's name, by its content; empty where it cannot be decoded."""
    from PIL import Image

    from studio.engines.image.opening import FORMATS, PIXELS_LIMIT

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and odd tags; too large ones are an error
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                kind = str(opened.format)
                if opened.width * opened.height > PIXELS_LIMIT:
                    return ""
                opened.load()
    except (*_DAMAGE, Image.DecompressionBombError):
        return ""
    return EXTENSIONS.get(kind, "")
