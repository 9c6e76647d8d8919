"""What is laid over a loaded model for a job: LoRAs, an IP-Adapter, another autoencoder, control networks.

Each job says what it wants; only the difference to what the last one left is loaded or taken away. Knows files,
pipelines and cards; knows nothing of recipes' other half, sizes and steps.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from studio.core.cards import ModelCard
from studio.core.problems import ModelBroken, ModelMissing, ModelUnfit, StudioError
from studio.core.recipes import ImageRecipe, Reference
from studio.core.text import shown
from studio.engines.context import RunContext
from studio.engines.image import embeddings, prompts, trouble
from studio.engines.image.maps import Sight

LORAS_KEPT = 8  # loaded and at rest, so that going back to one costs nothing
CONTROLS_KEPT = 2
_FAILURES = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, RuntimeError,
    ImportError, MemoryError,
)  # fmt: skip


@dataclass
class Additions:
    """What is laid over one loaded pipeline now."""

    pipe: Any
    device: str
    dtype: Any
    words: prompts.Cache = field(default_factory=prompts.Cache)  # prompts that were read already
    sight: Sight = field(init=False)  # detectors, depth and pose models
    _loras: dict[str, str] = field(default_factory=dict)  # card id -> adapter name, in order of use
    _laid: tuple[tuple[str, float], ...] = ()
    _references: tuple[str, ...] = ()  # ids of the IP-Adapters that are loaded
    _vae: str = ""
    _own_vae: Any = None
    _controls: dict[str, Any] = field(default_factory=dict)  # card id -> network, in order of use

    def __post_init__(self) -> None:
        self.sight = Sight(self.device)

    def lay(self, recipe: ImageRecipe, ctx: RunContext) -> bool:
        """Bring the model to what a recipe asks for.

        Returns:
            Whether the autoencoder changed, so that what was learnt of it is learnt anew.

        Raises:
            ModelUnfit, ModelBroken, ModelMissing, OutOfMemory: nothing is laid over the model then that was not before.
        """
        changed = self._lay_vae(recipe.vae, ctx)
        self._lay_loras(recipe, ctx)
        self._lay_embeddings(recipe.embeddings, ctx)
        self._lay_references(recipe.references, ctx)
        return changed

    @property
    def state(self) -> tuple[Any, ...]:
        """What is laid over the text encoders: with another one the same prompt is read differently."""
        return self._laid

    # -- learned words

    def _lay_embeddings(self, wanted: Sequence[str], ctx: RunContext) -> None:
        cards = [ctx.card(card_id) for card_id in wanted]
        if not cards and not embeddings.loaded(self.pipe):
            return
        # written in the prompt by the name of their file, as everywhere
        embeddings.load(self.pipe, [(Path(card.path).stem, _file_of(card)) for card in cards])

    # -- LoRAs

    def _lay_loras(self, recipe: ImageRecipe, ctx: RunContext) -> None:
        wanted = [(lora.model, lora.weight) for lora in recipe.loras]
        if not wanted:
            if self._laid:
                self.pipe.disable_lora()
                self._laid = ()
            return
        if not hasattr(self.pipe, "load_lora_weights"):
            raise ModelUnfit("This model takes no LoRAs.", "Leave them out, or choose another model.", field="loras")
        for card_id, _ in wanted:
            if card_id not in self._loras:
                ctx.check()
                self._load_lora(ctx.card(card_id), ctx)
            self._loras[card_id] = self._loras.pop(card_id)  # the last one used is the last to go
        if not self._laid:
            self.pipe.enable_lora()
        # one that is named twice counts with the sum
        weights: dict[str, float] = {}
        for card_id, weight in wanted:
            weights[self._loras[card_id]] = weights.get(self._loras[card_id], 0.0) + weight
        self.pipe.set_adapters(list(weights), list(weights.values()))
        self._laid = tuple(wanted)
        resting = [card_id for card_id in self._loras if card_id not in {c for c, _ in wanted}]
        for card_id in resting[: max(0, len(self._loras) - LORAS_KEPT)]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.pipe.delete_adapters([self._loras.pop(card_id)])

    def _load_lora(self, card: ModelCard, ctx: RunContext) -> None:
        name = "lora_" + hashlib.sha256(card.id.encode()).hexdigest()[:12]
        path = _file_of(card)
        ctx.loading(card.name)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that there is more than one now, which is meant
                self.pipe.load_lora_weights(
                    str(path.parent), weight_name=path.name, adapter_name=name, use_safetensors=True,
                    local_files_only=True,
                )  # fmt: skip
        except _FAILURES as error:
            self._forget_lora(name)
            raise self._unfit(card, error, "loras") from error
        if not any(name in names for names in self.pipe.get_list_adapters().values()):
            raise ModelUnfit(
                f"The LoRA “{shown(card.name)}” does not fit this model: none of its layers is in it.",
                "Choose one that was made for this kind of model.", field="loras",
            )  # fmt: skip
        self._loras[card.id] = name
        ctx.loading(card.name, 1.0)

    def _forget_lora(self, name: str) -> None:
        """Take away what a failed load left in some of the layers, and go back to what was laid before."""
        with warnings.catch_warnings(), contextlib.suppress(*_FAILURES):
            warnings.simplefilter("ignore")  # peft warns that another adapter becomes the active one
            if not self._loras:
                self.pipe.unload_lora_weights()
                return
            self.pipe.delete_adapters([name])
            if self._laid:
                self.pipe.set_adapters([self._loras[card_id] for card_id, _ in self._laid], [w for _, w in self._laid])
            else:
                self.pipe.disable_lora()

    # -- IP-Adapters

    def _lay_references(self, wanted: Sequence[Reference], ctx: RunContext) -> None:
        ids = tuple(reference.model for reference in wanted)
        if ids != self._references:
            if self._references:
                self.pipe.unload_ip_adapter()
                self._references = ()
            if ids:
                if not hasattr(self.pipe, "load_ip_adapter"):
                    raise ModelUnfit("This model takes no reference pictures.", field="references")
                ctx.check()
                self._load_references([ctx.card(card_id) for card_id in ids], ctx)
                self._references = ids
        if ids:
            self.pipe.set_ip_adapter_scale([reference.weight for reference in wanted])

    def _load_references(self, cards: Sequence[ModelCard], ctx: RunContext) -> None:
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        files = [_file_of(card) for card in cards]
        folder = _encoder_of(files[0], cards[0])
        ctx.loading(cards[0].name)
        try:
            encoder = CLIPVisionModelWithProjection.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, dtype=self.dtype
            ).to(self.device)
            side = int(encoder.config.image_size)
            size = {"shortest_edge": side}
            processor = CLIPImageProcessor(size=size, crop_size={"height": side, "width": side})
            self.pipe.register_modules(image_encoder=encoder, feature_extractor=processor)
            self.pipe.load_ip_adapter(
                [str(file.parent) for file in files], subfolder=["" for _ in files],
                weight_name=[file.name for file in files], image_encoder_folder=None, local_files_only=True,
            )  # fmt: skip
        except _FAILURES as error:
            with contextlib.suppress(*_FAILURES):
                self.pipe.unload_ip_adapter()
            raise self._unfit(cards[0], error, "references") from error
        ctx.loading(cards[0].name, 1.0)

    # -- the autoencoder

    def _lay_vae(self, wanted: str, ctx: RunContext) -> bool:
        if wanted == self._vae:
            return False
        if not wanted:
            self.pipe.register_modules(vae=self._own_vae)
            self._vae, self._own_vae = "", None
            return True
        own = self._own_vae if self._own_vae is not None else getattr(self.pipe, "vae", None)
        if own is None:
            raise ModelUnfit("This model has no autoencoder to replace.", field="vae")
        card = ctx.card(wanted)
        ctx.loading(card.name)
        try:
            if Path(card.path).is_dir():
                vae = type(own).from_pretrained(
                    card.path, local_files_only=True, use_safetensors=True, torch_dtype=self.dtype
                )
            else:
                with _config_of(own) as config:
                    vae = type(own).from_single_file(
                        card.path, config=config, local_files_only=True, torch_dtype=self.dtype
                    )
            if vae.config.latent_channels != own.config.latent_channels:
                raise ValueError(
                    f"it works with {vae.config.latent_channels} channels, the model with {own.config.latent_channels}"
                )
            vae.register_to_config(scaling_factor=own.config.scaling_factor)
            vae.eval().to(self.device)
        except _FAILURES as error:
            raise self._unfit(card, error, "vae") from error
        self.pipe.register_modules(vae=vae)
        self._vae, self._own_vae = wanted, own
        ctx.loading(card.name, 1.0)
        return True

    # -- control networks

    def controls(self, cards: Sequence[ModelCard], ctx: RunContext) -> list[Any]:
        """The control networks, loaded, in this order."""
        found = []
        for card in cards:
            if card.id not in self._controls:
                ctx.check()
                ctx.loading(card.name)
                self._controls[card.id] = self._load_control(card)
                ctx.loading(card.name, 1.0)
            self._controls[card.id] = self._controls.pop(card.id)
            found.append(self._controls[card.id])
        wanted = {card.id for card in cards}
        for card_id in [c for c in self._controls if c not in wanted][: max(0, len(self._controls) - CONTROLS_KEPT)]:
            del self._controls[card_id]
        return found

    def _load_control(self, card: ModelCard) -> Any:
        import diffusers

        path = Path(card.path)
        try:
            if path.is_dir():
                name = str(json.loads((path / "config.json").read_bytes()[:1_000_000]).get("_class_name"))
                made_by = getattr(diffusers, name, None)
                if made_by is None or not name.endswith(("ControlNetModel", "ControlNetUnionModel", "T2IAdapter")):
                    raise ValueError(f"“{shown(name)}” is not a control model this studio knows")
                network = made_by.from_pretrained(
                    card.path, local_files_only=True, use_safetensors=True, torch_dtype=self.dtype
                )
            else:
                unet = getattr(self.pipe, "unet", None)
                if unet is None:
                    raise ValueError("as a single file, control models of this kind of model cannot be read")
                pattern = diffusers.ControlNetModel.from_unet(unet, load_weights_from_unet=False)
                with _config_of(pattern) as config:
                    network = diffusers.ControlNetModel.from_single_file(
                        card.path, config=config, local_files_only=True, torch_dtype=self.dtype
                    )
            return network.eval().to(self.device)
        except _FAILURES as error:
            raise self._unfit(card, error, "controls") from error

    def _unfit(self, card: ModelCard, error: BaseException, place: str) -> Exception:
        """The sentence for a library's error about an addition."""
        if isinstance(error, StudioError):
            return error
        # diffusers stumbles while it clears up after the error that counts
        error = error.__context__ if isinstance(error, KeyError) and error.__context__ is not None else error
        if trouble.is_out_of_memory(error):
            return trouble.out_of_memory(error, f"loading “{card.name}”", self.device)
        if trouble.is_lost_device(error):
            return error if isinstance(error, Exception) else RuntimeError(str(error))
        if isinstance(error, FileNotFoundError):
            return ModelMissing(f"The file of “{shown(card.name)}” is not there any more.", field=place)
        if "safetensors" in type(error).__module__.lower() or type(error).__name__ == "SafetensorError":
            return ModelBroken(f"“{shown(card.name)}” is broken: {trouble.first_line(error)}.", field=place)
        return ModelUnfit(
            f"“{shown(card.name)}” does not fit this model: {trouble.first_line(error)[:300]}.",
            "Choose one that was made for this kind of model.", detail=repr(error)[:4000], field=place,
        )  # fmt: skip


