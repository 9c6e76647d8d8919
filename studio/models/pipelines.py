"""What each picture pipeline of diffusers takes, and which classes do the other things that its models can.

A table by hand, because looking at a model must not import diffusers.
Read from the classes and `__call__` methods of diffusers 0.42; a test compares the two.
"""

from __future__ import annotations

import msgspec

from studio.core.cards import Capability


class Modes(msgspec.Struct, frozen=True, kw_only=True):
    """The pipeline classes that work with one model, by what they are given; "" where there is none.

    Attributes:
        from_words: a prompt alone. from_picture: a picture and `strength`. into_picture: a picture and a mask.
        control, control_from, control_into: the same three with a ControlNet.
        union, union_from, union_into: with a ControlNet that knows several kinds of control pictures.
        adapter: a prompt and a T2I adapter.
    """

    from_words: str = ""
    from_picture: str = ""
    into_picture: str = ""
    control: str = ""
    control_from: str = ""
    control_into: str = ""
    union: str = ""
    union_from: str = ""
    union_into: str = ""
    adapter: str = ""


class Pipeline(msgspec.Struct, frozen=True):
    """One pipeline class.

    Attributes:
        can: what a recipe may set. Where only `true_cfg_scale` makes a negative prompt count and guidance means
            something else (Flux), "negative" is not listed.
        core: the component that denoises.
        patch: sizes must be divisible by the autoencoder's scale times this.
        least: and by this. size: latents a side when the core's settings do not say, else 0.
        prompt_tokens: tokens of a prompt that are read, or 0 when the tokenizer says.
        modes: classes for everything these models can do.
        base: which additions fit, see `bases`; "" where the core's width tells.
    """

    can: tuple[Capability, ...]
    core: str = "transformer"
    patch: int = 2
    least: int = 8
    size: int = 0
    prompt_tokens: int = 0
    modes: Modes = Modes()
    base: str = ""


_CLASSIC: tuple[Capability, ...] = ("picture", "negative", "guidance", "guidance_rescale", "scheduler")
_GUIDED: tuple[Capability, ...] = ("picture", "negative", "guidance")
_PICTURES: tuple[Capability, ...] = ("from_picture", "into_picture")
_UNET: tuple[Capability, ...] = ("lora", "embedding", "reference", "clip_skip", "seamless")
_ADDED: tuple[Capability, ...] = ("lora", "control", "reference")

