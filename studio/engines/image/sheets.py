"""The sheet of a grid: pictures in rows and columns, block by block, with what tells them apart written beside them.

Knows pillow and kept pictures; knows nothing of axes or models. Pictures of different sizes share cells of one size
and keep their shape. A sheet that would be larger than pictures may be is made of smaller ones.
"""

from __future__ import annotations

import functools
import math
import platform
import time
import warnings
from importlib import metadata
from typing import Any, ClassVar

import msgspec
from PIL import Image, ImageDraw, ImageFont

from studio.core.cards import ModelCard
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit, StudioError
from studio.core.recipes import MadeWith, Recipe, SheetCell, SheetRecipe
from studio.core.works import Result
from studio.engines.context import RunContext
from studio.engines.image import opening, saving

ENGINE = "image.sheet"
SIDE_LIMIT = 16_384  # px; what most programs and graphics cards still show
PIXELS_LIMIT = opening.PIXELS_LIMIT
EMPTY = (256, 256)  # px, of a cell where no picture says how large it is
SMALLEST_TEXT = 11  # px
LINES = 8  # of a label

# ground, text, soft text, outline of an empty cell
_COLOURS = {
    "light": ((255, 255, 255), (24, 26, 30), (96, 101, 110), (205, 209, 216)),
    "dark": ((24, 25, 27), (236, 237, 237), (165, 168, 174), (70, 73, 80)),
}
# Looked for by name among the system's fonts where pillow's own lacks a letter.
_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf",
    "msgothic.ttc", "PingFang.ttc",
)  # fmt: skip

Font = Any  # FreeTypeFont, or pillow's bitmap font where it was built without FreeType


class Layout(msgspec.Struct, frozen=True):
    """Where everything stands on a sheet, px.

    Attributes:
        cell: width and height of a cell. text: height of the letters. gap: between cells, and around the whole.
        left: width of the column of row labels; 0 without any. top: height of a block's row of column labels.
        head: height of a block's own title.
        columns, rows, blocks: how many there are of each.
    """

    cell: tuple[int, int]
    text: int
    gap: int
    left: int
    top: int
    head: int
    columns: int
    rows: int
    blocks: int

    @property
    def block(self) -> int:
        """Height of a block with the room below it."""
        return self.head + self.top + self.rows * (self.cell[1] + self.gap) + self.text

    @property
    def size(self) -> tuple[int, int]:
        wide = self.gap + self.left + self.columns * (self.cell[0] + self.gap)
        return wide, self.gap + self.blocks * self.block - self.text

    def corner(self, column: int, row: int, block: int) -> tuple[int, int]:
        """The upper left corner of a cell."""
        across = self.gap + self.left + column * (self.cell[0] + self.gap)
        return across, self.gap + block * self.block + self.head + self.top + row * (self.cell[1] + self.gap)


