"""A small text-to-picture model with nothing learnt yet, around an autoencoder that is there.

Stable Diffusion's build, so that everything that works with that works with it: a byte-level BPE in CLIP's format, a
CLIP text encoder, a U-Net that reads it, velocity prediction on a schedule that ends in pure noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studio.core.cards import ModelCard
from studio.core.problems import BadRecipe, ModelBroken, ModelMissing, ModelUnfit
from studio.core.text import shown
from studio.engines.image import loading, trouble
from studio.engines.train.task import Task

DEFAULTS = {"steps": 25, "guidance": 4.0, "guidance_rescale": 0.7}  # that suit what comes out
LONGEST = 77  # tokens of a caption, as CLIP's own
SHORTEST = 16
_START, _END = "<|startoftext|>", "<|endoftext|>"
_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


def pipeline(task: Task) -> Any:
    """The pipeline, in float32 on its device; its autoencoder does not learn.

    Raises:
        ModelMissing: there is no autoencoder. BadRecipe: widths that do not go together.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    recipe = task.recipe
    if recipe.channels % 8:
        raise BadRecipe("The channels of a new model must be a multiple of 8.", field="channels")
    if recipe.text_width % 32:
        raise BadRecipe("The text width of a new model must be a multiple of 32.", field="text_width")
    vae = autoencoder(task)
    if vae is None:
        raise ModelMissing(
            "A picture model from scratch needs an autoencoder.",
            "Train one first with the method autoencoder, or name a base model whose autoencoder is used.", field="vae",
        )  # fmt: skip
    vae = vae.float().eval().requires_grad_(False)
    captions = [c for row in task.parts()["train"] for c in row.captions if c.strip()]
    words = tokenizer(captions, recipe.vocabulary, task.folder / "tokenizer")
    side = 2 ** (len(vae.config.block_out_channels) - 1)
    size = recipe.size or 128
    heads = recipe.text_width // (64 if recipe.text_width % 64 == 0 else 32)
    task.begin_numbers()
    reader = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words), hidden_size=recipe.text_width, intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers, num_attention_heads=heads,
            max_position_embeddings=words.model_max_length, projection_dim=recipe.text_width,
            bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id,
        )
    )  # fmt: skip
    latents, wide = vae.config.latent_channels, recipe.channels
    network = UNet2DConditionModel(
        sample_size=size // side, in_channels=latents, out_channels=latents,
        block_out_channels=(wide, 2 * wide, 3 * wide),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1,
        cross_attention_dim=recipe.text_width, attention_head_dim=4, norm_num_groups=math.gcd(wide, 16),
    )  # fmt: skip
    # Lin et al. 2023: a schedule that ends in pure noise needs velocity, and steps spaced from the end
    scheduler = DDIMScheduler(
        1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False, steps_offset=1,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=reader, tokenizer=words, unet=network, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(task.device)


def autoencoder(task: Task) -> Any:
    """The autoencoder that is named by itself, or that of the base model; None where neither is.

    Raises:
        ModelUnfit: it is of another kind. ModelBroken, and what opening a model raises.
    """
    from diffusers import AutoencoderKL

    card: ModelCard | None = task.vae
    if card is not None:
        task.ctx.loading(card.name)
        if not Path(card.path).is_dir():
            raise ModelUnfit(
                f"“{shown(card.name)}” is a single file; for training, the folder of an autoencoder is opened.",
                "Choose one that was trained here, or that came as a folder.", field="vae",
            )  # fmt: skip
        try:
            return AutoencoderKL.from_pretrained(card.path, local_files_only=True, use_safetensors=True)
        except _FAILURES as error:
            if trouble.is_out_of_memory(error):
                raise
            raise ModelBroken(
                f"The autoencoder “{shown(card.name)}” cannot be opened: {trouble.first_line(error)}.",
                detail=repr(error)[:4000], field="vae",
            ) from error  # fmt: skip
    if task.base is None:
        return None
    pipe = loading.open_model(task.base, "cpu", "float32")
    vae = getattr(pipe, "vae", None)
    if not isinstance(vae, AutoencoderKL):
        raise ModelUnfit(f"“{shown(task.base.name)}” has no autoencoder of the usual kind.", field="model")
    return vae


def tokenizer(texts: Sequence[str], vocabulary: int, folder: Path) -> Any:
    """A byte-level BPE in CLIP's format, trained on captions; found again in `folder` by a run that goes on.

    Its length is what 99 of 100 captions fit in.
    """
    from transformers import CLIPTokenizer

    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not vocab.is_file() or not merges.is_file():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _train_words(texts, vocabulary, folder)
    said = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    made = CLIPTokenizer(str(vocab), str(merges), model_max_length=LONGEST, **said)
    lengths = sorted(len(ids) for ids in _counted(made, texts))
    usual = lengths[min(len(lengths) - 1, len(lengths) * 99 // 100)] if lengths else SHORTEST
    longest = max(SHORTEST, min(LONGEST, -(-usual // 8) * 8))
    return CLIPTokenizer(str(vocab), str(merges), model_max_length=longest, **said)


def _counted(made: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    for first in range(0, len(texts), 1000):
        yield from made(list(texts[first : first + 1000])).input_ids


def _train_words(texts: Sequence[str], vocabulary: int, folder: Path) -> None:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE(unk_token=_END, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    inner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")  # CLIP's own
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ends = [f"{letter}</w>" for letter in alphabet]
    trainer = trainers.BpeTrainer(
        vocab_size=max(len(alphabet) + 1, vocabulary - len(ends) - 2), initial_alphabet=alphabet,
        end_of_word_suffix="</w>", special_tokens=[], show_progress=False,
    )  # fmt: skip
    inner.train_from_iterator(iter(texts), trainer)
    inner.model.save(str(folder))
    path = folder / "vocab.json"
    found: dict[str, int] = json.loads(path.read_text("utf-8"))
    for token in (*ends, _START, _END):  # so that every byte can be said, at the end of a word too
        found.setdefault(token, len(found))
    path.write_text(json.dumps(found, ensure_ascii=False), "utf-8")
