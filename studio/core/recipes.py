"""Recipes: everything that decides what a work will be, one frozen struct per kind of work.

Every parameter a person can set is declared here once, with its default, limits, unit, title and help. The form, the
command line, the API, the metadata in files and the documents all read these declarations; `fields()` hands them out.
"""

from __future__ import annotations

import functools
import math
import re
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from studio.core.problems import BadRecipe
from studio.core.text import clean, shown

SEED_LIMIT = 4_294_967_295  # llama.cpp keeps seeds in 32 bits and takes the highest value for "random"

PROMPT_LIMIT = 262_144  # characters; a text edit needs seconds for more, and no context window takes it
SPEECH_LIMIT = 1_048_576  # characters: a long novel

# A picture carries its recipe as JSON in a text chunk of this name; a longer one is left out.
CARRIED_AS = "studio"
CARRIED_LIMIT = 256 * 1024  # bytes


def _about(
    title: str, help: str, *, unit: str = "", group: str = "main", multiline: bool = False, **limits: Any
) -> Meta:
    """A declaration. `group` is "main" or "advanced" (folded away); `unit` is shown beside the value."""
    return Meta(title=title, description=help, extra={"unit": unit, "group": group, "multiline": multiline}, **limits)


# Limits belong to the number, not to the choice between a number and nothing: msgspec wants them inside the union.
_Pixels = Annotated[int, Meta(ge=16, le=8192)] | None
_Spread = Annotated[float, Meta(ge=0.0, le=2.0)] | None

Seed = Annotated[
    Annotated[int, Meta(ge=0, lt=SEED_LIMIT)] | None,
    _about("Seed", "Start of the random numbers; the same seed makes the same work. Empty picks one."),
]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Meta(max_length=PROMPT_LIMIT)]


class MadeWith(msgspec.Struct, frozen=True, kw_only=True):
    """The circumstances a work was made in. With the same ones, the same recipe makes the same work.

    Attributes:
        engine: name of the engine, a key of ENGINES.
        model_sha256: checksum of the model file, or of the checksums of a folder's files.
        device: "cpu", "cuda:0", "mps"; dtype: "float32", "bfloat16", …; both as torch writes them.
        threads: processor threads of the engine. n_batch: prompt tokens per batch (text only).
        n_ctx: length of the context window in tokens (text only).
        memory: how memory was saved, one of plans.MEMORY_MODES; empty for "full".
        versions: library name -> version.
        system: operating system and processor architecture.
    """

    engine: str
    model_sha256: str = ""
    device: str = "cpu"
    dtype: str = ""
    threads: int = 0
    n_batch: int = 0
    n_ctx: int = 0
    memory: str = ""
    versions: dict[str, str] = {}
    system: str = ""


SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    # our name -> (diffusers class, arguments laid over the model's own scheduler settings)
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),  # with them it fails below four steps
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
SchedulerName = Literal[
    "model", "ddim", "ddpm", "pndm", "euler", "euler_a", "heun", "lms", "dpm2", "dpm2_a", "dpmpp_2m",
    "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_2s", "unipc", "deis", "lcm", "tcd",
]  # fmt: skip
assert set(get_args(SchedulerName)) == {"model", *SCHEDULERS}


class TextRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="text"):
    """A text from a language model."""

    prompt: Annotated[
        str,
        _about("Prompt", "What to continue, or what to say to the model.", multiline=True, max_length=PROMPT_LIMIT),
    ]
    mode: Annotated[
        Literal["complete", "chat"],
        _about("Mode", "Complete continues the prompt; chat answers it, through the model's own template."),
    ] = "complete"
    model: Annotated[str, _about("Model", "A model's name, or the path of a file or folder.")] = ""
    max_tokens: Annotated[
        int,
        _about("Length", "The most tokens to write; a token is about ¾ of a word.", unit="tokens", ge=1, le=131_072),
    ] = 256
    temperature: Annotated[
        float, _about("Temperature", "0 always takes the likeliest token; higher is more daring.", ge=0.0, le=5.0)
    ] = 0.8
    n: Annotated[
        int, _about("Answers", "How many texts to write, one after another, with seed, seed + 1, …", ge=1, le=64)
    ] = 1
    seed: Seed = None
    stop: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=256)], ...],
        _about("Stop at", "Stop before any of these strings appears.", max_length=16),
    ] = ()
    system: Annotated[
        str,
        _about(
            "Instructions", "What the model should be and do; chat only.", multiline=True, group="advanced",
            max_length=PROMPT_LIMIT,
        ),
    ] = ""  # fmt: skip
    messages: Annotated[
        tuple[Message, ...], _about("Conversation", "The turns before the prompt; chat only.", group="advanced")
    ] = ()
    template: Annotated[
        Literal["auto", "model", "few-shot", "plain"],
        _about(
            "Template",
            "How a chat is laid out: auto takes the model's own template and a few-shot one for base models.",
            group="advanced",
        ),
    ] = "auto"
    top_p: Annotated[
        float,
        _about("Top-p", "Keep the likeliest tokens up to this share; 1 is off.", group="advanced", ge=0.0, le=1.0),
    ] = 0.95
    top_k: Annotated[
        int, _about("Top-k", "Keep this many of the likeliest tokens; 0 is off.", group="advanced", ge=0, le=1_000)
    ] = 40
    min_p: Annotated[
        float,
        _about(
            "Min-p", "Drop tokens below this share of the likeliest one; 0 is off.", group="advanced", ge=0.0, le=1.0
        ),
    ] = 0.05
    repeat_penalty: Annotated[
        float, _about("Repeat penalty", "Above 1 discourages repetition; 1 is off.", group="advanced", ge=0.1, le=2.0)
    ] = 1.0
    repeat_last_n: Annotated[
        int,
        _about(
            "Penalty window", "How far back the repeat penalty looks.", unit="tokens", group="advanced", ge=0, le=8192
        ),
    ] = 64
    context: Annotated[
        int,
        _about(
            "Context", "Length of the context window; 0 takes the model's own up to the limit in the settings.",
            unit="tokens", group="advanced", ge=0, le=1_048_576,
        ),
    ] = 0  # fmt: skip
    made_with: MadeWith | None = None


class ImageRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="image"):
    """A picture from a diffusion model."""

    prompt: Annotated[str, _about("Prompt", "What the picture should show.", multiline=True, max_length=PROMPT_LIMIT)]
    negative: Annotated[
        str, _about("Avoid", "What the picture should not show.", multiline=True, max_length=PROMPT_LIMIT)
    ] = ""
    model: Annotated[str, _about("Model", "A model's name, or the path of a folder.")] = ""
    width: Annotated[_Pixels, _about("Width", "Width of the picture; empty takes the model's own.", unit="px")] = None
    height: Annotated[_Pixels, _about("Height", "Height of the picture; empty takes the model's own.", unit="px")] = (
        None
    )
    steps: Annotated[int, _about("Steps", "Denoising steps; more is finer and slower.", ge=1, le=1_000)] = 25
    guidance: Annotated[float, _about("Guidance", "How closely to follow the prompt; 1 is off.", ge=0.0, le=50.0)] = 5.0
    seed: Seed = None
    count: Annotated[
        int, _about("Pictures", "How many to make, one after another, with seed, seed + 1, …", ge=1, le=64)
    ] = 1
    guidance_rescale: Annotated[
        float,
        _about(
            "Guidance rescale", "0 to 1: pulls contrast back where strong guidance overdoes it.", group="advanced",
            ge=0.0, le=1.0,
        ),
    ] = 0.0  # fmt: skip
    scheduler: Annotated[
        SchedulerName, _about("Scheduler", "How noise is removed; “model” takes the model's own.", group="advanced")
    ] = "model"
    made_with: MadeWith | None = None


class SpeechRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="speech"):
    """A text read aloud."""

    text: Annotated[str, _about("Text", "What to read aloud.", multiline=True, max_length=SPEECH_LIMIT)]
    voice: Annotated[str, _about("Voice", "A voice's name, or the path of its file.")] = ""
    speaker: Annotated[
        int, _about("Speaker", "Which speaker, for voices that hold several.", group="advanced", ge=0, le=100_000)
    ] = 0
    speed: Annotated[float, _about("Speed", "1 is the voice's own pace; 2 is twice as fast.", ge=0.25, le=4.0)] = 1.0
    pause: Annotated[float, _about("Pause", "Silence between sentences.", unit="s", ge=0.0, le=10.0)] = 0.2
    noise: Annotated[
        _Spread,
        _about("Liveliness", "Variation in the sound; 0 is none, empty takes the voice's own.", group="advanced"),
    ] = None  # fmt: skip
    rhythm: Annotated[
        _Spread,
        _about("Rhythm", "Variation in the length of sounds; 0 is even; empty: the voice's own.", group="advanced"),
    ] = None  # fmt: skip
    seed: Seed = None
    made_with: MadeWith | None = None


class ExportRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="export"):
    """A work written to a file of the user's choice; the kept master is never touched."""

    work: str
    to: str
    quality: Annotated[
        int, _about("Quality", "For JPEG, WebP, OGG and MP3; higher is better and larger.", ge=1, le=100)
    ] = 90
    overwrite: Annotated[bool, _about("Overwrite", "Replace the file if it is there already.")] = False
    made_with: MadeWith | None = None


Recipe = TextRecipe | ImageRecipe | SpeechRecipe | ExportRecipe

RECIPES: dict[str, type[TextRecipe] | type[ImageRecipe] | type[SpeechRecipe] | type[ExportRecipe]] = {
    "text": TextRecipe,
    "image": ImageRecipe,
    "speech": SpeechRecipe,
    "export": ExportRecipe,
}

