"""What was found in a picture file, and how it is put together.

Knows the declarations of the picture recipe and holds every value to them; knows nothing of files or of other programs.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from studio.core.problems import BadRecipe
from studio.core.recipes import ImageRecipe, check, fields
from studio.core.text import clean, shown

TEXT_LIMIT = 256 * 1024  # bytes; a longer text is reported and not parsed
UNMAPPED_LIMIT = 400  # entries; workflows of some programs have thousands of settings
NAMES_LIMIT = 64  # LoRAs, controls, embeddings
VALUE_SHOWN = 200  # characters of a value that could not be mapped
NUMBER_LIMIT = 64  # characters of a number

_EXTENSIONS = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|gguf|sft|onnx|vae)$", re.IGNORECASE)


class ControlFound(msgspec.Struct, frozen=True):
    """A control (ControlNet, T2I adapter) as another program wrote it down; the picture itself is not in the file.

    Attributes:
        model: name as written, without folder and extension.
        filter: name of the preparation as written ("canny", "depth_midas"); not necessarily one of ours.
        image: name of its picture as written, or empty.
        weight: its strength; start, end: from which to which part of the steps it acted, 0 to 1.
    """

    model: str
    filter: str = ""
    image: str = ""
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """How a picture was made, as far as its file says.

    Attributes:
        tool: "studio", "a1111", "forge", "sdnext", "civitai", "comfyui", "invokeai", "fooocus", "novelai", "swarmui",
            "easydiffusion" or "drawthings"; empty if only something unreadable was found.
        values: field of ImageRecipe -> plain value. With a prompt among them they pass `check("image", values)`.
            Models are not among them (but for `tool` "studio"): see the names below.
        model: the model's name as written, without folder and extension; model_hash: as written, lower case.
        vae, upscaler, refiner: names as written, or empty.
        loras: name and weight of each. hashes: name -> hash, of LoRAs and embeddings that have one.
        embeddings: names of textual inversions. controls: see ControlFound.
        width, height: size of the picture itself, px, where the file says it.
        unmapped: (name, value) of all that has no place in our recipe, does not fit, or was changed to fit.
        text: the raw text, for showing as plain text; at most 256 KiB.
    """

    tool: str
    values: dict[str, Any] = {}
    model: str = ""
    model_hash: str = ""
    vae: str = ""
    upscaler: str = ""
    refiner: str = ""
    loras: tuple[tuple[str, float], ...] = ()
    hashes: dict[str, str] = {}
    embeddings: tuple[str, ...] = ()
    controls: tuple[ControlFound, ...] = ()
    width: int | None = None
    height: int | None = None
    unmapped: tuple[tuple[str, str], ...] = ()
    text: str = ""


_EXACT = ("seed", "variation_seed", "width", "height")  # taken as they are or not at all
_DECLARED = {f.name: f for f in fields(ImageRecipe)}


class Draft:
    """A Found in the making. Never raises for what it is given."""

    def __init__(self, tool: str, text: str = "") -> None:
        self.tool = tool
        self.values: dict[str, Any] = {}
        self.model = self.model_hash = self.vae = self.upscaler = self.refiner = ""
        self.loras: list[tuple[str, float]] = []
        self.hashes: dict[str, str] = {}
        self.embeddings: list[str] = []
        self.controls: list[ControlFound] = []
        self.text = text
        self._unmapped: dict[tuple[str, str], None] = {}
        self._beyond = 0

    def note(self, name: str, value: Any) -> None:
        """Remember what could not be mapped; what says nothing (None, an empty text or list) is passed over."""
        if value is None or value == "" or value == [] or value == {}:
            return
        if len(self._unmapped) >= UNMAPPED_LIMIT:
            self._beyond += 1
            return
        self._unmapped[(shown(name, 60), brief(value))] = None

    def put(self, field: str, value: Any, name: str = "") -> bool:
        """Take over a value, turned into the field's type and brought into its limits.

        A number outside its limits becomes the nearest one within, and the original is noted. A seed or a size, for
        which "nearest" would be something else, and whatever does not fit at all is only noted.

        Args:
            name: what the other program calls it, for the notes.
        """
        name = name or field
        if value is None or value == "":
            return False
        declared = _DECLARED.get(field)
        fitting: Any = value
        if declared is not None and declared.type in ("int", "float"):
            number_ = number(value)
            if number_ is None or (field in _EXACT and number_ != int(number_)):
                self.note(name, value)
                return False
            fitting = round(number_) if declared.type == "int" else float(number_)
            if field in ("seed", "variation_seed") and number_ < 0:
                return False  # other programs write -1 for "any"
            if field not in _EXACT:
                fitting = _within(fitting, declared.low, declared.high)
        elif declared is not None and declared.type in ("str", "choice"):
            if not isinstance(value, str):
                self.note(name, value)
                return False
            fitting, _ = clean(value)
        if not fits(field, fitting):
            self.note(name, value)
            return False
        if isinstance(fitting, (int, float)) and number(value) != fitting:
            self.note(name, f"{brief(value)} (taken as {fitting:g})")
        self.values[field] = fitting
        return True

    def prompt(self, text: Any, name: str = "prompt") -> None:
        if isinstance(text, str) and text.strip():
            self.put("prompt", text, name)
        elif text and not isinstance(text, str):
            self.note(name, text)

    def size(self, width: Any, height: Any, name: str = "size") -> None:
        """Take over both or none."""
        before = dict(self.values)
        if not (self.put("width", width, f"{name} (width)") and self.put("height", height, f"{name} (height)")):
            self.values = before

    def sampling(self, found: tuple[str, str], sampler: Any, spacing: Any = None) -> None:
        """Take over a scheduler and the spacing of its noise levels, empty where they are not known.

        Args:
            found: our names. sampler, spacing: theirs, for the notes.
        """
        scheduler, sigmas = found
        if scheduler == "dpmpp_2m" and sigmas == "karras" and not fits("sigmas", "karras"):
            scheduler, sigmas = "dpmpp_2m_karras", "model"
        if not scheduler or not self.put("scheduler", scheduler, "sampler"):
            self.note("sampler", sampler)
        if sigmas and fits("sigmas", sigmas):
            self.values["sigmas"] = sigmas
        elif sigmas != "model":
            self.note("schedule type", spacing)

    def lora(self, name: Any, weight: Any = 1.0) -> None:
        amount = number(weight)
        if not isinstance(name, str) or not plain_name(name) or amount is None or len(self.loras) >= NAMES_LIMIT:
            self.note("LoRA", f"{brief(name)}: {brief(weight)}")
            return
        self.loras.append((plain_name(name), float(amount)))

    def control(self, model: Any, **facts: Any) -> None:
        """Take over a control; numbers may be texts."""
        if not isinstance(model, str) or not plain_name(model) or len(self.controls) >= NAMES_LIMIT:
            self.note("control", model if model else facts)
            return
        given: dict[str, Any] = {}
        for key in ("weight", "start", "end"):
            if (amount := number(facts.get(key))) is not None:
                given[key] = float(amount)
        for key in ("filter", "image"):
            if isinstance(text := facts.get(key), str):
                given[key] = shown(text, VALUE_SHOWN)
        self.controls.append(ControlFound(plain_name(model), **given))

    def embedding(self, name: Any) -> None:
        named = plain_name(name) if isinstance(name, str) else ""
        if named and len(self.embeddings) < NAMES_LIMIT and named not in self.embeddings:
            self.embeddings.append(named)

    def hash_of(self, name: str, value: Any) -> None:
        if isinstance(value, str) and len(self.hashes) < NAMES_LIMIT * 2 and (tidy := plain_hash(value)):
            self.hashes[plain_name(name)] = tidy

    def found(self, width: int | None = None, height: int | None = None) -> Found:
        values = self.values
        if not _passes(values):  # a number that is not finite, deep inside; or two that do not go together
            values = {}
            for field, value in self.values.items():
                if _passes({**values, field: value}):
                    values[field] = value
                else:
                    self.note(field, value)
        unmapped = list(self._unmapped)
        if self._beyond:
            unmapped.append(("…", f"{self._beyond:,} more"))
        return Found(
            tool=self.tool, values=values, model=plain_name(self.model),
            model_hash=plain_hash(self.model_hash), vae=plain_name(self.vae), upscaler=plain_name(self.upscaler),
            refiner=plain_name(self.refiner), loras=tuple(self.loras), hashes=dict(self.hashes),
            embeddings=tuple(self.embeddings), controls=tuple(self.controls), width=width, height=height,
            unmapped=tuple(unmapped), text=_at_most(self.text),
        )  # fmt: skip

    @property
    def says_something(self) -> bool:
        return bool(self.values or self.model or self.loras or self._unmapped)


def fits(field: str, value: Any) -> bool:
    """Whether the picture recipe takes this value there, whatever the other fields say."""
    if field not in ImageRecipe.__struct_fields__:
        return False
    try:
        # a hundred times as fast as `check`, which has the last word on all values together
        msgspec.convert({"kind": "image", "prompt": "x", field: value}, ImageRecipe)
    except (msgspec.ValidationError, ValueError, OverflowError, RecursionError):
        return False
    return True


def _passes(values: dict[str, Any]) -> bool:
    try:
        check("image", {"prompt": "x", **values})
    except (BadRecipe, ValueError, OverflowError, RecursionError):
        return False
    return True


def _within(value: float, low: float | None, high: float | None) -> float | int:
    kept = value if low is None else max(value, low)
    kept = kept if high is None else min(kept, high)
    return int(kept) if isinstance(value, int) else kept


def number(value: Any) -> int | float | None:
    """A finite number in a number or a text; None for anything else, and for what is longer than a number is."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        text = value.strip()
        if not text or len(text) > NUMBER_LIMIT or not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", text):
            return None
        value = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    if not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None


