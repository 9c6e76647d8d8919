"""The "parameters" text of A1111's web UI and its many relatives: reading it, and writing one that they read.

A prompt of any number of lines, "Negative prompt:" and more lines, and one last line of "key: value" pairs:

    a fox <lora:ink:0.8>
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Model: dream

Knows this layout; knows nothing of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import studio
from studio.core.recipes import ImageRecipe
from studio.core.text import clean, shown
from studio.library.metadata.found import NAMES_LIMIT, Draft, as_json, fits, number, plain_name
from studio.library.metadata.names import sampler_of, scheduler_of, spacing_of

PAIRS_LIMIT = 1_000
NEGATIVE = "Negative prompt:"

_KEY = re.compile(r"\s*([\w(][\w \-/()&.+]{0,79}):\s*")
_QUOTED = re.compile(r'"(?:\\.|[^\\"])*"')
_SIZE = re.compile(r"\s*(\d{1,6})\s*[x×]\s*(\d{1,6})\s*")
_ADDED = re.compile(r"<(lora|lyco|hypernet):([^<>:\n]{1,200})(?::([^<>\n]{0,200}))?>", re.IGNORECASE)
_BRACKETS = re.compile(r"(?<!\\)[(\[]")


def looks_right(text: str) -> bool:
    """Whether a text is in this layout, and not just any text."""
    return bool(re.search(r"(?m)^[ \t]*Steps: ?\d", text)) and len(list(_pairs(_parts(text)[2]))) >= 3


def read_parameters(text: str, tool: str = "") -> Draft:
    """Take a "parameters" text apart. Never raises.

    Args:
        tool: who wrote it, where that is known otherwise.
    """
    prompt, negative, last = _parts(text)
    pairs: dict[str, str] = {}
    twice: list[tuple[str, str]] = []
    for key, value in _pairs(last):
        if key in pairs:
            twice.append((key, value))
        else:
            pairs[key] = value
    draft = Draft(tool or _tool(pairs), text)
    ours = draft.tool == "studio"
    # Fooocus (and we, where the layout cannot hold a prompt as it is) repeat the prompts in the last line
    raw = pairs.pop("Raw prompt", None)
    raw_negative = pairs.pop("Raw negative prompt", None)
    literal = ours and raw is not None  # then what looks like a LoRA is part of the prompt
    prompt = raw if raw is not None else prompt
    prompt = prompt if literal else _without_additions(prompt, draft)
    negative = raw_negative or "" if literal or raw_negative is not None else negative
    draft.prompt(prompt, "Prompt")
    if negative.strip():
        draft.put("negative", negative, "Negative prompt")
    if not ours and _BRACKETS.search(prompt + negative) and fits("reading", "a1111"):
        draft.values["reading"] = "a1111"
    _take(pairs, draft)
    if ours:
        pairs.pop("Version", None)
    for key, value in [*pairs.items(), *twice]:
        draft.note(key, value)
    return draft


def _parts(text: str) -> tuple[str, str, str]:
    """Prompt, negative prompt and the line of pairs, each possibly empty."""
    lines = text.replace("\r\n", "\n").strip("\n").split("\n")
    last = ""
    # Usually the last line; some extensions and Civitai add lines of their own below it.
    for at in range(len(lines) - 1, max(-1, len(lines) - 8), -1):
        if len(list(_pairs(lines[at], 3))) >= 3 and (at == len(lines) - 1 or lines[at].lstrip().startswith("Steps:")):
            last = " , ".join([lines[at], *(line for line in lines[at + 1 :] if line.strip())])
            lines = lines[:at]
            break
    at = next((i for i, line in enumerate(lines) if line.lstrip().startswith(NEGATIVE)), len(lines))
    negative = lines[at:]
    if negative:
        negative[0] = negative[0].lstrip()[len(NEGATIVE) :].removeprefix(" ")
    return "\n".join(lines[:at]).strip(), "\n".join(negative).strip(), last


def _pairs(line: str, most: int = PAIRS_LIMIT) -> Iterator[tuple[str, str]]:
    """The pairs of a line. A value is JSON in quotes or brackets, or goes on to the next comma."""
    at, found, tries = 0, 0, _Tries()
    while at < len(line) and found < most:
        key = _KEY.match(line, at)
        if key is None:
            # "Key" without a value, or the rest of a value with commas: passed over up to the next comma
            comma = line.find(",", at)
            at = len(line) if comma < 0 else comma + 1
            continue
        value, at = _value(line, key.end(), tries)
        found += 1
        yield key[1].strip(), value


class _Tries:
    """How often a quote or bracket may be without its other half; each search for it goes through the whole line."""

    left = 16


def _value(line: str, at: int, tries: _Tries) -> tuple[str, int]:
    """The value that begins at `at`, and where the next pair begins."""
    begins = line[at : at + 1]
    if tries.left and begins in ('"', "[", "{") and begins:
        if begins == '"':
            quoted = _QUOTED.match(line, at)
            end = quoted.end() if quoted else 0
        else:
            end = _closing(line, at)  # Civitai writes bare JSON
        behind = re.compile(r"\s{0,16}(,|$)").match(line, end) if end else None
        if behind is not None:
            value = line[at:end]
            inside = as_json(value) if begins == '"' else None
            return (inside if isinstance(inside, str) else value), behind.end()
        tries.left -= 1
    comma = line.find(",", at)
    end = len(line) if comma < 0 else comma
    return line[at:end].strip(), end + 1


def _closing(line: str, at: int) -> int:
    """Just behind the bracket that closes the one at `at`; 0 if none does."""
    depth = 0
    for token in re.finditer(r'"(?:\\.|[^\\"])*"|[\[\]{}]', line[at:]):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
            if depth == 0:
                return at + token.end()
    return 0


def _tool(pairs: dict[str, str]) -> str:
    version = pairs.get("Version", "")
    if version.startswith("studio"):
        return "studio"
    if version.startswith("ComfyUI"):
        return "comfyui"
    if "Civitai resources" in pairs or "Civitai metadata" in pairs:
        return "civitai"
    if pairs.get("App", "") == "SD.Next" or ("Pipeline" in pairs and "Operations" in pairs):
        return "sdnext"
    if version.startswith("Fooocus") or "ADM Guidance" in pairs:
        return "fooocus"
    if re.match(r"f\d|neo|forge|classic", version) or "Module 1" in pairs or "Diffusion in Low Bits" in pairs:
        return "forge"
    return "a1111"


def _without_additions(prompt: str, draft: Draft) -> str:
    """The prompt without its `<lora:name:weight>`; what they name goes to the draft."""

    def take(found: re.Match[str]) -> None:
        kind, name, rest = found[1].lower(), found[2], found[3] or "1"
        first = rest.split(":")[0].removeprefix("te=").removeprefix("unet=")
        if kind == "hypernet" or number(first or "1") is None:
            draft.note(kind, f"{name}:{rest}")
        else:
            draft.lora(name, first or "1")
            if ":" in rest:
                draft.note(f"LoRA {name}", rest)  # weights by part or block

    kept, at = "", 0
    for found in _ADDED.finditer(prompt):
        take(found)
        kept += prompt[at : found.start()].rstrip(" \t")
        at = found.end()
        rest = re.compile(r"[ \t]{0,16},").match(prompt, at)
        if rest is not None and (not kept.strip() or kept.endswith((",", "\n"))):
            at = rest.end()  # of two commas one stays
    return (kept + prompt[at:]).strip() if at else prompt


def _take(pairs: dict[str, str], draft: Draft) -> None:
    """Move what has a place in our recipe from the pairs to the draft; what stays in `pairs` has none."""
    for key, field in (
        ("Steps", "steps"),
        ("Clip skip", "clip_skip"),
        ("Variation seed", "variation_seed"),
        ("Variation seed strength", "variation"),
        ("Mask blur", "mask_blur"),
        ("CFG rescale", "guidance_rescale"),
        ("Hires denoising strength", "enlarge_strength"),
        ("Prompt reading", "reading"),
    ):
        if key in pairs:
            draft.put(field, pairs.pop(key), key)
    _guidance(pairs, draft)
    _seed_and_size(pairs, draft)
    _sampler(pairs, draft)
    _models(pairs, draft)
    _hires(pairs, draft)
    if (strength := pairs.pop("Denoising strength", None)) is not None:
        # the second pass has it, and a picture to begin with has it, but never both in one text of theirs
        second = "enlarge" in draft.values and "enlarge_strength" not in draft.values
        draft.put("enlarge_strength" if second else "strength", strength, "Denoising strength")
    _mask(pairs, draft)
    _additions(pairs, draft)
    if (tiling := pairs.pop("Tiling", None)) is not None:
        sides = {"true": "both", "false": "off", "x": "x", "y": "y", "both": "both"}.get(tiling.lower())
        draft.put("seamless", sides, "Tiling") if sides else draft.note("Tiling", tiling)


def _guidance(pairs: dict[str, str], draft: Draft) -> None:
    scale, distilled = pairs.pop("CFG scale", None), pairs.pop("Distilled CFG Scale", None)
    # Forge's Flux has its own guidance beside a CFG scale of 1
    if distilled is not None and number(scale) in (None, 1):
        draft.put("guidance", distilled, "Distilled CFG Scale")
        return
    draft.put("guidance", scale, "CFG scale")
    draft.note("Distilled CFG Scale", distilled)


def _seed_and_size(pairs: dict[str, str], draft: Draft) -> None:
    if "Seed" in pairs:
        draft.put("seed", pairs.pop("Seed"), "Seed")
    if (size := pairs.pop("Size", None)) is not None:
        if (sides := _SIZE.fullmatch(size)) is not None:
            draft.size(sides[1], sides[2], "Size")
        else:
            draft.note("Size", size)


def _sampler(pairs: dict[str, str], draft: Draft) -> None:
    sampler, spacing = pairs.pop("Sampler", ""), pairs.pop("Schedule type", "")
    if not spacing and draft.tool == "fooocus":
        spacing = pairs.pop("Scheduler", "")
    if sampler:
        if draft.tool == "studio" and sampler == sampler_of("dpmpp_2m_karras") and fits("scheduler", "dpmpp_2m_karras"):
            draft.values["scheduler"] = "dpmpp_2m_karras"  # as we wrote it
        else:
            draft.sampling(scheduler_of(sampler, spacing, automatic=True), sampler, spacing)
    elif spacing:
        _, sigmas = scheduler_of("", spacing)
        draft.put("sigmas", sigmas, "Schedule type") if sigmas else draft.note("Schedule type", spacing)


def _models(pairs: dict[str, str], draft: Draft) -> None:
    draft.model, draft.model_hash = pairs.pop("Model", ""), pairs.pop("Model hash", "")
    draft.vae, draft.refiner = pairs.pop("VAE", ""), pairs.pop("Refiner", "")
    if draft.vae.lower() in ("automatic", "none", "default", "default (model)"):
        draft.vae = ""
    if (named := re.fullmatch(r"(.+?) \[([0-9a-f]{6,})\]", draft.refiner)) is not None:
        draft.refiner = named[1]
    if "VAE hash" in pairs and draft.vae:
        draft.hash_of(draft.vae, pairs.pop("VAE hash"))


def _hires(pairs: dict[str, str], draft: Draft) -> None:
    draft.put("enlarge", pairs.pop("Hires upscale", None), "Hires upscale")
    draft.put("enlarge_steps", pairs.pop("Hires steps", None), "Hires steps")
    resize = pairs.get("Hires resize", "")
    sides = _SIZE.fullmatch(resize)
    width, height = draft.values.get("width"), draft.values.get("height")
    if sides and width and height and "enlarge" not in draft.values:
        across, down = int(sides[1]) / width, int(sides[2]) / height
        if (
            1 < across <= 4
            and abs(across - down) * max(width, height) <= 8
            and draft.put("enlarge", round(across, 3), "Hires resize")
        ):
            pairs.pop("Hires resize")
    upscaler = pairs.pop("Hires upscaler", "")
    if upscaler.lower().startswith(("latent", "nearest")):
        draft.note("Hires upscaler", upscaler)
    elif upscaler.lower() not in ("lanczos", "none", ""):
        draft.upscaler = upscaler


def _mask(pairs: dict[str, str], draft: Draft) -> None:
    for key, field, meant in (
        ("Inpaint area", "mask_area", {"only masked": "mask", "whole picture": "picture"}),
        ("Masked content", "mask_fill", {"original": "original", "fill": "blurred", "latent noise": "noise"}),
    ):
        if (value := pairs.pop(key, None)) is not None:
            ours = meant.get(value.lower())
            draft.put(field, ours, key) if ours else draft.note(key, value)
    draft.put("mask_padding", pairs.pop("Masked area padding", None), "Masked area padding")


def _additions(pairs: dict[str, str], draft: Draft) -> None:
    """LoRAs by their hashes and weights, textual inversions, ControlNets, Civitai's list."""
    hashes = dict(_list_of_pairs(pairs.pop("Lora hashes", "")))
    for name, value in hashes.items():
        draft.hash_of(name, value)
    named = {name for name, _ in draft.loras}
    for name, weight in _list_of_pairs(pairs.pop("Lora weights", "")):
        if plain_name(name) not in named:
            draft.lora(name, weight)
    named = {name for name, _ in draft.loras}
    for name in hashes:
        if plain_name(name) not in named:
            draft.note("Lora hashes", f"{name}: used, but not in the prompt")
    for name, value in _list_of_pairs(pairs.pop("TI hashes", "") or pairs.pop("TI", "")):
        draft.embedding(name)
        draft.hash_of(name, value)
    for key in [k for k in pairs if re.fullmatch(r"ControlNet( \d+)?", k)][:NAMES_LIMIT]:
        _control(key, pairs.pop(key), draft)
    # Civitai's list repeats, under other names, what the prompt has
    resources = as_json(pairs.get("Civitai resources", "")) if not draft.loras else None
    if isinstance(resources, list):
        pairs.pop("Civitai resources")
        for resource in resources[:NAMES_LIMIT]:
            _resource(resource, draft)


