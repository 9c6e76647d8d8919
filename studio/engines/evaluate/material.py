"""What texts are measured on: rows of a data set, or files with a text a line. Knows files; knows no measure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from studio.core.cards import ModelCard
from studio.core.problems import BadRecipe, NotRead
from studio.core.recipes import Message
from studio.core.text import shown

FILE_LIMIT = 256 * 1024 * 1024  # bytes
LINE_LIMIT = 1024 * 1024  # characters
SPLITS = ("test", "valid", "train")  # in the order of preference: what was not learnt from
_SAID = {"test": "test", "valid": "validation", "train": "training"}
SHORTEST = 8  # words of a text that is long enough to be cut into a beginning and what follows
BEGINNING = 200  # words of a beginning at most
WORDS_PER_TOKEN = 0.7  # of English, roughly: how much of the true continuation a model's is held against


class Row(msgspec.Struct, frozen=True):
    """A text, or a conversation: one of the two."""

    text: str = ""
    messages: tuple[Message, ...] = ()


class Task(msgspec.Struct, frozen=True):
    """What a model is to go on with, and how it went on in truth. `turns` of a conversation, else `beginning`."""

    reference: str
    beginning: str = ""
    turns: tuple[Message, ...] = ()

    @property
    def prompt(self) -> str:
        return self.turns[-1].content if self.turns else self.beginning


class Material(msgspec.Struct, frozen=True):
    """Rows with where they come from. `split`: "test", "validation" or "training", or empty."""

    name: str
    rows: tuple[Row, ...]
    sha256: str = ""
    split: str = ""
    chats: bool = False

    def texts(self) -> list[str]:
        """Every row as one text; of a conversation its answers."""
        return [row.text or "\n".join(t.content for t in row.messages if t.role == "assistant") for row in self.rows]


def read_dataset(card: ModelCard, most: int, check: Callable[[], None]) -> Material:
    """The first rows of what a data set keeps apart, else of what it is learnt from.

    Raises:
        NotRead: the file is gone or damaged. BadRecipe: the data set has no rows.
    """
    decoder = msgspec.json.Decoder(Row)
    for split in SPLITS:
        path = Path(card.path) / f"{split}.jsonl"
        rows: list[Row] = []
        try:
            with open(path, "rb") as stream:
                for line in stream:
                    check()
                    if line.strip():
                        rows.append(decoder.decode(line))
                    if len(rows) >= most:
                        break
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotRead(
                f"The rows of “{shown(card.name)}” cannot be read.",
                "Make the data set again.",
                detail=f"{path}: {error}",
            ) from error
        if rows:
            return Material(card.name, tuple(rows), card.sha256, _SAID[split], any(row.messages for row in rows))
    raise BadRecipe(f"“{shown(card.name)}” has no rows.", "Choose another data set.", field="data")


def read_lines(path: Path, field: str, check: Callable[[], None]) -> Material:
    """A file with a text a line. Empty lines count, so that files stay in step; those at the end do not.

    Raises:
        BadRecipe: no such file, an empty one, or not of this kind; the problem names `field`.
    """
    name = shown(path.name, 80)

    def refused(why: str, hint: str = "Give a text file with one text a line.") -> BadRecipe:
        return BadRecipe(f"“{name}” {why}.", hint, field=field)

    try:
        if not path.is_file():
            raise refused("is no file")
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise refused(f"has {size / 1e6:,.0f} MB; at most {FILE_LIMIT / 1e6:,.0f} are read", "Take a part of it.")
        data = path.read_bytes()
    except OSError as error:
        raise refused(f"cannot be read: {error.strerror or error}", "Look at its disk and its permissions.") from error
    check()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(f"is not UTF-8 (byte {error.start:,})", "Save it as UTF-8 in a text editor.") from error
    if "\0" in text:
        raise refused("is no text file")
    lines = text.rstrip("\r\n").replace("\r\n", "\n").split("\n")
    if lines == [""]:
        raise refused("is empty")
    long = next((i for i, line in enumerate(lines) if len(line) > LINE_LIMIT), None)
    if long is not None:
        raise refused(f"has a line of {len(lines[long]):,} characters (line {long + 1:,})", "Put a text on a line.")
    return Material(path.name, tuple(Row(text=line) for line in lines), hashlib.sha256(data).hexdigest())


def in_step(candidates: Material, references: Sequence[Material]) -> None:
    """Raises BadRecipe: files that belong together have different numbers of lines."""
    for each in references:
        if len(each.rows) != len(candidates.rows):
            raise BadRecipe(
                f"“{shown(each.name, 80)}” has {len(each.rows):,} lines and “{shown(candidates.name, 80)}” "
                f"{len(candidates.rows):,}.",
                "Line by line they belong together.", field="references",
            )  # fmt: skip


def task_of(row: Row, tokens: int) -> Task | None:
    """What a model is asked of a row: the last answer of a conversation, or the second half of a text.

    Args:
        tokens: how many the model may write; what follows in truth is cut to about as many words.

    Returns:
        None where the row is too short, or no answer is in it.
    """
    if row.messages:
        last = max((i for i, turn in enumerate(row.messages) if turn.role == "assistant"), default=0)
        if not last or not row.messages[last].content.strip():
            return None
        return Task(row.messages[last].content, turns=row.messages[:last])
    words = list(re.finditer(r"\S+", row.text))
    if len(words) < SHORTEST:
        return None
    half = min(len(words) // 2, BEGINNING)
    end = min(len(words), half + max(1, round(tokens * WORDS_PER_TOKEN)))
    return Task(row.text[words[half].start() : words[end - 1].end()], beginning=row.text[: words[half - 1].end()])
