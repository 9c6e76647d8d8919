"""Language models that learn: opened from a folder or a GGUF file, made new, given an adapter, and tried after saving.

Knows transformers' and peft's classes; knows no data and no steps. Only safetensors are read, and nothing that comes
with a folder is run.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from studio.core.cards import Broken, ModelCard
from studio.core.files import sync_folder, write_durably
from studio.core.learning import TrainTextRecipe
from studio.core.problems import (
    BadRecipe,
    BadResult,
    EngineMissing,
    ModelBroken,
    ModelMissing,
    ModelUnfit,
    NotSaved,
    StudioError,
)
from studio.core.text import file_stem, shown
from studio.engines.context import RunContext
from studio.engines.evaluate import folder as folders
from studio.models import starter
from studio.models.gguf_header import read_gguf

CONVERTED = "converted"  # below the models folder: what was made of GGUF files
PROBE = 64  # tokens that a saved model is tried with
NEAR = 1e-3  # by how much its logits may differ, relative to the largest; of a smaller number format HALF
HALF = 0.05
ALIKE = 0.3  # nats a token may be more or less likely in llama.cpp, on average: it rounds what it multiplies
SENTENCES = (
    "The old harbour lay quiet in the morning. Three boats came in with the tide, and the gulls followed them home."
)

# What transformers raises for a folder it cannot open.
_UNOPENED = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError)


def libraries() -> Any:
    """transformers, quiet and without a network."""
    folders.offline()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


# -- the base


def base_folder(card: ModelCard, ctx: RunContext) -> Path:
    """The transformers folder of a base model; a GGUF file is turned into one once.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit. NotSaved: no room for what it is turned into.
    """
    path = Path(card.path)
    if path.is_dir():
        folders.look_at(path)
        return path
    if card.format != "gguf" and path.suffix.lower() != ".gguf":
        raise ModelUnfit(
            f"“{shown(card.name)}” is no language model that can learn.", "Choose a GGUF file or a folder."
        )
    if card.parts and not starter.assembled(card):
        starter.assemble(card, lambda fraction: ctx.check())
    if not path.is_file():
        raise ModelMissing(f"The model “{shown(card.name)}” is gone.", "Was it moved or deleted?")
    status = path.stat()
    mark = card.sha256[:12] if card.sha256 else f"{status.st_size:x}{status.st_mtime_ns:x}"[-12:]
    target = ctx.paths.models / CONVERTED / f"{file_stem(card.name, 40)}-{mark}"
    if (target / "model.safetensors").is_file():
        return target
    header = read_gguf(path)
    if isinstance(header, Broken):
        raise ModelBroken(f"“{shown(card.name)}” cannot be read: {header.why}.", header.hint)
    if header.split[1] > 1:
        raise ModelUnfit(f"“{shown(card.name)}” is in several files.", "Give a folder of safetensors.")
    ctx.note(f"“{shown(card.name)}” is made ready for learning. This takes a minute or two, and only once.")
    _convert(path, card, target, ctx)
    return target


def _convert(path: Path, card: ModelCard, target: Path, ctx: RunContext) -> None:
    """Turn a GGUF file into a folder of float32 safetensors with its tokenizer. Complete, or not there."""
    transformers = libraries()
    temporary = target.with_name(f".{target.name}.tmp")
    ctx.loading(card.name, 0.0)
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a sitting that was killed
        temporary.mkdir(mode=0o700, parents=True)
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False
            )
            ctx.check()
            ctx.loading(card.name, 0.3)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, local_files_only=True, trust_remote_code=False, dtype=torch.float32
            )
        except _UNOPENED as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise ModelUnfit(
                f"“{shown(card.name)}” cannot be turned into safetensors, so it cannot learn.",
                "Take the model's own folder of safetensors instead of its GGUF file.", detail=repr(error)[:2000],
            ) from error  # fmt: skip
        ctx.check()
        ctx.loading(card.name, 0.7)
        _compare(path, card, tokenizer, model, ctx)
        ctx.loading(card.name, 0.8)
        tokenizer.save_pretrained(temporary)
        # the weights are plain numbers now; what still says that they came from a GGUF would keep them from being saved
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config._name_or_path = ""
        model.save_pretrained(temporary)
        about = {"name": f"{card.name} (safetensors)", "licence": card.licence, "licence_url": card.licence_url,
                 "base": card.id, "base_sha256": card.sha256}  # fmt: skip
        write_durably(temporary / "studio.json", json.dumps({k: v for k, v in about.items() if v}, indent=1).encode())
        flush(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise NotSaved(
            f"“{shown(card.name)}” could not be made ready for learning: {error.strerror or error}."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    ctx.loading(card.name, 1.0)


def _compare(path: Path, card: ModelCard, tokenizer: Any, model: Any, ctx: RunContext) -> None:
    """See that a model is the same in transformers as in llama.cpp: its tokens, and how likely a text is to it.

    A reader of GGUF files that overlooks a setting gives a model that is somewhat worse, which nobody would notice.

    Raises:
        ModelUnfit: it is not.
    """
    from studio.engines.evaluate.gguf import GgufReader

    try:
        reader = GgufReader(path, card.name, 2 * PROBE, torch.get_num_threads())
    except StudioError as error:
        ctx.note(f"“{shown(card.name)}” could not be compared with what llama.cpp makes of it: {error}")
        return
    try:
        ids = [*reader.begin, *reader.tokens(SENTENCES)]
        theirs = torch.from_numpy(reader.logprobs(ids, ctx.check)).float()
    finally:
        reader.close()
    own = tokenizer(SENTENCES, add_special_tokens=False, split_special_tokens=True).input_ids
    model.eval()
    with torch.no_grad():
        rows = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float().log_softmax(-1)
    difference = float((rows.gather(1, torch.tensor(ids[1:])[:, None])[:, 0] - theirs).abs().mean())
    if own != ids[len(reader.begin) :] or not difference < ALIKE:
        raise ModelUnfit(
            f"“{shown(card.name)}” becomes another model when it is turned into safetensors, so it cannot learn.",
            "Take the model's own folder of safetensors instead of its GGUF file.",
            detail=f"mean difference of log-probabilities {difference:.3f}; tokens {own} and {ids}",
        )  # fmt: skip


def flush(folder: Path) -> None:
    """Bring all files of a folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb+") as stream:
                os.fsync(stream.fileno())
    sync_folder(folder)


