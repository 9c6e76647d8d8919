"""Markdown: the title as heading, the prompt quoted, the text, and in small print how it was made.

The text itself goes in unchanged, since models write Markdown themselves. Title and prompt are somebody's words and not
markup: whatever would be read as markup or HTML in them is escaped (rules: CommonMark 0.31.2, sections 2.4 and 6).
"""

from __future__ import annotations

import re
from typing import Any, BinaryIO

from studio.core.recipes import MODEL_FIELD, WORDS, ExportRecipe
from studio.core.text import clean, shown
from studio.engines.context import RunContext
from studio.library.exports.source import MADE_WITH, Source
from studio.library.exports.txt import read_text, write_text

_INLINE = re.compile(r"([\\`*_\[\]<>&~|$])")
_LINE_START = re.compile(r"^(\s*\d{0,9})([#+=.)-])")


def _escaped(line: str) -> str:
    line = _INLINE.sub(r"\\\1", line)
    line = _LINE_START.sub(r"\1\\\2", line)
    # four leading blanks would start a block of code
    blanks = len(line) - len(line.lstrip(" \t"))
    return "\u00a0" * blanks + line[blanks:]


def _quoted(text: str) -> str:
    lines = [_escaped(line.rstrip()) for line in text.strip("\n").split("\n")]
    # a backslash at the end keeps a line break that Markdown would join
    return "\n".join(
        f"> {line}\\" if line and following else f"> {line}".rstrip()
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
    )


def _small_print(source: Source) -> str:
    said = []
    model = source.recipe.get(MODEL_FIELD["text"])
    if isinstance(model, str) and model:
        said.append(f"Model: {_escaped(shown(clean(model)[0], 200))}")
    seed = source.recipe.get("seed")
    if isinstance(seed, int):
        said.append(f"seed: {seed}")
    said.append(MADE_WITH)
    return f"<sub>{' · '.join(said)}</sub>"


def write(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a Markdown page. Parts the work does not have are left out. Quality means nothing here."""
    text = read_text(source)
    parts = []
    if source.tag:
        parts.append(f"# {_escaped(source.tag)}")
    prompt = source.recipe.get(WORDS["text"])
    if isinstance(prompt, str) and prompt.strip():
        parts.append(_quoted(clean(prompt)[0]))
    parts += [text.strip("\n"), "---", _small_print(source)]
    write_text("\n\n".join(parts) + "\n", stream, ctx)
    return {"characters": len(text)}
