"""What our own files carry, read back by us and by another program."""

from __future__ import annotations

import io
import json
import re
import struct
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from studio.core.recipes import CARRIED_LIMIT, SCHEDULERS, ImageRecipe, check
from studio.core.text import clean
from studio.library.metadata import (
    CARRIED_AS,
    carried,
    exif_with,
    json_of,
    parameters_text,
    png_chunks,
    read,
    xmp_with,
)
from studio.library.metadata.a1111 import read_parameters
from tests.library.metadata.helpers_metadata import found, picture

FORMATS = ("JPEG", "WEBP", "AVIF", "TIFF")

# The notes of a person, of a programmer, and of someone who wants to break things.
WORDS = st.one_of(
    st.text(min_size=1, max_size=60),
    st.lists(
        st.sampled_from([
            "a fox", "\n", "Negative prompt: ", "Steps: 3, Seed: 4, Size: 1x1", "<lora:x:1>", ",", " ", '"', "\\",
            "(b:1.2)",
            "猫", "]]>", "&amp;", "\t", "{", "Raw prompt: x", "\ufffe",
        ]),
        min_size=1, max_size=8,
    ).map("".join),
).filter(lambda text: clean(text)[0].strip())  # fmt: skip
NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ .()-]{0,20}[A-Za-z0-9_]", fullmatch=True).filter(
    lambda n: not re.search(r"\.(safetensors|ckpt|pt|pth|bin|gguf|sft|onnx|vae)$", n, re.IGNORECASE) and "  " not in n
)


def amount(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False)


SEEDS = st.integers(0, 4_294_967_294)
GIVEN = st.fixed_dictionaries(
    {"prompt": WORDS},
    optional={
        "negative": WORDS, "steps": st.integers(1, 1000), "guidance": amount(0, 50), "seed": SEEDS,
        "scheduler": st.sampled_from(["model", *SCHEDULERS]),
        "sigmas": st.sampled_from(["model", "karras", "exponential", "beta", "sgm_uniform"]),
        "guidance_rescale": amount(0, 1), "clip_skip": st.integers(1, 12), "variation": amount(0, 1),
        "variation_seed": SEEDS, "seamless": st.sampled_from(["off", "both", "x", "y"]),
        "reading": st.sampled_from(["auto", "plain", "a1111", "compel"]), "image": st.just("kept.png"),
        "mask": st.just("mask.png"), "strength": amount(0.02, 1), "mask_blur": st.integers(0, 256),
        "mask_area": st.sampled_from(["picture", "mask"]), "mask_padding": st.integers(0, 1024),
        "mask_fill": st.sampled_from(["original", "blurred", "noise"]), "enlarge": amount(1, 4),
        "enlarge_strength": amount(0.02, 1), "enlarge_steps": st.integers(0, 1000), "model": NAME, "vae": NAME,
        "loras": st.lists(st.fixed_dictionaries({"model": NAME, "weight": amount(-4, 4)}), max_size=3),
    },
)  # fmt: skip
SIZES = st.none() | st.tuples(st.integers(16, 8192), st.integers(16, 8192))


def kept_by_parameters(recipe: ImageRecipe) -> dict[str, Any]:
    """The fields that the "parameters" text has, with what is read back for them."""
    default = {f.name: f.default for f in msgspec.structs.fields(ImageRecipe)}
    masked, second = bool(recipe.mask), recipe.enlarge > 1
    fields = ["prompt", "negative", "steps", "guidance", "seed", "scheduler", "sigmas", "guidance_rescale", "clip_skip",
              "seamless", "reading", "variation"]  # fmt: skip
    fields += ["variation_seed"] if recipe.variation else []
    fields += ["strength"] if recipe.image else []
    fields += ["mask_blur", "mask_area", "mask_fill"] if masked else []
    fields += ["mask_padding"] if masked and recipe.mask_area == "mask" else []
    fields += ["enlarge", "enlarge_strength", "enlarge_steps"] if second else []
    wanted = {f: v for f in fields if (v := getattr(recipe, f)) != default[f]}
    if wanted.get("scheduler") == "dpmpp_2m_karras" and "sigmas" in wanted:
        wanted["scheduler"] = "dpmpp_2m"  # the same, with other noise levels laid over
    return wanted


