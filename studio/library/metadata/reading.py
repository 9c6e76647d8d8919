"""From an open picture file to what it says about how it was made. Knows in which texts each program writes.

What a file says is not trusted: nothing is run, opened or looked up because of it, and every value is held to the
recipe's declarations.
"""

from __future__ import annotations

from typing import Any, BinaryIO

from studio.core.recipes import CARRIED_AS, ImageRecipe
from studio.library.metadata import comfy, others
from studio.library.metadata.a1111 import looks_right, read_parameters
from studio.library.metadata.containers import texts_in
from studio.library.metadata.found import Draft, Found, as_object, fits
from studio.library.metadata.hidden import hidden_in
from studio.library.metadata.texts import Texts

# Where the text that A1111 calls "parameters" can be.
_PARAMETERS = (
    "parameters", "exif:UserComment", "xmp:UserComment", "exif:ImageDescription", "xmp:ImageDescription",
    "xmp:description", "comment", "Comment", "exif:XPComment", "exif:Model", "Description", "UserComment",
)  # fmt: skip
_OURS = (CARRIED_AS, "xmp:studio", "exif:studio")
_FIELDS = ImageRecipe.__struct_fields__


def read(stream: BinaryIO) -> Found | None:
    """What a picture file says about how it was made, whichever program wrote it.

    Args:
        stream: at its beginning; can be moved. PNG, JPEG, WebP, AVIF, HEIF and TIFF are known.

    Returns:
        None where there is nothing of the kind, and for other files. A Found without a tool where there is something
        that cannot be read; its `unmapped` says why.

    Raises:
        OSError: reading failed.
    """
    texts = texts_in(stream)
    if texts is None:
        return None
    draft = _draft(texts)
    if draft is None or not draft.says_something:
        text = hidden_in(stream, texts)
        draft = _draft(Texts(named={"parameters": text})) if text else None
    if draft is None or not draft.says_something:
        if not texts.left:
            return None
        draft = Draft("")
    for name, why in texts.left:
        draft.note(name, why)
    return draft.found(texts.width, texts.height)


def _draft(texts: Texts) -> Draft | None:
    """The first reading that fits, the most certain ones first."""
    named = texts.named
    # 1. our own
    for name in _OURS:
        if name in named and (ours := _read_ours(named[name])) is not None:
            return ours
    # 2. keywords that one program alone uses
    if "invokeai_metadata" in named and (data := as_object(named["invokeai_metadata"])):
        return others.read_invoke(data, named["invokeai_metadata"])
    if "sd-metadata" in named and (data := as_object(named["sd-metadata"])):
        return others.read_old_invoke(data, named["sd-metadata"])
    if "Dream" in named:
        return others.read_dream(named["Dream"])
    if named.get("Software", "").startswith("NovelAI") and (data := as_object(named.get("Comment", ""))):
        raw = named["Comment"]
        return others.read_novelai(data, named.get("Description", ""), named.get("Source", ""), raw)
    # 3. texts that say themselves what they are
    for name in _PARAMETERS:
        text = named.get(name, "")
        if (draft := others.read_json_text(text)) is not None:
            if draft.tool == "fooocus":
                _version(draft, texts)
            return draft
        if name == "exif:Model":
            continue  # otherwise that of a camera
        if looks_right(text) or (name == "parameters" and text and not text.lstrip().startswith(("{", "["))):
            scheme = texts.get("fooocus_scheme", "exif:MakerNote")
            return read_parameters(text, "fooocus" if scheme in ("a1111", "fooocus") else "")
    # 4. graphs, which many programs pass on, and which say less about what matters
    return _graph(named) or _easy(named)


def _read_ours(text: str) -> Draft | None:
    """Our own recipe. One from a newer studio may have fields that are not known here; they are listed."""
    data = as_object(text)
    if data.get("kind") != "image":
        return None
    draft = Draft("studio", text)
    for name, value in data.items():
        if name == "kind" or value is None:
            continue
        if name not in _FIELDS:
            draft.note(str(name), value)
        elif isinstance(value, str):
            if value.strip():
                draft.put(name, value)
        elif fits(name, value):
            draft.values[name] = value
        else:
            draft.put(name, value)
    model = data.get("model")
    draft.model = model if isinstance(model, str) else ""
    made_with: Any = data.get("made_with")
    if isinstance(made_with, dict) and isinstance(made_with.get("model_sha256"), str):
        draft.model_hash = made_with["model_sha256"]
    draft.vae = data["vae"] if isinstance(data.get("vae"), str) else ""
    draft.upscaler = data["enlarge_with"] if isinstance(data.get("enlarge_with"), str) else ""
    for lora in data["loras"] if isinstance(data.get("loras"), list) else ():
        if isinstance(lora, dict):
            draft.lora(lora.get("model"), lora.get("weight", 1.0))
    for control in data["controls"] if isinstance(data.get("controls"), list) else ():
        if isinstance(control, dict):
            draft.control(control.get("model"), **{k: v for k, v in control.items() if k in _OF_CONTROL})
    for name in data["embeddings"] if isinstance(data.get("embeddings"), list) else ():
        draft.embedding(name)
    return draft if "prompt" in draft.values else None


_OF_CONTROL = ("filter", "image", "weight", "start", "end")


def _version(draft: Draft, texts: Texts) -> None:
    draft.note("Software", texts.get("exif:Software"))


def _graph(named: dict[str, str]) -> Draft | None:
    """ComfyUI's graphs; in WebP they are in Exif texts that begin with their names."""
    graphs = {name: named[name] for name in ("prompt", "workflow") if name in named}
    for name, text in named.items():
        if name.startswith("exif:"):
            for graph in ("prompt", "workflow"):
                if text[: len(graph) + 1].lower() == f"{graph}:":
                    graphs.setdefault(graph, text[len(graph) + 1 :])
    for text in (graphs.get("prompt", ""), named.get("comment", ""), named.get("exif:UserComment", "")):
        draft = comfy.read_prompt(text) if text.lstrip().startswith("{") else None
        if draft is not None and draft.values:
            return draft
    if graphs.get("workflow", "").lstrip().startswith("{"):
        return comfy.read_workflow(graphs["workflow"])
    return comfy.read_prompt(graphs["prompt"]) if "prompt" in graphs else None


def _easy(named: dict[str, str]) -> Draft | None:
    """Easy Diffusion's PNGs have one text for each setting."""
    keys = {name.lower().replace(" ", "_") for name in named}
    if "prompt" not in keys or not keys & {"num_inference_steps", "steps", "guidance_scale"}:
        return None
    settings = {name: text for name, text in named.items() if ":" not in name}
    return others.read_easy(settings, others.together(settings))
