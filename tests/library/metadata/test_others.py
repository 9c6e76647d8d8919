"""InvokeAI, Fooocus, NovelAI, SwarmUI, Easy Diffusion and Draw Things, in the layouts they really write."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from studio.library.metadata import others
from studio.library.metadata.found import Found
from tests.library.metadata.helpers_metadata import found, picture, png


def noted(result: Found) -> dict[str, str]:
    return dict(result.unmapped)


def invoke() -> dict[str, Any]:
    return {
        "generation_mode": "sdxl_txt2img", "positive_prompt": "a (fox)1.3 in the snow", "negative_prompt": "fog",
        "width": 1024, "height": 768, "seed": 2378273628, "rand_device": "cpu", "cfg_scale": 6.5,
        "cfg_rescale_multiplier": 0.2, "steps": 30, "scheduler": "dpmpp_2m_sde_k", "clip_skip": 1,
        "model": {"key": "2a1b", "hash": "blake3:1a2b3c4d5e6f", "name": "Juggernaut XL v9", "base": "sdxl",
                  "type": "main"},
        "controlnets": [{"image": {"image_name": "0f3c.png"}, "control_weight": 0.75, "begin_step_percent": 0,
                         "end_step_percent": 0.8, "control_mode": "balanced", "resize_mode": "just_resize",
                         "control_model": {"key": "9", "hash": "blake3:9", "name": "canny-sdxl",
                                           "type": "controlnet"}}],
        "ipAdapters": [{"weight": 0.5}], "t2iAdapters": [],
        "loras": [{"model": {"key": "7", "hash": "blake3:77aa88bb99cc", "name": "ink-xl", "type": "lora"},
                   "weight": 0.6},
                  {"lora": {"model_name": "old", "base_model": "sdxl"}, "weight": 0.4}],
        "positive_style_prompt": "ink", "seamless_x": True, "seamless_y": False, "app_version": "5.4.2",
        "vae": {"key": "v", "name": "sdxl-vae-fp16-fix"},
    }  # fmt: skip


def test_invokeai():
    result = found(png(invokeai_metadata=json.dumps(invoke()), invokeai_graph="{}"))
    assert result.tool == "invokeai"
    assert result.values == {
        "prompt": "a (fox)1.3 in the snow", "negative": "fog", "reading": "compel", "width": 1024, "height": 768,
        "seed": 2378273628, "guidance": 6.5, "guidance_rescale": 0.2, "steps": 30, "scheduler": "dpmpp_2m_sde",
        "sigmas": "karras", "clip_skip": 2, "seamless": "x",
    }  # fmt: skip
    assert (result.model, result.model_hash, result.vae) == ("Juggernaut XL v9", "1a2b3c4d5e6f", "sdxl-vae-fp16-fix")
    assert result.loras == (("ink-xl", 0.6), ("old", 0.4))
    assert result.hashes == {"ink-xl": "77aa88bb99cc"}
    assert (result.controls[0].model, result.controls[0].image, result.controls[0].end) == (
        "canny-sdxl",
        "0f3c.png",
        0.8,
    )
    assert noted(result)["positive_style_prompt"] == "ink"
    assert noted(result)["ipAdapters"] == '[{"weight": 0.5}]'


def test_invokeai_with_flux_has_its_own_guidance():
    data = {
        "positive_prompt": "a fox",
        "guidance": 3.5,
        "cfg_scale": 1,
        "scheduler": "euler",
        "model": {"name": "FLUX"},
    }
    assert found(png(invokeai_metadata=json.dumps(data))).values["guidance"] == 3.5


def test_invokeai_of_the_second_generation():
    data = {
        "model": "stable diffusion", "model_weights": "stable-diffusion-1.5", "model_hash": "cc6cb27103417325ff94f52b",
        "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.5",
        "image": {"prompt": [{"prompt": "a fox [fog, rain]", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5,
                  "threshold": 0, "perlin": 0, "height": 640, "width": 512, "seed": 1234, "type": "txt2img",
                  "postprocessing": None, "sampler": "k_dpm_2_a", "variations": [], "seamless": False},
    }  # fmt: skip
    result = found(png(Dream='"a fox" -s 50', sd_metadata=json.dumps(data)))
    assert (result.values["prompt"], result.values["negative"]) == ("a fox", "fog, rain")
    assert (result.values["scheduler"], result.values["height"]) == ("dpm2_a", 640)
    assert (result.model, result.model_hash) == ("stable-diffusion-1.5", "cc6cb27103417325ff94f52b")
    assert result.unmapped == ()


@pytest.mark.parametrize(
    "line",
    [
        '"a fox, night [fog]" -s 40 -S 99 -W 512 -H 640 -C 8.5 -A k_euler_a -f 0.6 --hires_fix',
        "a fox, night [fog] -s40 -S99 -W512 -H640 -C8.5 -Ak_euler_a -f0.6 --hires_fix",
    ],
)
def test_invokeai_of_the_first_generation(line: str):
    result = found(png(Dream=line))
    assert result.values == {
        "prompt": "a fox, night", "negative": "fog", "steps": 40, "seed": 99, "guidance": 8.5, "strength": 0.6,
        "width": 512, "height": 640, "scheduler": "euler_a", "sigmas": "model",
    }  # fmt: skip
    assert noted(result) == {"--hires_fix": "used"}


FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8Rundiffusion", "base_model_hash": "aeb7e9e689",
    "clip_skip": 2, "full_negative_prompt": ["x"], "full_prompt": ["cinematic still a fox"], "guidance_scale": 4,
    "lora_combined_1": "sd_xl_offset_example-lora_1.0 : 0.1",
    "loras": [["sd_xl_offset_example-lora_1.0", 0.1, "4852686128"]],
    "metadata_scheme": "fooocus", "negative_prompt": "fog", "performance": "Speed", "prompt": "a fox\nin snow",
    "prompt_expansion": "a fox, elegant", "refiner_model": "None", "refiner_switch": 0.5, "resolution": "(1152, 896)",
    "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "seed": "6523416752", "sharpness": 2, "steps": 30,
    "styles": "['Fooocus V2', 'Fooocus Sharp']", "vae": "Default (model)", "version": "Fooocus v2.5.5",
}  # fmt: skip


def test_fooocus():
    result = found(png(parameters=json.dumps(FOOOCUS), fooocus_scheme="fooocus"))
    assert result.tool == "fooocus"
    assert result.values == {
        "prompt": "a fox\nin snow", "negative": "fog", "steps": 30, "guidance": 4.0, "clip_skip": 2, "width": 1152,
        "height": 896, "scheduler": "dpmpp_2m_sde", "sigmas": "karras",
    }  # fmt: skip
    assert result.loras == (("sd_xl_offset_example-lora_1.0", 0.1),)
    assert (result.model, result.vae, result.refiner) == ("juggernautXL_v8Rundiffusion", "", "")
    notes = noted(result)
    assert notes["seed"] == "6523416752"
    assert notes["styles"] == "['Fooocus V2', 'Fooocus Sharp']"
    assert notes["sharpness"] == "2"


def test_fooocus_in_a_jpeg_has_its_scheme_in_the_makers_note():
    exif = Image.Exif()
    exif[0x9286], exif[0x0131], exif[0x927C] = json.dumps(FOOOCUS), "Fooocus v2.5.5", "fooocus"
    result = found(picture("JPEG", exif=exif))
    assert (result.tool, result.values["steps"], result.width) == ("fooocus", 30, 64)
    assert noted(result)["Software"] == "Fooocus v2.5.5"


NOVEL = {
    "prompt": "1girl, {{fox}}, 月", "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "uncond_scale": 0.0,
    "cfg_rescale": 0.4, "seed": 2561483728, "n_samples": 1, "noise_schedule": "karras", "sampler": "k_euler_ancestral",
    "uc": "lowres", "sm": True, "request_type": "PromptGenerateRequest", "signed_hash": "abc==",
    "v4_prompt": {"caption": {"base_caption": "1girl, {{fox}}, 月",
                              "char_captions": [{"char_caption": "boy, hat", "centers": [{"x": 0.5, "y": 0.5}]}]}},
    "v4_negative_prompt": {"caption": {"base_caption": "lowres", "char_captions": []}},
}  # fmt: skip


def check_novel(result: Found) -> None:
    assert result.tool == "novelai"
    assert result.values == {
        "prompt": "1girl, {{fox}}, 月", "negative": "lowres", "steps": 28, "guidance": 5.0, "guidance_rescale": 0.4,
        "seed": 2561483728, "width": 832, "height": 1216, "scheduler": "euler_a", "sigmas": "karras",
    }  # fmt: skip
    notes = noted(result)
    assert notes["v4_prompt of a character"] == "boy, hat"
    assert notes["sm"] == "true"
    assert "weights" in notes


def test_novelai_in_a_png():
    result = found(
        png(Title="NovelAI generated image", Description="1girl, {{fox}}, 月", Software="NovelAI",
            Source="NovelAI Diffusion V4.5 4BDE2A90", Comment=json.dumps(NOVEL))
    )  # fmt: skip
    check_novel(result)
    assert result.model == "NovelAI Diffusion V4.5 4BDE2A90"


def test_novelai_in_a_webp_is_json_within_json():
    outer = {"Software": "NovelAI", "Source": "NovelAI Diffusion V4", "Description": "x", "Comment": json.dumps(NOVEL)}
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + json.dumps(outer, ensure_ascii=False).encode("utf-16-le")
    check_novel(found(picture("WEBP", exif=exif)))


SWARM = {
    "sui_image_params": {
        "prompt": "a fox <lora:ink:0.8> at night", "negativeprompt": "fog",
        "model": "OfficialStableDiffusion/sd_xl_base_1.0",
        "seed": 1, "steps": 20, "cfgscale": 7.0, "aspectratio": "1:1", "width": 1024, "height": 768,
        "sampler": "dpmpp_2m", "scheduler": "karras", "loras": ["ink", "detail"], "loraweights": ["0.8", "0.5"],
        "clipstopatlayer": -2, "variationseed": 5, "variationseedstrength": 0.2, "refinerupscale": 1.5,
        "refinercontrolpercentage": 0.3, "refinerupscalemethod": "model-4x-UltraSharp.pth", "swarm_version": "0.9.7.0",
        "controlnetmodel": "canny", "controlnetstrength": 0.6, "freeuversion": "1", "seamlesstileable": "X-Only",
    },
    "sui_extra_data": {"date": "2025-01-25", "generation_time": "4.84 sec"},
    "sui_models": [{"name": "sd_xl_base_1.0.safetensors", "param": "model",
                    "hash": "0xd7a9105a900fd52748f20725fe52fe52"},
                   {"name": "ink.safetensors", "param": "loras", "hash": "0xabcdef123456"}],
}  # fmt: skip


def check_swarm(result: Found) -> None:
    assert result.tool == "swarmui"
    assert result.values == {
        "prompt": "a fox at night", "negative": "fog", "seed": 1, "steps": 20, "guidance": 7.0, "width": 1024,
        "height": 768, "scheduler": "dpmpp_2m", "sigmas": "karras", "clip_skip": 2, "variation_seed": 5,
        "variation": 0.2, "enlarge": 1.5, "enlarge_strength": 0.3, "seamless": "x",
    }  # fmt: skip
    assert result.loras == (("ink", 0.8), ("detail", 0.5))
    assert (result.model, result.model_hash) == ("sd_xl_base_1.0", "d7a9105a900fd52748f20725fe52fe52")
    assert (result.upscaler, result.hashes) == ("4x-UltraSharp", {"ink": "abcdef123456"})
    assert (result.controls[0].model, result.controls[0].weight) == ("canny", 0.6)
    assert noted(result) == {"freeuversion": "1"}


def test_swarmui_in_a_png():
    check_swarm(found(png(parameters=json.dumps(SWARM, indent=2))))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8"])
def test_swarmui_in_a_jpeg_whatever_the_order_of_bytes(encoding: str):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + json.dumps(SWARM).encode(encoding)
    check_swarm(found(picture("JPEG", exif=exif)))


def test_an_older_swarmui_took_the_cameras_name():
    exif = Image.Exif()
    exif[0x0110] = json.dumps(SWARM)
    check_swarm(found(picture("JPEG", exif=exif)))


EASY = {
    "prompt": "a fox", "negative_prompt": "fog", "seed": "42", "use_stable_diffusion_model": "sd-v1-5",
    "clip_skip": "True",
    "use_vae_model": "vae-mse", "sampler_name": "dpmpp_2m_sde", "width": "512", "height": "768",
    "num_inference_steps": "25",
    "guidance_scale": "7.5", "use_lora_model": "['ink', 'detail']", "lora_alpha": "[0.5, 0.3]", "tiling": "xy",
    "use_upscale": "RealESRGAN_x4plus",
}  # fmt: skip


def test_easy_diffusion_in_a_png_has_a_text_for_each_setting():
    result = found(png(**EASY))
    assert result.tool == "easydiffusion"
    assert result.values == {
        "prompt": "a fox", "negative": "fog", "seed": 42, "steps": 25, "guidance": 7.5, "width": 512, "height": 768,
        "scheduler": "dpmpp_2m_sde", "sigmas": "model", "clip_skip": 2, "seamless": "both",
    }  # fmt: skip
    assert result.loras == (("ink", 0.5), ("detail", 0.3))
    assert noted(result) == {"use_upscale": "RealESRGAN_x4plus"}


def test_easy_diffusion_in_a_jpeg_is_json():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + json.dumps({**EASY, "lora_alpha": [0.5, 0.3]}).encode("utf-16-be")
    assert found(picture("JPEG", exif=exif)).loras == (("ink", 0.5), ("detail", 0.3))


def test_draw_things_is_in_xmp():
    data = {"c": "a fox & a hat", "uc": "fog", "model": "sd_xl_base_1.0_q6p_q8p.ckpt", "sampler": "DPM++ 2M Karras",
            "scale": 7.5, "seed": 77, "seed_mode": "Scale Alike", "size": "1024x768", "steps": 25, "strength": 1,
            "lora": [{"model": "ink.ckpt", "weight": 0.6}],
            "v2": {"clipSkip": 2, "maskBlur": 3, "steps": 25}}  # fmt: skip
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        "<xmp:CreatorTool>Draw Things</xmp:CreatorTool><exif:UserComment><rdf:Alt>"
        f'<rdf:li xml:lang="x-default">{json.dumps(data).replace("&", "&amp;")}</rdf:li></rdf:Alt></exif:UserComment>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    result = found(png(**{"XML:com.adobe.xmp": packet}))
    assert result.tool == "drawthings"
    assert result.values["prompt"] == "a fox & a hat"
    assert (result.values["scheduler"], result.values["sigmas"], result.values["clip_skip"]) == (
        "dpmpp_2m",
        "karras",
        2,
    )
    assert (result.model, result.loras) == ("sd_xl_base_1.0_q6p_q8p", (("ink", 0.6),))
    assert noted(result) == {"seed_mode": "Scale Alike"}


READERS = {
    "invoke": (others.read_invoke, invoke()),
    "old_invoke": (others.read_old_invoke, {"image": {"prompt": "x", "steps": 3}}),
    "fooocus": (others.read_fooocus, FOOOCUS),
    "novel": (lambda data, text: others.read_novelai(data, "", "", text), NOVEL),
    "swarm": (others.read_swarm, SWARM),
    "easy": (others.read_easy, EASY),
    "draw": (others.read_draw_things, {"c": "x", "v2": {}, "lora": [], "size": "1x1", "sampler": "x", "control": []}),
}
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_values_of_the_wrong_type_are_listed_and_raise_nothing(name: str, data: st.DataObject):
    reader, right = READERS[name]
    changed: dict[str, Any] = dict(right)
    if name == "swarm":
        inner = dict(SWARM["sui_image_params"])
        for key in data.draw(st.lists(st.sampled_from(sorted(inner)), max_size=4)):
            inner[key] = data.draw(ODD)
        changed["sui_image_params"] = inner
    for key in data.draw(st.lists(st.sampled_from(sorted(changed)), min_size=1, max_size=4)):
        changed[key] = data.draw(ODD)
    reader(changed, "text").found()


@pytest.mark.parametrize("keyword", ["parameters", "invokeai_metadata", "sd_metadata", "Dream", "prompt", "workflow",
                                     "studio", "Comment"])  # fmt: skip
@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "{", "[]", "null", '{"kind": "image"}', "\x01",
                                  '{"sui_image_params": [1]}', '{"c":1,"uc":2,"sampler":3}',
                                  '{"kind":"image","prompt":7}',
                                  '{"positive_prompt": {}, "model": []}',
                                  '{"prompt": "x", "base_model": NaN}'])  # fmt: skip
def test_texts_that_are_cut_or_wrong_raise_nothing(keyword: str, text: str):
    from io import BytesIO

    from studio.library.metadata import read

    read(BytesIO(png(**{keyword: text, "Software": "NovelAI"})))
