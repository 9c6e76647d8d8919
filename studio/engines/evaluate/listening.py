"""A Whisper model of the user's, asked what it hears. Nothing of its folder is run as code; nothing is fetched.

Knows tensors and samples; knows nothing of errors and reports. It listens in pieces of at most half a minute, cut where
the sound is quietest, and takes the likeliest token each time, so that the same sound gives the same words.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from studio.core.problems import BadRecipe, ModelUnfit
from studio.engines import device as devices
from studio.engines.evaluate.folder import look_at, offline
from studio.engines.evaluate.intervals import Array

RATE = 16_000  # Hz that Whisper listens at
PIECE = 30  # seconds it hears at once
_SEARCH = 5  # seconds before the end of a piece in which a quiet place is looked for


class Listener:
    """A model held open.

    Raises:
        ModelMissing, ModelBroken, ModelRefused: the folder. ModelUnfit: it is no Whisper model.
        BadRecipe: it does not know the language.
    """

    def __init__(self, folder: Path, language: str, device: str, threads: int) -> None:
        config = look_at(folder, "listener")
        if config.get("model_type") != "whisper":
            raise ModelUnfit(f"“{folder.name}” is no Whisper model.", "Choose the folder of one, with safetensors.")
        offline()
        import torch
        import transformers

        torch.set_num_threads(max(1, threads))
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.name = folder.name
        self.device, dtype = devices.pick(device, "auto")
        given = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._features = transformers.WhisperFeatureExtractor.from_pretrained(folder, **given)
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **given)
            model = transformers.WhisperForConditionalGeneration.from_pretrained(
                folder, use_safetensors=True, dtype=getattr(torch, dtype), **given
            )
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError) as error:
            raise ModelUnfit(f"The listener “{folder.name}” cannot be opened.", "Is the folder complete?",
                             detail=repr(error)[:2000]) from error  # fmt: skip
        self._model = model.to(self.device).eval()
        self._torch, self._dtype = torch, getattr(torch, dtype)
        self._start = self._begin(language)
        self._end = int(model.config.eos_token_id)
        generation = model.generation_config
        size = int(model.config.vocab_size)
        self._never, self._not_first = (
            [int(token) for token in (getattr(generation, name, None) or []) if 0 <= int(token) < size]
            for name in ("suppress_tokens", "begin_suppress_tokens")
        )
        self._most = int(model.config.max_target_positions) - len(self._start) - 1

    def _begin(self, language: str) -> list[int]:
        """The tokens that say what is to be done: write down, in this language, without times."""
        known = self._tokenizer.get_vocab()
        wanted = ["<|startoftranscript|>"]
        if "<|transcribe|>" in known:  # one that knows English only has neither languages nor tasks
            if f"<|{language}|>" not in known:
                raise BadRecipe(f"The listener “{self.name}” does not know the language “{language}”.",
                                "Give it as two letters, for example en or de.", field="language")  # fmt: skip
            wanted += [f"<|{language}|>", "<|transcribe|>"]
        wanted.append("<|notimestamps|>")
        lacking = [token for token in wanted if token not in known]
        if lacking:
            raise ModelUnfit(
                f"The tokenizer of the listener “{self.name}” lacks {lacking[0]}.", "Copy the whole folder."
            )
        return [known[token] for token in wanted]

    def heard(self, samples: Array, check: Callable[[], None]) -> str:
        """The words in a sound.

        Args:
            samples: one channel at RATE.
        """
        words = [self._piece(samples[begin:end], check) for begin, end in pieces(samples)]
        return " ".join(word for word in words if word)

    def _piece(self, samples: Array, check: Callable[[], None]) -> str:
        torch = self._torch
        check()
        features = self._features(samples.astype(np.float32), sampling_rate=RATE, return_tensors="pt").input_features
        written: list[int] = []
        cache: Any = None
        with torch.inference_mode():
            encoded = self._model.get_encoder()(features.to(self.device, self._dtype))
            fed = torch.tensor([self._start], device=self.device)
            while len(written) < self._most:
                check()
                answer = self._model(
                    decoder_input_ids=fed, encoder_outputs=encoded, past_key_values=cache, use_cache=True
                )  # fmt: skip
                cache = answer.past_key_values
                scores = answer.logits[0, -1].float()
                scores[self._never + (self._not_first if not written else [])] = -torch.inf
                token = int(scores.argmax())
                if token == self._end:
                    break
                written.append(token)
                fed = torch.tensor([[token]], device=self.device)
        return str(self._tokenizer.decode(written, skip_special_tokens=True)).strip()

    def close(self) -> None:
        self._model = None


def pieces(samples: Array, rate: int = RATE) -> list[tuple[int, int]]:
    """Where a sound is cut for listening: (begin, end) of each piece, in samples."""
    found = []
    begin, longest, frame = 0, PIECE * rate, rate // 50
    while len(samples) - begin > longest:
        search = samples[begin + longest - _SEARCH * rate : begin + longest]
        usable = search[: len(search) // frame * frame].reshape(-1, frame)
        quietest = int((usable**2).mean(axis=1).argmin())
        end = begin + longest - _SEARCH * rate + quietest * frame + frame // 2
        found.append((begin, end))
        begin = end
    found.append((begin, len(samples)))
    return found
