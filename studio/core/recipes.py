"""Recipes: everything that decides what a work will be, one frozen struct per kind of work.

Every parameter a person can set is declared here once, with its default, limits, unit, title and help. The form, the
command line, the API, the metadata in files and the documents all read these declarations; `fields()` hands them out.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from studio.core.declare import Field, about, explain, fields
from studio.core.learning import (
    ConvertRecipe,
    DatasetRecipe,
    EvaluateImageRecipe,
    EvaluateSpeechRecipe,
    EvaluateTextRecipe,
    SearchRecipe,
    TextLora,
    TrainImageRecipe,
    TrainTextRecipe,
)
from studio.core.made import SEED_LIMIT, MadeWith, Seed
from studio.core.pictures import (
    REFERENCE_LIMIT,
    SCHEDULERS,
    SIGMAS,
    Control,
    Detail,
    Lora,
    Margins,
    Reference,
    SchedulerName,
    SigmasName,
    picture,
)
from studio.core.problems import BadRecipe
from studio.core.text import clean, shown

__all__ = [
    "CARRIED_AS",
    "CARRIED_LIMIT",
    "COUNT_FIELD",
    "LABEL_LIMIT",
    "MODEL_FIELD",
    "PROMPT_LIMIT",
    "RECIPES",
    "SCHEDULERS",
    "SEED_LIMIT",
    "SHEET_LIMIT",
    "SIGMAS",
    "SPEECH_LIMIT",
    "WORDS",
    "WORK_KIND",
    "Checked",
    "Control",
    "ConvertRecipe",
    "CutoutRecipe",
    "DatasetRecipe",
    "Detail",
    "EditRecipe",
    "EvaluateImageRecipe",
    "EvaluateSpeechRecipe",
    "EvaluateTextRecipe",
    "ExportRecipe",
    "Field",
    "ImageRecipe",
    "Lora",
    "MadeWith",
    "Margins",
    "Message",
    "Recipe",
    "Reference",
    "SearchRecipe",
    "SheetCell",
    "SheetRecipe",
    "SpeechRecipe",
    "TextLora",
    "TextRecipe",
    "TrainImageRecipe",
    "TrainTextRecipe",
    "UpscaleRecipe",
    "check",
    "explain",
    "fields",
    "kind_of",
    "model_of",
    "recheck",
    "words_of",
    "work_kind",
]  # fmt: skip

PROMPT_LIMIT = 262_144  # characters; a text edit needs seconds for more, and no context window takes it
SPEECH_LIMIT = 1_048_576  # characters: a long novel
SHEET_LIMIT = 1_000  # pictures of a sheet
LABEL_LIMIT = 400  # characters of a label on a sheet

# A picture carries its recipe as JSON in a text chunk of this name; a longer one is left out.
CARRIED_AS = "studio"
CARRIED_LIMIT = 256 * 1024  # bytes


# Limits belong to the number, not to the choice between a number and nothing: msgspec wants them inside the union.
_Pixels = Annotated[int, Meta(ge=16, le=8192)] | None
_Spread = Annotated[float, Meta(ge=0.0, le=2.0)] | None


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Meta(max_length=PROMPT_LIMIT)]


class TextRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="text"):
    """A text from a language model."""

    prompt: Annotated[
        str,
        about("Prompt", "What to continue, or what to say to the model.", multiline=True, max_length=PROMPT_LIMIT),
    ]
    mode: Annotated[
        Literal["complete", "chat"],
        about("Mode", "Complete continues the prompt; chat answers it, through the model's own template."),
    ] = "complete"
    model: Annotated[str, about("Model", "A model's name, or the path of a file or folder.")] = ""
    max_tokens: Annotated[
        int,
        about("Length", "The most tokens to write; a token is about ¾ of a word.", unit="tokens", ge=1, le=131_072),
    ] = 256
    temperature: Annotated[
        float, about("Temperature", "0 always takes the likeliest token; higher is more daring.", ge=0.0, le=5.0)
    ] = 0.8
    n: Annotated[
        int, about("Answers", "How many texts to write, one after another, with seed, seed + 1, …", ge=1, le=64)
    ] = 1
    seed: Seed = None
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...],
        about("Stop at", "Stop before any of these strings appears.", max_length=16),
    ] = ()
    loras: Annotated[
        tuple[TextLora, ...],
        about("LoRAs", "Small additions that teach the model a manner or a subject.", group="additions",
              max_length=16),
    ] = ()  # fmt: skip
    system: Annotated[
        str,
        about(
            "Instructions", "What the model should be and do; chat only.", multiline=True, group="advanced",
            max_length=PROMPT_LIMIT,
        ),
    ] = ""  # fmt: skip
    messages: Annotated[
        tuple[Message, ...], about("Conversation", "The turns before the prompt; chat only.", group="advanced")
    ] = ()
    template: Annotated[
        Literal["auto", "model", "few-shot", "plain"],
        about(
            "Template",
            "How a chat is laid out: auto takes the model's own template and a few-shot one for base models.",
            group="advanced",
        ),
    ] = "auto"
    top_p: Annotated[
        float,
        about("Top-p", "Keep the likeliest tokens up to this share; 1 is off.", group="advanced", ge=0.0, le=1.0),
    ] = 0.95
    top_k: Annotated[
        int, about("Top-k", "Keep this many of the likeliest tokens; 0 is off.", group="advanced", ge=0, le=1_000)
    ] = 40
    min_p: Annotated[
        float,
        about(
            "Min-p", "Drop tokens below this share of the likeliest one; 0 is off.", group="advanced", ge=0.0, le=1.0
        ),
    ] = 0.05
    repeat_penalty: Annotated[
        float, about("Repeat penalty", "Above 1 discourages repetition; 1 is off.", group="advanced", ge=0.1, le=2.0)
    ] = 1.0
    repeat_last_n: Annotated[
        int,
        about(
            "Penalty window", "How far back the repeat penalty looks.", unit="tokens", group="advanced", ge=0, le=8192
        ),
    ] = 64
    context: Annotated[
        int,
        about(
            "Context", "Length of the context window; 0 takes the model's own up to the limit in the settings.",
            unit="tokens", group="advanced", ge=0, le=1_048_576,
        ),
    ] = 0  # fmt: skip
    made_with: MadeWith | None = None


class ImageRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="image"):
    """A picture from a diffusion model.

    With `image` the model begins from that picture instead of from noise alone; with `mask` or `extend` it repaints a
    part of it, or paints on beyond its edges.
    """

    prompt: Annotated[str, about("Prompt", "What the picture should show.", multiline=True, max_length=PROMPT_LIMIT)]
    negative: Annotated[
        str,
        about(
            "Avoid", "What the picture should not show.", multiline=True, needs="negative", max_length=PROMPT_LIMIT
        ),
    ] = ""  # fmt: skip
    model: Annotated[str, about("Model", "A model's name, or the path of a file or folder.")] = ""
    width: Annotated[_Pixels, about("Width", "Width of the picture; empty takes the model's own.", unit="px")] = None
    height: Annotated[_Pixels, about("Height", "Height of the picture; empty takes the model's own.", unit="px")] = None
    steps: Annotated[int, about("Steps", "Denoising steps; more is finer and slower.", ge=1, le=1_000)] = 25
    guidance: Annotated[
        float, about("Guidance", "How closely to follow the prompt; 1 is off.", needs="guidance", ge=0.0, le=50.0)
    ] = 5.0
    seed: Seed = None
    count: Annotated[
        int, about("Pictures", "How many to make, one after another, with seed, seed + 1, …", ge=1, le=64)
    ] = 1
    # -- from a picture
    image: Annotated[
        str,
        picture(
            "Picture", "What to begin from: a work's id or a file.", group="start", needs="from_picture|into_picture"
        ),
    ] = ""
    strength: Annotated[
        float,
        about(
            "Strength", "How far to go from the picture: 0.2 retouches, 0.6 keeps the composition, 1 keeps nothing.",
            group="start", needs="from_picture|into_picture", ge=0.02, le=1.0,
        ),
    ] = 0.6  # fmt: skip
    mask: Annotated[
        str, picture("Mask", "A picture of the same size: white is repainted, black is kept.", group="start",
                     needs="into_picture")
    ] = ""  # fmt: skip
    mask_blur: Annotated[
        int, about("Soft edge", "How far the mask's edge is softened.", unit="px", group="start", needs="into_picture",
                   ge=0, le=256)
    ] = 4  # fmt: skip
    mask_area: Annotated[
        Literal["picture", "mask"],
        about(
            "Repaint",
            "The picture as a whole, or only the masked part at the full size given above.",
            group="start",
            needs="into_picture",
        ),
    ] = "picture"
    mask_padding: Annotated[
        int,
        about(
            "Padding", "With “mask”: how much around the masked part the model sees.", unit="px", group="start",
            needs="into_picture", ge=0, le=1024,
        ),
    ] = 32  # fmt: skip
    mask_fill: Annotated[
        Literal["original", "blurred", "noise"],
        about("Begin from", "What lies under the mask before painting starts.", group="start", needs="into_picture"),
    ] = "original"
    extend: Annotated[
        Margins | None, about("Extend", "Paint on beyond the picture's edges.", group="start", needs="into_picture")
    ] = None
    # -- additions
    loras: Annotated[
        tuple[Lora, ...],
        about("LoRAs", "Small additions that teach the model a style or a thing.", group="additions", needs="lora",
              max_length=32),
    ] = ()  # fmt: skip
    embeddings: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=REFERENCE_LIMIT)], ...],
        about(
            "Embeddings", "Learned words (textual inversion); write their names in the prompt.", group="additions",
            refers="embedding", needs="embedding", max_length=32,
        ),
    ] = ()  # fmt: skip
    vae: Annotated[
        str,
        about(
            "Autoencoder", "Another autoencoder for the model; empty takes its own.", group="additions", refers="vae",
            max_length=REFERENCE_LIMIT,
        ),
    ] = ""  # fmt: skip
    controls: Annotated[
        tuple[Control, ...],
        about("Controls", "Pictures to follow: edges, lines, depth.", group="control", needs="control", max_length=4),
    ] = ()
    depth_with: Annotated[
        str,
        about(
            "Depth model", "What makes the pictures of controls with the filter depth; empty takes the first there is.",
            group="control", refers="depth", needs="control", max_length=REFERENCE_LIMIT,
        ),
    ] = ""  # fmt: skip
    pose_with: Annotated[
        str,
        about(
            "Pose model", "What makes the pictures of controls with the filter pose; empty takes the first there is.",
            group="control", refers="pose", needs="control", max_length=REFERENCE_LIMIT,
        ),
    ] = ""  # fmt: skip
    people_with: Annotated[
        str,
        about(
            "Find people", "A detector that finds each person for the filter pose; empty: the picture shows one.",
            group="control", refers="detector", needs="control", max_length=REFERENCE_LIMIT,
        ),
    ] = ""  # fmt: skip
    references: Annotated[
        tuple[Reference, ...],
        about("References", "Pictures to take content and style from.", group="control", needs="reference",
              max_length=4),
    ] = ()  # fmt: skip
    # -- a second pass
    enlarge: Annotated[
        float,
        about(
            "Enlarge", "Paint once more at this many times the size, for detail; 1 is off.", unit="×", group="second",
            needs="from_picture", ge=1.0, le=4.0,
        ),
    ] = 1.0  # fmt: skip
    enlarge_strength: Annotated[
        float,
        about("Change", "How much the second pass may change.", group="second", needs="from_picture", ge=0.02, le=1.0),
    ] = 0.5
    enlarge_steps: Annotated[
        int,
        about("Second steps", "Steps of the second pass; 0 takes as many as the first.", group="second",
              needs="from_picture", ge=0, le=1_000),
    ] = 0  # fmt: skip
    enlarge_with: Annotated[
        str,
        about(
            "Enlarge with", "What enlarges between the passes: an upscaler, or empty for Lanczos.", group="second",
            refers="upscale", needs="from_picture", max_length=REFERENCE_LIMIT,
        ),
    ] = ""  # fmt: skip
    # -- details, last of all
    details: Annotated[
        tuple[Detail, ...],
        about(
            "Details", "Faces, hands, whatever a detector finds in the finished picture, each repainted at full size.",
            group="second", needs="into_picture", max_length=8,
        ),
    ] = ()  # fmt: skip
    details_only: Annotated[
        bool,
        about(
            "Only details", "Leave the picture it begins from as it is, but for the details.", group="second",
            needs="into_picture",
        ),
    ] = False  # fmt: skip
    # -- how
    guidance_rescale: Annotated[
        float,
        about(
            "Guidance rescale", "0 to 1: pulls contrast back where strong guidance overdoes it.", group="advanced",
            needs="guidance_rescale", ge=0.0, le=1.0,
        ),
    ] = 0.0  # fmt: skip
    scheduler: Annotated[
        SchedulerName,
        about("Scheduler", "How noise is removed; “model” takes the model's own.", group="advanced",
              needs="scheduler"),
    ] = "model"  # fmt: skip
    sigmas: Annotated[
        SigmasName,
        about("Noise levels", "How the steps are spread over the noise; “model” takes the scheduler's own.",
              group="advanced", needs="scheduler"),
    ] = "model"  # fmt: skip
    variation: Annotated[
        float,
        about("Variation", "How far to go from the seed's noise to that of the variation seed.", group="advanced",
              ge=0.0, le=1.0),
    ] = 0.0  # fmt: skip
    variation_seed: Annotated[
        Annotated[int, Meta(ge=0, lt=SEED_LIMIT)] | None,
        about("Variation seed", "The noise to vary towards; empty picks one.", group="advanced"),
    ] = None
    reading: Annotated[
        Literal["auto", "plain", "a1111", "compel"],
        about(
            "Prompt weights",
            "How weights in the prompt are read; auto reads only what is written as (word:1.2).",
            group="advanced",
        ),
    ] = "auto"
    clip_skip: Annotated[
        int,
        about("Clip skip", "Take the prompt from this layer of the text encoder, counted from its end.",
              group="advanced", needs="clip_skip", ge=1, le=12),
    ] = 1  # fmt: skip
    seamless: Annotated[
        Literal["off", "both", "x", "y"],
        about("Seamless", "Edges that fit together, for tiles.", group="advanced", needs="seamless"),
    ] = "off"
    at_once: Annotated[
        int,
        about(
            "At once", "Paint this many pictures of a job together: faster on a graphics card, slightly different.",
            group="advanced", ge=1, le=64,
        ),
    ] = 1  # fmt: skip
    made_with: MadeWith | None = None


class SpeechRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="speech"):
    """A text read aloud."""

    text: Annotated[str, about("Text", "What to read aloud.", multiline=True, max_length=SPEECH_LIMIT)]
    voice: Annotated[str, about("Voice", "A voice's name, or the path of its file.")] = ""
    speaker: Annotated[
        int, about("Speaker", "Which speaker, for voices that hold several.", group="advanced", ge=0, le=100_000)
    ] = 0
    speed: Annotated[float, about("Speed", "1 is the voice's own pace; 2 is twice as fast.", ge=0.25, le=4.0)] = 1.0
    pause: Annotated[float, about("Pause", "Silence between sentences.", unit="s", ge=0.0, le=10.0)] = 0.2
    noise: Annotated[
        _Spread,
        about("Liveliness", "Variation in the sound; 0 is none, empty takes the voice's own.", group="advanced"),
    ] = None  # fmt: skip
    rhythm: Annotated[
        _Spread,
        about("Rhythm", "Variation in the length of sounds; 0 is even; empty: the voice's own.", group="advanced"),
    ] = None  # fmt: skip
    seed: Seed = None
    made_with: MadeWith | None = None


_Factor = {"ge": 0.0, "le": 4.0}


class EditRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="edit"):
    """A picture made of another one by simple means: cut, turned, resized, colours changed. In this order."""

    image: Annotated[str, picture("Picture", "What to work on: a work's id or a file.")]
    crop: Annotated[Margins | None, about("Cut away", "Pixels to cut away on each side.")] = None
    rotate: Annotated[Literal["0", "90", "180", "270"], about("Turn", "Turn clockwise.", unit="°")] = "0"
    straighten: Annotated[
        float, about("Straighten", "Turn clockwise by a little, and cut the corners away.", unit="°", ge=-45.0, le=45.0)
    ] = 0.0
    flip: Annotated[Literal["none", "across", "down"], about("Mirror", "Left for right, or top for bottom.")] = "none"
    width: Annotated[_Pixels, about("Width", "New width; empty follows the height.", unit="px")] = None
    height: Annotated[_Pixels, about("Height", "New height; empty follows the width.", unit="px")] = None
    fit: Annotated[
        Literal["stretch", "inside", "cover"],
        about("Fit", "With both given: stretch, fit inside, or cover and cut off what stands out."),
    ] = "stretch"
    brightness: Annotated[float, about("Brightness", "1 leaves it.", **_Factor)] = 1.0
    contrast: Annotated[float, about("Contrast", "1 leaves it.", **_Factor)] = 1.0
    saturation: Annotated[float, about("Saturation", "1 leaves it, 0 is grey.", **_Factor)] = 1.0
    gamma: Annotated[float, about("Gamma", "1 leaves it; above brightens the middle.", ge=0.1, le=8.0)] = 1.0
    warmth: Annotated[float, about("Warmth", "Below 0 bluer, above 0 redder.", ge=-1.0, le=1.0)] = 0.0
    hue: Annotated[float, about("Hue", "Turn all colours around the wheel.", unit="°", ge=-180.0, le=180.0)] = 0.0
    sharpen: Annotated[float, about("Sharpen", "Strength of an unsharp mask; 0 is off.", ge=0.0, le=5.0)] = 0.0
    blur: Annotated[float, about("Blur", "Radius of a soft blur; 0 is off.", unit="px", ge=0.0, le=256.0)] = 0.0
    title: str = ""  # of the picture it is made of; the studio fills it in
    made_with: MadeWith | None = None


class UpscaleRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="upscale"):
    """A picture enlarged, by an upscaling network or by Lanczos resampling."""

    image: Annotated[str, picture("Picture", "What to enlarge: a work's id or a file.")]
    model: Annotated[
        str,
        about("Upscaler", "An upscaler's name or path; empty takes Lanczos.", refers="upscale",
              max_length=REFERENCE_LIMIT),
    ] = ""  # fmt: skip
    factor: Annotated[float, about("Factor", "Times the size.", unit="×", ge=1.0, le=16.0)] = 2.0
    tile: Annotated[
        int,
        about("Tile", "Side of the pieces it is done in; 0 decides by the memory.", unit="px", group="advanced", ge=0,
              le=4096),
    ] = 0  # fmt: skip
    title: str = ""  # of the picture it is made of; the studio fills it in
    made_with: MadeWith | None = None


class CutoutRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="cutout"):
    """A picture with its background made transparent, by a segmentation model."""

    image: Annotated[str, picture("Picture", "What to cut out of: a work's id or a file.")]
    model: Annotated[
        str, about("Cut-out model", "A model's name or path.", refers="cutout", max_length=REFERENCE_LIMIT)
    ] = ""
    soften: Annotated[float, about("Soften", "Blur of the edge.", unit="px", ge=0.0, le=64.0)] = 0.0
    shrink: Annotated[int, about("Shrink", "Move the edge inwards; below 0 outwards.", unit="px", ge=-64, le=64)] = 0
    title: str = ""  # of the picture it is made of; the studio fills it in
    made_with: MadeWith | None = None


class SheetCell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One place of a sheet: a picture, or why there is none."""

    image: Annotated[str, picture("Picture", "What stands there.")] = ""
    why: Annotated[
        str, about("Instead", "What is written there where there is no picture.", max_length=LABEL_LIMIT)
    ] = ""


