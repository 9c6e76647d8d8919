"""What InvokeAI, Fooocus, NovelAI, SwarmUI, Easy Diffusion and Draw Things write: JSON, each with its own keys.

Each function takes decoded JSON that may be of any shape, and never raises.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from studio.library.metadata.found import NAMES_LIMIT, Draft, as_json, as_object, brief, fits, integer, number
from studio.library.metadata.names import scheduler_of


class _Keys:
    """Settings by name; what is not asked for is listed at the end."""

    def __init__(self, data: dict[str, Any], draft: Draft) -> None:
        self._left = {k: v for k, v in data.items() if isinstance(k, str)}
        self._draft = draft

    def take(self, *names: str) -> Any:
        """The first of these that says something; all of them count as asked for."""
        found = [self._left.pop(name, None) for name in names]
        return next((value for value in found if value is not None and value != ""), None)

    def text(self, *names: str) -> str:
        value = self.take(*names)
        if value is not None and not isinstance(value, str):
            self._draft.note(names[0], value)
        return value if isinstance(value, str) else ""

    def put(self, field: str, *names: str) -> None:
        self._draft.put(field, self.take(*names), names[0])

    def items(self, *names: str) -> list[dict[str, Any]]:
        """The objects in a list; what else is in it is noted."""
        value = self.take(*names)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        for other in listed[:NAMES_LIMIT]:
            if not isinstance(other, dict):
                self._draft.note(names[0], other)
        return [v for v in listed[:NAMES_LIMIT] if isinstance(v, dict)]

    def drop(self, *names: str) -> None:
        """These say nothing about the picture, or repeat what others say."""
        for name in names:
            self._left.pop(name, None)

    def rest(self, prefix: str = "") -> None:
        for name, value in self._left.items():
            self._draft.note(prefix + name, value)


# -- InvokeAI ----------------------------------------------------------------------------------------------------------


def read_invoke(data: dict[str, Any], text: str) -> Draft:
    """InvokeAI from 3.0 on: the text "invokeai_metadata"."""
    draft = Draft("invokeai", text)
    keys = _Keys(data, draft)
    draft.prompt(keys.take("positive_prompt"), "positive_prompt")
    keys.put("negative", "negative_prompt")
    _weights(draft)
    # SDXL's second prompt usually repeats the first
    for name, first in (("positive_style_prompt", "prompt"), ("negative_style_prompt", "negative")):
        style = keys.text(name)
        if style and style != draft.values.get(first):
            draft.note(name, style)
    for field, name in (("steps", "steps"), ("seed", "seed"), ("guidance_rescale", "cfg_rescale_multiplier")):
        keys.put(field, name)
    guidance, scale = keys.take("guidance"), keys.take("cfg_scale")
    if guidance is not None:  # Flux
        draft.put("guidance", guidance, "guidance")
        if scale is not None and number(scale) != 1:
            draft.note("cfg_scale", scale)
    else:
        draft.put("guidance", scale, "cfg_scale")
    draft.size(keys.take("width"), keys.take("height"))
    scheduler = keys.text("scheduler")
    if scheduler:
        draft.sampling(scheduler_of(scheduler), scheduler)
    skip = integer(keys.take("clip_skip"))  # layers left out: one less than ours
    if skip:
        draft.put("clip_skip", skip + 1, "clip_skip")
    draft.model, draft.model_hash = _model_name(keys.take("model"), draft)
    draft.vae, _ = _model_name(keys.take("vae"), draft)
    draft.refiner, _ = _model_name(keys.take("refiner_model"), draft)
    for entry in keys.items("loras"):
        name, digest = _model_name(entry.get("lora") or entry.get("model"), draft)
        draft.lora(name, entry.get("weight", 0.75))
        draft.hash_of(name, digest)
    for entry in keys.items("controlnets", "controlLoras") + keys.items("t2iAdapters"):
        name, _ = _model_name(entry.get("control_model") or entry.get("t2i_adapter_model") or entry.get("model"), draft)
        image = entry.get("image")
        draft.control(
            name, image=image.get("image_name") if isinstance(image, dict) else image,
            weight=entry.get("control_weight", entry.get("weight")), start=entry.get("begin_step_percent"),
            end=entry.get("end_step_percent"),
        )  # fmt: skip
    keys.put("strength", "strength")
    across, down = keys.take("seamless_x"), keys.take("seamless_y")
    if across is True or down is True:
        draft.put("seamless", "both" if across is True and down is True else "x" if across is True else "y", "seamless")
    if keys.take("hrf_enabled") is True:
        draft.note("hrf_enabled", True)
        keys.put("enlarge_strength", "hrf_strength")
    keys.drop("generation_mode", "app_version", "rand_device", "hrf_strength", "hrf_method")
    keys.rest()
    return draft


def _model_name(value: Any, draft: Draft) -> tuple[str, str]:
    if isinstance(value, dict):
        # 3.x: model_name; 4.x and later: name beside a key, which is a number of their own
        name, digest = value.get("name") or value.get("model_name") or value.get("key"), value.get("hash")
        return (name if isinstance(name, str) else ""), (digest if isinstance(digest, str) else "")
    if value is not None and not isinstance(value, str):
        draft.note("model", value)
    return (value if isinstance(value, str) else ""), ""


def _weights(draft: Draft) -> None:
    """InvokeAI's own weights are Compel's: (word)1.2, word++."""
    written = f"{draft.values.get('prompt', '')}\n{draft.values.get('negative', '')}"
    if re.search(r"\)(\d|\.\d|[+-])|\w(\+|-)(\2|[\s,.]|$)|\.(blend|and|swap)\(", written) and fits("reading", "compel"):
        draft.values["reading"] = "compel"


def read_old_invoke(data: dict[str, Any], text: str) -> Draft:
    """InvokeAI 2: the text "sd-metadata"."""
    draft = Draft("invokeai", text)
    outer = _Keys(data, draft)
    image = outer.take("image")
    if isinstance(image, list) and image:
        image = image[0]
    keys = _Keys(image if isinstance(image, dict) else {}, draft)
    prompt = keys.take("prompt")
    if isinstance(prompt, list):
        words = [p.get("prompt") for p in prompt[:NAMES_LIMIT] if isinstance(p, dict)]
        prompt = ", ".join(w for w in words if isinstance(w, str))
    _old_prompt(prompt, draft)
    for field, name in (("steps", "steps"), ("guidance", "cfg_scale"), ("seed", "seed"), ("strength", "strength")):
        keys.put(field, name)
    draft.size(keys.take("width"), keys.take("height"))
    sampler = keys.text("sampler")
    if sampler:
        draft.sampling(scheduler_of(sampler), sampler)
    if keys.take("seamless") is True:
        draft.put("seamless", "both", "seamless")
    draft.model, draft.model_hash = outer.text("model_weights"), outer.text("model_hash")
    outer.drop("model", "model_id", "app_id", "app_version")
    keys.drop("type")
    if number(keys.take("threshold")) or number(keys.take("perlin")):
        draft.note("threshold, perlin", "used")
    keys.rest()
    outer.rest()
    return draft


def _old_prompt(prompt: Any, draft: Draft) -> None:
    """InvokeAI 2 wrote what is not wanted into the prompt, in brackets."""
    if not isinstance(prompt, str):
        draft.note("prompt", prompt)
        return
    unwanted = re.findall(r"(?<!\\)\[([^\[\]]*)\]", prompt)
    draft.prompt(re.sub(r"(?<!\\)\[[^\[\]]*\]", "", prompt).strip() if unwanted else prompt)
    draft.put("negative", ", ".join(u.strip() for u in unwanted if u.strip()), "prompt")
    _weights(draft)


_DREAM = {
    "-s": "steps", "--steps": "steps", "-S": "seed", "--seed": "seed", "-W": "width", "--width": "width",
    "-H": "height", "--height": "height", "-C": "guidance", "--cfg_scale": "guidance", "-A": "sampler",
    "--sampler": "sampler", "-f": "strength", "--strength": "strength",
}  # fmt: skip


def read_dream(text: str) -> Draft:
    """InvokeAI 1 and 2: the text "Dream", a command line."""
    draft = Draft("invokeai", text)
    try:
        words = shlex.split(text[:65_536])
    except ValueError:  # a quote without its other half
        words = text[:65_536].split()
    prompt: list[str] = []
    given: dict[str, str] = {}
    at = 0
    while at < len(words):
        word = words[at]
        joined = re.fullmatch(r"(-[sSWHCAf])(\S+)", word)
        if word in _DREAM and at + 1 < len(words):
            given[_DREAM[word]] = words[at + 1]
            at += 1
        elif joined and not given.get(_DREAM[joined[1]]) and (prompt or given):
            given[_DREAM[joined[1]]] = joined[2]
        elif re.match(r"--?[a-zA-Z]", word) and prompt:
            draft.note(word, words[at + 1] if at + 1 < len(words) and not words[at + 1].startswith("-") else "used")
            at += 1 if at + 1 < len(words) and not words[at + 1].startswith("-") else 0
        else:
            prompt.append(word)
        at += 1
    _old_prompt(" ".join(prompt), draft)
    for name in ("steps", "seed", "guidance", "strength"):
        draft.put(name, given.get(name), name)
    draft.size(given.get("width"), given.get("height"))
    if sampler := given.get("sampler"):
        draft.sampling(scheduler_of(sampler), sampler)
    return draft


# -- Fooocus -----------------------------------------------------------------------------------------------------------


def read_fooocus(data: dict[str, Any], text: str) -> Draft:
    """Fooocus' own layout; the keys of older versions are the labels of its window."""
    draft = Draft("fooocus", text)
    keys = _Keys(data, draft)
    draft.prompt(keys.take("prompt", "Prompt"))
    keys.put("negative", "negative_prompt", "Negative Prompt")
    keys.put("steps", "steps", "Steps")
    keys.put("guidance", "guidance_scale", "Guidance Scale")
    keys.put("seed", "seed", "Seed")
    keys.put("clip_skip", "clip_skip", "CLIP Skip")
    resolution = keys.take("resolution", "Resolution")
    sides = re.findall(r"\d{1,6}", resolution[:60]) if isinstance(resolution, str) else resolution
    if isinstance(sides, list) and len(sides) >= 2:
        draft.size(sides[0], sides[1], "resolution")
    else:
        draft.note("resolution", resolution)
    sampler, spacing = keys.text("sampler", "Sampler"), keys.text("scheduler", "Scheduler")
    if sampler:
        draft.sampling(scheduler_of(sampler, spacing), sampler, spacing)
    draft.model = keys.text("base_model", "Base Model")
    draft.model_hash = keys.text("base_model_hash")
    refiner, vae = keys.text("refiner_model", "Refiner Model"), keys.text("vae", "VAE")
    draft.refiner = "" if refiner == "None" else refiner
    draft.vae = "" if vae in ("None", "Default (model)") else vae
    _fooocus_loras(keys, data, draft)
    keys.drop("metadata_scheme", "full_prompt", "full_negative_prompt", "created_by", "version", "Version")
    if not draft.refiner:
        keys.drop("refiner_switch", "refiner_swap_method", "Refiner Switch", "refiner_model_hash")
    keys.rest()
    return draft


