"""Detectors, depth and pose models are told from their headers, and what cannot be opened is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import Broken, Looked, ModelCard, NotThisKind
from studio.models.identify import look
from studio.models.vision import told_of
from tests.models.makers import field, picture_onnx, safetensors, varint

PICTURE = {"images": (1, 3, 640, 640)}
NAMES = {"names": "{0: 'face', 1: 'left \"hand\"'}", "task": "detect"}


def folder(path: Path, architecture: str, **config: Any) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"architectures": [architecture], **config}))
    (path / "preprocessor_config.json").write_text(json.dumps({"do_resize": True}))
    (path / "model.safetensors").write_bytes(safetensors())
    return path


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def card(looked: Looked) -> ModelCard:
    assert isinstance(looked, ModelCard), looked
    return looked


def with_properties(data: bytes, **texts: str) -> bytes:
    return data + b"".join(field(14, field(1, k.encode()) + field(2, v.encode())) for k, v in texts.items())


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [
        ("RTDetrForObjectDetection", "detector"), ("YolosForObjectDetection", "detector"),
        ("DepthAnythingForDepthEstimation", "depth"), ("ZoeDepthForDepthEstimation", "depth"),
        ("VitPoseForPoseEstimation", "pose"),
    ],
)  # fmt: skip
def test_a_folder_of_transformers_is_told_by_the_class_it_names(tmp_path: Path, architecture: str, kind: str) -> None:
    made = card(look(folder(tmp_path / "Finder", architecture, id2label={"0": "face", "1": "hand"})))
    assert (made.kind, made.family, made.name, made.format) == (kind, architecture, "Finder", "transformers")
    assert made.bytes == (tmp_path / "Finder" / "model.safetensors").stat().st_size
    assert ("finds face, hand" in made.notes) == (kind == "detector")
    assert ("measures in metres" in made.notes) == (architecture == "ZoeDepthForDepthEstimation")


def test_folders_that_cannot_be_opened_say_why(tmp_path: Path) -> None:
    def why(name: str, change: Any, architecture: str = "RTDetrForObjectDetection", **config: Any) -> Broken:
        path = folder(tmp_path / name, architecture, **config)
        change(path)
        looked = look(path)
        assert isinstance(looked, Broken), (name, looked)
        return looked

    code = why("code", lambda p: None, auto_map={"AutoModel": "x.Y"})
    assert code.code == "model_refused"
    program = why("program", lambda p: (p / "modeling.py").write_text("print()"))
    assert (program.code, program.why) == ("model_refused", "it brings a program along")
    hidden = why("hidden", lambda p: (p / "preprocessor_config.json").write_text('{"auto_map": {"A": "b.C"}}'))
    assert hidden.code == "model_refused"

    def pickled(path: Path) -> None:
        (path / "model.safetensors").rename(path / "pytorch_model.bin")

    refused = why("pickled", pickled)
    assert refused.code == "model_refused"
    assert "pickle" in refused.why
    assert "safe_serialization=True" in refused.hint
    assert "missing" in why("empty", lambda p: (p / "model.safetensors").unlink()).why
    assert "preprocessor_config.json is missing" in why("half", lambda p: (p / "preprocessor_config.json").unlink()).why
    assert "unusable" in why("short", lambda p: put(p / "model.safetensors", safetensors()[:-3])).why


def test_a_pickled_detector_stays_refused(tmp_path: Path) -> None:
    looked = look(put(tmp_path / "face_yolov8n.pt", b"\x80\x02x."))
    assert isinstance(looked, Broken)
    assert looked.code == "model_refused"
    assert "safetensors" in looked.hint


def test_a_detector_that_wants_words_is_none_of_ours(tmp_path: Path) -> None:
    looked = look(folder(tmp_path / "dino", "GroundingDinoForObjectDetection"))
    assert isinstance(looked, NotThisKind)
    assert "in words" in looked.why
    unready = look(folder(tmp_path / "pro", "DepthProForDepthEstimation"))
    assert isinstance(unready, NotThisKind)
    assert "cannot prepare" in unready.why
    other = look(folder(tmp_path / "text", "LlamaForCausalLM"))
    assert isinstance(other, NotThisKind)
    assert "transformers folder" in other.why


@pytest.mark.parametrize(
    ("out", "properties", "layout"),
    [
        ((1, 84, 8400), {}, "yolo"), ((1, 5, 8400), {}, "yolo"), ((1, 6, 8400), NAMES, "yolo"),
        ((0, 84, 0), NAMES, "yolo"), ((0, 0, 0), NAMES, "yolo"), ((1, 300, 6), {}, "yolo-end"),
        ((1, 300, 6), NAMES, "yolo-end"), ((1, 1000), {}, ""), ((1, 84, 20, 20), {}, ""), ((0, 0, 0), {}, ""),
        ((1, 84, 8400), {"task": "classify"}, ""), ((2, 84, 8400), {}, ""), ((1, 25200, 85), {}, ""),
        ((1, 640, 640), {}, "depth"),
    ],
)  # fmt: skip
def test_boxes_are_told_by_the_shape_of_the_output(
    out: tuple[int, ...], properties: dict[str, str], layout: str
) -> None:  # fmt: skip
    found = told_of(PICTURE, {"output0": out}, properties)
    assert (found.layout if found is not None else "") == layout
    if found is not None and properties == NAMES:
        assert found.classes == {0: "face", 1: 'left "hand"'}


def test_a_segmenting_yolo_is_a_detector_too() -> None:
    outs = {"output0": (1, 38, 8400), "output1": (1, 32, 160, 160)}
    found = told_of(PICTURE, outs, {"names": "{0: 'face', 1: 'hand'}", "task": "segment"})
    assert found is not None
    assert found.layout == "yolo"


def test_yunet_is_told_by_the_names_of_its_outputs() -> None:
    outs = {f"{part}_{stride}": (1, 6400, 1) for part in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)}
    found = told_of({"input": (1, 3, 640, 640)}, outs, {})
    assert found is not None
    assert (found.layout, found.classes) == ("yunet", {0: "face"})


def test_a_map_is_depth_where_something_says_so_and_else_a_mask(tmp_path: Path) -> None:
    data = picture_onnx((1, 3, 518, 518), (1, 1, 518, 518))
    assert card(look(put(tmp_path / "cut.onnx", data))).kind == "cutout"
    made = card(look(put(tmp_path / "depth_anything_v2_vits.onnx", data)))
    assert (made.kind, made.family, made.limits.width) == ("depth", "depth", 518)
    assert card(look(put(tmp_path / "zoedepth.onnx", data))).family == "depth-metric"
    assert card(look(put(tmp_path / "any.onnx", picture_onnx((1, 3, 64, 64), (1, 64, 64))))).kind == "depth"


def test_an_onnx_detector_tells_what_it_finds(tmp_path: Path) -> None:
    data = with_properties(picture_onnx((1, 3, 640, 640), (1, 6, 8400)), names="{0: 'face', 1: 'hand'}", task="detect")
    made = card(look(put(tmp_path / "faces.onnx", data)))
    assert (made.kind, made.family, made.format, made.notes) == ("detector", "yolo", "onnx", ("finds face, hand",))
    assert (made.limits.width, made.limits.height) == (640, 640)
    assert isinstance(look(put(tmp_path / "half.onnx", data[:-3])), Broken)


def test_texts_of_a_file_are_read_within_bounds(tmp_path: Path) -> None:
    shape = picture_onnx((1, 3, 640, 640), (1, 84, 8400))
    huge = with_properties(shape, names="{0: '" + "x" * 500_000 + "'}")
    assert card(look(put(tmp_path / "a.onnx", huge))).notes == ("its file does not name what it finds",)
    many = with_properties(shape, **{f"k{i}": "v" for i in range(5_000)})
    assert card(look(put(tmp_path / "b.onnx", many))).kind == "detector"
    liar = shape + varint(14 << 3 | 2) + varint(1 << 40)
    assert isinstance(look(put(tmp_path / "c.onnx", liar)), Broken)
    evil = with_properties(shape, names="{0: 'a', 1: __import__('os').abort(), 2: 'c'}")
    assert card(look(put(tmp_path / "d.onnx", evil))).notes == ("finds a, c",)
