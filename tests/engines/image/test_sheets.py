"""Sheets: every picture stands in its place, labels beside it, and what is missing says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.problems import BadRecipe
from studio.core.recipes import SheetCell, SheetRecipe
from studio.engines.context import JobCancelled
from studio.engines.image import sheets
from studio.engines.image.sheets import EMPTY, SIDE_LIMIT, Layout, Sheets, Writing, fitting
from studio.library.carried import recipe_in
from tests.engines.image import tiny

CARD = ModelCard(id="sheet", name="Sheet", kind="sheet", engine="image.sheet", path="", format="")
COLOURS = ["red", "lime", "blue", "yellow", "cyan", "magenta"]


def made(around: tiny.Around, **values: Any) -> Image.Image:
    engine = Sheets()
    engine.load(CARD, Plan(), around.ctx)
    engine.run(SheetRecipe(**values), around.ctx)
    with Image.open(around.out / "0.png") as sheet:
        sheet.load()
        return sheet


def kept(around: tiny.Around, colour: str, size: tuple[int, int] = (40, 30)) -> SheetCell:
    return SheetCell(image=around.keep(Image.new("RGB", size, colour), colour))


def centres(sheet: Image.Image, colour: str) -> tuple[float, float]:
    """Where the pixels of a colour lie on average."""
    wanted = np.array(Image.new("RGB", (1, 1), colour))[0, 0]
    rows, columns = np.nonzero((np.asarray(sheet.convert("RGB")) == wanted).all(axis=2))
    assert len(rows), colour
    return float(columns.mean()), float(rows.mean())


def test_pictures_stand_row_by_row_with_labels_on_top_and_on_the_left(around: tiny.Around) -> None:
    cells = tuple(kept(around, colour) for colour in COLOURS)
    sheet = made(around, cells=cells, across=("Steps 1", "Steps 2", "Steps 3"), down=("Guidance 2", "Guidance 4"))
    at = [centres(sheet, colour) for colour in COLOURS]
    assert at[0][0] < at[1][0] < at[2][0]
    assert at[0][0] == at[3][0]
    assert at[0][1] == at[1][1] < at[3][1]
    values = np.asarray(sheet.convert("L"))
    left, top = int(at[0][0]) - 25, int(at[0][1]) - 20
    assert (values[:, :left] < 128).any(), "row labels"
    assert (values[:top] < 128).any(), "column labels"
    with open(around.out / "0.png", "rb") as stream:
        carried = recipe_in(stream)
    assert isinstance(carried, SheetRecipe)
    assert carried.across[0] == "Steps 1"


def test_blocks_stand_below_one_another_and_a_dark_ground_is_dark(around: tiny.Around) -> None:
    cells = tuple(kept(around, colour) for colour in COLOURS[:2])
    sheet = made(around, cells=cells, blocks=("Model A", "Model B"), ground="dark")
    assert centres(sheet, "red")[1] < centres(sheet, "lime")[1]
    assert max(sheet.convert("RGB").getpixel((1, 1))) < 40


def test_what_is_missing_says_why_and_costs_the_others_nothing(around: tiny.Around) -> None:
    cells = (kept(around, "red"), SheetCell(why="cancelled"), SheetCell(image="0" * 40 + ".png"))
    sheet = made(around, cells=cells, across=("a", "b", "c"))
    assert centres(sheet, "red")
    assert any("missing" in note for note in around.ctx.notes)
    empty = made(tiny.Around(around.out.parent / "empty"), cells=(SheetCell(why="failed"),))
    assert empty.width > EMPTY[0]
    assert np.asarray(empty.convert("L")).min() < 200


def test_pictures_of_other_shapes_keep_them(around: tiny.Around) -> None:
    cells = (kept(around, "red", (80, 20)), kept(around, "blue", (20, 80)))
    values = np.asarray(made(around, cells=cells, across=("wide", "tall")).convert("RGB"))
    red = np.nonzero((values == [255, 0, 0]).all(axis=2))
    assert np.ptp(red[1]) + 1 == 80
    assert np.ptp(red[0]) + 1 == 20


def test_a_sheet_that_would_be_too_large_is_made_of_smaller_pictures() -> None:
    recipe = SheetRecipe(cells=(SheetCell(),) * 100, across=tuple(f"Steps {n}" for n in range(100)))
    layout, smaller = fitting((1024, 1024), (100, 1, 1), recipe, Writing("Steps"))
    assert smaller
    assert max(layout.size) <= SIDE_LIMIT
    assert isinstance(layout, Layout)
    layout, smaller = fitting((64, 64), (2, 2, 1), SheetRecipe(cells=(SheetCell(),) * 4, across=("a", "b"),
                              down=("c", "d")), Writing("abcd"))  # fmt: skip
    assert not smaller
    assert layout.cell == (64, 64)


def test_pictures_of_a_sheet_made_smaller_are_whole_and_keep_their_shapes(
    around: tiny.Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "SIDE_LIMIT", 300)
    cells = (kept(around, "red", (200, 100)), kept(around, "blue", (100, 200)), kept(around, "lime", (200, 200)))
    sheet = made(around, cells=cells, across=("a", "b", "c"))
    assert 250 < sheet.width <= 300 and any("smaller" in note for note in around.ctx.notes)
    values = np.asarray(sheet.convert("RGB"))
    shapes = []
    for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0)):
        rows, columns = np.nonzero((values == colour).all(axis=2))
        shapes.append((np.ptp(columns) + 1, np.ptp(rows) + 1))
    (wide, low), (narrow, high), (side, other) = shapes
    assert side == other == wide == high and 60 < side < 100
    assert abs(low - side / 2) <= 1 and abs(narrow - side / 2) <= 1


def test_cells_that_do_not_fill_the_sheet_are_refused(around: tiny.Around) -> None:
    with pytest.raises(BadRecipe, match="got 1"):
        made(around, cells=(SheetCell(why="x"),), across=("a", "b"))


def test_it_stops_when_it_is_cancelled(tmp_path: Path) -> None:
    around = tiny.Around(tmp_path)
    around.cancelled.set()
    with pytest.raises(JobCancelled):
        made(around, cells=(SheetCell(why="x"),))
    assert not list(around.out.iterdir())


def test_long_and_foreign_labels_are_written_and_wrapped(around: tiny.Around) -> None:
    label = "“a red cat, 日本語, ελληνικά” " * 4
    sheet = made(around, cells=(kept(around, "red"),), across=(label.strip(),), down=("x" * 60,))
    assert sheet.height > 60
    assert centres(sheet, "red")
