"""Pictures enlarged by networks: whatever spandrel knows, from safetensors files only.

A picture that fits into memory goes through the network in one piece and comes out as bare spandrel gives it. A larger
one is done in overlapping tiles, whose outer parts (where the network lacks surroundings) are thrown away and whose
seams are faded into each other. Knows tensors and tiles; knows nothing of queues or windows.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import platform
import sys
import time
import traceback
import types
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from PIL import Image

from studio.core.cards import Broken, ModelCard
from studio.core.plans import Plan
from studio.core.problems import (
    BadResult,
    BadSetting,
    EngineMissing,
    ModelBroken,
    ModelMissing,
    ModelRefused,
    ModelUnfit,
    OutOfMemory,
    StudioError,
)
from studio.core.recipes import MadeWith, Recipe, UpscaleRecipe
from studio.core.works import Result
from studio.engines import device as devices
from studio.engines.context import RunContext
from studio.engines.image import editing, opening, saving, trouble
from studio.models.safetensors_header import read_safetensors

ENGINE = "image.upscale"

OVERLAP = 32  # px that neighbouring tiles share; half of it is faded, a quarter on each side is thrown away
SMALLEST = 64  # px, side of a tile; below that the shared parts outweigh the rest
SIDES = (1024, 768, 512, 384, 256, 192, 128, 96, SMALLEST)
LARGEST = {"cpu": 512}  # device -> px; on a processor a larger tile is no faster and holds more memory
LARGEST_ELSEWHERE = 1024
SHARE = 0.5  # of the free memory that a tile may take
KEPT = 3.0  # how many of its widest layers a network holds at once, by estimate: skips, concatenations, work space
_PROBE = 64  # px
_TELL_SECONDS = 0.25  # between two reports of progress within a tile
_HALF = ("float16", "bfloat16")

_ASKED = "Install it with “pip install --no-deps spandrel einops”: its other dependency, torchvision, must stay away."


class Upscaling:
    """The engine "image.upscale"; see studio/engines/base.py for the contract."""

    kind: ClassVar[str] = "upscale"

    def __init__(self) -> None:
        self._upscaler: Upscaler | None = None
        self._loaded: tuple[ModelCard, str, str] | None = None
        self._plan = Plan()

    def load(self, card: ModelCard, plan: Plan, ctx: RunContext) -> None:
        """Make an upscaler ready; what is loaded already and fits the plan stays.

        Raises:
            BadSetting: the device is not there. ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing,
            OutOfMemory.
        """
        import torch

        try:
            device, dtype = devices.pick(plan.device, plan.dtype, weights=card.needs.weights)
        except BadSetting:
            if not plan.again:
                raise
            device, dtype = devices.pick("auto", "auto", weights=card.needs.weights)  # made on another computer
        torch.set_num_threads(max(1, plan.threads))
        self._plan = plan
        wanted = (card, device, plan.dtype if plan.dtype != "auto" else f"auto:{dtype}")
        if self._upscaler is not None and self._loaded == wanted:
            return
        self.unload()
        ctx.check()
        ctx.loading(card.name)
        self._upscaler = open_upscaler(card, device, dtype, choose=plan.dtype == "auto")
        self._loaded = wanted
        ctx.loading(card.name, 1.0)

    def run(self, recipe: Recipe, ctx: RunContext) -> Result:
        """Enlarge one picture.

        Raises:
            BadRecipe: the result would be too large. NotFound, NotRead: the picture itself.
            BadResult: the network gave numbers that are not finite. OutOfMemory. OSError: the disk refuses.
        """
        if not isinstance(recipe, UpscaleRecipe):
            raise ModelUnfit("An upscaler enlarges pictures and makes none.")
        if self._upscaler is None:
            raise ModelMissing("No upscaler is loaded.")
        ctx.check()
        began = time.perf_counter()
        picture = opening.open_picture(ctx.input(recipe.image), ctx.note)
        size = editing.times(picture.size, recipe.factor, "factor")
        try:
            made = self._upscaler.enlarge(picture, size, ctx, tile=recipe.tile)
        finally:
            trouble.give_back(self._upscaler.device)
        ctx.check()
        own = msgspec.structs.replace(recipe, made_with=self.made_with())
        artifacts = saving.save(made, 0, None, time.perf_counter() - began, own, ctx)
        return Result(artifacts=tuple(artifacts), made_with=self.made_with(), notes=tuple(ctx.notes))

    def unload(self) -> None:
        """Let go of the model and give its memory back to the system."""
        if self._upscaler is not None:
            device, self._upscaler, self._loaded = self._upscaler.device, None, None
            trouble.give_back(device)

    def made_with(self) -> MadeWith:
        upscaler = self._upscaler
        return MadeWith(
            engine=ENGINE,
            device=upscaler.device if upscaler else "cpu",
            dtype=upscaler.dtype if upscaler else "",
            threads=self._plan.threads,
            versions=_versions(),
            system=f"{platform.system()} {platform.machine()}",
        )


@functools.cache  # reading a package's metadata takes milliseconds
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("torch", "spandrel", "pillow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# -- opening


def open_upscaler(card: ModelCard, device: str, dtype: str, *, choose: bool = True) -> Upscaler:
    """Read an upscaler's weights.

    Args:
        device, dtype: from `device.pick`. choose: a half-precision dtype was picked and not asked for by name; then
            the finer of the two that the network can do is taken.

    Raises:
        ModelMissing, ModelBroken, ModelRefused, ModelUnfit, EngineMissing, OutOfMemory.
    """
    path = Path(card.path)
    _look_at(path, card.name)
    spandrel = load_spandrel()
    try:
        described = spandrel.ModelLoader(device="cpu").load_from_file(path)
        if not isinstance(described, spandrel.ImageModelDescriptor):
            raise ModelUnfit(f"“{card.name}” fills in parts of pictures; it does not enlarge them.")
        if (described.input_channels, described.output_channels) not in ((1, 1), (3, 3), (4, 4)):
            raise ModelUnfit(
                f"“{card.name}” turns {described.input_channels} channels into {described.output_channels},"
                " which is no enlarging of a picture."
            )
        return Upscaler(described, card.name, device, _suited(described, dtype, choose))
    except StudioError:
        raise
    except spandrel.UnsupportedModelError as error:
        raise ModelUnfit(
            f"“{card.name}” is not an upscaler that spandrel knows.", "Choose another one.", detail=repr(error)
        ) from error
    # a network's shape is read out of its weights, and weights that lie make that fail in all of these ways
    except (
        RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, ArithmeticError,
        MemoryError,
    ) as error:  # fmt: skip
        if trouble.is_out_of_memory(error):
            raise trouble.out_of_memory(error, f"loading the upscaler “{card.name}”", device) from error
        raise ModelBroken(
            f"The upscaler “{card.name}” is broken: {trouble.first_line(error)}.", "Copy or download it again.",
            detail="".join(traceback.format_exception(error))[-4000:],
        ) from error  # fmt: skip


def _look_at(path: Path, name: str) -> None:
    """Refuse what is not a sound safetensors file, by its name and its header."""
    if not path.exists():
        raise ModelMissing(f"The upscaler “{name}” is gone.", "Was it moved or deleted?", detail=str(path))
    if path.suffix.lower() != ".safetensors":
        raise ModelRefused(
            f"The upscaler “{name}” is refused: only safetensors files are read, because a pickle can run code when"
            " opened.",
            "Look for a safetensors version of it, or convert it.",
        )
    found = read_safetensors(path)
    if isinstance(found, Broken):
        error = ModelRefused if found.code == "model_refused" else ModelBroken
        raise error(f"The upscaler “{name}” cannot be used: {found.why}.", found.hint)


def _suited(described: Any, dtype: str, choose: bool) -> str:
    """The number format to compute in: half precision where it was picked and the network can do it."""
    able = {"float16": described.supports_half, "bfloat16": described.supports_bfloat16}
    if dtype not in _HALF:
        return dtype
    if choose and able["float16"]:
        return "float16"  # eight bits of precision, as bfloat16 has, show as bands in a smooth sky
    return dtype if able[dtype] else "float32"


def load_spandrel() -> Any:
    """Import spandrel beside a stand-in for torchvision, which is taken away again before this returns.

    Two of spandrel's forty architectures import two functions of torchvision. torchvision itself does not work beside
    a CPU build of torch, and diffusers and transformers look whether it is there: they must not find the stand-in.

    Raises:
        EngineMissing: spandrel or einops is not installed.
    """
    if (already := sys.modules.get("spandrel")) is not None:
        return already
    own = {} if "torchvision" in sys.modules else _stand_in()
    sys.modules.update(own)
    try:
        return importlib.import_module("spandrel")
    except ImportError as error:
        raise EngineMissing(
            f"Enlarging with a network needs {error.name or 'spandrel'}, which is not installed.", _ASKED,
            detail=repr(error),
        ) from error  # fmt: skip
    finally:
        for name in own:
            sys.modules.pop(name, None)


def _stand_in() -> dict[str, types.ModuleType]:
    """torchvision as far as spandrel imports it."""

    def normalize(tensor: Any, mean: Any, std: Any, inplace: bool = False) -> Any:
        """(x − mean) / std for each channel of a (…, C, H, W) tensor."""
        shaped = [tensor.new_tensor(values).view(-1, 1, 1) for values in (mean, std)]
        return tensor.sub_(shaped[0]).div_(shaped[1]) if inplace else (tensor - shaped[0]) / shaped[1]

    def rotate(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("only a network that fills in parts of pictures turns them")

    made = {name: types.ModuleType(name) for name in ("torchvision", "torchvision.transforms")}
    functions = types.ModuleType("torchvision.transforms.functional")
    vars(functions).update(
        normalize=normalize, rotate=rotate, InterpolationMode=types.SimpleNamespace(BILINEAR="bilinear")
    )
    return {**made, functions.__name__: functions}


# -- enlarging


def enlarged(
    picture: Image.Image, factor: float, upscaler: str, ctx: RunContext, *, device: str = "auto", dtype: str = "auto"
) -> Image.Image:
    """A picture enlarged as a part of another job; the network is loaded for it and let go of again.

    Args:
        picture: mode RGB or RGBA. upscaler: id of a card that `ctx` has. device, dtype: as in a Plan.

    Raises:
        BadRecipe: the result would be too large. What loading and enlarging raise, see Upscaling.
    """
    card = ctx.card(upscaler)
    size = editing.times(picture.size, factor, "enlarge")
    place, number = devices.pick(device, dtype, weights=card.needs.weights)
    try:
        loaded = open_upscaler(card, place, number, choose=dtype == "auto")
        return loaded.enlarge(picture, size, ctx, quiet=True)
    finally:
        trouble.give_back(place)


class _NotFinite(Exception):
    """NaN or infinity came out."""


class Upscaler:
    """A loaded network.

    Args:
        described: spandrel's descriptor. name: what it is called in sentences.
        device, dtype: where and in which number format it computes.
    """

    def __init__(self, described: Any, name: str, device: str, dtype: str) -> None:
        import torch

        self.described = described
        self.name = name
        self.device = device
        self.dtype = dtype
        self.scale = int(described.scale)
        self.channels = int(described.input_channels)
        described.model.eval()
        for parameter in described.model.parameters():
            parameter.requires_grad = False
        described.model.to(device=torch.device(device), dtype=getattr(torch, dtype))
        self._calls = 0  # of layers in one pass through the network, and
        self._per_pixel = 0.0  # bytes one pixel of a tile takes; both 0 until they were measured

    def enlarge(
        self, picture: Image.Image, size: tuple[int, int], ctx: RunContext, tile: int = 0, *, quiet: bool = False
    ) -> Image.Image:
        """A picture in another size: through the network as often as it takes, then by Lanczos to the exact size.

        Args:
            picture: mode RGB or RGBA. size: width and height that come out, px.
            tile: side of the tiles, px; 0 decides by the memory that is free.
            quiet: tell no progress, where this is a part of another job.

        Returns:
            A picture of the same mode. Opacity is enlarged by Lanczos, unless the network has a channel for it.

        Raises:
            BadResult, OutOfMemory, JobCancelled.
        """
        passes = self.passes(picture.size, size)
        report = _Report(ctx, passes, quiet)
        for number in range(passes):
            if picture.width * picture.height * self.scale**2 > opening.PIXELS_LIMIT:
                # the last pass would make more than anyone can open: let it land on the size that is wanted
                picture = picture.resize((-(-size[0] // self.scale), -(-size[1] // self.scale)), editing.LANCZOS)
                ctx.note("It was made smaller before its last enlarging, which would have made too many pixels.")
            report.number = number
            picture = self._passed(picture, tile, report)
        report.end()
        return editing.resized(picture, size)

    def passes(self, size: tuple[int, int], wanted: tuple[int, int]) -> int:
        """How often a picture goes through the network; at least once."""
        if self.scale <= 1:
            return 1
        factor = max(wanted[0] / size[0], wanted[1] / size[1])
        return max(1, math.ceil(math.log(factor, self.scale) - 1e-6)) if factor > 1 else 1

    def _passed(self, picture: Image.Image, tile: int, report: _Report) -> Image.Image:
        """Once through the network."""
        wide, high = (side * self.scale for side in picture.size)
        if self.channels == 4:
            made = Image.fromarray(self._pixels(np.asarray(picture.convert("RGBA")), tile, report))
            return made if picture.mode == "RGBA" else made.convert("RGB")
        if self.channels == 1:
            made = self._with_lightness(picture.convert("RGB"), tile, report)
        else:
            made = Image.fromarray(self._pixels(np.asarray(picture.convert("RGB")), tile, report))
        if picture.mode == "RGBA":
            made.putalpha(picture.getchannel("A").resize((wide, high), editing.LANCZOS))
        return made

    def _with_lightness(self, picture: Image.Image, tile: int, report: _Report) -> Image.Image:
        """For networks that know grey only: they get the lightness, and the colours follow by Lanczos."""
        red, green, blue = picture.split()
        grey = red.tobytes() == green.tobytes() == blue.tobytes()
        # by way of YCbCr grey would be rounded twice
        lightness, *colours = (red,) if grey else picture.convert("YCbCr").split()
        seen = Image.fromarray(self._pixels(np.asarray(lightness)[..., np.newaxis], tile, report)[..., 0])
        if grey:
            return Image.merge("RGB", [seen] * 3)
        larger = [channel.resize(seen.size, editing.LANCZOS) for channel in colours]
        return Image.merge("YCbCr", [seen, *larger]).convert("RGB")

    def _pixels(self, pixels: np.ndarray, tile: int, report: _Report) -> np.ndarray:
        """(H, W, C) bytes through the network; with smaller tiles where memory runs out."""
        high, wide = pixels.shape[:2]
        side = tile or self._side(wide, high)
        while True:
            try:
                return self._tiled(pixels, max(side, SMALLEST), report)
            except _NotFinite:
                if self.dtype == "float32":
                    raise BadResult(
                        f"The upscaler “{self.name}” gave numbers that are not finite.",
                        "Its file may be damaged: copy or download it again, or choose another one.",
                    ) from None
                self._to_float32(report)
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError, MemoryError) as error:
                if trouble.is_lost_device(error):
                    raise
                if not trouble.is_out_of_memory(error):
                    raise ModelUnfit(
                        f"The upscaler “{self.name}” could not enlarge this: {trouble.first_line(error)}.",
                        "Choose another one.", detail="".join(traceback.format_exception(error))[-6000:],
                    ) from error  # fmt: skip
                # the frames of the failed call hold its tensors
                traceback.clear_frames(error.__traceback__)
                trouble.give_back(self.device)
                side = min(side, max(wide, high))
                if side <= SMALLEST:
                    raise self._short_of_memory(error, wide, high) from error
                side = max(SMALLEST, side // 2)
                report.note(f"Memory ran out, so it was enlarged in tiles of {side} px.")

    def _short_of_memory(self, error: BaseException, wide: int, high: int) -> OutOfMemory:
        return trouble.out_of_memory(error, f"enlarging {wide}×{high} px with “{self.name}”", self.device)

    def _to_float32(self, report: _Report) -> None:
        import torch

        report.note(f"{self.dtype} was too coarse for this upscaler; it was done in float32.")
        self.described.model.to(dtype=torch.float32)
        self.dtype, self._per_pixel = "float32", 0.0

    # -- one pass, in tiles

    def _tiled(self, pixels: np.ndarray, side: int, report: _Report) -> np.ndarray:
        high, wide = pixels.shape[:2]
        multiple = int(self.described.size_requirements.multiple_of)
        rows, columns = spread(high, side, multiple), spread(wide, side, multiple)
        made = np.empty((high * self.scale, wide * self.scale, pixels.shape[2]), np.uint8)
        report.tiles = len(rows) * len(columns)
        with self._watched(report):
            if report.tiles == 1:
                report.tile = 0
                made[:] = _bytes(self._through(pixels))
                return made
            strip = _Strip(made, [cell.enlarged(self.scale) for cell in rows])
            across = [cell.enlarged(self.scale) for cell in columns]
            for row, down in enumerate(rows):
                band = strip.band(row)
                for column, along in enumerate(columns):
                    report.tile = row * len(columns) + column
                    part = self._through(pixels[down.start : down.end, along.start : along.end])
                    place = across[column]
                    band[:, place.start : place.end] += part * place.weights()[np.newaxis, :, np.newaxis]
                strip.done(row)
        return made

    def _through(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, C) bytes through the network as (H·s, W·s, C) float32 from 0 to 1."""
        import torch

        tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).unsqueeze(0)  # a copy: pillow's are read-only
        tensor = (tensor.to(self.device).float() / 255).to(getattr(torch, self.dtype))
        out = self.described(tensor)[0]
        if not bool(torch.isfinite(out).all()):
            raise _NotFinite
        seen: np.ndarray = out.permute(1, 2, 0).float().cpu().numpy()
        wanted = pixels.shape[0] * self.scale, pixels.shape[1] * self.scale, pixels.shape[2]
        if seen.shape != wanted:
            raise BadResult(
                f"The upscaler “{self.name}” gave {seen.shape[1]}×{seen.shape[0]} px where {wanted[1]}×{wanted[0]} px"
                " were due.",
                "Choose another one.",
            )
        return seen

    @contextlib.contextmanager
    def _watched(self, report: _Report) -> Iterator[None]:
        """Between any two layers: hear a cancel, and tell how far it is."""
        handles = [layer.register_forward_pre_hook(report.layer) for layer in _layers(self.described.model)]
        report.calls = self._calls
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    # -- how large a tile may be

    def _side(self, wide: int, high: int) -> int:
        """The side of the tiles: as large as the free memory allows; the whole picture where it is wiser."""
        most = LARGEST.get(self.device.partition(":")[0], LARGEST_ELSEWHERE)
        free = trouble.free_memory(self.device)
        self._measure()
        room = free * SHARE / self._per_pixel if free is not None else float(most * most)
        longest = max(wide, high)
        tiling = self.described.tiling.name
        if tiling == "INTERNAL" or (tiling == "DISCOURAGED" and wide * high <= room):
            return longest
        if longest <= most and wide * high <= room:
            return longest
        return next((side for side in SIDES if side <= most and side * side <= room), SMALLEST)

    def _measure(self) -> None:
        """Pass a small grey picture through the network, and see how wide it becomes inside."""
        if self._per_pixel:
            return
        widest = [0]
        calls = [0]

        def look(_: Any, given: Any, made: Any) -> None:
            calls[0] += 1
            numbers = sum(t.numel() * t.element_size() for t in (*given, made) if hasattr(t, "numel"))
            widest[0] = max(widest[0], numbers)

        handles = [layer.register_forward_hook(look) for layer in _layers(self.described.model)]
        try:
            with contextlib.suppress(_NotFinite):
                self._through(np.full((_PROBE, _PROBE, self.channels), 128, np.uint8))
        finally:
            for handle in handles:
                handle.remove()
        self._calls = calls[0]
        self._per_pixel = KEPT * max(widest[0], 1) / _PROBE**2


