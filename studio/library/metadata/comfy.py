"""ComfyUI's graphs: from the picture that was saved back through samplers to words, models and sizes.

A graph is whatever people build, so this follows links from node to node, takes what it knows on the way, and lists the
nodes it does not know. Knows nodes by their names and inputs; knows nothing of files.

The "prompt" is what was run: {"3": {"class_type": "KSampler", "inputs": {"steps": 20, "model": ["4", 0]}}}, a link
being the other node and which of its outputs. The "workflow" is what the editor shows; it is the fallback.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from studio.library.metadata.found import Draft, as_json, brief, fits, integer, number
from studio.library.metadata.names import scheduler_of

NODES_LIMIT = 5_000
DEPTH_LIMIT = 100  # links in a row
STEPS_LIMIT = 20_000  # links followed in all: a graph can branch at every node
WORDS_LIMIT = 16  # texts joined to one prompt

_CUSTOM_SIGMAS = {
    "KarrasScheduler": "karras",
    "ExponentialScheduler": "exponential",
    "BetaSamplingScheduler": "beta",
}
_CUSTOM_SAMPLERS = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
    "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerLMS": "lms",
    "SamplerSASolver": "sa_solver",
}
_ALL_STEPS = {"start_at_step": 0, "end_at_step": 10_000}
# Their settings are taken where they are met, or do not change the picture.
_PLUMBING = re.compile(
    r"(Save|Preview).*Image.*|.*Reroute.*|VAEDecode(Tiled)?|VAEEncode(Tiled)?|.*Note.*|Primitive.*|.*CLIPLoader.*"
    r"|.*(Checkpoint|UNET|Unet|VAE|ControlNet|UpscaleModel|CLIPVision|StyleModel)Loader.*|LoadImage|Bypassed"
)
_FOLLOWED = (
    "samples", "latent_image", "latent", "image", "images", "pixels", "model", "conditioning", "positive", "negative",
    "conditioning_to", "conditioning_from", "conditioning_1", "conditioning_2", "clip", "vae", "guider", "sampler",
    "sigmas", "noise", "", "any", "value", "source",
)  # fmt: skip


_OF_LORA = ("strength_model", "lora_model_strength", "strength")
_OF_CLIP = ("strength_clip", "lora_clip_strength")
_SIDES = (("width", "height"), ("empty_latent_width", "empty_latent_height"))
# Under these a node has what it gives to others.
_GIVING = (
    "value", "seed", "noise_seed", "int", "float", "number", "string", "text", "prompt", "wildcard_text", "STRING",
    "populated_text", "text_positive", "Number", "text_0", "source", "any", "",
)  # fmt: skip


class _Node(msgspec.Struct, frozen=True):
    kind: str
    inputs: dict[str, Any]
    title: str = ""


class _Link(msgspec.Struct, frozen=True):
    node: str
    slot: int


def read_prompt(text: str) -> Draft | None:
    """Read a "prompt" graph. None where it is none. Never raises."""
    data = as_json(text)
    if isinstance(data, dict) and isinstance(data.get("prompt"), dict):
        data = data["prompt"]
    nodes = {}
    for name, node in list(data.items())[:NODES_LIMIT] if isinstance(data, dict) else ():
        if isinstance(node, dict) and isinstance(node.get("class_type"), str):
            inputs, meta = node.get("inputs"), node.get("_meta")
            title = meta.get("title") if isinstance(meta, dict) else ""
            nodes[str(name)] = _Node(
                node["class_type"], inputs if isinstance(inputs, dict) else {}, title if isinstance(title, str) else ""
            )
    return _Graph(nodes, text).draft() if nodes else None


def read_workflow(text: str) -> Draft | None:
    """Read the editor's "workflow". None where it is none. Never raises."""
    data = as_json(text)
    listed = data.get("nodes") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        return None
    links = _links(data.get("links"))
    nodes = {}
    for node in listed[:NODES_LIMIT]:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str) or node.get("mode") == 2:
            continue  # 2: never run
        inputs, kind = _inputs(node, links), node["type"]
        if node.get("mode") == 4:  # bypassed: hands on what it is given, and does nothing
            kind, inputs = "Bypassed", {k: v for k, v in inputs.items() if isinstance(v, _Link)}
        nodes[str(node.get("id"))] = _Node(kind, inputs)
    return _Graph(nodes, text).draft() if nodes else None


