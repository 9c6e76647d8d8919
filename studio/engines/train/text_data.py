"""The rows of a data set as one long line of tokens on disk, and the windows on it that are learnt from.

Rows are read and tokenized once and streamed: memory stays the same however long the data are. In a training that goes
on, and in the trials of a search, the same files are used again; their names hold the checksums of data and tokenizer.

Knows files of rows; knows nothing of models. **What a window is:**

- texts with packing: the line cut into pieces of equal length, as in nanoGPT, but each row knows where it begins, so
  that positions begin anew there and attention does not reach across (see text.py);
- conversations with packing: whole rows laid end to end as long as they fit, because half an answer teaches little;
- without packing: one row; a longer one is cut into pieces.

Every token is at most once a label.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from studio.core.files import sync_folder, write_durably
from studio.core.problems import BadRecipe, ModelBroken, NotRead
from studio.core.text import shown
from studio.engines.text.templates import TemplateFailed
from studio.engines.train.tokens import Row, Tokens

BATCH = 64  # rows that are tokenized at once
BATCH_CHARACTERS = 1 << 20
LINE_LIMIT = 512 * 1024 * 1024  # bytes of a row; the data engine cuts long before
_FILES = ("tokens", "learnt", "rows")

Ints = NDArray[np.int64]


class _About(msgspec.Struct):
    """Written last: what lies beside it is complete."""

    tokens: int
    rows: int
    wide: bool
    left_out: int = 0
    bytes: int = 0  # of the rows that were read


def rows_of(path: Path, done: Callable[[int], None] = lambda read: None) -> Iterator[dict[str, Any]]:
    """The rows of a split, one after another. A split that is not there has none.

    Args:
        done: told how many bytes are read; may raise to stop.

    Raises:
        NotRead: a line is damaged.
    """
    read = 0
    try:
        with open(path, "rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(LINE_LIMIT), b""), 1):
                read += len(line)
                if not line.strip():
                    continue
                try:
                    row = msgspec.json.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    row = str(error)
                if not isinstance(row, dict):
                    detail = row if isinstance(row, str) else ""
                    raise NotRead(
                        f"Line {number:,} of “{path.name}” is damaged.", "Make the data set once more.", detail=detail
                    )
                yield row
                done(read)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotRead(f"“{path.name}” of the data set cannot be read: {error.strerror or error}.") from None


def text_of(row: dict[str, Any]) -> str:
    """The text of a row; of a conversation all that is said."""
    if isinstance(messages := row.get("messages"), list):
        return "\n".join(str(each.get("content", "")) for each in messages if isinstance(each, dict))
    return str(row.get("text") or "")


def messages_of(row: dict[str, Any]) -> list[dict[str, str]] | None:
    """The messages of a conversation; None where it is none."""
    given = row.get("messages")
    if not isinstance(given, list):
        return None
    return [
        {"role": str(each.get("role", "")), "content": str(each.get("content", ""))}
        for each in given
        if isinstance(each, dict)
    ]


class Corpus:
    """Tokens of one split, mapped and not read: `ids` and `learnt` of each, and where rows begin (and the end)."""

    def __init__(self, stem: Path, about: _About) -> None:
        kind = np.uint32 if about.wide else np.uint16
        self.ids = _mapped(stem.with_suffix(".tokens"), kind, about.tokens)
        self.learnt = _mapped(stem.with_suffix(".learnt"), np.bool_, about.tokens)
        self.rows = _mapped(stem.with_suffix(".rows"), np.int64, about.rows + 1)
        self.left_out, self.bytes = about.left_out, about.bytes

    def __len__(self) -> int:
        return len(self.ids)


def _mapped(path: Path, kind: Any, count: int) -> Any:
    if count == 0:
        return np.zeros(0, kind)
    try:
        found = np.memmap(path, kind, "r")
    except (OSError, ValueError) as error:
        raise ModelBroken("The tokens of this training are gone.", "Begin a new one.", detail=str(error)) from None
    if len(found) != count:
        raise ModelBroken("The tokens of this training are damaged.", "Begin a new one.", detail=str(path))
    return found


def corpus(
    rows: Path, tokens: Tokens, folder: Path, key: str, told: Callable[[int], None], most_bytes: int = 0
) -> Corpus:
    """The tokens of a file of rows; from `folder` where they are there already.

    Args:
        key: checksum of the data. told: how many bytes were read; may raise to stop. most_bytes: stop after so many,
            0 takes all.

    Raises:
        NotRead: a row is damaged. OSError: no room. What `told` raises.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stem = folder / f"{rows.stem}-{key[:12]}-{tokens.digest[:12]}{f'-{most_bytes}' if most_bytes else ''}"
    with contextlib.suppress(OSError, msgspec.DecodeError, ModelBroken):
        return Corpus(stem, msgspec.json.decode(stem.with_suffix(".json").read_bytes(), type=_About))
    wide = tokens.count > 1 << 16
    kind = np.uint32 if wide else np.uint16
    temporary = {name: stem.with_suffix(f".{name}.tmp") for name in _FILES}
    about = _About(0, 0, wide)
    try:
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(open(path, "wb")) for name, path in temporary.items()}
            files["rows"].write(np.zeros(1, np.int64).tobytes())
            for row in _tokenized(rows, tokens, about, told, most_bytes):
                if not any(row.learnt):
                    about.left_out += 1
                    continue
                files["tokens"].write(np.asarray(row.ids, kind).tobytes())
                files["learnt"].write(np.asarray(row.learnt, np.bool_).tobytes())
                about.tokens, about.rows = about.tokens + len(row.ids), about.rows + 1
                files["rows"].write(np.asarray([about.tokens], np.int64).tobytes())
            for stream in files.values():
                stream.flush()
                os.fsync(stream.fileno())
        for name, path in temporary.items():
            os.replace(path, stem.with_suffix(f".{name}"))
    except BaseException:
        for path in temporary.values():
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    write_durably(stem.with_suffix(".json"), msgspec.json.encode(about))
    return Corpus(stem, about)


