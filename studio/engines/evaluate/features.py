"""What a model of the user's sees in pictures: a CLIP or another vision folder of transformers, or an ONNX file.

Pictures are prepared as the folder's preprocessor_config.json says. Nothing of a folder is run as code. Knows tensors
and pixels; knows nothing of what features are compared for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio.core.problems import ModelBroken, ModelMissing, ModelUnfit
from studio.engines import device as devices
from studio.engines.evaluate.folder import look_at, offline
from studio.engines.evaluate.intervals import Array
from studio.engines.onnx import PictureGraph

BATCH = 8
CLIP = ("clip",)
_CLIP_MEAN, _CLIP_SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Preparation:
    """Pixels to numbers: shorter side to a size, the middle cut out, and each channel scaled."""

    def __init__(self, folder: Path, size: int, mean: Sequence[float], spread: Sequence[float]) -> None:
        try:
            told = json.loads((folder / "preprocessor_config.json").read_bytes())
        except FileNotFoundError:
            told = {}
        except (OSError, ValueError, RecursionError) as error:
            raise ModelBroken("The preprocessor_config.json of the judge cannot be read.", detail=str(error)) from error
        told = told if isinstance(told, dict) else {}
        self.size = _side(told.get("size"), size)
        self.crop = _side(told.get("crop_size"), self.size) if told.get("do_center_crop", True) else 0
        self.resample = Image.Resampling(told.get("resample", 3) if told.get("resample", 3) in range(6) else 3)
        self.mean, self.spread = (
            np.asarray(told.get(name) if _three(told.get(name)) else usual, dtype=np.float32)
            for name, usual in (("image_mean", mean), ("image_std", spread))
        )
        if not told.get("do_normalize", True):
            self.mean, self.spread = np.zeros(3, np.float32), np.ones(3, np.float32)

    def of(self, image: Image.Image) -> Any:
        """(3, H, W), float32."""
        if self.crop:
            scale = self.size / min(image.size)
            size = max(self.crop, round(image.width * scale)), max(self.crop, round(image.height * scale))
            image = image.resize(size, self.resample)
            left, top = (size[0] - self.crop) // 2, (size[1] - self.crop) // 2
            image = image.crop((left, top, left + self.crop, top + self.crop))
        else:
            image = image.resize((self.size, self.size), self.resample)
        pixels = np.asarray(image, dtype=np.float32) / 255.0
        return ((pixels - self.mean) / self.spread).transpose(2, 0, 1)


class Judge:
    """A model held open.

    Attributes:
        reads: it knows words too, so that a picture can be held against its prompt.

    Raises:
        ModelMissing, ModelBroken, ModelRefused: the folder. ModelUnfit: it does not see pictures.
    """

    def __init__(self, folder: Path, device: str, threads: int) -> None:
        self.name = folder.name
        self.reads = False
        self._onnx: PictureGraph | None = None
        self._model: Any = None
        files = [folder] if folder.suffix == ".onnx" else sorted(folder.glob("*.onnx")) if folder.is_dir() else []
        if not folder.exists():
            raise ModelMissing(f"The judge “{folder.name}” is gone.", "Was it moved or deleted?")
        if files and not (folder / "config.json").is_file():
            self._open_onnx(files[0], threads)
        else:
            self._open_folder(folder, device, threads)

    def _open_onnx(self, file: Path, threads: int) -> None:
        self._onnx = PictureGraph(file, threads, f"The judge “{file.name}”", file.name)
        (given, *more) = self._onnx.inputs
        shape = given.shape
        if more or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise ModelUnfit(f"The judge “{file.name}” does not take pictures.", "One input (N, 3, H, W) is wanted.")
        self.device, self.how = "cpu", "onnxruntime"
        side = shape[2] if isinstance(shape[2], int) and shape[2] > 0 else 299
        self._prepare = Preparation(file.parent, side, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def _open_folder(self, folder: Path, device: str, threads: int) -> None:
        config = look_at(folder, "judge")
        offline()
        import torch
        import transformers

        torch.set_num_threads(max(1, threads))
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.device, _ = devices.pick(device, "float32")
        self.reads = config.get("model_type") in CLIP
        given = {"local_files_only": True, "trust_remote_code": False}
        kind = transformers.CLIPModel if self.reads else transformers.AutoModel
        try:
            self._model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **given)
            if self.reads:
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **given)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError) as error:
            raise ModelUnfit(f"The judge “{folder.name}” cannot be opened.", "Choose a CLIP or vision model.",
                             detail=repr(error)[:2000]) from error  # fmt: skip
        if getattr(self._model, "main_input_name", "") != "pixel_values" and not self.reads:
            raise ModelUnfit(f"The judge “{folder.name}” does not see pictures.", "Choose a CLIP or vision model.")
        self._model = self._model.to(self.device).eval()
        self._torch, self.how = torch, "transformers"
        seeing = getattr(self._model.config, "vision_config", self._model.config)
        side = getattr(seeing, "image_size", 224)
        side = side if isinstance(side, int) else max(side)
        self._prepare = Preparation(folder, side, _CLIP_MEAN, _CLIP_SPREAD)

    def see(self, images: Sequence[Image.Image], check: Callable[[], None]) -> Array:
        """Features of pictures in RGB, (n, D)."""
        found = []
        for at in range(0, len(images), BATCH):
            check()
            pixels = np.stack([self._prepare.of(image) for image in images[at : at + BATCH]])
            if self._onnx is not None:
                seen = self._onnx.glance(pixels).astype(np.float64)
            else:
                with self._torch.inference_mode():
                    given = self._torch.from_numpy(pixels).to(self.device)
                    answer = self._model.get_image_features(given) if self.reads else self._model(given)
                    seen = self._pooled(answer).double().cpu().numpy()
            found.append(seen.reshape(len(seen), -1))
        features = np.concatenate(found)
        if not np.isfinite(features).all():
            raise ModelBroken(f"The judge “{self.name}” gives no numbers.", "Copy its files again.")
        return features

    @staticmethod
    def _pooled(answer: Any) -> Any:
        if hasattr(answer, "shape"):
            return answer
        if getattr(answer, "pooler_output", None) is not None:
            return answer.pooler_output
        hidden = answer.last_hidden_state
        return hidden.mean(dim=tuple(range(2, hidden.dim()))) if hidden.dim() == 4 else hidden.mean(dim=1)

    def read(self, prompts: Sequence[str], check: Callable[[], None]) -> Array:
        """Features of prompts, (n, D), of a judge that reads."""
        found = []
        longest = int(self._model.config.text_config.max_position_embeddings)
        for prompt in prompts:
            check()
            given = self._tokenizer(prompt, truncation=True, max_length=longest, return_tensors="pt").to(self.device)
            with self._torch.inference_mode():
                answer = self._model.get_text_features(
                    input_ids=given["input_ids"], attention_mask=given["attention_mask"]
                )
            found.append(self._pooled(answer)[0].double().cpu().numpy())
        return np.stack(found)

    def close(self) -> None:
        self._model = self._onnx = None


def likeness(first: Array, second: Array) -> Array:
    """CLIP score of each pair: 100 times the cosine, 0 at least. Source: Hessel et al. 2021."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.maximum(0.0, 100.0 * (first * second).sum(axis=1) / np.maximum(lengths, 1e-12))


def _side(told: Any, usual: int) -> int:
    if isinstance(told, dict):
        told = told.get("shortest_edge") or told.get("height")
    return told if isinstance(told, int) and 1 <= told <= 4096 else usual


def _three(told: Any) -> bool:
    return isinstance(told, list) and len(told) == 3 and all(isinstance(x, (int, float)) for x in told)
