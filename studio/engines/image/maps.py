"""Control pictures that take a model of their own: how near things are, and how people stand. And the eyes of a job:
the detectors and such models that are loaded now.

Knows depth models (folders of transformers, ONNX files) and ViTPose; knows nothing of recipes' other half. Sources:
Ranftl et al. 2020 (MiDaS: numbers that grow with nearness), Cao et al. 2019 (OpenPose: its 18 points, limbs and hues).
"""

from __future__ import annotations

import colorsys
import hashlib
import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw

from studio.core.cards import ModelCard
from studio.core.problems import BadRecipe, BadResult, ModelUnfit, OutOfMemory
from studio.core.text import shown
from studio.engines.context import RunContext
from studio.engines.image import cutout, finding, trouble
from studio.engines.image.finding import Box, Detector
from studio.engines.onnx import LARGEST_SIDE

KEPT = 1  # models that stay loaded although no job wants them
MAPS_KEPT = 4  # control pictures that are remembered: a second pass asks for the same one again
PERSON_CONFIDENCE = 0.3
POINT_CONFIDENCE = 0.3
PEOPLE_LIMIT = 32

T = TypeVar("T")


class Sight:
    """The detectors, depth and pose models that are loaded, and the last control pictures they made.

    Args:
        device: where those of transformers run, as torch writes it; ONNX files run on the processor.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._models: dict[str, Any] = {}  # id of the card -> model, in order of use
        self._wanted: frozenset[str] = frozenset()  # those of the job at hand
        self._made: dict[tuple[str, ...], Image.Image] = {}

    def want(self, ids: Sequence[str]) -> None:
        """Let go of what a job does not name, all but the last KEPT."""
        self._wanted = frozenset(ids)
        resting = [card_id for card_id in self._models if card_id not in ids]
        for card_id in resting[: max(0, len(resting) - KEPT)]:
            del self._models[card_id]

    def drop(self) -> None:
        """Let go of every model."""
        self._models.clear()

    @property
    def libraries(self) -> tuple[str, ...]:
        """What computes for the job at hand beside torch."""
        at_work = [model for card_id, model in self._models.items() if card_id in self._wanted]
        return ("onnxruntime",) if any(isinstance(m, OnnxDepth | finding.OnnxDetector) for m in at_work) else ()

    def detector(self, card: ModelCard, ctx: RunContext) -> Detector:
        """A detector, loaded. Raises as `finding.open_detector`."""
        found: Detector = self._loaded(card, ctx)
        return found

    def find(self, card: ModelCard, picture: Image.Image, confidence: float, ctx: RunContext) -> list[finding.Found]:
        """What a detector finds in an RGB picture, the surest first. Raises as loading and looking do."""
        return self._asked(card, ctx, lambda detector: detector.find(picture, confidence, ctx))

    def control_picture(
        self, filter: str, picture: Image.Image, card: ModelCard, people: ModelCard | None, ctx: RunContext
    ) -> Image.Image:
        """The control picture of an RGB picture, of the same size.

        Args:
            filter: one of pictures.MAPS. card: the depth or pose model. people: finds each person for "pose".

        Raises:
            BadRecipe: no such filter. ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, BadResult,
            OutOfMemory.
        """
        if filter not in _MAKES:
            raise BadRecipe(f"There is no filter “{shown(filter)}”.", field="controls")
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        key = (filter, card.id, people.id if people is not None else "", f"{picture.size}", digest)
        if key not in self._made:
            boxes: list[Box] = []
            if people is not None:
                boxes = [each.box for each in self._people(people, picture, ctx)]
                if not boxes:
                    ctx.note(f"“{shown(people.name)}” found nobody; the picture was taken as one of one person.")
            self._made[key] = self._asked(card, ctx, lambda model: _MAKES[filter](model, picture, boxes, ctx))
        self._made[key] = self._made.pop(key)
        for old in list(self._made)[:-MAPS_KEPT]:
            del self._made[old]
        return self._made[key]

    def _people(self, card: ModelCard, picture: Image.Image, ctx: RunContext) -> list[finding.Found]:
        found = self.find(card, picture, PERSON_CONFIDENCE, ctx)
        persons = [each for each in found if each.label.casefold() in ("person", "people", "human", "pedestrian")]
        return (persons or ([] if _knows_people(self.detector(card, ctx)) else found))[:PEOPLE_LIMIT]

    def _asked(self, card: ModelCard, ctx: RunContext, ask: Callable[[Any], T]) -> T:
        """What a model answers; where the graphics card is too small for it, it answers on the processor."""
        try:
            return ask(self._loaded(card, ctx))
        except OutOfMemory:
            if self._device == "cpu":
                raise
        held, self._device = self._device, "cpu"
        self.drop()
        trouble.give_back(held)
        return ask(self._loaded(card, ctx))

    def _loaded(self, card: ModelCard, ctx: RunContext) -> Any:
        if card.id not in self._models:
            self._models[card.id] = _open(card, self._device, ctx)
        self._models[card.id] = self._models.pop(card.id)
        return self._models[card.id]


def _open(card: ModelCard, device: str, ctx: RunContext) -> Any:
    threads = torch.get_num_threads()
    if card.kind == "detector":
        return finding.open_detector(card, device, threads, ctx)
    ctx.check()
    ctx.loading(card.name)
    made: Any
    if card.kind == "depth":
        made = OnnxDepth(card, threads) if card.format == "onnx" else FolderDepth(card, device)
    elif card.kind == "pose":
        made = Pose(card, device)
    else:
        raise ModelUnfit(f"“{shown(card.name)}” makes no control pictures.", "Choose a depth or a pose model.")
    ctx.loading(card.name, 1.0)
    return made


def _knows_people(detector: Detector) -> bool:
    return any(name.casefold() in ("person", "people", "human", "pedestrian") for name in detector.classes.values())


# -- depth


class FolderDepth:
    """A depth model of transformers: Depth Anything, DPT, ZoeDepth and their kin."""

    def __init__(self, card: ModelCard, device: str) -> None:
        self._card, self._device = card, device
        self._network, self._processor = finding.open_folder(card, device, "depth")
        config = self._network.config
        from studio.models.vision import is_metric

        self.is_metric = is_metric(
            {"architectures": [card.family], "depth_estimation_type": getattr(config, "depth_estimation_type", "")}
        )

    def look(self, picture: Image.Image, ctx: RunContext) -> np.ndarray:
        """(H, W) float32 of an RGB picture, in its size."""
        ctx.check()
        with finding.looking(self._card, self._device, ctx), torch.inference_mode():
            given = self._processor(images=picture, return_tensors="pt").to(self._device)
            out = self._network(**given)
            size = [(picture.height, picture.width)]
            back = self._processor.post_process_depth_estimation
            # where the processor pads, it wants to know of which size the picture was to take that away again
            more = {"source_sizes": size} if "source_sizes" in inspect.signature(back).parameters else {}
            depth = back(out, target_sizes=size, **more)[0]["predicted_depth"]
            return np.asarray(depth.float().cpu().numpy(), np.float32)


class OnnxDepth:
    """A depth model as an ONNX file: one picture in, one map out."""

    def __init__(self, card: ModelCard, threads: int) -> None:
        self._card = card
        self._graph = finding.open_onnx(card, threads)
        self.is_metric = card.family == "depth-metric"
        known = f"{card.name} {Path(card.path).stem}".casefold()
        usual = cutout.HALVED if "dpt" in known else cutout.IMAGENET
        self._how = cutout.own_preparation(self._graph.texts) or usual
        # where a graph takes any size: what these networks were taught on, and what their patches divide
        self._short, self._multiple = (518, 14) if "anything" in known else (384, 32)

    def look(self, picture: Image.Image, ctx: RunContext) -> np.ndarray:
        """(H, W) float32 of an RGB picture, in its size."""
        scale = self._short / min(picture.size)
        wide, high = (
            min(LARGEST_SIDE, max(1, round(side * scale / self._multiple)) * self._multiple) for side in picture.size
        )
        size = self._graph.size((wide, high))
        out = next(iter(finding.run_onnx(self._graph, cutout.prepared(picture, size, self._how), self._card, ctx)
                        .values()))  # fmt: skip
        if out.ndim < 2 or out.size != out.shape[-1] * out.shape[-2]:
            raise ModelUnfit(f"“{shown(self._card.name)}” gives something that is not one map.", "Choose another one.")
        depth = Image.fromarray(out.reshape(out.shape[-2:])).resize(picture.size, Image.Resampling.BICUBIC)
        return np.asarray(depth, np.float32)


def depth_picture(values: np.ndarray, *, is_metric: bool) -> Image.Image:
    """A depth map as control networks learned to read it: white is near, black is far.

    Args:
        values: (H, W); they grow with nearness, or, where `is_metric`, are distances.

    Raises:
        BadResult: numbers that are not finite.
    """
    if not np.isfinite(values).all():
        raise BadResult("The depth model gave numbers that are not finite.", "Its files may be damaged.")
    if is_metric:
        # nearness is the inverse of distance; the nearest and farthest hundredth would flatten all the rest
        values = 1 / np.maximum(values, 1e-3)
        values = np.clip(values, *np.percentile(values, (1, 99)))
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:
        return Image.new("RGB", (values.shape[1], values.shape[0]))
    near = np.rint((values - low) / (high - low) * 255).astype(np.uint8)
    return Image.fromarray(near).convert("RGB")


def _depth(model: FolderDepth | OnnxDepth, picture: Image.Image, boxes: Sequence[Box], ctx: RunContext) -> Image.Image:
    return depth_picture(model.look(picture.convert("RGB"), ctx), is_metric=model.is_metric)


# -- pose

# OpenPose's points in the order of its colours, each by its number in COCO's list (None: the neck, between shoulders).
_POINTS: tuple[int | None, ...] = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
_SHOULDERS = (5, 6)
# Its limbs in the order of their colours, each from point to point.
_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
_HUES = tuple(tuple(round(part * 255) for part in colorsys.hsv_to_rgb(at / 18, 1, 1)) for at in range(18))
_LIMB_SHADE = 0.6  # limbs are darker than the points at their ends
_THICK = 4 / 512  # half of a limb's width, and a point's radius, as a share of the picture's shorter side
_COCO = 17

Point = tuple[float, float]
Person = list[Point | None]  # OpenPose's 18 points, px


class Pose:
    """A ViTPose of transformers, which finds a person's points within a box."""

    def __init__(self, card: ModelCard, device: str) -> None:
        self._card, self._device = card, device
        self._network, self._processor = finding.open_folder(card, device, "pose")
        if int(self._network.config.num_labels) < _COCO:
            raise ModelUnfit(
                f"“{shown(card.name)}” does not know the {_COCO} points of a person that are drawn.",
                "Choose a model for people (COCO).", field="pose_with",
            )  # fmt: skip

    def look(self, picture: Image.Image, boxes: Sequence[Box], ctx: RunContext) -> list[Person]:
        """The people in an RGB picture, one for each box."""
        ctx.check()
        # corner and size, as its processor takes them
        given = [[[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]]
        with finding.looking(self._card, self._device, ctx), torch.inference_mode():
            values = self._processor(images=picture, boxes=given, return_tensors="pt").to(self._device)
            if int(getattr(self._network.config.backbone_config, "num_experts", 1)) > 1:
                values["dataset_index"] = torch.zeros(len(boxes), dtype=torch.long, device=self._device)  # COCO's
            out = self._network(**values)
            finding.checked_finite((out.heatmaps,), self._card)
            out.heatmaps = out.heatmaps.cpu()
            found = self._processor.post_process_pose_estimation(out, boxes=given)[0]
        return [
            openpose(np.asarray(one["keypoints"], np.float32), np.asarray(one["scores"], np.float32)) for one in found
        ]


def openpose(points: np.ndarray, scores: np.ndarray) -> Person:
    """OpenPose's 18 points of COCO's first 17. points: (17+, 2) px; scores: (17+,). None where one is not seen."""
    seen = [
        (float(points[at, 0]), float(points[at, 1])) if scores[at] >= POINT_CONFIDENCE else None for at in range(_COCO)
    ]
    left, right = (seen[at] for at in _SHOULDERS)
    neck = ((left[0] + right[0]) / 2, (left[1] + right[1]) / 2) if left is not None and right is not None else None
    return [neck if at is None else seen[at] for at in _POINTS]


def pose_picture(people: Sequence[Person], size: tuple[int, int]) -> Image.Image:
    """People as OpenPose draws them: limbs and points, each in its own hue, on black."""
    picture = Image.new("RGB", size)
    draw = ImageDraw.Draw(picture)
    thick = max(1.0, min(size) * _THICK)
    for person in people:
        for hue, (a, b) in zip(_HUES, _LIMBS, strict=False):
            one, other = person[a], person[b]
            if one is not None and other is not None:
                shade = tuple(round(part * _LIMB_SHADE) for part in hue)
                draw.polygon(_limb(one, other, thick), fill=shade)
        for hue, point in zip(_HUES, person, strict=True):
            if point is not None:
                x, y = point
                draw.ellipse((x - thick, y - thick, x + thick, y + thick), fill=hue)
    return picture


def _limb(one: Point, other: Point, thick: float) -> list[Point]:
    """The outline of an ellipse that reaches from one point to another."""
    x, y = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
    half = math.dist(one, other) / 2
    turn = math.atan2(other[1] - one[1], other[0] - one[0])
    outline = []
    for step in range(24):
        angle = step / 24 * 2 * math.pi
        along, across = half * math.cos(angle), thick * math.sin(angle)
        outline.append((x + along * math.cos(turn) - across * math.sin(turn),
                        y + along * math.sin(turn) + across * math.cos(turn)))  # fmt: skip
    return outline


def _pose(model: Pose, picture: Image.Image, boxes: Sequence[Box], ctx: RunContext) -> Image.Image:
    whole: Box = (0.0, 0.0, float(picture.width), float(picture.height))
    people = model.look(picture.convert("RGB"), boxes or [whole], ctx)
    if not any(point is not None for person in people for point in person):
        ctx.note("Nobody's pose was seen in the control picture, so it asks for nothing.")
    return pose_picture(people, picture.size)


_MAKES: dict[str, Callable[[Any, Image.Image, Sequence[Box], RunContext], Image.Image]] = {
    "depth": _depth,
    "pose": _pose,
}
