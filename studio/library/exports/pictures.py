"""What the picture formats share: opening the kept picture, and what an exported one carries. Imports pillow."""

from __future__ import annotations

from typing import Any, BinaryIO, cast

import msgspec
from PIL import Image

from studio.core.problems import NotSaved
from studio.core.recipes import ExportRecipe, ImageRecipe
from studio.engines.context import RunContext
from studio.engines.image import opening
from studio.library import metadata
from studio.library.exports.source import SOFTWARE, Sink, Source, unreadable
from studio.library.metadata import Carried


def open_picture(source: Source, ctx: RunContext) -> Image.Image:
    """The kept picture, decoded and turned upright, in mode L, LA, RGB or RGBA, 8 bits per channel.

    Raises:
        LibraryBroken: it cannot be decoded, or claims a size that no picture here has. NotRead: the disk refuses.
    """
    try:
        picture = opening.decode(source.path, ctx.note)
    except opening.Undecodable as error:
        raise unreadable(source, error.__cause__ or error) from error
    ctx.progress(1, 3, "steps", "reading")
    ctx.check()
    return picture


def on_white(picture: Image.Image) -> Image.Image:
    """The picture without transparency, as it looks on white paper."""
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(paper, picture).convert("RGB")


def hold_size(picture: Image.Image, limit: int, title: str) -> None:
    """Raises NotSaved where a format cannot hold a picture this large. `limit`: px per side."""
    if max(picture.size) > limit:
        raise NotSaved(
            f"The picture is {picture.width:,} × {picture.height:,} px; {title} takes at most {limit:,} px per side.",
            "Export it as PNG.", field="to",
        )  # fmt: skip


def recipe_json(source: Source) -> str:
    """The work's recipe as JSON, or an empty text where it has none."""
    return msgspec.json.encode(source.recipe).decode() if source.recipe else ""


def parameters(source: Source) -> str:
    """How the picture was made in the words that other programs read, or an empty text."""
    try:
        recipe = msgspec.convert(source.recipe, ImageRecipe)
    except msgspec.ValidationError:  # made of another picture, or by a studio of another time
        return ""
    made_with = recipe.made_with
    wide, high = source.meta.get("width"), source.meta.get("height")
    once = recipe.enlarge == 1 and recipe.extend is None and not recipe.image
    return metadata.parameters_text(
        recipe,
        model_sha256=made_with.model_sha256 if made_with is not None else "",
        size=(wide, high) if once and isinstance(wide, int) and isinstance(high, int) else None,
        hashes=dict(made_with.parts) if made_with is not None else None,
    )


def carried(source: Source, recipe: ExportRecipe, format: str, ctx: RunContext) -> Carried:
    """What a file of this format is given along: title, maker and how it was made, or nothing at all.

    Where the recipe is not wanted the title is left out, too: it usually is the prompt.
    """
    if not recipe.metadata:
        return Carried(b"", b"")
    found = metadata.carried(format, recipe_json(source), parameters(source), title=source.tag, software=SOFTWARE)
    if "recipe" in found.left_out:
        ctx.note(f"The recipe is too long for a {format} file and was left out of it.")
    return found


def save(picture: Image.Image, stream: BinaryIO, ctx: RunContext, format: str, **how: Any) -> dict[str, Any]:
    """Encode into `stream`, with the colour profile where there is one; returns the facts for Artifact.meta.

    Raises:
        OSError: the disk refused. JobCancelled: between two pieces of the file.
    """
    ctx.progress(2, 3, "steps", "writing")
    ctx.check()
    how = {name: value for name, value in how.items() if value != b""}
    profile = picture.info.get("icc_profile")
    sink = Sink(stream, ctx.check)
    # what the picture came with is not written by itself: texts in it may tell how it was made
    picture.info = {}
    picture.save(cast(BinaryIO, sink), format=format, **({"icc_profile": profile} if profile else {}), **how)
    sink.finish()
    ctx.progress(3, 3, "steps", "writing")
    return {"width": picture.width, "height": picture.height}
