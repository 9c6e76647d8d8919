"""Files as streams of bytes, characters, lines and JSON values, in bounded memory whatever they hold.

Knows compression, encodings and JSON; knows nothing of rows, columns or conversations.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from studio.core.problems import BadRecipe, NotRead
from studio.core.text import shown

Heard = Callable[[int], None]  # is told of so many bytes that were read from the disk; may raise JobCancelled

BLOCK = 1 << 18  # bytes
HEAD = 1 << 18  # bytes that are looked at to know what a file is
LINE_LIMIT = 128 << 20  # bytes of one JSON value; longer ones are no rows
PIECE_LIMIT = 16_000_000  # characters of one piece of text where nothing else says

_PACKED = ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\x00", "xz"))
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# Encodings that texts are found in, the most usual first.
_USUAL = (
    "cp1252", "cp1251", "cp1250", "shift_jis", "cp932", "gb18030", "big5", "euc_jp", "euc_kr", "cp949", "cp1253",
    "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "koi8_r", "koi8_u", "iso8859_2", "iso8859_5", "iso8859_7",
    "iso8859_15", "mac_roman", "mac_cyrillic", "cp437", "cp850", "cp852", "cp866", "tis_620", "iso2022_jp",
)  # fmt: skip
# What the decompressors and readers raise where a file is damaged or ends in the middle.
DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, ValueError)


class Bad(msgspec.Struct, frozen=True):
    """In place of a row: why it is none."""

    why: str


class Raw(io.RawIOBase):
    """A file that tells how much of it was read. It is where a cancel is heard, whatever library reads."""

    def __init__(self, path: Path, heard: Heard) -> None:
        super().__init__()
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed with this
        self._heard = heard

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        count = self._file.readinto(view[: 4 * BLOCK]) or 0
        self._heard(count)
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def quiet(count: int) -> None:
    """Hears nothing."""


def packed(head: bytes) -> str:
    """How a file is compressed: "gz", "bz2", "xz", or empty."""
    return next((kind for mark, kind in _PACKED if head.startswith(mark)), "")


@contextlib.contextmanager
def opened(path: Path, heard: Heard = quiet, *, unpack: bool = True) -> Iterator[BinaryIO]:
    """A file as it is read, unpacked on the fly where it is compressed."""
    with io.BufferedReader(Raw(path, heard), BLOCK) as plain:
        kind = packed(plain.peek(8)[:8]) if unpack else ""
        if kind == "gz":
            with gzip.GzipFile(fileobj=plain) as stream:
                yield cast(BinaryIO, stream)
        elif kind == "bz2":
            with bz2.BZ2File(plain) as stream:
                yield cast(BinaryIO, stream)
        elif kind == "xz":
            with lzma.LZMAFile(plain) as stream:
                yield cast(BinaryIO, stream)
        else:
            yield cast(BinaryIO, plain)


def head_of(path: Path, size: int = HEAD) -> bytes:
    """The first bytes of a file, unpacked; fewer where it is damaged there. Raises OSError: it cannot be read."""
    got = b""
    with opened(path) as stream:
        try:
            while len(got) < size and (block := stream.read(size - len(got))):
                got += block
        except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error):
            pass
    return got


def encoding_of(head: bytes, wanted: str = "") -> str:
    """The encoding of a text that begins with `head`.

    Args:
        wanted: what the user says it is; then that is what it is.

    Raises:
        BadRecipe: there is no encoding of that name.
    """
    if wanted:
        try:
            found = codecs.lookup(wanted)
            "".encode(found.name)  # some of them are no encodings of text
        except LookupError:
            raise BadRecipe(
                f"There is no encoding “{shown(wanted, 40)}”.", "For example utf-8, windows-1252, utf-16.",
                field="encoding",
            ) from None  # fmt: skip
        return "utf-8-sig" if found.name == "utf-8" else found.name
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return "utf-8"
    except UnicodeDecodeError as error:
        if error.start > len(head) * 0.9 and len(head) >= HEAD:
            return "utf-8"  # a broken character far inside is replaced; it does not make another encoding likely
    from charset_normalizer import from_bytes

    best = from_bytes(head[:32_768], cp_isolation=list(_USUAL)).best()
    # few letters beyond ASCII fit many encodings; the most usual of those that read them alike is meant
    likely = [best.encoding, *best.could_be_from_charset] if best is not None else []
    return next((name for name in _USUAL if name in likely), "cp1252")


def decoded(stream: BinaryIO, encoding: str, name: str, *, strict: bool, say: Callable[[str], None]) -> Iterator[str]:
    """The characters of a stream in blocks, with line ends as `\\n`.

    Args:
        strict: the user named the encoding; what does not fit it is an error then, and replaced otherwise.

    Raises:
        NotRead: there are bytes that do not fit the encoding; says where.
    """
    inner = codecs.getincrementaldecoder(encoding)("strict" if strict else "replace")
    decoder = io.IncrementalNewlineDecoder(inner, translate=True)
    at = broken = 0
    final = False
    while not final:
        block = stream.read(BLOCK)
        final = not block
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            where = at - (len(error.object) - len(block)) + error.start
            raise NotRead(
                f"“{shown(name)}” is not written in {encoding.removesuffix('-sig')}: byte {where:,} does not fit.",
                "Leave the encoding empty to have it found.", field="encoding",
            ) from None  # fmt: skip
        at += len(block)
        if not strict:
            broken += text.count("\ufffd")
        if text:
            yield text
    if broken:
        say(f"“{shown(name)}” has {broken:,} characters that cannot be read; “\ufffd” stands in their place.")


def lines(blocks: Iterator[str], limit: int) -> Iterator[tuple[str, bool]]:
    """Lines with their ends. One that is longer than `limit` comes in pieces, all but the last marked False."""
    rest: list[str] = []
    size = 0
    for block in blocks:
        parts = block.split("\n")
        for part in parts[:-1]:
            if rest:
                rest.append(part)
                part, rest, size = "".join(rest), [], 0
            while len(part) > limit:
                yield part[:limit], False
                part = part[limit:]
            yield part + "\n", True
        if parts[-1]:
            rest.append(parts[-1])
            size += len(parts[-1])
        while size > limit:
            whole = "".join(rest)
            yield whole[:limit], False
            rest = [whole[limit:]]
            size = len(rest[0])
    if size:
        yield "".join(rest), True


def border(text: str, limit: int) -> int:
    """Where to cut a text that is longer than `limit`: behind a paragraph, line, sentence or word, or at the limit."""
    for mark in ("\n\n", "\n", ". ", " "):
        at = text.rfind(mark, limit // 2, limit)
        if at > 0:
            return at + len(mark)
    return limit


def cut(text: str, longest: int) -> Iterator[str]:
    """A text in pieces of at most `longest` characters; 0 leaves it whole."""
    at = 0
    while longest and len(text) - at > longest:
        end = at + border(text[at : at + longest + 1], longest)
        yield text[at:end]
        at = end
    yield text[at:] if at else text


def texts(blocks: Iterator[str], by: str, longest: int) -> Iterator[str]:
    """The texts of a stream: the whole of it, its paragraphs, or its lines; none longer than `longest` characters.

    Args:
        by: "document", "paragraph" or "line".
    """
    limit = longest or PIECE_LIMIT
    if by == "document":
        held: list[str] = []
        size = 0
        for block in blocks:
            held.append(block)
            size += len(block)
            if size > limit:
                *ready, last = cut("".join(held), limit)
                yield from ready
                held, size = [last], len(last)
        if size:
            yield "".join(held)
        return
    if by == "line":
        for line, _ in lines(blocks, limit):
            if not line.isspace():
                yield line.strip("\n")
        return
    held, size = [], 0
    for line, whole in lines(blocks, limit):
        if (line.isspace() and whole) or size + len(line) > limit:
            if size:
                yield "".join(held)
            held, size = [], 0
        if not line.isspace():
            held.append(line)
            size += len(line)
    if size:
        yield "".join(held)


def value_of(line: bytes | str) -> Any:
    """A JSON value, or Bad."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:  # slower, and takes NaN and half characters, which other programs write
        return json.loads(line)
    except (ValueError, RecursionError):
        return Bad("a line that is not JSON")


