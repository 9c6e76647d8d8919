"""Which layouts of LoRA files the installed libraries load: a look at the header says the same as loading does.

When a newer diffusers loads more, a test here fails, and `studio.models.additions` can take it in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.cards import ModelCard, NotThisKind
from studio.models.identify import look

FolderOf = Callable[[str], Path]

LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
OTHER = KOHYA.replace("attn2_to_k", "attn1_to_q")
WRITES, READS = 8, 16  # of that layer in the tiny Stable Diffusion


def pair(name: str, down: str, up: str, reads: int = READS, writes: int = WRITES) -> dict[str, tuple[int, ...]]:
    return {f"{name}{down}": (4, reads), f"{name}{up}": (writes, 4)}


_KOHYA = {**pair(KOHYA, ".lora_down.weight", ".lora_up.weight"), f"{KOHYA}.alpha": ()}
_PEFT = pair(f"unet.{LAYER}", ".lora_A.weight", ".lora_B.weight")
_WORDS = {
    name: shape
    for part in ("q_proj", "k_proj", "v_proj", "out_proj")
    for name, shape in pair(f"lora_te_text_model_encoder_layers_0_self_attn_{part}", ".lora_down.weight",
                            ".lora_up.weight", 16, 16).items()
}  # fmt: skip

LOADED = {
    "kohya": _KOHYA,
    "kohya, with the text encoder": _KOHYA | _WORDS,
    "peft": _PEFT,
    "peft, named": pair(f"unet.{LAYER}", ".lora_A.default.weight", ".lora_B.default.weight"),
    "peft, DoRA": _PEFT | {f"unet.{LAYER}.lora_magnitude_vector": (WRITES,)},
    "older diffusers": pair(f"unet.{LAYER.replace('attn2.', 'attn2.processor.')}_lora", ".down.weight", ".up.weight"),
}
REFUSED = {
    "LoHa": {f"{KOHYA}.hada_w1_a": (WRITES, 4), f"{KOHYA}.hada_w1_b": (4, READS),
             f"{KOHYA}.hada_w2_a": (WRITES, 4), f"{KOHYA}.hada_w2_b": (4, READS)},
    "LoKr": {f"{KOHYA}.lokr_w1": (2, 4), f"{KOHYA}.lokr_w2": (4, 4)},
    "whole layers": _KOHYA | {f"{OTHER}.diff": (8, 8)},
    "Tucker": _KOHYA | pair(OTHER, ".lora_down.weight", ".lora_up.weight", 8) | {f"{OTHER}.lora_mid.weight": (4, 4)},
    "an embedding inside": _KOHYA | {"bundle_emb.a.string_to_param.*": (1, 16)},
    "peft with alphas": _PEFT | {f"unet.{LAYER}.alpha": ()},
    "peft, bare": pair(f"base_model.model.{LAYER}", ".lora_A.weight", ".lora_B.weight"),
    "without the part's name": pair(f"{LAYER}.lora", ".down.weight", ".up.weight"),
    "its authors' names": pair("lora_unet_input_blocks_1_1_transformer_blocks_0_attn2_to_k", ".lora_down.weight",
                               ".lora_up.weight"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pipe(folder_of: FolderOf) -> Any:
    import torch
    from diffusers import DiffusionPipeline

    torch.set_num_threads(1)
    return DiffusionPipeline.from_pretrained(str(folder_of("sd")), local_files_only=True)


def written(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file({name: torch.rand(shape) for name, shape in shapes.items()}, str(path))
    return path


def loads(pipe: Any, file: Path) -> bool:
    """Whether any layer of the network has the LoRA after loading it, as the engine does."""
    try:
        pipe.load_lora_weights(
            str(file.parent), weight_name=file.name, adapter_name="x", use_safetensors=True, local_files_only=True
        )
        return any(".x." in name for name, _ in pipe.unet.named_parameters())
    except ValueError:
        return False
    finally:
        pipe.unload_lora_weights()


@pytest.mark.parametrize("layout", LOADED)
def test_a_layout_that_is_taken_is_loaded(pipe: Any, tmp_path: Path, layout: str) -> None:
    file = written(tmp_path / "x.safetensors", LOADED[layout])
    looked = look(file)
    assert isinstance(looked, ModelCard), looked
    assert looked.base == f"sd-{READS}"
    assert loads(pipe, file)


@pytest.mark.parametrize("layout", REFUSED)
def test_a_layout_that_is_refused_would_not_load(pipe: Any, tmp_path: Path, layout: str) -> None:
    file = written(tmp_path / "x.safetensors", REFUSED[layout])
    assert isinstance(look(file), NotThisKind)
    assert not loads(pipe, file)