def _file_of(card: ModelCard) -> Path:
    path = Path(card.path)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if not found:
            raise ModelMissing(f"“{shown(card.name)}” holds no safetensors file.")
        return found[0]
    if not path.is_file():
        raise ModelMissing(f"The file of “{shown(card.name)}” is not there any more.", "Was it moved or deleted?")
    return path


def _encoder_of(file: Path, card: ModelCard) -> Path:
    """The folder of the picture encoder that an IP-Adapter reads through; it lies beside it."""
    from safetensors import safe_open

    width = 0
    with safe_open(str(file), framework="pt") as stream:
        for key in stream.keys():  # noqa: SIM118 - not a dict
            if key in ("image_proj.proj.weight", "image_proj.proj_in.weight", "image_proj.proj.0.weight"):
                width = int(stream.get_slice(key).get_shape()[1])
    places = [at / "image_encoder" for at in (file.parent, file.parent.parent, file.parent.parent / "models")]
    for place in places:
        try:
            config = json.loads((place / "config.json").read_bytes()[:1_000_000])
        except (OSError, ValueError, RecursionError):
            continue
        if not width or width in (config.get("projection_dim"), config.get("hidden_size")):
            return place
    raise ModelMissing(
        f"The picture encoder of “{shown(card.name)}” is missing.",
        "Put its folder image_encoder (a CLIP vision model as safetensors) beside the file.", field="references",
    )  # fmt: skip


