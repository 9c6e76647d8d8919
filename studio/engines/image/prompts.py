"""From the words of a prompt to what the pipeline's network reads: weights, chunks, the layer to stop at, a cache.

Knows the text encoders of the families that take embeddings in place of words: CLIP, and T5 beside it. For all others
the weights are taken out of the words. Where nothing is asked for, nothing is done: the pipeline gets the words.
Knows nothing of pictures.
"""

from __future__ import annotations

import functools
import inspect
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from studio.core import wording
from studio.core.problems import BadRecipe
from studio.core.wording import Section, Sections, Weighted
from studio.engines.image import embeddings

Family = Literal["sd", "sdxl", "sd3", "flux"]
CACHE_BYTES = 256_000_000

_WORDS = ("prompt", "prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3")
_BACKTRACK = 20  # tokens: how far back a chunk may end at a comma, as in A1111
_SENTENCES = (frozenset({"."}), frozenset({".", ",", ";", ":"}))  # where a chunk ends in compel, best first
_MOST_CHUNKS = 32  # of one prompt; every one is a run of the text encoder, and lengthens every step
_LEAST = 1e-5  # compel's smallest weight below 1; at 0 the words left out would count without bounds


def _takes(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """What a pipeline can be called with."""
    kind: Any = type(pipe)
    return _signature(kind)


@functools.cache  # reading one takes longer than finding a prompt in the cache
def _signature(kind: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(kind.__call__).parameters


def family(pipe: Any) -> Family | None:
    """Which way a pipeline reads words, or None where it is none of those known here."""
    name = type(pipe).__name__
    readers = [type(getattr(pipe, f"text_encoder{n}", None)).__name__ for n in ("", "_2", "_3")]
    takes = _takes(pipe)
    if "prompt_embeds" not in takes or not hasattr(pipe, "encode_prompt"):
        return None
    first, second, third = ("CLIP" if "CLIPText" in r else "T5" if r.startswith("T5Enc") else r for r in readers)
    nothing, pooled = "NoneType", "pooled_prompt_embeds" in takes
    if name.startswith("StableDiffusion3"):
        fits = first == second == "CLIP" and third in ("T5", nothing) and pooled
        return "sd3" if fits else None
    if name.startswith("StableDiffusionXL"):
        fits = first in ("CLIP", nothing) and second == "CLIP" and third == nothing and pooled
        return "sdxl" if fits else None
    if name.startswith("Flux"):
        return "flux" if first == "CLIP" and second == "T5" and third == nothing and pooled else None
    if name.startswith("StableDiffusion"):
        return "sd" if first == "CLIP" and second == third == nothing and not pooled else None
    return None


class Cache:
    """What prompts were read as, the last used kept longest, within so many bytes; for one model at a time."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self.limit_bytes, self.bytes = limit_bytes, 0
        self.hits = self.misses = 0
        self._held: OrderedDict[Hashable, dict[str, Any]] = OrderedDict()
        self._readers: tuple[weakref.ref[Any], ...] = ()

    def __len__(self) -> int:
        return len(self._held)

    def of(self, readers: Sequence[Any]) -> None:
        """Forget everything if it was read by other text encoders than these."""
        if [r() for r in self._readers] != list(readers):
            self.clear()
            self._readers = tuple(weakref.ref(r) for r in readers)

    def get(self, key: Hashable) -> dict[str, Any] | None:
        found = self._held.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._held.move_to_end(key)
        return dict(found)

    def put(self, key: Hashable, value: dict[str, Any]) -> None:
        """Keep a value; what does not fit even alone is not kept."""
        size = _size(value)
        if size > self.limit_bytes:
            return
        self.bytes += size - _size(self._held.pop(key, {}))
        self._held[key] = dict(value)
        while self.bytes > self.limit_bytes:
            self.bytes -= _size(self._held.popitem(last=False)[1])

    def clear(self) -> None:
        self._held.clear()
        self.bytes = 0


def _size(value: dict[str, Any]) -> int:
    return sum(t.numel() * t.element_size() for t in value.values() if hasattr(t, "numel"))


def replaced(arguments: dict[str, Any], encoded: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call with the words replaced by what `encode` gave."""
    gone = _WORDS if "prompt_embeds" in encoded else ()
    new = {k: v for k, v in encoded.items() if k not in _WORDS or k in arguments}
    return {k: v for k, v in arguments.items() if k not in gone} | new


def encode(
    pipe: Any,
    prompt: str,
    negative: str,
    *,
    reading: str,
    clip_skip: int,
    guidance_on: bool,
    note: Callable[[str], None],
    cache: Cache | None = None,
    state: Hashable = (),
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Read the words of a picture.

    Args:
        prompt, negative: as in the recipe, LoRA tags taken out. A blank `negative` is none.
        reading: "plain", "a1111", "compel", or "auto": "a1111" where there are weights in numbers, else "plain".
        clip_skip: the layer of CLIP to take, counted from the end as A1111 does: 1 is the last.
        guidance_on: the negative prompt is needed. note: tells what was left out.
        cache: where to look first. state: whatever else decides what the text encoders say, such as loaded LoRAs.
        check: called before each run of a text encoder; raises where the work is to stop.

    Returns:
        Arguments for the pipeline's call in place of the words (see `replaced`); empty where the words themselves are
        to be passed. The tensors are for one picture and must not be written to.

    Raises:
        BadRecipe: a layer the text encoder does not have.
    """
    import torch

    if reading == "auto":
        reading = "a1111" if wording.has_weights(prompt) or wording.has_weights(negative) else "plain"
    negative = negative if negative.strip() else ""
    kind = family(pipe)
    if kind is None or (kind == "flux" and clip_skip > 1):
        if clip_skip > 1:
            note("This model has no layers of CLIP to choose from; “clip skip” was left out.")
        clip_skip = 1
    if kind is None:
        return _without_weights(prompt, negative, reading, note)
    for sentence in _unread(prompt, negative, reading):
        note(sentence)
    if reading == "plain" and clip_skip == 1 and cache is None:
        return _named(pipe, prompt, negative)
    key = (
        kind, prompt, negative if guidance_on else None, reading, clip_skip, guidance_on, _t5_length(pipe),
        str(pipe._execution_device), embeddings.loaded(pipe), state,
    )  # fmt: skip
    if cache is not None:
        cache.of(_readers(pipe))
        found = cache.get(key)
        if found is not None:
            return found
    with torch.no_grad():
        if reading == "plain" and (clip_skip == 1 or kind != "sd"):
            made = _by_pipeline(pipe, kind, prompt, negative, clip_skip, guidance_on)
        else:
            made = _Reading(pipe, kind, reading, clip_skip, note, check).read(prompt, negative, guidance_on)
    if cache is not None:
        cache.put(key, made)
    return made


def _readers(pipe: Any) -> list[Any]:
    return [r for n in ("", "_2", "_3") if (r := getattr(pipe, f"text_encoder{n}", None)) is not None]


def _unread(prompt: str, negative: str, reading: str) -> tuple[str, ...]:
    if reading == "a1111":
        found = (*wording.unread_a1111(prompt), *wording.unread_a1111(negative))
    elif reading == "compel":
        found = (*wording.parse_compel(prompt).notes, *wording.parse_compel(negative).notes)
    else:
        found = ()
    return tuple(dict.fromkeys(found))


def _without_weights(prompt: str, negative: str, reading: str, note: Callable[[str], None]) -> dict[str, Any]:
    """For pipelines that read words in ways of their own."""
    found = {}
    for name, text in (("prompt", prompt), ("negative_prompt", negative)):
        bare = text if reading == "plain" else _bare(text, reading)
        if bare != text:
            found[name] = bare
    if found:
        note("This model does not read weights; the words were kept without them.")
    return found


def _bare(text: str, reading: str) -> str:
    """The words of a prompt without the marks that weigh them."""
    if reading == "compel":
        return ", ".join("".join(p.text for p in s.parts).strip() for s in wording.parse_compel(text).sections)
    return "".join(" " if p.is_break else p.text for p in wording.parse_a1111(text))


def _named(pipe: Any, prompt: str, negative: str) -> dict[str, Any]:
    """The words with embeddings spelled as the tokenizer knows them, where there are any in them."""
    words = {"prompt": prompt, "negative_prompt": negative}
    return {n: spelt for n, text in words.items() if (spelt := embeddings.spelled(pipe, text)) != text}


def _by_pipeline(
    pipe: Any, kind: Family, prompt: str, negative: str, clip_skip: int, guidance_on: bool
) -> dict[str, Any]:
    """What the pipeline itself makes of the words, to be passed to it in their place."""
    words = {"prompt": prompt, "negative_prompt": negative} | _named(pipe, prompt, negative)
    asked: dict[str, Any] = {"device": pipe._execution_device, "num_images_per_prompt": 1}
    if kind == "flux":
        made = pipe.encode_prompt(words["prompt"], None, max_sequence_length=_t5_length(pipe), **asked)
        return {"prompt_embeds": made[0], "pooled_prompt_embeds": made[1]}
    asked["do_classifier_free_guidance"] = guidance_on
    asked["negative_prompt"] = words["negative_prompt"] or None  # none at all differs from an empty one in SDXL
    if clip_skip > 1:
        _check_layer(_readers(pipe)[0], clip_skip, 1)
        asked["clip_skip"] = clip_skip - 1
    if kind == "sd3":
        made = pipe.encode_prompt(words["prompt"], None, None, max_sequence_length=_t5_length(pipe), **asked)
    else:
        made = pipe.encode_prompt(words["prompt"], **asked)
    return _call(*made)


def _call(positive: Any, negative: Any, pooled: Any = None, negative_pooled: Any = None) -> dict[str, Any]:
    found = {
        "prompt_embeds": positive, "negative_prompt_embeds": negative,
        "pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": negative_pooled,
    }  # fmt: skip
    return {k: v for k, v in found.items() if v is not None}


def _t5_length(pipe: Any) -> int:
    takes = _takes(pipe)
    default = takes["max_sequence_length"].default if "max_sequence_length" in takes else None
    return default if isinstance(default, int) else 512


def _check_layer(encoder: Any, clip_skip: int, besides: int) -> None:
    layers = int(encoder.config.num_hidden_layers) - besides
    if clip_skip > layers:
        raise BadRecipe(
            f"This model's text encoder has {layers} layers to choose from; {clip_skip} is too many to count back.",
            f"“Clip skip” can be 1 to {layers}; most models are made for 1 or 2.", field="clip_skip",
        )  # fmt: skip


# -- text encoders


def _ids(tokenizer: Any, text: str) -> list[int]:
    # not verbose: it would log that the text is longer than one chunk
    return [int(t) for t in tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids]


@dataclass
class _Chunk:
    """Tokens that go through a text encoder together, all of them, and how much each counts.

    Attributes:
        parts: which weighted part of the prompt each token comes from; -1 for begin, end and padding.
    """

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)

    def add(self, token: int, weight: float, part: int) -> None:
        self.ids.append(token)
        self.weights.append(weight)
        self.parts.append(part)

    def cut(self, at: int) -> _Chunk:
        """Take off what comes from `at` on, and return it."""
        rest = _Chunk(self.ids[at:], self.weights[at:], self.parts[at:])
        del self.ids[at:], self.weights[at:], self.parts[at:]
        return rest


class _Clip:
    """One CLIP text encoder and the layer that is taken from it."""

    def __init__(self, pipe: Any, suffix: str, clip_skip: int, penultimate: bool) -> None:
        self.tokenizer, self.encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
        self._device, self._penultimate, self._skip = pipe._execution_device, penultimate, clip_skip - 1
        limit = min(int(self.tokenizer.model_max_length), int(self.encoder.config.max_position_embeddings))
        self.room = limit - 2  # for begin and end
        self._pipe = pipe
        self._groups = embeddings.groups(pipe, self.tokenizer)
        self._marks = {c: int(self.tokenizer.convert_tokens_to_ids(f"{c}</w>")) for c in ".,;:"}
        self._empty: Any = None

    def tokens(self, text: str) -> list[int]:
        return _ids(self.tokenizer, embeddings.spelled(self._pipe, text))

    def framed(self, chunk: _Chunk) -> _Chunk:
        """With begin, end and padding, as the tokenizer itself frames a text."""
        fill = self.room - len(chunk.ids)
        padding = self.tokenizer.pad_token_id
        return _Chunk(
            [self.tokenizer.bos_token_id, *chunk.ids, self.tokenizer.eos_token_id, *[padding] * fill],
            [1.0, *chunk.weights, *[1.0] * (fill + 1)],
            [-1, *chunk.parts, *[-1] * (fill + 1)],
        )

    def run(self, chunk: _Chunk, without: int | None = None) -> tuple[Any, Any]:
        """Hidden states (1, tokens, width) and the pooled state (1, width) of a framed chunk.

        Args:
            without: a part whose tokens are hidden from the others.
        """
        import torch

        ids = torch.tensor([chunk.ids], device=self._device)
        mask = None
        if without is not None:
            mask = torch.tensor([[int(p != without) for p in chunk.parts]], device=self._device)
        elif getattr(self.encoder.config, "use_attention_mask", False):
            read = 1 + next((i for i, p in enumerate(chunk.ids) if p == self.tokenizer.eos_token_id), len(chunk.ids))
            mask = torch.tensor([[int(i < read) for i in range(len(chunk.ids))]], device=self._device)
        out = self.encoder(ids, attention_mask=mask, output_hidden_states=True)
        pooled = out[0] if out[0].ndim == 2 else out.pooler_output
        if self._penultimate:
            hidden = out.hidden_states[-(self._skip + 2)]
        elif self._skip == 0:
            hidden = out.last_hidden_state
        else:
            hidden = self._last_norm()(out.hidden_states[-(self._skip + 1)])
        return hidden.to(self.encoder.dtype), pooled

    def _last_norm(self) -> Any:
        """Of the encoder itself in newer versions of the library, of its part `text_model` in older ones."""
        return getattr(self.encoder, "text_model", self.encoder).final_layer_norm

    def empty(self) -> Any:
        """Hidden states of a chunk with nothing in it."""
        if self._empty is None:
            self._empty = self.run(self.framed(_Chunk()))[0]
        return self._empty

    def whole(self, parts: Sequence[Weighted], note: Callable[[str], None]) -> list[_Chunk]:
        """The first tokens only, in one chunk, as the pipelines do it. They say themselves what is cut off."""
        chunk = _Chunk()
        for i, part in enumerate(parts):
            for token in self.tokens(part.text):
                chunk.add(token, part.weight, i)
        chunk.cut(self.room)
        return [self.framed(chunk)]

    def by_commas(self, parts: Sequence[Weighted], note: Callable[[str], None]) -> list[_Chunk]:
        """Chunks as in A1111: a new one at BREAK, and where one is full; words after its last comma move along."""
        chunks = [_Chunk()]
        comma = -1  # where the last one is in this chunk
        for i, part in enumerate(parts):
            if part.is_break:
                chunks.append(_Chunk())
                comma = -1
                continue
            for token in self.tokens(part.text):
                here = len(chunks[-1].ids)
                if token == self._marks[","]:
                    comma = here
                elif here == self.room and comma >= 0 and here - comma <= _BACKTRACK:
                    chunks.append(chunks[-1].cut(comma + 1))
                    comma = -1
                here = len(chunks[-1].ids)
                at, of = self._groups.get(token, (0, 1))
                # the vectors of one embedding stay together, unless there are more than a chunk has room for
                if here == self.room or (at == 0 and here and here + min(of, self.room) > self.room):
                    chunks.append(_Chunk())
                    comma = -1
                chunks[-1].add(token, part.weight, i)
        if len(chunks) > 1 and not chunks[-1].ids:
            chunks.pop()
        return self._few(chunks, note)

    def _few(self, chunks: list[_Chunk], note: Callable[[str], None]) -> list[_Chunk]:
        over = sum(len(c.ids) for c in chunks[_MOST_CHUNKS:])
        if over:
            note(f"A prompt is read up to {_MOST_CHUNKS * self.room:,} tokens; the last {over:,} were cut off.")
        return [self.framed(c) for c in chunks[:_MOST_CHUNKS]]

    def by_sentences(self, parts: Sequence[Weighted], note: Callable[[str], None]) -> list[_Chunk]:
        """Chunks as in compel: one that is full ends after a sentence, or a phrase, or a word."""
        left = _Chunk()
        for i, part in enumerate(parts):
            for token in self.tokens(part.text):
                left.add(token, part.weight, i)
        chunks = []
        while len(left.ids) > self.room:
            rest = left.cut(self._end(left.ids[: self.room]))
            chunks.append(left)
            left = rest
        return self._few([*chunks, left], note)

    def _end(self, ids: list[int]) -> int:
        for marks in _SENTENCES:
            ends = {self._marks[m] for m in marks}
            for i in range(len(ids) - 1, -1, -1):
                if ids[i] in ends:
                    return i + 1
        words = self.tokenizer.convert_ids_to_tokens(ids)
        for i in range(len(ids) - 1, -1, -1):
            if words[i].endswith("</w>") or ids[i] in self._groups:
                return i + 1
        return len(ids)


class _T5:
    """A T5 text encoder: one chunk, with an end and no beginning."""

    def __init__(self, pipe: Any, suffix: str) -> None:
        self.tokenizer, self.encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
        self.room = _t5_length(pipe) - 1
        self._device = pipe._execution_device
        self._empty: Any = None

    def _framed(self, chunk: _Chunk) -> _Chunk:
        fill = self.room - len(chunk.ids)
        return _Chunk(
            [*chunk.ids, self.tokenizer.eos_token_id, *[self.tokenizer.pad_token_id] * fill],
            [*chunk.weights, *[1.0] * (fill + 1)],
            [*chunk.parts, *[-1] * (fill + 1)],
        )

    def whole(self, parts: Sequence[Weighted], note: Callable[[str], None]) -> list[_Chunk]:
        chunk = _Chunk()
        for i, part in enumerate(parts):
            for token in _ids(self.tokenizer, part.text):
                chunk.add(token, part.weight, i)
        over = len(chunk.ids) - self.room
        if over > 0:
            note(f"One of this model's text encoders reads {self.room + 1:,} tokens; the last {over:,} were cut off.")
            chunk.cut(self.room)
        return [self._framed(chunk)]

    by_commas = by_sentences = whole

    def run(self, chunk: _Chunk, without: int | None = None) -> tuple[Any, Any]:
        import torch

        ids = torch.tensor([chunk.ids], device=self._device)
        mask = None
        if without is not None:
            mask = torch.tensor([[int(p != without) for p in chunk.parts]], device=self._device)
        return self.encoder(ids, attention_mask=mask)[0].to(self.encoder.dtype), None

    def empty(self) -> Any:
        if self._empty is None:
            self._empty = self.run(self._framed(_Chunk()))[0]
        return self._empty


# -- emphasis


def weighed_a1111(hidden: Any, weights: Any) -> Any:
    """A1111's “original” emphasis: each token's states times its weight, then all scaled back to the mean before.

    Args:
        hidden: (1, tokens, width). weights: (tokens,), float32.
    """
    import torch

    if bool((weights == 1).all()):
        return hidden
    before = hidden.to(torch.float32)
    after = before * weights[None, :, None]
    mean, now = before.mean(), after.mean()
    scale = mean / now
    # weights that sum to nothing leave no mean to scale by
    return (after * scale if bool(scale.isfinite()) and float(now.abs()) > 1e-9 else after).to(hidden.dtype)


def weighed_compel(hidden: Any, empty: Any, weights: Any) -> Any:
    """compel's emphasis: each token's states moved from those of an empty prompt, as far as its weight says."""
    import torch

    by = weights[None, :, None].to(hidden.dtype)
    return torch.where(by == 1, hidden, empty + (hidden - empty) * by)


@dataclass
class _Read:
    """One text, read by one text encoder: states (1, chunks × tokens, width), and the pooled state or None."""

    hidden: Any
    pooled: Any


class _Reading:
    """Reads the two texts of one picture by all the text encoders of its pipeline."""

    def __init__(
        self, pipe: Any, kind: Family, reading: str, clip_skip: int, note: Callable[[str], None],
        check: Callable[[], None],
    ) -> None:  # fmt: skip
        self._pipe, self._kind, self._reading, self._note, self._check = pipe, kind, reading, note, check
        self._told: set[str] = set()
        names = ("", "_2") if kind in ("sdxl", "sd3") else ("",)
        present = [n for n in names if getattr(pipe, f"text_encoder{n}", None) is not None]
        penultimate = kind in ("sdxl", "sd3")
        for n in present:
            _check_layer(getattr(pipe, f"text_encoder{n}"), clip_skip, int(penultimate))
        self._clips = [_Clip(pipe, n, clip_skip, penultimate) for n in present]
        # pipelines do not count layers back for the negative prompt; A1111 does, so only plain reading differs
        back = 1 if reading == "plain" else clip_skip
        self._negative_clips = (
            self._clips if back == clip_skip else [_Clip(pipe, n, back, penultimate) for n in present]
        )
        t5 = {"sd3": "_3", "flux": "_2"}.get(kind, "")
        self._t5 = _T5(pipe, t5) if t5 and getattr(pipe, f"text_encoder{t5}", None) is not None else None

    def read(self, prompt: str, negative: str, guidance_on: bool) -> dict[str, Any]:
        if self._kind == "flux":
            hidden = self._one(self._t5, prompt).hidden
            pooled = self._run(self._clips[0], self._clips[0].whole(self._words(prompt), self._tell)[0])[1]
            return {"prompt_embeds": hidden, "pooled_prompt_embeds": pooled.to(hidden.dtype)}
        positive = [self._one(c, prompt) for c in self._clips]
        avoided = None
        zero = self._kind == "sdxl" and not negative and bool(self._pipe.config.force_zeros_for_empty_prompt)
        if guidance_on and not zero:
            avoided = [self._one(c, negative) for c in self._negative_clips]
        self._level(positive, avoided)
        found = self._put_together(positive, prompt)
        if not guidance_on:
            return _call(found[0], None, found[1])
        if avoided is None:
            import torch

            return _call(found[0], torch.zeros_like(found[0]), found[1], torch.zeros_like(found[1]))
        other = self._put_together(avoided, negative)
        return _call(found[0], other[0], found[1], other[1])

    def _level(self, positive: list[_Read], avoided: list[_Read] | None) -> None:
        """Make all equally long, with empty chunks after the shorter ones."""
        import torch

        sides = [(self._clips, positive)] + ([(self._negative_clips, avoided)] if avoided is not None else [])
        longest = max(r.hidden.shape[1] for _, reads in sides for r in reads)
        for clips, reads in sides:
            for clip, read in zip(clips, reads, strict=True):
                while read.hidden.shape[1] < longest:
                    read.hidden = torch.cat([read.hidden, clip.empty()], dim=1)

    def _put_together(self, reads: list[_Read], text: str) -> tuple[Any, Any]:
        """Hidden and pooled states as this family's network takes them."""
        import torch

        if self._kind == "sd":
            return reads[0].hidden, None
        hidden = torch.cat([r.hidden for r in reads], dim=-1)
        if self._kind == "sdxl":
            return hidden, reads[-1].pooled
        if self._t5 is not None:
            read = self._one(self._t5, text).hidden
        else:
            width = self._pipe.transformer.config.joint_attention_dim
            read = hidden.new_zeros(1, _t5_length(self._pipe), width)
        hidden = torch.nn.functional.pad(hidden, (0, read.shape[-1] - hidden.shape[-1]))
        return torch.cat([hidden, read], dim=-2), torch.cat([r.pooled for r in reads], dim=-1)

    def _tell(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._note(sentence)

    def _run(self, reader: Any, chunk: _Chunk, without: int | None = None) -> tuple[Any, Any]:
        self._check()
        return reader.run(chunk, without)

    def _words(self, text: str) -> tuple[Weighted, ...]:
        """The words alone, in one piece."""
        return (Weighted(text if self._reading == "plain" else _bare(text, self._reading)),)

    def _one(self, reader: Any, text: str) -> _Read:
        if self._reading == "compel":
            return self._by_compel(reader, wording.parse_compel(text), text)
        if self._reading == "plain":
            chunks = reader.whole((Weighted(text),), self._tell)
        else:
            chunks = reader.by_commas(wording.parse_a1111(text), self._tell)
        import torch

        ran = [self._run(reader, chunk) for chunk in chunks]
        weights = [torch.tensor(c.weights, device=h.device) for c, (h, _) in zip(chunks, ran, strict=True)]
        hidden = [weighed_a1111(h, w) for (h, _), w in zip(ran, weights, strict=True)]
        return _Read(torch.cat(hidden, dim=1), ran[0][1])

    def _by_compel(self, reader: Any, read: Sections, text: str) -> _Read:
        import torch

        if isinstance(reader, _T5) and not read.blend and len(read.sections) > 1:  # it has no second chunk
            parts = [p for s in read.sections for p in (*_times(s), Weighted(" "))]
            read = Sections((Section(tuple(parts)),))
        found = [self._section(reader, section) for section in read.sections]
        weights = [s.weight for s in read.sections]
        if read.blend:
            total = sum(weights) if read.normalise else 1.0
            longest = max(r.hidden.shape[1] for r in found)
            for r in found:
                while r.hidden.shape[1] < longest:
                    r.hidden = torch.cat([r.hidden, reader.empty()], dim=1)
            hidden = sum(r.hidden * (w / total) for r, w in zip(found, weights, strict=True))
            pooled = None
            if found[0].pooled is not None:
                pooled = sum(r.pooled * (w / total) for r, w in zip(found, weights, strict=True))
            return _Read(hidden, pooled)
        for r, w in zip(found, weights, strict=True):
            if w != 1:
                empty = reader.empty().repeat(1, r.hidden.shape[1] // reader.empty().shape[1], 1)
                r.hidden = empty + (r.hidden - empty) * w
        pooled = found[0].pooled
        if len(found) > 1 and pooled is not None:
            pooled = self._run(reader, reader.whole(self._words(text), self._tell)[0])[1]
        return _Read(torch.cat([r.hidden for r in found], dim=1), pooled)

    def _section(self, reader: Any, section: Section) -> _Read:
        """Words weighed up move away from an empty prompt; for those weighed down, the prompt without them mixes in."""
        import torch

        chunks = reader.by_sentences(section.parts, self._tell)

        def states(chunk: _Chunk, without: int | None = None) -> tuple[Any, Any]:
            hidden, pooled = self._run(reader, chunk, without)
            weights = torch.tensor(chunk.weights, device=hidden.device)
            if bool((weights == 1).all()):
                return hidden, pooled
            return weighed_compel(hidden, reader.empty(), weights), pooled

        found = [states(chunk) for chunk in chunks]
        mixed, total = [hidden for hidden, _ in found], 1.0
        there = {p for chunk in chunks for p in chunk.parts}
        for i, part in enumerate(section.parts):
            if part.weight >= 1 or i not in there:
                continue
            share = math.tan((1 - max(_LEAST, part.weight)) * math.pi / 2)
            total += share
            for n, chunk in enumerate(chunks):  # where none of it stands, nothing is different without it
                other = states(chunk, i)[0] if i in chunk.parts else found[n][0]
                mixed[n] = mixed[n] + other * share
        if total != 1:
            mixed = [hidden / total for hidden in mixed]
        return _Read(torch.cat(mixed, dim=1), found[0][1])


def _times(section: Section) -> tuple[Weighted, ...]:
    return tuple(Weighted(p.text, p.weight * section.weight) for p in section.parts)
