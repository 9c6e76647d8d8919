"""Plain text: the words alone, in UTF-8, byte for byte as they were kept."""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.source import Source, unreadable


def read_text(source: Source) -> str:
    """The kept text.

    Raises:
        LibraryBroken: it is not UTF-8. NotRead: the disk refuses.
    """
    try:
        # bytes first: reading as text would turn line ends over
        return source.path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(source, error) from error


def write_text(text: str, stream: BinaryIO, ctx: RunContext) -> None:
    data = text.encode("utf-8")
    ctx.check()
    stream.write(data)
    ctx.progress(len(data), len(data), "bytes", "writing")


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write the text alone: no title, no byte order mark. Quality means nothing here."""
    text = read_text(source)
    write_text(text, stream, ctx)
    return {"characters": len(text)}