def integer(value: Any) -> int | None:
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def brief(value: Any) -> str:
    """A short line for any value out of JSON."""
    if isinstance(value, str):
        return shown(value, VALUE_SHOWN)
    try:
        return shown(json.dumps(value, ensure_ascii=False, default=repr)[: VALUE_SHOWN * 4], VALUE_SHOWN)
    except (RecursionError, ValueError):  # too deep, or a number of too many digits
        return "…"


def plain_name(name: str) -> str:
    """A model's name out of a path of any system: without folder and extension, on one line."""
    if not isinstance(name, str):
        return ""
    last = re.split(r"[\\/]", name[:4096].strip().rstrip("\\/"))[-1]
    return shown(_EXTENSIONS.sub("", last), 200)


def plain_hash(value: str) -> str:
    """A hexadecimal hash in lower case; empty for anything else."""
    if not isinstance(value, str) or len(value) > 160:
        return ""
    # InvokeAI writes "blake3:…", SwarmUI "0x…"
    tidy = value.strip().lower().rpartition(":")[2].removeprefix("0x")
    return tidy if re.fullmatch(r"[0-9a-f]{6,128}", tidy) else ""


def as_json(text: str) -> Any:
    """The JSON in a text, NaN and all; None for anything else, for what is too deep, and for numbers too long."""
    if len(text) > TEXT_LIMIT:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def as_object(text: str) -> dict[str, Any]:
    """The JSON object in a text; empty for anything else."""
    value = as_json(text) if text.lstrip().startswith("{") else None
    return value if isinstance(value, dict) else {}


def _at_most(text: str) -> str:
    return clean(text.encode("utf-8", "replace")[:TEXT_LIMIT].decode("utf-8", "ignore"))[0]