def _layers(model: Any) -> list[Any]:
    return [module for module in model.modules() if not any(True for _ in module.children())]


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


class _Report:
    """Progress over passes, tiles and layers, and the ear for a cancel."""

    def __init__(self, ctx: RunContext, passes: int, quiet: bool = False) -> None:
        self._ctx = ctx
        self._quiet = quiet
        self._told = 0.0
        self._layers = 0
        self._tile = self.number = 0
        self.passes, self.tiles, self.calls = passes, 1, 0

    @property
    def tile(self) -> int:
        return self._tile

    @tile.setter
    def tile(self, tile: int) -> None:
        self._tile, self._layers = tile, 0
        self._tell(0.0)

    def note(self, text: str) -> None:
        self._ctx.note(text)

    def layer(self, *_: Any) -> None:
        """Called before each layer."""
        self._ctx.check()
        self._layers += 1
        if self.calls and time.monotonic() - self._told > _TELL_SECONDS:
            self._tell(min(0.99, self._layers / self.calls))

    def end(self) -> None:
        if not self._quiet:
            self._ctx.progress(self.passes, self.passes, "passes", "enlarging")

    def _tell(self, within: float) -> None:
        self._ctx.check()
        if self._quiet:
            return
        self._told = time.monotonic()
        done = self.number + (self._tile + within) / max(1, self.tiles)
        self._ctx.progress(done, self.passes, "passes", "enlarging")


