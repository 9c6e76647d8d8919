"""Tiny random pipelines of the common families, and what an engine needs around it. For tests of any floor.

The weights are random and seeded; a folder is a few hundred kB. `save_tiny(family, folder)` writes one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from studio.core.cards import Limits, ModelCard
from studio.core.events import Event
from studio.core.paths import assets_folder
from studio.engines.context import RunContext

STARTER = assets_folder() / "models" / "starter-image"
WORDS = ["a", "red", "blue", "green", "apple", "house", "cat", "dog", "tree", "of", "in", "the"]


def card(path: Path, name: str = "tiny", **limits: int) -> ModelCard:
    """A card made by hand, with nothing known that is not given."""
    return ModelCard(
        id=name, name=name, kind="image", engine="image.diffusers", path=str(path), format="diffusers",
        limits=Limits(**limits),
    )  # fmt: skip


def addition(kind: str, path: Path, family: str = "") -> ModelCard:
    """The card of a LoRA, a control model and so on, called like its file."""
    return ModelCard(
        id=path.stem, name=path.stem, kind=kind, engine="image.diffusers", path=str(path), format="safetensors",
        family=family,
    )  # fmt: skip


def starter_card() -> ModelCard:
    return card(STARTER, "Starter 128", width=128, height=128, size_multiple=8, prompt_tokens=32)


class Around:
    """A RunContext with its events at hand. `stop_when(event)` sets cancel as soon as it answers True."""

    def __init__(
        self,
        folder: Path,
        stop_when: Callable[[Event], bool] | None = None,
        cards: Sequence[ModelCard] = (),
    ) -> None:
        self.events: list[Event] = []
        self.cancelled = threading.Event()
        self._stop_when = stop_when
        self.out = folder / "out"
        self.out.mkdir(parents=True, exist_ok=True)
        self.inputs = folder / "inputs"
        self.ctx = RunContext(
            "job", self.out, folder / "cache", self._take, self.cancelled, inputs=self.inputs,
            cards={card.id: card for card in cards},
        )  # fmt: skip

    def keep(self, picture: Image.Image, name: str = "picture") -> str:
        """Lay a picture where the kept ones are. Returns its name."""
        self.inputs.mkdir(exist_ok=True)
        picture.save(self.inputs / f"{name}.png")
        return f"{name}.png"

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if self._stop_when is not None and self._stop_when(event):
            self.cancelled.set()

    def of(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


def save_tiny(family: str, folder: Path, *, decoder: int = 0) -> Path:
    """Write a tiny random pipeline: family is "sd", "sdxl", "sd3", "flux" or "zimage".

    Args:
        decoder: channels of its autoencoder's layers, for one that takes much memory; 0 for a tiny one.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(7)
        pipe = {"sd": _sd, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux, "zimage": _zimage}[family](folder / "words")
        if decoder:
            pipe.register_modules(vae=_vae(4, width=decoder, scaling_factor=0.18215))
    pipe.save_pretrained(folder / family, safe_serialization=True)
    return folder / family


def _clip_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(97, 123)]
    entries = [
        *letters,
        *(f"{c}</w>" for c in letters),
        *(f"{w}</w>" for w in WORDS),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(entries))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=20,
        bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token="<|endoftext|>",
    )  # fmt: skip


