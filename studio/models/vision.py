"""Models that look at pictures for others: detectors, depth models and pose models.

Told by the class that a transformers folder names, or by the inputs, outputs and written properties of an ONNX file.
Knows how such files are laid out; imports none of the libraries that run them. Layouts: ultralytics' export to ONNX,
YuNet of OpenCV's model zoo, and `save_pretrained` of transformers 5.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import Broken, Limits, Looked, ModelCard, Needs, NotThisKind
from studio.core.text import clean, shown
from studio.models.about import card_id, safe_name
from studio.models.diffusers_folder import _Found, _weights
from studio.models.onnx_header import _Bad, _Fields, read_onnx
from studio.models.onnx_shapes import Shapes, read_onnx_shapes
from studio.models.reading import COPY_AGAIN, code_in, gone, read_json_object, regular_size

ENGINE = "image.diffusers"  # they work within a picture's job
NAMED = 12  # of the things a detector knows, in a card's note
CLASSES_LIMIT = 2_000
PROPERTIES_LIMIT = 64  # texts of an ONNX file
PROPERTY_LIMIT = 65_536  # bytes of one

_PLAIN_STEMS = {"model", "best", "last", "model_fp16", "model_quantized"}  # the folder's name tells more
_DEPTH_WORDS = re.compile(r"depth|midas|(?:^|[^a-z])dpt|zoe|metric3d|glpn", re.IGNORECASE)
_METRIC_WORDS = re.compile(r"metric|zoe|glpn|depth[-_ ]?pro", re.IGNORECASE)

# What the name of a class of transformers ends in -> kind
_ENDINGS = {"ForObjectDetection": "detector", "ForDepthEstimation": "depth", "VitPoseForPoseEstimation": "pose"}
# Classes that end so but want words along with the picture.
_WANTS_WORDS = ("GroundingDino", "MMGroundingDino", "OmDetTurbo", "OwlViT", "Owlv2")
# Classes for which the installed libraries have nothing that prepares pictures without torchvision, which stays away.
_WANTS_TORCHVISION = ("PPDocLayout", "PPOCR", "RfDetr", "CHMv2", "DepthPro", "Tipsv2")
# Classes whose numbers grow with the distance, in metres; those of all others grow with nearness.
_METRIC = ("ZoeDepth", "GLPN")

_PROPERTY = 14  # ModelProto.metadata_props; StringStringEntryProto.key and .value
_KEY, _VALUE = 1, 2


class Classes(dict[int, str]):
    """The things that a detector knows, by the number it has for each."""

    def noted(self) -> str:
        """The remark on a card."""
        names = list(self.values())
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        return f"finds {', '.join(names[:NAMED])}{more}" if names else "its file does not name what it finds"


def look_vision(path: Path) -> Looked:
    """A detector, a depth model or a pose model."""
    if path.is_dir():
        return _look_folder(path)
    if path.is_file() and path.suffix.lower() == ".onnx":
        return _look_onnx(path)
    return NotThisKind("it is not a model that looks at pictures")


# -- folders


def _look_folder(path: Path) -> Looked:
    none = NotThisKind("it is not a folder of a model that looks at pictures")
    if not (path / "config.json").is_file():
        return none
    config = read_json_object(path / "config.json")
    if isinstance(config, Broken):
        return none  # the next one says so
    made_by = architecture_of(config)
    kind = next((kind for ending, kind in _ENDINGS.items() if made_by.endswith(ending)), "")
    if not kind:
        return none
    if made_by.startswith(_WANTS_WORDS):
        return NotThisKind("it is a detector that wants to be told in words what to find, which the studio does not do")
    if made_by.startswith(_WANTS_TORCHVISION):
        return NotThisKind(f"it is a {made_by}, for which the installed libraries cannot prepare pictures")
    refused = _refused(path, config)
    if refused is not None:
        return refused
    try:
        weights = _weights(path, path.name, "model")
    except _Found as found:
        return found.broken
    except OSError as error:
        return gone(error)
    notes: list[str] = []
    if kind == "detector":
        notes.append(classes_of(config.get("id2label")).noted())
    if _asks_for_timm(config):
        notes.append("needs the library timm")
    size = sum(file.stat().st_size for file in weights)
    family = made_by
    if kind == "depth" and is_metric(config):
        notes.append("measures in metres")
    return _card(path, kind, family, size, "transformers", tuple(notes), Limits())


def _refused(path: Path, config: dict[str, Any]) -> Broken | None:
    """What speaks against opening a folder: programs in it, settings that ask for some, or a missing half."""
    refused = code_in(config, "config.json")
    if refused is not None:
        return refused
    try:
        if any(entry.suffix == ".py" for entry in path.iterdir()):
            return Broken("it brings a program along", "Code from model folders never runs here; use a version of the"
                          " model without it.", "model_refused")  # fmt: skip
    except OSError as error:
        return gone(error)
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path / name).is_file():
            value = read_json_object(path / name)
            return value if isinstance(value, Broken) else code_in(value, name)
    return Broken("its preprocessor_config.json is missing", COPY_AGAIN)


def architecture_of(config: dict[str, Any]) -> str:
    """The class of transformers that a config.json names, or an empty string."""
    named = config.get("architectures")
    first = named[0] if isinstance(named, list) and named else ""
    return first if isinstance(first, str) and re.fullmatch(r"[A-Za-z0-9_]{1,80}", first) else ""


def is_metric(config: dict[str, Any]) -> bool:
    """Whether a depth model's numbers are distances; those of others are the larger the nearer a thing is."""
    return architecture_of(config).startswith(_METRIC) or config.get("depth_estimation_type") == "metric"


