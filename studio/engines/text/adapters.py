"""What is laid over a loaded language model for a job: LoRAs of peft, each with a weight.

Each job says what it wants; only the difference to what the last one left is loaded or taken away, and without any the
model is as it came. Knows peft and cards; knows nothing of prompts.
"""

from __future__ import annotations

import contextlib
import hashlib
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.core.cards import Broken, ModelCard, NotThisKind
from studio.core.problems import BadResult, ModelBroken, ModelMissing, ModelRefused, ModelUnfit, StudioError
from studio.core.recipes import TextLora
from studio.core.text import shown
from studio.engines import shortage
from studio.engines.context import RunContext
from studio.models.text_adapters import look_peft

KEPT = 8  # loaded and at rest, so that going back to one costs nothing
_FAILURES = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, RuntimeError,
    ImportError, MemoryError,
)  # fmt: skip


def summed(loras: Sequence[TextLora]) -> dict[str, float]:
    """The ids of LoRAs and their weights; one that is named twice counts with the sum."""
    weights: dict[str, float] = {}
    for lora in loras:
        weights[lora.model] = weights.get(lora.model, 0.0) + lora.weight
    return weights


def checked(card: ModelCard) -> Path:
    """The folder of a peft LoRA, looked at anew: it may have changed since it was found.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit
    """
    path = Path(card.path)
    if not path.exists():
        raise ModelMissing(f"The LoRA “{shown(card.name)}” is not there.", "Was it moved or deleted?", field="loras")
    if card.format != "peft":
        raise ModelUnfit(
            f"“{shown(card.name)}” is a LoRA in a GGUF file, which only models in GGUF files take.",
            "Use the folder it was made from, with adapter_config.json.", field="loras",
        )  # fmt: skip
    looked = look_peft(path)
    if isinstance(looked, NotThisKind):
        raise ModelUnfit(f"The LoRA “{shown(card.name)}” cannot be used: {looked.why}.", field="loras")
    if isinstance(looked, Broken):
        kinds: dict[str, type[StudioError]] = {"model_missing": ModelMissing, "model_refused": ModelRefused}
        kind = kinds.get(looked.code, ModelBroken)
        raise kind(f"The LoRA “{shown(card.name)}” cannot be used: {looked.why}.", looked.hint, field="loras")
    return path


