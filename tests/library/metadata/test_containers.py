"""Files of every format, whole, damaged and hostile: texts are found, and nothing costs more than it should."""

from __future__ import annotations

import functools
import io
import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from studio.library.metadata import TEXT_LIMIT, carried, read
from studio.library.metadata.texts import user_comment
from tests.effort import effort
from tests.library.metadata.helpers_metadata import chunk, found, nothing, picture, png, raw_png

PARAMETERS = "a füchs, 猫\nNegative prompt: fog\nSteps: 21, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 512x768"
ASCII = PARAMETERS.encode("ascii", "ignore").decode()


def exif_of(comment: bytes | str, tag: int = 0x9286) -> bytes:
    exif = Image.Exif()
    exif[0x0131] = "x"  # some of pillow's writers pass over a block without a tag outside its further directory
    if tag == 0x9286:
        exif.get_ifd(0x8769)[tag] = comment
    else:
        exif[tag] = comment
    return exif.tobytes()


# -- where texts can be


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "packed iTXt"])
def test_every_kind_of_text_in_a_png(kind: str):
    text = PARAMETERS.encode("utf-8")
    latin = PARAMETERS.replace("猫", "x").encode("latin-1")
    data = {
        "tEXt": (b"tEXt", b"parameters\0" + latin),
        "zTXt": (b"zTXt", b"parameters\0\0" + zlib.compress(latin)),
        "iTXt": (b"iTXt", b"parameters\0\0\0de\0Parameter\0" + text),
        "packed iTXt": (b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(text)),
    }[kind]
    result = found(raw_png(chunk(*data)))
    assert result.values["steps"] == 21
    assert result.values["prompt"].startswith("a füchs")
    assert (result.width, result.height) == (64, 48)


def test_utf_8_in_a_text_that_should_be_latin_1():
    assert found(raw_png(chunk(b"tEXt", b"parameters\0" + PARAMETERS.encode()))).values["prompt"] == "a füchs, 猫"


def test_a_text_behind_the_pixels_is_found():
    whole = png(parameters="")
    end = whole.index(b"IEND") - 4
    data = whole[:end] + chunk(b"tEXt", b"parameters\0" + ASCII.encode()) + whole[end:]
    assert found(data).values["steps"] == 21


def test_exif_in_a_png():
    exif = exif_of(b"UNICODE\0" + PARAMETERS.encode("utf-16-be"))
    assert found(raw_png(chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))).values["prompt"] == "a füchs, 猫"


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + PARAMETERS.encode("utf-16-be"),
        b"UNICODE\0" + PARAMETERS.encode("utf-16-le"),
        b"UNICODE\0" + PARAMETERS.encode("utf-16"),
        b"UNICODE\0" + PARAMETERS.encode("utf-8"),
        b"ASCII\0\0\0" + PARAMETERS.encode("utf-8"),
        b"\0" * 8 + PARAMETERS.encode("utf-8"),
    ],
)
def test_the_comment_of_exif_in_every_format_and_encoding(format: str, comment: bytes):
    result = found(picture(format, exif=exif_of(comment)))
    assert (result.tool, result.values["prompt"], result.values["steps"]) == ("a1111", "a füchs, 猫", 21)
    assert (result.width, result.height) == (64, 48)


def test_a_japanese_comment():
    text = "狐\nSteps: 21, Sampler: Euler, CFG scale: 7, Seed: 3"
    for encoding in ("iso2022_jp", "shift_jis"):
        data = picture("JPEG", exif=exif_of(b"JIS\0\0\0\0\0" + text.encode(encoding)))
        assert found(data).values["prompt"] == "狐"


@pytest.mark.parametrize("tag", [0x010E, 0x9C9C])
def test_other_tags_of_exif(tag: int):
    text: bytes | str = ASCII if tag == 0x010E else (ASCII + "\0").encode("utf-16-le")
    assert found(picture("JPEG", exif=exif_of(text, tag))).values["steps"] == 21


def test_the_comment_of_a_jpeg():
    assert found(picture("JPEG", comment=PARAMETERS.encode())).values["prompt"] == "a füchs, 猫"


