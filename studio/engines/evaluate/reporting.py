"""A report while it comes about: figures with their intervals, tables and curves, and how it is saved.

Knows what a report holds; knows nothing of what was measured.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import platform
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

import studio
from studio.core.files import sha256_of
from studio.core.learning import Measure, Point, Report
from studio.core.made import SEED_LIMIT
from studio.core.recipes import MadeWith
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.evaluate import intervals
from studio.engines.evaluate.intervals import Interval
from studio.engines.evaluate.measures import Counted

TEXT_LIMIT = 600  # characters of a text in a table
ROW_LIMIT = 100  # rows of a table
HEADLINES = 12  # figures that the library shows beside a report


def drawn(seed: int | None) -> int:
    """The seed of an evaluation; one is drawn where none was given."""
    return secrets.randbelow(SEED_LIMIT) if seed is None else seed


def short(text: str, limit: int = TEXT_LIMIT) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def figure(value: float) -> str:
    """A number as tables show it: four figures that matter, no more."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if abs(value) >= 1e-4 else f"{value:.1e}"


class Findings:
    """What was found so far.

    Args:
        resamples, seed: of the bootstrap.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed
        self.measures: list[Measure] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.plots: dict[str, list[Point]] = {}
        self._counted: dict[str, dict[str, Counted]] = {}  # measure -> whose -> what was counted

    def add(
        self, name: str, found: Interval, of: str, n: int, *, unit: str = "", better: str = "", signature: str = ""
    ) -> None:
        """A figure. One that is no number is left out: there was nothing to measure."""
        if not math.isfinite(found.value):
            return
        low, high = (bound if bound is not None and math.isfinite(bound) else None for bound in (found.low, found.high))
        self.measures.append(
            Measure(name=name, value=found.value, low=low, high=high, unit=unit, of=of, n=n, better=better,
                    signature=signature)
        )  # fmt: skip

    def count(self, counted: Counted, of: str) -> None:
        """A figure of sums, with its interval by resampling; it is kept for the differences."""
        found = intervals.of_sums(counted.stats, counted.metric, self.resamples, self.seed)
        self.add(counted.name, found, of, len(counted.stats), unit=counted.unit, better=counted.better,
                 signature=counted.signature)  # fmt: skip
        self._counted.setdefault(counted.name, {})[of] = counted

    def compare(self, whose: Sequence[str]) -> None:
        """A table of how the first differs from each other one, measured over the same rows."""
        rows = []
        for name, counted in self._counted.items():
            first, *others = [each for each in whose if each in counted] or [""]
            for other in others:
                a, b = counted[first], counted[other]
                if len(a.stats) != len(b.stats):
                    continue
                found = intervals.paired(a.stats, b.stats, a.metric, self.resamples, self.seed)
                if not math.isfinite(found.value):
                    continue
                between = "" if found.low is None or found.high is None else (
                    f"{figure(found.low)} … {figure(found.high)}"
                )  # fmt: skip
                certain = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
                rows.append([name, first, other, figure(found.value), between, "yes" if certain else "no"])
        if rows:
            head = ["Measure", "Of", "Less that of", "Difference", "95 % interval", "Certain"]
            self.table("Differences, paired by row", head, rows)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; texts in it are shortened, and so is the table."""
        kept = [[short(cell) for cell in row] for row in rows[:ROW_LIMIT]]
        if kept:
            self.tables[title if len(rows) <= ROW_LIMIT else f"{title} (the first {ROW_LIMIT} of {len(rows):,})"] = [
                list(head), *kept,
            ]  # fmt: skip

    def report(self, ctx: RunContext, recipe: Any, *, libraries: Sequence[str], **more: Any) -> Report:
        settings = {k: v for k, v in msgspec.to_builtins(recipe).items() if k not in ("made_with", "title", "seed")}
        return Report(
            title=recipe.title, created=datetime.now(UTC).isoformat(timespec="seconds"), measures=tuple(self.measures),
            tables=self.tables, plots=self.plots, seeds=(self.seed,), versions=versions(*libraries),
            settings=settings, notes=tuple(ctx.notes), **more,
        )  # fmt: skip


def save(report: Report, ctx: RunContext, begun: float, made_with: MadeWith) -> Result:
    """Leave the report in staging as the job's work."""
    figures = {
        f"{m.name} · {m.of}" if m.of else m.name: {"value": m.value, "low": m.low, "high": m.high, "unit": m.unit}
        for m in report.measures[:HEADLINES]
    }
    meta = {"figures": figures, "measures": len(report.measures), "data_sha256": report.data_sha256}
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    seed = report.seeds[0] if report.seeds else None
    made = ctx.save("0.report.json", data, seed=seed, seconds=time.monotonic() - begun, meta=meta)
    return Result(artifacts=(made,), made_with=made_with)


def together(paths: Sequence[Path], words: Sequence[str] = ()) -> str:
    """One checksum of several files: of their names and their own checksums, in order; and of words beside them."""
    whole = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape"))
    for path in paths:
        whole.update(f"{path.name}\0{sha256_of(path)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


@functools.cache
def versions(*libraries: str) -> dict[str, str]:
    """Library -> version, with Python's and the studio's own."""
    found = {"python": platform.python_version(), "studio": studio.__version__}
    for name in libraries:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
