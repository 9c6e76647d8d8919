"""What a job will take, told from cards alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from studio.core.cards import Limits, ModelCard, Needs
from studio.core.paths import assets_folder
from studio.core.plans import MEMORY_MODES
from studio.core.recipes import ImageRecipe, SpeechRecipe, TextRecipe
from studio.models.identify import look
from studio.models.memory import BASE, MIB, Estimate, estimate, first_mode, modes_of

GB = 1024**3
SDXL = Needs(weights=7 * GB, largest=5 * GB, number=2, latent=8, channels=320, decoder=256)
FLUX = Needs(weights=33 * GB, largest=24 * GB, number=2, latent=8, patch=2, channels=3072, decoder=256)


def card(kind: str = "image", needs: Needs = SDXL, **limits: int) -> ModelCard:
    return ModelCard(
        id="x", name="x", kind=kind, engine="x", path="/x", format="x", needs=needs, limits=Limits(**limits)
    )


def picture(width: int, height: int) -> ImageRecipe:
    return ImageRecipe(prompt="x", width=width, height=height)


STARTER = look(assets_folder() / "models" / "starter-image")
# MB that a whole picture took above the loaded model, through the engine, on one thread of a processor
MEASURED = {("full", 256): 70, ("full", 512): 303, ("full", 768): 429, ("full", 1024): 641, ("tiled", 1024): 444}


@pytest.mark.parametrize(("mode", "side"), MEASURED)
def test_the_starter_takes_about_what_was_measured(mode: str, side: int) -> None:
    assert isinstance(STARTER, ModelCard)
    said = estimate(STARTER, picture(side, side), mode)
    assert 0.5 < (said.peak - said.weights) / MIB / MEASURED[mode, side] < 2, said


def test_the_look_at_the_starter_tells_what_the_plan_needs() -> None:
    assert isinstance(STARTER, ModelCard)
    needs = STARTER.needs
    assert (needs.number, needs.latent, needs.patch, needs.channels, needs.decoder) == (2, 8, 0, 96, 32)
    assert needs.weights == STARTER.bytes and needs.weights // 3 < needs.largest < needs.weights
    assert estimate(STARTER).weights == 2 * needs.weights, "float16 on disk, float32 on a processor"
    assert estimate(STARTER, number=2).weights == needs.weights


def test_the_peak_is_the_larger_of_two_turns() -> None:
    assert Estimate(10, 3, 4).peak == 14 and Estimate(10, 5, 4).peak == 15


def test_networks_of_known_families_take_what_is_known_of_them() -> None:
    """SDXL in float16 at 1024 px fits a card of 12 GB and not one of 8; Flux in bfloat16 needs more than 24."""
    xl = estimate(card(), picture(1024, 1024), number=2)
    assert 8 * GB < xl.peak < 12 * GB
    flux = estimate(card(needs=FLUX), picture(1024, 1024), number=2)
    assert 24 * GB < flux.peak < 40 * GB and flux.activations < 2 * GB


def test_more_pixels_take_more_and_thriftier_ways_take_less() -> None:
    for needs in (SDXL, FLUX):
        sizes = [estimate(card(needs=needs), picture(side, side), number=2).peak for side in (512, 1024, 2048)]
        assert sizes == sorted(set(sizes))
        ways = [estimate(card(needs=needs), picture(2048, 2048), mode, 2).peak for mode in MEMORY_MODES]
        assert ways == sorted(ways, reverse=True)
        tiled = [estimate(card(needs=needs), picture(side, side), "tiled", 2).decoder for side in (512, 1024)]
        assert tiled[1] < 1.2 * tiled[0], "a tile is a tile"


def test_a_picture_without_a_size_is_as_large_as_the_model_makes_them() -> None:
    own = estimate(card(width=1024, height=1024))
    assert own == estimate(card(width=1024, height=1024), ImageRecipe(prompt="x"))
    assert own == estimate(card(), picture(1024, 1024))


def test_an_old_card_says_only_its_weights() -> None:
    old = card(needs=Needs(weights=5 * GB))
    assert estimate(old, picture(1024, 1024)).weights == 5 * GB
    assert msgspec.convert({"weights": 5}, Needs) == Needs(weights=5)
    assert first_mode(card(needs=Needs()), picture(1024, 1024), 1, "cpu") == "full", "nothing is known"


@pytest.mark.parametrize(
    ("free", "mode"), [(24, "full"), (10, "full"), (9.5, "tiled"), (8, "offload"), (4, "sequential"), (1, "sequential")]
)
def test_a_card_gets_the_first_way_that_fits_with_some_reserve(free: float, mode: str) -> None:
    assert first_mode(card(), picture(1024, 768), int(free * GB), "cuda:0") == mode


def test_weights_that_are_there_already_count_as_room() -> None:
    recipe = picture(1024, 768)
    assert first_mode(card(), recipe, int(3 * GB), "cuda:0", held=7 * GB) == "full"
    assert first_mode(card(), recipe, int(1.5 * GB), "cuda:0", held=7 * GB) == "tiled"
    assert first_mode(card(), recipe, int(0.5 * GB), "cuda:0", held=7 * GB) == "offload", (
        "it takes weights off the card"
    )


def test_a_processor_and_apple_have_other_ways() -> None:
    for free in (64, 1):
        assert first_mode(card(), picture(1024, 1024), free * GB, "cpu") in ("full", "tiled")
    assert first_mode(card(), picture(1024, 1024), 1, "cpu") == "tiled", "the thriftiest there is"
    assert first_mode(card(), picture(1024, 1024), 1, "mps") == modes_of("mps")[-1] == "tiled"
    assert first_mode(card(), picture(1024, 1024), None, "cuda:0") == "full", "free memory is not known"
    assert set(modes_of("cpu")) < set(modes_of("cuda:0")) < set(MEMORY_MODES)


def test_the_number_format_that_is_used_counts() -> None:
    assert first_mode(card(), picture(1024, 768), 12 * GB, "cuda:0") == "full"
    assert first_mode(card(), picture(1024, 768), 12 * GB, "cuda:0", number=4) != "full"


def test_a_text_takes_its_weights_and_its_window(tmp_path: Path) -> None:
    writer = card("text", Needs(weights=1000, per_token=100), context=8192)
    usual, long = estimate(writer), estimate(writer, TextRecipe(prompt="x", context=8192))
    assert usual == Estimate(1000, 4096 * 100 + BASE, mapped=True)
    assert long.activations == 8192 * 100 + BASE
    assert estimate(writer, TextRecipe(prompt="x", context=100_000)) == long, "no longer than the model takes"
    assert estimate(card("text", Needs(per_token=100), context=512)).activations == 512 * 100 + BASE


def test_a_gguf_file_tells_what_a_token_takes(tmp_path: Path) -> None:
    from tests.engines.text import tiny_gguf

    tiny = look(tiny_gguf.write(tmp_path / "tiny.gguf"))
    assert isinstance(tiny, ModelCard)
    assert tiny.needs.per_token == 1 * 2 * (16 + 16) * 2  # blocks × heads × (keys + values) × float16


def test_a_voice_takes_a_sentence() -> None:
    voice = card("speech", Needs(weights=60 * MIB))
    short, long = (estimate(voice, SpeechRecipe(text="a" * n)) for n in (32, 100_000))
    assert 8 * MIB < short.activations < 32 * MIB, "16 MB were measured"
    assert 111 * MIB < long.activations < 444 * MIB, "222 MB were measured"
    assert estimate(voice) == long


def test_nothing_heavy_is_imported_to_plan() -> None:
    program = (
        "import sys, studio.models.memory; print([m for m in ('torch', 'numpy', 'diffusers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