class Sheets:
    """The engine "image.sheet"; see studio/engines/base.py for the contract. It needs no model: any card will do."""

    kind: ClassVar[str] = "sheet"

    def __init__(self) -> None:
        self._plan = Plan()

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Nothing to load."""
        self._plan = plan

    def unload(self) -> None:
        """Nothing to unload."""

    def made_with(self) -> MadeWith:
        return MadeWith(
            engine=ENGINE, threads=self._plan.threads, versions=_versions(),
            system=f"{platform.system()} {platform.machine()}",
        )  # fmt: skip

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Make a sheet.

        Raises:
            BadRecipe: the cells do not fill the rows, columns and blocks.
            OSError: the disk refuses.
        """
        if not isinstance(recipe, SheetRecipe):
            raise ModelUnfit("This engine lays out sheets and makes no pictures.")
        ctx.check()
        began = time.perf_counter()
        columns, rows, blocks = shape(recipe)
        total = 2 * len(recipe.cells) + 1

        # 1. how large the cells are
        sizes = []
        for at, cell in enumerate(recipe.cells):
            ctx.check()
            if cell.image:
                sizes.append(_size(cell, ctx))
            ctx.progress(at + 1, total, "pictures", "measuring")
        known = [size for size in sizes if size is not None]
        largest = max((w for w, _ in known), default=EMPTY[0]), max((h for _, h in known), default=EMPTY[1])
        writing = Writing(" ".join((*recipe.across, *recipe.down, *recipe.blocks, *(c.why for c in recipe.cells))))
        layout, smaller = fitting(largest, (columns, rows, blocks), recipe, writing)
        if smaller:
            ctx.note("The pictures on the sheet are smaller than they are: the sheet would be too large otherwise.")

        # 2. what stands in them
        ground, text, soft, outline = _COLOURS[recipe.ground]
        sheet = Image.new("RGB", layout.size, ground)
        draw = ImageDraw.Draw(sheet)
        scale = min(layout.cell[0] / largest[0], layout.cell[1] / largest[1])
        for at, cell in enumerate(recipe.cells):
            ctx.check()
            row, column = divmod(at, columns)
            block, row = divmod(row, rows)
            corner = layout.corner(column, row, block)
            image, why = _picture(cell, ctx)
            if image is None:
                _empty(draw, corner, layout, why, writing, soft, outline)
            else:
                _paste(sheet, image, corner, layout.cell, scale)
            ctx.progress(len(recipe.cells) + at + 1, total, "pictures", "laying out")

        # 3. what is written beside them
        _labels(draw, recipe, layout, writing, text)
        own = msgspec.structs.replace(recipe, made_with=self.made_with())
        artifacts = saving.save(sheet, 0, None, time.perf_counter() - began, own, ctx)
        ctx.progress(total, total, "pictures", "saving")
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))


@functools.cache  # reading a package's metadata takes milliseconds
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "pillow": metadata.version("pillow")}


def shape(recipe: SheetRecipe) -> tuple[int, int, int]:
    """How many columns, rows and blocks a sheet has. Raises BadRecipe where its cells do not fill them."""
    columns, rows, blocks = (max(1, len(names)) for names in (recipe.across, recipe.down, recipe.blocks))
    if not recipe.cells or len(recipe.cells) != columns * rows * blocks:
        raise BadRecipe(
            f"A sheet of {columns} columns, {rows} rows and {blocks} blocks has {columns * rows * blocks:,} cells;"
            f" got {len(recipe.cells):,}.",
            field="cells",
        )
    return columns, rows, blocks


# -- pictures ----------------------------------------------------------------------------------------------------------