def _clip(tokenizer: Any, projected: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=20, projection_dim=16, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _t5(tokenizer: Any, width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def _t5_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _vae(channels: int, width: int = 0, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(width,) * 4 if width else (8, 8, 8, 16), norm_num_groups=4, layers_per_block=1,
        latent_channels=channels, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, **more,
    ).eval()  # fmt: skip


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        **blocks | more,
    ).eval()  # fmt: skip


def _sd(words: Path) -> Any:
    from diffusers import PNDMScheduler, StableDiffusionPipeline

    tokenizer = _clip_tokenizer(words)
    return StableDiffusionPipeline(
        tokenizer=tokenizer, text_encoder=_clip(tokenizer), vae=_vae(4, scaling_factor=0.18215),
        unet=_unet(
            cross_attention_dim=16, attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ),
        scheduler=PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sdxl(words: Path) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    tokenizer = _clip_tokenizer(words)
    return StableDiffusionXLPipeline(
        tokenizer=tokenizer, tokenizer_2=tokenizer, text_encoder=_clip(tokenizer),
        text_encoder_2=_clip(tokenizer, projected=True), vae=_vae(4, scaling_factor=0.13025, force_upcast=True),
        unet=_unet(
            cross_attention_dim=32, attention_head_dim=(2, 4), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
            timestep_spacing="leading",
        ),
    )  # fmt: skip


def _sd3(words: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    tokenizer, third = _clip_tokenizer(words), _t5_tokenizer()
    return StableDiffusion3Pipeline(
        tokenizer=tokenizer, tokenizer_2=tokenizer, tokenizer_3=third, text_encoder=_clip(tokenizer, projected=True),
        text_encoder_2=_clip(tokenizer, projected=True), text_encoder_3=_t5(third, 32),
        vae=_vae(16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        transformer=SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=16,
            pos_embed_max_size=32,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def _flux(words: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    tokenizer, second = _clip_tokenizer(words), _t5_tokenizer()
    return FluxPipeline(
        tokenizer=tokenizer, tokenizer_2=second, text_encoder=_clip(tokenizer), text_encoder_2=_t5(second),
        vae=_vae(4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        transformer=FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16,
            pooled_projection_dim=16, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )  # fmt: skip


def _zimage(words: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
    from transformers import Qwen3Config, Qwen3Model

    tokenizer = _t5_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=64,
            )
        ).eval(),
        tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(
            in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
            axes_dims=[4, 6, 6], axes_lens=[64, 64, 64],
        ).eval(),
    )  # fmt: skip


def save_lora(pipe_folder: Path, folder: Path, seed: int = 1, rank: int = 4) -> Path:
    """A random LoRA for the denoiser of a tiny pipeline, as diffusers itself saves one."""
    import torch
    from diffusers import DiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    pipe = DiffusionPipeline.from_pretrained(str(pipe_folder), local_files_only=True)
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    network = getattr(pipe, part)
    targets = ["to_k", "to_q", "to_v"]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights=False, target_modules=targets))
    layers = {f"{part}_lora_layers": get_peft_model_state_dict(network)}
    name = f"{pipe_folder.name}-{seed}.safetensors"
    type(pipe).save_lora_weights(str(folder), **layers, weight_name=name, safe_serialization=True)
    return folder / name


def save_control(pipe_folder: Path, folder: Path, *, adapter: bool = False) -> Path:
    """A random ControlNet, or T2I adapter, for a tiny Stable Diffusion."""
    import torch
    from diffusers import ControlNetModel, DiffusionPipeline, T2IAdapter

    with torch.random.fork_rng():
        torch.manual_seed(3)
        if adapter:
            network: Any = T2IAdapter(
                in_channels=3, channels=[8, 16], num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter"
            )
        else:
            pipe = DiffusionPipeline.from_pretrained(str(pipe_folder), local_files_only=True)
            network = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 16, 16, 16))
            for name, values in network.named_parameters():
                if "controlnet_" in name:  # zero at the start of a training: they would do nothing
                    torch.nn.init.normal_(values, std=0.2)
    network.save_pretrained(str(folder), safe_serialization=True)
    return folder


def save_reference(pipe_folder: Path, folder: Path, seed: int = 1) -> Path:
    """A random IP-Adapter for a tiny Stable Diffusion, with its picture encoder beside it. Returns the file."""
    import torch
    from diffusers import DiffusionPipeline
    from safetensors.torch import save_file
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32,
                patch_size=8, projection_dim=12,
            )
        ).eval()  # fmt: skip
        encoder.save_pretrained(str(folder / "image_encoder"), safe_serialization=True)
        unet = DiffusionPipeline.from_pretrained(str(pipe_folder), local_files_only=True).unet
        width, tensors = unet.config.cross_attention_dim, {}
        tensors["image_proj.proj.weight"] = torch.randn(4 * width, 12)
        tensors["image_proj.proj.bias"] = torch.randn(4 * width)
        tensors["image_proj.norm.weight"] = torch.ones(width)
        tensors["image_proj.norm.bias"] = torch.zeros(width)
        number = 1
        for name, attention in unet.named_modules():
            if name.endswith("attn2"):
                for key in ("to_k_ip", "to_v_ip"):
                    tensors[f"ip_adapter.{number}.{key}.weight"] = torch.randn(attention.to_k.weight.shape)
                number += 2
    save_file(tensors, str(folder / "ip.safetensors"))
    return folder / "ip.safetensors"
