"""What a picture of ours carries in each format. Knows which texts there are and how much of them fits."""

from __future__ import annotations

import msgspec

import studio
from studio.core.recipes import CARRIED_AS, CARRIED_LIMIT, ImageRecipe
from studio.core.text import clean, shown
from studio.library.metadata.tiff import EXIF_HEAD, exif_block
from studio.library.metadata.xmp import xmp_packet

# A JPEG's segment holds 65,535 bytes, two of them its own length; XMP begins with its name.
JPEG_EXIF_LIMIT = 65_533
JPEG_XMP_LIMIT = JPEG_EXIF_LIMIT - len("http://ns.adobe.com/xap/1.0/\0")

SOFTWARE = f"studio {studio.__version__}"


class Carried(msgspec.Struct, frozen=True):
    """What goes into one file.

    Attributes:
        exif: an Exif block that begins with "Exif\\0\\0", for pillow's save(exif=…); may be empty.
        xmp: a packet for save(xmp=…); may be empty. A TIFF file has it inside `exif`, too.
        left_out: what did not fit, any of "recipe" and "parameters".
    """

    exif: bytes
    xmp: bytes
    left_out: tuple[str, ...] = ()


def json_of(recipe: ImageRecipe) -> str:
    """The recipe as JSON, as files carry it."""
    return msgspec.json.encode(recipe).decode()


def png_chunks(recipe_json: str, parameters: str = "") -> list[tuple[str, str]]:
    """Keyword and text of the chunks of a PNG, to be written as iTXt; what is too long is left out."""
    chunks = (("parameters", parameters), (CARRIED_AS, recipe_json))
    return [(keyword, text) for keyword, text in chunks if text and _size(text) <= CARRIED_LIMIT]


def exif_with(
    text: str, recipe_json: str = "", title: str = "", software: str = SOFTWARE, *, head: bool = True, xmp: bytes = b""
) -> bytes:
    """An Exif block (a TIFF structure) with what a picture carries.

    Args:
        text: the "parameters", as UserComment (UNICODE, big-endian). recipe_json: as a MakerNote of ours.
        title: as ImageDescription. head: begin with "Exif\\0\\0", as JPEG and pillow want it.
        xmp: for TIFF files, which keep the packet among their tags.
    """
    block = exif_block(
        description=shown(clean(title)[0], 200), software=software, comment=clean(text)[0], recipe_json=recipe_json,
        xmp=xmp,
    )  # fmt: skip
    return EXIF_HEAD + block if head and block else block


def xmp_with(recipe_json: str, *, parameters: str = "", title: str = "", software: str = SOFTWARE) -> bytes:
    """An XMP packet with the recipe in a namespace of our own, and title and description for other programs."""
    return xmp_packet(recipe_json=recipe_json, parameters=parameters, title=title, software=software)


def carried(
    format: str, recipe_json: str, parameters: str = "", *, title: str = "", software: str = SOFTWARE
) -> Carried:
    """What a JPEG, WebP, AVIF or TIFF file of ours carries, as far as it fits.

    The recipe is in the XMP packet, and once more in the Exif block where that has room: some programs keep only one
    of the two. The "parameters" are in UserComment, where A1111, its relatives and Civitai look.

    Args:
        format: pillow's name of the format ("JPEG", "WEBP", "AVIF", "TIFF"); only JPEG's limits differ.
    """
    is_jpeg, is_tiff = format.upper() in ("JPEG", "JPG", "MPO"), format.upper() in ("TIFF", "TIF")
    given = {"recipe": bool(recipe_json), "parameters": bool(parameters)}
    recipe_json = recipe_json if _size(recipe_json) <= CARRIED_LIMIT else ""
    # read back, a text may have 256 KiB
    parameters = clean(parameters)[0] if _size(parameters) <= CARRIED_LIMIT else ""
    exif_limit = JPEG_EXIF_LIMIT if is_jpeg else 1 << 30
    xmp_limit = JPEG_XMP_LIMIT if is_jpeg else 1 << 30
    # 1. XMP: the recipe first, the description only where it fits beside it
    packet = b""
    for described in (parameters, ""):
        packet = xmp_with(recipe_json, parameters=described, title=title, software=software)
        if len(packet) <= xmp_limit:
            break
    else:
        packet = b""
    # 2. Exif: the parameters first, the recipe only where it fits beside them, or where XMP has no room for it
    inside = packet if is_tiff else b""
    ways = [(parameters, recipe_json), (parameters, ""), ("", recipe_json), ("", "")]
    if not packet:
        ways[1], ways[2] = ways[2], ways[1]
    block, way = b"", ("", "")
    for way in ways:
        block = exif_with(way[0], way[1], title, software, xmp=inside)
        if len(block) <= exif_limit:
            break
    kept = {"recipe": bool(recipe_json) and bool(packet or way[1]), "parameters": bool(way[0])}
    return Carried(block, packet, tuple(name for name in given if given[name] and not kept[name]))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