def _asks_for_timm(config: dict[str, Any]) -> bool:
    inner = config.get("backbone_config")
    kind = inner.get("model_type") if isinstance(inner, dict) else ""
    return config.get("use_timm_backbone") is True or kind == "timm_backbone"


def classes_of(value: Any) -> Classes:
    """The things a detector knows, of an id2label of a config.json."""
    found = Classes()
    for key, name in list(value.items())[:CLASSES_LIMIT] if isinstance(value, dict) else ():
        if isinstance(name, str) and re.fullmatch(r"\d{1,6}", str(key)) and (name := _plain(name)):
            found[int(key)] = name
    return found


def _plain(name: str) -> str:
    return shown(clean(name[:200])[0], 60).strip()


# -- ONNX


class OnnxLook(msgspec.Struct, frozen=True):
    """What an ONNX file of this kind is.

    Attributes:
        kind: "detector" or "depth".
        layout: "yolo" (1, 4 + classes, N), "yolo-end" (1, N, 6), "yunet", or "depth".
    """

    kind: str
    layout: str
    classes: dict[int, str] = {}


def _look_onnx(path: Path) -> Looked:
    outline = read_onnx(path)
    if isinstance(outline, Broken):
        return outline
    shapes = read_onnx_shapes(path)
    if isinstance(shapes, Broken):
        return shapes
    properties = read_properties(path)
    if isinstance(properties, Broken):
        return properties
    found = told_of(*shapes, properties, path.stem if path.stem.casefold() not in _PLAIN_STEMS else path.parent.name)
    if found is None:
        return NotThisKind("it is an ONNX file, but not one that finds things or tells depth")
    if outline.external:
        return Broken("its weights lie in other files", "Get it as a single .onnx file.", "model_refused")
    size = next(iter(shapes[0].values()))
    limits = Limits(width=size[3] or None, height=size[2] or None)
    notes = (Classes(found.classes).noted(),) if found.kind == "detector" else ()
    return _card(path, found.kind, found.layout, path.stat().st_size, "onnx", notes, limits)


