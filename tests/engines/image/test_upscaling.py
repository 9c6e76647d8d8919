"""Upscalers give what bare spandrel gives, in one piece or in tiles, and say what they cannot do."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from studio.core.cards import ModelCard
from studio.core.events import Loading, Log, Progress
from studio.core.plans import Plan
from studio.core.problems import (
    BadRecipe,
    BadResult,
    EngineMissing,
    ModelBroken,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
    OutOfMemory,
)
from studio.core.recipes import UpscaleRecipe
from studio.engines.context import JobCancelled, RunContext
from studio.engines.image import opening, trouble, upscaling
from studio.engines.image.upscaling import Upscaling, spread
from studio.library.carried import recipe_in
from tests.engines.image import tiny

PLAN = Plan(device="cpu", threads=1)


@pytest.fixture(scope="session")
def spandrel() -> Any:
    try:
        return upscaling.load_spandrel()
    except EngineMissing:
        pytest.skip("spandrel is not installed")


def a_picture(size: tuple[int, int] = (48, 40), mode: str = "RGB", seed: int = 1) -> Image.Image:
    """Soft noise: something in every place, and nothing that a small error would blow up."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, len(mode)), np.uint8)
    picture = Image.fromarray(noise.squeeze(), mode).resize(size, Image.Resampling.BICUBIC)
    return picture.filter(ImageFilter.GaussianBlur(1))


