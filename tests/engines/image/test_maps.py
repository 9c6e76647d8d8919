"""Control pictures by models: near is white, people are drawn as OpenPose draws them, and models are loaded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.core.problems import BadResult, ModelUnfit, OutOfMemory
from studio.engines.image import finding, maps
from studio.engines.image.maps import Sight
from tests.engines.image import seeing, tiny


def slope(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """Dark on the left, light on the right."""
    row = np.linspace(20, 230, size[0]).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(row, (size[1], size[0])).copy()).convert("RGB")


@pytest.mark.parametrize("flat", [True, False])
def test_an_onnx_depth_model_makes_near_white_and_far_black(flat: bool, around: tiny.Around, tmp_path: Path) -> None:
    card = seeing.card_of(seeing.save_depth(tmp_path / "depth_small.onnx", flat=flat), "depth")
    made = Sight("cpu").control_picture("depth", slope(), card, None, around.ctx)
    assert (made.size, made.mode) == ((64, 48), "RGB")
    values = np.asarray(made)[:, :, 0]
    assert values.min() == 0
    assert values.max() == 255
    assert (np.diff(values[24].astype(int)) >= 0).all(), "it follows the picture"
    assert (np.asarray(made)[:, :, 0] == np.asarray(made)[:, :, 2]).all()


def test_a_depth_model_of_transformers_gives_what_the_library_gives(around: tiny.Around, tmp_path: Path) -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    folder = seeing.save_dpt(tmp_path / "Depth")
    picture = slope()
    made = Sight("cpu").control_picture("depth", picture, seeing.card_of(folder, "depth"), None, around.ctx)
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, backend="pil")
    network = transformers.AutoModelForDepthEstimation.from_pretrained(
        str(folder), local_files_only=True, attn_implementation="eager"
    ).eval()
    with torch.inference_mode():
        out = network(**processor(images=picture, return_tensors="pt"))
        depth = processor.post_process_depth_estimation(out, target_sizes=[(48, 64)])[0]["predicted_depth"].numpy()
    expected = np.rint((depth - depth.min()) / (depth.max() - depth.min()) * 255).astype(np.uint8)
    assert expected.std() > 1, "the tiny model sees something"
    assert (np.asarray(made)[:, :, 0] == expected).all()


def test_distances_are_turned_around_and_what_is_flat_is_black() -> None:
    distances = np.linspace(1, 10, 100, dtype=np.float32).reshape(10, 10)
    made = np.asarray(maps.depth_picture(distances, is_metric=True))[:, :, 0]
    assert made[0, 0] == 255
    assert made[-1, -1] == 0
    assert np.asarray(maps.depth_picture(distances, is_metric=False))[0, 0, 0] == 0
    assert not np.asarray(maps.depth_picture(np.ones((4, 4), np.float32), is_metric=False)).any()
    with pytest.raises(BadResult):
        maps.depth_picture(np.full((4, 4), np.nan, np.float32), is_metric=False)


def standing() -> np.ndarray:
    """COCO's 17 points of somebody who stands in 64×64 px and faces us, so that their left is on our right."""
    return np.array(
        [(32, 8), (34, 6), (30, 6), (36, 7), (28, 7), (40, 18), (24, 18), (44, 28), (20, 28), (46, 38), (18, 38),
         (37, 38), (27, 38), (38, 48), (26, 48), (38, 60), (26, 60)], np.float32,
    )  # fmt: skip


def test_people_are_drawn_in_the_points_and_hues_of_openpose() -> None:
    person = maps.openpose(standing(), np.ones(17, np.float32))
    assert person[1] == (32, 18), "the neck lies between the shoulders"
    assert person[2] == (24, 18), "their right shoulder comes first"
    assert person[14] == (30, 6), "and their right eye"
    picture = maps.pose_picture([person], (64, 64))
    hues = {0: (255, 0, 0), 1: (255, 85, 0), 4: (170, 255, 0), 7: (0, 255, 85), 10: (0, 170, 255)}
    for number, hue in hues.items():
        point = person[number]
        assert point is not None
        assert picture.getpixel((round(point[0]), round(point[1]))) == hue, number
    assert picture.getpixel((2, 2)) == (0, 0, 0)
    # between neck and right shoulder, the first limb, in a darker red
    assert picture.getpixel((28, 18)) == (153, 0, 0)


def test_points_that_are_not_seen_are_not_drawn() -> None:
    scores = np.ones(17, np.float32)
    scores[5] = 0.1  # the left shoulder, and with it the neck
    person = maps.openpose(standing(), scores)
    assert person[1] is None
    assert person[5] is None
    assert person[2] is not None
    assert maps.pose_picture([[None] * 18], (32, 32)).getbbox() is None


