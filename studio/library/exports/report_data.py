"""Reports and trainings for other programs: the kept JSON as it is, and their figures or curve as CSV."""

from __future__ import annotations

import csv
import io
from typing import Any, BinaryIO

import msgspec

from studio.core.learning import Training
from studio.core.recipes import ExportRecipe
from studio.engines.context import RunContext
from studio.library.exports.report_view import read, untitled
from studio.library.exports.source import Source
from studio.library.exports.txt import read_text, write_text


def write_json(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write the master, byte for byte; without metadata, without its name and settings."""
    text = read_text(source)
    if not recipe.metadata and source.kind != "dataset":
        text = msgspec.json.format(msgspec.json.encode(untitled(read(source))), indent=1).decode()
    write_text(text, stream, ctx)
    return {"characters": len(text)}


def write_csv(source: Source, stream: BinaryIO, recipe: ExportRecipe, ctx: RunContext) -> dict[str, Any]:
    """Write a report's figures, or a training's curve. A cell that a spreadsheet would run as a formula gets a '."""
    found = read(source)
    rows: list[list[Any]]
    if isinstance(found, Training):
        names = list(dict.fromkeys(name for point in found.curve for name in point.values))
        rows = [["step", "seconds", *names]]
        rows += [[p.step, p.seconds, *(p.values.get(name, "") for name in names)] for p in found.curve]
    else:
        rows = [["measure", "of", "value", "low", "high", "unit", "better", "rows", "signature"]]
        rows += [
            [m.name, m.of, m.value, m.low, m.high, m.unit, m.better, m.n, m.signature] for m in found.measures
        ]  # fmt: skip
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([[_safe(cell) for cell in row] for row in rows])
    write_text(out.getvalue(), stream, ctx)
    return {"rows": len(rows) - 1}


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