_Labels = tuple[Annotated[str, Meta(min_length=1, max_length=LABEL_LIMIT)], ...]


class SheetRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="sheet"):
    """Pictures side by side with labels on top and on the left, block by block, as one picture."""

    cells: Annotated[
        tuple[SheetCell, ...],
        about("Pictures", "Row by row, and block by block.", max_length=SHEET_LIMIT),
    ] = ()
    across: Annotated[_Labels, about("Columns", "What stands above each column.", max_length=SHEET_LIMIT)] = ()
    down: Annotated[_Labels, about("Rows", "What stands on the left of each row.", max_length=SHEET_LIMIT)] = ()
    blocks: Annotated[_Labels, about("Blocks", "What stands above each block.", max_length=SHEET_LIMIT)] = ()
    ground: Annotated[Literal["light", "dark"], about("Ground", "What the pictures lie on.")] = "light"
    title: str = ""  # of the grid; the studio fills it in
    made_with: MadeWith | None = None


class ExportRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="export"):
    """A work written to a file of the user's choice; the kept master is never touched."""

    work: str
    to: str
    quality: Annotated[
        int, about("Quality", "For JPEG, WebP, AVIF, OGG and MP3; higher is better and larger.", ge=1, le=100)
    ] = 90
    metadata: Annotated[
        bool, about("With recipe", "Write into the file how it was made, so that it can be made again.")
    ] = True
    overwrite: Annotated[bool, about("Overwrite", "Replace the file if it is there already.")] = False
    made_with: MadeWith | None = None


