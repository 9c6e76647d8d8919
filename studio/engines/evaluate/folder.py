"""Folders of safetensors asked for the likelihood of texts, through transformers. Nothing of a folder is run as code.

Knows tensors and tokens; knows nothing of texts to measure.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio.core.problems import ModelBroken, ModelMissing, ModelRefused, ModelUnfit
from studio.core.recipes import Message
from studio.engines import device as devices
from studio.engines.evaluate.reading import Check, Numbers, stopped
from studio.engines.text.templates import Renderer, TemplateFailed, few_shot, own_layout

PIECE = 128  # tokens read between two looks at cancel; with their logits, of which each may have 260,000
CONFIG_LIMIT = 4 * 1024 * 1024  # bytes


def look_at(folder: Path, what: str = "model") -> dict[str, Any]:
    """The folder's config.json, where it has safetensors and nothing that would have to be run.

    Raises:
        ModelMissing: no such folder. ModelBroken: incomplete. ModelRefused: it brings its own code, or a pickle only.
    """
    config = folder / "config.json"
    name = folder.name
    if not folder.is_dir():
        raise ModelMissing(f"The {what} “{name}” is gone.", "Was it moved or deleted?")
    try:
        with open(config, "rb") as stream:
            found = json.loads(stream.read(CONFIG_LIMIT))
    except FileNotFoundError:
        raise ModelBroken(f"The {what} “{name}” has no config.json.", "Copy the whole folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelBroken(f"The config.json of the {what} “{name}” cannot be read.", detail=str(error)) from None
    if not isinstance(found, dict):
        raise ModelBroken(f"The config.json of the {what} “{name}” describes no model.")
    if "auto_map" in found or any("_internal" in key for key in found):
        raise ModelRefused(f"The {what} “{name}” brings its own code, which is never run.", "Look for one without.")
    if not any(each.suffix == ".safetensors" for each in folder.iterdir()):
        raise ModelRefused(f"The {what} “{name}” has no safetensors file.", "Only safetensors are read.")
    return found


def offline() -> None:
    """Before transformers is imported: it asks the network for what a folder lacks otherwise."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class FolderReader:
    """See reading.Reader.

    Raises:
        ModelMissing, ModelBroken, ModelRefused: the folder. ModelUnfit: no causal language model.
    """

    def __init__(self, path: Path, name: str, device: str, threads: int) -> None:
        config = look_at(path)
        offline()
        import torch
        import transformers

        torch.set_num_threads(max(1, threads))
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.name, self.how = name, "transformers"
        self.device, dtype = devices.pick(device, "auto")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=getattr(torch, dtype)
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError) as error:
            kind = str(config.get("model_type", ""))[:40]
            raise ModelUnfit(
                f"“{name}” cannot be opened as a language model{f' ({kind})' if kind else ''}.",
                "Is the folder complete, with its tokenizer.json?", detail=repr(error)[:2000],
            ) from error  # fmt: skip
        self._model = model.to(self.device).eval()
        self._torch = torch
        # most of the work of a small model with a large vocabulary is its last layer, which few tokens need
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._renderer: Renderer | None = None
        self.longest = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        # GPT-2 and its like begin a text with the token that ended the one before
        begin = self._tokenizer.bos_token_id
        begin = self._tokenizer.eos_token_id if begin is None else begin
        self.begin = [] if begin is None else [int(begin)]
        ends = model.generation_config.eos_token_id if model.generation_config is not None else None
        ends = self._tokenizer.eos_token_id if ends is None else ends
        self._ends = set(ends) if isinstance(ends, list) else {ends}

    def tokens(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def chat(self, turns: Sequence[Message]) -> tuple[list[int], tuple[str, ...]]:
        system = "\n\n".join(turn.content for turn in turns if turn.role == "system")
        said = tuple(turn for turn in turns if turn.role != "system")
        template = self._tokenizer.chat_template
        if isinstance(template, str) and template:
            self._renderer = self._renderer or Renderer()
            try:
                layout = own_layout(self._renderer, template, said, system, "", self._tokenizer.eos_token or "")
                return list(self._tokenizer.encode(layout.text, add_special_tokens=False)), ()
            except TemplateFailed:
                pass
        laid = few_shot(said, system)
        return self.tokens(laid.text), laid.stops

    def logprobs(self, tokens: Sequence[int], check: Check, first: int = 1) -> Numbers:
        torch = self._torch
        found: list[Any] = []
        cache: Any = None
        ids = torch.tensor([list(tokens)], device=self.device)
        with torch.inference_mode():
            for at in range(0, len(tokens) - 1, PIECE):
                check()
                piece = ids[:, at : min(at + PIECE, len(tokens) - 1)]
                more = len(tokens) - 1 > at + PIECE or cache is not None
                wanted = min(piece.shape[1], at + piece.shape[1] + 1 - first)  # the last ones of this piece
                keep = {"logits_to_keep": max(1, wanted)} if self._keeps else {}
                answer = self._model(input_ids=piece, past_key_values=cache, use_cache=more, **keep)
                cache = answer.past_key_values if more else None
                if wanted < 1:
                    continue
                rows = answer.logits[0, -wanted:].float().log_softmax(-1)
                following = ids[0, at + 1 + piece.shape[1] - wanted : at + 1 + piece.shape[1]]
                found.append(rows.gather(1, following[:, None])[:, 0].double().cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0)

    def write(self, tokens: Sequence[int], most: int, check: Check, stops: Sequence[str] = ()) -> str:
        torch = self._torch
        written: list[int] = []
        cache: Any = None
        fed = torch.tensor([list(tokens)], device=self.device)
        with torch.inference_mode():
            while len(written) < most and (not self.longest or len(tokens) + len(written) < self.longest):
                check()
                answer = self._model(input_ids=fed, past_key_values=cache, use_cache=True)
                cache = answer.past_key_values
                token = int(answer.logits[0, -1].argmax())
                if token in self._ends:
                    break
                written.append(token)
                if stops and stopped(self._text(written), stops) is not None:
                    break
                fed = torch.tensor([[token]], device=self.device)
        text = self._text(written)
        return text if (cut := stopped(text, stops)) is None else cut

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def close(self) -> None:
        self._model = None
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
