"""What the denoisers of the picture families learn: what they are shown, asked for, and how far off they were.

One class per family that can be trained here. Each follows the training script of diffusers 0.42 for its family
(`examples/text_to_image/train_text_to_image_lora.py`, `…_sdxl.py`, `examples/dreambooth/train_dreambooth_lora_sd3.py`,
`…_flux.py`, `…_z_image.py`); where it does otherwise a comment says so. Knows pipelines; knows nothing of data sets,
recipes and files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from studio.core.problems import ModelUnfit

Words = dict[str, Tensor]  # what a text was read as: one text without, several with a batch dimension

_FLOOR = 0.05  # of a min-SNR weight: at zero terminal SNR the last step, where pictures begin, would not be learnt


@dataclass(frozen=True)
class Noisy:
    """Latents with noise in them.

    Attributes:
        latents: (B, C, H, W). steps: the time that the denoiser is told, (B,).
        target: what it should answer, (B, C, H, W). weights: how much each counts, (B,).
    """

    latents: Tensor
    steps: Tensor
    target: Tensor
    weights: Tensor


class Family:
    """One loaded pipeline, as something that learns.

    Attributes:
        part: name of the denoiser among the pipeline's parts.
        layers: ends of the names of layers that an adapter is laid over; all of that script's choice.
        readers: text encoders that may learn as well, and their adapted layers.
        guided: pictures are made with guidance by an empty prompt, so that leaving captions out teaches something.
        spaced: noise levels are steps of a variance-preserving schedule, where min-SNR means something.
    """

    part: ClassVar[str] = "unet"
    layers: ClassVar[tuple[str, ...]] = ("to_k", "to_q", "to_v", "to_out.0")
    readers: ClassVar[tuple[str, ...]] = ("text_encoder",)
    reader_layers: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "out_proj")
    spaced: ClassVar[bool] = True
    guided: bool = True

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.network = getattr(pipe, self.part)
        # once: asking a network walks through all of its layers, and an adapter's numbers are float32
        self.dtype, self.device = self.network.dtype, torch.device(self.network.device)

    @property
    def side(self) -> int:
        """How many pixels one latent is wide."""
        return int(self.pipe.vae_scale_factor)

    @property
    def multiple(self) -> int:
        """What the sides of a picture must be multiples of, px."""
        return self.side * 2

    # -- pictures

    def encode(self, pixels: Tensor) -> Tensor:
        """Latents of pictures, as the denoiser sees them. pixels: (B, 3, H, W) from -1 to 1.

        The middle of what the autoencoder says, not a draw from it: the two differ by less than what can be seen,
        and the middle can be kept. Always in float32: some autoencoders overflow in float16.
        """
        vae = self.pipe.vae
        with whole(vae), torch.no_grad():
            latents = vae.encode(pixels.to(vae.device, torch.float32)).latent_dist.mode()
        return self.scaled(latents)

    def scaled(self, latents: Tensor) -> Tensor:
        config = self.pipe.vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            shape = (1, -1, 1, 1)
            return (
                (latents - latents.new_tensor(mean).view(shape))
                * config.scaling_factor
                / latents.new_tensor(std).view(shape)
            )
        return (latents - (getattr(config, "shift_factor", None) or 0.0)) * float(config.scaling_factor)

    def where(self, size: tuple[int, int], corner: tuple[int, int], shown: tuple[int, int]) -> Tensor | None:
        """What the denoiser is told of how a picture was cut: its size, the corner and what is shown, (H, W) each."""
        return None

    # -- words

    def read(self, texts: Sequence[str]) -> list[Words]:
        """What texts are read as, each by itself. With gradients where text encoders learn."""
        raise NotImplementedError

    def nothing(self) -> Words:
        """What guidance puts in the place of a prompt that was left out."""
        return self.blank(self.read([""])[0])

    def blank(self, empty: Words) -> Words:
        """The same, from what an empty text is read as."""
        return empty

    @staticmethod
    def together(words: Sequence[Words]) -> Words:
        return {name: torch.stack([each[name] for each in words]) for name in words[0]}

    # -- learning

    def noisy(self, latents: Tensor, noise: Tensor, levels: Tensor, snr: float) -> Noisy:
        """Latents with noise at levels that are drawn evenly from 0…1, and what is to be found in them.

        Args:
            levels: (B,), from 0 to below 1. snr: of min-SNR weighting; 0 is off.
        """
        raise NotImplementedError

    def predict(self, noisy: Noisy, words: Words, where: Tensor | None) -> Tensor:
        """The denoiser's answer, (B, C, H, W)."""
        raise NotImplementedError

    def losses(self, noisy: Noisy, words: Words, where: Tensor | None) -> Tensor:
        """How far off each answer is, weighted, (B,), float32."""
        found = self.predict(noisy, words, where).float()
        return noisy.weights * ((found - noisy.target) ** 2).flatten(1).mean(1)


