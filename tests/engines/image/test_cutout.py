"""Cutting out: whatever mask a graph gives becomes the picture's opacity, at the picture's own size."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageFilter

from studio.core.cards import ModelCard
from studio.core.events import Loading, Log, Progress
from studio.core.plans import Plan
from studio.core.problems import BadResult, ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.core.recipes import CutoutRecipe
from studio.engines.context import JobCancelled, RunContext
from studio.engines.image import cutout
from studio.engines.image.cutout import CENTRED, HALVED, IMAGENET, Cutout, Preparation, as_mask, edged, preparation_of
from studio.library.carried import recipe_in
from tests.engines.image import tiny

LUMINANCE = (0.299, 0.587, 0.114)


def graph(
    path: Path,
    side: Any = 64,
    *,
    weights: tuple[float, ...] = LUMINANCE,
    offset: float = 0.5,
    dtype: int = TensorProto.FLOAT,
    channels: int = 1,
    texts: dict[str, str] | None = None,
    loops: int = 0,
) -> Path:
    """A network whose mask is a weighted sum of the colours plus an offset; `loops` makes it slow."""
    numbers = np.tile(np.array(weights, np.float32).reshape(1, 3, 1, 1), (channels, 1, 1, 1))
    kind = np.float16 if dtype == TensorProto.FLOAT16 else np.float32
    nodes = [
        helper.make_node("Conv", ["picture", "weights", "offset"], ["sum"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["sum"], ["mask"]) if not loops else None,
    ]
    last = "sum"
    for i in range(loops):
        nodes.append(helper.make_node("Sin", [last], [f"s{i}"]))
        last = f"s{i}"
    if loops:
        nodes.append(helper.make_node("Relu", [last], ["mask"]))
    made = helper.make_graph(
        [node for node in nodes if node is not None],
        "tiny",
        [helper.make_tensor_value_info("picture", dtype, [1, 3, side, side])],
        [helper.make_tensor_value_info("mask", dtype, [1, channels, side, side])],
        [
            numpy_helper.from_array(numbers.astype(kind), "weights"),
            numpy_helper.from_array(np.full(channels, offset, kind), "offset"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, texts or {})
    onnx.save(model, str(path))
    return path


def card(path: Path, **more: Any) -> ModelCard:
    return ModelCard(id="cut", name="Tiny", kind="cutout", engine="image.cutout", path=str(path), format="onnx", **more)


def halves(size: tuple[int, int] = (200, 120)) -> Image.Image:
    """Black on the left, white on the right."""
    picture = Image.new("RGB", size, "black")
    picture.paste("white", (size[0] // 2, 0, *size))
    return picture


class Desk(tiny.Around):
    def __init__(self, folder: Path, path: Path, picture: Image.Image, **more: Any) -> None:
        super().__init__(folder)
        (folder / "inputs").mkdir(exist_ok=True)
        picture.save(folder / "inputs" / "in.png")
        self.ctx = RunContext("job", self.out, folder, self._take, self.cancelled, inputs=folder / "inputs")
        self.engine = Cutout()
        self.engine.load(card(path, **more), Plan(device="cpu", threads=1), self.ctx)

    def run(self, **values: Any) -> Image.Image:
        self.result = self.engine.run(CutoutRecipe(image="in.png", model="cut", **values), self.ctx)
        with Image.open(self.out / "0.png") as made:
            made.load()
            return made


def test_the_mask_becomes_the_opacity_and_the_colours_stay(tmp_path: Path) -> None:
    picture = halves()
    desk = Desk(tmp_path, graph(tmp_path / "m.onnx"), picture)
    made = desk.run()
    assert (made.mode, made.size) == ("RGBA", (200, 120))
    assert made.convert("RGB").tobytes() == picture.tobytes()
    alpha = np.asarray(made)[..., 3]
    assert alpha[:, :94].max() <= 3
    assert alpha[:, 106:].min() >= 252
    assert desk.result.artifacts[0].meta == {"width": 200, "height": 120}
    with open(desk.out / "0.png", "rb") as stream:
        carried = recipe_in(stream)
    assert carried == CutoutRecipe(image="in.png", model="cut", made_with=desk.result.made_with)
    assert desk.result.made_with.engine == "image.cutout"
    assert "onnxruntime" in desk.result.made_with.versions


def test_every_colour_gets_to_its_own_place(tmp_path: Path) -> None:
    """The channels are in order and scaled as said: a graph that looks at blue alone sees blue."""
    picture = Image.new("RGB", (90, 60), (255, 0, 0))
    picture.paste((0, 255, 0), (30, 0, 60, 60))
    picture.paste((0, 0, 255), (60, 0, 90, 60))
    path = graph(tmp_path / "m.onnx", weights=(0.0, 0.0, 1.0))
    alpha = np.asarray(Desk(tmp_path, path, picture).run())[30, :, 3]
    assert (alpha[10], alpha[45], alpha[80]) == (0, 0, 255)


@pytest.mark.parametrize("side", [32, 100, "any", None])
def test_the_graph_says_how_large_its_picture_is(tmp_path: Path, side: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutout, "USUAL_SIDE", 48)
    desk = Desk(tmp_path, graph(tmp_path / "m.onnx", side), halves())
    assert desk.engine._side == ((side, side) if isinstance(side, int) else (48, 48))
    assert desk.run().size == (200, 120)


def test_half_precision_is_fed_as_such(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx", dtype=TensorProto.FLOAT16)
    alpha = np.asarray(Desk(tmp_path, path, halves()).run())[..., 3]
    assert (alpha[60, 20], alpha[60, 180]) == (0, 255)


@pytest.mark.parametrize(
    ("known", "texts", "wanted"),
    [
        ({}, {}, CENTRED),
        ({"family": "isnet"}, {}, CENTRED),
        ({"family": "u2net"}, {}, IMAGENET),
        ({"notes": ("a U-2-Net for people",)}, {}, IMAGENET),
        ({"notes": ("RMBG-1.4",)}, {}, CENTRED),
        ({"notes": ("RMBG 2.0",)}, {}, IMAGENET),
        ({"family": "BiRefNet"}, {}, IMAGENET),
        ({"family": "rmbg"}, {}, CENTRED),
        ({"family": "rmbg", "notes": ("rmbg-2.0",)}, {}, IMAGENET),
        ({"family": "modnet"}, {}, HALVED),
        ({}, {"architecture": "u2netp"}, IMAGENET),
        ({}, {"mean": "[0.1, 0.2, 0.3]", "std": "0.5, 0.5, 0.5"}, Preparation((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))),
        ({"family": "u2net"}, {"mean": "[0.1, 0.2]", "std": "0"}, IMAGENET),
        ({"family": "u2net"}, {"mean": "[1,2,3]", "std": "[0,1,1]"}, IMAGENET),
        ({"family": "u2net"}, {"mean": "[" * 5000, "std": "x"}, IMAGENET),
    ],
)
def test_a_picture_is_prepared_as_the_model_learned_to_see_it(known: Any, texts: Any, wanted: Preparation) -> None:
    assert preparation_of(card(Path("models/x.onnx"), **known), texts) == wanted


def test_what_the_file_says_of_its_preparation_is_used(tmp_path: Path) -> None:
    """With this mean and spread white becomes 2 and black −2: through the logistic function, not clipped."""
    path = graph(tmp_path / "m.onnx", offset=0.0, texts={"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25"})
    desk = Desk(tmp_path, path, halves())
    seen: list[np.ndarray] = []
    real = cutout.prepared
    try:
        cutout.prepared = lambda *a: seen.append(real(*a)) or seen[-1]  # type: ignore[assignment,func-returns-value]
        desk.run()
    finally:
        cutout.prepared = real
    np.testing.assert_allclose((seen[0].min(), seen[0].max()), (-2, 2), atol=1e-5)
    assert seen[0].shape == (1, 3, 64, 64)


def test_an_output_becomes_a_mask() -> None:
    ramp = np.linspace(0.2, 0.9, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    assert np.asarray(as_mask(ramp)).ravel()[[0, 15]].tolist() == [0, 255]
    logits = np.array([[-9.0, 0.0, 9.0]], np.float32)
    assert np.asarray(as_mask(logits)).tolist() == [[0, 128, 255]]
    nothing = np.linspace(0, 0.05, 16, dtype=np.float32).reshape(4, 4)
    assert np.asarray(as_mask(nothing)).max() <= 13, "noise stays noise"
    everything = np.full((1, 4, 4), 0.99, np.float32)
    assert np.asarray(as_mask(everything)).min() > 250
    with pytest.raises(BadResult):
        as_mask(np.full((2, 2), np.nan))
    for shape in ((1, 2, 4, 4), (4,), ()):
        with pytest.raises(ModelUnfit):
            as_mask(np.zeros(shape, np.float32))


def test_the_edge_moves_and_softens_by_as_many_pixels_as_asked() -> None:
    mask = Image.new("L", (100, 100), 0)
    mask.paste(255, (30, 30, 70, 70))
    assert edged(mask, 0, 0.0) is mask
    assert edged(mask, 5, 0.0).getbbox() == (35, 35, 65, 65)
    assert edged(mask, -7, 0.0).getbbox() == (23, 23, 77, 77)
    assert edged(mask, 5, 2.0).tobytes() == edged(mask, 5, 0.0).filter(ImageFilter.GaussianBlur(2.0)).tobytes()
    touching = Image.new("L", (40, 40), 255)
    assert edged(touching, 8, 0.0).getextrema() == (255, 255), "the picture's own edge is none"


def test_what_was_see_through_stays_so(tmp_path: Path) -> None:
    picture = halves().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 255))
    picture.paste((255, 255, 255, 0), (150, 0, 200, 120))
    alpha = np.asarray(Desk(tmp_path, graph(tmp_path / "m.onnx"), picture).run())[..., 3]
    assert alpha[60, 125] == 255
    assert alpha[:, 152:].max() == 0


def test_a_picture_in_which_nothing_is_found_is_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, graph(tmp_path / "m.onnx"), Image.new("RGB", (40, 30), "black"))
    assert desk.run().getchannel("A").getextrema() == (0, 0)
    assert "nothing to keep" in desk.of(Log)[0].text


def test_the_same_recipe_gives_the_same_file_and_progress_goes_forward(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx")
    digests = set()
    for name in ("one", "two"):
        desk = Desk(tmp_path / name, path, halves())
        desk.run(soften=1.5, shrink=2)
        digests.add(desk.result.artifacts[0].sha256)
        assert [e.done for e in desk.of(Progress)] == [1, 2, 3, 4]
    assert len(digests) == 1


def test_a_cancel_stops_a_network_at_work_and_it_stays_good(tmp_path: Path) -> None:
    desk = Desk(tmp_path, graph(tmp_path / "m.onnx", 512, loops=1500), halves())
    threading.Timer(0.1, desk.cancelled.set).start()
    with pytest.raises(JobCancelled):
        desk.run()
    assert [e.done for e in desk.of(Progress)] == [1], "it was at work, and did not finish"
    other = Desk(tmp_path, graph(tmp_path / "quick.onnx"), halves())
    other.cancelled.set()
    with pytest.raises(JobCancelled):
        other.run()
    assert len(other.of(Progress)) == 0
    other.cancelled.clear()
    assert other.run().size == (200, 120)


def test_a_loaded_model_stays(tmp_path: Path) -> None:
    path = graph(tmp_path / "m.onnx")
    desk = Desk(tmp_path, path, halves())
    count = len(desk.of(Loading))
    desk.engine.load(card(path), Plan(device="cpu", threads=1), desk.ctx)
    assert len(desk.of(Loading)) == count
    desk.engine.unload()
    with pytest.raises(ModelMissing):
        desk.run()


def test_what_is_no_cut_out_model_is_told(tmp_path: Path) -> None:
    def load(path: Path) -> None:
        Cutout().load(card(path), Plan(threads=1), tiny.Around(tmp_path).ctx)

    with pytest.raises(ModelMissing):
        load(tmp_path / "gone.onnx")
    (tmp_path / "x.pth").write_bytes(b"x")
    with pytest.raises(ModelRefused):
        load(tmp_path / "x.pth")
    for content in (b"", b"nonsense" * 100, graph(tmp_path / "m.onnx").read_bytes()[:150]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises((ModelBroken, ModelUnfit)):
            load(tmp_path / "bad.onnx")
    with pytest.raises(ModelUnfit, match="more than makes sense"):
        load(graph(tmp_path / "huge.onnx", 100_000))
    two = Desk(tmp_path, graph(tmp_path / "two.onnx", channels=2), halves())
    with pytest.raises(ModelUnfit, match="not one mask"):
        two.run()
