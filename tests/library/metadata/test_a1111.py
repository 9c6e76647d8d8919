"""The "parameters" of A1111 and its relatives, in the layouts they really write."""

from __future__ import annotations

import pytest

from studio.library.metadata.a1111 import looks_right, read_parameters
from studio.library.metadata.found import Found
from tests.effort import effort
from tests.library.metadata.helpers_metadata import found, png

CLASSIC = """masterpiece, (best quality:1.2), <lora:inkSketch_v1:0.8>, a fox in the snow
BREAK northern lights <lora:add_detail:0.5:0.6>
Negative prompt: (worst quality:1.4), blurry,
bad hands, EasyNegative
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 965400086, Size: 512x768, Model hash: 4199bcdd14, \
Model: revAnimated_v122, VAE hash: 735e4c3a44, VAE: vae-ft-mse-840000-ema-pruned.safetensors, Variation seed: 12, \
Variation seed strength: 0.25, Denoising strength: 0.45, Clip skip: 2, ENSD: 31337, RNG: CPU, \
ControlNet 0: "Module: canny, Model: control_v11p_sd15_canny [d14c016b], Weight: 0.8, Resize Mode: Crop and Resize, \
Low Vram: False, Processor Res: 512, Threshold A: 100, Threshold B: 200, Guidance Start: 0, Guidance End: 0.65, \
Pixel Perfect: False, Control Mode: Balanced", Hires upscale: 2, Hires steps: 12, Hires upscaler: R-ESRGAN 4x+, \
Lora hashes: "inkSketch_v1: 9e26d9cbc6dd, add_detail: 7c6bad76eb54", TI hashes: "EasyNegative: c74b4e810b03", \
Version: v1.6.0"""


def parse(text: str) -> Found:
    return found(png(parameters=text))


def noted(result: Found) -> dict[str, str]:
    return dict(result.unmapped)


def test_everything_with_a_place_in_our_recipe_is_taken_from_a_classic_text():
    result = parse(CLASSIC)
    assert result.tool == "a1111"
    assert result.values == {
        "prompt": "masterpiece, (best quality:1.2), a fox in the snow\nBREAK northern lights",
        "negative": "(worst quality:1.4), blurry,\nbad hands, EasyNegative",
        "reading": "a1111", "steps": 28, "guidance": 7.5, "seed": 965400086, "width": 512, "height": 768,
        "clip_skip": 2, "variation_seed": 12, "variation": 0.25, "scheduler": "dpmpp_2m", "sigmas": "karras",
        "enlarge": 2.0, "enlarge_steps": 12, "enlarge_strength": 0.45,
    }  # fmt: skip
    assert (result.model, result.model_hash) == ("revAnimated_v122", "4199bcdd14")
    assert (result.vae, result.upscaler) == ("vae-ft-mse-840000-ema-pruned", "R-ESRGAN 4x+")
    assert result.loras == (("inkSketch_v1", 0.8), ("add_detail", 0.5))
    assert result.embeddings == ("EasyNegative",)
    assert result.hashes["inkSketch_v1"] == "9e26d9cbc6dd"
    assert result.hashes["EasyNegative"] == "c74b4e810b03"
    control = result.controls[0]
    assert (control.model, control.filter, control.weight, control.end) == (
        "control_v11p_sd15_canny",
        "canny",
        0.8,
        0.65,
    )
    assert (result.width, result.height) == (64, 48)
    assert result.text == CLASSIC


def test_nothing_is_dropped_silently():
    notes = noted(parse(CLASSIC))
    assert notes["ENSD"] == "31337"
    assert notes["RNG"] == "CPU"
    assert notes["Version"] == "v1.6.0"
    assert notes["LoRA add_detail"] == "0.5:0.6"
    assert "threshold a: 100" in notes["ControlNet 0"]


