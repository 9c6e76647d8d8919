"""What a report or a training shows, in the order it is shown: facts, charts, tables, notes. Knows no format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from studio.core.learning import Measure, Point, Report, Training
from studio.core.text import clean
from studio.library.exports.source import Source, unreadable

CHART_POINTS = 600  # of one line in a chart; more cannot be told apart


class Bar(msgspec.Struct, frozen=True):
    """A figure with its interval, for one model or file."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


class Chart(msgspec.Struct, frozen=True):
    """Either `bars`, or `lines`: name -> points (x, y). `marked`: an x that stands out."""

    title: str
    unit: str = ""
    bars: tuple[Bar, ...] = ()
    lines: dict[str, list[tuple[float, float]]] = {}
    across: str = ""  # what x is
    marked: float | None = None


class Table(msgspec.Struct, frozen=True):
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class View(msgspec.Struct, frozen=True):
    """All text in it may come from a user or a model: a format escapes it."""

    title: str
    created: str
    facts: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    more: tuple[Table, ...]  # after the charts
    notes: tuple[str, ...] = ()


def read(source: Source) -> Report | Training:
    """The kept master. Raises LibraryBroken, NotRead."""
    kind: Any = Training if source.kind == "training" else Report
    try:
        found: Report | Training = msgspec.json.decode(source.path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise unreadable(source, error) from error
    return found


def view_of(source: Source, metadata: bool = True) -> View:
    """What a file shows. Without metadata it says neither how the work is called nor what was asked for."""
    found = read(source) if metadata else untitled(read(source))
    if isinstance(found, Training):
        return of_training(found, source.title or found.name, source.created)
    return of_report(found, source.title or found.title)


def untitled(found: Report | Training) -> Report | Training:
    """What was found, without its name and without its settings."""
    if isinstance(found, Training):
        return msgspec.structs.replace(found, name="Training")
    return msgspec.structs.replace(found, title="Report", settings={})


def of_report(report: Report, title: str) -> View:
    facts = [
        ("Data", report.data), ("Checksum of the data", report.data_sha256),
        ("Seeds", ", ".join(map(str, report.seeds))), ("Versions", _pairs(report.versions)),
        ("Settings", _pairs(report.settings)),
    ]  # fmt: skip
    head = ("Measure", "Of", "Figure", "95 % interval", "Unit", "Better is", "Rows")
    rows = [
        (m.name, m.of, figure(m.value), interval(m.low, m.high), m.unit, m.better, f"{m.n:,}" if m.n else "")
        for m in report.measures
    ]
    signatures = tuple(dict.fromkeys((m.name, m.signature) for m in report.measures if m.signature))
    more = [Table(name, tuple(rows[0]), tuple(map(tuple, rows[1:]))) for name, rows in report.tables.items() if rows]
    if signatures:
        more.append(Table("How it was measured", ("Measure", "Signature"), signatures))
    charts = [*_intervals(report.measures), *(_lines(name, points, "row") for name, points in report.plots.items())]
    return _cleaned(
        View(
            title=title,
            created=report.created,
            facts=_filled(facts),
            charts=tuple(charts),
            more=tuple(more),
            tables=(Table("Figures", head, tuple(rows)),) if rows else (),
            notes=report.notes,
        )
    )


def of_training(training: Training, title: str, created: str) -> View:
    facts = [
        ("Method", training.method), ("Base", training.base), ("Data", training.data),
        ("Checksum of the data", training.data_sha256),
        ("Steps", f"{training.steps:,} of {training.planned:,}" if training.planned else f"{training.steps:,}"),
        ("Best step", f"{training.best_step:,}" if training.best_step else ""), ("Ended early", training.why),
        ("Time", duration(training.seconds)),
        ("Time told before", duration(training.estimate.get("seconds", 0.0))),
        ("Most memory", f"{training.peak_bytes / 1e9:,.2f} GB" if training.peak_bytes else ""),
        ("Memory told before", f"{training.estimate['bytes'] / 1e9:,.2f} GB" if training.estimate.get("bytes") else ""),
        ("Run", training.run),
    ]  # fmt: skip
    names = dict.fromkeys([*training.before, *training.after])
    compared = tuple(
        (name, *(figure(each[name]) if name in each else "" for each in (training.before, training.after)))
        for name in names
    )
    marked = float(training.best_step) if training.best_step else None
    charts = [
        _lines(title, training.curve, "step", [name for name in names if _has(training.curve, name)], marked)
        for title, names in (("Loss", ["loss", "valid"]), ("Learning rate", ["rate"]), ("Gradient norm", ["norm"]),
                             ("Speed", ["speed"]))
        if any(_has(training.curve, name) for name in names)
    ]  # fmt: skip
    importance = tuple(Bar(name, value) for name, value in training.importance.items())
    if importance:
        charts.append(Chart("Importance", bars=importance))
    more = []
    if training.samples:
        rows = tuple((f"{s.step:,}", s.prompt, s.text or s.image) for s in training.samples)
        more.append(Table("Tried", ("Step", "Prompt", "Made"), rows))
    if training.made:
        made = tuple(
            (m.kind, m.path, f"{m.bytes / 1e6:,.1f} MB" if m.bytes else "", m.checked, m.sha256) for m in training.made
        )
        more.append(Table("Left", ("What", "Where", "Size", "Checked", "Checksum"), made))
    if training.trials:
        head = tuple(dict.fromkeys(key for trial in training.trials for key in trial))
        trials = tuple(tuple(_cell(trial.get(key, "")) for key in head) for trial in training.trials)
        more.append(Table("Trials", head, trials))
    tables = (Table("Before and after", ("Measure", "Before", "After"), compared),) if compared else ()
    return _cleaned(
        View(
            title=title,
            created=created,
            facts=_filled(facts),
            tables=tables,
            charts=tuple(charts),
            more=tuple(more),
            notes=training.notes,
        )
    )


def figure(value: float) -> str:
    """A number with four figures that matter."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if abs(value) >= 1e-3 else f"{value:.3g}"


def interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{figure(low)} … {figure(high)}"


def duration(seconds: float) -> str:
    """For example 1 h 02 min; empty for 0."""
    if seconds <= 0:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _intervals(measures: Sequence[Measure]) -> list[Chart]:
    """A chart for each measure, with a bar for whomever it is of; one in which nothing differs is left out."""
    found: dict[str, list[Measure]] = {}
    for each in measures:
        found.setdefault(each.name, []).append(each)
    return [
        Chart(name, every[0].unit, tuple(Bar(m.of, m.value, m.low, m.high) for m in every))
        for name, every in found.items()
        if len({x for m in every for x in (m.value, m.low, m.high) if x is not None}) > 1
    ]


def _lines(
    title: str, points: Sequence[Point], across: str, names: Sequence[str] = (), marked: float | None = None
) -> Chart:
    names = names or list(dict.fromkeys(name for point in points for name in point.values))
    lines = {}
    for name in names:
        line = [(float(p.step), p.values[name]) for p in points if math.isfinite(p.values.get(name, math.nan))]
        step = max(1, math.ceil(len(line) / CHART_POINTS))
        lines[name] = line[::step]
    return Chart(title, lines=lines, across=across, marked=marked)


def _has(points: Iterable[Point], name: str) -> bool:
    return any(name in point.values for point in points)


def _filled(facts: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(fact for fact in facts if fact[1])


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_cell(value)}" for name, value in values.items() if value not in ("", [], None, {}))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, dict):
        return f"({_pairs(value)})"
    if isinstance(value, (list, tuple)):
        return "; ".join(_cell(each) for each in value)
    return str(value)


def _cleaned(view: View) -> View:
    """Without control characters and halves of characters, which no format can hold."""

    def of(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value)[0]
        if isinstance(value, tuple):
            return tuple(of(each) for each in value)
        if isinstance(value, msgspec.Struct):
            return type(value)(**{name: of(getattr(value, name)) for name in value.__struct_fields__})
        if isinstance(value, dict):
            return {of(key): each for key, each in value.items()}
        return value

    cleaned: View = of(view)
    return cleaned
