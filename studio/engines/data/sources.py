"""Which files a data set is made of, in an order that is the same on every machine, and what each of them is.

Knows names, endings and first bytes; reads no rows.
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import msgspec

from studio.core.learning import DatasetRecipe
from studio.core.problems import BadRecipe, NotRead
from studio.core.text import shown
from studio.engines.data import streams

PACKED = (".gz", ".bz2", ".xz")
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
ENDINGS = {
    ".txt": "text", ".text": "text", ".rst": "text", ".md": "markdown", ".markdown": "markdown", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".xml": "wikipedia",
    ".wet": "wet", ".epub": "epub", ".html": "html", ".htm": "html", ".xhtml": "html",
    **dict.fromkeys(PICTURES, "picture"),
}  # fmt: skip
# What the recipe's format lets a file be; the first is what it is where nothing about it says more.
ALLOWED = {
    "text": ("text",), "markdown": ("markdown",), "jsonl": ("jsonl", "json"), "csv": ("csv",), "parquet": ("parquet",),
    "chat": ("jsonl", "json", "whatsapp"), "wikipedia": ("wikipedia",), "wet": ("wet",),
    "pictures": ("picture", "jsonl", "json", "csv", "parquet"),
}  # fmt: skip
TITLES = {
    "text": "plain text", "markdown": "Markdown", "jsonl": "JSON, one value a line", "json": "JSON", "csv": "a table",
    "parquet": "Parquet", "wikipedia": "a Wikipedia dump", "wet": "Common Crawl text", "epub": "a book (EPUB)",
    "html": "a web page", "picture": "pictures", "whatsapp": "a WhatsApp chat",
}  # fmt: skip
TABLES = ("jsonl", "json", "csv", "parquet")

# “[31.12.23, 21:41:05] Anna: Hello” and “12/31/23, 9:41 PM - Anna: Hello”; a mark of direction may come first.
WHATSAPP = re.compile(
    r"^[\u200e\u200f]*\[?(\d{1,4}[./-]\d{1,2}[./-]\d{1,4}),?[ \u202f]+\d{1,2}[:.]\d{2}(?:[:.]\d{2})?"
    r"(?:[ \u202f]?[APap]\.?[ ]?[Mm]\.?)?\]?(?: -)? (?:([^:\n]{1,60}): )?(.*)$"
)
_ZIP = b"PK\x03\x04"


class Source(msgspec.Struct, frozen=True):
    """One file to read.

    Attributes:
        name: its path within what was given, with forward slashes. It decides the order, so it must not depend on
            where the folder lies.
        root: the folder that pictures it names must lie in. given: the source of the recipe it belongs to.
        caption: of a picture: the text file beside it.
    """

    path: Path
    name: str
    root: Path
    given: str
    kind: str
    size: int
    caption: Path | None = None

    @property
    def alone(self) -> bool:
        """Whether it was named itself, and is not one of the many of a folder."""
        return str(self.path) == self.given


class Found(msgspec.Struct, frozen=True):
    """All files, and why others are not among them. `bare`: pictures without captions are taken as they are."""

    sources: tuple[Source, ...]
    left_out: dict[str, int] = {}
    bare: bool = False


def kind_by_name(path: Path) -> str:
    """What an ending promises; empty for one that promises nothing."""
    name = path.name.lower()
    for ending in PACKED:
        name = name.removesuffix(ending)
    return ENDINGS.get(PurePosixPath(name).suffix, "")


def kind_of(path: Path, wanted: str = "auto") -> str:
    """What a file is, by its content first and its ending second.

    Args:
        wanted: the recipe's format.

    Raises:
        NotRead: it cannot be read, or holds nothing this studio makes rows of.
    """
    try:
        head = streams.head_of(path)
    except OSError as error:
        raise NotRead(f"“{shown(path.name)}” cannot be read: {error.strerror or error}.", field="sources") from None
    kind = _kind(path, head)
    if wanted == "auto":
        if not kind:
            raise NotRead(
                f"“{shown(path.name)}” holds no text that can be read.",
                "Choose a format if you know better; PDF and Word files are to be saved as text first.",
                field="sources",
            )
        return kind
    allowed = ALLOWED[wanted]
    return kind if kind in allowed else allowed[0]


def _kind(path: Path, head: bytes) -> str:
    by_name = kind_by_name(path)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:4096]
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(_ZIP):
        return "epub" if b"application/epub+zip" in head[:200] or by_name == "epub" else ""
    if by_name == "picture" or head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or head[8:12] == b"WEBP":
        return "picture"
    if start.startswith(b"WARC/"):
        return "wet"
    if b"<mediawiki" in start:
        return "wikipedia"
    if not head:
        return by_name or "text"
    if not head.startswith((b"\xff\xfe", b"\xfe\xff")) and b"\0" in head and by_name not in ("text", "csv"):
        return ""
    if start[:1] in (b"[", b"{") and (kind := _json_kind(head, start, by_name)) != "text":
        return kind
    if by_name in ("wikipedia", "wet", "epub", "parquet", "picture"):
        return "html" if b"<html" in start.lower() else "text"
    if by_name in ("jsonl", "json"):
        return by_name
    if by_name == "text" or not by_name:
        text = head[:65_536].decode("utf-8", "replace")
        found = [bool(WHATSAPP.match(line)) for line in text.splitlines()[:50]]
        if sum(found) >= max(2, len(found) // 3):
            return "whatsapp"
    if not by_name and start.lower().startswith((b"<!doctype html", b"<html")):
        return "html"
    return by_name or "text"


def _json_kind(head: bytes, start: bytes, by_name: str) -> str:
    """JSON in lines or as one value. Text may begin with a bracket, too."""
    if by_name in ("markdown", "csv", "html"):
        return by_name
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n", 1)[0].rstrip()
    try:
        value = json.loads(first)
        whole = True
    except (ValueError, RecursionError):
        value, whole = None, False
    if whole and isinstance(value, dict):
        return "jsonl"
    if whole and isinstance(value, list):
        # a line that is a conversation is one row of many; any other list holds the rows
        talk = value and all(isinstance(each, dict) and ("role" in each or "from" in each) for each in value)
        return "jsonl" if talk else "json"
    if by_name in ("json", "jsonl"):
        # a first line that is cut off by the end of the head may be one long value of many
        return "json" if start[:1] == b"[" or b"\n" in head else by_name
    looks = re.match(rb'\[\s*(?:[\[{"\d]|$)|\{\s*"', start)
    return ("json" if start[:1] == b"[" or b"\n" in head else "jsonl") if looks and by_name != "text" else "text"


def find(recipe: DatasetRecipe, check: Callable[[], None], *, limit: int = 0) -> Found:
    """All files of a recipe's sources.

    Args:
        check: called for every entry; may raise JobCancelled.
        limit: stop after so many files; 0 takes all.

    Raises:
        NotRead: a source is not there, or is of no use.
    """
    sources: list[Source] = []
    left_out: Counter[str] = Counter()
    bare = False
    for given in recipe.sources:
        path = Path(given)
        try:
            about = path.stat()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", "") or str(error)
            raise NotRead(f"“{shown(given, 200)}” cannot be read: {why}.", field="sources") from None
        if stat.S_ISDIR(about.st_mode):
            inside, plain = _folder(path, given, recipe, left_out, check, limit)
            sources += inside
            bare = bare or plain
        elif stat.S_ISREG(about.st_mode):
            kind = kind_of(path, recipe.format)
            sources.append(Source(path, _named(path.name), path.parent, given, kind, about.st_size))
            bare = bare or kind == "picture"
        else:
            raise NotRead(f"“{shown(given, 200)}” is neither a file nor a folder.", field="sources")
    if not sources:
        what = ", ".join(f"{count:,} × {why}" for why, count in left_out.most_common(3))
        raise NotRead(
            "There is nothing in these sources that can be read.", f"Left out: {what}." if what else "", field="sources"
        )
    sources.sort(key=lambda source: (source.name, source.size))
    return Found(tuple(sources), dict(left_out), bare)


def _folder(
    root: Path, given: str, recipe: DatasetRecipe, left_out: Counter[str], check: Callable[[], None], limit: int
) -> tuple[list[Source], bool]:
    files = _walk(root, left_out, check, limit)
    allowed = ALLOWED.get(recipe.format)
    pictured = recipe.format in ("auto", "pictures") and recipe.shape in ("auto", "captions")
    kinds = {path: kind_by_name(path) for path, _ in files}
    captions: dict[Path, Path] = {}
    if pictured:
        texts = {path.with_suffix(""): path for path, _ in files if path.suffix.lower() in (".txt", ".caption")}
        for path, kind in kinds.items():
            if kind == "picture" and path.with_suffix("") in texts:
                captions[path] = texts[path.with_suffix("")]
    beside = set(captions.values())
    tables = any(kind in TABLES for kind in kinds.values())
    bare = pictured and not captions and not tables and any(kind == "picture" for kind in kinds.values())
    found: list[Source] = []
    for path, size in files:
        check()
        kind = kinds[path]
        if path in beside:
            continue
        name = _named(path.relative_to(root).as_posix())
        if kind == "picture":
            if not pictured:
                left_out["a picture, where texts are read"] += 1
            elif path in captions or bare:
                found.append(Source(path, name, root, given, kind, size, captions.get(path)))
            elif not tables:
                left_out["a picture without a caption"] += 1
            continue
        if not kind and allowed is None:
            left_out[f"a file of another kind ({shown(path.suffix.lower() or 'without an ending', 20)})"] += 1
            continue
        try:
            kind = kind_of(path)
        except NotRead:
            left_out["a file that cannot be read"] += 1
            continue
        if allowed is not None and kind not in allowed:
            left_out["a file of another kind"] += 1
            continue
        found.append(Source(path, name, root, given, kind, size))
    return found, bare


def _walk(root: Path, left_out: Counter[str], check: Callable[[], None], limit: int) -> list[tuple[Path, int]]:
    """The files below a folder with their sizes, by name. Links are followed within the folder, and none twice."""
    try:
        inside = os.path.realpath(root, strict=True)
    except OSError as error:
        raise NotRead(
            f"“{shown(str(root), 200)}” cannot be read: {error.strerror or error}.", field="sources"
        ) from None
    found: list[tuple[Path, int]] = []
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            about = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            left_out["a folder that cannot be read"] += 1
            continue
        if (about.st_dev, about.st_ino) in seen:
            left_out["a link back to a folder"] += 1
            continue
        seen.add((about.st_dev, about.st_ino))
        deeper = []
        for entry in entries:
            check()
            if limit and len(found) >= limit:
                return found
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = folder / entry.name
            try:
                if entry.is_symlink():
                    target = os.path.realpath(path, strict=True)
                    if os.path.commonpath((inside, target)) != inside:
                        left_out["a link to somewhere outside of the folder"] += 1
                        continue
                if entry.is_dir():
                    deeper.append(path)
                elif entry.is_file():
                    found.append((path, entry.stat().st_size))
            except (OSError, ValueError):
                left_out["a link that leads nowhere"] += 1
        waiting += reversed(deeper)
    return found


def _named(path: str) -> str:
    """A name as it is written on every system: macOS takes letters with marks apart."""
    return unicodedata.normalize("NFC", path)


def within(root: Path, named: str) -> Path | None:
    """The file of this name in a folder; None where it would lie outside of it."""
    if not named or "\0" in named or len(named) > 4096:
        return None
    path = Path(os.path.realpath(root / named.replace("\\", "/")))
    return path if path.is_relative_to(os.path.realpath(root)) else None


def no_column(name: str, field: str, columns: list[str], file: str) -> BadRecipe:
    """The problem of a column that is named and not there."""
    there = ", ".join(f"“{shown(column, 40)}”" for column in columns[:30]) or "none"
    return BadRecipe(
        f"There is no column “{shown(name, 60)}” in “{shown(file)}”.", f"The columns there: {there}.", field=field
    )
