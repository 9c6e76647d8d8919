"""Rows out of files: one reader for each format, all of them streams.

A reader yields rows, and Bad in place of what is none. Knows formats and columns; changes no character of a text but
those that belong to its format.
"""

from __future__ import annotations

import csv
import html.parser
import itertools
import re
import xml.parsers.expat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote

import msgspec

from studio.core.learning import DatasetRecipe
from studio.core.problems import BadRecipe, NotRead
from studio.core.text import shown
from studio.engines.data import chats, sources, streams
from studio.engines.data.sources import Source
from studio.engines.data.streams import Bad
from studio.engines.data.wiki import Dump, plain

PEEK = 32  # rows that columns are chosen by
MEMBER_LIMIT = 64 << 20  # bytes of one chapter of a book
RECORD_LIMIT = 32 << 20  # bytes of one page of a crawl
CELL_LIMIT = 64 << 20  # characters of a table's cell; the csv module takes eight bytes for each
BATCH = 64  # rows of a Parquet file at once

TEXTS = (
    "text", "content", "body", "document", "article", "story", "passage", "raw_content", "markdown", "caption",
    "sentence", "abstract", "description", "transcript",
)  # fmt: skip
CAPTIONS = ("text", "caption", "prompt", "description", "captions", "title", "alt", "label")
PICTURES = ("image", "file_name", "image_path", "image_file", "picture", "img", "filename", "path", "file")


class Row(msgspec.Struct):
    """One row as it is read. `picture`: a file, or its bytes."""

    shape: str  # "text", "chat" or "captions"
    text: str = ""
    messages: list[chats.Message] = []
    picture: Path | bytes | None = None


class Mapping(msgspec.Struct, frozen=True):
    """Which column is what; empty for none."""

    shape: str
    text: str = ""
    messages: str = ""
    question: str = ""
    answer: str = ""
    more: str = ""
    system: str = ""
    image: str = ""

    def said(self) -> str:
        if self.shape == "captions":
            return f"pictures from “{self.image}” with captions from “{self.text}”"
        if self.messages:
            return f"conversations from “{self.messages}”"
        if self.shape == "chat":
            more = f" and “{self.more}”" if self.more else ""
            return f"questions from “{self.question}”{more}, answers from “{self.answer}”"
        return f"texts from “{self.text}”"


class Reading(msgspec.Struct):
    """What readers are given, and what they tell. `columns`, `mappings`, `encodings`: file -> what was found there."""

    recipe: DatasetRecipe
    say: Callable[[str], None]
    heard: streams.Heard = streams.quiet
    columns: dict[str, list[str]] = {}
    mappings: dict[str, Mapping] = {}
    encodings: dict[str, str] = {}


Rows = Iterator[Row | Bad]


def read(source: Source, reading: Reading) -> Rows:
    """The rows of a file. Where it is damaged, what can be read of it comes first and Bad at the end.

    Raises:
        BadRecipe: a column or encoding that the recipe names is not there. NotRead: it does not fit the encoding.
    """
    import lzma

    reader = _READERS[source.kind]
    try:
        yield from reader(source, reading)
    except (EOFError, lzma.LZMAError, zipfile.BadZipFile):
        yield _damaged(source, reading)
    except OSError as error:
        if error.errno is not None:
            raise NotRead(
                f"“{shown(source.name)}” cannot be read any further: {error.strerror or error}.", field="sources"
            ) from error
        yield _damaged(source, reading)  # of an archive whose checksum is wrong


def _damaged(source: Source, reading: Reading) -> Bad:
    reading.say(f"“{shown(source.name)}” is damaged or ends in the middle; what could be read of it was taken.")
    return Bad("the rest of a damaged file")


def _encoding(source: Source, reading: Reading) -> tuple[str, bool]:
    """The encoding of a text file, and whether the user said so."""
    wanted = reading.recipe.encoding.strip()
    found = streams.encoding_of(b"" if wanted else streams.head_of(source.path), wanted)
    reading.encodings[source.name] = found.removesuffix("-sig")
    if not wanted and not found.startswith("utf-8"):
        reading.say(f"“{shown(source.name)}” is read as {found}.")
    return found, bool(wanted)


def _characters(source: Source, reading: Reading, stream: BinaryIO) -> Iterator[str]:
    encoding, strict = _encoding(source, reading)
    return streams.decoded(stream, encoding, source.name, strict=strict, say=reading.say)


# -- texts -------------------------------------------------------------------------------------------------------------


def _pieces(blocks: Iterator[str], reading: Reading) -> Rows:
    for text in streams.texts(blocks, reading.recipe.split_text, reading.recipe.longest):
        yield Row("text", text)