def _size(cell: SheetCell, ctx: RunContext) -> tuple[int, int] | None:
    """The size a picture's file claims; it is decoded only when its turn comes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures; `opening` refuses those that are too large
            with Image.open(ctx.input(cell.image), formats=opening.FORMATS) as opened:
                return opened.size if opened.width * opened.height <= PIXELS_LIMIT else None
    except (StudioError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _picture(cell: SheetCell, ctx: RunContext) -> tuple[Image.Image | None, str]:
    """The picture of a cell, or why there is none. One that is lost must not cost the others their sheet."""
    if not cell.image:
        return None, cell.why or "nothing"
    try:
        return opening.open_picture(ctx.input(cell.image)), ""
    except StudioError as error:
        ctx.note(f"A picture of the sheet is missing: {error.problem.sentence}")
        return None, "missing"


def _paste(
    sheet: Image.Image, image: Image.Image, corner: tuple[int, int], cell: tuple[int, int], scale: float
) -> None:  # fmt: skip
    """Put a picture into the middle of its cell; what is see-through shows the ground."""
    scale = min(scale, cell[0] / image.width, cell[1] / image.height)
    if scale < 1:
        size = max(1, min(cell[0], round(image.width * scale))), max(1, min(cell[1], round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    at = corner[0] + (cell[0] - image.width) // 2, corner[1] + (cell[1] - image.height) // 2
    sheet.paste(image, at, image if image.mode == "RGBA" else None)


def _empty(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], layout: Layout, why: str, writing: Writing,
    soft: tuple[int, int, int], outline: tuple[int, int, int],
) -> None:  # fmt: skip
    wide, high = layout.cell
    box = (*corner, corner[0] + wide - 1, corner[1] + high - 1)
    draw.rectangle(box, outline=outline, width=max(1, layout.text // 10))
    inside = max(1, wide - layout.text)
    lines = writing.wrapped(why, layout.text, inside)[: max(1, (high - layout.text // 2) // writing.line(layout.text))]
    writing.put(draw, lines, layout.text, corner, (wide, high), soft)


# -- layout ------------------------------------------------------------------------------------------------------------


def fitting(
    cell: tuple[int, int], counts: tuple[int, int, int], recipe: SheetRecipe, writing: Writing
) -> tuple[Layout, bool]:
    """The layout with cells as large as they may be, and whether they are smaller than they were to be.

    Args:
        cell: width and height of the largest pictures, px. counts: columns, rows and blocks.
    """
    whole = _layout(cell, counts, recipe, writing)
    if _fits(whole):
        return whole, False
    low, high = 0.0, 1.0
    best = _layout((1, 1), counts, recipe, writing)
    for _ in range(14):
        middle = (low + high) / 2
        size = max(1, math.floor(cell[0] * middle)), max(1, math.floor(cell[1] * middle))
        tried = _layout(size, counts, recipe, writing)
        if _fits(tried):
            low, best = middle, tried
        else:
            high = middle
    return best, True


def _fits(layout: Layout) -> bool:
    wide, high = layout.size
    return max(wide, high) <= SIDE_LIMIT and wide * high <= PIXELS_LIMIT


def _layout(
    cell: tuple[int, int], counts: tuple[int, int, int], recipe: SheetRecipe, writing: Writing
) -> Layout:  # fmt: skip
    columns, rows, blocks = counts
    # A sheet is looked at as a whole: letters grow with the cells, and with how many stand side by side.
    text = round(min(cell) / 14 * max(1.0, math.sqrt(columns) / 2))
    text = max(SMALLEST_TEXT, min(text, cell[0] // 4, 160))
    gap = max(2, text // 3)
    line = writing.line(text)
    left = top = head = 0
    if recipe.down:
        most = max(cell[0], 6 * text)
        lines = [writing.wrapped(name, text, most) for name in recipe.down]
        left = math.ceil(max(writing.width(each, text) for some in lines for each in some)) + gap
    if recipe.across:
        top = max(len(writing.wrapped(name, text, cell[0])) for name in recipe.across) * line + gap
    if recipe.blocks:
        big = _headline(text)
        wide = max(1, left + columns * (cell[0] + gap))
        head = max(len(writing.wrapped(name, big, wide)) for name in recipe.blocks) * writing.line(big) + gap
    return Layout(cell, text, gap, left, top, head, columns, rows, blocks)


def _headline(text: int) -> int:
    return round(text * 1.3)


def _labels(
    draw: ImageDraw.ImageDraw, recipe: SheetRecipe, layout: Layout, writing: Writing, colour: tuple[int, int, int]
) -> None:  # fmt: skip
    text, gap = layout.text, layout.gap
    wide, high = layout.cell
    for block in range(layout.blocks):
        upper = gap + block * layout.block
        if recipe.blocks:
            across = layout.size[0] - 2 * gap
            lines = writing.wrapped(recipe.blocks[block], _headline(text), across)
            writing.put(draw, lines, _headline(text), (gap, upper), (across, layout.head - gap), colour, left=True)
        for column, name in enumerate(recipe.across):
            x, y = layout.corner(column, 0, block)
            lines = writing.wrapped(name, text, wide)
            writing.put(draw, lines, text, (x, y - layout.top), (wide, layout.top - gap), colour)
        for row, name in enumerate(recipe.down):
            _, y = layout.corner(0, row, block)
            lines = writing.wrapped(name, text, max(wide, 6 * text))[: max(1, high // writing.line(text))]
            writing.put(draw, lines, text, (gap, y), (layout.left - gap, high), colour)


# -- writing -----------------------------------------------------------------------------------------------------------


class Writing:
    """Measures, wraps and draws text, in pillow's own font or in one of the system's that has all the letters.

    Args:
        letters: everything that will be written.
    """

    def __init__(self, letters: str) -> None:
        self._file = _font_for(letters)
        self._fonts: dict[int, Font] = {}

    def font(self, size: int) -> Font:
        """The font at a height in px."""
        if size not in self._fonts:
            made = ImageFont.truetype(self._file, size) if self._file else ImageFont.load_default(size)
            self._fonts[size] = made
        return self._fonts[size]

    def line(self, size: int) -> int:
        """Height of a line, px."""
        return math.ceil(size * 1.3)

    def width(self, text: str, size: int) -> float:
        return float(self.font(size).getlength(text))

    def wrapped(self, text: str, size: int, wide: int) -> list[str]:
        """Text in lines that are no wider than `wide`: broken between words, and within those that are too long."""
        lines: list[str] = []
        now = ""
        for word in text.split() or [""]:
            longer = f"{now} {word}" if now else word
            if self.width(longer, size) <= wide:
                now = longer
                continue
            if now:
                lines.append(now)
            *full, now = self._pieces(word, size, wide)
            lines += full
            if len(lines) > LINES:
                break
        lines.append(now)
        if len(lines) > LINES:
            lines = lines[:LINES]
            last = lines[-1]
            while last and self.width(f"{last}…", size) > wide:
                last = last[:-1]
            lines[-1] = f"{last}…"
        return lines

    def _pieces(self, word: str, size: int, wide: int) -> list[str]:
        pieces: list[str] = []
        while word and self.width(word, size) > wide and len(pieces) <= LINES:
            fit = 1
            while fit < len(word) and self.width(word[: fit + 1], size) <= wide:
                fit += 1
            pieces.append(word[:fit])
            word = word[fit:]
        return [*pieces, word]

    def put(
        self, draw: ImageDraw.ImageDraw, lines: list[str], size: int, corner: tuple[int, int], box: tuple[int, int],
        colour: tuple[int, int, int], *, left: bool = False,
    ) -> None:  # fmt: skip
        """Draw lines in the middle of a box, or at its left side."""
        line = self.line(size)
        y = corner[1] + max(0, (box[1] - line * len(lines)) // 2)
        for text in lines:
            x = corner[0] if left else corner[0] + max(0.0, (box[0] - self.width(text, size)) / 2)
            draw.text((round(x), y + (line - size) // 2), text, font=self.font(size), fill=colour)
            y += line


def _font_for(letters: str) -> str:
    """A font file of the system where pillow's own font lacks a letter; empty for that one."""
    wanted = {c for c in letters if not c.isspace()}
    if not wanted - _OWN or _has(ImageFont.load_default(16), wanted):
        return ""
    fullest, most = "", len(wanted)
    for name in _FONTS:
        try:
            lacks = len(_lacking(ImageFont.truetype(name, 16), wanted))
        except OSError:
            continue
        if lacks < most:
            fullest, most = name, lacks
        if not lacks:
            break
    return fullest


_OWN = frozenset(map(chr, range(33, 127)))  # printable ASCII


def _has(font: Font, letters: set[str]) -> bool:
    return not _lacking(font, letters)


def _lacking(font: Font, letters: set[str]) -> set[str]:
    """Letters that a font draws as it draws a letter that is in no font."""
    if not hasattr(font, "getmask"):
        return letters - _OWN
    nothing = _drawn(font, "\U000f0000")  # of a plane for private use
    return {letter for letter in letters if _drawn(font, letter) == nothing}


def _drawn(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)
