"""Memory that runs out: the job is run again in less of it by itself, and says what changed."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from studio.core.cards import Limits, Needs
from studio.core.plans import Plan
from studio.core.problems import OutOfMemory
from studio.core.recipes import ImageRecipe, TextRecipe
from studio.engines.context import JobCancelled
from studio.engines.image import thrift, trouble
from studio.engines.image.diffusion import Diffusion
from studio.models import memory
from studio.models.identify import look
from tests.engines.image.tiny import STARTER, Around, card, save_tiny

PLAN = Plan(device="cpu", threads=1, preview_every=0)
RECIPE = ImageRecipe(prompt="a red apple", steps=2, width=64, height=64, seed=3, count=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("sd", tmp_path_factory.mktemp("tiny"))


def open_engine(folder: Path, around: Around, plan: Plan = PLAN) -> Diffusion:
    engine = Diffusion()
    engine.load(card(folder, width=64, height=64), plan, around.ctx)
    return engine


def pixels(around: Around, index: int) -> Any:
    import numpy
    from PIL import Image

    return numpy.asarray(Image.open(around.out / f"{index}.png"))


@functools.cache
def bare(folder: Path, seed: int, *, tiled: bool = False) -> Any:
    """The picture as plain diffusers makes it."""
    import numpy
    import torch
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    if tiled:
        pipe.vae.enable_tiling()
        pipe.vae.enable_slicing()
    image = pipe(
        RECIPE.prompt, num_inference_steps=2, width=64, height=64, guidance_scale=RECIPE.guidance,
        guidance_rescale=RECIPE.guidance_rescale, generator=torch.Generator("cpu").manual_seed(seed),
    ).images[0]  # fmt: skip
    return numpy.asarray(image)


def runs_out(engine: Diffusion, part: str, method: str, times: int) -> list[str]:
    """Have a part of the pipeline run out of memory the first `times` times. Returns the modes it was tried in."""
    import torch

    owner = getattr(engine._pipe, part)
    real, tried = getattr(owner, method), list[str]()

    def failing(*arguments: Any, **more: Any) -> Any:
        if len(tried) < times:
            tried.append(engine._mode)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(*arguments, **more)

    setattr(owner, method, failing)
    return tried


@pytest.mark.parametrize(("part", "method"), [("unet", "forward"), ("vae", "decode")])
def test_a_picture_that_ran_out_is_made_again_in_tiles_and_says_so(
    folder: Path, tmp_path: Path, part: str, method: str
) -> None:
    around = Around(tmp_path)
    engine = open_engine(folder, around)
    tried = runs_out(engine, part, method, 1)
    result = engine.run(RECIPE, around.ctx)
    assert tried == ["full"] and engine._mode == "tiled"
    assert [n for n in result.notes if "Memory ran out" in n and "tiles" in n]
    assert result.made_with.memory == "tiled"
    for index in range(2):
        assert (pixels(around, index) == bare(folder, 3 + index, tiled=True)).all(), "it is what diffusers makes so"


def test_pictures_that_were_finished_before_stay_as_they_are(folder: Path, tmp_path: Path) -> None:
    around = Around(tmp_path)
    engine = open_engine(folder, around)
    real, calls = engine._pipe.vae.decode, []

    def second_fails(*arguments: Any, **more: Any) -> Any:
        import torch

        calls.append(engine._mode)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(*arguments, **more)

    engine._pipe.vae.decode = second_fails
    result = engine.run(RECIPE, around.ctx)
    assert calls == ["full", "full", "tiled"]
    assert (pixels(around, 0) == bare(folder, 3)).all() and (pixels(around, 1) == bare(folder, 4, tiled=True)).all()
    assert len([a for a in result.artifacts if a.role == "master"]) == 2


def test_without_shortage_nothing_is_changed(folder: Path, tmp_path: Path) -> None:
    around = Around(tmp_path)
    engine = open_engine(folder, around)
    result = engine.run(RECIPE, around.ctx)
    assert result.made_with.memory == "" and result.notes == ()
    assert (pixels(around, 0) == bare(folder, 3)).all()


def test_where_nothing_is_thriftier_it_fails_in_a_sentence_and_the_engine_goes_on(folder: Path, tmp_path: Path) -> None:
    around = Around(tmp_path)
    engine = open_engine(folder, around)
    runs_out(engine, "unet", "forward", 2)
    with pytest.raises(OutOfMemory, match="Memory ran out while painting 64×64"):
        engine.run(RECIPE, around.ctx)
    engine.run(RECIPE, Around(tmp_path / "next").ctx)


def test_a_larger_picture_begins_with_what_worked_and_a_smaller_one_is_tried_in_full(
    folder: Path, tmp_path: Path
) -> None:
    engine = open_engine(folder, Around(tmp_path))
    tried = runs_out(engine, "vae", "decode", 1)
    one = msgspec.structs.replace(RECIPE, count=1)
    engine.run(one, Around(tmp_path / "a").ctx)
    again = engine.run(one, Around(tmp_path / "b").ctx)
    assert tried == ["full"] and again.made_with.memory == "tiled", "it did not run out a second time"
    small = engine.run(msgspec.structs.replace(one, width=32, height=32), Around(tmp_path / "c").ctx)
    assert small.made_with.memory == ""


def test_a_cancel_is_heard_in_the_second_try(folder: Path, tmp_path: Path) -> None:
    around = Around(tmp_path, stop_when=lambda event: "Memory ran out" in getattr(event, "text", ""))
    engine = open_engine(folder, around)
    runs_out(engine, "unet", "forward", 1)
    with pytest.raises(JobCancelled):
        engine.run(RECIPE, around.ctx)


def test_what_was_planned_is_done_and_undone(folder: Path, tmp_path: Path) -> None:
    engine = open_engine(folder, Around(tmp_path))
    for plan, mode in ((Plan(memory="tiled"), "tiled"), (Plan(memory="full"), ""), (Plan(memory="offload"), "tiled")):
        around = Around(tmp_path / plan.memory)
        engine.load(card(folder, width=64, height=64), msgspec.structs.replace(plan, device="cpu"), around.ctx)
        result = engine.run(RECIPE, around.ctx)
        assert result.made_with.memory == mode
        assert (pixels(around, 0) == bare(folder, 3, tiled=bool(mode))).all()


def test_what_does_not_fit_is_begun_thriftily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "free_memory", lambda device: 100 * memory.MIB)
    looked = look(STARTER)
    around = Around(tmp_path)
    engine = Diffusion()
    engine.load(looked, PLAN, around.ctx)  # type: ignore[arg-type]
    wide = msgspec.structs.replace(RECIPE, width=384, height=384, count=1, steps=1)
    result = engine.run(wide, around.ctx)
    assert result.made_with.memory == "tiled" and any("To save memory" in note for note in result.notes)


def test_the_ladder_of_a_graphics_card_goes_down_to_its_end() -> None:
    """No card is here: what the switches are told is looked at."""

    class Pipe:
        model_cpu_offload_seq = "text_encoder->unet->vae"

        def __init__(self) -> None:
            self.told: list[str] = []
            self.vae = self
            self.components = {"unet": self}
            self.set_attention_slice = self.config = self.encode = None

        def __getattr__(self, name: str) -> Any:
            if name.startswith(("enable_", "disable_", "remove_", "to")):
                return lambda *a, **k: self.told.append(name)
            raise AttributeError(name)

    pipe = Pipe()
    modes = thrift.ladder(pipe, "cuda:0")
    assert modes == ("full", "tiled", "offload", "sequential")
    for old, new in itertools.pairwise(modes):
        if old != "sequential":
            assert thrift.switch(pipe, old, new, "cuda:0")
    assert [t for t in pipe.told if "offload" in t] == ["enable_model_cpu_offload", "enable_sequential_cpu_offload"]
    assert pipe.told.index("remove_all_hooks") < pipe.told.index("enable_sequential_cpu_offload")
    assert not thrift.switch(pipe, "sequential", "full", "cuda:0"), "this needs the model anew"
    assert thrift.ladder(pipe, "cpu") == ("full", "tiled")
    assert thrift.ladder(pipe, "mps") == ("full", "sliced", "tiled")


# -- the estimate -----------------------------------------------------------------------------------------------------

MEASURE = """
import gc, json, sys, threading, time
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
torch.set_num_threads(1)
folder, side = sys.argv[1], int(sys.argv[2])
vae = AutoencoderKL.from_pretrained(folder + "/vae").float().eval()
unet = UNet2DConditionModel.from_pretrained(folder + "/unet").float().eval()
latent = side // 2 ** (len(vae.config.block_out_channels) - 1)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def peak(work):
    gc.collect()
    base, top, on = resident(), [0], [True]
    def watch():
        while on[0]:
            top[0] = max(top[0], resident()); time.sleep(0.002)
    thread = threading.Thread(target=watch); thread.start()
    with torch.no_grad():
        work()
    on[0] = False; thread.join()
    return max(0, top[0] - base)