def _text(source: Source, reading: Reading) -> Rows:
    with streams.opened(source.path, reading.heard) as stream:
        yield from _pieces(_characters(source, reading, stream), reading)


_FRONT = re.compile(r"\A\ufeff?(?:---[ \t]*\n.*?\n(?:---|\.\.\.)|\+\+\+[ \t]*\n.*?\n\+\+\+)[ \t]*(?:\n|\Z)", re.DOTALL)


def _markdown(source: Source, reading: Reading) -> Rows:
    def without_front(blocks: Iterator[str]) -> Iterator[str]:
        for at, block in enumerate(blocks):
            yield _FRONT.sub("", block, count=1).lstrip("\n") if at == 0 else block

    with streams.opened(source.path, reading.heard) as stream:
        yield from _pieces(without_front(_characters(source, reading, stream)), reading)


class _Page(html.parser.HTMLParser):
    """The text of a web page or of a chapter: its blocks as lines, without scripts and heads."""

    _SILENT = frozenset({"script", "style", "head", "nav", "template", "noscript"})
    _BLOCKS = frozenset(
        {"p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "tr", "blockquote", "section", "article", "pre", "ul"}
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._SILENT:
            self._silent += 1
        elif tag in self._BLOCKS:
            self.parts.append("\n\n")
        elif tag == "br":
            self.parts.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "br":
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag in self._BLOCKS:
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(re.sub(r"\s+", " ", data))


def page_text(markup: str) -> str:
    """The text of HTML."""
    page = _Page()
    page.feed(markup)
    page.close()
    text = re.sub(r"[ \t]*\n[ \t]*", "\n", "".join(page.parts))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _html(source: Source, reading: Reading) -> Rows:
    with streams.opened(source.path, reading.heard) as stream:
        if source.size > MEMBER_LIMIT:
            yield Bad("a web page over 64 MB")
            return
        markup = "".join(_characters(source, reading, stream))
        yield from _pieces(iter([page_text(markup)]), reading)


def _epub(source: Source, reading: Reading) -> Rows:
    """A book in the order its spine gives."""
    with streams.opened(source.path, reading.heard, unpack=False) as stream, zipfile.ZipFile(stream) as book:
        try:
            chapters = _spine(book)
        except (KeyError, ValueError, StopIteration, xml.parsers.expat.ExpatError):
            chapters = []
        if not chapters:  # without a readable spine the names say the order
            chapters = sorted(name for name in book.namelist() if name.lower().endswith((".xhtml", ".html", ".htm")))

        def blocks() -> Iterator[str]:
            for at, name in enumerate(chapters):
                text = page_text(_member(book, name).decode("utf-8", "replace"))
                if text:
                    yield f"\n\n{text}" if at else text

        yield from _pieces(blocks(), reading)


def _member(book: zipfile.ZipFile, name: str) -> bytes:
    """A file of a book; what is beyond the limit, as in a file made to burst, is left."""
    try:
        with book.open(name) as member:
            return member.read(MEMBER_LIMIT)
    except (KeyError, RuntimeError, NotImplementedError):
        return b""


def _spine(book: zipfile.ZipFile) -> list[str]:
    from defusedxml import DefusedXmlException, ElementTree

    try:
        container = ElementTree.fromstring(_member(book, "META-INF/container.xml"), forbid_dtd=True)
        where = next(each.attrib["full-path"] for each in container.iter() if each.tag.endswith("}rootfile"))
        package = ElementTree.fromstring(_member(book, where))
    except (DefusedXmlException, ElementTree.ParseError):
        return []
    items = {
        each.attrib.get("id", ""): each.attrib.get("href", "") for each in package.iter() if each.tag.endswith("}item")
    }
    named = [items.get(each.attrib.get("idref", ""), "") for each in package.iter() if each.tag.endswith("}itemref")]
    base = PurePosixPath(where).parent
    return [str(base / unquote(href)) for href in named if href]


# -- tables ------------------------------------------------------------------------------------------------------------


def mapping(columns: list[str], first: list[dict[str, Any]], recipe: DatasetRecipe, file: str) -> Mapping:
    """Which column is what: what the recipe says, and else what names and contents say.

    Args:
        first: the first rows.

    Raises:
        BadRecipe: a column the recipe names is not there, or none can be found; lists those that are.
    """
    for field in ("text", "question", "answer", "image"):
        name = getattr(recipe, field)
        if name and name not in columns:
            raise sources.no_column(name, field, columns, file)
    by_lower = {column.lower().strip(): column for column in reversed(columns)}

    def named(names: tuple[str, ...], without: tuple[str, ...] = ()) -> str:
        return next((by_lower[name] for name in names if name in by_lower and by_lower[name] not in without), "")

    image = recipe.image or next(
        (by_lower[n] for n in PICTURES if n in by_lower and _pictures(by_lower[n], first, recipe.format)), ""
    )
    if image and (recipe.image or recipe.shape in ("auto", "captions")):
        return Mapping("captions", image=image, text=recipe.text or named(CAPTIONS, (image,)))
    if recipe.shape == "captions":
        raise BadRecipe(
            f"“{shown(file)}” has no column of pictures.", f"The columns there: {_listed(columns)}.", field="image"
        )
    if not recipe.text and not recipe.question and not recipe.answer:
        for name in (*MESSAGES_AND_MAPPING, *columns):
            column = by_lower.get(name, name)
            if any(_talks(row, column) for row in first):
                return Mapping("chat", messages=column)
    question = recipe.question or named(chats.QUESTIONS)
    answer = recipe.answer or named(chats.ANSWERS, (question,))
    if not recipe.text and question and answer and recipe.shape != "text":
        more = by_lower.get("input", by_lower.get("context", ""))
        return Mapping(
            "chat", question=question, answer=answer, more="" if more in (question, answer) else more,
            system=by_lower.get("system", by_lower.get("system_prompt", "")),
        )  # fmt: skip
    if recipe.shape == "chat" or recipe.question or recipe.answer:
        missing = "question" if not question else "answer"
        raise BadRecipe(
            f"“{shown(file)}” has no column of {missing}s.", f"The columns there: {_listed(columns)}.", field=missing
        )
    text = recipe.text or named(TEXTS) or _longest(columns, first)
    if not text:
        raise BadRecipe(
            f"“{shown(file)}” has no column of texts.", f"The columns there: {_listed(columns)}.", field="text"
        )
    return Mapping("text", text=text)


MESSAGES_AND_MAPPING = (*chats.MESSAGES, "mapping")


def _listed(columns: list[str]) -> str:
    return ", ".join(f"“{shown(column, 40)}”" for column in columns[:30]) or "none"


def _talks(row: dict[str, Any], column: str) -> bool:
    if column == "mapping":
        return chats.chatgpt(row) is not None
    return chats.messages_of(row.get(column)) is not None


def _pictures(column: str, first: list[dict[str, Any]], format: str) -> bool:
    """Whether a column holds pictures or names of picture files."""
    for row in first:
        value = row.get(column)
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return True
        if isinstance(value, bytes):
            return True
        if isinstance(value, str) and PurePosixPath(value.replace("\\", "/")).suffix.lower() in sources.PICTURES:
            return True
    return False


def _longest(columns: list[str], first: list[dict[str, Any]]) -> str:
    """The column with the longest strings; of those that are alike the first."""
    lengths = {c: sum(len(row[c]) for row in first if isinstance(row.get(c), str)) for c in columns}
    best = max(lengths, key=lambda column: lengths[column], default="")
    return best if best and lengths[best] else ""


def _rows(records: Iterator[Any], source: Source, reading: Reading, columns: list[str] | None = None) -> Rows:
    """Records (dictionaries, strings, lists of messages, or Bad) as rows."""
    first = list(itertools.islice(records, PEEK))
    tables = [each for each in first if isinstance(each, dict)]
    named = columns if columns is not None else list(dict.fromkeys(key for each in tables for key in each))
    found: Mapping | None = None
    if tables:
        found = mapping(named, tables, reading.recipe, source.name)
        reading.columns[source.name] = named
        reading.mappings[source.name] = found
        reading.say(f"Of “{shown(source.name)}”: {found.said()}.")
    for record in itertools.chain(first, records):
        if isinstance(record, Bad):
            yield record
        elif isinstance(record, dict):
            if found is None:  # the first ones were broken
                found = mapping(list(record), [record], reading.recipe, source.name)
                reading.mappings[source.name] = found
            yield row_of(record, found, source.root)
        elif isinstance(record, str):
            yield Row("text", record)
        else:
            messages = chats.messages_of(record)
            yield Row("chat", messages=messages) if messages is not None else Bad("a value that is no row")


def row_of(record: dict[str, Any], found: Mapping, root: Path) -> Row | Bad:
    """A record as a row, by its columns."""
    if found.shape == "captions":
        value = record.get(found.image)
        caption = _string(record.get(found.text)) if found.text else ""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return Row("captions", caption, picture=value)
        if not isinstance(value, str) or not value:
            return Bad("a row without a picture")
        path = sources.within(root, value)
        return Bad("a picture outside of the folder") if path is None else Row("captions", caption, picture=path)
    if found.messages:
        value = record.get(found.messages)
        messages = chats.chatgpt(record) if found.messages == "mapping" else chats.messages_of(value)
        return Bad("a row without a conversation") if not messages else Row("chat", messages=messages)
    if found.shape == "chat":
        question, answer = record.get(found.question), record.get(found.answer)
        if not question or not answer:
            return Bad("a question without an answer")
        return Row("chat", messages=chats.asked(question, answer, record.get(found.more), record.get(found.system)))
    value = record.get(found.text)
    if value is None:
        return Bad("a row without this column")
    return Row("text", _string(value))


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(each for each in value if isinstance(each, str))
    return "" if value is None or isinstance(value, (dict, bytes)) else str(value)


def _jsonl(source: Source, reading: Reading) -> Rows:
    encoding, strict = _encoding(source, reading)
    with streams.opened(source.path, reading.heard) as stream:
        yield from _rows(
            streams.json_lines(stream, encoding, source.name, strict=strict, say=reading.say), source, reading
        )


def _json(source: Source, reading: Reading) -> Rows:
    """An array of rows, or an object that holds one, or that is one."""
    with streams.opened(source.path, reading.heard) as stream:
        blocks = _characters(source, reading, stream)
        start = next(blocks, "")
        blocks = itertools.chain([start], blocks)
        if start.lstrip("\ufeff \n\t").startswith("["):
            yield from _rows(streams.json_array(blocks), source, reading)
            return
        held: list[str] = []
        size = 0
        for block in blocks:
            held.append(block)
            size += len(block)
            if size > streams.LINE_LIMIT:
                raise NotRead(
                    f"“{shown(source.name)}” is one JSON object of more than 128 MB.",
                    "Save it as JSON with one row a line.", field="sources",
                )  # fmt: skip
        value = streams.value_of("".join(held).lstrip("\ufeff"))
        if isinstance(value, dict):
            lists = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(e, dict) for e in v)]
            talk = any(_talks(value, column) for column in value)
            value = max(lists, key=len) if lists and not talk else [value]
        if isinstance(value, Bad):
            value = [Bad("a file that is not JSON")]
        yield from _rows(iter(value if isinstance(value, list) else [value]), source, reading)