# -- tiles


class Cell(msgspec.Struct, frozen=True):
    """One tile along one axis, px.

    Attributes:
        start, end: what goes through the network. rise: (from, to) where it takes over from the tile before, None for
            the first; fall: where the next one takes over, None for the last.
    """

    start: int
    end: int
    rise: tuple[float, float] | None
    fall: tuple[float, float] | None

    def enlarged(self, scale: int) -> Cell:
        def by(pair: tuple[float, float] | None) -> tuple[float, float] | None:
            return (pair[0] * scale, pair[1] * scale) if pair is not None else None

        return Cell(self.start * scale, self.end * scale, by(self.rise), by(self.fall))

    def weights(self) -> np.ndarray:
        """How much each pixel from `start` to `end` counts; over all tiles they add up to 1 at every place."""
        middles = np.arange(self.start, self.end, dtype=np.float32) + 0.5
        weight = np.ones(len(middles), np.float32)
        if self.rise is not None:
            weight *= _ramp(middles, *self.rise)
        if self.fall is not None:
            weight *= 1 - _ramp(middles, *self.fall)
        return weight


def _ramp(places: np.ndarray, low: float, high: float) -> np.ndarray:
    ramp: np.ndarray = np.clip((places - low) / (high - low), 0, 1)
    return ramp