def _links(listed: Any) -> dict[Any, _Link]:
    found: dict[Any, _Link] = {}
    for link in listed[: NODES_LIMIT * 4] if isinstance(listed, list) else ():
        if isinstance(link, list) and len(link) >= 3:
            number_, node, slot = link[0], link[1], link[2]
        elif isinstance(link, dict):
            number_, node, slot = link.get("id"), link.get("origin_id"), link.get("origin_slot")
        else:
            continue
        if isinstance(number_, (int, str)):
            found[number_] = _Link(str(node), slot if isinstance(slot, int) else 0)
    return found


# In the editor's file the settings of a node are a bare list. None: a setting of the editor's own.
_WIDGETS: dict[str, tuple[str | None, ...]] = {
    "KSampler": ("seed", None, "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", None, "steps", "cfg", "sampler_name", "scheduler",
                         "start_at_step", "end_at_step", "return_with_leftover_noise"),
    "SamplerCustom": ("add_noise", "noise_seed", None, "cfg"),
    "RandomNoise": ("noise_seed", None),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KarrasScheduler": ("steps",),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "UnetLoaderGGUF": ("unet_name",),
    "VAELoader": ("vae_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "LatentUpscale": ("upscale_method", "width", "height", "crop"),
    "LatentUpscaleBy": ("upscale_method", "scale_by"),
    "LoadImage": ("image",),
    "ControlNetLoader": ("control_net_name",),
    "ControlNetApply": ("strength",),
    "ControlNetApplyAdvanced": ("strength", "start_percent", "end_percent"),
    "UpscaleModelLoader": ("model_name",),
    "PrimitiveNode": ("value",),
}  # fmt: skip


def _inputs(node: dict[str, Any], links: dict[Any, _Link]) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    values, listed = node.get("widgets_values"), node.get("inputs")
    listed = [i for i in listed if isinstance(i, dict)] if isinstance(listed, list) else []
    if isinstance(values, dict):
        inputs.update({k: v for k, v in values.items() if isinstance(k, str)})
    elif isinstance(values, list):
        # newer editors list the settings among the inputs
        named: tuple[Any, ...] = tuple(i.get("name") for i in listed if isinstance(i.get("widget"), dict))
        for name, value in zip(_WIDGETS.get(node["type"], named), values, strict=False):
            if isinstance(name, str):
                inputs[name] = value
        if node["type"] not in _WIDGETS and not named:
            inputs.update({f"setting {i + 1}": value for i, value in enumerate(values)})
    for given in listed:
        link = given.get("link")
        if isinstance(link, (int, str)) and link in links and isinstance(given.get("name"), str):
            inputs[given["name"]] = links[link]
    return inputs


class _Graph:
    """One graph on its way into a draft."""

    def __init__(self, nodes: dict[str, _Node], text: str) -> None:
        self._nodes = nodes
        self._draft = Draft("comfyui", text)
        self._used: set[str] = set()
        self._steps = 0

    def draft(self) -> Draft:
        reached = self._reached()
        passes = self._passes(reached)
        if passes:
            first, last = passes[0], passes[-1]
            self._sampler(first)
            self._latent(self._link(first, "latent_image") or self._link(first, "samples"), first)
            if first != last:
                self._second(last, first)
            for other in passes[1:-1]:
                self._list(other)
            self._decoding(reached)
        for name in reached:
            if name not in self._used and not _PLUMBING.fullmatch(self._nodes[name].kind):
                self._list(name)
        return self._draft

    # -- getting about

    def _link(self, name: str, key: str) -> _Link | None:
        return self._as_link(self._nodes[name].inputs.get(key)) if name in self._nodes else None

    def _as_link(self, value: Any) -> _Link | None:
        if isinstance(value, _Link):
            return value if value.node in self._nodes else None
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], (str, int)):
            slot = value[1]
            if str(value[0]) in self._nodes and isinstance(slot, int) and not isinstance(slot, bool):
                return _Link(str(value[0]), slot)
        return None

    def _links_of(self, name: str) -> Iterator[tuple[str, _Link]]:
        for key, value in self._nodes[name].inputs.items():
            if (link := self._as_link(value)) is not None:
                yield key, link

    def _go(self, name: str) -> _Node | None:
        """The node, if there is still time to look at it."""
        self._steps += 1
        if self._steps > STEPS_LIMIT:
            return None
        self._used.add(name)
        return self._nodes.get(name)

    def _reached(self) -> list[str]:
        """The nodes that the saved picture hangs on, the saving ones first; all of them where none saves."""
        ends = [n for n, node in self._nodes.items() if re.search("save", node.kind, re.IGNORECASE)]
        ends = ends or [n for n, node in self._nodes.items() if re.search("preview", node.kind, re.IGNORECASE)]
        ends = ends or list(self._nodes)
        seen, waiting = dict.fromkeys(ends), deque(ends)
        while waiting:
            for _, link in self._links_of(waiting.popleft()):
                if link.node not in seen:
                    seen[link.node] = None
                    waiting.append(link.node)
        return list(seen)

    def _is_sampler(self, name: str) -> bool:
        inputs = self._nodes[name].inputs
        begins = self._link(name, "latent_image") or self._link(name, "samples")
        return begins is not None and ("sampler_name" in inputs or self._link(name, "sampler") is not None)

    def _passes(self, reached: list[str]) -> list[str]:
        """The samplers behind the picture, the one that worked first in front."""
        last = next((n for n in reached if self._is_sampler(n)), None)
        if last is None:
            return []
        found = [last]
        while len(found) < 8:
            before = self._sampler_before(found[0])
            if before is None or before in found:
                break
            found.insert(0, before)
        return found

    def _sampler_before(self, name: str) -> str | None:
        begin = self._link(name, "latent_image") or self._link(name, "samples")
        waiting, seen = deque([begin.node] if begin else []), set()
        while waiting:
            node = waiting.popleft()
            if node in seen:
                continue
            seen.add(node)
            if self._is_sampler(node):
                return node
            for key, link in self._links_of(node):
                if key in ("samples", "latent", "latent_image", "image", "images", "pixels", ""):
                    waiting.append(link.node)
        return None

    def _value(self, name: str, key: str) -> Any:
        """A setting of a node, also where another node gives it. None where it cannot be told."""
        return self._given(self._nodes[name].inputs.get(key), 0) if name in self._nodes else None

    def _given(self, value: Any, depth: int) -> Any:
        link = self._as_link(value)
        if link is None:
            return None if isinstance(value, (list, dict, _Link)) else value
        node = self._go(link.node)
        if node is None or depth > DEPTH_LIMIT:
            return None
        inputs = node.inputs
        if {"string_a", "string_b"} <= inputs.keys():
            joint = self._given(inputs.get("delimiter", ""), depth + 1)
            parts = [self._given(inputs[k], depth + 1) for k in ("string_a", "string_b")]
            return (joint if isinstance(joint, str) else "").join(p for p in parts if isinstance(p, str) and p)
        for key in _GIVING:
            if key in inputs:
                found = self._given(inputs[key], depth + 1)
                if found is not None and found != "":
                    return found
        self._used.discard(link.node)  # what it does is not known
        return None

    def _list(self, name: str) -> None:
        """List a node that has no place in our recipe, with its settings."""
        node = self._nodes[name]
        settings = {k: v for k, v in node.inputs.items() if self._as_link(v) is None and not isinstance(v, _Link)}
        said = ", ".join(f"{k}: {brief(v)}" for k, v in list(settings.items())[:12])
        self._draft.note(node.kind, said or "used")

    # -- taking

    def _sampler(self, name: str) -> None:
        draft, inputs = self._draft, self._nodes[name].inputs
        self._go(name)
        noise, guider = self._link(name, "noise"), self._link(name, "guider")
        seed = next((v for k in ("seed", "noise_seed") if (v := self._value(name, k)) is not None), None)
        if noise is not None:
            self._go(noise.node)
            seed = self._value(noise.node, "noise_seed")
        draft.put("seed", integer(seed) if integer(seed) is not None else seed, "seed")
        guided = guider.node if guider is not None else name
        self._go(guided)
        draft.put("guidance", self._value(guided, "cfg"), "cfg")
        denoise = self._pace(name)
        self._from_picture = denoise
        self._model(self._link(guided, "model"))
        words = self._words(self._link(guided, "positive") or self._link(guided, "conditioning"), "positive")
        draft.prompt(", ".join(words), "prompt")
        unwanted = self._words(self._link(guided, "negative"), "negative")
        draft.put("negative", ", ".join(unwanted), "negative prompt")
        written = ", ".join([*words, *unwanted])
        if re.search(r"(?<!\\)[(\[]", written) and fits("reading", "a1111"):
            draft.values["reading"] = "a1111"
        for embedding in re.findall(r"embedding:([\w./\\-]{1,120})", written)[:64]:
            draft.embedding(embedding)
        for key in ("start_at_step", "end_at_step", "eta", "s_noise"):
            if key in inputs and inputs[key] != _ALL_STEPS.get(key):
                draft.note(f"{self._nodes[name].kind} {key}", self._value(name, key))

    def _pace(self, name: str, into: tuple[str, ...] = ("steps", "sampling")) -> float | None:
        """Take steps, sampler and spacing of a pass; returns its denoise."""
        draft = self._draft
        sampler, spacing = self._value(name, "sampler_name"), self._value(name, "scheduler")
        steps, denoise = self._value(name, "steps"), self._value(name, "denoise")
        if (link := self._link(name, "sampler")) is not None and (node := self._go(link.node)) is not None:
            sampler = self._value(link.node, "sampler_name") or _CUSTOM_SAMPLERS.get(node.kind) or node.kind
        link = self._link(name, "sigmas")
        for _ in range(DEPTH_LIMIT):
            node = self._go(link.node) if link is not None else None
            if link is None or node is None:
                break
            steps = steps if steps is not None else self._value(link.node, "steps")
            denoise = denoise if denoise is not None else self._value(link.node, "denoise")
            spacing = spacing or self._value(link.node, "scheduler") or _CUSTOM_SIGMAS.get(node.kind)
            if spacing is None and steps is not None and self._link(link.node, "sigmas") is None:
                spacing = node.kind
            link = self._link(link.node, "sigmas")
        if "steps" in into:
            draft.put("steps", steps, "steps")
        if "sampling" in into and isinstance(sampler, str):
            shown = spacing if isinstance(spacing, str) else ""
            draft.sampling(scheduler_of(sampler, shown), sampler, shown)
        amount = number(denoise)
        return None if amount is None else float(amount)

    def _words(self, link: _Link | None, role: str, depth: int = 0) -> list[str]:
        """The texts behind a conditioning, in order, each once. `role`: "positive" or "negative"."""
        node = self._go(link.node) if link is not None and depth < DEPTH_LIMIT else None
        if link is None or node is None or node.kind == "ConditioningZeroOut":
            return []
        name, inputs, found = link.node, node.inputs, []
        self._clip(self._link(name, "clip"))
        self._control(name, node)
        if node.kind == "FluxGuidance" or (node.kind == "CLIPTextEncodeFlux" and "guidance" in inputs):
            self._draft.put("guidance", self._value(name, "guidance"), "guidance")
        texts = [k for k in inputs if k in (
            "text", "text_g", "text_l", "clip_l", "clip_g", "t5xxl", "prompt", "user_prompt", "bert", "mt5xl",
        )]  # fmt: skip
        if isinstance(inputs.get(role), str):
            texts.append(role)  # a loader that does it all
        for key in texts:
            words = self._value(name, key)
            if isinstance(words, str) and words.strip() and words not in found:
                found.append(words)
        if texts:
            if not found and any(self._link(name, k) for k in texts):
                self._draft.note(node.kind, "the text comes from a node that is not known")
            return found[:WORDS_LIMIT]
        # a node that hands on several conditionings says by the slot which one is meant
        onward = [k for k in inputs if k.startswith("conditioning")]
        if "positive" in inputs or "negative" in inputs:
            onward = ["negative" if link.slot == 1 else "positive"]
        if node.kind not in _KNOWN_CONDITIONINGS and not _PLUMBING.fullmatch(node.kind):
            self._list(name)
        for key in onward or ([k for k, _ in self._links_of(name)] if _PLUMBING.fullmatch(node.kind) else []):
            for words in self._words(self._link(name, key), role, depth + 1):
                if words not in found and len(found) < WORDS_LIMIT:
                    found.append(words)
        return found

    def _control(self, name: str, node: _Node) -> None:
        link = self._link(name, "control_net")
        if link is None or f"control {name}" in self._used:
            return
        self._used.add(f"control {name}")  # positive and negative both pass through it
        model = None
        for _ in range(DEPTH_LIMIT):
            if link is None or self._go(link.node) is None:
                break
            model = model or self._value(link.node, "control_net_name")
            link = self._link(link.node, "control_net")
        picture, filter_ = self._picture(self._link(name, "image"))
        self._draft.control(
            model, filter=filter_, image=picture, weight=self._value(name, "strength"),
            start=self._value(name, "start_percent"), end=self._value(name, "end_percent"),
        )  # fmt: skip

    def _picture(self, link: _Link | None) -> tuple[str, str]:
        """Name of the loaded picture behind a link, and the first thing that was done to it."""
        done = ""
        for _ in range(DEPTH_LIMIT):
            node = self._go(link.node) if link is not None else None
            if link is None or node is None:
                break
            image = node.inputs.get("image")
            if isinstance(image, str):
                return image, done
            done = done or ("" if _PLUMBING.fullmatch(node.kind) else node.kind.removesuffix("Preprocessor"))
            link = next((n for k in ("image", "images", "pixels") if (n := self._link(link.node, k))), None)
        return "", done

    def _clip(self, link: _Link | None) -> None:
        for _ in range(DEPTH_LIMIT):
            node = self._go(link.node) if link is not None else None
            if link is None or node is None:
                return
            last = number(self._value(link.node, "stop_at_clip_layer"))
            if last is not None and last < 0 and "clip_skip" not in self._draft.values:
                self._draft.put("clip_skip", -last, "stop_at_clip_layer")
            link = self._link(link.node, "clip")

    def _model(self, link: _Link | None) -> None:
        draft = self._draft
        loras: list[tuple[Any, Any]] = []
        for _ in range(DEPTH_LIMIT * 2):
            node = self._go(link.node) if link is not None else None
            if link is None or node is None:
                break
            name, inputs = link.node, node.inputs
            loras = [*self._loras(name, node), *loras]  # the one next to the model was laid on first
            checkpoint = next((v for k in ("ckpt_name", "unet_name", "model_name", "model_path", "base_ckpt_name")
                               if isinstance(v := self._value(name, k), str)), None)  # fmt: skip
            if checkpoint:
                draft.model = checkpoint
                break
            if node.kind == "RescaleCFG":
                draft.put("guidance_rescale", self._value(name, "multiplier"), "RescaleCFG")
            elif node.kind == "SeamlessTile":
                sides = {"enable": "both", "x_only": "x", "y_only": "y", "disable": "off"}
                draft.put("seamless", sides.get(str(inputs.get("tiling"))), "SeamlessTile")
            elif "lora" not in node.kind.lower() and not _PLUMBING.fullmatch(node.kind):
                self._list(name)
            link = self._link(name, "model") or next((n for _, n in self._links_of(name)), None)
        for lora, weight in loras:
            draft.lora(lora, weight)

    def _loras(self, name: str, node: _Node) -> list[tuple[Any, Any]]:
        inputs = node.inputs
        if inputs.get("lora_name") == "None":
            return []
        if "lora_name" in inputs:
            weight = next((v for k in _OF_LORA if (v := self._value(name, k)) is not None), None)
            clip = next((v for k in _OF_CLIP if (v := self._value(name, k)) is not None), None)
            if clip is not None and clip != weight:
                self._draft.note(f"{brief(inputs['lora_name'])} strength_clip", clip)
            return [(self._value(name, "lora_name"), 1.0 if weight is None else weight)]
        found: list[tuple[Any, Any]] = []
        for key, value in inputs.items():
            # stacks: {"lora_1": {"on": true, "lora": "a.safetensors", "strength": 1}}, or lora_01 and strength_01
            if isinstance(value, dict) and isinstance(value.get("lora"), str) and value.get("on", True) is True:
                found.append((value["lora"], value.get("strength", 1.0)))
            elif re.fullmatch(r"lora_0?\d", key) and isinstance(value, str) and value not in ("None", ""):
                found.append((value, inputs.get(key.replace("lora", "strength"), 1.0)))
        return found

    def _latent(self, link: _Link | None, sampler: str) -> None:
        """Where the first pass begins: at an empty picture of some size, or at a loaded one."""
        draft = self._draft
        for _ in range(DEPTH_LIMIT):
            node = self._go(link.node) if link is not None else None
            if link is None or node is None:
                return
            name, inputs = link.node, node.inputs
            steps = ("samples", "pixels", "image", "images", "latent")
            onward = next((n for k in steps if (n := self._link(name, k))), None)
            loaded = inputs.get("image") if isinstance(inputs.get("image"), str) else None
            if loaded or node.kind.startswith(("VAEEncode", "InpaintModelConditioning")):
                if self._from_picture is not None and "strength" not in draft.values:
                    draft.put("strength", self._from_picture, "denoise")
                draft.note("image", loaded)
            if mask := self._link(name, "mask"):
                named, _ = self._picture(mask)
                draft.note("mask", named or "painted")
            sides = next((s for s in _SIDES if s[0] in inputs and s[1] in inputs), None)
            if onward is None and sides is not None:
                draft.size(self._value(name, sides[0]), self._value(name, sides[1]), node.kind)
            elif onward is None and (said := re.match(r"(\d{2,5})\s*x\s*(\d{2,5})", str(inputs.get("resolution", "")))):
                draft.size(said[1], said[2], node.kind)
            elif not loaded and node.kind not in ("SetLatentNoiseMask",) and not _PLUMBING.fullmatch(node.kind):
                self._list(name)
            many = self._value(name, "batch_size")
            if number(many) not in (None, 1):
                draft.note("batch_size", many)
            link = onward or next((n for _, n in self._links_of(name) if _PLUMBING.fullmatch(node.kind)), None)

    _from_picture: float | None = None

    def _second(self, name: str, first: str) -> None:
        """The last pass over a picture that an earlier one made."""
        draft = self._draft
        self._go(name)
        factor = 1.0
        begin = self._link(name, "latent_image") or self._link(name, "samples")
        waiting, seen = deque([begin] if begin else []), set()
        while waiting:
            link = waiting.popleft()
            if link.node in seen or self._is_sampler(link.node):
                continue
            seen.add(link.node)
            node = self._go(link.node)
            if node is None:
                break
            if (scale := number(self._value(link.node, "scale_by"))) is not None:
                factor *= float(scale)
            elif (wide := number(self._value(link.node, "width"))) and (own := draft.values.get("width")):
                factor = float(wide) / own
            if (model := self._link(link.node, "upscale_model")) is not None and self._go(model.node) is not None:
                upscaler = self._value(model.node, "model_name")
                draft.upscaler = upscaler if isinstance(upscaler, str) else ""
                if factor == 1.0:
                    draft.note(node.kind, "enlarges by as much as its model does")
            waiting.extend(n for k, n in self._links_of(link.node) if k in _FOLLOWED)
        if factor > 1:
            draft.put("enlarge", round(factor, 3), "scale")
            draft.put("enlarge_steps", self._value(name, "steps"), "steps of the second pass")
            draft.put("enlarge_strength", self._pace(name, into=()), "denoise of the second pass")
        else:
            self._list(name)
        guider = self._link(name, "guider")
        other = Draft("comfyui")
        mine, self._draft = self._draft, other  # its words and models are used up, and only compared
        self._model(self._link(guider.node if guider else name, "model"))
        for key in ("positive", "negative", "conditioning"):
            self._words(self._link(guider.node if guider else name, key), key)
        self._draft = mine
        if other.model and other.model != draft.model:
            draft.refiner = other.model

    def _decoding(self, reached: list[str]) -> None:
        for name in reached:
            if self._nodes[name].kind.startswith("VAEDecode") and (link := self._link(name, "vae")):
                for _ in range(DEPTH_LIMIT):
                    if link is None or self._go(link.node) is None:
                        break
                    if isinstance(vae := self._value(link.node, "vae_name"), str):
                        self._draft.vae = vae
                        return
                    link = self._link(link.node, "vae") or self._link(link.node, "")


_KNOWN_CONDITIONINGS = (
    "FluxGuidance", "ControlNetApply", "ControlNetApplyAdvanced", "ControlNetApplySD3", "ConditioningCombine",
    "ConditioningConcat", "InpaintModelConditioning", "ControlNetInpaintingAliMamaApply",
)  # fmt: skip