def _list_of_pairs(text: str) -> list[tuple[str, str]]:
    """'a: 1, b: 2' -> pairs; names may have commas or colons of their own only before the last colon."""
    found = []
    for part in text.split(",")[: NAMES_LIMIT * 2]:
        name, colon, value = part.rpartition(":")
        if colon and name.strip():
            found.append((name.strip(), value.strip()))
    return found


def _control(key: str, text: str, draft: Draft) -> None:
    facts = {k.lower(): v for k, v in _pairs(text)}
    model = re.sub(r" \[[0-9a-f]{6,}\]$", "", facts.pop("model", ""))
    first = facts.pop("guidance start", None)
    last = facts.pop("guidance end", None)
    between = re.search(r"starting/ending: \(([\d.]+), ([\d.]+)\)", text)
    if between:
        first, last = between[1], between[2]
        facts.pop("starting/ending", None)
    filter_ = facts.pop("module", facts.pop("preprocessor", ""))
    if not model or model.lower() == "none":
        draft.note(key, text)
        return
    draft.control(model, filter=filter_, weight=facts.pop("weight", None), start=first, end=last)
    if facts:
        draft.note(key, ", ".join(f"{k}: {v}" for k, v in facts.items()))


def _resource(resource: Any, draft: Draft) -> None:
    facts = resource if isinstance(resource, dict) else {}
    name, kind = facts.get("modelName"), facts.get("type")
    if not isinstance(name, str):
        draft.note("Civitai resources", resource)
    elif kind == "checkpoint":
        draft.model = draft.model or name.replace("/", "-")
    elif kind in ("lora", "lycoris", "dora"):
        draft.lora(name.replace("/", "-"), facts.get("weight", 1.0))
    elif kind == "embed":
        draft.embedding(name)
    else:
        draft.note("Civitai resources", resource)


