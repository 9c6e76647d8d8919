"""Layouts for models that only continue text: a base model answers best what looks like something it has read."""

from __future__ import annotations

from studio.ui.strings import tr


def templates() -> tuple[tuple[str, str], ...]:
    """Title and text; `{}` marks where the user's own words go."""
    return (
        (tr("Continue a story"), tr("Once upon a time, {}")),
        (tr("Question and answer"), "Q: What is the capital of France?\nA: Paris.\n\nQ: {}\nA:"),
        (tr("News report"), tr("NEWS\n\nHeadline: {}\n\nToday, ")),
        (tr("Poem"), tr("A short poem about {}:\n\n")),
        (tr("Dialogue"), tr("A conversation between two old friends about {}.\n\nAnna: ")),
        (tr("List of ideas"), tr("Ten ideas for {}:\n\n1. ")),
        (tr("Lesson"), tr("Lesson 1: {}\n\nIn this lesson you will learn ")),
        (tr("Summary"), tr("Text: {}\n\nSummary in one sentence:")),
    )


def filled(template: str, words: str) -> tuple[str, int]:
    """The template around the user's words, and where the cursor belongs."""
    before, _, after = template.partition("{}")
    return f"{before}{words}{after}", len(before) + len(words)
