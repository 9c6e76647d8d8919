"""Texts that a picture file carries, whatever its format. Knows names and bounds; knows nothing of what they say."""

from __future__ import annotations

from dataclasses import dataclass, field

from studio.library.metadata.found import TEXT_LIMIT

TEXTS_LIMIT = 64  # texts; programs write a handful
TOTAL_LIMIT = 8 * TEXT_LIMIT  # bytes of all texts together
WORK_LIMIT = 64 * TEXT_LIMIT  # bytes looked into for one file, which can point to the same ones many times


@dataclass
class Texts:
    """What the readers of the formats gather.

    Attributes:
        named: name -> text. A PNG's keyword as it is ("parameters"); "exif:UserComment", "xmp:description", "comment"
            for the others. The first of a name counts.
        left: (name, why) of texts that are there and were not read.
        width, height: px, or None.
    """

    named: dict[str, str] = field(default_factory=dict)
    left: list[tuple[str, str]] = field(default_factory=list)
    width: int | None = None
    height: int | None = None
    _total: int = 0
    _work: int = 0

    def afford(self, name: str, size: int) -> bool:
        """Whether so many bytes more may be looked into; if not, that is reported."""
        self._work += size + 1_024  # each has its own cost, however small
        if self._work > WORK_LIMIT:
            self.leave(name, "the file holds too much beside its picture; not all of it was read")
            return False
        return True

    def add(self, name: str, text: str) -> None:
        size = len(text.encode("utf-8", "replace"))
        if size > TEXT_LIMIT:
            self.too_long(name, size)
        elif len(self.named) >= TEXTS_LIMIT or self._total + size > TOTAL_LIMIT:
            self.leave(name, "one text too many")
        elif text.strip("\0 \n") and name not in self.named:
            self.named[name] = text
            self._total += size

    def too_long(self, name: str, size: int, at_least: bool = False) -> None:
        """Report a text that is not parsed. `size`: bytes, or the least it has."""
        more = "more than " if at_least else ""
        self.leave(name, f"{more}{size:,} bytes; texts of up to {TEXT_LIMIT:,} bytes are read")

    def leave(self, name: str, why: str) -> None:
        if len(self.left) < TEXTS_LIMIT and (name, why) not in self.left:
            self.left.append((name, why))

    def get(self, *names: str) -> str:
        """The first of these texts that is there, or an empty one."""
        return next((self.named[n] for n in names if n in self.named), "")


def eight_bits(data: bytes) -> str:
    """Text out of bytes that should be Latin-1 or ASCII, and in practice often are UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def user_comment(data: bytes, big_endian: bool) -> str:
    """The text of Exif's UserComment (Exif 3.0, section 4.6.5): eight bytes of character code, then the text.

    Programs leave the code out, write UTF-8 under "UNICODE", or take the other byte order than their file, so the
    bytes themselves have the last word.
    """
    code, body = data[:8], data[8:]
    if code == b"UNICODE\0":
        return _sixteen_bits(body, big_endian)
    if code == b"JIS\0\0\0\0\0":
        for encoding in ("iso2022_jp", "shift_jis", "euc_jp"):
            try:
                return body.decode(encoding).rstrip("\0")
            except UnicodeDecodeError:
                continue
        return body.decode("shift_jis", "replace").rstrip("\0")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        return eight_bits(body).rstrip("\0 ")
    return eight_bits(data).rstrip("\0 ")


def _sixteen_bits(body: bytes, big_endian: bool) -> str:
    if body.startswith((b"\xfe\xff", b"\xff\xfe")):
        return body.decode("utf-16", "replace").rstrip("\0")
    sample = body[:4096]
    if 0 not in sample:  # no space, letter or digit in either order: not UTF-16 as these texts have it
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError:
            pass
    # Texts on generation are mostly ASCII, so nearly every other byte is zero: the upper one.
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    order = big_endian if first == second else first > second
    return body[: len(body) & ~1].decode("utf-16-be" if order else "utf-16-le", "replace").rstrip("\0")