Recipe = (
    TextRecipe | ImageRecipe | SpeechRecipe | EditRecipe | UpscaleRecipe | CutoutRecipe | SheetRecipe | ExportRecipe
    | DatasetRecipe | TrainTextRecipe | TrainImageRecipe | SearchRecipe | ConvertRecipe
    | EvaluateTextRecipe | EvaluateImageRecipe | EvaluateSpeechRecipe
)  # fmt: skip

RECIPES: dict[str, type[Recipe]] = {
    "text": TextRecipe,
    "image": ImageRecipe,
    "speech": SpeechRecipe,
    "edit": EditRecipe,
    "upscale": UpscaleRecipe,
    "cutout": CutoutRecipe,
    "sheet": SheetRecipe,
    "export": ExportRecipe,
    "dataset": DatasetRecipe,
    "train-text": TrainTextRecipe,
    "train-image": TrainImageRecipe,
    "search": SearchRecipe,
    "convert": ConvertRecipe,
    "evaluate-text": EvaluateTextRecipe,
    "evaluate-image": EvaluateImageRecipe,
    "evaluate-speech": EvaluateSpeechRecipe,
}

# What a recipe of another kind's name makes.
WORK_KIND = {
    "edit": "image", "upscale": "image", "cutout": "image", "sheet": "image",
    "train-text": "training", "train-image": "training", "search": "training",
    "convert": "training",
    "evaluate-text": "report", "evaluate-image": "report", "evaluate-speech": "report",
}  # fmt: skip

