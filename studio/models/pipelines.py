"""What each text-to-picture pipeline of diffusers takes.

A table by hand, because looking at a model must not import diffusers.
Read from the `__call__` methods of diffusers 0.42; a test compares the two.
"""

from __future__ import annotations

import msgspec

from studio.core.cards import Capability


class Pipeline(msgspec.Struct, frozen=True):
    """One pipeline class.

    Attributes:
        can: what a recipe may set. Where only `true_cfg_scale` makes a negative prompt count and guidance means
            something else (Flux), "negative" is not listed.
        core: the component that denoises.
        patch: sizes must be divisible by the autoencoder's scale times this.
        least: and by this. size: latents a side when the core's settings do not say, else 0.
        prompt_tokens: tokens of a prompt that are read, or 0 when the tokenizer says.
    """

    can: tuple[Capability, ...]
    core: str = "transformer"
    patch: int = 2
    least: int = 8
    size: int = 0
    prompt_tokens: int = 0


_CLASSIC: tuple[Capability, ...] = ("picture", "negative", "guidance", "guidance_rescale", "scheduler")
_GUIDED: tuple[Capability, ...] = ("picture", "negative", "guidance")

PIPELINES = {
    "StableDiffusionPipeline": Pipeline(_CLASSIC, "unet", patch=1),
    "StableDiffusionXLPipeline": Pipeline(_CLASSIC, "unet", patch=1, size=128),
    "LatentConsistencyModelPipeline": Pipeline(("picture", "guidance"), "unet", patch=1),
    "StableDiffusion3Pipeline": Pipeline(_GUIDED, patch=2, prompt_tokens=256),
    "PixArtAlphaPipeline": Pipeline((*_GUIDED, "scheduler"), patch=2, prompt_tokens=120),
    "PixArtSigmaPipeline": Pipeline((*_GUIDED, "scheduler"), patch=2, prompt_tokens=300),
    "HunyuanDiTPipeline": Pipeline((*_GUIDED, "guidance_rescale"), patch=2),
    "FluxPipeline": Pipeline(("picture", "guidance"), size=128, prompt_tokens=512),
    "Flux2Pipeline": Pipeline(("picture", "guidance"), size=128, prompt_tokens=512),
    "Flux2KleinPipeline": Pipeline(("picture", "guidance"), size=128, prompt_tokens=512),
    "ChromaPipeline": Pipeline(_GUIDED, size=128, prompt_tokens=512),
    "QwenImagePipeline": Pipeline(_GUIDED, size=128, prompt_tokens=512),
    "ZImagePipeline": Pipeline(_GUIDED, size=128, prompt_tokens=512),
    "SanaPipeline": Pipeline(_GUIDED, patch=1, least=32, prompt_tokens=300),
    "AuraFlowPipeline": Pipeline(_GUIDED, patch=2, prompt_tokens=256),
    "CogView4Pipeline": Pipeline(_GUIDED, patch=2, least=16, prompt_tokens=1024),
    "Lumina2Pipeline": Pipeline(_GUIDED, patch=2, prompt_tokens=256),
}