def _fooocus_loras(keys: _Keys, data: dict[str, Any], draft: Draft) -> None:
    listed = keys.take("loras")
    for entry in listed[:NAMES_LIMIT] if isinstance(listed, list) else []:
        if isinstance(entry, list) and len(entry) >= 2 and isinstance(entry[0], str):
            draft.lora(entry[0], entry[1])
            draft.hash_of(entry[0], entry[2] if len(entry) > 2 else "")
        else:
            draft.note("loras", entry)
    known = {name for name, _ in draft.loras}
    for key in list(data)[:1_000]:
        if re.fullmatch(r"(lora_combined_|LoRA )\d{1,2}", key):
            value = keys.take(key)
            parts = value.split(" : ") if isinstance(value, str) else []
            parts = parts[1:] if len(parts) == 3 and parts[0] == "True" else parts
            if len(parts) != 2:
                draft.note(key, value)
            elif not known and parts[0] != "None":
                draft.lora(parts[0], parts[1])


# -- NovelAI -----------------------------------------------------------------------------------------------------------


def read_novelai(comment: dict[str, Any], description: str, source: str, text: str) -> Draft:
    """NovelAI: most is in the JSON of "Comment"; the prompt is in "Description", too."""
    draft = Draft("novelai", text)
    keys = _Keys(comment, draft)
    draft.prompt(keys.take("prompt") or description)
    keys.put("negative", "uc")
    for name in ("v4_prompt", "v4_negative_prompt"):
        _novelai_caption(keys.take(name), name, draft)
    keys.put("steps", "steps")
    keys.put("guidance", "scale")
    keys.put("guidance_rescale", "cfg_rescale")
    keys.put("seed", "seed")
    draft.size(keys.take("width"), keys.take("height"))
    sampler, spacing = keys.text("sampler"), keys.text("noise_schedule")
    if sampler:
        draft.sampling(scheduler_of(sampler, "" if spacing == "native" else spacing), sampler, spacing)
    keys.put("strength", "strength")
    draft.model = source
    if many := integer(keys.take("n_samples")):
        draft.note("n_samples", many if many > 1 else None)
    keys.drop("request_type", "signed_hash", "hide_debug_overlay", "legacy", "legacy_v3_extend", "uncond_scale")
    keys.rest()
    if re.search(r"[{}]|::", str(draft.values.get("prompt", ""))):
        draft.note("weights", "written as {word} or 1.2::word::, which are not read here")
    return draft


