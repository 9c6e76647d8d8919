"""Where things are in a picture: detectors as ONNX files or folders of transformers, and what is kept of their finds.

Knows how each kind of network wants its picture and gives its boxes; knows nothing of painting. Sources: ultralytics'
export to ONNX (layout and letterbox), OpenCV's face_detect.cpp (how YuNet's numbers become boxes).
"""

from __future__ import annotations

import contextlib
import math
import re
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from PIL import Image, ImageDraw

from studio.core.cards import Broken, ModelCard
from studio.core.pictures import Detail
from studio.core.problems import (
    BadRecipe,
    BadResult,
    EngineMissing,
    ModelBroken,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
    StudioError,
)
from studio.core.text import shown
from studio.engines.context import RunContext
from studio.engines.image import trouble
from studio.engines.onnx import LARGEST_SIDE, PictureGraph
from studio.models import vision

USUAL_SIDE = 640  # px, where a graph takes any size
STRIDES = (8, 16, 32)  # px of the picture that one cell of YuNet's three grids covers
OVERLAP = {"yolo": 0.7, "yunet": 0.3}  # two boxes that share more than this of their area are one thing
CANDIDATES = 3_000  # the surest boxes that are looked at for that
GREY = (114, 114, 114)  # around a picture that has another shape than the network's
SAID = 12  # names of classes in a sentence

Box = tuple[float, float, float, float]  # left, top, right, bottom; px


class Found(msgspec.Struct, frozen=True):
    """One thing in a picture. score: 0 to 1."""

    box: Box
    score: float
    label: str


class Detector(Protocol):
    """What finds things. `classes`: their names by number; empty where the file does not tell."""

    classes: dict[int, str]

    def find(self, picture: Image.Image, confidence: float, ctx: RunContext) -> list[Found]:
        """What is in an RGB picture, the surest first. Raises BadResult, ModelUnfit, OutOfMemory."""


def open_detector(card: ModelCard, device: str, threads: int, ctx: RunContext) -> Detector:
    """Load a detector.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory.
    """
    ctx.check()
    ctx.loading(card.name)
    made: Detector = OnnxDetector(card, threads) if card.format == "onnx" else FolderDetector(card, device)
    ctx.loading(card.name, 1.0)
    return made


# -- what is kept


def chosen(found: Sequence[Found], detail: Detail, classes: dict[int, str]) -> list[Found]:
    """Those of the finds that a detail wants, in its order.

    Raises:
        BadRecipe: it names a class that the detector does not know.
    """
    wanted = wanted_classes(detail, classes)
    kept = [each for each in found if not wanted or each.label.casefold() in wanted]
    kept = sorted(kept, key=lambda each: -each.score)[: detail.most]
    if detail.order == "largest":
        kept.sort(key=lambda each: -(each.box[2] - each.box[0]) * (each.box[3] - each.box[1]))
    elif detail.order == "left to right":
        kept.sort(key=lambda each: (each.box[0] + each.box[2], each.box[1]))
    return kept


def wanted_classes(detail: Detail, classes: dict[int, str]) -> set[str]:
    """The names of the classes that a detail keeps, in small letters; empty for all.

    Raises:
        BadRecipe: one of them is not among `classes`, where the detector tells what it knows.
    """
    asked = [name.strip() for name in re.split(r"[,;|\n]", detail.classes) if name.strip()]
    known = {name.casefold() for name in classes.values()}
    wanted = set()
    for name in asked:
        if name.isdecimal() and int(name) in classes:
            name = classes[int(name)]
        if known and name.casefold() not in known:
            more = " …" if len(classes) > SAID else ""
            raise BadRecipe(
                f"The detector does not know “{shown(name, 60)}”.",
                f"It finds {', '.join(list(classes.values())[:SAID])}{more}.", field="details",
            )  # fmt: skip
        wanted.add(name.casefold())
    return wanted


def mask_of(box: Box, grow: int, size: tuple[int, int]) -> Image.Image | None:
    """A mask, mode L, that is white in a box; None where nothing of the box is left in the picture."""
    left, top = max(0, math.floor(box[0]) - grow), max(0, math.floor(box[1]) - grow)
    right, bottom = min(size[0], math.ceil(box[2]) + grow), min(size[1], math.ceil(box[3]) + grow)
    if right - left < 1 or bottom - top < 1:
        return None
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle((left, top, right - 1, bottom - 1), fill=255)
    return mask


# -- ONNX files