shape = (2, unet.config.in_channels, latent, latent)
print(json.dumps([
    peak(lambda: unet(torch.randn(shape), 10, torch.randn(2, 32, unet.config.cross_attention_dim))),
    peak(lambda: vae.decode(torch.randn(1, vae.config.latent_channels, latent, latent))),
]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_estimate_is_near_what_is_really_taken() -> None:
    looked = look(STARTER)
    side = 512
    out = subprocess.run([sys.executable, "-c", MEASURE, str(STARTER), str(side)], capture_output=True, text=True)
    denoiser, decoder = json.loads(out.stdout.splitlines()[-1])
    said = memory.estimate(looked, ImageRecipe(prompt="x", width=side, height=side))  # type: ignore[arg-type]
    assert 0.4 < said.activations / denoiser < 2.5, (said, denoiser)
    assert 0.4 < said.decoder / decoder < 2.5, (said, decoder)
    tiled = memory.estimate(looked, ImageRecipe(prompt="x", width=2048, height=2048), "tiled")  # type: ignore[arg-type]
    full = memory.estimate(looked, ImageRecipe(prompt="x", width=2048, height=2048))  # type: ignore[arg-type]
    assert tiled.decoder < full.decoder / 4 and tiled.activations == full.activations


def test_a_plan_takes_the_first_way_that_fits() -> None:
    gb = 1024**3
    big = card(Path("/x"), width=1024, height=1024)
    big = msgspec.structs.replace(big, needs=Needs(weights=7 * gb, number=2, latent=8, channels=320, decoder=256))
    recipe = ImageRecipe(prompt="x", width=1024, height=1024)
    free = {24: "full", 9: "tiled", 6: "offload", 2: "sequential"}
    assert {n: memory.first_mode(big, recipe, n * gb, "cuda:0") for n in free} == free
    assert memory.first_mode(big, recipe, 1 * gb, "cpu", held=14 * gb) == "tiled"
    assert memory.first_mode(big, recipe, None, "cuda:0") == "full", "nothing is known: as the library does it"


def test_a_text_is_reckoned_with_its_window() -> None:
    writer = msgspec.structs.replace(
        card(Path("/x")), kind="text", needs=Needs(weights=1000, per_token=100), limits=Limits(context=8192)
    )
    short = memory.estimate(writer, TextRecipe(prompt="x"))
    long = memory.estimate(writer, TextRecipe(prompt="x", context=8192))
    assert long.activations - short.activations == 4096 * 100 and long.mapped


# -- texts ------------------------------------------------------------------------------------------------------------


class Opens:
    """Stands in for llama.cpp: opens only what fits."""

    def __init__(self, largest: dict[str, int]) -> None:
        self.largest, self.tried = largest, list[tuple[int, str]]()

    def __call__(self, path: Path, *, n_ctx: int, device: str, **_: Any) -> Any:
        self.tried.append((n_ctx, device))
        if n_ctx > self.largest.get(device, 0):
            raise OutOfMemory("There is not enough memory.")

        class Server:
            def close(self) -> None: ...

        server: Any = Server()
        server.n_ctx, server.device = n_ctx, device
        return server


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from studio.engines.text import llama

    def make(largest: dict[str, int], *, graphics: bool = False) -> tuple[Any, Opens, Around]:
        opens = Opens(largest)
        monkeypatch.setattr(llama, "LlamaServer", opens)
        monkeypatch.setattr(llama, "graphics_there", lambda: graphics)
        engine = llama.Llama()
        engine._card, engine._plan = card(tmp_path), Plan(device="auto" if graphics else "cpu")
        return engine, opens, Around(tmp_path)

    return make


def test_a_window_that_does_not_fit_is_made_shorter_and_told(writer: Any) -> None:
    engine, opens, around = writer({"cpu": 2048})
    assert engine._open(8192, around.ctx).n_ctx == 2048
    assert opens.tried == [(8192, "cpu"), (4096, "cpu"), (2048, "cpu")]
    assert any("2,048 tokens" in note for note in around.ctx.notes)
    assert engine._open(8192, around.ctx).n_ctx == 2048 and len(opens.tried) == 3, "it is not tried in vain again"


def test_a_model_too_large_for_the_card_runs_on_the_processor(writer: Any) -> None:
    engine, opens, around = writer({"auto": 0, "cpu": 8192}, graphics=True)
    assert engine._open(4096, around.ctx).device == "cpu"
    assert opens.tried == [(4096, "auto"), (4096, "cpu")] and "processor" in around.ctx.notes[0]


def test_a_window_that_was_asked_for_or_is_needed_is_not_made_shorter(writer: Any) -> None:
    engine, opens, around = writer({"cpu": 2048})
    with pytest.raises(OutOfMemory):
        engine._open(8192, around.ctx, 8192)
    assert opens.tried == [(8192, "cpu")]
    with pytest.raises(OutOfMemory):
        engine._open(8192, around.ctx, 3000)
    assert opens.tried[1:] == [(8192, "cpu"), (4096, "cpu"), (3072, "cpu")]


# -- memory that is really not there ----------------------------------------------------------------------------------

REAL = """
import json, resource, sys
from pathlib import Path
from studio.engines.image import loading
loading.go_offline()
from studio.core.plans import Plan
from studio.core.problems import StudioError
from studio.core.recipes import ImageRecipe
from studio.engines.image.diffusion import Diffusion
from tests.engines.image.tiny import Around, card

model, out = Path(sys.argv[1]), Path(sys.argv[2])
engine = Diffusion()

def paint(name, side, memory="auto", again=False):
    around = Around(out / name)
    plan = Plan(device="cpu", threads=1, preview_every=0, memory=memory, again=again)
    engine.load(card(model), plan, around.ctx)
    recipe = ImageRecipe(prompt="a red apple", width=side, height=side, steps=1, seed=3)
    try:
        result = engine.run(recipe, around.ctx)
    except StudioError as error:
        return [error.problem.code, error.problem.sentence]
    return [result.made_with.memory, *result.notes]

def limit(extra):
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra if extra else resource.RLIM_INFINITY, resource.RLIM_INFINITY))

said = {"before": paint("before", 64)}
# what the library of convolutions builds once for a size, it does not build again after it failed in the middle
paint("tiled before", 448, "tiled")
paint("large before", 448, "full")
limit(80 << 20)
said["large"] = paint("large", 448)
limit(80 << 20)  # what the libraries keep for later is not counted against the next one
said["small"] = paint("small", 64)
limit(0)
said["after"] = paint("after", 448, "full", again=True)
said["tiled"] = paint("tiled", 448, "tiled")
print(json.dumps(said))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits address space")
def test_a_process_that_may_have_no_more_memory_paints_in_tiles_and_lives(tmp_path: Path) -> None:
    """448 px take 210 MB in full and 40 MB in tiles; 80 MB are to be had."""
    model = save_tiny("sd", tmp_path, decoder=32)
    command = [sys.executable, "-c", REAL, str(model), str(tmp_path)]
    # what is freed goes back at once, and no thread has a reserve of its own: the limit is the same in every run
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
    out = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    said = json.loads(out.stdout.splitlines()[-1])
    assert said["before"] == said["small"] == said["after"] == [""]
    assert said["large"][0] == "tiled" and "Memory ran out" in said["large"][1] and "tiles" in said["large"][1]
    png = {name: (tmp_path / name / "out" / "0.png").read_bytes() for name in ("large", "after", "tiled")}
    decoded = {name: pixels_of(data) for name, data in png.items()}
    assert (decoded["large"] == decoded["tiled"]).all() and not (decoded["large"] == decoded["after"]).all()


def pixels_of(data: bytes) -> Any:
    import io

    import numpy
    from PIL import Image

    return numpy.asarray(Image.open(io.BytesIO(data)))