def _csv(source: Source, reading: Reading) -> Rows:
    usual = csv.field_size_limit(CELL_LIMIT)  # of the whole process
    try:
        yield from _table(source, reading)
    finally:
        csv.field_size_limit(usual)


def _table(source: Source, reading: Reading) -> Rows:
    with streams.opened(source.path, reading.heard) as stream:
        blocks = _characters(source, reading, stream)
        start = next(blocks, "")
        tabs = ".tsv" in source.path.suffixes
        try:
            dialect: Any = csv.Sniffer().sniff(start[:16_384], "\t" if tabs else ",;\t|")
        except csv.Error:
            dialect = "excel-tab" if tabs else "excel"
        else:
            dialect.doublequote = True  # the sniffer denies it where the sample has no doubled quote
        lines = (line for line, _ in streams.lines(itertools.chain([start], blocks), CELL_LIMIT))
        table = csv.reader(lines, dialect)
        try:
            head = next(table, [])
        except csv.Error as error:
            raise NotRead(f"“{shown(source.name)}” is not a table: {error}.", field="sources") from None
        named = _is_head(head, reading.recipe)
        columns = [cell.strip() for cell in head] if named else [f"column {at + 1}" for at in range(len(head))]
        if not named and head:
            reading.say(f"“{shown(source.name)}” has no names of columns; they are numbered.")

        def records() -> Iterator[Any]:
            if head and not named:
                yield dict(zip(columns, head, strict=True))
            while True:
                try:
                    cells = next(table)
                except StopIteration:
                    return
                except csv.Error:
                    yield Bad("a line that is not of the table")
                    continue
                if not cells:
                    continue
                if len(cells) > len(columns):
                    yield Bad("a line with too many columns")
                else:
                    yield dict(zip(columns, cells, strict=False))

        if head:
            yield from _rows(records(), source, reading, columns)