@settings(max_examples=80, deadline=None)
@given(GIVEN, SIZES)
@example({"prompt": "a\nNegative prompt: b\n<lora:c:1>", "loras": [{"model": "d", "weight": 0.5}]}, None)
@example({"prompt": " a fox \n", "negative": "\n\nSteps: 1, Sampler: Euler, Seed: 2"}, (64, 64))
@example(
    {"prompt": "x", "negative": "y", "loras": [{"model": "a", "weight": 1e-20}, {"model": "a", "weight": -0.0}]}, None
)
def test_parameters_come_back_as_they_went(given_: dict[str, Any], size: tuple[int, int] | None):
    if "mask" in given_:
        given_ = {**given_, "image": "kept.png"}
    recipe = check("image", given_).recipe
    assert isinstance(recipe, ImageRecipe)
    text = parameters_text(recipe, model_sha256="ab" * 32, size=size)
    result = read_parameters(text).found()
    assert result.tool == "studio"
    default = {f.name: f.default for f in msgspec.structs.fields(ImageRecipe)}
    wanted = kept_by_parameters(recipe)
    got = {k: v for k, v in result.values.items() if k not in ("width", "height") and v != default[k]}
    assert got == wanted
    assert (result.values.get("width"), result.values.get("height")) == (size or (None, None))
    assert (result.model, result.vae, result.model_hash) == (recipe.model, recipe.vae, "ab" * 5)
    assert result.loras == tuple((lora.model, lora.weight) for lora in recipe.loras)
    assert result.unmapped == ()


def rich() -> ImageRecipe:
    recipe = check("image", {
        "prompt": 'a füchs, 猫 & "hat" <b>', "negative": "fog]]>", "model": "dream", "steps": 21, "seed": 7,
        "width": 640,
        "height": 384, "scheduler": "dpmpp_2m", "sigmas": "karras",
        "loras": [{"model": "folder/ink.safetensors", "weight": 0.8}],
        "controls": [{"model": "canny-sdxl", "image": "kept.png", "filter": "canny", "weight": 0.5, "end": 0.75}],
    }).recipe  # fmt: skip
    assert isinstance(recipe, ImageRecipe)
    return recipe