# -- writing -----------------------------------------------------------------------------------------------------------


def parameters_text(
    recipe: ImageRecipe,
    *,
    model: str = "",
    model_sha256: str = "",
    size: tuple[int, int] | None = None,
    version: str = "",
    hashes: dict[str, str] | None = None,
) -> str:
    """The "parameters" text of a picture, as A1111, its relatives and Civitai read it.

    What the layout has no place for (input pictures, references, circumstances) is not in it; the recipe's own JSON
    has everything. Where it cannot hold a prompt as it is, the prompts are repeated in its last line.

    Args:
        model: the model's name; the recipe's own otherwise. model_sha256: of its file.
        size: of the first pass, px, where the recipe leaves it to the model.
        version: of the studio; this one's otherwise.
        hashes: LoRA's name in the recipe -> SHA-256 of its file, of which the first ten digits are written: by them
            Civitai knows a file.
    """
    loras = [(_token(lora.model), float(lora.weight)) for lora in getattr(recipe, "loras", ())]
    prompt, negative = clean(recipe.prompt)[0], clean(recipe.negative)[0]
    with_loras = " ".join([prompt, *(f"<lora:{name}:{_short(weight)}>" for name, weight in loras)]).strip()
    pairs = _facts(recipe, model, model_sha256, size)
    if loras and hashes:
        known = {_token(name): digest[:10] for name, digest in hashes.items() if digest}
        pairs["Lora hashes"] = ", ".join(f"{n}: {known[n]}" for n, _ in loras if n in known) or None
    pairs["Version"] = f"studio {version or studio.__version__}"
    text = _laid_out(with_loras, negative, pairs)
    again = read_parameters(text)
    same = (again.values.get("prompt", ""), again.values.get("negative", "")) == (prompt, negative)
    if not same or again.loras != loras or list(_parts(text)[:2]) != [with_loras, negative]:
        version_ = pairs.pop("Version")
        pairs["Raw prompt"], pairs["Raw negative prompt"] = prompt, negative or None
        pairs["Lora weights"] = ", ".join(f"{name}: {_short(weight)}" for name, weight in loras) or None
        text = _laid_out(with_loras, negative, {**pairs, "Version": version_})
    return text