def test_xmp_of_another_program_as_attributes_and_with_another_prefix():
    whole = carried("JPEG", '{"kind":"image","prompt":"a fox & \\"hat\\"","steps":9}').xmp.decode()
    start, end = whole.index("<studio:recipe>"), whole.index("</studio:recipe>")
    inside = whole[start + len("<studio:recipe>") : end].replace('"', "&quot;")
    packet = (
        whole[:start].rstrip().removesuffix(">")
        + f' xmlns:ns9="urn:x-offline-studio:recipe:1.0/" ns9:recipe="{inside}">'
        + whole[end + len("</studio:recipe>") :]
    )  # fmt: skip
    assert found(picture("JPEG", xmp=packet.encode())).values["prompt"] == 'a fox & "hat"'


def test_the_first_of_several_languages_counts():
    lines = "".join(
        f'<rdf:li xml:lang="{lang}">{text}</rdf:li>' for lang, text in [("x", ""), ("y", ASCII), ("z", "no")]
    )
    packet = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>{lines}</rdf:Alt>
    </dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"""
    result = found(picture("WEBP", xmp=packet.encode()))
    assert result.values["steps"] == 21
    assert "no" not in result.text


def test_extended_xmp_of_a_jpeg_is_put_together():
    packet = carried("WEBP", '{"kind":"image","prompt":"%s"}' % ("fox " * 20_000)).xmp
    pieces = [packet[:40_000], packet[40_000:80_000], packet[80_000:]]
    segments, at = b"", 0
    for piece in pieces:
        data = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", len(packet), at) + piece
        segments = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + segments  # in the wrong order
        at += len(piece)
    whole = picture("JPEG")
    assert found(whole[:2] + segments + whole[2:]).tool == "studio"


def test_boxes_in_the_order_of_another_program():
    """An XMP packet inside the meta box, numbers of four bytes, and a box whose length is written in eight."""
    packet = carried("AVIF", '{"kind":"image","prompt":"a fox"}').xmp

    infe = box(b"infe", b"\3\0\0\0" + struct.pack(">IH", 7, 0) + b"mime" + b"\0" + b"application/rdf+xml\0")
    iinf = box(b"iinf", b"\1\0\0\0" + struct.pack(">I", 1) + infe)
    iloc = box(b"iloc", b"\2\0\0\0" + b"\x44\x40" + struct.pack(">IIHHIHII", 1, 7, 1, 0, 4, 1, 0, len(packet)))
    meta = box(b"meta", b"\0" * 4 + iloc + box(b"idat", b"junk" + packet) + iinf, wide=True)
    data = box(b"ftyp", b"mif1\0\0\0\0heic") + box(b"free", b"x" * 9) + meta
    assert found(data).values["prompt"] == "a fox"


def test_an_exif_item_says_where_its_tags_begin():
    tags = exif_of(b"UNICODE\0" + PARAMETERS.encode("utf-16-be")).removeprefix(b"Exif\0\0")
    for before in (b"", b"Exif\0\0", b"something else"):
        assert found(heif(struct.pack(">I", len(before)) + before + tags)).values["steps"] == 21


def test_a_big_endian_tiff_and_one_without_texts():
    plain = picture("TIFF")
    assert nothing(plain)
    big = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x010E, 2, len(ASCII), 26, 0) + ASCII.encode()
    assert found(big).values["steps"] == 21


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"GIF89a", b"RIFF\0\0\0\0WAVE", b"%PDF", b"\0" * 100, b"{}"])
def test_other_files_have_nothing(data: bytes):
    assert nothing(data)


def test_a_picture_without_words_has_nothing():
    for format in ("PNG", "JPEG", "WEBP", "AVIF", "TIFF"):
        assert nothing(picture(format))
    assert nothing(picture("JPEG", comment=b"Created with GIMP", exif=exif_of("A lighthouse at dusk", 0x010E)))


# -- what must not cost anything


@functools.cache
def bomb() -> bytes:
    return zlib.compress(b"x" * 50_000_000)


def hostile() -> Iterator[tuple[str, Callable[[], bytes]]]:
    yield "a length of 2 GB", lambda: raw_png(chunk(b"tEXt", b"parameters\0x", length=0x7FFFFFFF))
    yield "a length of 4 GB", lambda: raw_png(chunk(b"iTXt", b"parameters\0x", length=0xFFFFFFFF))
    yield "a text of 5 MB", lambda: raw_png(chunk(b"tEXt", b"parameters\0" + b"x" * 5_000_000))
    yield "a bomb", lambda: raw_png(chunk(b"zTXt", b"parameters\0\0" + bomb()))
    yield "a bomb in iTXt", lambda: raw_png(chunk(b"iTXt", b"studio\0\1\0\0\0" + bomb()))
    yield "a bomb of XMP", lambda: raw_png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb()))
    yield "many bombs", lambda: raw_png(*[chunk(b"zTXt", b"k%d\0\0" % i + bomb()) for i in range(60)])
    yield "many chunks", lambda: raw_png(chunk(b"abCd", b"") * 100_000)
    yield "many texts", lambda: raw_png(*[chunk(b"tEXt", b"k%d\0text" % i) for i in range(50_000)])
    yield "many large texts", lambda: raw_png(*[chunk(b"tEXt", b"k%d\0" % i + b"x" * 200_000) for i in range(200)])
    yield "fill bytes", lambda: b"\xff\xd8" + b"\xff" * 2_000_000
    yield "segments", lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 300_000
    yield "entries that overlap", lambda: raw_png(chunk(b"eXIf", _overlapping()))
    yield "laughs", lambda: picture("JPEG", xmp=_laughs())
    yield "depth", lambda: picture("WEBP", xmp=b"<a>" * 100_000)
    yield "elements", lambda: picture("WEBP", xmp=b"<a>" + b"<b/>" * 300_000)
    yield (
        "a packet of 50 MB",
        lambda: b"RIFF\0\0\0\0WEBPXMP " + struct.pack("<I", 50_000_000) + b"<a>" + b" " * 50_000_000,
    )
    yield "boxes of 2^63", lambda: b"\0\0\0\x14ftypavif\0\0\0\0avif" + b"\0\0\0\1free\x7f" + b"\xff" * 7 + b"meta" * 9
    yield "a box of no length", lambda: b"\0\0\0\x14ftypavif\0\0\0\0avif" + b"\0\0\0\7meta" * 1_000
    yield "pieces without end", _pieces
    yield "a long piece", _long_piece


def _overlapping() -> bytes:
    table = b"".join(struct.pack(">HHII", 0x010E + i, 2, 400_000, 8) for i in range(500))
    return b"MM\0*" + struct.pack(">IH", 8, 500) + table + b"\0" * 4 + b"x" * 400_000


def _laughs() -> bytes:
    lines = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 9))
    return f'<!DOCTYPE x [<!ENTITY l0 "ha"><!ENTITY f SYSTEM "file:///etc/passwd">{lines}]><x>&l8;&f;</x>'.encode()


def box(kind: bytes, data: bytes, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I", 1) + kind + struct.pack(">Q", len(data) + 16) + data
    return struct.pack(">I", len(data) + 8) + kind + data


def heif(exif: bytes, length: int | None = None) -> bytes:
    """A HEIF file of nothing but an Exif item, which stands at its end."""
    iinf = box(b"iinf", b"\0\0\0\0\0\1" + box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + b"Exif\0"))

    def whole(at: int) -> bytes:
        entry = struct.pack(">HHHII", 1, 0, 1, at, len(exif) if length is None else length)
        iloc = box(b"iloc", b"\0\0\0\0\x44\0\0\1" + entry)
        return box(b"ftyp", b"heic\0\0\0\0") + box(b"meta", b"\0" * 4 + iinf + iloc) + exif

    return whole(len(whole(0)) - len(exif))


def _long_piece() -> bytes:
    return heif(b"x" * 5_000_000)


def _pieces() -> bytes:
    infe = b"".join(box(b"infe", b"\2\0\0\0" + struct.pack(">HH", i, 0) + b"Exif\0") for i in range(1_000))
    entry = b"".join(struct.pack(">HHH", i, 0, 65_535) for i in range(1_000))  # places and lengths of no bytes
    iloc = box(b"iloc", b"\0\0\0\0\0\0" + struct.pack(">H", 65_535) + entry)
    meta = box(b"meta", b"\0" * 4 + box(b"iinf", b"\0\0\0\0\3\xe8" + infe) + iloc)
    return box(b"ftyp", b"avif\0\0\0\0") + meta


@pytest.mark.parametrize("name", [name for name, _ in hostile()])
def test_hostile_files_cost_little_time_and_memory(name: str):
    data = dict(hostile())[name]()
    stream = io.BytesIO(data)
    assert effort(lambda: read(stream)) < 2
    stream.seek(0)
    tracemalloc.start()
    try:
        read(stream)
        assert tracemalloc.get_traced_memory()[1] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()


class Counting(io.BytesIO):
    """A file that remembers how much of it was asked for; a real one sets aside as much memory as it is asked for."""

    most = total = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        assert size is not None and size >= 0
        self.most, self.total = max(self.most, size), self.total + len(data)
        return data


@pytest.mark.parametrize("name", [name for name, _ in hostile()])
def test_hostile_files_are_read_in_small_pieces_and_not_as_a_whole(name: str):
    stream = Counting(dict(hostile())[name]())
    read(stream)
    assert stream.most <= 4 * 1024 * 1024
    assert stream.total <= 20 * 1024 * 1024


def test_a_text_that_is_too_long_is_reported_and_the_rest_is_read():
    long = b"x" * (TEXT_LIMIT + 1)
    result = found(raw_png(chunk(b"tEXt", b"workflow\0" + long), chunk(b"tEXt", b"parameters\0" + ASCII.encode())))
    assert result.values["steps"] == 21
    assert ("workflow", "262,145 bytes; texts of up to 262,144 bytes are read") in result.unmapped
    alone = found(raw_png(chunk(b"tEXt", b"parameters\0" + long)))
    assert (alone.tool, alone.values) == ("", {})
    assert alone.unmapped[0][0] == "parameters"


def test_what_is_damaged_is_named():
    text = chunk(b"tEXt", b"parameters\0" + ASCII.encode(), crc=1)
    assert found(raw_png(text)).unmapped == (("tEXt", "damaged: its checksum is wrong"),)
    assert found(raw_png(chunk(b"zTXt", b"parameters\0\0nonsense"))).unmapped == (
        ("parameters", "damaged: it cannot be unpacked"),
    )
    assert (
        found(raw_png(chunk(b"tEXt", b"parameters\0" + ASCII.encode()))[:-60])
        .unmapped[0][1]
        .startswith("the file ends")
    )


def test_xmp_with_a_document_type_is_refused():
    result = found(picture("JPEG", xmp=_laughs()))
    assert result.values == {}
    assert "not read" in dict(result.unmapped)["xmp"]
    assert "root:" not in result.text
    for packet in (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>', b"<a>" * 100 + b"</a>" * 100):
        assert "not read" in dict(found(picture("WEBP", xmp=packet)).unmapped)["xmp"]


def test_a_packet_that_is_too_long_is_reported():
    result = found(picture("WEBP", xmp=b"<a>" + b" " * (6 * TEXT_LIMIT) + b"</a>"))
    assert result.unmapped == (("xmp", "1,572,871 bytes; texts of up to 262,144 bytes are read"),)


def samples() -> dict[str, bytes]:
    what = carried("TIFF", '{"kind":"image","prompt":"a fox","steps":9}', PARAMETERS, title="x")
    data = {f: picture(f, exif=what.exif, xmp=what.xmp) for f in ("JPEG", "WEBP", "AVIF", "TIFF")}
    return {**data, "PNG": png(parameters=PARAMETERS, studio='{"kind":"image","prompt":"a fox"}')}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_cut_and_changed_files_raise_nothing(format: str):
    data, chance = samples()[format], random.Random(7)
    for end in (*range(min(len(data), 120)), *(chance.randrange(len(data)) for _ in range(60))):
        read(io.BytesIO(data[:end]))
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            changed[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        read(io.BytesIO(bytes(changed)))


def test_a_disk_that_refuses_is_told():
    class Refusing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 40:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output"):
        read(Refusing(png(parameters=PARAMETERS)))


def test_the_bytes_of_a_comment_have_the_last_word_on_their_order():
    for declared in (True, False):
        for encoding in ("utf-16-be", "utf-16-le"):
            assert user_comment(b"UNICODE\0" + PARAMETERS.encode(encoding), declared) == PARAMETERS