def open_tokenizer(path: Path, name: str) -> Any:
    """Raises ModelUnfit: there is none, or it needs code of its own."""
    try:
        return libraries().AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except _UNOPENED as error:
        raise ModelUnfit(
            f"The tokenizer of “{shown(name)}” cannot be opened.", "A tokenizer.json must be in its folder.",
            detail=repr(error)[:2000],
        ) from error  # fmt: skip


def open_model(path: Path, name: str, dtype: str = "float32", **more: Any) -> Any:
    """A causal language model, on the processor. Raises ModelUnfit, ModelBroken."""
    try:
        return libraries().AutoModelForCausalLM.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=getattr(torch, dtype),
            **more,
        )  # fmt: skip
    except _UNOPENED as error:
        if isinstance(error, RuntimeError) and "memory" in str(error).lower():
            raise
        raise ModelUnfit(
            f"“{shown(name)}” cannot be opened as a language model.", "Is the folder complete?",
            detail=repr(error)[:2000],
        ) from error  # fmt: skip


def new_model(recipe: TrainTextRecipe, tokenizer: Any, seed: int) -> Any:
    """A model of Llama's kind with random weights: transformers, peft, the GGUF converter and llama.cpp all know it.

    Raises:
        BadRecipe: the width does not go into the heads.
    """
    per_head, rest = divmod(recipe.width, recipe.heads)
    if rest or per_head % 2:
        fitting = [n for n in range(1, recipe.heads + 1) if recipe.width % (2 * n) == 0]
        hint = f"With width {recipe.width:,} take {fitting[-1]} heads." if fitting else "Take an even width."
        raise BadRecipe("The width must be an even number times the heads.", hint, field="width")
    transformers = libraries()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=recipe.width, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads,
        intermediate_size=max(32, round(recipe.width * 8 / 3 / 32) * 32), max_position_embeddings=recipe.length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True, initializer_range=0.02,
    )  # fmt: skip
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config).float()