class Adapters:
    """What is laid over one loaded model now.

    Args:
        model: of transformers; its layers are wrapped in place when the first LoRA is loaded.
        device: where the model is.
    """

    def __init__(self, model: Any, device: str) -> None:
        self._model = model
        self._device = device
        self._peft: Any = None
        self._names: dict[str, str] = {}  # card id -> adapter name, in order of use
        self._whole: set[str] = set()  # those that replace whole layers too
        self._laid: dict[str, float] = {}

    @property
    def laid(self) -> dict[str, float]:
        """Ids and weights of what acts now."""
        return dict(self._laid)

    def lay(self, loras: Sequence[TextLora], ctx: RunContext) -> None:
        """Bring the model to what a recipe asks for.

        Raises:
            ModelUnfit, ModelBroken, ModelMissing, OutOfMemory: nothing is laid over the model then that was not before.
        """
        wanted = summed(loras)
        if wanted == self._laid:
            return
        for card_id in wanted:
            if card_id not in self._names:
                ctx.check()
                self._load(ctx.card(card_id), ctx)
            self._names[card_id] = self._names.pop(card_id)  # the last one used is the last to go
        replacing = [card_id for card_id in wanted if card_id in self._whole]
        if len(wanted) > 1 and replacing:
            raise ModelUnfit(
                f"The LoRA “{shown(ctx.card(replacing[0]).name)}” replaces whole layers, so it cannot be mixed.",
                "Use it alone.", field="loras",
            )  # fmt: skip
        self._set(wanted)
        self._laid = wanted
        resting = [card_id for card_id in self._names if card_id not in wanted]
        for card_id in resting[: max(0, len(self._names) - KEPT)]:
            self._peft.delete_adapter(self._names.pop(card_id))
            self._whole.discard(card_id)

    def _set(self, weights: dict[str, float]) -> None:
        if self._peft is None:
            return
        layers = self._peft.base_model
        if not weights:
            layers.disable_adapter_layers()
            return
        layers.enable_adapter_layers()
        layers.set_adapter([self._names[card_id] for card_id in weights], inference_mode=True)
        for module in layers.modules():
            if hasattr(module, "set_scale"):
                for card_id, weight in weights.items():
                    module.set_scale(self._names[card_id], weight)

    def _load(self, card: ModelCard, ctx: RunContext) -> None:
        path = checked(card)
        name = "lora_" + hashlib.sha256(card.id.encode()).hexdigest()[:12]
        ctx.loading(card.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said, whole = self._opened(path, name)
        except _FAILURES as error:
            self._forget(name)
            if shortage.is_out_of_memory(error):
                from studio.engines.text.opening import out_of_memory

                raise out_of_memory(error, f"loading the LoRA “{shown(card.name)}”", self._device) from error
            raise ModelUnfit(
                f"The LoRA “{shown(card.name)}” does not fit this model: {shortage.first_line(error)}.",
                "Choose one that was made for this model.", detail=traceback.format_exc(), field="loras",
            ) from error  # fmt: skip
        if said:
            self._forget(name)
            raise ModelUnfit(
                f"The LoRA “{shown(card.name)}” does not fit this model: it has layers that the model lacks, for "
                f"example “{shown(said[0])}”.",
                "Choose one that was made for this model.", field="loras",
            )  # fmt: skip
        self._names[card.id] = name
        if whole:
            self._whole.add(card.id)
        ctx.loading(card.name, 1.0)

    def _opened(self, path: Path, name: str) -> tuple[list[str], bool]:
        """Load an adapter beside the others; names in the file that the model has no place for, and whether it
        replaces whole layers."""
        import peft

        config = peft.PeftConfig.from_pretrained(str(path))
        config.inference_mode = True
        config.init_lora_weights = True  # other ways to begin compute for minutes, and are overwritten anyway
        if self._peft is None:
            self._peft = peft.PeftModelForCausalLM(self._model, config, adapter_name=name, low_cpu_mem_usage=True)
        else:
            self._peft.add_adapter(name, config, low_cpu_mem_usage=True)
        said = self._peft.load_adapter(
            str(path), name, is_trainable=False, torch_device=self._device, low_cpu_mem_usage=True
        )
        self._peft.eval()
        return sorted({*said.unexpected_keys, *said.missing_keys}), bool(config.modules_to_save)

    def _forget(self, name: str) -> None:
        """Take away what a failed load left in some of the layers, and go back to what was laid before."""
        if not self._names:
            _unwrap(self._model)
            self._peft = None
            return
        with contextlib.suppress(*_FAILURES), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name in self._peft.peft_config:
                self._peft.delete_adapter(name)
            self._set(self._laid)


def merge(model: Any) -> None:
    """Write what acts over a model into its own weights, and take the wrapping away.

    Raises:
        BadResult: the sum is no number.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    try:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer) and not module.disable_adapters:
                module.merge(safe_merge=True)
    except ValueError as error:
        raise BadResult("The LoRA gives the model numbers that are none.", "A lower weight may help.",
                        detail=str(error)) from error  # fmt: skip
    _unwrap(model, merged=True)


def _unwrap(model: Any, merged: bool = False) -> None:
    """Give a model its own layers back, wherever peft had come to when it failed.

    Args:
        merged: where an adapter replaces whole layers, its own stay.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(parent, name, child.get_base_layer())
            elif isinstance(child, AuxiliaryTrainingWrapper):
                active = child.active_adapters[0] if child.active_adapters and not child.disable_adapters else ""
                kept = child.modules_to_save[active] if active in getattr(child, "modules_to_save", {}) else None
                setattr(parent, name, kept if merged and kept is not None else child.original_module)
    if hasattr(model, "peft_config"):
        del model.peft_config
