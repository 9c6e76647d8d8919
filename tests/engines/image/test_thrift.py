"""Ways to save memory, with diffusers' real switches. No graphics card is here: the processor plays the card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy
import pytest
import torch
from PIL import Image

from studio.core.events import Preview, Progress
from studio.core.plans import MEMORY_MODES, Plan
from studio.core.problems import OutOfMemory
from studio.core.recipes import ImageRecipe
from studio.engines.context import JobCancelled
from studio.engines.image import loading, saving, thrift, trouble
from studio.engines.image.diffusion import Diffusion
from studio.models import memory
from tests.engines.image.tiny import Around, card

PLAN = Plan(device="cpu", threads=1, preview_every=0, memory="full")
RECIPE = ImageRecipe(prompt="a red apple", steps=2, width=96, height=96, seed=3)
ASKED = {"num_inference_steps": 2, "width": 96, "height": 96, "guidance_scale": RECIPE.guidance}


@pytest.fixture
def every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """All modes mean something on the processor too: diffusers offloads to it as it does to a card.

    But for the last: accelerate cannot bring single layers to a processor, so its switch is only marked as thrown.
    """
    from diffusers import DiffusionPipeline

    def layer_by_layer(pipe: Any, device: str) -> None:
        pipe.remove_all_hooks()
        pipe.in_layers = True

    monkeypatch.setattr(DiffusionPipeline, "enable_sequential_cpu_offload", layer_by_layer)
    for place in (thrift, memory):
        monkeypatch.setattr(place, "modes_of", lambda device: MEMORY_MODES)


@pytest.fixture(scope="session")
def plain(folder_of: Callable[[str], Path]) -> Callable[..., Any]:
    """Pixels of plain diffusers, with its own switch for each mode thrown."""
    made: dict[tuple[str, int], Any] = {}

    def paint(mode: str, seed: int = 3) -> Any:
        if (mode, seed) not in made:
            from diffusers import DiffusionPipeline

            pipe = DiffusionPipeline.from_pretrained(folder_of("sd"), local_files_only=True, use_safetensors=True)
            pipe.set_progress_bar_config(disable=True)
            if mode in ("sliced", "tiled"):
                pipe.enable_attention_slicing()
            if mode not in ("full", "sliced"):
                pipe.vae.enable_tiling()
            if mode == "offload":
                pipe.enable_model_cpu_offload(device="cpu")
            output = pipe(RECIPE.prompt, generator=torch.Generator("cpu").manual_seed(seed), **ASKED)
            made[mode, seed] = numpy.asarray(output.images[0])
        return made[mode, seed]

    return paint


@pytest.fixture
def engine(folder_of: Callable[[str], Path], tmp_path: Path) -> Diffusion:
    found = Diffusion()
    found.load(card(folder_of("sd")), PLAN, Around(tmp_path / "load").ctx)
    return found


def planned(engine: Diffusion, folder: Path, **plan: Any) -> None:
    """Load it again under another plan, as the worker does before each job."""
    assert engine._card is not None
    engine.load(engine._card, msgspec.structs.replace(PLAN, **plan), Around(folder / "load").ctx)


def pixels(around: Around, index: int = 0) -> Any:
    return numpy.asarray(Image.open(around.out / f"{index}.png"))


def fails(engine: Diffusion, part: str, method: str, when: Callable[[int], bool]) -> list[str]:
    """Have a part of the pipeline run out of memory in those of its calls. Returns the modes of all its calls."""
    owner = getattr(engine._pipe, part)
    real, tried = getattr(owner, method), list[str]()

    def failing(*arguments: Any, **more: Any) -> Any:
        tried.append(engine._mode)
        if when(len(tried)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **more)

    setattr(owner, method, failing)
    return tried


def test_each_way_gives_what_plain_diffusers_gives_with_it(
    every_mode: None, engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    assert not (plain("full") == plain("tiled")).all(), "the modes can be told apart"
    order = ("full", "sliced", "tiled", "full", "offload", "tiled", "offload", "full", "sequential", "offload",
             "sequential", "full")  # fmt: skip
    for turn, mode in enumerate(order):
        around = Around(tmp_path / str(turn))
        planned(engine, around.out, memory=mode)
        result = engine.run(RECIPE, around.ctx)
        assert result.made_with.memory == ("" if mode == "full" else mode) and result.notes == ()
        assert (pixels(around) == plain(mode)).all(), f"{turn}: {mode}"
        assert hasattr(engine._pipe, "in_layers") == (mode == "sequential"), "after it the model is loaded anew"
        assert bool(getattr(engine._pipe, "_all_hooks", [])) == (mode == "offload")


def test_the_whole_ladder_is_gone_down_step_by_step(
    every_mode: None, engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    around = Around(tmp_path)
    tried = fails(engine, "unet", "forward", lambda call: call <= 8 and call % 2 == 0)  # in the second step of each
    result = engine.run(RECIPE, around.ctx)
    assert [mode for mode in MEMORY_MODES for _ in range(2)] == tried[:10]
    assert result.made_with.memory == "sequential" and (pixels(around) == plain("sequential")).all()
    said = [note for note in result.notes if note.startswith("Memory ran out, so")]
    for note, words in zip(said, ("slices", "tiles", "each part", "each layer"), strict=True):
        assert words in note
    done = [e.done for e in around.of(Progress)]
    assert done == sorted(done), "progress never goes back"


def test_a_ladder_that_is_used_up_ends_in_a_sentence_and_the_next_job_is_fresh(
    every_mode: None, engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    tried = fails(engine, "vae", "decode", lambda call: call <= 5)
    with pytest.raises(OutOfMemory, match="Memory ran out while painting 96×96 px") as caught:
        engine.run(RECIPE, Around(tmp_path / "a").ctx)
    assert tried == list(MEMORY_MODES) and "smaller" in caught.value.problem.hint
    around = Around(tmp_path / "b")
    planned(engine, around.out, again=True)
    assert engine.run(RECIPE, around.ctx).made_with.memory == "", "a work that is made again begins as it was made"
    assert (pixels(around) == plain("full")).all()


def test_the_second_picture_says_from_where_on_it_was_made_so(
    engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    around = Around(tmp_path)
    tried = fails(engine, "vae", "decode", lambda call: call == 2)
    result = engine.run(msgspec.structs.replace(RECIPE, count=2), around.ctx)
    assert tried == ["full", "full", "tiled"]
    assert any("from picture 2 on" in note and "tiles" in note for note in result.notes)
    assert (pixels(around) == plain("full")).all(), "what was finished stays"


def test_what_ran_out_is_kept_for_that_size_and_larger_only(engine: Diffusion, tmp_path: Path) -> None:
    planned(engine, tmp_path, memory="auto")
    tried = fails(engine, "vae", "decode", lambda call: call == 1)
    engine.run(RECIPE, Around(tmp_path / "a").ctx)
    again = engine.run(RECIPE, Around(tmp_path / "b").ctx)
    small = engine.run(msgspec.structs.replace(RECIPE, width=64, height=64), Around(tmp_path / "c").ctx)
    large = engine.run(msgspec.structs.replace(RECIPE, width=128, height=96), Around(tmp_path / "d").ctx)
    assert tried == ["full", "tiled", "tiled", "full", "tiled"]
    assert any("tiles" in note for note in again.notes) and small.notes == () and large.made_with.memory == "tiled"


def test_a_cancel_is_heard_at_a_step_of_the_second_try(
    engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    tried = fails(engine, "unet", "forward", lambda call: call == 2)
    around = Around(tmp_path / "a", lambda event: isinstance(event, Progress) and len(tried) == 3)
    with pytest.raises(JobCancelled):
        engine.run(RECIPE, around.ctx)
    assert tried == ["full", "full", "tiled", "tiled"] and not list(around.out.glob("*.png"))
    after = Around(tmp_path / "b")
    engine.run(RECIPE, after.ctx)
    assert (pixels(after) == plain_tiled(engine, plain)).all()


def plain_tiled(engine: Diffusion, plain: Callable[..., Any]) -> Any:
    """Tiles alone: on a processor attention is not sliced, so "offload" of plain diffusers has the same pixels."""
    assert thrift.ladder(engine._pipe, "cpu") == ("full", "tiled")
    return plain("offload")


def test_a_cancel_while_parts_are_on_the_card_takes_them_off_it(
    every_mode: None, engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    planned(engine, tmp_path, memory="offload")
    engine.run(RECIPE, Around(tmp_path / "a").ctx)
    freed: list[bool] = []
    real = engine._pipe.maybe_free_model_hooks
    engine._pipe.maybe_free_model_hooks = lambda: (freed.append(True), real())[1]
    with pytest.raises(JobCancelled):
        engine.run(RECIPE, Around(tmp_path / "b", lambda e: isinstance(e, Progress) and e.done > 0).ctx)
    assert freed == [True]
    around = Around(tmp_path / "c")
    engine.run(RECIPE, around.ctx)
    assert (pixels(around) == plain("offload")).all()


def test_a_model_too_large_for_the_card_is_loaded_beside_it(
    every_mode: None, folder_of: Callable[[str], Path], plain: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real, asked = loading.open_pipeline, []

    def small_card(*given: Any, place: bool = True, **more: Any) -> Any:
        asked.append(place)
        if place:
            raise OutOfMemory("Memory ran out while loading.")
        return real(*given, place=place)

    monkeypatch.setattr(loading, "open_pipeline", small_card)
    engine, around = Diffusion(), Around(tmp_path)
    engine.load(card(folder_of("sd")), msgspec.structs.replace(PLAN, memory="auto"), around.ctx)
    assert asked == [True, False] and any("Memory ran out" in n and "each part" in n for n in around.ctx.notes)
    result = engine.run(RECIPE, around.ctx)
    assert result.made_with.memory == "offload" and (pixels(around) == plain("offload")).all()
    asked.clear()
    engine.unload()
    monkeypatch.setattr(memory, "modes_of", lambda device: ("full", "tiled"))
    with pytest.raises(OutOfMemory):
        engine.load(card(folder_of("sd")), PLAN, around.ctx)
    assert asked == [True], "on a processor there is nothing else to try"


def test_a_move_that_runs_out_goes_on_down_the_ladder(
    every_mode: None, engine: Diffusion, plain: Callable[..., Any], tmp_path: Path
) -> None:
    planned(engine, tmp_path, memory="offload")
    engine.run(RECIPE, Around(tmp_path / "a").ctx)
    planned(engine, tmp_path, memory="tiled")
    real = engine._pipe.to

    def full_card(*given: Any, **more: Any) -> Any:
        if not more:  # the move to the card; the one off it says more
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(*given, **more)

    engine._pipe.to = full_card
    around = Around(tmp_path / "b")
    result = engine.run(RECIPE, around.ctx)
    assert result.made_with.memory == "offload" and (pixels(around) == plain("offload")).all()
    assert any("Memory ran out" in note and "each part" in note for note in result.notes)


def test_previews_are_prepared_before_weights_come_and_go(
    every_mode: None, folder_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.engines.image import previews

    real, hooked = previews.cached_fit, []

    def fit(vae: Any, *given: Any) -> Any:
        hooked.append(hasattr(vae, "_hf_hook"))
        return real(vae, *given)

    monkeypatch.setattr(previews, "cached_fit", fit)
    engine, around = Diffusion(), Around(tmp_path)
    plan = msgspec.structs.replace(PLAN, memory="offload", preview_every=1)
    engine.load(card(folder_of("sd")), plan, around.ctx)
    engine.run(RECIPE, around.ctx)
    assert hooked == [False] and around.of(Preview)
    engine._colours, blind = None, Around(tmp_path / "blind")
    assert "No previews" in engine.run(RECIPE, blind.ctx).notes[0] and not blind.of(Preview)


def test_an_error_that_is_not_about_memory_is_not_tried_again(engine: Diffusion, tmp_path: Path) -> None:
    tried: list[int] = []

    def wrong(*_: Any, **__: Any) -> Any:
        tried.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    engine._pipe.unet.forward = wrong
    with pytest.raises(Exception, match="could not paint this"):
        engine.run(RECIPE, Around(tmp_path).ctx)
    assert tried == [1]


def test_memory_that_runs_out_while_saving_is_told_as_such(
    engine: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(saving, "save", out)
    with pytest.raises(OutOfMemory, match="Memory ran out"):
        engine.run(RECIPE, Around(tmp_path).ctx)


def test_nothing_is_said_of_a_way_that_the_model_does_not_have(
    engine: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thrift, "_decoder", lambda pipe: None)
    assert engine._card is not None
    engine._card = msgspec.structs.replace(engine._card, needs=msgspec.structs.replace(engine._card.needs, weights=1))
    engine._plan = msgspec.structs.replace(PLAN, memory="auto")
    monkeypatch.setattr(trouble, "free_memory", lambda device: 1)
    result = engine.run(RECIPE, Around(tmp_path).ctx)
    assert result.made_with.memory == "" and result.notes == ()


def test_tiles_are_never_larger_than_the_plan_reckons_with() -> None:
    from diffusers import AutoencoderKL

    down, up = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
    vae = AutoencoderKL(3, 3, down, up, block_out_channels=(4, 4), norm_num_groups=2, sample_size=1024)
    thrift._tile(vae, True)
    assert (vae.tile_sample_min_size, vae.tile_latent_min_size) == (memory.TILE, memory.TILE // 2)
    assert vae.use_tiling and vae.use_slicing
    thrift._tile(vae, False)
    assert not vae.use_tiling and not vae.use_slicing


def test_families_without_slices_pass_them_over(folder_of: Callable[[str], Path], every_mode: None) -> None:
    from diffusers import DiffusionPipeline

    flux = DiffusionPipeline.from_pretrained(folder_of("flux"), local_files_only=True, use_safetensors=True)
    assert thrift.ladder(flux, "cpu") == ("full", "tiled", "offload", "sequential")


# -- parking ----------------------------------------------------------------------------------------------------------


class Pipe:
    """A pipeline on a card that is not there."""

    model_cpu_offload_seq = "unet"

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}
        self.moves: list[str] = []
        self.out_of_memory = False

    def to(self, device: str, **_: Any) -> Pipe:
        self.moves.append(device)
        if self.out_of_memory and device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self

    def remove_all_hooks(self) -> None: ...

    def enable_model_cpu_offload(self, device: str) -> None:
        self.moves.append("offload")


@pytest.fixture
def on_a_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Diffusion, Pipe, Callable[[], Around]]:
    engine, pipe = Diffusion(), Pipe()
    monkeypatch.setattr(Diffusion, "_pick", staticmethod(lambda plan, card: ("cuda:0", "float16")))
    monkeypatch.setattr(trouble, "give_back", lambda device: None)
    engine._pipe, engine._card, engine._device, engine._dtype = pipe, card(tmp_path), "cuda:0", "float16"

    def load() -> Around:
        around = Around(tmp_path)
        engine.load(card(tmp_path), PLAN, around.ctx)
        return around

    return engine, pipe, load


def test_a_parked_model_is_moved_and_not_read_again(on_a_card: tuple[Diffusion, Pipe, Callable[[], Around]]) -> None:
    engine, pipe, load = on_a_card
    assert engine.park() and engine.park() and pipe.moves == ["cpu"]
    load()
    load()
    assert pipe.moves == ["cpu", "cuda:0"]


def test_a_card_that_filled_up_meanwhile_takes_a_parked_model_part_by_part(
    on_a_card: tuple[Diffusion, Pipe, Callable[[], Around]],
) -> None:
    engine, pipe, load = on_a_card
    assert engine.park()
    pipe.out_of_memory = True
    around = load()
    assert pipe.moves == ["cpu", "cuda:0", "cpu", "offload"] and engine._mode == "offload"
    assert "Memory ran out" in around.ctx.notes[0]
    assert engine.park() and pipe.moves[-1] == "offload", "it is off the card already"


def test_what_cannot_be_parked_says_so(
    on_a_card: tuple[Diffusion, Pipe, Callable[[], Around]], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphics, pipe, _ = on_a_card
    assert not Diffusion().park(), "nothing is loaded"
    graphics._device = "cpu"
    assert not graphics.park(), "it is not on a card"
    graphics._device = "mps"
    assert not graphics.park(), "the memory is the same"
    graphics._device = "cuda:0"
    monkeypatch.setattr(Diffusion, "_held", lambda self: 10_000)
    monkeypatch.setattr(trouble, "free_memory", lambda device: 10_000)
    assert not graphics.park() and pipe.moves == [], "this computer's memory is too short for it"


@pytest.mark.parametrize(
    "text",
    ["[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
     "CUDA error: out of memory", "std::bad_alloc", "could not create a primitive"],
)  # fmt: skip
def test_what_libraries_say_of_memory_is_understood(text: str) -> None:
    assert trouble.is_out_of_memory(RuntimeError(text)) and not trouble.is_out_of_memory(ValueError(text))


def test_what_torch_keeps_for_later_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    assert trouble.free_memory("cuda:0") == 1_200
    assert (trouble.free_memory("cpu") or 0) > 1_000_000