def _is_head(head: list[str], recipe: DatasetRecipe) -> bool:
    cells = [cell.strip() for cell in head]
    wanted = {recipe.text, recipe.question, recipe.answer, recipe.image} - {""}
    numbered = all(re.fullmatch(r"column \d+", name) for name in wanted)
    if wanted and not numbered:
        return True  # columns are asked for by name: what is not there is then said with the names that are
    known = {*TEXTS, *CAPTIONS, *PICTURES, *chats.QUESTIONS, *chats.ANSWERS, *chats.MESSAGES, "id", "url"}
    if any(cell.lower() in known for cell in cells):
        return True
    return len(set(cells)) == len(cells) and all(
        cell and len(cell) <= 40 and not re.fullmatch(r"[-+\d.,:/]+", cell) and len(cell.split()) <= 4 for cell in cells
    )


def _parquet(source: Source, reading: Reading) -> Rows:
    import pyarrow
    import pyarrow.parquet

    with streams.opened(source.path, reading.heard, unpack=False) as stream:
        try:
            table = pyarrow.parquet.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
            columns = list(table.schema_arrow.names)

            def records(wanted: list[str]) -> Iterator[Any]:
                for batch in table.iter_batches(batch_size=BATCH, columns=wanted, use_threads=False):
                    yield from batch.to_pylist()

            # the columns are chosen by a few rows of all, and only those are read
            first = list(itertools.islice(records(columns), PEEK))
            if not first:
                return
            found = mapping(columns, first, reading.recipe, source.name)
            wanted = [c for c in (getattr(found, field) for field in found.__struct_fields__[1:]) if c]
            wanted += ["current_node"] if "mapping" in wanted and "current_node" in columns else []
            reading.columns[source.name] = columns
            reading.mappings[source.name] = found
            reading.say(f"Of “{shown(source.name)}”: {found.said()}.")
            for record in records(wanted):
                yield row_of(record, found, source.root)
        except (pyarrow.ArrowException, pyarrow.ArrowInvalid) as error:
            raise NotRead(
                f"“{shown(source.name)}” is damaged, or no Parquet file.", "Copy it anew.", detail=str(error),
                field="sources",
            ) from None  # fmt: skip