# The field that holds the words, and the one that names the model.
WORDS = {"text": "prompt", "image": "prompt", "speech": "text"}
MODEL_FIELD = {"text": "model", "image": "model", "speech": "voice", "upscale": "model", "cutout": "model"}
COUNT_FIELD = {"text": "n", "image": "count"}


class Checked(msgspec.Struct, frozen=True):
    """A recipe that passed its declarations, and what was changed in its text on the way."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def check(kind: str, given: dict[str, Any]) -> Checked:
    """Build a recipe from plain values, holding each to its declaration.

    Args:
        kind: a key of RECIPES.
        given: field name -> value; what is left out takes its default.

    Raises:
        BadRecipe: an unknown kind or field, a wrong type, a value outside its limits, a number that is not finite,
            or no words at all. The problem names the field.
    """
    recipe_type = RECIPES.get(kind)
    if recipe_type is None:
        raise BadRecipe(f"“{shown(kind)}” is not a kind of work.", f"Kinds are {', '.join(RECIPES)}.")
    known = {f.name for f in msgspec.structs.fields(recipe_type)}
    values: dict[str, Any] = {}
    notes: list[str] = []
    for name, value in given.items():
        if name not in known:
            raise BadRecipe(f"A {kind} recipe has no “{shown(name)}”.", field=shown(name))
        try:
            values[name] = _cleaned(name, value, notes)
        except RecursionError:
            raise BadRecipe(f"{name} is nested too deeply.", field=name) from None
    for field in fields(recipe_type):
        _refuse_unknown(field, values.get(field.name))
    words = WORDS.get(kind)
    if words is not None and not str(values.get(words) or "").strip():
        raise BadRecipe(f"The {words} is empty.", "Write what you would like to have made.", field=words)
    # convert, not the constructor: msgspec checks types and limits only when converting
    try:
        recipe = msgspec.convert({**values, "kind": kind}, recipe_type)
    except msgspec.ValidationError as error:
        raise _explained(recipe_type, values, error) from None
    return Checked(recipe, tuple(dict.fromkeys(notes)))


def recheck(recipe: Recipe) -> Checked:
    """Hold an existing recipe to its declarations: constructors and `replace` do not."""
    values = {f: getattr(recipe, f) for f in recipe.__struct_fields__}
    return check(kind_of(recipe), {k: msgspec.to_builtins(v) for k, v in values.items()})


def kind_of(recipe: Recipe) -> str:
    """The recipe's kind, a key of RECIPES."""
    return str(recipe.__struct_config__.tag)