def json_lines(
    stream: BinaryIO, encoding: str, name: str, *, strict: bool, say: Callable[[str], None]
) -> Iterator[Any]:
    """The values of a file with one JSON value a line; Bad for what is none."""
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        for text, whole in lines(decoded(stream, encoding, name, strict=strict, say=say), LINE_LIMIT):
            if not text.isspace():
                yield value_of(text) if whole else Bad("a line over 128 MB")
        return
    at = 0
    first = True
    while line := stream.readline(LINE_LIMIT + 1):
        size = len(line)
        if size > LINE_LIMIT and not line.endswith(b"\n"):
            line = b""
            while (rest := stream.readline(BLOCK)) and not rest.endswith(b"\n"):
                size += len(rest)
            size += len(rest)
            yield Bad("a line over 128 MB")
        if first:
            line, first = line.removeprefix(codecs.BOM_UTF8), False
        if line and not line.isspace():
            value = value_of(line)
            if isinstance(value, Bad) and not _is_utf8(line):
                if strict:
                    _not_utf8(line, at, name)
                value = value_of(line.decode("utf-8", "replace"))
            yield value
        at += size


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _not_utf8(line: bytes, at: int, name: str) -> None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotRead(
            f"“{shown(name)}” is not written in utf-8: byte {at + error.start:,} does not fit.",
            "Leave the encoding empty to have it found.", field="encoding",
        ) from None  # fmt: skip


_SPACE = re.compile(r"[\s,]*")


def json_array(blocks: Iterator[str]) -> Iterator[Any]:
    """The values of a JSON array one after another, of which only one is in memory; Bad where it is damaged."""
    decoder = json.JSONDecoder()
    text = ""
    at = wait = 0
    began = False
    for block in blocks:
        text = text[at:] + block if at else text + block
        at = 0
        if len(text) < wait:
            continue  # a value that was too long for what was read is tried again at twice the length
        if not began:
            text = text.lstrip("\ufeff \n\t\r")
            if not text:
                continue
            text, began = text.removeprefix("["), True
        while True:
            gap = _SPACE.match(text, at)
            at = gap.end() if gap else at
            if at >= len(text):
                wait = 0
                break
            if text[at] == "]":
                return
            try:
                value, at = decoder.raw_decode(text, at)
                wait = 0
            except (json.JSONDecodeError, RecursionError) as error:
                more = isinstance(error, json.JSONDecodeError) and (
                    error.msg.startswith("Unterminated string") or error.pos >= len(text) - 64
                )
                if more and len(text) - at < LINE_LIMIT:
                    wait = 2 * (len(text) - at)
                    break
                yield Bad("what comes after a place that is not JSON")
                return
            yield value
    # the last try, with all that there is
    rest = text[at:].strip().rstrip(",")
    while rest and rest[0] != "]":
        try:
            value, end = decoder.raw_decode(rest)
        except (json.JSONDecodeError, RecursionError):
            yield Bad("a value that ends in the middle")
            return
        yield value
        rest = rest[end:].lstrip(" ,\n\t\r")
