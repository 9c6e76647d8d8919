"""Pictures of other programs in the studio's terms: what is here is named by its id, what is not is listed."""

from __future__ import annotations

from typing import Any

import pytest

from studio.app.imports import taken
from studio.core.cards import ModelCard
from studio.core.recipes import check
from studio.library.metadata import Found
from studio.library.metadata.found import ControlFound


def card(kind: str, name: str, **more: Any) -> ModelCard:
    return ModelCard(
        id=f"{name}-id", name=name, kind=kind, engine="x", path=f"/models/{name}.safetensors", format="x", **more
    )


CARDS = [
    card("image", "dreamer_v8"), card("image", "other", sha256="abcdef0123456789"), card("lora", "soft-style"),
    card("embedding", "EasyNegative"), card("vae", "clear"), card("upscale", "4x-Sharp"), card("control", "canny"),
]  # fmt: skip


def test_models_are_found_by_checksum_or_by_name_without_folder_and_ending() -> None:
    by_name = taken(Found(tool="comfyui", values={"prompt": "x"}, model="sd15\\Dreamer_v8.safetensors"), CARDS)
    assert by_name.values["model"] == "dreamer_v8-id"
    assert by_name.program == "ComfyUI"
    by_sum = taken(Found(tool="a1111", values={"prompt": "x"}, model="renamed", model_hash="ABCDEF0123"), CARDS)
    assert by_sum.values["model"] == "other-id"
    missing = taken(Found(tool="a1111", values={"prompt": "x"}, model="gone"), CARDS)
    assert "model" not in missing.values
    assert missing.left == (("Model", "gone (not among the models here)"),)


def test_additions_that_are_here_are_taken_and_the_others_are_listed() -> None:
    found = Found(
        tool="forge", values={"prompt": "x", "steps": 20}, loras=(("soft-style", 0.8), ("gone", 1.0)),
        embeddings=("EasyNegative", "nope"), vae="clear.safetensors", upscaler="4x-Sharp",
        controls=(ControlFound(model="canny"),), unmapped=(("Eta", "0.3"),), text="raw",
    )  # fmt: skip
    here = taken(found, CARDS)
    assert here.values["loras"] == ({"model": "soft-style-id", "weight": 0.8},)
    assert here.values["embeddings"] == ("EasyNegative-id",)
    assert here.values["vae"] == "clear-id"
    assert here.values["enlarge_with"] == "4x-Sharp-id"
    assert {name for name, _ in here.left} == {"Eta", "LoRA", "Embedding", "ControlNet"}
    assert here.text == "raw"
    check("image", here.values)


def test_ways_to_enlarge_without_a_model_are_the_usual_one() -> None:
    here = taken(Found(tool="a1111", values={"prompt": "x", "enlarge": 2.0}, upscaler="Latent"), CARDS)
    assert "enlarge_with" not in here.values
    assert here.left == ()


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.png", "C:\\secret.png", "~/x.png"])
def test_paths_in_a_strangers_recipe_are_not_followed(path: str) -> None:
    found = Found(
        tool="studio",
        values={
            "prompt": "x", "image": path, "mask": path, "model": "/somewhere/evil.safetensors",
            "controls": ({"model": "canny", "image": path},), "references": ({"model": "canny", "image": path},),
        },
    )  # fmt: skip
    here = taken(found, CARDS)
    assert not {"image", "mask", "model", "controls", "references"} & set(here.values)
    assert len(here.left) == 5