def _tokenized(
    rows: Path, tokens: Tokens, about: _About, told: Callable[[int], None], most_bytes: int
) -> Iterator[Row]:
    waiting: list[str] = []
    held = 0

    def done(read: int) -> None:
        about.bytes = read
        told(read)

    for row in rows_of(rows, done):
        messages = messages_of(row)
        if messages is None:
            text = text_of(row)
            waiting.append(text)
            held += len(text)
            if len(waiting) >= BATCH or held > BATCH_CHARACTERS:
                yield from tokens.texts(waiting)
                waiting, held = [], 0
        else:
            try:
                yield tokens.chat(messages)
            except TemplateFailed:
                about.left_out += 1
        if most_bytes and about.bytes >= most_bytes:
            break
    yield from tokens.texts(waiting)


class Windows:
    """What is learnt from at once: pieces of the line, at most `length` tokens with their labels.

    Args:
        chat: rows are kept whole where they fit.
    """

    def __init__(self, corpus: Corpus, length: int, packing: bool, chat: bool) -> None:
        self.corpus, self.length = corpus, length
        self._starts: Ints | None = None
        self._stops: Ints | None = None
        if packing and not chat:
            self._count = max(0, -(-(len(corpus) - 1) // length))
        else:
            self._starts, self._stops = _by_rows(corpus, length, packing)
            self._count = len(self._starts)

    def __len__(self) -> int:
        return self._count

    def span(self, number: int) -> tuple[int, int]:
        """From which token to which (exclusive) a window reaches; the last is a label only."""
        if self._starts is None or self._stops is None:
            start = number * self.length
            return start, min(start + self.length + 1, len(self.corpus))
        return int(self._starts[number]), int(self._stops[number])

    def labels(self, number: int) -> int:
        """How many labels a window has."""
        start, stop = self.span(number)
        return int(np.count_nonzero(self.corpus.learnt[start + 1 : stop]))

    def window(self, number: int) -> tuple[Ints, NDArray[np.bool_], Ints]:
        """Tokens, which of them are learnt, and the position of each in its row (or in the part of it)."""
        start, stop = self.span(number)
        ids = np.asarray(self.corpus.ids[start:stop], np.int64)
        learnt = np.array(self.corpus.learnt[start:stop])
        rows = self.corpus.rows
        inside = rows[np.searchsorted(rows, start, "right") : np.searchsorted(rows, stop, "left")] - start
        positions = np.arange(len(ids))
        for begins, ends in pairwise([*inside, len(ids)]):
            positions[begins:ends] = np.arange(ends - begins)
        return ids, learnt, positions


def _by_rows(corpus: Corpus, length: int, packing: bool) -> tuple[Ints, Ints]:
    starts, stops = array("q"), array("q")
    open_at, previous = -1, 0  # where a window of whole rows begins that may still grow
    for end in map(int, corpus.rows[1:]):
        begin, previous = previous, end
        if packing and open_at >= 0 and end - open_at <= length + 1:
            stops[-1] = end
            continue
        open_at = -1
        if end - begin <= length + 1:
            starts.append(begin)
            stops.append(end)
            open_at = begin
            continue
        for at in range(begin, end - 1, length):
            starts.append(at)
            stops.append(min(at + length + 1, end))
    first, last = np.array(starts, np.int64), np.array(stops, np.int64)
    if len(first) == 0:
        return first, last
    # of a long row some pieces may have no label: with an answer at its end, for example
    if len(corpus.learnt):
        has = np.array([bool(np.any(corpus.learnt[a + 1 : b])) for a, b in zip(first, last, strict=True)], bool)
        first, last = first[has], last[has]
    return first, last


def nothing_to_learn(name: str, left_out: int) -> BadRecipe:
    why = f": its {left_out:,} rows have nothing that could be learnt" if left_out else ": it has no rows"
    return BadRecipe(f"There is nothing to learn from “{shown(name)}”{why}.", "Look at the data set.", field="data")