@contextlib.contextmanager
def _config_of(network: Any) -> Iterator[str]:
    """A folder with the settings of a network, for single files, which come without."""
    with tempfile.TemporaryDirectory() as folder:
        network.save_config(folder)
        yield folder


@contextlib.contextmanager
def seamless(pipe: Any, way: str) -> Iterator[None]:
    """Make every convolution of network and autoencoder go around the edges, so that the result can be tiled.

    Args:
        way: "off", "both", "x" or "y".
    """
    if way == "off":
        yield
        return
    convolutions = [
        layer
        for part in (getattr(pipe, "unet", None), getattr(pipe, "vae", None))
        if part is not None
        for layer in part.modules()
        if isinstance(layer, torch.nn.Conv2d) and any(layer.padding)
    ]
    across, down = way in ("both", "x"), way in ("both", "y")

    def forward(layer: torch.nn.Conv2d, x: Any, weight: Any, bias: Any) -> Any:
        high, wide = layer.padding  # type: ignore[misc]
        x = torch.nn.functional.pad(x, (wide, wide, 0, 0), mode="circular" if across else "constant")
        x = torch.nn.functional.pad(x, (0, 0, high, high), mode="circular" if down else "constant")
        return torch.nn.functional.conv2d(x, weight, bias, layer.stride, 0, layer.dilation, layer.groups)

    try:
        for layer in convolutions:
            layer._conv_forward = forward.__get__(layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in convolutions:
            del layer._conv_forward


@contextlib.contextmanager
def varied(pipe: Any, towards: int, share: float) -> Iterator[None]:
    """Turn the first noise of a run by `share` towards that of another seed, on a sphere.

    The pipeline's own function for noise is wrapped for this one run, whatever family it is of.
    """
    if share <= 0:
        yield
        return
    module = inspect.getmodule(type(pipe))
    original = getattr(module, "randn_tensor", None)
    if module is None or original is None:
        raise ModelUnfit("This model makes its noise in a way of its own, which cannot be varied.", field="variation")
    other = torch.Generator("cpu").manual_seed(towards)
    done = False

    def noise(shape: Any, generator: Any = None, **more: Any) -> Any:
        nonlocal done
        first = original(shape, generator=generator, **more)
        if done:
            return first
        done = True
        # of a batch every picture varies towards the same noise, as it would alone
        alike = torch.cat([original((1, *shape[1:]), generator=other.manual_seed(towards), **more)] * shape[0])
        return slerp(first, alike, share)

    try:
        module.randn_tensor = noise  # type: ignore[attr-defined]
        yield
    finally:
        module.randn_tensor = original  # type: ignore[attr-defined]


def slerp(one: Any, other: Any, share: float) -> Any:
    """Between two noises of one shape along a great circle; `share` 0 is the first, 1 the second.

    Source: Shoemake 1985, spherical linear interpolation.
    """
    if share >= 1:
        return other
    a, b = one.flatten(1).float(), other.flatten(1).float()
    dot = ((a / a.norm(dim=1, keepdim=True)) * (b / b.norm(dim=1, keepdim=True))).sum(1, keepdim=True).clamp(-1, 1)
    angle = dot.acos()
    sine = angle.sin().clamp(min=1e-6)
    mixed = (((1 - share) * angle).sin() / sine) * a + ((share * angle).sin() / sine) * b
    return mixed.reshape(one.shape).to(one.dtype)
