"""Repainting a part of a picture with models whose library has no class for it: the rest is laid back after each step.

Knows latents and schedulers of noise; knows nothing of recipes. Source: Lugmayr et al. 2022 (RePaint), without its
resampling; as diffusers' own inpainting does for networks that read no mask.
"""

from __future__ import annotations

from typing import Any

import torch

from studio.engines.image.starting import Start

_CLASSES = ("StableDiffusionInpaintPipeline", "StableDiffusionXLInpaintPipeline")


def is_needed(pipe: Any, into_picture: str) -> bool:
    """Whether the class that repaints parts cannot be used with this model's network.

    diffusers' own classes for Stable Diffusion take networks with 4 input channels, or 9 with the mask among them.
    """
    unet = getattr(pipe, "unet", None)
    return not into_picture or (
        into_picture in _CLASSES and unet is not None and int(unet.config.in_channels) not in (4, 9)
    )


class Blend:
    """Lays what is to be kept of a picture back into the latents after each step of an image-to-image run.

    Args:
        begin: the picture and its mask, prepared.
        seed: of the noise that is laid over what is kept; the run itself has its own.
    """

    def __init__(self, begin: Start, seed: int) -> None:
        self._begin, self._seed = begin, seed
        self._kept: Any = None  # latents of the picture, (1, C, H, W)
        self._noise: Any = None
        self._mask: Any = None  # 1 where it is repainted, (1, 1, H, W)

    def __call__(self, pipe: Any, step: int, latents: Any) -> Any:
        """The latents after step `step` (from 0), (B, C, H, W), with the kept part as it would be there."""
        if self._kept is None:
            self._prepare(pipe, latents)
        left = int(pipe._num_timesteps) - (step + 1)
        kept = self._kept
        if left > 0:
            at = pipe.scheduler.timesteps[-left].reshape(1)
            kept = pipe.scheduler.add_noise(kept, self._noise, at.to(kept.device))
        return (self._mask * latents + (1 - self._mask) * kept).to(latents.dtype)

    def _prepare(self, pipe: Any, latents: Any) -> None:
        assert self._begin.mask is not None
        like = {"device": latents.device, "dtype": latents.dtype}
        pixels = pipe.image_processor.preprocess(self._begin.image).to(device=latents.device, dtype=pipe.vae.dtype)
        with torch.no_grad():
            self._kept = (pipe.vae.encode(pixels).latent_dist.mode() * pipe.vae.config.scaling_factor).to(**like)
        source = torch.Generator("cpu").manual_seed(self._seed)
        self._noise = torch.randn(self._kept.shape, generator=source).to(**like)
        mask = torch.frombuffer(bytearray(self._begin.mask.tobytes()), dtype=torch.uint8)
        mask = mask.reshape(1, 1, *reversed(self._begin.mask.size)).to(**like) / 255
        # a latent is repainted where any of its pixels is
        self._mask = torch.nn.functional.adaptive_max_pool2d(mask, self._kept.shape[-2:])
