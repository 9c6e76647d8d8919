"""What is this file or folder? Asks each kind of model in turn; knows nothing of engines.

A kind is one function that answers with a card, with `NotThisKind` or with `Broken`, and one line in FORMATS.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from studio.core.cards import ADDITIONS, Broken, Looked, ModelCard, NotThisKind
from studio.core.recipes import RECIPES
from studio.core.text import shown
from studio.models.about import with_about
from studio.models.additions import look_addition_folder, look_cutout, look_header
from studio.models.diffusers_folder import look_diffusers
from studio.models.fingerprint import fingerprint
from studio.models.gguf_model import look_gguf
from studio.models.piper_voice import look_piper
from studio.models.reading import (
    code_in,
    gone,
    head_of,
    impostor,
    read_json_object,
    refused_pickle,
)
from studio.models.safetensors_header import read_safetensors
from studio.models.single_file import look_single
from studio.models.text_adapters import look_gguf_lora, look_peft
from studio.models.transformers_folder import look_transformers
from studio.models.vision import look_vision

__all__ = ["CANDIDATES", "FORMATS", "fingerprint", "look", "unreachable"]

_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")
CANDIDATES = (".gguf", ".safetensors", ".onnx", *_PICKLES)  # endings worth a look
FOLDER_LIMIT = 2_000  # entries of a folder that are looked through


def look_pickle(path: Path) -> Looked:
    """Files of formats that are programs. Refused by name, whatever is inside: nothing of them is opened."""
    if path.is_file() and path.suffix.lower() in _PICKLES:
        head = head_of(path)
        if isinstance(head, Broken):
            return head
        if not head:
            return Broken("it is not a model: it holds nothing", "Copy or download it again.")
        refused = refused_pickle()
        return Broken(f"{path.suffix.lower()} files are pickles, and opening a pickle can run any program",
                      refused.hint, refused.code)  # fmt: skip
    return NotThisKind("it is not a pickle")


def look_safetensors(path: Path) -> Looked:
    """Single safetensors files: additions to picture models, and whole picture models."""
    if not path.is_file() or path.suffix.lower() != ".safetensors":
        return NotThisKind("it is not a safetensors file")
    header = read_safetensors(path)
    if isinstance(header, Broken):
        return header
    return look_header(path, header) or look_single(path, header)


def look_folder(path: Path) -> Looked:
    """Other folders: a part of a diffusers model, a transformers model, or a single model file inside."""
    if not path.is_dir():
        return NotThisKind("it is not a folder")
    try:
        with os.scandir(path) as entries:
            files = sorted(e.name for _, e in zip(range(FOLDER_LIMIT), entries, strict=False) if e.is_file())
    except OSError as error:
        return gone(error)
    if "config.json" in files:
        config = read_json_object(path / "config.json")
        if isinstance(config, Broken):
            return config
        refused = code_in(config, "config.json")
        if refused is not None:
            return refused
        if "_class_name" in config:
            added = look_addition_folder(path)
            if not isinstance(added, NotThisKind):
                return added
            return NotThisKind("it is one part of a diffusers model; give the folder with model_index.json")
        if "vision" in str(config.get("model_type")):
            return NotThisKind("it is an image encoder, a part of a reference model")
        return NotThisKind("it is a transformers folder, but not of a model that writes texts")
    models = [f for f in files if f.lower().endswith((".gguf", ".onnx", ".safetensors"))]
    models = [f for f in models if "-of-" not in f or "-00001-of-" in f]  # a model in several files counts once
    if len(models) == 1:
        return look(path / models[0])
    if models:
        return NotThisKind(f"it holds {len(models)} models; give one of them, for example {shown(models[0], 80)}")
    if any(f.lower().endswith(_PICKLES) for f in files):
        return refused_pickle()
    return NotThisKind("the folder holds no model")


# In this order; the first answer that is not NotThisKind counts.
FORMATS: tuple[tuple[str, Callable[[Path], Looked]], ...] = (
    ("diffusers", look_diffusers),
    ("gguf-lora", look_gguf_lora),
    ("gguf", look_gguf),
    ("piper", look_piper),
    ("vision", look_vision),
    ("cutout", look_cutout),
    ("pickle", look_pickle),
    ("peft", look_peft),
    ("safetensors", look_safetensors),
    ("transformers", look_transformers),
    ("folder", look_folder),
)


def unreachable(path: Path) -> Broken | None:
    """Why there is nothing to look at: no such path (code "model_missing"), or one that may not be read.

    Opens no file.
    """
    try:
        os.stat(path)
        if path.is_dir():
            os.scandir(path).close()
    except OSError as error:
        return gone(error)
    except ValueError:  # a NUL in the path
        return Broken("that is not a path a file can have", code="model_missing")
    return None


def look(path: Path) -> Looked:
    """Say what a file or folder is, in milliseconds and without opening it in an engine.

    The window does not call this but `looking.looks`, which does it in a process of its own.

    Returns:
        A card; NotThisKind with the most telling reason; or Broken, also for a path that does not exist (code
        "model_missing") or may not be read.
    """
    wrong = unreachable(path)
    if wrong is not None:
        return wrong
    reasons: list[str] = []
    for _, look_as in FORMATS:
        try:
            looked = look_as(path)
        except OSError as error:  # deleted or unplugged meanwhile
            return gone(error)
        if isinstance(looked, ModelCard):
            return looked if path.is_dir() and looked.path != str(path.absolute()) else _with_about(looked)
        if isinstance(looked, Broken):
            return looked
        reasons.append(looked.why)
    return NotThisKind(_telling(path, reasons))


def _with_about(card: ModelCard) -> ModelCard:
    """What is written beside a model, laid over its card; of an addition, which makes nothing itself, no defaults."""
    if card.kind in RECIPES and card.kind not in ADDITIONS:
        return with_about(card)
    about = with_about(msgspec.structs.replace(card, kind="image"))
    return msgspec.structs.replace(about, kind=card.kind, defaults={})


def _telling(path: Path, reasons: list[str]) -> str:
    """Of all the reasons why not, the one that says what it is instead."""
    if sum(why.startswith("it is an ONNX file, but") for why in reasons) > 1:
        return "it is an ONNX file, but neither a Piper voice nor a cut-out, detector or depth model"
    for why in reasons:
        if not why.startswith(("it is not", "it holds no model_index")):
            return why
    head = head_of(path) if path.is_file() else b""
    if isinstance(head, bytes):
        if path.is_file() and not head:
            return "it holds nothing"
        found = impostor(head)
        if found is not None:
            return found.why
    return "it is none of the kinds of model the studio knows (GGUF, picture model, addition to one, Piper voice)"