def _novelai_caption(value: Any, name: str, draft: Draft) -> None:
    """From version 4 on there is a caption, and one for each character."""
    caption = value.get("caption") if isinstance(value, dict) else None
    if not isinstance(caption, dict):
        draft.note(name, value)
        return
    field = "prompt" if name == "v4_prompt" else "negative"
    base, characters = caption.get("base_caption"), caption.get("char_captions")
    if field not in draft.values and isinstance(base, str) and base.strip():
        draft.put(field, base, name)
    for character in characters[:NAMES_LIMIT] if isinstance(characters, list) else []:
        words = character.get("char_caption") if isinstance(character, dict) else None
        if isinstance(words, str) and words.strip():
            draft.note(f"{name} of a character", words)


# -- SwarmUI -----------------------------------------------------------------------------------------------------------


def read_swarm(data: dict[str, Any], text: str) -> Draft:
    """SwarmUI: "sui_image_params", beside the names and hashes of models."""
    draft = Draft("swarmui", text)
    outer = _Keys(data, draft)
    inner = outer.take("sui_image_params")
    keys = _Keys(inner if isinstance(inner, dict) else {}, draft)
    prompt = keys.take("prompt")
    if isinstance(prompt, str):
        for name, rest in re.findall(r"<lora:([^<>:]{1,200})(?::([^<>]{0,60}))?>", prompt)[:NAMES_LIMIT]:
            draft.lora(name, rest.split(":")[0] or 1.0)
        prompt = re.sub(r"[ \t]?<lora:[^<>]{1,260}>", "", prompt).strip()
    draft.prompt(prompt)
    keys.put("negative", "negativeprompt")
    for field, names in (
        ("steps", ("steps",)), ("seed", ("seed",)), ("variation_seed", ("variationseed",)),
        ("variation", ("variationseedstrength",)), ("strength", ("initimagecreativity",)),
        ("mask_blur", ("maskblur",)), ("enlarge", ("refinerupscale",)), ("enlarge_steps", ("refinersteps",)),
    ):  # fmt: skip
        keys.put(field, *names)
    if "enlarge" in draft.values:
        keys.put("enlarge_strength", "refinercontrolpercentage", "refinercontrol")
    flux, scale = keys.take("fluxguidancescale"), keys.take("cfgscale")
    draft.put("guidance", flux if flux is not None and number(scale) in (None, 1) else scale, "cfgscale")
    draft.size(keys.take("width"), keys.take("height"))
    sampler, spacing = keys.text("sampler", "comfyuisampler"), keys.text("scheduler", "comfyuischeduler")
    if sampler:
        draft.sampling(scheduler_of(sampler, spacing), sampler, spacing)
    elif spacing:
        draft.note("scheduler", spacing)
    last = integer(keys.take("clipstopatlayer"))
    if last is not None and last < 0:
        draft.put("clip_skip", -last, "clipstopatlayer")
    tile = keys.take("seamlesstileable")
    sides = {"true": "both", "x-only": "x", "y-only": "y", "false": "off"}.get(str(tile).lower())
    draft.put("seamless", sides, "seamlesstileable") if sides else draft.note("seamlesstileable", tile)
    draft.model, draft.vae = keys.text("model"), keys.text("vae")
    draft.vae = "" if draft.vae.lower() in ("automatic", "none") else draft.vae
    upscaler = keys.text("refinerupscalemethod")
    if upscaler.startswith("model-"):
        draft.upscaler = upscaler.removeprefix("model-")
    else:
        draft.note("refinerupscalemethod", upscaler)
    refiner = keys.text("refinermodel")
    draft.refiner = "" if refiner == "(Use Base)" else refiner
    _swarm_loras(keys, draft)
    for number_ in ("", "two", "three"):
        if model := keys.take(f"controlnet{number_}model"):
            draft.control(
                model, filter=keys.take(f"controlnet{number_}preprocessor"),
                weight=keys.take(f"controlnet{number_}strength"), start=keys.take(f"controlnet{number_}start"),
                end=keys.take(f"controlnet{number_}end"),
            )  # fmt: skip
    for entry in outer.items("sui_models"):
        name, digest = entry.get("name"), entry.get("hash")
        if entry.get("param") == "model" and isinstance(digest, str):
            draft.model_hash = digest
        elif isinstance(name, str):
            draft.hash_of(name, digest)
    keys.drop("swarm_version", "images", "aspectratio", "automaticvae", "donotsave")
    outer.drop("sui_extra_data")
    keys.rest()
    outer.rest()
    return draft