def test_poses_are_those_of_the_library_for_each_person_found(around: tiny.Around, tmp_path: Path) -> None:
    import torch
    import transformers

    torch.set_num_threads(1)
    folder = seeing.save_vitpose(tmp_path / "Pose")
    card = seeing.card_of(folder, "pose")
    picture = slope((96, 64))
    picture.paste((250, 10, 10), (8, 8, 40, 56))
    yolo = seeing.card_of(seeing.save_yolo(tmp_path / "people.onnx"), "detector")
    (found,) = finding.open_detector(yolo, "cpu", 1, around.ctx).find(picture, 0.3, around.ctx)
    processor = transformers.AutoImageProcessor.from_pretrained(str(folder), local_files_only=True, backend="pil")
    network = transformers.VitPoseForPoseEstimation.from_pretrained(
        str(folder), local_files_only=True, attn_implementation="eager"
    ).eval()

    def expected(left: float, top: float, right: float, bottom: float) -> Image.Image:
        boxes = [[[left, top, right - left, bottom - top]]]
        with torch.inference_mode():
            out = network(**processor(images=picture, boxes=boxes, return_tensors="pt"))
            (one,) = processor.post_process_pose_estimation(out, boxes=boxes)[0]
        assert float(one["scores"].max()) > maps.POINT_CONFIDENCE, "the tiny model sees something"
        return maps.pose_picture([maps.openpose(one["keypoints"].numpy(), one["scores"].numpy())], picture.size)

    sight = Sight("cpu")
    alone = sight.control_picture("pose", picture, card, None, around.ctx)
    assert alone.tobytes() == expected(0, 0, 96, 64).tobytes()
    with_people = sight.control_picture("pose", picture, card, yolo, around.ctx)
    assert with_people.tobytes() == expected(*found.box).tobytes()
    assert with_people.tobytes() != alone.tobytes()
    empty = sight.control_picture("pose", slope((96, 64)), card, yolo, around.ctx)
    assert empty.size == (96, 64)
    assert any("found nobody" in note for note in around.ctx.notes)


def test_a_pose_model_of_other_points_is_refused(around: tiny.Around, tmp_path: Path) -> None:
    card = seeing.card_of(seeing.save_vitpose(tmp_path / "Hand", points=9), "pose")
    with pytest.raises(ModelUnfit, match="17 points"):
        Sight("cpu").control_picture("pose", slope(), card, None, around.ctx)


def test_models_are_loaded_once_and_one_is_kept(
    around: tiny.Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seeing.card_of(seeing.save_yolo(tmp_path / "one.onnx"), "detector")
    second = seeing.card_of(seeing.save_yolo(tmp_path / "two.onnx", end=True), "detector")
    opened: list[str] = []
    original = finding.open_detector

    def counted(card, *more):  # type: ignore[no-untyped-def]
        opened.append(card.name)
        return original(card, *more)

    monkeypatch.setattr(finding, "open_detector", counted)
    sight = Sight("cpu")

    def look(*cards: object) -> None:
        sight.want([card.id for card in cards])  # type: ignore[attr-defined]
        for card in cards:
            sight.find(card, slope(), 0.3, around.ctx)  # type: ignore[arg-type]

    look(first)
    look()  # a job without details
    look(first)
    assert opened == ["one"]
    look(first, second)
    look(second)
    look(second, first)
    assert opened == ["one", "two"]
    look(second, first)
    look()
    look(first)
    assert opened == ["one", "two"], "the last one used is kept"
    look(second)
    assert opened == ["one", "two", "two"], "and only that one"
    sight.drop()
    look(second)
    assert opened[-1] == "two"
    assert len(opened) == 4


def test_the_same_control_picture_is_not_made_twice(
    around: tiny.Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = seeing.card_of(seeing.save_depth(tmp_path / "depth.onnx"), "depth")
    looked: list[int] = []
    original = maps.OnnxDepth.look

    def counted(self, picture, ctx):  # type: ignore[no-untyped-def]
        looked.append(1)
        return original(self, picture, ctx)

    monkeypatch.setattr(maps.OnnxDepth, "look", counted)
    sight = Sight("cpu")
    one = sight.control_picture("depth", slope(), card, None, around.ctx)
    assert sight.control_picture("depth", slope(), card, None, around.ctx).tobytes() == one.tobytes()
    assert len(looked) == 1
    sight.control_picture("depth", slope().rotate(180), card, None, around.ctx)
    assert len(looked) == 2


def test_where_the_card_is_too_small_the_processor_looks(
    around: tiny.Around, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = seeing.card_of(seeing.save_yolos(tmp_path / "Finder"), "detector")
    devices: list[str] = []
    original = finding.FolderDetector

    def small(card, device):  # type: ignore[no-untyped-def]
        devices.append(device)
        if device != "cpu":
            raise OutOfMemory("Memory ran out.")
        return original(card, device)

    monkeypatch.setattr(finding, "FolderDetector", small)
    assert Sight("cuda:0").find(card, slope(), 0.0, around.ctx)
    assert devices == ["cuda:0", "cpu"]