def _laid_out(prompt: str, negative: str, pairs: dict[str, Any]) -> str:
    last = ", ".join(f"{key}: {_quoted(value)}" for key, value in pairs.items() if value is not None)
    return prompt + (f"\n{NEGATIVE} {negative}" if negative else "") + "\n" + last


def _facts(recipe: ImageRecipe, model: str, model_sha256: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """The pairs, in the order in which A1111 has them; None is left out."""

    def of(field: str, default: Any = None) -> Any:
        return getattr(recipe, field, default)

    enlarge = of("enlarge", 1.0)
    second = enlarge > 1
    first = bool(of("image", ""))
    varied = bool(of("variation", 0.0))
    masked = bool(of("mask", ""))
    width, height = (recipe.width, recipe.height) if recipe.width and recipe.height else (size or (None, None))
    sigmas = of("sigmas", "model")
    pairs: dict[str, Any] = {
        "Steps": recipe.steps,
        "Sampler": _sampler_name(recipe.scheduler, sigmas),
        "Schedule type": spacing_of(sigmas) or None,
        "CFG scale": recipe.guidance,
        "Seed": recipe.seed,
        "Size": f"{width}x{height}" if width and height else None,
        "Model hash": model_sha256[:10] or None,
        "Model": plain_name(model or recipe.model) or None,
        "VAE": plain_name(of("vae", "")) or None,
        "Variation seed": of("variation_seed") if varied else None,
        "Variation seed strength": of("variation") if varied else None,
        "Denoising strength": of("strength") if first else of("enlarge_strength") if second else None,
        "Clip skip": of("clip_skip", 1) if (of("clip_skip", 1) or 1) > 1 else None,
        "Tiling": {"both": "True", "x": "x", "y": "y"}.get(of("seamless", "off")),
        "Mask blur": of("mask_blur") if masked else None,
        "Inpaint area": {"mask": "Only masked"}.get(of("mask_area")) if masked else None,
        "Masked area padding": of("mask_padding") if masked and of("mask_area") == "mask" else None,
        "Masked content": {"blurred": "fill", "noise": "latent noise"}.get(of("mask_fill")) if masked else None,
        "Hires upscale": enlarge if second else None,
        "Hires steps": (of("enlarge_steps") or None) if second else None,
        "Hires upscaler": (plain_name(of("enlarge_with", "")) or "Lanczos") if second else None,
        "Hires denoising strength": of("enlarge_strength") if second and first else None,
        "CFG rescale": recipe.guidance_rescale or None,
        "Prompt reading": of("reading") if of("reading", "auto") != "auto" else None,
    }
    for index, control in enumerate(of("controls", ())):
        pairs[f"ControlNet {index}"] = (
            f"Module: {control.filter}, Model: {_token(control.model)}, Weight: {_short(control.weight)}, "
            f"Guidance Start: {_short(control.start)}, Guidance End: {_short(control.end)}"
        )
    return pairs


def _sampler_name(scheduler: str, sigmas: str) -> str | None:
    if scheduler == "dpmpp_2m_karras" and sigmas != "model":
        scheduler = "dpmpp_2m"
    return sampler_of(scheduler) or None


def _token(name: str) -> str:
    """A model's name as it can stand between `<lora:` and `>`."""
    return re.sub(r'[<>:,"\[\]\n]', "_", plain_name(name)) or "unnamed"


def _short(value: float) -> str:
    text = repr(float(value))
    return text.removesuffix(".0")


def _quoted(value: Any) -> str:
    if isinstance(value, float):
        return _short(value)
    text = str(value)
    if not text or re.search(r'[,\n:]|^["\[{\s]|\s$', text):
        return json.dumps(text, ensure_ascii=False)
    return text


def title_of(recipe: ImageRecipe) -> str:
    """One line that says what the picture shows."""
    return shown(recipe.prompt, 200)