def save_memory(model: Any) -> None:
    """Compute activations twice instead of keeping them."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable  # older
    enable({"use_reentrant": False})


# -- adapters


def with_adapter(model: Any, recipe: TrainTextRecipe, seed: int, base: str) -> Any:
    """The model with a LoRA of its own, as peft makes it; only that is learnt.

    Raises:
        ModelUnfit: nothing in the model can be adapted.
    """
    peft = _peft()
    targets: Any = "all-linear"
    if recipe.targets == "attention":
        targets = sorted(
            {
                ".".join(name.split(".")[-2:])
                for name, module in model.named_modules()
                if re.search(r"attn|attention", name) and type(module).__name__ in ("Linear", "Conv1D", "Linear4bit")
            }
        )
    config = peft.LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, target_modules=targets,
        task_type="CAUSAL_LM", bias="none",
    )  # fmt: skip
    torch.manual_seed(seed)
    try:
        if not targets:
            raise ValueError("no attention layers")
        with _quiet():
            made = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ModelUnfit("An adapter cannot be added to this model.", "Try “all” layers.", detail=str(error)) from error
    made.peft_config["default"].base_model_name_or_path = base
    return made


def _peft() -> Any:
    folders.offline()
    try:
        import peft
    except ImportError as error:
        raise EngineMissing(
            "Adapters need the library peft.", "Run “python3 run.py” once more.", detail=str(error)
        ) from None
    return peft


def in_four_bits(path: Path, name: str, device: str) -> Any:
    """The model with its weights in 4 bits (NF4, twice quantised), as QLoRA has it.

    Source: Dettmers et al. 2023. Not tried on a machine without CUDA.
    """
    transformers = libraries()
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16,
    )  # fmt: skip
    model = open_model(path, name, quantization_config=settings, device_map={"": device})
    return _peft().prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)


def takes_positions(model: Any) -> bool:
    """Whether rows that are laid end to end can be kept from seeing each other."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "position_ids" in inspect.signature(inner.forward).parameters and not any(
        isinstance(module, nn.Module) and re.search(r"Mamba|RWKV|SSM|Recurrent", type(module).__name__)
        for module in inner.modules()
    )


# -- saving, and trying what was saved


def save_adapter(model: Any, folder: Path) -> None:
    """In peft's own format. Raises OSError."""
    # else it asks a hub whether the base's vocabulary was changed
    model.save_pretrained(folder, save_embedding_layers=False)


def save_whole(model: Any, folder: Path, dtype: str) -> None:
    """A whole model, in the number format its base had. Raises OSError."""
    model.config._name_or_path = ""
    for name in ("use_cache",):
        setattr(model.config, name, True)
    if dtype != "float32":
        model.to(getattr(torch, dtype))
    model.save_pretrained(folder, safe_serialization=True)


def probe(model: Any, ids: list[int]) -> torch.Tensor:
    """Logits of some tokens: (tokens, vocabulary), float32, on the processor."""
    model.eval()
    with torch.no_grad():
        device = next(model.parameters()).device
        return model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0].float().cpu()


def compared(before: torch.Tensor, after: torch.Tensor, how: str, near: float) -> str:
    """In a sentence how a model that was loaded back does. Raises BadResult: not as before."""
    if before.shape == after.shape:
        difference = float((before - after).abs().max())
        if difference <= near * max(1.0, float(before.abs().max())):
            tokens, words = before.shape
            return f"Loaded back {how}: {tokens:,} × {words:,} logits differ by at most {difference:.2g}."
    raise BadResult(
        "What was saved does not do what was learnt when it is loaded back, so it is not kept.",
        "The checkpoints are still there: begin the training again.",
    )


def loaded_adapter(base: Path, name: str, folder: Path, dtype: str, device: str) -> Any:
    """Base and adapter through plain peft."""
    model = open_model(base, name, dtype).to(device)
    return under_adapter(model, folder)


def under_adapter(model: Any, folder: Path) -> Any:
    """A model with an adapter from a folder, through plain peft."""
    with _quiet():
        return _peft().PeftModel.from_pretrained(model, folder, local_files_only=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what two libraries tell each other's developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