PIPELINES = {
    "StableDiffusionPipeline": Pipeline(
        (*_CLASSIC, *_PICTURES, *_UNET, "control"), "unet", patch=1,
        modes=Modes(
            from_words="StableDiffusionPipeline",
            from_picture="StableDiffusionImg2ImgPipeline",
            into_picture="StableDiffusionInpaintPipeline",
            control="StableDiffusionControlNetPipeline",
            control_from="StableDiffusionControlNetImg2ImgPipeline",
            control_into="StableDiffusionControlNetInpaintPipeline",
            adapter="StableDiffusionAdapterPipeline",
        ),
    ),
    # A Stable Diffusion whose U-Net reads a mask and a masked picture beside the latents: it can do nothing else.
    "StableDiffusionInpaintPipeline": Pipeline(
        ("into_picture", "negative", "guidance", "scheduler", *_UNET, "control"), "unet", patch=1,
        modes=Modes(
            into_picture="StableDiffusionInpaintPipeline",
            control_into="StableDiffusionControlNetInpaintPipeline",
        ),
    ),
    "StableDiffusionXLPipeline": Pipeline(
        (*_CLASSIC, *_PICTURES, *_UNET, "control"), "unet", patch=1, size=128,
        modes=Modes(
            from_words="StableDiffusionXLPipeline",
            from_picture="StableDiffusionXLImg2ImgPipeline",
            into_picture="StableDiffusionXLInpaintPipeline",
            control="StableDiffusionXLControlNetPipeline",
            control_from="StableDiffusionXLControlNetImg2ImgPipeline",
            control_into="StableDiffusionXLControlNetInpaintPipeline",
            union="StableDiffusionXLControlNetUnionPipeline",
            union_from="StableDiffusionXLControlNetUnionImg2ImgPipeline",
            union_into="StableDiffusionXLControlNetUnionInpaintPipeline",
            adapter="StableDiffusionXLAdapterPipeline",
        ),
    ),
    "StableDiffusionXLInpaintPipeline": Pipeline(
        ("into_picture", "negative", "guidance", "guidance_rescale", "scheduler", *_UNET, "control"), "unet",
        patch=1, size=128,
        modes=Modes(
            into_picture="StableDiffusionXLInpaintPipeline",
            control_into="StableDiffusionXLControlNetInpaintPipeline",
        ),
    ),
    "LatentConsistencyModelPipeline": Pipeline(
        ("picture", "guidance", "from_picture", *_UNET), "unet", patch=1,
        modes=Modes(
            from_words="LatentConsistencyModelPipeline", from_picture="LatentConsistencyModelImg2ImgPipeline"
        ),
    ),
    # Its ControlNetInpainting class takes the picture to repaint as the control picture, for one ControlNet only.
    "StableDiffusion3Pipeline": Pipeline(
        (*_GUIDED, *_PICTURES, *_ADDED, "clip_skip"), patch=2, prompt_tokens=256, base="sd3",
        modes=Modes(
            from_words="StableDiffusion3Pipeline",
            from_picture="StableDiffusion3Img2ImgPipeline",
            into_picture="StableDiffusion3InpaintPipeline",
            control="StableDiffusion3ControlNetPipeline",
        ),
    ),
    "PixArtAlphaPipeline": Pipeline(
        (*_GUIDED, "scheduler"), patch=2, prompt_tokens=120, base="pixart",
        modes=Modes(from_words="PixArtAlphaPipeline"),
    ),
    "PixArtSigmaPipeline": Pipeline(
        (*_GUIDED, "scheduler"), patch=2, prompt_tokens=300, base="pixart",
        modes=Modes(from_words="PixArtSigmaPipeline"),
    ),
    "HunyuanDiTPipeline": Pipeline(
        (*_GUIDED, "guidance_rescale", "control"), patch=2, base="hunyuandit",
        modes=Modes(from_words="HunyuanDiTPipeline", control="HunyuanDiTControlNetPipeline"),
    ),
    "FluxPipeline": Pipeline(
        ("picture", "guidance", *_PICTURES, *_ADDED), size=128, prompt_tokens=512, base="flux",
        modes=Modes(
            from_words="FluxPipeline",
            from_picture="FluxImg2ImgPipeline",
            into_picture="FluxInpaintPipeline",
            control="FluxControlNetPipeline",
            control_from="FluxControlNetImg2ImgPipeline",
            control_into="FluxControlNetInpaintPipeline",
        ),
    ),
    "FluxFillPipeline": Pipeline(
        ("into_picture", "guidance", "lora"), size=128, prompt_tokens=512, base="flux",
        modes=Modes(into_picture="FluxFillPipeline"),
    ),
    "Flux2Pipeline": Pipeline(
        ("picture", "guidance", "lora"), size=128, prompt_tokens=512, base="flux2",
        modes=Modes(from_words="Flux2Pipeline"),
    ),
    "Flux2KleinPipeline": Pipeline(
        ("picture", "guidance", "into_picture", "lora"), size=128, prompt_tokens=512, base="flux2",
        modes=Modes(from_words="Flux2KleinPipeline", into_picture="Flux2KleinInpaintPipeline"),
    ),
    "ChromaPipeline": Pipeline(
        (*_GUIDED, *_PICTURES, "lora", "reference"), size=128, prompt_tokens=512, base="chroma",
        modes=Modes(
            from_words="ChromaPipeline",
            from_picture="ChromaImg2ImgPipeline",
            into_picture="ChromaInpaintPipeline",
        ),
    ),
    "QwenImagePipeline": Pipeline(
        (*_GUIDED, *_PICTURES, "lora", "control"), size=128, prompt_tokens=512, base="qwen",
        modes=Modes(
            from_words="QwenImagePipeline",
            from_picture="QwenImageImg2ImgPipeline",
            into_picture="QwenImageInpaintPipeline",
            control="QwenImageControlNetPipeline",
        ),
    ),
    "ZImagePipeline": Pipeline(
        (*_GUIDED, *_PICTURES, "lora", "control"), size=128, prompt_tokens=512, base="zimage",
        modes=Modes(
            from_words="ZImagePipeline",
            from_picture="ZImageImg2ImgPipeline",
            into_picture="ZImageInpaintPipeline",
            control="ZImageControlNetPipeline",
        ),
    ),
    "SanaPipeline": Pipeline(
        (*_GUIDED, "lora", "control"), patch=1, least=32, prompt_tokens=300, base="sana",
        modes=Modes(from_words="SanaPipeline", control="SanaControlNetPipeline"),
    ),
    "AuraFlowPipeline": Pipeline(
        (*_GUIDED, "lora"), patch=2, prompt_tokens=256, base="auraflow", modes=Modes(from_words="AuraFlowPipeline")
    ),
    "CogView4Pipeline": Pipeline(
        (*_GUIDED, "lora"), patch=2, least=16, prompt_tokens=1024, base="cogview4",
        modes=Modes(from_words="CogView4Pipeline"),
    ),
    "Lumina2Pipeline": Pipeline(
        (*_GUIDED, "lora"), patch=2, prompt_tokens=256, base="lumina2", modes=Modes(from_words="Lumina2Pipeline")
    ),
}  # fmt: skip

# An ordinary model's class -> that of models of the same kind which can only repaint a part of a picture. The input
# channels of the core tell them apart; folders of either are found under the name of the other.
INPAINTING = {
    "StableDiffusionPipeline": "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline": "StableDiffusionXLInpaintPipeline",
    "FluxPipeline": "FluxFillPipeline",
}

# Folders of an ordinary model that were saved while it was loaded for another mode: class -> the model's own class.
SAVED_AS = {
    saved: name
    for name, pipeline in PIPELINES.items()
    if pipeline.modes.from_words
    for saved in (pipeline.modes.from_picture, pipeline.modes.into_picture)
    if saved and saved not in PIPELINES
}
