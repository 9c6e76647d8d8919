"""The first rows of sources, and what was found of their formats, columns and encodings, within a moment.

Knows the first files only; what it tells of them is what the whole data set would be made with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from studio.core.learning import DatasetRecipe, Looked, Preview
from studio.core.problems import BadRecipe, NotRead, StudioError
from studio.core.text import shown
from studio.engines.data import readers, sources
from studio.engines.data.streams import Bad
from studio.engines.data.washing import Washing

ROWS = 20
CHARACTERS = 2_000  # of a text
FILES = 200  # that are looked for
READ = 8  # that rows are taken of
SECONDS = 0.7  # after which no further row is begun, where there are a few
FEW = 5


def preview(recipe: DatasetRecipe, check: Callable[[], None]) -> Preview:
    """Look at sources.

    Raises:
        NotRead, BadRecipe: what making the data set would say, as far as the first rows tell.
    """
    until = time.monotonic() + SECONDS
    found = sources.find(recipe, check, limit=FILES)
    # a file is not cut into pieces before it is known to be long
    washing = Washing(msgspec.structs.replace(recipe, boilerplate=False), check, tell=False)
    notes: list[str] = []
    reading = readers.Reading(recipe, lambda text: notes.append(text), lambda count: check())
    rows: list[dict[str, Any]] = []
    looked: list[Looked] = []
    useless: StudioError | None = None
    for source in found.sources[:READ]:
        if rows and (len(rows) >= ROWS or time.monotonic() > until):
            break
        each = -(-ROWS // min(READ, len(found.sources)))  # some of each file
        try:
            for row in _some(source, reading, washing, until, each):
                rows.append(row)
        except (NotRead, BadRecipe) as error:
            if source.alone or error.problem.field == "encoding":
                raise
            useless = useless or error
            notes.append(f"“{shown(source.name)}” is left out: {error.problem.sentence}")
        mapping = reading.mappings.get(source.name)
        looked.append(
            Looked(
                source.name, sources.TITLES[source.kind], source.size, reading.encodings.get(source.name, ""),
                tuple(reading.columns.get(source.name, ())), mapping.said() if mapping else "",
            )
        )  # fmt: skip
    if useless is not None and not rows:
        raise useless
    columns = dict.fromkeys(column for file in looked for column in file.columns)
    return Preview(
        shape=washing.shape, files=tuple(looked), count=len(found.sources), more=len(found.sources) >= FILES,
        bytes=sum(source.size for source in found.sources), columns=tuple(columns)[:500], rows=tuple(rows),
        left_out=found.left_out, notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _some(
    source: sources.Source, reading: readers.Reading, washing: Washing, until: float, most: int
) -> list[dict[str, Any]]:
    """Some rows of a file."""
    found: list[dict[str, Any]] = []
    for row in readers.read(source, reading):
        for kept in [row] if isinstance(row, Bad) else washing.rows(row):
            if isinstance(kept, Bad):
                found.append({"dropped": kept.why, **(_raw(row) if isinstance(row, readers.Row) else {})})
            else:
                about = {"picture": str(row.picture)} if isinstance(row, readers.Row) and _lies(row) else {}
                found.append({**short(kept.value), **about})
            if len(found) >= most:
                return found
        if len(found) >= FEW and time.monotonic() > until:
            return found
    return found


def _lies(row: readers.Row) -> bool:
    return row.picture is not None and not isinstance(row.picture, bytes)


def _raw(row: readers.Row) -> dict[str, Any]:
    return short({"messages": list(row.messages)} if row.messages else {"text": row.text})


def short(value: dict[str, Any]) -> dict[str, Any]:
    """A row with its texts cut short."""
    if "messages" in value:
        return {"messages": [{**each, "content": _cut(each["content"])} for each in value["messages"][:24]]}
    return {**value, "text": _cut(value.get("text", ""))}


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
