"""ComfyUI's graphs: what people really build, and what nobody should."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.library.metadata.comfy import read_prompt, read_workflow
from studio.library.metadata.found import Found
from tests.effort import effort
from tests.library.metadata.helpers_metadata import found, picture, png

Graph = dict[str, Any]


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def usual() -> Graph:
    """The graph that ComfyUI opens with."""
    return {
        "3": node("KSampler", seed=156680208700286, steps=20, cfg=8, sampler_name="euler", scheduler="normal",
                  denoise=1, model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
        "4": node("CheckpointLoaderSimple", ckpt_name="SD1.5\\v1-5-pruned-emaonly.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "6": node("CLIPTextEncode", text="beautiful scenery nature glass bottle landscape", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="text, watermark", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="ComfyUI", images=["8", 0]),
    }  # fmt: skip


def parse(graph: Graph) -> Found:
    return found(png(prompt=json.dumps(graph)))


def noted(result: Found) -> dict[str, str]:
    return dict(result.unmapped)


def test_the_usual_graph():
    graph = usual()
    graph["3"]["inputs"]["seed"] = 1234
    result = parse(graph)
    assert result.tool == "comfyui"
    assert result.values == {
        "prompt": "beautiful scenery nature glass bottle landscape", "negative": "text, watermark", "seed": 1234,
        "steps": 20, "guidance": 8.0, "scheduler": "euler", "sigmas": "model", "width": 512, "height": 768,
    }  # fmt: skip
    assert result.model == "v1-5-pruned-emaonly"
    assert result.unmapped == ()


def test_a_seed_of_more_than_thirty_two_bits_is_listed():
    result = parse(usual())
    assert "seed" not in result.values
    assert noted(result)["seed"] == "156680208700286"


def test_what_the_picture_does_not_hang_on_is_not_looked_at():
    graph = usual()
    graph["20"] = node("CLIPTextEncode", text="something else", clip=["4", 1])
    graph["21"] = node("KSampler", seed=1, steps=99, cfg=1, sampler_name="lcm", scheduler="karras", denoise=1,
                       model=["4", 0], positive=["20", 0], negative=["20", 0], latent_image=["5", 0])  # fmt: skip
    result = parse(graph)
    assert result.values["steps"] == 20
    assert "something else" not in result.values["prompt"]


def test_loras_control_clip_skip_and_vae():
    graph = usual()
    graph["10"] = node("LoraLoader", lora_name="styles/ink.safetensors", strength_model=0.8, strength_clip=0.5,
                       model=["4", 0], clip=["4", 1])  # fmt: skip
    graph["11"] = node("LoraLoaderModelOnly", lora_name="detail.safetensors", strength_model=0.6, model=["10", 0])
    graph["12"] = node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["10", 1])
    graph["13"] = node("ControlNetLoader", control_net_name="control_v11p_sd15_openpose.pth")
    graph["14"] = node("LoadImage", image="pose.png", upload="image")
    graph["15"] = node("OpenposePreprocessor", image=["14", 0], resolution=512)
    graph["16"] = node("ControlNetApplyAdvanced", strength=0.7, start_percent=0.1, end_percent=0.9,
                       positive=["6", 0], negative=["7", 0], control_net=["13", 0], image=["15", 0])  # fmt: skip
    graph["17"] = node("VAELoader", vae_name="vae-ft-mse.safetensors")
    graph["8"]["inputs"]["vae"] = ["17", 0]
    graph["6"]["inputs"].update(clip=["12", 0], text="(a fox:1.3), embedding:EasyNegative")
    graph["7"]["inputs"]["clip"] = ["12", 0]
    graph["3"]["inputs"].update(model=["11", 0], positive=["16", 0], negative=["16", 1],
                                sampler_name="dpmpp_2m_sde_gpu", scheduler="karras")  # fmt: skip
    result = parse(graph)
    assert result.loras == (("ink", 0.8), ("detail", 0.6))
    assert result.values["clip_skip"] == 2
    assert (result.values["scheduler"], result.values["sigmas"]) == ("dpmpp_2m_sde", "karras")
    assert (result.values["prompt"], result.values["negative"]) == (
        "(a fox:1.3), embedding:EasyNegative",
        "text, watermark",
    )
    assert result.values["reading"] == "a1111"
    assert result.vae == "vae-ft-mse"
    assert result.embeddings == ("EasyNegative",)
    assert len(result.controls) == 1
    control = result.controls[0]
    assert (control.model, control.filter, control.image) == ("control_v11p_sd15_openpose", "Openpose", "pose.png")
    assert (control.weight, control.start, control.end) == (0.7, 0.1, 0.9)
    assert noted(result)["styles/ink.safetensors strength_clip"] == "0.5"


def flux() -> Graph:
    return {
        "6": node("CLIPTextEncode", text=["40", 0], clip=["11", 0]),
        "8": node("VAEDecode", samples=["13", 0], vae=["10", 0]),
        "9": node("SaveImage", filename_prefix="flux", images=["8", 0]),
        "10": node("VAELoader", vae_name="ae.safetensors"),
        "11": node("DualCLIPLoader", clip_name1="t5xxl_fp16.safetensors", clip_name2="clip_l.safetensors", type="flux"),
        "12": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "13": node("SamplerCustomAdvanced", noise=["25", 0], guider=["22", 0], sampler=["16", 0], sigmas=["17", 0],
                   latent_image=["27", 0]),
        "16": node("KSamplerSelect", sampler_name="euler"),
        "17": node("BasicScheduler", scheduler="beta", steps=24, denoise=1, model=["30", 0]),
        "22": node("BasicGuider", model=["30", 0], conditioning=["26", 0]),
        "25": node("RandomNoise", noise_seed=219670278),
        "26": node("FluxGuidance", guidance=3.5, conditioning=["6", 0]),
        "27": node("EmptySD3LatentImage", width=["41", 0], height=1024, batch_size=2),
        "30": node("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=1024, height=1024, model=["50", 0]),
        "40": node("StringConcatenate", string_a="a fox", string_b=["42", 0], delimiter=", "),
        "41": node("PrimitiveInt", value=832),
        "42": node("PrimitiveStringMultiline", value="in the snow"),
        "50": {"class_type": "Power Lora Loader (rgthree)", "inputs": {
            "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"},
            "lora_1": {"on": True, "lora": "ink-flux.safetensors", "strength": 0.9},
            "lora_2": {"on": False, "lora": "off.safetensors", "strength": 1},
            "model": ["12", 0], "clip": ["11", 0]}},
    }  # fmt: skip


def test_a_flux_graph_of_single_parts():
    result = parse(flux())
    assert result.values == {
        "prompt": "a fox, in the snow", "seed": 219670278, "steps": 24, "guidance": 3.5, "scheduler": "euler",
        "sigmas": "beta", "width": 832, "height": 1024,
    }  # fmt: skip
    assert (result.model, result.vae, result.loras) == ("flux1-dev", "ae", (("ink-flux", 0.9),))
    assert noted(result)["ModelSamplingFlux"].startswith("max_shift: 1.15")
    assert noted(result)["batch_size"] == "2"


def test_sdxl_texts_are_joined_once():
    graph = usual()
    graph["6"] = node("CLIPTextEncodeSDXL", text_g="a fox", text_l="a fox", width=1024, height=1024, clip=["4", 1])
    graph["7"] = node("CLIPTextEncodeSDXL", text_g="dull", text_l="blurry", clip=["4", 1])
    values = parse(graph).values
    assert (values["prompt"], values["negative"]) == ("a fox", "dull, blurry")


def test_a_second_pass_is_an_enlargement():
    graph = usual()
    graph["30"] = node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=1.5, samples=["3", 0])
    graph["31"] = node("KSampler", seed=5, steps=14, cfg=8, sampler_name="dpmpp_2m", scheduler="simple", denoise=0.5,
                       model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["30", 0])  # fmt: skip
    graph["8"]["inputs"]["samples"] = ["31", 0]
    values = parse(graph).values
    assert (values["enlarge"], values["enlarge_steps"], values["enlarge_strength"]) == (1.5, 14, 0.5)
    assert (values["steps"], values["scheduler"], values["width"]) == (20, "euler", 512)
    assert "strength" not in values


def test_a_second_pass_through_an_upscaler():
    graph = usual()
    graph["28"] = node("UpscaleModelLoader", model_name="4x-UltraSharp.pth")
    graph["29"] = node("ImageUpscaleWithModel", upscale_model=["28", 0], image=["33", 0])
    graph["30"] = node("VAEEncode", pixels=["34", 0], vae=["4", 2])
    graph["34"] = node(
        "ImageScale", upscale_method="lanczos", width=1024, height=1536, crop="disabled", image=["29", 0]
    )
    graph["33"] = node("VAEDecode", samples=["3", 0], vae=["4", 2])
    graph["31"] = node("KSampler", seed=5, steps=14, cfg=8, sampler_name="euler", scheduler="normal", denoise=0.4,
                       model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["30", 0])  # fmt: skip
    graph["8"]["inputs"]["samples"] = ["31", 0]
    result = parse(graph)
    assert (result.values["enlarge"], result.values["enlarge_strength"], result.upscaler) == (2.0, 0.4, "4x-UltraSharp")


def test_a_picture_to_begin_with():
    graph = usual()
    graph["5"] = node("VAEEncode", pixels=["50", 0], vae=["4", 2])
    graph["50"] = node("LoadImage", image="holiday.jpg", upload="image")
    graph["3"]["inputs"]["denoise"] = 0.87
    result = parse(graph)
    assert result.values["strength"] == 0.87
    assert noted(result)["image"] == "holiday.jpg"


def test_a_conditioning_of_nothing_has_no_words():
    graph = usual()
    graph["70"] = node("ConditioningZeroOut", conditioning=["6", 0])
    graph["3"]["inputs"]["negative"] = ["70", 0]
    assert "negative" not in parse(graph).values


def test_words_from_a_node_that_is_not_known():
    graph = usual()
    graph["70"] = node("WildcardMagic", file="animals.txt", mode="random")
    graph["6"]["inputs"]["text"] = ["70", 0]
    result = parse(graph)
    assert "prompt" not in result.values
    assert noted(result)["WildcardMagic"] == "file: animals.txt, mode: random"
    assert "not known" in noted(result)["CLIPTextEncode"]


def test_a_loader_that_does_it_all():
    result = parse({
        "1": node("Efficient Loader", ckpt_name="dream.safetensors", vae_name="Baked VAE", clip_skip=-2,
                  lora_name="ink.safetensors", lora_model_strength=0.8, lora_clip_strength=0.8, positive="a fox",
                  negative="fog", empty_latent_width=640, empty_latent_height=512, batch_size=1),
        "2": node("KSampler (Efficient)", seed=5, steps=12, cfg=6, sampler_name="dpmpp_2m", scheduler="karras",
                  denoise=1, model=["1", 0], positive=["1", 1], negative=["1", 2], latent_image=["1", 3]),
        "3": node("SaveImage", images=["2", 5]),
    })  # fmt: skip
    assert result.values == {
        "prompt": "a fox", "negative": "fog", "seed": 5, "steps": 12, "guidance": 6.0, "scheduler": "dpmpp_2m",
        "sigmas": "karras", "width": 640, "height": 512,
    }  # fmt: skip
    assert (result.model, result.loras) == ("dream", (("ink", 0.8),))


def test_a_refiner_of_sdxl_is_named():
    graph = usual()
    graph["3"] = node("KSamplerAdvanced", add_noise="enable", noise_seed=7, steps=25, cfg=8, sampler_name="euler",
                      scheduler="normal", start_at_step=0, end_at_step=20, return_with_leftover_noise="enable",
                      model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0])  # fmt: skip
    graph["40"] = node("CheckpointLoaderSimple", ckpt_name="sd_xl_refiner_1.0.safetensors")
    graph["41"] = node("KSamplerAdvanced", add_noise="disable", noise_seed=0, steps=25, cfg=8, sampler_name="euler",
                       scheduler="normal", start_at_step=20, end_at_step=10000, model=["40", 0],
                       positive=["6", 0], negative=["7", 0], latent_image=["3", 0])  # fmt: skip
    graph["8"]["inputs"]["samples"] = ["41", 0]
    result = parse(graph)
    assert (result.model, result.refiner, result.values["seed"]) == ("v1-5-pruned-emaonly", "sd_xl_refiner_1.0", 7)
    assert noted(result)["KSamplerAdvanced end_at_step"] == "20"
    assert "start_at_step: 20" in noted(result)["KSamplerAdvanced"]


def test_nodes_that_are_not_known_are_listed():
    graph = usual()
    graph["60"] = node("FaceDetailer", guide_size=384, image=["8", 0])
    graph["9"]["inputs"]["images"] = ["60", 0]
    graph["61"] = node("FreeU_V2", b1=1.3, b2=1.4, model=["4", 0])
    graph["3"]["inputs"]["model"] = ["61", 0]
    notes = noted(parse(graph))
    assert notes["FaceDetailer"] == "guide_size: 384"
    assert notes["FreeU_V2"] == "b1: 1.3, b2: 1.4"


def test_a_nan_as_comfyui_itself_writes_it_does_no_harm():
    graph = usual()
    graph["14"] = {**node("LoadImage", image="x.png"), "is_changed": [float("nan")]}
    graph["3"]["inputs"]["cfg"] = float("nan")
    result = parse(graph)
    assert "guidance" not in result.values
    assert result.values["steps"] == 20


def test_graphs_in_webp_are_in_two_tags_of_exif():
    from PIL import Image

    exif = Image.Exif()
    exif[0x010F] = "workflow:" + json.dumps({"nodes": []})
    exif[0x0110] = "prompt:" + json.dumps(usual())
    result = found(picture("WEBP", exif=exif))
    assert (result.tool, result.values["steps"], result.width) == ("comfyui", 20, 64)


WORKFLOW = {
    "last_node_id": 9,
    "nodes": [
        {"id": 30, "type": "SaveImage", "mode": 2, "inputs": [{"name": "images", "link": 20}]},
        {"id": 31, "type": "KSampler", "mode": 2, "widgets_values": [1, "fixed", 99, 1, "lcm", "normal", 1],
         "inputs": [{"name": "latent_image", "link": 21}]},
        {"id": 4, "type": "CheckpointLoaderSimple", "mode": 0, "widgets_values": ["dream.safetensors"],
         "outputs": [{"name": "MODEL", "links": [1]}]},
        {"id": 5, "type": "EmptyLatentImage", "mode": 0, "widgets_values": [640, 384, 1]},
        {"id": 6, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "type": "CLIP", "link": 3}],
         "widgets_values": ["a lighthouse"]},
        {"id": 7, "type": "CLIPTextEncode", "mode": 0, "inputs": [{"name": "clip", "type": "CLIP", "link": 5}],
         "widgets_values": ["fog"]},
        {"id": 10, "type": "LoraLoader", "mode": 4, "inputs": [{"name": "model", "link": 1}],
         "widgets_values": ["bypassed.safetensors", 1, 1]},
        {"id": 3, "type": "KSampler", "mode": 0, "widgets_values": [42, "randomize", 30, 6.5, "euler_ancestral",
                                                                  "karras", 1],
         "inputs": [{"name": "model", "link": 11}, {"name": "positive", "link": 4}, {"name": "negative", "link": 6},
                    {"name": "latent_image", "link": 2}]},
        {"id": 8, "type": "VAEDecode", "mode": 0, "inputs": [{"name": "samples", "link": 7},
                                                           {"name": "vae", "link": 8}]},
        {"id": 9, "type": "SaveImage", "mode": 0, "inputs": [{"name": "images", "link": 9}],
         "widgets_values": ["ComfyUI"]},
    ],
    "links": [[20, 31, 0, 30, 0, "IMAGE"], [21, 5, 0, 31, 0, "LATENT"], [1, 4, 0, 10, 0, "MODEL"], 
              [11, 10, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"],
              [4, 6, 0, 3, 1, "CONDITIONING"], [5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"],
              [7, 3, 0, 8, 0, "LATENT"], [8, 4, 2, 8, 1, "VAE"], [9, 8, 0, 9, 0, "IMAGE"]],
    "version": 0.4,
}  # fmt: skip


def test_the_editors_workflow_is_the_fallback():
    result = found(png(workflow=json.dumps(WORKFLOW)))
    assert result.values == {
        "prompt": "a lighthouse", "negative": "fog", "seed": 42, "steps": 30, "guidance": 6.5,
        "scheduler": "euler_a", "sigmas": "karras", "width": 640, "height": 384,
    }  # fmt: skip
    assert (result.model, result.loras) == ("dream", ())


def hostile() -> list[Any]:
    loop = usual()
    loop["3"]["inputs"].update(latent_image=["3", 0], model=["3", 0], positive=["6", 0])
    loop["6"]["inputs"].update(text=["6", 0], clip=["6", 0])
    deep = usual()
    for i in range(500):
        deep[f"l{i}"] = node(
            "LoraLoaderModelOnly", lora_name=f"{i}.safetensors", strength_model=1, model=[f"l{i + 1}", 0]
        )
        deep[f"c{i}"] = node("ConditioningCombine", conditioning_1=[f"c{i + 1}", 0], conditioning_2=[f"c{i + 1}", 0])
    deep["3"]["inputs"].update(model=["l0", 0], positive=["c0", 0])
    wrong = usual()
    wrong["3"]["inputs"] = []
    wrong["4"] = ["x"]
    wrong["6"] = None
    types = usual()
    types["3"]["inputs"].update(seed={"a": 1}, steps=[1, 2, 3], cfg="high", sampler_name=7, scheduler=["4", 0],
                                denoise=None, positive=[["4"], 0], negative=["6", "0"],
                                latent_image=["nowhere", 0])  # fmt: skip
    return [loop, deep, wrong, types, {}, {"1": {"class_type": 3}}, {"prompt": {"prompt": []}},
            {"a": node("SaveImage", images=["a", 0])}, {"nodes": [{"id": [], "type": "KSampler", "inputs": [None, 3]}]},
            {"nodes": [{"type": "KSampler", "widgets_values": 3, "inputs": {}}],
             "links": [[], [1], 7, None]}]  # fmt: skip


@pytest.mark.parametrize("at", range(len(hostile())))
def test_graphs_that_make_no_sense_cost_little_and_raise_nothing(at: int):
    text = json.dumps(hostile()[at])

    def read() -> None:
        for reader in (read_prompt, read_workflow):
            if (draft := reader(text)) is not None:
                draft.found()

    assert effort(read) < 1.5


@pytest.mark.parametrize("text", ["[" * 10_000, '{"a":' * 10_000, "{", "null", "3", '{"3": NaN}', '{"3": 1e99999}',
                                  '{"3": ' + "9" * 5_000 + "}", "[]", '"x"', ""])  # fmt: skip
def test_what_is_no_graph_is_none(text: str):
    assert read_prompt(text) is None
    assert read_workflow(text) is None