def _whatsapp(source: Source, reading: Reading) -> Rows:
    head = streams.head_of(source.path).decode("utf-8", "replace").splitlines()
    names = chats.speakers(head)
    answers = reading.recipe.answer or (names[0] if names else "")
    if reading.recipe.answer and reading.recipe.answer not in names:
        there = ", ".join(f"“{shown(name, 40)}”" for name in names[:12]) or "nobody"
        raise BadRecipe(
            f"Nobody called “{shown(answers, 40)}” writes in “{shown(source.name)}”.",
            f"There: {there}.",
            field="answer",
        )
    if not reading.recipe.answer:
        reading.say(
            f"In “{shown(source.name)}”, “{shown(answers, 40)}” counts as who answers; “Answer column” names another."
        )
    with streams.opened(source.path, reading.heard) as stream:
        blocks = _characters(source, reading, stream)
        for messages in chats.whatsapp((line for line, _ in streams.lines(blocks, streams.PIECE_LIMIT)), answers):
            yield Row("chat", messages=messages)


# -- large collections -------------------------------------------------------------------------------------------------


def _wikipedia(source: Source, reading: Reading) -> Rows:
    with streams.opened(source.path, reading.heard) as stream:
        dump = Dump(stream)
        try:
            for page in dump.pages():
                if page.why:
                    yield Bad(page.why)
                    continue
                text = plain(page.text, dump.left_out)
                if not text:
                    yield Bad("an article without text")
                    continue
                if reading.recipe.split_text == "document":
                    text = f"{page.title}\n\n{text}"
                yield from _pieces(iter([text]), reading)
        except xml.parsers.expat.ExpatError:
            yield _damaged(source, reading)


def _wet(source: Source, reading: Reading) -> Rows:
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    with streams.opened(source.path, reading.heard, unpack=False) as stream:
        try:
            for record in ArchiveIterator(stream):
                if record.rec_type != "conversion":
                    continue
                data = record.content_stream().read(RECORD_LIMIT)
                yield from _pieces(iter([data.decode("utf-8", "replace").replace("\r\n", "\n")]), reading)
        except ArchiveLoadFailed:
            yield _damaged(source, reading)


# -- pictures ----------------------------------------------------------------------------------------------------------


def _picture(source: Source, reading: Reading) -> Rows:
    caption = ""
    if source.caption is not None:
        try:
            head = streams.head_of(source.caption, 65_536)
        except OSError:
            yield Bad("a picture whose caption cannot be read")
            return
        caption = head.decode(streams.encoding_of(head, reading.recipe.encoding), "replace").strip()
    yield Row("captions", caption, picture=source.path)


_READERS: dict[str, Callable[[Source, Reading], Rows]] = {
    "text": _text, "markdown": _markdown, "html": _html, "epub": _epub, "jsonl": _jsonl, "json": _json, "csv": _csv,
    "parquet": _parquet, "whatsapp": _whatsapp, "wikipedia": _wikipedia, "wet": _wet, "picture": _picture,
}  # fmt: skip
