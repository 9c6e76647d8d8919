"""Words on the screen: every sentence of the window goes through `tr`, and its values are filled in as plain text."""

from __future__ import annotations

import html
import re
from typing import Any

from PySide6.QtCore import QCoreApplication

CONTEXT = "studio"  # of all translations
_PLACE = re.compile(r"\{(\w+)\}")


def tr(text: str, **values: Any) -> str:
    """The sentence in the user's language, with `{name}` replaced by values.

    Not `str.format`: values come from people and models, and must not be able to reach attributes. One pass, so that a
    value which looks like a place is left alone.
    """
    said = QCoreApplication.translate(CONTEXT, text)
    return _PLACE.sub(lambda m: str(values.get(m[1], m[0])), said) if values else said


def one_or_many(count: int, one: str, many: str) -> str:
    """`one` or `many`, both with a `{n}` for the number."""
    return tr(one if count == 1 else many, n=f"{count:,}")


def as_tip(text: str) -> str:
    """Text for a tooltip. Qt takes what looks like markup for markup, so everything is escaped."""
    return f"<p style='white-space:pre-wrap'>{html.escape(text)}</p>" if text else ""


def as_button(text: str) -> str:
    """Text for a button or menu, where “&” would become an underline."""
    return text.replace("&", "&&")


def seconds_left(seconds: float) -> str:
    """For example “6 s left”, “2 min left”, “1.5 h left”."""
    if seconds < 90:
        return tr("{n} s left", n=max(1, round(seconds)))
    if seconds < 5400:
        return tr("{n} min left", n=round(seconds / 60))
    return tr("{n} h left", n=f"{seconds / 3600:.1f}")


def duration(seconds: float) -> str:
    """A length: “0.8 s”, “12 s”, “3:05”, “1:02:03”."""
    if seconds < 10:
        return tr("{n} s", n=f"{seconds:.1f}")
    whole = round(seconds)
    if whole < 60:
        return tr("{n} s", n=whole)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_of(count: float) -> str:
    """Bytes for people: “14 kB”, “3.1 MB”."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit != "MB" else f"{count:.1f} MB"
        count /= 1000
    return f"{count:.1f} GB"