def open_onnx(card: ModelCard, threads: int) -> PictureGraph:
    """A graph that takes one picture. Raises ModelMissing, ModelBroken, ModelUnfit, EngineMissing, OutOfMemory."""
    graph = PictureGraph(Path(card.path), threads, f"“{shown(card.name)}”", shown(card.name))
    if not graph.takes_one_picture:
        raise ModelUnfit(f"“{shown(card.name)}” does not take one picture.", "Choose another one.")
    return graph


def run_onnx(graph: PictureGraph, values: np.ndarray, card: ModelCard, ctx: RunContext) -> dict[str, np.ndarray]:
    """All outputs of a graph by name, as float32, for a (1, 3, H, W) picture. Stops when the job is cancelled.

    Raises:
        BadResult: numbers that are not finite. ModelUnfit, OutOfMemory.
    """
    found = {name: np.asarray(out, np.float32) for name, out in graph.look(values, ctx).items()}
    if not all(np.isfinite(out).all() for out in found.values()):
        raise BadResult(f"“{shown(card.name)}” gave numbers that are not finite.", "Its file may be damaged.")
    return found


class OnnxDetector:
    """A YOLO of ultralytics, with or without its own selection of boxes, or YuNet."""

    def __init__(self, card: ModelCard, threads: int) -> None:
        self._card = card
        self._graph = graph = open_onnx(card, threads)
        shapes = [
            {each.name: tuple(s if isinstance(s, int) and s > 0 else 0 for s in each.shape) for each in listed}
            for listed in (graph.inputs, graph.outputs)
        ]
        told = vision.told_of(shapes[0], shapes[1], graph.texts, Path(card.path).stem)
        layout = told.layout if told is not None and told.kind == "detector" else card.family
        if layout not in _BOXES:
            raise ModelUnfit(f"“{shown(card.name)}” is not a detector this studio can read.", "Choose another one.")
        self._layout = layout
        self.classes = dict(told.classes) if told is not None else {}
        self._side = graph.size(_size_in(graph.texts.get("imgsz", "")))

    def find(self, picture: Image.Image, confidence: float, ctx: RunContext) -> list[Found]:
        """What is in an RGB picture, the surest first."""
        # YuNet wants blue first, from 0 to 255, on black; YOLO red first, from 0 to 1, on grey
        yunet = self._layout == "yunet"
        values, scale, (left, top) = letterboxed(picture, self._side, (0, 0, 0) if yunet else GREY)
        values = values[:, ::-1] * np.float32(255) if yunet else values
        outs = run_onnx(self._graph, np.ascontiguousarray(values), self._card, ctx)
        boxes, scores, labels = _BOXES[self._layout](outs, self._side, len(self.classes), confidence, self._card)
        boxes = (boxes - np.array((left, top, left, top), np.float32)) / np.float32(scale)
        return _listed(boxes, scores, labels, self.classes, picture.size)


