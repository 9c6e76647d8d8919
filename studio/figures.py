"""What a training, a search and a report say on a terminal: plain lines, aligned. Knows works; knows no session."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from studio.core.learning import Measure, Report, Training
from studio.core.text import shown

TRIALS = 30  # of a search, the best first
WIDEST = 44  # characters of a cell


def lines(kind: str, path: Path) -> list[str]:
    """What a work of that kind found; empty for a kind that has no figures, or a file that cannot be read.

    Args:
        path: of the work's master file.
    """
    try:
        if kind == "report":
            return _report(msgspec.json.decode(path.read_bytes(), type=Report))
        if kind == "training":
            return _training(msgspec.json.decode(path.read_bytes(), type=Training))
    except (OSError, msgspec.MsgspecError):
        pass  # it was made all the same, and its path is told
    return []


def number(value: float | None) -> str:
    """A number with four figures that matter, as reports show it."""
    if value is None or value != value or abs(value) == float("inf"):
        return "–"
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}".rstrip(".")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: frozenset[int] = frozenset()) -> list[str]:
    """Lines of a table; the columns in `numbers` keep to the right. What a file says cannot drive the terminal."""
    every = [[shown(cell, WIDEST) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(heads))]
    return [
        "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    ]


def _report(report: Report) -> list[str]:
    def row(found: Measure) -> list[str]:
        between = "" if found.low is None or found.high is None else f"{number(found.low)} … {number(found.high)}"
        return [found.name, found.of, number(found.value), between, found.unit]

    heads = ["Measure", "Of", "Value", "95 % interval", "Unit"]
    return table(heads, [row(found) for found in report.measures], frozenset({2})) if report.measures else []


def _training(training: Training) -> list[str]:
    told = _trials(training) if training.trials else []
    before, after = training.before.get("valid"), training.after.get("valid")
    if before is not None and after is not None:
        told.append(
            f"Validation loss {number(before)} before, {number(after)} after; best at step {training.best_step:,}"
        )
    if training.why:
        told.append(shown(training.why, 400))
    told += [f"{made.path}  {shown(made.checked, 200)}".rstrip() for made in training.made]
    return told


def _trials(training: Training) -> list[str]:
    """The trials, best first, and how much each setting decided."""
    own = ("number", "state", "value", "steps", "best_step", "seconds", "why")
    varied = list(dict.fromkeys(key for trial in training.trials for key in trial if key not in own))

    def worth(trial: dict[str, object]) -> tuple[bool, float]:
        value = trial.get("value")
        whole = trial.get("state") == "complete" and isinstance(value, int | float)
        return not whole, float(value) if isinstance(value, int | float) else float("inf")

    rows = [
        [
            str(trial.get("number", "")), number(trial.get("value")),
            *(number(v) if isinstance(v := trial.get(key, ""), float) else str(v) for key in varied),
            str(trial.get("state", "")),
        ]
        for trial in sorted(training.trials, key=worth)
    ]  # fmt: skip
    told = table(["Trial", "Loss", *varied, ""], rows[:TRIALS], frozenset(range(2 + len(varied))))
    if len(rows) > TRIALS:
        told.append(f"… and {len(rows) - TRIALS:,} more.")
    if training.importance:
        parts = sorted(training.importance.items(), key=lambda part: -part[1])
        told.append("What decided: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in parts))
    return told