# The field that holds the words, and the one that names the model.
WORDS = {"text": "prompt", "image": "prompt", "speech": "text"}
MODEL_FIELD = {"text": "model", "image": "model", "speech": "voice"}
COUNT_FIELD = {"text": "n", "image": "count"}


class Field(msgspec.Struct, frozen=True):
    """One declared parameter, as forms, flags and documents read it.

    Attributes:
        type: "str", "int", "float", "bool", "choice", "strings" or "other".
        optional: None is allowed and means "the model's own" or "pick one".
        low, high: inclusive limits, or None. For "str" the limits of its length.
    """

    name: str
    type: str
    default: Any
    title: str
    help: str
    unit: str = ""
    group: str = "main"
    multiline: bool = False
    optional: bool = False
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


@functools.cache
def fields(recipe: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The declared parameters of a recipe (or of the settings), in order of declaration."""
    info = msgspec.inspect.type_info(recipe)
    assert isinstance(info, msgspec.inspect.StructType)
    hints = get_type_hints(recipe, include_extras=True)
    found = []
    for field in info.fields:
        kind = field.type
        if not isinstance(kind, msgspec.inspect.Metadata):
            continue  # not declared with _about: not for people
        schema, extra, kind = kind.extra_json_schema or {}, kind.extra or {}, kind.type
        options = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
        optional = any(isinstance(o, msgspec.inspect.NoneType) for o in options)
        inner = next(o for o in options if not isinstance(o, msgspec.inspect.NoneType))
        inner = inner.type if isinstance(inner, msgspec.inspect.Metadata) else inner
        found.append(
            Field(
                name=field.name,
                type=_plain_type(inner),
                default=None if field.required else _default(field),
                title=schema.get("title", field.name),
                help=schema.get("description", ""),
                unit=extra.get("unit", ""),
                group=extra.get("group", "main"),
                multiline=extra.get("multiline", False),
                optional=optional,
                required=field.required,
                low=_first(inner, "ge", "gt", "min_length"),
                high=_high(inner),
                # from the annotation: msgspec sorts the values, people want them as declared
                choices=get_args(get_args(hints[field.name])[0]) if _plain_type(inner) == "choice" else (),
            )
        )
    return tuple(found)


def _default(field: msgspec.inspect.Field) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _plain_type(kind: msgspec.inspect.Type) -> str:
    names = {
        msgspec.inspect.StrType: "str",
        msgspec.inspect.IntType: "int",
        msgspec.inspect.FloatType: "float",
        msgspec.inspect.BoolType: "bool",
        msgspec.inspect.LiteralType: "choice",
    }
    if isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(kind.item_type, msgspec.inspect.StrType):
        return "strings"
    return names.get(type(kind), "other")


def _first(kind: Any, *names: str) -> float | None:
    return next((v for n in names if (v := getattr(kind, n, None)) is not None), None)


def _high(kind: Any) -> float | None:
    below = getattr(kind, "lt", None)
    return below - 1 if below is not None else _first(kind, "le", "max_length")


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


def words_of(recipe: Recipe) -> str:
    """The words a work is made from, or an empty string."""
    return str(getattr(recipe, WORDS.get(kind_of(recipe), ""), ""))


def model_of(recipe: Recipe) -> str:
    """The model or voice the recipe names, or an empty string."""
    return str(getattr(recipe, MODEL_FIELD.get(kind_of(recipe), ""), ""))


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


def explain(field: Field, value: Any) -> str:
    """One sentence that says what a field takes and what was given."""
    unit = f" {field.unit}" if field.unit else ""
    got = f"{len(value):,} characters" if field.type == "str" and isinstance(value, str) else repr(value)[:60]
    if field.type == "choice":
        return f"{field.title} must be one of {', '.join(field.choices)}; got {got}."
    if field.type == "str" and isinstance(value, str) and field.high is not None:
        return f"{field.title} may have at most {int(field.high):,} characters; got {got}."
    if field.type == "str":
        return f"{field.title} must be text; got {got}."
    if field.type == "strings" and field.high is not None:
        return f"{field.title} must be a list of at most {int(field.high)} short texts, none of them empty."
    if field.type in ("int", "float") and field.low is not None and field.high is not None:
        kind = "a whole number" if field.type == "int" else "a number"
        return f"{field.title} must be {kind} from {field.low:,g} to {field.high:,.10g}{unit}; got {got}."
    return f"{field.title} cannot be {got}."


def _explained(recipe: type[msgspec.Struct], values: dict[str, Any], error: msgspec.ValidationError) -> BadRecipe:
    text = str(error)
    declared = {f.name: f for f in fields(recipe)}
    # the whole word: `$.model` also begins with `$.mode`
    found = re.search(r"\$\.(\w+)", text) or re.search(r"`(\w+)`$", text)
    name = found[1] if found else ""
    if f"$.{name}" in text and name in declared:
        return BadRecipe(explain(declared[name], values.get(name)), field=name, detail=text)
    return BadRecipe(f"The recipe is incomplete or wrong: {text}.", field=name, detail=text)
