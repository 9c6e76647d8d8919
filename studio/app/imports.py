"""What a picture of another program says of how it was made, put into the studio's terms. Pure but for the cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from studio.core.cards import ModelCard
from studio.core.text import shown
from studio.library.inputs import is_name
from studio.library.metadata import Found

PROGRAMS = {
    "studio": "the studio", "a1111": "A1111", "forge": "Forge", "sdnext": "SD.Next", "civitai": "Civitai",
    "comfyui": "ComfyUI", "invokeai": "InvokeAI", "fooocus": "Fooocus", "novelai": "NovelAI", "swarmui": "SwarmUI",
    "easydiffusion": "Easy Diffusion", "drawthings": "Draw Things",
}  # fmt: skip


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A found recipe as the form takes it.

    Attributes:
        program: who wrote it, in a word for people; empty where nothing could be made of it.
        values: field of ImageRecipe -> plain value. Models are ids of cards that are there.
        left: (name, value) of each thing that has no place here, as it was written.
        text: all of it, as it stands in the file.
    """

    program: str
    values: dict[str, Any]
    left: tuple[tuple[str, str], ...] = ()
    text: str = ""


def taken(found: Found, cards: Sequence[ModelCard]) -> Taken:
    """Find the models and additions that are named among those that are there; the others are listed as left."""
    values, left = dict(found.values), list(found.unmapped)

    def find(kind: str, name: str, digest: str = "") -> ModelCard | None:
        of_kind = [card for card in cards if card.kind == kind]
        wanted = Path(name.replace("\\", "/")).name.casefold()
        wanted = wanted.removesuffix(".safetensors")
        by_sum = [card for card in of_kind if digest and card.sha256.startswith(digest.lower())]
        by_name = [card for card in of_kind if wanted in (card.id.casefold(), card.name.casefold(), _stem(card))]
        return next(iter((*by_sum, *by_name)), None)

    def put(field: str, kind: str, name: str, label: str, digest: str = "") -> None:
        card = find(kind, name, digest) if name else None
        if card is not None:
            values[field] = card.id
        elif name:
            values.pop(field, None)
            left.append((label, f"{name} (not among the models here)"))

    put("model", "image", found.model or str(values.get("model", "")), "Model", found.model_hash)
    put("vae", "vae", found.vae or str(values.get("vae", "")), "Autoencoder")
    upscaler = found.upscaler or str(values.get("enlarge_with", ""))
    if upscaler.casefold() in ("lanczos", "none", "latent"):  # ways without a model; the nearest of ours is the usual
        upscaler = ""
    put("enlarge_with", "upscale", upscaler, "Upscaler")
    _several(found, values, left, find)
    for field in ("image", "mask"):
        # a path of a stranger's computer, or of this one that nobody here has named: not opened unasked
        if values.get(field) and not is_name(str(values[field])):
            left.append((field.capitalize(), shown(str(values.pop(field)), 80)))
    return Taken(program=PROGRAMS.get(found.tool, found.tool), values=values, left=tuple(left), text=found.text)


def _several(found: Found, values: dict[str, Any], left: list[tuple[str, str]], find: Any) -> None:
    """LoRAs, embeddings, controls and references: those that are there."""
    given = [(str(each.get("model", "")), each.get("weight", 1.0)) for each in _plain(values.pop("loras", ()))]
    loras = []
    for name, weight in (*given, *found.loras):
        card = find("lora", name, found.hashes.get(name, ""))
        if card is not None:
            loras.append({"model": card.id, "weight": float(weight)})
        else:
            left.append(("LoRA", f"{name} {weight:g} (not among the models here)"))
    embeddings = []
    for name in (*_plain(values.pop("embeddings", ())), *found.embeddings):
        card = find("embedding", str(name), found.hashes.get(str(name), ""))
        if card is not None:
            embeddings.append(card.id)
        else:
            left.append(("Embedding", f"{name} (not among the models here)"))
    for field, kind, label in (("controls", "control", "ControlNet"), ("references", "reference", "Reference")):
        kept = []
        for each in _plain(values.pop(field, ())):
            card = find(kind, str(each.get("model", "")))
            if card is not None and is_name(str(each.get("image", ""))):
                kept.append({**each, "model": card.id})
            else:
                left.append((label, shown(str(each.get("model", "")), 80)))
        if kept:
            values[field] = tuple(kept)
    left.extend(("ControlNet", f"{each.model} (its picture is not in the file)") for each in found.controls)
    if loras:
        values["loras"] = tuple(loras)
    if embeddings:
        values["embeddings"] = tuple(dict.fromkeys(embeddings))


def _plain(value: Any) -> list[Any]:
    made = msgspec.to_builtins(value)
    return list(made) if isinstance(made, (list, tuple)) else []


def _stem(card: ModelCard) -> str:
    return Path(card.path).stem.casefold()
