"""Piper voices: an ONNX file with its settings beside it.

Knows the fields of the settings; knows nothing of onnxruntime or phonemes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.core.cards import Broken, Limits, ModelCard, Needs, NotThisKind
from studio.core.text import clean, shown
from studio.models.about import card_id, safe_name
from studio.models.onnx_header import read_onnx
from studio.models.reading import COPY_AGAIN, read_json_object

_INPUTS = {"input", "input_lengths", "scales"}


def look_piper(path: Path) -> ModelCard | NotThisKind | Broken:
    """A file x.onnx with x.onnx.json beside it, or that settings file."""
    if path.name.lower().endswith(".onnx.json") and path.is_file():
        path = path.with_name(path.name[: -len(".json")])
        if not path.is_file():
            return Broken(f"its weights are missing: {shown(path.name, 120)}", "Copy them beside the settings.")
    if path.suffix.lower() != ".onnx" or not path.is_file():
        return NotThisKind("it is not an ONNX file")
    outline = read_onnx(path)
    if isinstance(outline, Broken):
        return outline
    # sid is there in voices with several speakers
    if not _INPUTS.issubset(outline.inputs) or not outline.outputs or set(outline.inputs) - _INPUTS - {"sid"}:
        return NotThisKind("it is an ONNX file, but not a Piper voice")
    if outline.external:
        return Broken("its weights lie in other files", "Get the voice as a single .onnx file.", "model_refused")
    settings_file = path.with_name(f"{path.name}.json")
    if not settings_file.is_file():
        return Broken(f"its settings are missing: {shown(settings_file.name, 120)}", "Copy them beside the voice.")
    settings = read_json_object(settings_file)
    if isinstance(settings, Broken):
        return settings
    return _carded(path, settings, several="sid" in outline.inputs)


def _carded(path: Path, settings: dict[str, Any], several: bool) -> ModelCard | Broken:
    def part(key: str) -> dict[str, Any]:
        value = settings.get(key)
        return value if isinstance(value, dict) else {}

    wrong = _wrong(settings, part("audio").get("sample_rate"), several)
    if wrong:
        return Broken(f"in its settings {wrong}", COPY_AGAIN)
    language = part("language")
    code = _text(language.get("code")) or _text(part("espeak").get("voice"))
    spoken = " ".join(filter(None, (_text(language.get("name_english")), f"({code})" if code else "")))
    size = path.stat().st_size
    name = safe_name(path.stem, "voice")
    return ModelCard(
        id=card_id(name, path),
        name=name,
        kind="speech",
        engine="speech.piper",
        path=str(path.absolute()),
        format="piper",
        family="piper",
        bytes=size,
        can=("speech",),
        limits=Limits(sample_rate=part("audio")["sample_rate"], speakers=settings["num_speakers"]),
        needs=Needs(weights=size),
        notes=(f"speaks {spoken}",) if spoken else (),
    )


def _wrong(settings: dict[str, Any], rate: Any, several: bool) -> str:
    """What is wrong with a voice's settings, or an empty string."""
    if type(rate) is not int or not 4_000 <= rate <= 192_000:
        return "the sample rate is missing or impossible"
    speakers = settings.get("num_speakers")
    if type(speakers) is not int or not 1 <= speakers <= 100_000:
        return "the number of speakers is missing or impossible"
    if speakers > 1 and not several:
        return f"there are {speakers} speakers, but its weights know one"
    phonemes = settings.get("phoneme_id_map")
    if not isinstance(phonemes, dict) or not phonemes:
        return "the list of phonemes is missing"
    for ids in phonemes.values():
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < 1 << 31 for i in ids):
            return "the list of phonemes is damaged"
    inference = settings.get("inference", {})
    if not isinstance(inference, dict) or any(
        type(v) not in (int, float) or not 0 <= v <= 100
        for k, v in inference.items()
        if k in ("noise_scale", "length_scale", "noise_w")
    ):
        return "the values for liveliness, rhythm or pace are damaged"
    return ""


def _text(value: Any) -> str:
    return shown(clean(value)[0], 40) if isinstance(value, str) else ""