def told_of(inputs: Shapes, outputs: Shapes, properties: dict[str, str], stem: str = "") -> OnnxLook | None:
    """What a network is, by its inputs and outputs.

    Args:
        properties: the texts that the file carries.
        stem: the file's name without its ending, a hint where shapes do not tell a depth map from a mask.
    """
    picture, out = next(iter(inputs.values()), ()), next(iter(outputs.values()), ())
    if len(inputs) != 1 or len(picture) != 4 or picture[1] not in (0, 3) or picture[0] > 1:
        return None
    if {f"{part}_{stride}" for part in ("cls", "obj", "bbox") for stride in (8, 16, 32)} <= set(outputs):
        return OnnxLook("detector", "yunet", {0: "face"})
    names = _ultralytics(properties.get("names", ""))
    known = " ".join((stem, *outputs, *(properties.get(key, "")[:200] for key in ("description", "model", "title"))))
    map_like = len(out) == 3 or (len(out) == 4 and out[1] in (0, 1))
    alike = len(out) == 3 and out[1:] == picture[2:] and out[1] > 0
    if not names and out[:1] in ((0,), (1,)) and map_like and (alike or _DEPTH_WORDS.search(known)):
        return OnnxLook("depth", "depth-metric" if _METRIC_WORDS.search(known) else "depth")
    if len(out) != 3 or out[0] > 1 or properties.get("task", "detect") not in ("detect", "segment", "pose"):
        return None
    _, rows, columns = out
    if columns == 6 and rows != 6 and (not rows or rows > 6 or names):
        return OnnxLook("detector", "yolo-end", names)
    if (rows == 0 and names) or (rows > 4 and (columns > rows or (columns == 0 and names))):
        return OnnxLook("detector", "yolo", names)
    return None


def _ultralytics(text: str) -> dict[int, str]:
    """The names in “{0: 'face', 1: 'hand'}”, as ultralytics writes them; read as a text, never evaluated."""
    found = Classes()
    for key, quote, name in re.findall(r"(\d{1,6})\s*:\s*(['\"])(.{0,200}?)\2\s*[,}]", text[:PROPERTY_LIMIT]):
        if len(found) < CLASSES_LIMIT and quote and (plain := _plain(name)):
            found[int(key)] = plain
    return dict(found)


def read_properties(path: Path) -> dict[str, str] | Broken:
    """The texts that an ONNX file carries beside its graph, by their names."""
    size = regular_size(path)
    if isinstance(size, Broken):
        return size
    found: dict[str, str] = {}
    try:
        with open(path, "rb", buffering=512) as stream:
            fields = _Fields(stream, size)
            at = 0
            while at < size and len(found) < PROPERTIES_LIMIT:
                number, wire, start, at = fields.step(at, size)
                if number == _PROPERTY and wire == 2:
                    key, value = _entry(fields, start, at)
                    found[key] = value
    except _Bad as bad:
        return bad.broken
    except OSError as error:
        return gone(error)
    return found


def _entry(fields: _Fields, at: int, end: int) -> tuple[str, str]:
    texts = {_KEY: "", _VALUE: ""}
    while at < end:
        number, wire, start, at = fields.step(at, end)
        if number in texts and wire == 2:
            fields.stream.seek(start)
            texts[number] = fields.stream.read(min(at - start, PROPERTY_LIMIT)).decode("utf-8", "replace")
    return texts[_KEY], texts[_VALUE]


# -- cards


def _card(
    path: Path, kind: str, family: str, size: int, form: str, notes: tuple[str, ...], limits: Limits
) -> ModelCard:  # fmt: skip
    stem = path.stem if path.suffix and path.is_file() else path.name
    if stem.casefold() in _PLAIN_STEMS:
        stem = path.absolute().parent.name or stem
    name = safe_name(stem, kind)
    return ModelCard(
        id=card_id(name, path), name=name, kind=kind, engine=ENGINE, path=str(path.absolute()), format=form,
        family=family, bytes=size, limits=limits, needs=Needs(weights=size, largest=size), notes=notes,
    )  # fmt: skip
