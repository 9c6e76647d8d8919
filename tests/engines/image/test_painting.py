"""From a picture, into a picture, under control, with additions: the same as plain diffusers, and undone afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from studio.core.events import Preview, Progress
from studio.core.plans import Plan
from studio.core.problems import BadRecipe, ModelUnfit
from studio.core.recipes import Control, ImageRecipe, Lora, Margins, Reference
from studio.engines.context import JobCancelled
from studio.engines.image.diffusion import Diffusion
from studio.library.carried import recipe_in
from tests.engines.image import tiny

FAMILIES = ("sd", "sdxl", "sd3", "flux", "zimage")
CLASSES = {
    "sd": ("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
    "sdxl": ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
    "sd3": ("StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
    "flux": ("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
    "zimage": ("ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
}
EngineOf = Callable[[str], Diffusion]
FolderOf = Callable[[str], Path]
QUIET = Plan(device="cpu", threads=1, preview_every=0)


def recipe(**values: Any) -> ImageRecipe:
    return ImageRecipe(**{"prompt": "a red apple", "seed": 11, "steps": 4, "width": 64, "height": 64} | values)


def scene(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture with something to see in it."""
    wide, high = size
    picture = Image.new("RGB", size, (40, 90, 160))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((wide // 4, high // 4, wide * 3 // 4, high * 3 // 4), fill=(220, 60, 40))
    draw.rectangle((0, high * 3 // 4, wide, high), fill=(60, 140, 60))
    return picture


def spot(size: tuple[int, int] = (64, 64), box: tuple[int, int, int, int] = (16, 16, 40, 40)) -> Image.Image:
    """A mask: white where it is to be repainted."""
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def bare(folder: Path, class_name: str, lay: Callable[[Any], None] | None = None, **parts: Any) -> Any:
    """A pipeline of plain diffusers."""
    import diffusers
    import torch

    torch.set_num_threads(1)
    pipe = getattr(diffusers, class_name).from_pretrained(
        str(folder), local_files_only=True, dtype=torch.float32, **parts
    )
    pipe.set_progress_bar_config(disable=True)
    if lay is not None:
        lay(pipe)
    return pipe


def painted_by(pipe: Any, seed: int = 11, **arguments: Any) -> Image.Image:
    import torch

    given = {"prompt": "a red apple", "num_inference_steps": 4, "guidance_scale": 5.0} | arguments
    if "width" in inspect.signature(pipe.__call__).parameters:
        given = {"width": 64, "height": 64} | given
    return pipe(generator=torch.Generator("cpu").manual_seed(seed), **given).images[0]


def result(around: tiny.Around, index: int = 0) -> Image.Image:
    with Image.open(around.out / f"{index}.png") as image:
        image.load()
        return image


def run(engine: Diffusion, around: tiny.Around, asked: ImageRecipe) -> Image.Image:
    engine.run(asked, around.ctx)
    return result(around)


def quiet(engine_of: EngineOf, folder_of: FolderOf, family: str, around: tiny.Around) -> Diffusion:
    """The shared engine of a family, without previews."""
    engine = engine_of(family)
    engine.load(tiny.card(folder_of(family), family), QUIET, around.ctx)
    return engine


@pytest.fixture(scope="session")
def lora_of(folder_of: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    made: dict[tuple[str, int], Path] = {}
    home = tmp_path_factory.mktemp("loras")

    def get(family: str, seed: int = 1) -> Path:
        if (family, seed) not in made:
            made[family, seed] = tiny.save_lora(folder_of(family), home, seed)
        return made[family, seed]

    return get


# -- from a picture and into one


@pytest.mark.parametrize("family", FAMILIES)
def test_from_a_picture_it_is_the_same_as_plain_diffusers(
    family: str, engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    engine = engine_of(family)
    engine.load(tiny.card(folder_of(family), family), Plan(device="cpu", threads=1), around.ctx)
    made = run(engine, around, recipe(image=around.keep(scene()), strength=0.5))
    assert around.of(Preview)
    pipe = bare(folder_of(family), CLASSES[family][0])
    assert made.tobytes() == painted_by(pipe, image=scene(), strength=0.5).tobytes()
    with open(around.out / "0.png", "rb") as stream:
        carried = recipe_in(stream)
    assert isinstance(carried, ImageRecipe)
    assert (carried.strength, carried.image, carried.seed) == (0.5, "picture.png", 11)


@pytest.mark.parametrize("family", FAMILIES)
def test_into_a_picture_it_is_the_same_as_plain_diffusers_and_the_rest_is_untouched(
    family: str, engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    engine = quiet(engine_of, folder_of, family, around)
    asked = recipe(image=around.keep(scene()), mask=around.keep(spot(), "mask"), strength=0.8, mask_blur=0)
    made = run(engine, around, asked)
    expected = painted_by(bare(folder_of(family), CLASSES[family][1]), image=scene(), mask_image=spot(), strength=0.8)
    inside = (16, 16, 40, 40)
    assert made.crop(inside).tobytes() == expected.crop(inside).tobytes()
    outside = Image.composite(scene(), Image.new("RGB", (64, 64)), spot().point(lambda v: 255 - v))
    assert Image.composite(Image.new("RGB", (64, 64)), made, spot()).tobytes() == outside.tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_it_stops_within_a_step_on_the_way_from_a_picture_and_paints_the_same_afterwards(
    family: str, engine_of: EngineOf, folder_of: FolderOf, tmp_path: Path
) -> None:
    plain = tiny.Around(tmp_path / "plain")
    engine = quiet(engine_of, folder_of, family, plain)
    whole = run(engine, plain, recipe(image=plain.keep(scene()), strength=1.0))
    stopped = tiny.Around(tmp_path / "stopped", lambda e: isinstance(e, Progress) and 1 <= e.done < 4)
    with pytest.raises(JobCancelled):
        engine.run(recipe(image=stopped.keep(scene()), strength=1.0), stopped.ctx)
    assert max(e.done for e in stopped.of(Progress)) <= 2
    again = tiny.Around(tmp_path / "again")
    assert run(engine, again, recipe(image=again.keep(scene()), strength=1.0)).tobytes() == whole.tobytes()


def test_only_the_masked_part_is_painted_at_full_size_and_laid_back(
    engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    engine = quiet(engine_of, folder_of, "sd", around)
    large, box = scene((256, 192)), (100, 80, 132, 112)
    asked = recipe(
        image=around.keep(large), mask=around.keep(spot((256, 192), box), "mask"), mask_area="mask", mask_padding=16,
        mask_blur=0, strength=0.7,
    )  # fmt: skip
    made = run(engine, around, asked)
    assert made.size == (256, 192)
    seen = (84, 64, 148, 128)  # the masked part with its padding, which is 64×64 by itself
    expected = painted_by(
        bare(folder_of("sd"), "StableDiffusionInpaintPipeline"), image=large.crop(seen),
        mask_image=spot((256, 192), box).crop(seen), strength=0.7,
    )  # fmt: skip
    assert made.crop(box).tobytes() == expected.crop((16, 16, 48, 48)).tobytes()
    changed = np.any(np.asarray(made) != np.asarray(large), axis=2)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 80 and rows.max() < 112 and columns.min() >= 100 and columns.max() < 132


def test_a_soft_edge_mixes_old_and_new(engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around) -> None:
    engine = quiet(engine_of, folder_of, "sd", around)
    mask = spot(box=(24, 24, 40, 40))
    made = run(engine, around, recipe(image=around.keep(scene()), mask=around.keep(mask, "mask"), mask_blur=8))
    changed = np.any(np.asarray(made) != np.asarray(scene()), axis=2)
    assert changed[32, 20]  # beyond the hard edge
    assert not changed[:8].any()
    assert not changed[:, -8:].any()


@pytest.mark.parametrize("margins", [Margins(right=32), Margins(left=16, top=32, right=8, bottom=24)])
def test_a_picture_is_painted_on_beyond_its_edges(
    margins: Margins, engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    engine = quiet(engine_of, folder_of, "sd", around)
    size = (64 + margins.left + margins.right, 64 + margins.top + margins.bottom)
    given = {"width": size[0], "height": size[1]} if size[1] > 64 else {"width": None, "height": None}
    made = run(engine, around, recipe(image=around.keep(scene()), extend=margins, mask_blur=0, strength=1.0, **given))
    assert made.size == size
    # all but the strip beside new ground is the old picture
    old = made.crop((margins.left, margins.top, margins.left + 64, margins.top + 64))
    core = (
        16 * bool(margins.left),
        16 * bool(margins.top),
        64 - 16 * bool(margins.right),
        64 - 16 * bool(margins.bottom),
    )
    assert old.crop(core).tobytes() == scene().crop(core).tobytes()
    assert np.asarray(made).std() > 1


@pytest.mark.parametrize("fill", ["original", "blurred", "noise"])
def test_what_lies_under_the_mask_at_the_start_can_be_chosen(
    fill: str, engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    from studio.engines.image import starting

    begin = starting.start(
        recipe(image=around.keep(scene()), mask=around.keep(spot(), "mask"), mask_fill=fill, mask_blur=0),
        around.ctx, 8, (64, 64),
    )  # fmt: skip
    assert begin is not None
    inside, before = np.asarray(begin.image)[16:40, 16:40], np.asarray(scene())[16:40, 16:40]
    assert (inside == before).all() == (fill == "original")
    if fill == "blurred":
        # the colours at the mask's border, led inwards: no longer that of what was there
        assert np.abs(inside[0].astype(int) - np.asarray(scene())[15, 16:40]).mean() < 20
        assert (inside != before).any(axis=2).mean() > 0.3
    assert (np.asarray(begin.image)[:16] == np.asarray(scene())[:16]).all()


def test_a_transparent_picture_keeps_its_alpha_outside_of_the_mask(
    engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    engine = quiet(engine_of, folder_of, "sd", around)
    clear = scene().convert("RGBA")
    clear.putalpha(Image.new("L", (64, 64), 0))
    clear.paste(scene(), (0, 0), spot(box=(0, 0, 64, 32)))
    made = run(engine, around, recipe(image=around.keep(clear), mask=around.keep(spot(), "mask"), mask_blur=0))
    alpha = np.asarray(made.getchannel("A"))
    assert alpha[20, 20] == 255  # repainted
    assert alpha[60, 60] == clear.getpixel((60, 60))[3]


def test_sizes_that_are_not_given_follow_the_picture(
    engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    from studio.engines.image import starting

    def size(picture: tuple[int, int], **given: Any) -> tuple[int, int]:
        asked = recipe(image=around.keep(scene(picture)), **{"width": None, "height": None} | given)
        begin = starting.start(asked, around.ctx, 8, (512, 512))
        assert begin is not None
        assert begin.image.size == begin.size
        return begin.size

    assert size((640, 480)) == (640, 480)
    assert size((643, 478)) == (640, 480)
    wide, high = size((4000, 3000))  # far larger than the model: its own area in the picture's shape
    assert wide % 8 == high % 8 == 0
    assert abs(wide * high - 512 * 512) < 512 * 512 * 0.03
    assert abs(wide / high - 4 / 3) < 0.02
    assert size((640, 480), width=320) == (320, 240)
    assert size((640, 480), width=512, height=512) == (512, 512)
    assert any("cut to the shape" in note for note in around.ctx.notes)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"mask": "mask"}, "image"),
        ({"extend": Margins(left=8)}, "image"),
        ({"image": "picture", "mask": "black"}, "mask"),
        ({"image": "picture", "mask": "tall"}, "mask"),
    ],
)
def test_what_cannot_be_repainted_is_said_beside_its_field(
    given: dict[str, Any], field: str, engine_of: EngineOf, folder_of: FolderOf, around: tiny.Around
) -> None:
    around.keep(scene())
    around.keep(spot(), "mask")
    around.keep(Image.new("L", (64, 64), 0), "black")
    around.keep(Image.new("L", (32, 128), 255), "tall")
    named = {k: f"{v}.png" if isinstance(v, str) else v for k, v in given.items()}
    with pytest.raises(BadRecipe) as raised:
        quiet(engine_of, folder_of, "sd", around).run(recipe(**named), around.ctx)
    assert raised.value.problem.field == field


def test_a_model_that_knows_no_masks_repaints_a_part_all_the_same(engine_of: EngineOf, tmp_path: Path) -> None:
    engine = engine_of("starter")  # its network has 8 channels, which diffusers' own class refuses
    engine.load(tiny.starter_card(), QUIET, tiny.Around(tmp_path / "load").ctx)
    around, big = tiny.Around(tmp_path / "run"), (128, 128)
    mask = spot(big, (40, 40, 88, 88))
    asked = ImageRecipe(
        prompt="green tree, flat style", seed=3, steps=8, guidance=4.0, image=around.keep(scene(big)),
        mask=around.keep(mask, "mask"), mask_blur=0, strength=0.9,
    )  # fmt: skip
    made = run(engine, around, asked)
    changed = np.any(np.asarray(made) != np.asarray(scene(big)), axis=2)
    assert changed[40:88, 40:88].mean() > 0.9
    assert not changed[np.asarray(mask) == 0].any()
    # what was kept led it: at the mask's edge it goes on from what is there, unlike a picture that knew nothing of it
    free = run(engine, around, msgspec.structs.replace(asked, image="", mask=""))
    ring = np.asarray(mask.filter(ImageFilter.MaxFilter(5))).astype(int) - np.asarray(mask)
    inner = np.asarray(mask).astype(int) - np.asarray(mask.filter(ImageFilter.MinFilter(5)))

    def step(picture: Image.Image) -> float:
        values = np.asarray(picture, dtype=float)
        return float(
            np.abs(values[inner > 0].mean(axis=0) - np.asarray(scene(big), float)[ring > 0].mean(axis=0)).mean()
        )

    assert step(made) < step(free)


# -- LoRAs


@pytest.mark.filterwarnings("ignore:Already found a:UserWarning")  # plain diffusers, of the second of two
@pytest.mark.parametrize("family", FAMILIES)
def test_loras_are_laid_over_as_plain_diffusers_does_and_taken_off_without_a_trace(
    family: str, engine_of: EngineOf, folder_of: FolderOf, lora_of: Callable[..., Path], tmp_path: Path
) -> None:
    files = [lora_of(family, seed) for seed in (1, 2)]
    cards = [tiny.addition("lora", file) for file in files]
    engine = quiet(engine_of, folder_of, family, tiny.Around(tmp_path / "load"))
    without = run(engine, tiny.Around(tmp_path / "without"), recipe())
    stack = (Lora(cards[0].id, 0.7), Lora(cards[1].id, -0.4))
    both = run(engine, tiny.Around(tmp_path / "both", cards=cards), recipe(loras=stack))
    one = run(engine, tiny.Around(tmp_path / "one", cards=cards), recipe(loras=stack[1:]))
    after = run(engine, tiny.Around(tmp_path / "after"), recipe())

    name = type(engine._pipe).__name__
    pipe = bare(folder_of(family), name)
    assert without.tobytes() == painted_by(pipe, width=64, height=64).tobytes()
    for number, file in enumerate(files):
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=f"n{number}")
    pipe.set_adapters(["n0", "n1"], [0.7, -0.4])
    assert both.tobytes() == painted_by(pipe, width=64, height=64).tobytes()
    pipe.set_adapters(["n1"], [-0.4])
    assert one.tobytes() == painted_by(pipe, width=64, height=64).tobytes()
    assert after.tobytes() == without.tobytes()
    assert len({both.tobytes(), one.tobytes(), without.tobytes()}) == 3


def test_a_lora_is_read_once_and_the_model_is_not_loaded_again(
    engine_of: EngineOf, folder_of: FolderOf, lora_of: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cards = [tiny.addition("lora", lora_of("sd", seed)) for seed in (5, 6)]
    engine = quiet(engine_of, folder_of, "sd", tiny.Around(tmp_path / "load"))
    pipe, read = engine._pipe, []
    original = type(pipe).load_lora_weights
    monkeypatch.setattr(
        type(pipe), "load_lora_weights", lambda self, *a, **k: (read.append(k["weight_name"]), original(self, *a, **k))
    )
    for number, loras in enumerate([(0, 1.0), (1, 1.0), (0, 0.5), None, (1, 0.2)]):
        asked = () if loras is None else (Lora(cards[loras[0]].id, loras[1]),)
        engine.run(recipe(loras=asked, steps=1), tiny.Around(tmp_path / str(number), cards=cards).ctx)
    assert read == [Path(card.path).name for card in cards]
    assert engine._pipe is pipe


def test_a_lora_for_another_base_is_refused_by_name_and_leaves_nothing_behind(
    engine_of: EngineOf, folder_of: FolderOf, lora_of: Callable[..., Path], tmp_path: Path
) -> None:
    foreign = [tiny.addition("lora", lora_of("flux")), tiny.addition("lora", lora_of("sdxl"))]
    engine = quiet(engine_of, folder_of, "sd", tiny.Around(tmp_path / "load"))
    before = run(engine, tiny.Around(tmp_path / "before"), recipe())
    for number, card in enumerate(foreign):
        with pytest.raises(ModelUnfit, match=card.name) as raised:
            engine.run(recipe(loras=(Lora(card.id),)), tiny.Around(tmp_path / str(number), cards=[card]).ctx)
        assert raised.value.problem.field == "loras"
        assert "does not fit" in raised.value.problem.sentence
    assert run(engine, tiny.Around(tmp_path / "after"), recipe()).tobytes() == before.tobytes()


# -- control networks and reference pictures


CONTROLLED = {
    "sd": ("StableDiffusionControlNetPipeline", "StableDiffusionControlNetImg2ImgPipeline",
           "StableDiffusionControlNetInpaintPipeline"),
    "sdxl": ("StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetImg2ImgPipeline",
             "StableDiffusionXLControlNetInpaintPipeline"),
}  # fmt: skip


@pytest.fixture(scope="session")
def control_of(folder_of: FolderOf, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}
    home = tmp_path_factory.mktemp("controls")

    def get(family: str) -> Path:
        if family not in made:
            folder = home / f"control-{family}"
            made[family] = tiny.save_control(folder_of(family), folder, adapter=False)
        return made[family]

    return get


@pytest.mark.parametrize("family", CONTROLLED)
@pytest.mark.parametrize("task", [0, 1, 2])
def test_a_controlnet_guides_every_way_of_painting_as_in_plain_diffusers(
    family: str, task: int, engine_of: EngineOf, folder_of: FolderOf, control_of: Callable[[str], Path],
    around: tiny.Around, tmp_path: Path,
) -> None:  # fmt: skip
    from diffusers import ControlNetModel

    card = tiny.addition("control", control_of(family), "controlnet")
    around = tiny.Around(tmp_path / "run", cards=[card])
    edges = scene().convert("L").convert("RGB")
    control = Control(card.id, around.keep(edges, "edges"), weight=0.8, start=0.0, end=0.75)
    more = [{}, {"image": around.keep(scene()), "strength": 0.6}, {"image": "picture.png", "strength": 0.9,
            "mask": around.keep(spot(), "mask"), "mask_blur": 0}][task]  # fmt: skip
    engine = quiet(engine_of, folder_of, family, around)
    made = run(engine, around, recipe(controls=(control,), **more))
    network = ControlNetModel.from_pretrained(str(control_of(family)))
    pipe = bare(folder_of(family), CONTROLLED[family][task], controlnet=network)
    how = {"controlnet_conditioning_scale": 0.8, "control_guidance_start": 0.0, "control_guidance_end": 0.75}
    given: dict[str, Any] = [
        {"image": edges, "width": 64, "height": 64},
        {"image": scene(), "control_image": edges, "strength": 0.6},
        {"image": scene(), "control_image": edges, "mask_image": spot(), "strength": 0.9},
    ][task]
    expected, box = painted_by(pipe, **how, **given), (16, 16, 40, 40) if task == 2 else (0, 0, 64, 64)
    assert made.crop(box).tobytes() == expected.crop(box).tobytes()
    free = run(engine, tiny.Around(tmp_path / "free"), recipe())
    assert free.tobytes() != made.tobytes()


def test_two_controlnets_and_a_t2i_adapter(
    engine_of: EngineOf, folder_of: FolderOf, control_of: Callable[[str], Path], tmp_path: Path
) -> None:
    from diffusers import ControlNetModel, T2IAdapter

    first = tiny.addition("control", control_of("sd"), "controlnet")
    adapter = tiny.addition("control", tiny.save_control(Path(), tmp_path / "t2i", adapter=True), "t2i-adapter")
    engine = quiet(engine_of, folder_of, "sd", tiny.Around(tmp_path / "load"))
    around = tiny.Around(tmp_path / "two", cards=[first, adapter])
    edges = around.keep(scene(), "edges")
    made = run(engine, around, recipe(controls=(Control(first.id, edges), Control(first.id, edges, weight=0.3))))
    network = ControlNetModel.from_pretrained(str(control_of("sd")))
    pipe = bare(folder_of("sd"), "StableDiffusionControlNetPipeline", controlnet=[network, network])
    expected = painted_by(
        pipe, image=[scene(), scene()], width=64, height=64, controlnet_conditioning_scale=[1.0, 0.3],
        control_guidance_start=[0.0, 0.0], control_guidance_end=[1.0, 1.0],
    )  # fmt: skip
    assert made.tobytes() == expected.tobytes()

    guided = run(engine, around, recipe(controls=(Control(adapter.id, edges, weight=0.5),)))
    network = T2IAdapter.from_pretrained(str(tmp_path / "t2i"))
    pipe = bare(folder_of("sd"), "StableDiffusionAdapterPipeline", adapter=network)
    expected = painted_by(pipe, image=scene(), width=64, height=64, adapter_conditioning_scale=0.5)
    assert guided.tobytes() == expected.tobytes()

    with pytest.raises(ModelUnfit, match="together"):
        engine.run(recipe(controls=(Control(first.id, edges), Control(adapter.id, edges))), around.ctx)
    with pytest.raises(ModelUnfit, match="T2I adapter"):
        engine.run(recipe(controls=(Control(adapter.id, edges),), image=edges), around.ctx)


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_reference_pictures_act_as_in_plain_diffusers_and_go_without_a_trace(
    family: str, engine_of: EngineOf, folder_of: FolderOf, tmp_path: Path
) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    file = tiny.save_reference(folder_of(family), tmp_path / "ip")
    card = tiny.addition("reference", file, "ip-adapter")
    engine = quiet(engine_of, folder_of, family, tiny.Around(tmp_path / "load"))
    before = run(engine, tiny.Around(tmp_path / "before"), recipe())
    around = tiny.Around(tmp_path / "run", cards=[card])
    asked = recipe(references=(Reference(card.id, around.keep(scene(), "style"), 0.5),))
    made = run(engine, around, asked)
    from_one = run(engine, around, recipe(references=asked.references, image=around.keep(scene()), strength=0.5))
    after = run(engine, tiny.Around(tmp_path / "after"), recipe())

    def lay(pipe: Any) -> None:
        pipe.load_ip_adapter(str(file.parent), subfolder="", weight_name=file.name, image_encoder_folder=None)
        pipe.set_ip_adapter_scale(0.5)

    encoder = CLIPVisionModelWithProjection.from_pretrained(str(file.parent / "image_encoder"))
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    parts = {"image_encoder": encoder, "feature_extractor": CLIPImageProcessor(**size)}
    pipe = bare(folder_of(family), type(engine._pipe).__name__, lay, **parts)
    assert made.tobytes() == painted_by(pipe, ip_adapter_image=scene(), width=64, height=64).tobytes()
    pipe = bare(folder_of(family), CLASSES[family][0], lay, **parts)
    assert from_one.tobytes() == painted_by(pipe, ip_adapter_image=scene(), image=scene(), strength=0.5).tobytes()
    assert after.tobytes() == before.tobytes() != made.tobytes()


# -- the rest


def test_another_autoencoder_is_laid_in_and_out(engine_of: EngineOf, folder_of: FolderOf, tmp_path: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    with torch.random.fork_rng():
        torch.manual_seed(99)
        tiny._vae(4, scaling_factor=0.18215).save_pretrained(str(tmp_path / "other"))
    card = tiny.addition("vae", tmp_path / "other")
    engine = quiet(engine_of, folder_of, "sd", tiny.Around(tmp_path / "load"))
    before = run(engine, tiny.Around(tmp_path / "before"), recipe())
    made = run(engine, tiny.Around(tmp_path / "run", cards=[card]), recipe(vae=card.id))
    after = run(engine, tiny.Around(tmp_path / "after"), recipe())
    pipe = bare(folder_of("sd"), "StableDiffusionPipeline", vae=AutoencoderKL.from_pretrained(str(tmp_path / "other")))
    assert made.tobytes() == painted_by(pipe, width=64, height=64).tobytes()
    assert after.tobytes() == before.tobytes() != made.tobytes()
    small = tiny.addition("vae", tmp_path / "small")
    tiny._vae(16).save_pretrained(str(tmp_path / "small"))
    with pytest.raises(ModelUnfit, match="16 channels"):
        engine.run(recipe(vae=small.id), tiny.Around(tmp_path / "small-run", cards=[small]).ctx)
    assert run(engine, tiny.Around(tmp_path / "still"), recipe()).tobytes() == before.tobytes()


@pytest.mark.parametrize("family", ["sd", "sd3", "flux", "zimage"])
def test_variations_go_from_one_seed_to_the_other(
    family: str, engine_of: EngineOf, folder_of: FolderOf, tmp_path: Path
) -> None:
    engine = quiet(engine_of, folder_of, family, tiny.Around(tmp_path / "load"))

    def made(name: str, **given: Any) -> np.ndarray[Any, Any]:
        return np.asarray(run(engine, tiny.Around(tmp_path / name), recipe(**given)), dtype=float)

    start, end = made("start"), made("end", seed=77)
    none = made("none", variation=0.0, variation_seed=77)
    little = made("little", variation=0.05, variation_seed=77)
    whole = made("whole", variation=1.0, variation_seed=77)
    assert (none == start).all()
    assert (whole == end).all()
    assert 0 < np.abs(little - start).mean() < np.abs(end - start).mean()


def test_a_seamless_picture_is_as_even_across_its_edges_as_inside(engine_of: EngineOf, tmp_path: Path) -> None:
    engine = engine_of("starter")
    engine.load(tiny.starter_card(), QUIET, tiny.Around(tmp_path / "load").ctx)
    asked = {"prompt": "green tree, flat style", "seed": 3, "steps": 8, "guidance": 4.0}

    def seam(name: str, axis: int, **given: Any) -> float:
        values = np.asarray(run(engine, tiny.Around(tmp_path / name), ImageRecipe(**asked, **given)), dtype=float)
        return float(np.abs(values.take(0, axis) - values.take(-1, axis)).mean())

    before = run(engine, tiny.Around(tmp_path / "before"), ImageRecipe(**asked))
    across = run(engine, tiny.Around(tmp_path / "x"), ImageRecipe(**asked, seamless="x"))
    assert across.tobytes() != before.tobytes()
    values = np.asarray(across, dtype=float)
    inside = np.abs(np.diff(values, axis=1)).mean(axis=(0, 2))
    edge = np.abs(values[:, 0] - values[:, -1]).mean()
    assert edge <= np.percentile(inside, 95) + 2
    assert seam("both", 0, seamless="both") <= seam("off", 0) + 1
    assert run(engine, tiny.Around(tmp_path / "after"), ImageRecipe(**asked)).tobytes() == before.tobytes()


@pytest.mark.parametrize("family", ["sd", "flux"])
def test_a_second_pass_paints_the_enlarged_picture_once_more(family: str, folder_of: FolderOf, tmp_path: Path) -> None:
    around, engine = tiny.Around(tmp_path / "run"), Diffusion()  # of its own: one that ran out of memory is thriftier
    engine.load(tiny.card(folder_of(family), family), QUIET, around.ctx)
    made = run(engine, around, recipe(enlarge=1.5, enlarge_strength=0.5, enlarge_steps=6))
    pipe = bare(folder_of(family), type(engine._pipe).__name__)
    first = painted_by(pipe, width=64, height=64).resize((96, 96), Image.Resampling.LANCZOS)
    pipe = bare(folder_of(family), CLASSES[family][0])
    more = {"width": 96, "height": 96} if family == "flux" else {}
    expected = painted_by(pipe, image=first, strength=0.5, num_inference_steps=6, **more)
    assert made.size == (96, 96)
    assert made.tobytes() == expected.tobytes()
    done = [e.done for e in around.of(Progress)]
    assert done == sorted(done)
    assert done[-1] == around.of(Progress)[-1].total == 10


def test_pictures_painted_together_have_their_own_seeds_and_say_so(
    engine_of: EngineOf, folder_of: FolderOf, tmp_path: Path
) -> None:
    around = tiny.Around(tmp_path / "run")
    engine = quiet(engine_of, folder_of, "sd", around)
    outcome = engine.run(recipe(count=3, at_once=2), around.ctx)
    assert [(a.index, a.seed) for a in outcome.artifacts if a.role == "master"] == [(0, 11), (1, 12), (2, 13)]
    for index in range(3):
        alone = np.asarray(run(engine, tiny.Around(tmp_path / f"a{index}"), recipe(seed=11 + index)), dtype=float)
        assert np.abs(alone - np.asarray(result(around, index), dtype=float)).max() <= 2  # the same but for rounding
    with open(around.out / "1.png", "rb") as stream:
        carried = recipe_in(stream)
    assert isinstance(carried, ImageRecipe)
    assert (carried.seed, carried.count, carried.at_once) == (12, 1, 2)


def test_channels_last_is_recorded_and_changes_little(folder_of: FolderOf, tmp_path: Path) -> None:
    engine, around = Diffusion(), tiny.Around(tmp_path / "plain")
    card = tiny.card(folder_of("sd"), "sd")
    engine.load(card, QUIET, around.ctx)
    plain = run(engine, around, recipe())
    quick = tiny.Around(tmp_path / "quick")
    pipe = engine._pipe
    engine.load(card, msgspec.structs.replace(QUIET, speed=("channels_last",)), quick.ctx)
    assert engine._pipe is not pipe, "a network is not laid out anew under what was planned otherwise"
    outcome = engine.run(recipe(), quick.ctx)
    assert outcome.made_with.speed == ("channels_last",)
    weight = engine._pipe.unet.conv_in.weight
    import torch

    assert weight.is_contiguous(memory_format=torch.channels_last)
    difference = np.abs(np.asarray(result(quick), dtype=float) - np.asarray(plain, dtype=float))
    assert difference.max() <= 3
    engine.load(card, QUIET, around.ctx)
    assert run(engine, tiny.Around(tmp_path / "again"), recipe()).tobytes() == plain.tobytes()