class Stable(Family):
    """Stable Diffusion 1 and 2, and small ones of the same build. Predicts noise or velocity, as its scheduler says."""

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        from diffusers import DDPMScheduler

        config = pipe.scheduler.config
        self.target = config.get("prediction_type", "epsilon")
        if self.target not in ("epsilon", "v_prediction") or "EDM" in type(pipe.scheduler).__name__:
            raise ModelUnfit(
                f"This model predicts “{self.target}” by a schedule that cannot be trained here.",
                "Models that predict noise or velocity can.", field="model",
            )  # fmt: skip
        # as the scripts do: whatever scheduler a folder names for making pictures, its betas are those of DDPM
        self.cumulative = DDPMScheduler.from_config(config).alphas_cumprod

    def read(self, texts: Sequence[str]) -> list[Words]:
        made = self.pipe.encode_prompt(list(texts), self.device, 1, False)[0]
        return [{"embeds": each} for each in made]

    def noisy(self, latents: Tensor, noise: Tensor, levels: Tensor, snr: float) -> Noisy:
        """Source: Ho et al. 2020, eq. 4; velocity from Salimans & Ho 2022, section 4; weights from Hang et al. 2023."""
        cumulative = self.cumulative.to(latents.device)
        steps = (levels.double() * len(cumulative)).long().clamp(max=len(cumulative) - 1).to(latents.device)
        a = cumulative[steps].sqrt().view(-1, 1, 1, 1)
        s = (1 - cumulative[steps]).sqrt().view(-1, 1, 1, 1)
        ratio = cumulative[steps] / (1 - cumulative[steps]).clamp(min=1e-8)
        velocity = self.target == "v_prediction"
        weights = torch.ones_like(ratio)
        if snr:
            least = ratio.clamp(max=snr)
            weights = (least / (ratio + 1)).clamp(min=_FLOOR) if velocity else least / ratio.clamp(min=1e-8)
        return Noisy(a * latents + s * noise, steps, a * noise - s * latents if velocity else noise, weights)

    def predict(self, noisy: Noisy, words: Words, where: Tensor | None) -> Tensor:
        found = self.network(
            noisy.latents.to(self.dtype), noisy.steps, encoder_hidden_states=words["embeds"],
            added_cond_kwargs=self._besides(words, where), return_dict=False,
        )  # fmt: skip
        answer: Tensor = found[0]
        return answer

    def _besides(self, words: Words, where: Tensor | None) -> dict[str, Tensor] | None:
        return None