def _swarm_loras(keys: _Keys, draft: Draft) -> None:
    names, weights = keys.take("loras"), keys.take("loraweights")
    names = names.split(",") if isinstance(names, str) else names
    weights = weights.split(",") if isinstance(weights, str) else weights
    weights = weights if isinstance(weights, list) else []
    known = {name for name, _ in draft.loras}
    for at, name in enumerate(names[:NAMES_LIMIT] if isinstance(names, list) else []):
        lora = Draft("")
        lora.lora(name, weights[at] if at < len(weights) else 1.0)
        if not lora.loras:
            draft.note("loras", name)
        elif lora.loras[0][0] not in known:  # what stands in the prompt is in the list, too
            draft.lora(*lora.loras[0])


# -- Easy Diffusion and Draw Things ------------------------------------------------------------------------------------


def read_easy(data: dict[str, Any], text: str) -> Draft:
    """Easy Diffusion: one text for each setting in a PNG, one JSON for all in a JPEG or WebP."""
    draft = Draft("easydiffusion", text)
    keys = _Keys({k.lower().replace(" ", "_"): v for k, v in data.items() if isinstance(k, str)}, draft)
    draft.prompt(keys.take("prompt"))
    keys.put("negative", "negative_prompt")
    keys.put("steps", "num_inference_steps", "steps")
    keys.put("guidance", "guidance_scale")
    keys.put("seed", "seed")
    keys.put("strength", "prompt_strength")
    draft.size(keys.take("width"), keys.take("height"))
    sampler = keys.text("sampler_name", "sampler")
    if sampler:
        draft.sampling(scheduler_of(sampler), sampler)
    skip = keys.take("clip_skip")  # yes or no, and yes is the last but one layer
    if skip in (True, "True", "true"):
        draft.put("clip_skip", 2, "clip_skip")
    draft.model = keys.text("use_stable_diffusion_model", "stable_diffusion_model")
    draft.vae = keys.text("use_vae_model", "vae_model")
    names, weights = keys.take("use_lora_model", "lora_model"), keys.take("lora_alpha", "lora_strength")
    names = names if isinstance(names, list) else _listed(names)
    weights = weights if isinstance(weights, list) else _listed(weights)
    for at, name in enumerate(names[:NAMES_LIMIT]):
        draft.lora(name, weights[at] if at < len(weights) else 1.0)
    tiling = {"xy": "both", "x": "x", "y": "y"}.get(keys.text("tiling").lower())
    draft.put("seamless", tiling, "tiling")
    keys.drop("app", "format", "output_format", "output_quality")
    keys.rest()
    return draft