@pytest.mark.parametrize(
    ("sampler", "scheduler", "sigmas"),
    [
        ("Sampler: Euler a", "euler_a", "model"),
        ("Sampler: DPM++ 2M, Schedule type: Karras", "dpmpp_2m", "karras"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m", "karras"),
        ("Sampler: Euler, Schedule type: Automatic", "euler", "model"),
        ("Sampler: DPM++ 2M SDE, Schedule type: Exponential", "dpmpp_2m_sde", "exponential"),
        ("Sampler: Euler, Schedule type: SGM Uniform", "euler", "sgm_uniform"),
        ("Sampler: Euler, Schedule type: Beta", "euler", "beta"),
        ("Sampler: PLMS", "pndm", "model"),
    ],
)
def test_samplers_and_schedule_types_become_ours(sampler: str, scheduler: str, sigmas: str):
    values = parse(f"a fox\nSteps: 20, {sampler}, CFG scale: 7, Seed: 1, Size: 64x64").values
    assert (values["scheduler"], values["sigmas"]) == (scheduler, sigmas)


def test_a_sampler_that_we_do_not_have_is_listed():
    result = parse("a fox\nSteps: 20, Sampler: DPM++ 2S a, Schedule type: Polyexponential, CFG scale: 7, Seed: 1")
    assert "scheduler" not in result.values
    assert noted(result)["sampler"] == "DPM++ 2S a"
    assert noted(result)["schedule type"] == "Polyexponential"


def test_forge_has_a_guidance_of_its_own_for_flux():
    result = parse(
        "a fox\nSteps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, "
        "Size: 896x1152, Model hash: bea01d51bd, Model: flux1-dev-bnb-nf4-v2, Module 1: ae, "
        "Version: f2.0.1v1.10.1-previous-304-g394da019"
    )
    assert result.tool == "forge"
    assert result.values["guidance"] == 3.5
    assert result.model == "flux1-dev-bnb-nf4-v2"
    assert noted(result)["Module 1"] == "ae"


def test_sd_next_is_told_apart():
    result = parse(
        "a fox\nSteps: 20, Size: 1024x1024, Sampler: UniPC, Seed: 1, CFG scale: 6, CFG rescale: 0.7, Model: x, "
        "App: SD.Next, Version: 6c6d3a1, Pipeline: StableDiffusionXLPipeline, Operations: txt2img"
    )
    assert result.tool == "sdnext"
    assert (result.values["scheduler"], result.values["guidance_rescale"]) == ("unipc", 0.7)


def test_civitais_bare_json_is_read_whole():
    result = parse(
        "a fox, night\nNegative prompt: dull\nSteps: 25, CFG scale: 4, Sampler: Euler a, Seed: 77, Size: 832x1216, "
        'Clip skip: 2, Created Date: 2025-02-03T10:11:12.1314Z, Civitai resources: [{"type":"checkpoint",'
        '"modelVersionId":1,"modelName":"Pony, the 6th","modelVersionName":"V6 XL"},{"type":"lora","weight":0.7,'
        '"modelVersionId":2,"modelName":"Ink [style]","modelVersionName":"v1"}], Civitai metadata: {"remixOfId":3}'
    )
    assert result.tool == "civitai"
    assert result.model == "Pony, the 6th"
    assert result.loras == (("Ink [style]", 0.7),)
    assert noted(result)["Civitai metadata"] == '{"remixOfId":3}'
    assert noted(result)["Created Date"].startswith("2025-02-03T10:11")


def test_fooocus_in_a1111s_layout_keeps_its_prompts_in_the_last_line():
    result = found(
        png(
            fooocus_scheme="a1111",
            parameters="cinematic still a fox . emotional, vignette\nNegative prompt: anime, cartoon\n"
            "Steps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 12, Size: 1152x896, CFG scale: 4, Sharpness: 2, "
            'ADM Guidance: "(1.5, 0.8, 0.3)", Model: juggernautXL_v8, Model hash: aeb7e9e689, Performance: Speed, '
            'Scheduler: karras, VAE: Default (model), Raw prompt: "a fox\\nwith, commas", Raw negative prompt: , '
            'Lora hashes: "offset: 4852686128", Lora weights: "offset: 0.1", Version: Fooocus v2.5.5',
        )
    )
    assert result.tool == "fooocus"
    assert result.values["prompt"] == "a fox\nwith, commas"
    assert (result.values["scheduler"], result.values["sigmas"]) == ("dpmpp_2m_sde", "karras")
    assert result.loras == (("offset", 0.1),)
    assert result.vae == ""


def test_painting_into_a_picture():
    values = parse(
        "a hat\nSteps: 20, Sampler: DDIM, CFG scale: 7, Seed: 1, Size: 512x512, Denoising strength: 0.6, Mask blur: 8, "
        "Inpaint area: Only masked, Masked area padding: 48, Masked content: latent noise, Tiling: True"
    ).values
    assert (values["strength"], values["mask_blur"], values["mask_area"]) == (0.6, 8, "mask")
    assert (values["mask_padding"], values["mask_fill"], values["seamless"]) == (48, "noise", "both")


def test_a_resize_of_the_same_shape_is_an_enlargement():
    text = (
        "x\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 512x768, Hires resize: {}, Hires upscaler: Latent"
    )
    assert parse(text.format("1024x1536")).values["enlarge"] == 2.0
    other = parse(text.format("1024x1024"))
    assert "enlarge" not in other.values
    assert noted(other)["Hires resize"] == "1024x1024"
    assert noted(other)["Hires upscaler"] == "Latent"


def test_values_beyond_our_limits_are_brought_within_and_named():
    result = parse("x\nSteps: 5000, Sampler: Euler, CFG scale: 90, Seed: 18446744073709551615, Size: 20000x512")
    assert (result.values["steps"], result.values["guidance"]) == (1000, 50.0)
    assert not {"seed", "width", "height"} & result.values.keys()
    notes = noted(result)
    assert notes["Steps"] == "5000 (taken as 1000)"
    assert notes["Seed"] == "18446744073709551615"
    assert notes["Size (width)"] == "20000"


@pytest.mark.parametrize("steps", ["nan", "inf", "1e999", "-", "٣", "0x10", "1_000", "9" * 5_000, "", "None"])
def test_what_is_no_number_is_listed_and_not_taken(steps: str):
    result = parse(f"x\nSteps: {steps}, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64")
    assert result.values.get("steps") in (None, 3)
    assert result.values["guidance"] == 7.0


def test_a_prompt_alone_is_a_prompt():
    result = parse("just a fox, nothing else")
    assert result.values == {"prompt": "just a fox, nothing else"}


def test_a_line_of_colons_in_a_prompt_is_not_taken_for_settings():
    text = "style: ink, mood: calm, light: low\nsecond line"
    assert parse(text).values["prompt"] == text
    assert not looks_right(text)


def test_lines_below_the_settings_belong_to_them():
    result = parse("x\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1\nTemplate: a {b}, Negative Template: c")
    assert result.values["prompt"] == "x"
    assert noted(result)["Template"] == "a {b}"


def test_commas_around_a_removed_addition_do_not_pile_up():
    for prompt, wanted in [
        ("a, <lora:x:1>, b", "a, b"), ("<lora:x:1>, a", "a"), ("a <lora:x:1> b", "a b"), ("a  b, <lora:x:1>", "a  b,"),
        ("<lora:x>a", "a"), ("a\n<lora:x:1>, b", "a\n b"),
    ]:  # fmt: skip
        result = parse(f"{prompt}\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1")
        assert result.values["prompt"] == wanted
        assert result.loras == (("x", 1.0),)


@pytest.mark.parametrize(
    "text",
    [
        "Steps: 1, a: [" * 20_000,
        'Steps: 1, a: "' * 18_000,
        "a: 1, " * 40_000,
        "<lora:" * 40_000,
        "\n" * 262_000,
        " " * 250_000 + "Steps: 1, b: 2, c: 3",
        ("x" * 79 + ":") * 3_000,
        "Negative prompt:" * 16_000,
        "(" * 262_000,
        "," * 262_000,
        '{"a":' * 40_000,
    ],
)
def test_hostile_texts_cost_little(text: str):
    def read() -> None:
        draft = read_parameters(text)
        looks_right(text)
        draft.found()

    assert effort(read) < 1.5