class StableXL(Stable):
    """SDXL, which is told the size of a picture and how it was cut as well."""

    readers = ("text_encoder", "text_encoder_2")

    def read(self, texts: Sequence[str]) -> list[Words]:
        made, _, pooled, _ = self.pipe.encode_prompt(
            list(texts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return [{"embeds": each, "pooled": one} for each, one in zip(made, pooled, strict=True)]

    def blank(self, empty: Words) -> Words:
        # the script reads an empty text; in models that say so guidance puts zeros there, and that is what is met later
        if self.pipe.config.get("force_zeros_for_empty_prompt", False):
            return {name: torch.zeros_like(each) for name, each in empty.items()}
        return empty

    def where(self, size: tuple[int, int], corner: tuple[int, int], shown: tuple[int, int]) -> Tensor | None:
        return torch.tensor([*size, *corner, *shown], dtype=torch.float32)

    def _besides(self, words: Words, where: Tensor | None) -> dict[str, Tensor] | None:
        assert where is not None
        return {"text_embeds": words["pooled"], "time_ids": where.to(self.device)}


class _Flowing(Family):
    """Models that follow a straight line from noise to a picture (rectified flow).

    Source: Liu et al. 2022; Esser et al. 2024, section 3. The answer is the velocity, noise - picture. The scripts for
    SD3 may turn the answer into a picture first, which weighs the same error by the square of the noise level; here it
    counts as it is, which is what that paper found best (rf/lognorm).
    """

    part = "transformer"
    readers = ()
    spaced = False

    def __init__(self, pipe: Any) -> None:
        super().__init__(pipe)
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)  # one that has made no picture yet
        self.sigmas, self.times = scheduler.sigmas.clone(), scheduler.timesteps.clone()

    def density(self, levels: Tensor) -> Tensor:
        """Which part of the way is drawn, from even draws."""
        return levels

    def noisy(self, latents: Tensor, noise: Tensor, levels: Tensor, snr: float) -> Noisy:
        drawn = self.density(levels.double())
        at = (drawn * len(self.times)).long().clamp(0, len(self.times) - 1)
        times = self.times[at].to(latents.device)
        sigma = self.sigmas[at].to(latents.device).view(-1, 1, 1, 1)
        mixed = (1.0 - sigma) * latents + sigma * noise
        return Noisy(mixed, times, noise - latents, torch.ones(len(latents), device=latents.device))


class Stable3(_Flowing):
    """Stable Diffusion 3. Noise levels are drawn more often from the middle (logit-normal, as its script does)."""

    layers = (
        "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj", "attn.to_add_out", "attn.to_k", "attn.to_out.0",
        "attn.to_q", "attn.to_v",
    )  # fmt: skip

    def density(self, levels: Tensor) -> Tensor:
        return torch.sigmoid(torch.special.ndtri(levels))

    def read(self, texts: Sequence[str]) -> list[Words]:
        made, _, pooled, _ = self.pipe.encode_prompt(
            list(texts), None, None, device=self.device, do_classifier_free_guidance=False
        )
        return [{"embeds": each, "pooled": one} for each, one in zip(made, pooled, strict=True)]

    def predict(self, noisy: Noisy, words: Words, where: Tensor | None) -> Tensor:
        found = self.network(
            hidden_states=noisy.latents.to(self.dtype), timestep=noisy.steps, encoder_hidden_states=words["embeds"],
            pooled_projections=words["pooled"], return_dict=False,
        )  # fmt: skip
        answer: Tensor = found[0]
        return answer


class Flux(_Flowing):
    """Flux.1. Its guidance is a number that the network reads, so there is nothing to be learnt without words."""

    layers = (
        "attn.to_k", "attn.to_q", "attn.to_v", "attn.to_out.0", "attn.add_k_proj", "attn.add_q_proj", "attn.add_v_proj",
        "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    )  # fmt: skip
    guided = False

    def read(self, texts: Sequence[str]) -> list[Words]:
        longest = 512 if self.network.config.guidance_embeds else 256  # schnell was made with half
        made, pooled, _ = self.pipe.encode_prompt(list(texts), None, device=self.device, max_sequence_length=longest)
        return [{"embeds": each, "pooled": one} for each, one in zip(made, pooled, strict=True)]

    def predict(self, noisy: Noisy, words: Words, where: Tensor | None) -> Tensor:
        count, channels, high, wide = noisy.latents.shape
        packed = self.pipe._pack_latents(noisy.latents.to(self.dtype), count, channels, high, wide)
        guidance = torch.ones(count, device=self.device) if self.network.config.guidance_embeds else None
        embeds = words["embeds"]
        found = self.network(
            hidden_states=packed, timestep=noisy.steps.to(self.dtype) / 1000, guidance=guidance,
            pooled_projections=words["pooled"], encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, device=self.device, dtype=self.dtype),
            img_ids=self.pipe._prepare_latent_image_ids(count, high // 2, wide // 2, self.device, self.dtype),
            return_dict=False,
        )[0]  # fmt: skip
        answer: Tensor = self.pipe._unpack_latents(found, high * self.side, wide * self.side, self.side)
        return answer


class ZImage(_Flowing):
    """Z-Image. It is told how far the way is gone, and answers with the velocity turned around."""

    def read(self, texts: Sequence[str]) -> list[Words]:
        made, _ = self.pipe.encode_prompt(list(texts), device=self.device, do_classifier_free_guidance=False)
        return [{"embeds": each} for each in made]

    @staticmethod
    def together(words: Sequence[Words]) -> Words:
        # of different lengths: kept one after another, and taken apart by their lengths
        lengths = torch.tensor([len(each["embeds"]) for each in words])
        return {"embeds": torch.cat([each["embeds"] for each in words]), "lengths": lengths}

    def predict(self, noisy: Noisy, words: Words, where: Tensor | None) -> Tensor:
        latents = list(noisy.latents.to(self.dtype).unsqueeze(2).unbind(0))
        texts = list(words["embeds"].split(words["lengths"].tolist()))
        found = self.network(latents, (1000 - noisy.steps) / 1000, texts, return_dict=False)[0]
        return -torch.stack([each.float() for each in found]).squeeze(2)


# the class of a pipeline -> how it learns; by its exact name: relatives that repaint or control are other networks
FAMILIES: dict[str, type[Family]] = {
    "StableDiffusionPipeline": Stable,
    "StableDiffusionXLPipeline": StableXL,
    "StableDiffusion3Pipeline": Stable3,
    "FluxPipeline": Flux,
    "ZImagePipeline": ZImage,
}


def family_of(pipe: Any) -> Family:
    """Raises ModelUnfit: this kind of model is not trained here."""
    name = type(pipe).__name__
    if name not in FAMILIES:
        known = "Stable Diffusion 1, 2, XL and 3, Flux and Z-Image"
        raise ModelUnfit(f"A {name} cannot be trained here; {known} can.", "Choose another model.", field="model")
    return FAMILIES[name](pipe)


@contextlib.contextmanager
def whole(model: Any) -> Iterator[None]:
    """A model in float32 for a while."""
    dtype = model.dtype
    if dtype == torch.float32:
        yield
        return
    model.to(torch.float32)
    try:
        yield
    finally:
        model.to(dtype)