def _listed(value: Any) -> list[Any]:
    """A list, or Python's way of writing one, or one thing."""
    if value is None or value == "" or value == "None":
        return []
    if isinstance(value, str) and value.startswith("["):
        found = as_json(value.replace("'", '"'))
        return found if isinstance(found, list) else []
    return [value]


def read_draw_things(data: dict[str, Any], text: str) -> Draft:
    """Draw Things: JSON of short keys in UserComment."""
    draft = Draft("drawthings", text)
    keys = _Keys(data, draft)
    draft.prompt(keys.take("c"), "c")
    keys.put("negative", "uc")
    keys.put("steps", "steps")
    keys.put("guidance", "scale")
    keys.put("seed", "seed")
    size = keys.text("size")
    if (sides := re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)) is not None:
        draft.size(sides[1], sides[2])
    else:
        draft.note("size", size)
    sampler = keys.text("sampler")
    if sampler:
        draft.sampling(scheduler_of(sampler), sampler)
    draft.model = keys.text("model")
    strength = keys.take("strength")
    if number(strength) != 1:  # 1 begins from nothing
        draft.put("strength", strength, "strength")
    for entry in keys.items("lora"):
        draft.lora(entry.get("model") or entry.get("file"), entry.get("weight", 1.0))
    for entry in keys.items("control"):
        draft.control(entry.get("model") or entry.get("file"), weight=entry.get("weight"))
    details = keys.take("v2")
    keys.rest()
    if isinstance(details, dict):
        second = _Keys(details, draft)
        second.put("mask_blur", "maskBlur")
        skip = integer(second.take("clipSkip"))
        if skip and skip > 1:
            draft.put("clip_skip", skip, "clipSkip")
        second.drop(
            "steps", "seed", "width", "height", "sampler", "model", "strength", "guidanceScale", "loras", "controls",
            "batchCount", "batchSize",
        )  # fmt: skip
        second.rest("v2 ")
    return draft