def work_kind(kind: str) -> str:
    """The kind of work that a recipe of this kind makes: "text", "image", "speech"; or "export"."""
    return WORK_KIND.get(kind, kind)


def words_of(recipe: Recipe) -> str:
    """The words a work is made from, or an empty string."""
    return str(getattr(recipe, WORDS.get(kind_of(recipe), "title"), ""))


def model_of(recipe: Recipe) -> str:
    """The model or voice the recipe names, or an empty string."""
    return str(getattr(recipe, MODEL_FIELD.get(kind_of(recipe), ""), ""))


def _refuse_unknown(field: Field, value: Any) -> None:
    """msgspec passes over what a struct does not have; a mistyped side of a margin would be lost in silence."""
    if field.item is None:
        return
    known = {f.name for f in msgspec.structs.fields(field.item)}
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, dict) and (strange := next((k for k in each if k not in known), None)) is not None:
            has = f"It has {', '.join(sorted(known))}."
            raise BadRecipe(f"{field.title} has no “{shown(str(strange))}”.", has, field=field.name)


def _cleaned(name: str, value: Any, notes: list[str]) -> Any:
    # NaN and infinity pass msgspec's limits (a comparison with NaN is never true) and turn into null in JSON.
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRecipe(f"{name} must be a number, not {value}.", field=name)
    if isinstance(value, str):
        value, new = clean(value)
        notes.extend(new)
        return value
    if isinstance(value, (list, tuple)):
        return [_cleaned(name, v, notes) for v in value]
    if isinstance(value, dict):
        return {k: _cleaned(name, v, notes) for k, v in value.items()}
    return value


def _explained(recipe: type[msgspec.Struct], values: dict[str, Any], error: msgspec.ValidationError) -> BadRecipe:
    text = str(error)
    declared = {f.name: f for f in fields(recipe)}
    # the whole word: `$.model` also begins with `$.mode`
    found = re.search(r"\$\.(\w+)", text) or re.search(r"`(\w+)`$", text)
    name = found[1] if found else ""
    if f"$.{name}" in text and name in declared:
        return BadRecipe(explain(declared[name], values.get(name)), field=name, detail=text)
    return BadRecipe(f"The recipe is incomplete or wrong: {text}.", field=name, detail=text)