def letterboxed(
    picture: Image.Image, side: tuple[int, int], ground: tuple[int, int, int]
) -> tuple[np.ndarray, float, tuple[int, int]]:
    """A picture at its own shape in the middle of the network's size, from 0 to 1.

    Returns:
        (1, 3, H, W) float32; how much smaller it became; and where its corner lies.
    """
    scale = min(side[0] / picture.width, side[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    at = (side[0] - size[0]) // 2, (side[1] - size[1]) // 2
    whole = Image.new("RGB", side, ground)
    whole.paste(picture.convert("RGB").resize(size, Image.Resampling.BILINEAR), at)
    values = (np.asarray(whole, np.float32) / 255).transpose(2, 0, 1)[np.newaxis]
    return values, scale, at


def _size_in(text: str) -> tuple[int, int]:
    """Width and height in ultralytics' “imgsz”: “[640, 640]”, height first."""
    sides = [int(number) for number in re.findall(r"\d{1,5}", text[:40])]
    if 1 <= len(sides) <= 2 and all(32 <= side <= LARGEST_SIDE for side in sides):
        return sides[-1], sides[0]
    return USUAL_SIDE, USUAL_SIDE


_Raw = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes (N, 4) in the network's px, scores (N,), labels (N,)


def _yolo(outs: dict[str, np.ndarray], side: tuple[int, int], classes: int, confidence: float, card: ModelCard) -> _Raw:
    """(1, 4 + classes, N): centre, size, and how likely each class is; what follows the classes is of no use here."""
    out = next(iter(outs.values()))
    if out.ndim != 3 or out.shape[0] != 1 or out.shape[1] < 5:
        raise ModelUnfit(f"“{shown(card.name)}” gives something that is not a list of boxes.", "Choose another one.")
    rows = out[0]
    likely = rows[4 : 4 + classes] if 0 < classes <= rows.shape[0] - 4 else rows[4:]
    labels = likely.argmax(0)
    scores = likely.max(0)
    x, y, wide, high = rows[:4]
    boxes = np.stack((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), 1)
    return _apart(boxes, scores, labels, confidence, OVERLAP["yolo"])


def _yolo_end(
    outs: dict[str, np.ndarray], side: tuple[int, int], classes: int, confidence: float, card: ModelCard
) -> _Raw:
    """(1, N, 6): corners, score and class of boxes that the network selected itself."""
    out = next(iter(outs.values()))
    if out.ndim != 3 or out.shape[0] != 1 or out.shape[2] < 6:
        raise ModelUnfit(f"“{shown(card.name)}” gives something that is not a list of boxes.", "Choose another one.")
    rows = out[0][out[0][:, 4] >= max(confidence, 1e-6)]
    return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)


def _yunet(
    outs: dict[str, np.ndarray], side: tuple[int, int], classes: int, confidence: float, card: ModelCard
) -> _Raw:
    """Three grids of cells, each with its own box; a face is as sure as both of its scores say together."""
    boxes, scores = [], []
    for stride in STRIDES:
        columns, rows = side[0] // stride, side[1] // stride
        parts = [outs[f"{name}_{stride}"].reshape(-1, n) for name, n in (("cls", 1), ("obj", 1), ("bbox", 4))]
        if any(part.shape[0] != columns * rows for part in parts):
            raise ModelUnfit(f"“{shown(card.name)}” gives another number of boxes than it has cells.")
        likely, there, box = parts
        scores.append(np.sqrt(np.clip(likely, 0, 1) * np.clip(there, 0, 1))[:, 0])
        row, column = np.divmod(np.arange(columns * rows, dtype=np.float32), np.float32(columns))
        x, y = (column + box[:, 0]) * stride, (row + box[:, 1]) * stride
        wide, high = (np.exp(np.clip(box[:, at], -20, 20)) * stride for at in (2, 3))
        boxes.append(np.stack((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), 1))
    merged = np.concatenate(boxes), np.concatenate(scores)
    return _apart(*merged, np.zeros(len(merged[1]), np.int64), confidence, OVERLAP["yunet"])


_BOXES = {"yolo": _yolo, "yolo-end": _yolo_end, "yunet": _yunet}


def _apart(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, confidence: float, overlap: float) -> _Raw:
    """The surest of boxes of one class that lie on each other (non-maximum suppression), those sure enough."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= max(confidence, 1e-6)][:CANDIDATES]
    kept: list[int] = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(int(first))
        shared = _shared(boxes[first], boxes[rest])
        order = rest[(shared <= overlap) | (labels[rest] != labels[first])]
    return boxes[kept], scores[kept], labels[kept]


def _shared(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What a box and each of others have in common, as a share of what they cover together."""
    wide = np.clip(np.minimum(one[2], others[:, 2]) - np.maximum(one[0], others[:, 0]), 0, None)
    high = np.clip(np.minimum(one[3], others[:, 3]) - np.maximum(one[1], others[:, 1]), 0, None)
    common = wide * high
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    together = (one[2] - one[0]) * (one[3] - one[1]) + areas - common
    return np.asarray(common / np.maximum(together, 1e-9))


def _listed(
    boxes: Any, scores: Any, labels: Any, classes: dict[int, str], size: tuple[int, int]
) -> list[Found]:  # fmt: skip
    """Boxes within the picture, the surest first."""
    found = []
    for box, score, label in zip(boxes, scores, labels, strict=True):
        left, top, right, bottom = (float(min(max(v, 0), size[at % 2])) for at, v in enumerate(box))
        if right > left and bottom > top:
            number = int(label)
            found.append(Found((left, top, right, bottom), float(score), classes.get(number, str(number))))
    return sorted(found, key=lambda each: -each.score)


# -- folders of transformers


def open_folder(card: ModelCard, device: str, kind: str) -> tuple[Any, Any]:
    """The network of a transformers folder, in float32, and what prepares pictures for it.

    Args:
        kind: "detector", "depth" or "pose".

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory.
    """
    path = Path(card.path)
    if not path.is_dir():
        raise ModelMissing(f"The folder of “{shown(card.name)}” is gone.", "Was it moved or deleted?", detail=card.path)
    looked = vision.look_vision(path)
    if isinstance(looked, Broken):
        error = ModelRefused if looked.code == "model_refused" else ModelBroken
        raise error(f"“{shown(card.name)}” cannot be used: {looked.why}.", looked.hint)
    if not isinstance(looked, ModelCard) or looked.kind != kind:
        raise ModelUnfit(f"“{shown(card.name)}” is another kind of model.", "Choose another one.")
    import torch
    import transformers
    from transformers.models.auto import modeling_auto

    listed = {
        "detector": modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
        "depth": modeling_auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES,
        "pose": {"vitpose": "VitPoseForPoseEstimation"},
    }[kind]
    if looked.family not in listed.values():
        raise ModelUnfit(
            f"“{shown(card.name)}” is a {looked.family}, which the installed libraries do not know.",
            "Choose another one.",
        )
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(
            card.path, local_files_only=True, trust_remote_code=False, backend="pil"
        )
        network = getattr(transformers, looked.family).from_pretrained(
            card.path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
            attn_implementation="eager",
        )  # fmt: skip
        return network.eval().to(device), processor
    except ImportError as error:
        named = re.search(r"requires the (\w{1,40}) library", str(error))
        needs = f"the library {named[1]}" if named else "a library"
        raise EngineMissing(
            f"“{shown(card.name)}” needs {needs}, which is not installed.",
            "Choose a model that does without, for example an RT-DETR.", detail=repr(error)[:4000],
        ) from error  # fmt: skip
    except (
        OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError,
        NotImplementedError, MemoryError,
    ) as error:  # fmt: skip
        if trouble.is_out_of_memory(error):
            raise trouble.out_of_memory(error, f"loading “{card.name}”", device) from error
        raise ModelBroken(
            f"“{shown(card.name)}” cannot be loaded: {trouble.first_line(error)[:300]}.", "Copy or download it again.",
            detail="".join(traceback.format_exception(error))[-4000:],
        ) from error  # fmt: skip


class FolderDetector:
    """A detector of transformers: RT-DETR, DETR, YOLOS and their kin."""

    def __init__(self, card: ModelCard, device: str) -> None:
        self._card, self._device = card, device
        self._network, self._processor = open_folder(card, device, "detector")
        names = getattr(self._network.config, "id2label", None) or {}
        self.classes = dict(vision.classes_of({str(key): name for key, name in names.items()}))

    def find(self, picture: Image.Image, confidence: float, ctx: RunContext) -> list[Found]:
        """What is in an RGB picture, the surest first."""
        import torch

        ctx.check()
        with looking(self._card, self._device, ctx), torch.inference_mode():
            given = self._processor(images=picture.convert("RGB"), return_tensors="pt").to(self._device)
            out = self._network(**given)
            checked_finite((out.logits, out.pred_boxes), self._card)
            sizes = [(picture.height, picture.width)]
            found = self._processor.post_process_object_detection(out, threshold=confidence, target_sizes=sizes)[0]
            values = [found[name].cpu().numpy() for name in ("boxes", "scores", "labels")]
        return _listed(values[0], values[1], values[2], self.classes, picture.size)


def checked_finite(tensors: Iterable[Any], card: ModelCard) -> None:
    """Raises BadResult where a network gave numbers that are none."""
    if not all(bool(each.isfinite().all()) for each in tensors):
        raise BadResult(f"“{shown(card.name)}” gave numbers that are not finite.", "Its files may be damaged.")


@contextlib.contextmanager
def looking(card: ModelCard, device: str, ctx: RunContext) -> Iterator[None]:
    """Turn what a library raises while a network looks at a picture into the studio's sentences."""
    try:
        yield
    except StudioError:
        raise
    except (
        RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError,
        NotImplementedError, ImportError, MemoryError,
    ) as error:  # fmt: skip
        ctx.check()
        if trouble.is_out_of_memory(error):
            raise trouble.out_of_memory(error, f"“{card.name}” looked at the picture", device) from error
        if trouble.is_lost_device(error):
            raise
        raise ModelUnfit(
            f"“{shown(card.name)}” could not look at the picture: {trouble.first_line(error)}.",
            "Choose another one.", detail="".join(traceback.format_exception(error))[-4000:],
        ) from error  # fmt: skip
    ctx.check()