def read_json_text(text: str) -> Draft | None:
    """The draft of a text that is one of these JSON objects; None for any other."""
    data = as_object(text)
    if not data:
        return None
    if "sui_image_params" in data:
        return read_swarm(data, text)
    if "num_inference_steps" in data or ("use_stable_diffusion_model" in data and "prompt" in data):
        return read_easy(data, text)
    if isinstance(data.get("Comment"), str) and str(data.get("Software", "")).startswith("NovelAI"):
        inner = as_object(data["Comment"])
        return read_novelai(inner, str(data.get("Description", "")), str(data.get("Source", "")), text)
    if "v4_prompt" in data or ("uc" in data and "prompt" in data and "scale" in data):
        return read_novelai(data, "", "", text)
    if "c" in data and "uc" in data and "sampler" in data:
        return read_draw_things(data, text)
    if "positive_prompt" in data and ("scheduler" in data or "model" in data):
        return read_invoke(data, text)
    fooocus = {"base_model", "guidance_scale", "performance", "Base Model", "Performance", "metadata_scheme"}
    if fooocus & data.keys() and ("prompt" in data or "Prompt" in data):
        return read_fooocus(data, text)
    return None


def together(named: dict[str, str]) -> str:
    """Several texts as one, for showing."""
    return "\n".join(f"{name}: {brief(value) if len(value) > 10_000 else value}" for name, value in named.items())
