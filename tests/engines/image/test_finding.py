"""Detectors: boxes where things are, of whatever shape the picture is; the same as the library's own call gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.core.pictures import Detail
from studio.core.problems import BadRecipe, EngineMissing, ModelBroken, ModelMissing, ModelRefused
from studio.engines.context import JobCancelled
from studio.engines.image import finding
from studio.engines.image.finding import Found
from tests.engines.image import seeing, tiny

RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def scene(size: tuple[int, int], *spots: tuple[tuple[int, int, int], tuple[int, int, int, int]]) -> Image.Image:
    picture = Image.new("RGB", size, (90, 90, 90))
    for colour, box in spots:
        picture.paste(colour, box)
    return picture


def near(found: Found, box: tuple[int, int, int, int], within: float) -> bool:
    return all(abs(a - b) <= within for a, b in zip(found.box, box, strict=True))


def opened(path: Path, around: tiny.Around, kind: str = "detector") -> finding.Detector:
    return finding.open_detector(seeing.card_of(path, kind), "cpu", 1, around.ctx)


@pytest.mark.parametrize("end", [False, True], ids=["yolo", "end-to-end"])
def test_a_yolo_finds_each_thing_once_with_its_name_and_place(end: bool, around: tiny.Around, tmp_path: Path) -> None:
    detector = opened(seeing.save_yolo(tmp_path / "yolo.onnx", end=end), around)
    assert detector.classes == seeing.NAMES
    picture = scene((64, 64), (RED, (10, 12, 30, 40)), (GREEN, (40, 8, 60, 20)))
    face, hand = detector.find(picture, 0.3, around.ctx)
    assert (face.label, hand.label) == ("face", "hand")
    assert (face.score, hand.score) == pytest.approx((0.9, 0.8))
    assert near(face, (10, 12, 30, 40), 0.01)
    assert near(hand, (40, 8, 60, 20), 0.01)
    assert [each.label for each in detector.find(picture, 0.85, around.ctx)] == ["face"]
    assert detector.find(scene((64, 64)), 0.3, around.ctx) == []


@pytest.mark.parametrize("size", [(256, 128), (96, 192), (40, 40)])
def test_boxes_are_in_the_pixels_of_the_picture_whatever_its_shape(
    size: tuple[int, int], around: tiny.Around, tmp_path: Path
) -> None:
    wide, high = size
    box = (wide // 8, high // 4, wide // 2, high // 2)
    (face,) = opened(seeing.save_yolo(tmp_path / "yolo.onnx"), around).find(scene(size, (RED, box)), 0.3, around.ctx)
    assert near(face, box, max(size) / seeing.SIDE)


def test_yunet_sees_blue_first_and_from_0_to_255(around: tiny.Around, tmp_path: Path) -> None:
    detector = opened(seeing.save_yunet(tmp_path / "face_detection_yunet.onnx"), around)
    found = detector.find(scene((64, 64), (BLUE, (24, 16, 32, 24)), (RED, (48, 48, 56, 56))), 0.5, around.ctx)
    assert [(each.label, each.box) for each in found] == [("face", (24.0, 16.0, 32.0, 24.0))]
    (wide,) = detector.find(scene((128, 64), (BLUE, (48, 32, 64, 48))), 0.5, around.ctx)
    assert near(wide, (48, 32, 64, 48), 0.01)


@pytest.mark.parametrize("save", [seeing.save_yolos, seeing.save_rt_detr], ids=["yolos", "rt-detr"])
def test_a_folder_of_transformers_finds_what_the_library_finds(
    save: Callable[[Path], Path], around: tiny.Around, tmp_path: Path
) -> None:
    import torch
    import transformers

    folder = save(tmp_path / "Finder")
    torch.set_num_threads(1)
    picture = scene((80, 60), (RED, (10, 10, 30, 40)))
    found = opened(folder, around).find(picture, 0.05, around.ctx)
    assert found
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, backend="pil")
    network = transformers.AutoModelForObjectDetection.from_pretrained(
        str(folder), local_files_only=True, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        out = network(**processor(images=picture, return_tensors="pt"))
        expected = processor.post_process_object_detection(out, threshold=0.05, target_sizes=[(60, 80)])[0]
    scores = expected["scores"].numpy()
    kept = [
        box for box in np.clip(expected["boxes"].numpy(), 0, (80, 60, 80, 60)) if box[2] > box[0] and box[3] > box[1]
    ]
    assert len(found) == len(kept)
    assert found[0].score == pytest.approx(float(scores.max()))
    assert any(near(found[0], tuple(box), 1e-3) for box in kept)
    names = set(network.config.id2label.values())
    assert {each.label for each in found} <= names


def test_what_a_detail_keeps_and_in_which_order() -> None:
    left, right = Found((0, 0, 10, 10), 0.5, "face"), Found((50, 0, 90, 40), 0.6, "face")
    hand = Found((20, 0, 24, 4), 0.9, "hand")
    found, classes = [hand, right, left], {0: "face", 1: "hand"}

    def kept(**more: object) -> list[Found]:
        return finding.chosen(found, Detail("d", **more), classes)  # type: ignore[arg-type]

    assert kept() == [left, hand, right]
    assert kept(order="largest") == [right, left, hand]
    assert kept(order="surest") == [hand, right, left]
    assert kept(most=2) == [hand, right]
    assert kept(classes="Face") == [left, right]
    assert kept(classes="1; face", most=2) == [hand, right]
    with pytest.raises(BadRecipe, match="nose") as raised:
        kept(classes="face, nose")
    assert raised.value.problem.field == "details"
    assert "face, hand" in raised.value.problem.hint
    assert finding.chosen([Found((0, 0, 1, 1), 1, "7")], Detail("d", classes="7"), {}), "of one that names nothing"


def test_a_mask_is_the_box_grown_and_cut_at_the_edges() -> None:
    mask = finding.mask_of((10.4, 2.0, 20.2, 12.0), 4, (64, 32))
    assert mask is not None
    assert (mask.size, mask.mode, mask.getbbox()) == ((64, 32), "L", (6, 0, 25, 16))
    assert set(mask.tobytes()) == {0, 255}
    assert finding.mask_of((10, 10, 16, 16), -3, (64, 64)) is None
    assert finding.mask_of((80, 10, 90, 16), 4, (64, 64)) is None


def test_models_that_cannot_be_opened_say_so(
    around: tiny.Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = seeing.save_yolo(tmp_path / "yolo.onnx")
    card = seeing.card_of(path, "detector")
    path.write_bytes(path.read_bytes()[:-40] + b"\xff" * 40)
    with pytest.raises(ModelBroken, match="yolo"):
        finding.open_detector(card, "cpu", 1, around.ctx)
    path.unlink()
    with pytest.raises(ModelMissing):
        finding.open_detector(card, "cpu", 1, around.ctx)
    folder = seeing.save_yolos(tmp_path / "Finder")
    card = seeing.card_of(folder, "detector")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace("{", '{"auto_map": {"A": "b.C"},', 1))
    with pytest.raises(ModelRefused, match="run code"):
        finding.open_detector(card, "cpu", 1, around.ctx)
    (folder / "config.json").write_text(config)
    import transformers

    def lacking(*_: object, **__: object) -> None:
        raise ImportError("\nTimmBackbone requires the timm library but it was not found.\n")

    monkeypatch.setattr(transformers.YolosForObjectDetection, "from_pretrained", lacking)
    with pytest.raises(EngineMissing, match="the library timm"):
        finding.open_detector(card, "cpu", 1, around.ctx)


def test_looking_ends_when_the_job_is_cancelled(around: tiny.Around, tmp_path: Path) -> None:
    yolo = opened(seeing.save_yolo(tmp_path / "yolo.onnx"), around)
    folder = opened(seeing.save_yolos(tmp_path / "Finder"), around)
    around.cancelled.set()
    for detector in (yolo, folder):
        with pytest.raises(JobCancelled):
            detector.find(scene((64, 64)), 0.3, around.ctx)
