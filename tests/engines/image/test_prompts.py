"""Weights and long prompts are read as A1111 and compel read them; where nothing is asked for, nothing changes."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.core.problems import BadRecipe, ModelUnfit
from studio.engines.image import embeddings, prompts
from studio.engines.image.prompts import Cache, encode, family, replaced

FAMILIES = ("sd", "sdxl", "sd3", "flux")
ROOM = 18  # tokens in a chunk of the tiny CLIP, which reads letter by letter
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]
PipeOf = Callable[[str], Any]


def a1111_file(folder: Path, number: int = 3, seed: int = 0, width: int = 16) -> Path:
    """An embedding as A1111 keeps it, of random vectors."""
    from safetensors.torch import save_file

    file = folder / f"{number}-{seed}-{width}.safetensors"
    save_file({"emb_params": vectors(number, seed, width)}, str(file))
    return file


def vectors(number: int, seed: int = 0, width: int = 16) -> Any:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pipe_of(folder_of: Callable[[str], Path]) -> PipeOf:
    """A pipeline of a family, in float32; nothing here changes one."""
    from diffusers import DiffusionPipeline

    torch.set_num_threads(1)
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = DiffusionPipeline.from_pretrained(
                str(folder_of(name)), local_files_only=True, dtype=torch.float32
            )
            made[name].set_progress_bar_config(disable=True)
        return made[name]

    return get


def read(pipe: Any, prompt: str, negative: str = "", *, notes: list[str] | None = None, **more: Any) -> dict[str, Any]:
    values = {"reading": "a1111", "clip_skip": 1, "guidance_on": True} | more
    return encode(pipe, prompt, negative, note=(notes if notes is not None else []).append, **values)


def plainly(pipe: Any, prompt: str, negative: str | None = None, **more: Any) -> dict[str, Any]:
    """What the pipeline makes of the words itself."""
    with torch.no_grad():
        if family(pipe) == "flux":
            found = pipe.encode_prompt(prompt, None, device="cpu")
            return {"prompt_embeds": found[0], "pooled_prompt_embeds": found[1]}
        between = (None, None) if family(pipe) == "sd3" else ()
        found = pipe.encode_prompt(
            prompt, *between, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True,
            negative_prompt=negative, **more,
        )  # fmt: skip
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    return dict(zip(names, found, strict=False))


def states(pipe: Any, prompt: str) -> Any:
    return plainly(pipe, prompt)["prompt_embeds"]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def picture(pipe: Any, **arguments: Any) -> bytes:
    made = pipe(
        generator=torch.Generator("cpu").manual_seed(3), num_inference_steps=2, width=64, height=64, **arguments
    )
    return made.images[0].tobytes()


# -- nothing asked, nothing changed


@pytest.mark.parametrize("name", FAMILIES)
def test_plain_words_are_passed_on_and_neutral_ones_read_as_the_pipeline_reads_them(name: str, pipe_of: PipeOf) -> None:
    pipe = pipe_of(name)
    assert read(pipe, "a (red:1.2) apple", "cat", reading="plain") == {}
    assert read(pipe, "a (red) apple", "[cat]", reading="auto") == {}
    for reading in ("a1111", "compel"):
        for negative in ("", "a cat"):
            assert same(
                read(pipe, "a red apple", negative, reading=reading), plainly(pipe, "a red apple", negative or None)
            )
    alone = read(pipe, "a red apple", "a cat", guidance_on=False)
    assert torch.equal(alone["prompt_embeds"], states(pipe, "a red apple"))
    assert not [k for k in alone if k.startswith("negative")]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("negative", ["", "a cat"])
def test_a_picture_from_the_cache_is_the_picture_from_the_words(name: str, negative: str, pipe_of: PipeOf) -> None:
    pipe, cache, runs = pipe_of(name), Cache(), []
    words: dict[str, Any] = {"prompt": "a red apple"} | ({"negative_prompt": negative} if negative else {})
    words["guidance_scale"] = 4.0
    expected = picture(pipe, **words)
    hooks = [e.register_forward_hook(lambda *_: runs.append(1)) for e in prompts._readers(pipe)]
    try:
        for _ in range(2):
            found = read(pipe, "a red apple", negative, reading="plain", cache=cache)
            assert picture(pipe, **replaced(words, found)) == expected
            once = runs.copy()
            assert runs
    finally:
        for hook in hooks:
            hook.remove()
    assert (cache.misses, cache.hits) == (1, 1)
    assert runs == once  # the second picture read nothing
    assert (
        picture(pipe, **replaced(words, read(pipe, "a blue apple", negative, reading="plain", cache=cache))) != expected
    )


def test_the_starter_paints_the_same_from_the_cache(pipe_of: PipeOf) -> None:
    pipe, words = pipe_of("starter"), {"prompt": "a red apple, noto style", "negative_prompt": "blue"}
    found = read(pipe, words["prompt"], words["negative_prompt"], reading="plain", cache=Cache())
    assert picture(pipe, **replaced(words, found)) == picture(pipe, **words)


# -- A1111


def reference(pipe: Any, words: list[tuple[str, float]], suffix: str = "", layer: int = 0) -> Any:
    """A1111's emphasis done plainly for one chunk: weigh each token's states, then restore their mean."""
    tokenizer, encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
    ids, weights = [tokenizer.bos_token_id], [1.0]
    for word, weight in words:
        own = tokenizer(word, add_special_tokens=False).input_ids
        ids += own
        weights += [weight] * len(own)
    fill = tokenizer.model_max_length - len(ids)
    ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * (fill - 1)
    weights += [1.0] * fill
    with torch.no_grad():
        out = encoder(torch.tensor([ids]), output_hidden_states=True)
    z = out.hidden_states[layer] if layer else out.last_hidden_state
    mean = z.mean()
    z = z * torch.tensor(weights).reshape(1, -1, 1)
    return z * (mean / z.mean())


WEIGHED = [("a", 1.0), ("red", 1.4), ("apple", 1.4), ("of", 1.0), ("in", 1 / 1.1), ("cat", 1.1 * 1.1)]
WRITTEN = "a (red apple:1.4) of [in] ((cat))"


@pytest.mark.parametrize("name", ["sd", "starter"])
def test_weights_multiply_and_the_mean_comes_back(name: str, pipe_of: PipeOf) -> None:
    pipe = pipe_of(name)
    found = read(pipe, WRITTEN, "(dog:0.5)")
    assert torch.allclose(found["prompt_embeds"], reference(pipe, WEIGHED), atol=1e-5)
    assert torch.allclose(found["negative_prompt_embeds"], reference(pipe, [("dog", 0.5)]), atol=1e-5)
    assert not torch.allclose(found["prompt_embeds"], states(pipe, "a red apple of in cat"), atol=1e-2)
    assert same(found, read(pipe, WRITTEN, "(dog:0.5)", reading="auto"))


def test_both_encoders_of_sdxl_weigh_and_the_pooled_state_does_not(pipe_of: PipeOf) -> None:
    pipe = pipe_of("sdxl")
    found = read(pipe, WRITTEN, "dog")
    expected = torch.cat([reference(pipe, WEIGHED, "", -2), reference(pipe, WEIGHED, "_2", -2)], dim=-1)
    assert torch.allclose(found["prompt_embeds"], expected, atol=1e-5)
    assert torch.equal(found["pooled_prompt_embeds"], plainly(pipe, "a red apple of in cat")["pooled_prompt_embeds"])
    # without anything to avoid, SDXL takes zeros, as with the words
    blank = read(pipe, WRITTEN, " ")
    assert not blank["negative_prompt_embeds"].any() and not blank["negative_pooled_prompt_embeds"].any()


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_t5_weighs_too(name: str, pipe_of: PipeOf) -> None:
    pipe = pipe_of(name)
    suffix, length = ("_3", 256) if name == "sd3" else ("_2", 512)
    tokenizer, encoder = getattr(pipe, f"tokenizer{suffix}"), getattr(pipe, f"text_encoder{suffix}")
    ids = tokenizer("a red apple of in cat", padding="max_length", max_length=length, return_tensors="pt").input_ids
    weights = torch.tensor([w for _, w in WEIGHED] + [1.0] * (length - len(WEIGHED))).reshape(1, -1, 1)
    with torch.no_grad():
        z = encoder(ids)[0]
    expected = z * weights * (z.mean() / (z * weights).mean())
    found = read(pipe, WRITTEN)["prompt_embeds"]
    assert torch.allclose(found[:, -length:], expected, atol=1e-4)
    if name == "sd3":
        clip = torch.cat([reference(pipe, WEIGHED, "", -2), reference(pipe, WEIGHED, "_2", -2)], dim=-1)
        assert torch.allclose(found[:, :-length, : clip.shape[-1]], clip, atol=1e-5)


def test_weights_that_cancel_out_leave_finite_numbers(pipe_of: PipeOf) -> None:
    z = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    assert torch.equal(prompts.weighed_a1111(z, torch.tensor([1.0, -1.0])), torch.tensor([[[1.0, 1.0], [-1.0, -1.0]]]))
    assert read(pipe_of("sd"), "(a cat:-100) (dog:100)")["prompt_embeds"].isfinite().all()


def chunks(pipe: Any, *texts: str) -> Any:
    return torch.cat([states(pipe, text) for text in texts], dim=1)


def test_long_prompts_are_read_in_chunks_that_do_not_tear_phrases(pipe_of: PipeOf) -> None:
    pipe = pipe_of("sd")
    twenty = LETTERS[:20]
    cases = {
        " ".join(twenty): (" ".join(twenty[:ROOM]), " ".join(twenty[ROOM:])),
        "x y, " + " ".join(twenty): ("x y,", " ".join(twenty[:ROOM]), " ".join(twenty[ROOM:])),
        "a cat BREAK (dog:1.0), tree": ("a cat", "dog, tree"),
        " ".join(twenty[:ROOM]) + ", dog": (" ".join(twenty[:ROOM]), ", dog"),
        "a BREAK BREAK red BREAK": ("a", "", "red"),
        " ".join(twenty[:ROOM]): (" ".join(twenty[:ROOM]),),
    }
    for prompt, texts in cases.items():
        assert torch.equal(read(pipe, prompt)["prompt_embeds"], chunks(pipe, *texts)), prompt
    cut = read(pipe, " ".join(twenty), "a cat")
    assert torch.equal(cut["negative_prompt_embeds"], chunks(pipe, "a cat", ""))
    other = read(pipe, "a cat", " ".join(twenty))
    assert torch.equal(other["prompt_embeds"], chunks(pipe, "a cat", ""))


def test_a_comma_too_far_back_is_no_place_to_end(pipe_of: PipeOf) -> None:
    pipe = pipe_of("starter")  # its chunks have room for 30
    words = " ".join(["cat"] * 28)
    assert torch.equal(read(pipe, f"dog, {words} dog")["prompt_embeds"], chunks(pipe, f"dog, {words}", "dog"))
    near = " ".join(["cat"] * 10)
    text = f"{near} {near}, {near}"
    assert torch.equal(read(pipe, text)["prompt_embeds"], chunks(pipe, f"{near} {near},", near))


def test_long_prompts_of_sdxl_keep_the_pooled_state_of_their_first_chunk(pipe_of: PipeOf) -> None:
    pipe, long = pipe_of("sdxl"), " ".join(LETTERS)
    found = read(pipe, long, "cat")
    first = plainly(pipe, " ".join(LETTERS[:ROOM]))
    assert found["prompt_embeds"].shape == (1, 40, 32) == found["negative_prompt_embeds"].shape
    assert torch.equal(found["prompt_embeds"][:, :20], first["prompt_embeds"])
    assert torch.equal(found["pooled_prompt_embeds"], first["pooled_prompt_embeds"])


def test_t5_says_what_it_cuts_off(pipe_of: PipeOf) -> None:
    notes: list[str] = []
    read(pipe_of("sd3"), "a " * 300, "dog", notes=notes)
    assert notes == ["One of this model's text encoders reads 256 tokens; the last 45 were cut off."]


def test_a_prompt_without_end_is_cut_off_and_one_can_be_stopped(pipe_of: PipeOf) -> None:
    pipe, notes = pipe_of("sd"), list[str]()
    for reading in ("a1111", "compel"):
        found = read(pipe, "a " * 600, reading=reading, notes=notes)
        assert found["prompt_embeds"].shape == found["negative_prompt_embeds"].shape == (1, 32 * 20, 16)
    assert notes == ["A prompt is read up to 576 tokens; the last 24 were cut off."] * 2
    left = [3]

    def check() -> None:
        left[0] -= 1
        if not left[0]:
            raise InterruptedError

    for prompt, reading in (("a " * 600, "a1111"), ("a- b-- c-", "compel")):
        left[0] = 3
        with pytest.raises(InterruptedError):
            read(pipe, prompt, reading=reading, check=check)


def test_text_encoders_whose_weights_come_and_go_read_the_same(folder_of: Callable[[str], Path]) -> None:
    import accelerate
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(str(folder_of("sd")), local_files_only=True, dtype=torch.float32)
    asked: dict[str, Any] = {"prompt": "a (red:1.3) cat", "negative": "cat", "clip_skip": 2}
    expected = read(pipe, **asked)
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        accelerate.cpu_offload(part, torch.device("cpu"), offload_buffers=True)
    assert all(p.is_meta for p in pipe.text_encoder.parameters())
    assert same(read(pipe, **asked), expected)
    with pytest.raises(ModelUnfit, match="one by one"):
        embeddings.load(pipe, [("zork", a1111_file(folder_of("sd").parent))])


# -- the layer


@pytest.mark.parametrize("reading", ["plain", "a1111", "compel"])
def test_clip_skip_counts_from_the_last_layer(reading: str, pipe_of: PipeOf) -> None:
    sd = pipe_of("starter")
    # the pipeline looks for the last norm in a part that newer text encoders no longer have
    object.__setattr__(sd.text_encoder, "text_model", sd.text_encoder)
    try:
        expected = plainly(sd, "a red apple", "a cat", clip_skip=1)
        skipped = plainly(sd, "a cat", clip_skip=1)["prompt_embeds"]
    finally:
        object.__delattr__(sd.text_encoder, "text_model")
    found = read(sd, "a red apple", "a cat", reading=reading, clip_skip=2)
    assert torch.equal(found["prompt_embeds"], expected["prompt_embeds"])
    assert not torch.equal(found["prompt_embeds"], states(sd, "a red apple"))
    # the library counts back for the prompt only; A1111 for both
    assert torch.equal(
        found["negative_prompt_embeds"], expected["negative_prompt_embeds"] if reading == "plain" else skipped
    )
    for name in ("sdxl", "sd3"):
        sdxl = pipe_of(name)
        one = read(sdxl, "a red apple", "a cat", reading=reading, clip_skip=1) or plainly(sdxl, "a red apple", "a cat")
        with pytest.raises(BadRecipe, match="has 1 layers"):
            read(sdxl, "a red apple", "a cat", reading=reading, clip_skip=2)
        assert torch.equal(one["prompt_embeds"], states(sdxl, "a red apple"))


def test_sdxl_counts_back_as_the_library_does(pipe_of: PipeOf, tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    parts = dict(pipe_of("sdxl").components)
    config = parts["text_encoder"].config.__class__(
        **(parts["text_encoder"].config.to_dict() | {"num_hidden_layers": 4})
    )
    torch.manual_seed(1)
    parts["text_encoder"] = CLIPTextModel(config).eval()
    parts["text_encoder_2"] = CLIPTextModelWithProjection(config).eval()
    pipe = StableDiffusionXLPipeline(**parts)
    for skip in (2, 3):
        expected = plainly(pipe, "a red apple", "a cat", clip_skip=skip - 1)
        assert same(read(pipe, "a red apple", "a cat", reading="plain", clip_skip=skip), expected)
        weighed = read(pipe, "a red apple", "a cat", clip_skip=skip)
        assert torch.equal(weighed["prompt_embeds"], expected["prompt_embeds"])
        assert torch.equal(weighed["pooled_prompt_embeds"], expected["pooled_prompt_embeds"])
    with pytest.raises(BadRecipe, match="has 3 layers"):
        read(pipe, "a", clip_skip=4)


# -- compel

RED = torch.tensor([2, 3, 4])  # where the letters of "a red apple" stand after the begin of it


def test_compel_moves_words_away_from_an_empty_prompt(pipe_of: PipeOf) -> None:
    pipe = pipe_of("sd")
    z, empty = states(pipe, "a red apple"), states(pipe, "")
    by = torch.ones(20).index_fill(0, RED, 1.1**2).reshape(1, -1, 1)
    expected = torch.where(by == 1, z, empty + (z - empty) * by)
    assert torch.allclose(read(pipe, "a red++ apple", reading="compel")["prompt_embeds"], expected, atol=1e-6)
    assert not torch.allclose(expected, z, atol=1e-2)


def test_compel_mixes_in_the_prompt_without_words_weighed_down(pipe_of: PipeOf) -> None:
    pipe = pipe_of("sd")
    ids = pipe.tokenizer("a red apple", padding="max_length", return_tensors="pt").input_ids
    mask = torch.ones(1, 20, dtype=torch.long).index_fill(1, RED, 0)
    with torch.no_grad():
        z, without = pipe.text_encoder(ids)[0], pipe.text_encoder(ids, attention_mask=mask)[0]
    empty = states(pipe, "")
    by = torch.ones(20).index_fill(0, RED, 0.5).reshape(1, -1, 1)
    z, without = (torch.where(by == 1, s, empty + (s - empty) * by) for s in (z, without))
    share = math.tan(math.pi / 4)
    expected = (z + share * without) / (1 + share)
    assert torch.allclose(read(pipe, "a (red)0.5 apple", reading="compel")["prompt_embeds"], expected, atol=1e-6)
    assert read(pipe, "a (red)0 apple (cat)0", reading="compel")["prompt_embeds"].isfinite().all()


@pytest.mark.parametrize("name", FAMILIES)
def test_compel_puts_prompts_after_one_another_or_blends_them(name: str, pipe_of: PipeOf) -> None:
    pipe = pipe_of(name)
    blend = read(pipe, '("a red apple", "a cat").blend(3, 1)', "dog", reading="compel")["prompt_embeds"]
    assert torch.allclose(blend, states(pipe, "a red apple") * 0.75 + states(pipe, "a cat") * 0.25, atol=1e-5)
    both = read(pipe, '("a red apple", "a cat").and(1, 0.5)', "dog", reading="compel")
    if name in ("sd", "sdxl"):
        z, empty = states(pipe, "a cat"), states(pipe, "")
        expected = torch.cat([states(pipe, "a red apple"), empty + (z - empty) * 0.5], dim=1)
        assert torch.allclose(both["prompt_embeds"], expected, atol=1e-5)
        assert both["negative_prompt_embeds"].shape == both["prompt_embeds"].shape
    assert picture(pipe, **both)


def test_long_prompts_end_their_chunks_after_sentences_in_compel(pipe_of: PipeOf) -> None:
    pipe = pipe_of("starter")
    near = " ".join(["cat"] * 12)
    text = f"{near}. {near}, {near}"
    assert torch.equal(read(pipe, text, reading="compel")["prompt_embeds"], chunks(pipe, f"{near}.", f"{near}, {near}"))
    assert torch.equal(
        read(pipe, text.replace(".", ""), reading="compel")["prompt_embeds"], chunks(pipe, f"{near} {near},", near)
    )


# -- what is not done is said


def test_what_is_not_carried_out_is_said_once(pipe_of: PipeOf) -> None:
    notes: list[str] = []
    read(pipe_of("sd"), "a [cat:dog:0.5] AND tree", "a [cat:dog:0.5]", notes=notes)
    assert len(notes) == 2
    notes.clear()
    read(pipe_of("sd"), "a cat.swap(dog)", reading="compel", notes=notes)
    assert len(notes) == 1 and "swap" in notes[0]
    notes.clear()
    read(pipe_of("flux"), "a (cat:1.2)", clip_skip=2, notes=notes)
    assert len(notes) == 1 and "clip skip" in notes[0]


class Other:
    """A pipeline of a family that reads words in a way of its own."""

    def __call__(self, prompt: str, negative_prompt: str = "", generator: Any = None) -> None: ...


def test_other_families_get_the_words_without_weights() -> None:
    notes: list[str] = []
    found = read(Other(), "a (red:1.3) apple BREAK \\(cat\\)", "[dog]", notes=notes)
    assert found == {"prompt": "a red apple (cat)", "negative_prompt": "dog"}
    assert notes == ["This model does not read weights; the words were kept without them."]
    assert read(Other(), '("a red++ apple", cat).and()', reading="compel") == {"prompt": "a red apple, cat"}
    assert (
        read(Other(), "a (red:1.3) apple", reading="plain") == {} == read(Other(), "a red apple, (x)", reading="auto")
    )
    assert replaced({"prompt": "x", "negative_prompt": "y", "steps": 2}, found) == {"steps": 2, **found}
    # a pipeline that cannot avoid things is not told to
    assert replaced({"prompt": "x"}, found) == {"prompt": found["prompt"]}
    notes.clear()
    assert read(Other(), "a", clip_skip=2, notes=notes) == {} and len(notes) == 1


# -- other pipelines of the same family


@pytest.mark.parametrize("name", FAMILIES)
def test_pipelines_that_start_from_a_picture_take_what_was_read(name: str, pipe_of: PipeOf) -> None:
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting
    from PIL import Image

    start, mask = Image.new("RGB", (64, 64), "red"), Image.new("L", (64, 64), 255)
    for kind, more in ((AutoPipelineForImage2Image, {}), (AutoPipelineForInpainting, {"mask_image": mask})):
        pipe = kind.from_pipe(pipe_of(name))
        pipe.set_progress_bar_config(disable=True)
        assert family(pipe) == name
        found = read(pipe, "a (red:1.3) " + "apple " * 20, "cat")

        def paint(pipe: Any = pipe, more: Any = more, found: Any = found) -> bytes:
            made = pipe(
                image=start, strength=0.9, num_inference_steps=3, width=64, height=64,
                generator=torch.Generator("cpu").manual_seed(1), **more, **found,
            )  # fmt: skip
            return made.images[0].tobytes()

        assert paint() == paint()


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_pipelines_with_a_control_net_take_what_was_read(name: str, pipe_of: PipeOf) -> None:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
    from PIL import Image

    kind = StableDiffusionControlNetPipeline if name == "sd" else StableDiffusionXLControlNetPipeline
    net = ControlNetModel.from_unet(pipe_of(name).unet, conditioning_channels=3)
    pipe = kind.from_pipe(pipe_of(name), controlnet=net)
    pipe.set_progress_bar_config(disable=True)
    found = read(pipe, "a (red:1.3) " + "apple " * 20, "cat")
    assert picture(pipe, image=Image.new("RGB", (64, 64), "red"), **found)


# -- the cache


def test_the_cache_keeps_what_was_used_last_within_its_bytes() -> None:
    cache = Cache(limit_bytes=1_000)
    for key in "abc":
        cache.put(key, {"x": torch.zeros(100)})
    assert (len(cache), cache.bytes, cache.get("a")) == (2, 800, None)
    assert cache.get("b") is not None
    cache.put("d", {"x": torch.zeros(100)})
    assert cache.get("c") is None and cache.get("b") is not None
    cache.put("b", {"x": torch.zeros(50), "n": None})
    assert (len(cache), cache.bytes) == (2, 600)
    cache.put("huge", {"x": torch.zeros(1_000)})
    assert cache.get("huge") is None and len(cache) == 2
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_everything_that_decides_a_reading_is_in_its_key(pipe_of: PipeOf) -> None:
    pipe, cache = pipe_of("sd"), Cache()
    plain: dict[str, Any] = {"prompt": "a red apple", "negative": "cat", "reading": "plain"}
    changes: list[dict[str, Any]] = [
        {}, {"prompt": "a blue apple"}, {"negative": "dog"}, {"reading": "a1111"}, {"clip_skip": 2},
        {"guidance_on": False}, {"state": ("lora", 0.5)},
    ]  # fmt: skip
    for change in changes:
        values = plain | change
        read(pipe, values.pop("prompt"), values.pop("negative"), cache=cache, **values)
    assert (cache.misses, cache.hits, len(cache)) == (len(changes), 0, len(changes))
    # what is avoided plays no part without guidance
    read(pipe, "a red apple", "dog", reading="plain", guidance_on=False, cache=cache)
    assert cache.hits == 1
    read(pipe_of("sdxl"), "a red apple", "cat", reading="plain", cache=cache)
    assert len(cache) == 1  # another model's text encoders: the rest is forgotten


def test_the_cache_keeps_no_model_in_memory() -> None:
    class Reader:
        pass

    cache, reader = Cache(), Reader()
    cache.of([reader])
    gone = weakref.ref(reader)
    cache.put("a", {})
    del reader
    assert gone() is None
    cache.of([Reader()])
    assert len(cache) == 0