@pytest.fixture(scope="session")
def file_of(spandrel: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The weights of a tiny random network: "esrgan", "compact" or "span", with a scale and channels."""
    import torch
    from safetensors.torch import save_file

    home, made = tmp_path_factory.mktemp("upscalers"), dict[Any, Path]()

    def get(family: str = "esrgan", scale: int = 4, channels: int = 3) -> Path:
        key = family, scale, channels
        if key in made:
            return made[key]
        with torch.random.fork_rng():
            torch.manual_seed(5)
            if family == "esrgan":
                from spandrel.architectures.ESRGAN import ESRGAN

                model = ESRGAN(in_nc=channels, out_nc=channels, num_filters=8, num_blocks=2, scale=scale, plus=False)
            elif family == "compact":
                from spandrel.architectures.Compact import Compact

                model = Compact(num_in_ch=channels, num_out_ch=channels, num_feat=8, num_conv=2, upscale=scale)
            else:
                from spandrel.architectures.SPAN import SPAN

                model = SPAN(num_in_ch=channels, num_out_ch=channels, feature_channels=8, upscale=scale)
        made[key] = home / f"{family}-{scale}-{channels}.safetensors"
        save_file({k: v.clone().contiguous() for k, v in model.state_dict().items()}, made[key])
        return made[key]

    return get


def card(path: Path) -> ModelCard:
    return ModelCard(id="up", name="Tiny", kind="upscale", engine="image.upscale", path=str(path), format="safetensors")


class Bench(tiny.Around):
    """An upscaler with a picture to enlarge."""

    def __init__(self, folder: Path, path: Path, picture: Image.Image, **more: Any) -> None:
        super().__init__(folder, **more)
        folder.joinpath("inputs").mkdir(exist_ok=True)
        picture.save(folder / "inputs" / "in.png")
        self.ctx = RunContext("job", self.out, folder, self._take, self.cancelled, inputs=folder / "inputs")
        self.engine = Upscaling()
        self.engine.load(card(path), PLAN, self.ctx)

    def run(self, **values: Any) -> Image.Image:
        self.result = self.engine.run(UpscaleRecipe(image="in.png", model="up", **values), self.ctx)
        with Image.open(self.out / "0.png") as made:
            made.load()
            return made

    @property
    def notes(self) -> list[str]:
        return [event.text for event in self.of(Log)]


def bare(spandrel: Any, path: Path, picture: Image.Image) -> np.ndarray:
    """The same by plain spandrel."""
    import torch

    torch.set_num_threads(1)
    model = spandrel.ModelLoader(device="cpu").load_from_file(path)
    given = np.asarray(picture)
    given = given[..., np.newaxis] if given.ndim == 2 else given
    tensor = torch.from_numpy(given.copy()).permute(2, 0, 1).unsqueeze(0).float() / 255
    out = (model(tensor)[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return out.squeeze() if given.shape[2] == 1 else out


# -- the same as bare spandrel


@pytest.mark.parametrize(("family", "scale"), [("esrgan", 4), ("esrgan", 2), ("compact", 2), ("span", 4)])
def test_a_picture_in_one_piece_is_the_same_as_from_bare_spandrel(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path, family: str, scale: int
) -> None:
    path, picture = file_of(family, scale), a_picture()
    bench = Bench(tmp_path, path, picture)
    made = bench.run(factor=float(scale))
    assert np.array_equal(np.asarray(made), bare(spandrel, path, picture))
    assert bench.result.artifacts[0].meta == {"width": 48 * scale, "height": 40 * scale}
    assert [a.role for a in bench.result.artifacts] == ["master", "thumbnail"]
    assert np.asarray(made).std() > 1, "it shows something"


def test_a_network_with_four_channels_gets_the_opacity_too(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path, picture = file_of("compact", 2, 4), a_picture(mode="RGBA")
    made = Bench(tmp_path, path, picture).run(factor=2.0)
    assert made.mode == "RGBA"
    assert np.array_equal(np.asarray(made), bare(spandrel, path, picture))


def test_a_network_with_four_channels_takes_a_picture_without_opacity(
    file_of: Callable[..., Path], tmp_path: Path
) -> None:
    made = Bench(tmp_path, file_of("compact", 2, 4), a_picture()).run(factor=2.0)
    assert (made.mode, made.size) == ("RGB", (96, 80))


def test_a_network_that_knows_grey_only_gets_the_lightness_and_keeps_the_colours(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path = file_of("compact", 2, 1)
    (tmp_path / "grey").mkdir()
    grey = a_picture(mode="L")
    made = Bench(tmp_path / "grey", path, grey).run(factor=2.0)
    assert np.array_equal(np.asarray(made.convert("L")), bare(spandrel, path, grey))
    red = Image.new("RGB", (40, 40), (200, 60, 60))
    (tmp_path / "red").mkdir()
    made = Bench(tmp_path / "red", path, red).run(factor=2.0)
    wanted = np.asarray(red.convert("YCbCr"))[0, 0, 1:].astype(int)
    seen = np.asarray(made.convert("YCbCr"))[20:60, 20:60, 1:].astype(int)
    assert np.abs(np.median(seen, axis=(0, 1)) - wanted).max() <= 3


def test_opacity_is_enlarged_by_lanczos_where_the_network_has_no_channel_for_it(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path, picture = file_of(), a_picture(mode="RGBA")
    made = Bench(tmp_path, path, picture).run(factor=4.0)
    wanted = picture.getchannel("A").resize(made.size, Image.Resampling.LANCZOS)
    assert made.getchannel("A").tobytes() == wanted.tobytes()
    assert np.array_equal(np.asarray(made.convert("RGB")), bare(spandrel, path, picture.convert("RGB")))


@pytest.mark.parametrize(
    ("factor", "size", "passes"),
    [(1.0, (48, 40), 1), (1.3, (62, 52), 1), (2.0, (96, 80), 1), (3.0, (144, 120), 2), (5.0, (240, 200), 3)],
)
def test_any_factor_comes_out_at_its_exact_size(
    file_of: Callable[..., Path], tmp_path: Path, factor: float, size: tuple[int, int], passes: int
) -> None:
    bench = Bench(tmp_path, file_of("compact", 2), a_picture())
    assert bench.run(factor=factor).size == size
    assert bench.of(Progress)[-1].total == passes == bench.of(Progress)[-1].done


def test_what_is_left_after_the_network_is_done_by_lanczos(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path, picture = file_of("esrgan", 4), a_picture()
    made = Bench(tmp_path, path, picture).run(factor=2.5)
    wanted = Image.fromarray(bare(spandrel, path, picture)).resize((120, 100), Image.Resampling.LANCZOS)
    assert made.tobytes() == wanted.tobytes()


# -- tiles


@pytest.mark.parametrize("side", [64, 96, 128, 200, 512])
@pytest.mark.parametrize("multiple", [1, 8, 16])
def test_tiles_cover_an_axis_and_their_weights_add_up_to_one(side: int, multiple: int) -> None:
    for length in (1, 63, 64, 65, 97, 129, 200, 333, 1000, 1777):
        cells = spread(length, side, multiple)
        total = np.zeros(length)
        for cell in cells:
            assert 0 <= cell.start < cell.end <= length
            total[cell.start : cell.end] += cell.weights()
            if cell.rise is not None:  # what lies near a tile's own edge does not count
                assert cell.weights()[: min(32, side // 4) // 4 - 1].max(initial=0) == 0
        assert len({cell.end - cell.start for cell in cells}) == 1
        assert cells[0].end - cells[0].start <= side + multiple
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_tiles_are_no_larger_than_their_number_asks_for() -> None:
    assert [(c.start, c.end) for c in spread(512, 300)] == [(0, 272), (240, 512)]


@pytest.mark.parametrize("family", ["esrgan", "compact"])
def test_a_picture_in_tiles_is_nearly_the_same_and_has_no_seam(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    path, picture = file_of(family, 2), a_picture((210, 170))
    bench = Bench(tmp_path, path, picture)
    made = np.asarray(bench.run(factor=2.0, tile=96)).astype(int)
    whole = bare(spandrel, path, picture).astype(int)
    assert len({round(e.done, 6) for e in bench.of(Progress)}) > 9, "it was in tiles"
    difference = np.abs(made - whole)
    assert difference.max() <= 2
    assert difference.mean() < 0.05
    # a seam would be a row or column that differs from its neighbours more than rows and columns usually do
    error = (made - whole).mean(axis=2)
    assert np.abs(np.diff(error.mean(axis=0))).max() < 0.2
    assert np.abs(np.diff(error.mean(axis=1))).max() < 0.2


def test_a_network_that_sees_where_its_tile_ends_leaves_a_slope_and_no_step(file_of, tmp_path: Path) -> None:
    """Each tile comes out in a tone of its own: where two meet, one fades into the other."""
    bench = Bench(tmp_path, file_of("compact", 2), Image.new("RGB", (230, 80), "grey"))
    upscaler = bench.engine._upscaler
    tones = iter(np.linspace(0.2, 0.8, 50))

    def through(pixels: np.ndarray) -> np.ndarray:
        high, wide = pixels.shape[:2]
        return np.full((high * 2, wide * 2, 3), next(tones), np.float32)

    upscaler._through = through
    made = np.asarray(bench.run(factor=2.0, tile=96))[..., 0].astype(int)
    steps = np.abs(np.diff(made, axis=1))
    assert made.max() - made.min() >= 6
    assert steps.max() <= 1


def test_memory_decides_on_the_tiles(file_of: Callable[..., Path], tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(tmp_path, file_of("esrgan", 2), a_picture((300, 90)))
    upscaler = bench.engine._upscaler
    assert upscaler._side(300, 90) == 300
    per_pixel = upscaler._per_pixel
    assert 1_000 < per_pixel < 1_000_000
    for free, side in ((0.0, 64), (2 * 130 * 130 * per_pixel, 128), (2 * 512 * 512 * per_pixel, 512)):
        monkeypatch.setattr(trouble, "free_memory", lambda device, free=free: int(free))
        assert upscaler._side(2_000, 2_000) == side
    monkeypatch.setattr(trouble, "free_memory", lambda device: 0)
    assert bench.run(factor=2.0).size == (600, 180)
    assert len({e.done for e in bench.of(Progress)}) > 10


def test_where_memory_runs_out_the_tiles_become_smaller(
    file_of: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    bench = Bench(tmp_path, file_of("compact", 2), a_picture((200, 180)))
    upscaler = bench.engine._upscaler
    through, sides = upscaler._through, []

    def short(pixels: np.ndarray) -> np.ndarray:
        sides.append(max(pixels.shape[:2]))
        if sides[-1] > 100:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return through(pixels)

    monkeypatch.setattr(upscaler, "_through", short)
    made = bench.run(factor=2.0)
    assert made.size == (400, 360)
    assert sides[-1] <= 100
    assert bench.notes == ["Memory ran out, so it was enlarged in tiles of 100 px."]
    again = Bench(tmp_path, file_of("compact", 2), a_picture((200, 180))).run(factor=2.0, tile=100)
    assert made.tobytes() == again.tobytes()


def test_where_not_even_the_smallest_tile_fits_it_says_so(
    file_of: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    bench = Bench(tmp_path, file_of("compact", 2), a_picture((200, 180)))

    def none(pixels: np.ndarray) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(bench.engine._upscaler, "_through", none)
    monkeypatch.setattr(bench.engine._upscaler, "_per_pixel", 1_000.0)
    with pytest.raises(OutOfMemory, match="enlarging 200×180 px with “Tiny”"):
        bench.run(factor=2.0)
    assert not list(bench.out.glob("*.png"))


# -- being stopped, and going on


def test_a_cancel_is_heard_between_two_layers_and_the_upscaler_stays_good(
    file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path = file_of("esrgan", 2)
    before = Bench(tmp_path, path, a_picture((150, 150))).run(factor=2.0, tile=96)
    bench = Bench(tmp_path, path, a_picture((150, 150)))
    layers = []

    def stop(*_: Any) -> None:
        layers.append(1)
        if len(layers) == 3:
            bench.cancelled.set()

    for module in upscaling._layers(bench.engine._upscaler.described.model):
        module.register_forward_pre_hook(stop)
    with pytest.raises(JobCancelled):
        bench.run(factor=2.0, tile=96)
    assert len(layers) <= 4
    bench.cancelled.clear()
    assert bench.run(factor=2.0, tile=96).tobytes() == before.tobytes()


def test_progress_goes_forward_and_ends_at_its_end(file_of: Callable[..., Path], tmp_path: Path) -> None:
    bench = Bench(tmp_path, file_of("compact", 2), a_picture((150, 150)))
    bench.run(factor=4.0, tile=96)
    done = [e.done for e in bench.of(Progress)]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == bench.of(Progress)[-1].total == 2


def test_a_loaded_upscaler_stays(file_of: Callable[..., Path], tmp_path: Path) -> None:
    bench = Bench(tmp_path, file_of(), a_picture())
    loaded, upscaler = len(bench.of(Loading)), bench.engine._upscaler
    bench.engine.load(card(file_of()), PLAN, bench.ctx)
    assert (len(bench.of(Loading)), bench.engine._upscaler) == (loaded, upscaler)
    bench.engine.load(card(file_of("compact", 2)), PLAN, bench.ctx)
    assert bench.engine._upscaler is not upscaler
    bench.engine.unload()
    with pytest.raises(ModelMissing):
        bench.run(factor=2.0)


def test_the_file_carries_how_it_was_made(file_of: Callable[..., Path], tmp_path: Path) -> None:
    bench = Bench(tmp_path, file_of(), a_picture())
    bench.run(factor=2.0)
    with open(bench.out / "0.png", "rb") as stream:
        carried = recipe_in(stream)
    assert isinstance(carried, UpscaleRecipe)
    assert (carried.image, carried.factor) == ("in.png", 2.0)
    assert carried.made_with == bench.result.made_with
    assert (carried.made_with.engine, carried.made_with.dtype, carried.made_with.threads) == (
        "image.upscale", "float32", 1,
    )  # fmt: skip
    assert "spandrel" in carried.made_with.versions


def test_an_upscaler_can_be_a_part_of_another_job(spandrel: Any, file_of: Callable[..., Path], tmp_path: Path) -> None:
    path, picture = file_of("compact", 2), a_picture()
    around = tiny.Around(tmp_path)
    around.ctx = RunContext("job", around.out, tmp_path, around._take, around.cancelled, cards={"up": card(path)})
    made = upscaling.enlarged(picture, 2.0, "up", around.ctx, device="cpu")
    assert np.array_equal(np.asarray(made), bare(spandrel, path, picture))
    assert upscaling.enlarged(picture, 1.5, "up", around.ctx, device="cpu").size == (72, 60)
    assert around.events == [], "the other job tells its own progress"
    around.cancelled.set()
    with pytest.raises(JobCancelled):
        upscaling.enlarged(picture, 2.0, "up", around.ctx, device="cpu")
    with pytest.raises(ModelMissing):
        upscaling.enlarged(picture, 2.0, "gone", around.ctx)


# -- number formats


class _Described:
    def __init__(self, half: bool, bfloat16: bool) -> None:
        self.supports_half, self.supports_bfloat16 = half, bfloat16


@pytest.mark.parametrize(
    ("half", "bfloat16", "picked", "choose", "dtype"),
    [
        (True, True, "float32", True, "float32"),  # what devices.pick says of a processor
        (True, True, "bfloat16", True, "float16"),
        (False, True, "bfloat16", True, "bfloat16"),
        (False, False, "bfloat16", True, "float32"),
        (True, True, "bfloat16", False, "bfloat16"),
        (False, True, "float16", False, "float32"),
    ],
)
def test_half_precision_is_taken_where_device_and_network_can_do_it(half, bfloat16, picked, choose, dtype) -> None:
    assert upscaling._suited(_Described(half, bfloat16), picked, choose) == dtype


def test_numbers_that_overflow_in_half_precision_are_done_again_in_float32(
    spandrel: Any, file_of: Callable[..., Path], tmp_path: Path
) -> None:
    path, picture = file_of("compact", 2), a_picture()
    bench = Bench(tmp_path, path, picture)
    upscaler = bench.engine._upscaler
    upscaler.dtype = "float16"  # says the engine; the weights follow when it finds out
    through = upscaler._through

    def coarse(pixels: np.ndarray) -> np.ndarray:
        if upscaler.dtype == "float16":
            raise upscaling._NotFinite
        return through(pixels)

    upscaler._through = coarse
    made = bench.run(factor=2.0)
    assert np.array_equal(np.asarray(made), bare(spandrel, path, picture))
    assert bench.result.made_with.dtype == "float32"
    assert bench.notes == ["float16 was too coarse for this upscaler; it was done in float32."]


def test_a_network_that_cannot_do_a_picture_says_so(file_of: Callable[..., Path], tmp_path: Path) -> None:
    bench = Bench(tmp_path, file_of("compact", 2), a_picture())

    def refuse(pixels: np.ndarray) -> np.ndarray:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (5).")

    bench.engine._upscaler._through = refuse
    bench.engine._upscaler._per_pixel = 1_000.0
    with pytest.raises(ModelUnfit, match="could not enlarge this: The size of tensor a"):
        bench.run(factor=2.0)


def test_numbers_that_are_not_finite_are_no_picture(file_of: Callable[..., Path], tmp_path: Path) -> None:
    import torch

    bench = Bench(tmp_path, file_of("compact", 2), a_picture())
    with torch.no_grad():
        next(bench.engine._upscaler.described.model.parameters()).fill_(float("nan"))
    with pytest.raises(BadResult, match="not finite"):
        bench.run(factor=2.0)


# -- what it cannot do


def loading(path: Path, tmp_path: Path) -> None:
    Upscaling().load(card(path), PLAN, tiny.Around(tmp_path).ctx)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path, marker = tmp_path / "net.pth", tmp_path / "ran"

    class Harmless:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(marker),))

    for name in ("net.pth", "net.safetensors"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(Harmless()))
        with pytest.raises((ModelRefused, ModelBroken)):
            loading(path, tmp_path)
    assert not marker.exists()


def test_what_is_no_upscaler_is_told_apart(spandrel: Any, file_of, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(ModelMissing):
        loading(tmp_path / "gone.safetensors", tmp_path)
    save_file({"something.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelUnfit, match="not an upscaler"):
        loading(tmp_path / "other.safetensors", tmp_path)
    whole = file_of("compact", 2).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ModelBroken):
        loading(tmp_path / "cut.safetensors", tmp_path)


def test_a_network_with_missing_weights_is_broken(spandrel: Any, file_of, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(file_of("compact", 2))
    del weights["body.2.weight"]
    save_file(weights, tmp_path / "holes.safetensors")
    with pytest.raises(ModelBroken, match="is broken"):
        loading(tmp_path / "holes.safetensors", tmp_path)


def test_a_result_that_nobody_could_open_is_refused(file_of, tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(tmp_path, file_of("compact", 2), a_picture())
    monkeypatch.setattr(opening, "PIXELS_LIMIT", 100 * 100)
    with pytest.raises(BadRecipe, match="192 × 160 px"):
        bench.run(factor=4.0)


def test_a_last_pass_that_would_make_too_much_begins_with_less(file_of, tmp_path: Path, monkeypatch: Any) -> None:
    bench = Bench(tmp_path, file_of("esrgan", 4), a_picture())
    monkeypatch.setattr(opening, "PIXELS_LIMIT", 250 * 250)
    assert bench.run(factor=5.0).size == (240, 200)  # two passes would be 768 × 640
    assert any("smaller before its last enlarging" in note for note in bench.notes)


def test_without_spandrel_it_says_how_to_get_it(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)  # this is how Python marks what cannot be imported
    with pytest.raises(EngineMissing, match="spandrel") as caught:
        upscaling.load_spandrel()
    assert "--no-deps spandrel einops" in caught.value.problem.hint
    assert "torchvision" not in sys.modules


def test_diffusers_finds_no_stand_in_for_torchvision_in_the_same_process(spandrel: Any) -> None:
    code = """
import importlib.util, sys
from studio.engines.image import upscaling
spandrel = upscaling.load_spandrel()
assert importlib.util.find_spec("torchvision") is None
assert not [m for m in sys.modules if m.startswith("torchvision")]
from diffusers import AutoencoderKL
from transformers.utils import is_torchvision_available
assert not is_torchvision_available()
print(len(list(spandrel.MAIN_REGISTRY)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 20


def test_the_stand_in_normalises_as_its_model_does(spandrel: Any) -> None:
    import torch

    functions = upscaling._stand_in()["torchvision.transforms.functional"]
    given = torch.rand(2, 3, 4, 5)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    wanted = torch.stack([(given[:, i] - mean[i]) / std[i] for i in range(3)], dim=1)
    torch.testing.assert_close(functions.normalize(given, mean, std), wanted)
    functions.normalize(given, mean, std, inplace=True)
    torch.testing.assert_close(given, wanted)