def test_the_parameters_have_the_layout_that_other_programs_read():
    text = parameters_text(rich(), model="Dream, v2", model_sha256="0123456789abcdef" * 4, version="9.9",
                           hashes={"folder/ink.safetensors": "feedc0ffee" + "0" * 54})  # fmt: skip
    assert text == (
        'a füchs, 猫 & "hat" <b> <lora:ink:0.8>\nNegative prompt: fog]]>\n'
        "Steps: 21, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5, Seed: 7, Size: 640x384, "
        'Model hash: 0123456789, Model: "Dream, v2", ControlNet 0: "Module: canny, Model: canny-sdxl, Weight: 0.5, '
        'Guidance Start: 0, Guidance End: 0.75", Lora hashes: "ink: feedc0ffee", Version: studio 9.9'
    )
    # the expression by which A1111 itself takes the last line apart
    pairs = dict(re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', text.split("\n")[-1]))
    assert (pairs["Steps"], pairs["Size"], json.loads(pairs["Model"])) == ("21", "640x384", "Dream, v2")
    result = read_parameters(text).found()
    assert result.hashes == {"ink": "feedc0ffee"}
    assert (result.controls[0].filter, result.controls[0].weight, result.controls[0].end) == ("canny", 0.5, 0.75)


def user_comment_by_pillow(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as opened:
        comment = opened.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment]
    assert comment[:8] == b"UNICODE\0"
    return str(comment[8:].decode("utf-16-be"))


@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_carries_its_whole_recipe(format: str):
    recipe = rich()
    parameters = parameters_text(recipe)
    what = carried(format, json_of(recipe), parameters, title="Füchse & Co", software="studio 9.9")
    assert what.left_out == ()
    exif = Image.Exif()
    exif.load(what.exif)
    exif[ExifTags.Base.ImageDescription] = "Füchse & Co".encode()  # pillow's TIFF writer would make it ASCII
    data = picture(format, exif=exif if format == "TIFF" else what.exif, xmp=what.xmp)
    result = found(data)
    assert result.tool == "studio"
    assert check("image", result.values).recipe == recipe
    assert result.loras == (("ink", 0.8),)
    assert result.text == json_of(recipe)
    assert (result.width, result.height) == (64, 48)
    # and pillow, which is another program
    assert user_comment_by_pillow(data) == parameters
    with Image.open(io.BytesIO(data)) as opened:
        exif = opened.getexif()
        assert exif[ExifTags.Base.Software] == "studio 9.9"
        title = exif[ExifTags.Base.ImageDescription]
        assert title == "Füchse & Co" or title.encode("latin-1").decode() == "Füchse & Co"
        xmp = opened.info["xmp"]
    assert b"urn:x-offline-studio:recipe:1.0/" in xmp


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("which", ["exif", "xmp"])
def test_one_of_the_two_is_enough(format: str, which: str):
    what = carried(format, json_of(rich()), parameters_text(rich()))
    exif = Image.Exif()
    if format == "TIFF" and which == "xmp":
        exif[700] = what.xmp
    data = picture(format, **({"exif": exif.tobytes()} if exif else {which: getattr(what, which)}))
    assert check("image", found(data).values).recipe == rich()


@pytest.mark.parametrize("format", FORMATS)
def test_the_parameters_alone_are_enough_for_most(format: str):
    data = picture(format, exif=exif_with(parameters_text(rich())))
    result = found(data)
    assert (result.tool, result.values["prompt"], result.values["seed"]) == ("studio", rich().prompt, 7)


def test_a_png_carries_both_texts():
    chunks = png_chunks(json_of(rich()), parameters_text(rich()))
    assert [keyword for keyword, _ in chunks] == ["parameters", CARRIED_AS]
    info = PngInfo()
    for keyword, text in chunks:
        info.add_itxt(keyword, text)
    result = found(picture("PNG", pnginfo=info))
    assert check("image", result.values).recipe == rich()


def test_another_reader_of_xml_finds_recipe_and_title():
    data = picture("JPEG", xmp=xmp_with(json_of(rich()), parameters=parameters_text(rich()), title="Füchse"))
    with Image.open(io.BytesIO(data)) as opened:
        tree = ElementTree.fromstring(opened.info["xmp"])
    recipe = tree.find(".//{urn:x-offline-studio:recipe:1.0/}recipe")
    assert recipe is not None and recipe.text == json_of(rich())
    title = tree.find(".//{http://purl.org/dc/elements/1.1/}title/*/*")
    assert title is not None and title.text == "Füchse"


def long_recipe(characters: int) -> ImageRecipe:
    recipe = check("image", {"prompt": ("fox & " * (characters // 6)).strip(), "steps": 3}).recipe
    assert isinstance(recipe, ImageRecipe)
    return recipe


@pytest.mark.parametrize(
    ("characters", "left_out"),
    [
        (1_000, ()),
        (20_000, ()),  # the recipe in XMP, the parameters in Exif
        (40_000, ("parameters",)),  # twice as long in UTF-16
        (60_000, ("parameters",)),  # too long for XMP once escaped, but not for Exif
        (70_000, ("recipe", "parameters")),
    ],
)
def test_what_does_not_fit_into_a_jpeg_is_named(characters: int, left_out: tuple[str, ...]):
    recipe = long_recipe(characters)
    what = carried("JPEG", json_of(recipe), parameters_text(recipe))
    assert what.left_out == left_out
    data = picture("JPEG", exif=what.exif, xmp=what.xmp)  # pillow refuses what is too long
    result = read(io.BytesIO(data))
    if "recipe" not in left_out:
        assert result is not None
        assert result.values["prompt"] == recipe.prompt
    if "parameters" not in left_out:
        assert user_comment_by_pillow(data) == parameters_text(recipe)


def test_where_one_of_two_fits_it_is_the_recipe():
    recipe = check(
        "image", {"prompt": "&a" * 12_500}
    ).recipe  # escaped, too long for XMP; the parameters alone would fit
    assert isinstance(recipe, ImageRecipe)
    what = carried("JPEG", json_of(recipe), parameters_text(recipe))
    assert (what.xmp, what.left_out) == (b"", ("parameters",))
    assert found(picture("JPEG", exif=what.exif)).values["prompt"] == recipe.prompt


def test_tags_are_written_in_order():
    block = exif_with("text", '{"kind":"image"}', "title", "software", head=False)
    (directory,) = struct.unpack_from(">I", block, 4)
    for _ in range(2):
        (count,) = struct.unpack_from(">H", block, directory)
        entries = [struct.unpack_from(">HHII", block, directory + 2 + 12 * i) for i in range(count)]
        assert [tag for tag, *_ in entries] == sorted(tag for tag, *_ in entries)
        assert all(where % 2 == 0 for _, kind, size, where in entries if kind in (2, 7) and size > 4)
        directory = next((where for tag, _, _, where in entries if tag == ExifTags.IFD.Exif), directory)


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "TIFF"])
def test_the_other_formats_hold_long_recipes(format: str):
    recipe = long_recipe(120_000)
    what = carried(format, json_of(recipe), parameters_text(recipe))
    assert what.left_out == ()
    data = picture(format, exif=what.exif, xmp=what.xmp)
    assert check("image", found(data).values).recipe == recipe


def test_beyond_the_limit_of_texts_nothing_is_carried():
    recipe = long_recipe(CARRIED_LIMIT)
    assert png_chunks(json_of(recipe), parameters_text(recipe)) == []
    what = carried("WEBP", json_of(recipe), parameters_text(recipe), title="x")
    assert what.left_out == ("recipe", "parameters")
    assert read(io.BytesIO(picture("WEBP", exif=what.exif, xmp=what.xmp))) is None


def test_without_anything_to_say_nothing_is_left_out():
    assert carried("JPEG", "", "", title="", software="").exif == b""
    assert carried("JPEG", "", "").left_out == ()


@settings(max_examples=30, deadline=None)
@given(WORDS, WORDS)
def test_any_words_survive_xml_and_exif(prompt: str, title: str):
    recipe = check("image", {"prompt": prompt}).recipe
    assert isinstance(recipe, ImageRecipe)
    what = carried("JPEG", json_of(recipe), parameters_text(recipe), title=title)
    for which in ("exif", "xmp"):
        result = found(picture("JPEG", **{which: getattr(what, which)}))
        assert (result.tool, result.values["prompt"]) == ("studio", recipe.prompt)


def test_a_recipe_of_a_newer_studio_is_read_as_far_as_it_goes():
    data = {**msgspec.to_builtins(rich()), "kind": "image", "sparkle": 7, "scheduler": "newer_one", "steps": 100_000}
    result = found(picture("JPEG", xmp=xmp_with(json.dumps(data))))
    assert result.values["prompt"] == rich().prompt
    assert result.values["steps"] == 1_000
    assert "scheduler" not in result.values
    notes = dict(result.unmapped)
    assert (notes["sparkle"], notes["scheduler"], notes["steps"]) == ("7", "newer_one", "100000 (taken as 1000)")


@pytest.mark.parametrize("lora", ['{"model":"a","weight":NaN}', '{"model":"a","colour":1}'])
def test_what_does_not_pass_deep_inside_is_listed(lora: str):
    text = f'{{"kind":"image","prompt":"x","steps":9,"loras":[{lora}]}}'
    result = found(picture("JPEG", xmp=xmp_with(text)))
    assert result.values == {"prompt": "x", "steps": 9}
    assert "loras" in dict(result.unmapped)


def test_a_recipe_of_another_kind_is_none_of_ours():
    for text in ('{"kind":"export","work":"w","to":"/etc/x"}', '{"kind":"text","prompt":"x"}', '{"prompt":"x"}'):
        assert read(io.BytesIO(picture("JPEG", xmp=xmp_with(text)))) is None