def spread(length: int, side: int, multiple: int = 1, overlap: int = OVERLAP) -> list[Cell]:
    """Tiles along one axis: equal in size, evenly spread, as small as their number allows.

    Args:
        length: of the axis, px. side: the most a tile may have. multiple: what a tile's side should be divisible by.
    """
    if length <= side:
        return [Cell(0, length, None, None)]
    overlap = min(overlap, side // 4)
    count = math.ceil((length - overlap) / (side - overlap))
    fair = math.ceil((length + (count - 1) * overlap) / count)
    fair = min(max(fair, 3 * overlap), length)  # with less, a ramp could reach beyond the neighbour's
    fair = min(math.ceil(fair / multiple) * multiple, length)
    starts = [round(i * (length - fair) / (count - 1)) for i in range(count)]
    ramps = []
    for before, after in pairwise(starts):
        middle = (before + fair + after) / 2
        ramps.append((middle - overlap / 4, middle + overlap / 4))
    return [
        Cell(start, start + fair, ramps[i - 1] if i else None, ramps[i] if i < len(ramps) else None)
        for i, start in enumerate(starts)
    ]


class _Strip:
    """Rows of tiles, faded into each other from above to below, without holding the picture as fractions.

    A row of tiles overlaps the next; only what they share is kept until the next one is there.
    """

    def __init__(self, made: np.ndarray, rows: list[Cell]) -> None:
        self._made = made
        self._rows = rows
        self._band = np.empty(0)
        self._over: tuple[int, np.ndarray] | None = None  # where what is kept begins, and the weighted numbers

    def band(self, row: int) -> np.ndarray:
        """Zeros to add up the row's tiles in."""
        cell = self._rows[row]
        self._band = np.zeros((cell.end - cell.start, *self._made.shape[1:]), np.float32)
        return self._band

    def done(self, row: int) -> None:
        cell = self._rows[row]
        band = self._band * cell.weights()[:, np.newaxis, np.newaxis]
        if self._over is not None:
            begin, kept = self._over
            band[begin - cell.start : begin - cell.start + len(kept)] += kept
        last = row == len(self._rows) - 1
        ready = cell.end if last else self._rows[row + 1].start
        self._made[cell.start : ready] = _bytes(band[: ready - cell.start])
        self._over = None if last else (ready, band[ready - cell.start :])
