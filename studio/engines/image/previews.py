"""Small pictures of a job under way, from a linear map of latents to colours.

The map is fitted once per autoencoder: the shipped pictures go through the model's own encoder and decoder, and least
squares finds the affine map from one latent position to the mean colour of the pixels the decoder makes of it. Knows
forms of latents and autoencoders; knows nothing of jobs. Never touches a random generator or the pipeline's own
tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from studio.core.files import write_durably
from studio.core.paths import assets_folder
from studio.engines.image import trouble

VERSION = 2  # of the fitting; part of the cache's key
SIDE = 256  # px, longest side of a preview
QUALITY = 70


class NoPreview(Exception):
    """This model's latents cannot be shown; the text says why, in one clause."""


def autoencoder(pipe: Any) -> Any:
    """The part of a pipeline that turns latents into pixels.

    Raises:
        NoPreview: there is none, or it cannot encode.
    """
    for name in ("vae", "movq", "vqgan"):
        found = getattr(pipe, name, None)
        if found is not None and hasattr(found, "encode") and hasattr(found, "config"):
            return found
    raise NoPreview("it has no autoencoder that could be asked")


def fit(vae: Any, check: Callable[[], None] = lambda: None) -> np.ndarray:
    """Fit the map from one raw latent position to a colour.

    Args:
        vae: an autoencoder as diffusers builds them. It is used as it stands; one that must not run in float16 is put
            into float32 meanwhile (exact both ways).
        check: called between pictures; whatever it raises passes.

    Returns:
        (C + 1, 3), float64: rows are the latent channels and the constant; colours are 0…255.

    Raises:
        NoPreview: the encoder does not give what this file can read.
    """
    files = sorted((assets_folder() / "pictures").glob("*.webp"))
    rows, colours = [], []
    with _encodable(vae), torch.no_grad():
        side = 128
        for path in files:
            check()
            latent = _encoded(vae, _opened(path, side))
            if latent.shape[-2] * latent.shape[-1] < 64 and side == 128:
                # strong compression leaves too few positions to tell the channels apart: take the full pictures
                side = 256
                latent = _encoded(vae, _opened(path, side))
            # The decoder's picture, not the one that went in: it is what a preview has to foretell, and it differs
            # where the model is narrow (measured on the starter: mean error of 20 instead of 31 of 255).
            rows.append(_flat(latent))
            colours.append(_flat(_decoded(vae, latent)))
    if not rows:
        raise NoPreview("the pictures to fit it on are missing")
    given, wanted = np.concatenate(rows), np.concatenate(colours)
    if not (np.isfinite(given).all() and np.isfinite(wanted).all()):
        raise NoPreview("its autoencoder gives numbers that are not finite")
    solution, *_ = np.linalg.lstsq(np.concatenate([given, np.ones((len(given), 1))], 1), wanted, None)
    return solution


def cached_fit(vae: Any, cache_dir: Path, check: Callable[[], None] = lambda: None) -> np.ndarray:
    """`fit()`, kept in `cache_dir` under a name made from the autoencoder's settings and samples of its weights."""
    path = cache_dir / f"latent-colours-{_fingerprint(vae)}.json"
    try:
        kept = np.asarray(json.loads(path.read_bytes()), dtype=np.float64)
        if kept.ndim == 2 and kept.shape[1] == 3 and np.isfinite(kept).all():
            return kept
    except (OSError, ValueError, TypeError):
        pass  # not there or not readable: fit it again
    fitted = fit(vae, check)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(fitted.tolist()).encode())
    return fitted


class Previewer:
    """Turns the latents of one pipeline into small JPEGs.

    Args:
        pipe: the pipeline; only read.
        colours: from `fit()`.
        width, height: size of the finished picture, px.
    """

    def __init__(self, pipe: Any, colours: np.ndarray, width: int, height: int) -> None:
        self._pipe = pipe
        self._vae = autoencoder(pipe)
        self._channels = len(colours) - 1
        self._width, self._height = width, height
        self._factor = int(getattr(pipe, "vae_scale_factor", 0) or 8)
        mean, std = _normal(self._vae, self._channels)
        # latents = (raw - mean) / std, so raw @ W + b = latents @ (std * W) + (mean @ W + b)
        self._normal = (
            (std[:, None] * colours[:-1]).astype(np.float32), (mean @ colours[:-1] + colours[-1]).astype(np.float32),
        )  # fmt: skip
        # the patch-wise normalisation of Flux 2 is undone before, and leads to raw latents
        self._raw = (colours[:-1].astype(np.float32), colours[-1].astype(np.float32))

    def jpeg(self, latents: torch.Tensor) -> bytes:
        """One picture of `latents` as they are now.

        Args:
            latents: (B, C, H, W), (B, C, F, H, W), packed (B, L, C·p²) or (B, C·p², H, W). The first of the batch is
                shown. Copied before anything else happens, on the caller's thread, so the pipeline may go on.

        Returns:
            JPEG bytes, at most SIDE px.

        Raises:
            NoPreview: the form is unknown.
        """
        copy = latents[:1].detach().to("cpu", torch.float32, copy=True)
        grid, raw = self._grid(copy)
        weights, constant = self._raw if raw else self._normal
        values = grid.numpy()
        # Variance-exploding schedulers start at a spread of 14 and more: shrink noise to the spread of pictures.
        spread = float(values.std())
        if math.isfinite(spread) and spread > 1.5 and not raw:
            values = values * np.float32(1.5 / spread)
        # numpy's own loop, not torch's or BLAS's threads: on a busy machine those wait for each other far longer than
        # these few numbers take
        pixels = np.einsum("chw,ck->hwk", values, weights, optimize=False) + constant
        pixels = np.clip(np.nan_to_num(pixels), 0, 255).astype(np.uint8)
        scale = min(1.0, SIDE / max(self._width, self._height))
        size = (max(1, round(self._width * scale)), max(1, round(self._height * scale)))
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=QUALITY)
        return out.getvalue()

    def _grid(self, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """(C, H, W), and whether it is in the autoencoder's own scale already."""
        c = self._channels
        if x.ndim == 5 and x.shape[1] == c:
            return x[0, :, 0], False
        if x.ndim == 5 and x.shape[2] == c:
            return x[0, 0], False
        if x.ndim == 4 and x.shape[1] == c:
            return x[0], False
        if x.ndim == 4 and x.shape[1] == 4 * c:
            return self._unfolded(x[0])
        if x.ndim == 3:
            own = self._own_unpacking(x)
            if own is not None:
                return own, False
            patch = math.isqrt(x.shape[2] // c) if x.shape[2] % c == 0 else 0
            high, wide = self._rows_and_columns(x.shape[1])
            if patch in (1, 2, 4) and c * patch * patch == x.shape[2] and high:
                return self._unfolded(x[0].T.reshape(-1, high, wide))
        raise NoPreview(f"its latents have a form that is not known here ({'×'.join(map(str, x.shape))})")

    def _unfolded(self, x: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """(C·p², H, W) to (C, H·p, W·p); channels count slowest, as Flux packs them."""
        norm, raw = getattr(self._vae, "bn", None), False
        if norm is not None and getattr(norm, "num_features", 0) == x.shape[0]:
            std = torch.sqrt(norm.running_var.detach().to("cpu", torch.float32) + self._vae.config.batch_norm_eps)
            mean = norm.running_mean.detach().to("cpu", torch.float32)
            x, raw = x * std[:, None, None] + mean[:, None, None], True
        patch = math.isqrt(x.shape[0] // self._channels)
        return torch.nn.functional.pixel_shuffle(x, patch), raw

    def _own_unpacking(self, x: torch.Tensor) -> torch.Tensor | None:
        """The pipeline's own `_unpack_latents`, where it has one of the common form."""
        unpack = getattr(self._pipe, "_unpack_latents", None)
        if unpack is None or list(inspect.signature(unpack).parameters) != [
            "latents", "height", "width", "vae_scale_factor",
        ]:  # fmt: skip
            return None
        try:
            out = unpack(x, self._height, self._width, self._factor)
        except (RuntimeError, ValueError):
            return None  # another packing than its name says: fall back to the general way
        if out.ndim == 5:
            out = out[:, :, 0]
        return out[0] if out.ndim == 4 and out.shape[1] == self._channels else None

    def _rows_and_columns(self, positions: int) -> tuple[int, int]:
        """How `positions` lie on the picture: rows and columns, or (0, 0) if they do not fill it."""
        step = math.sqrt(self._width * self._height / positions)
        high, wide = round(self._height / step), round(self._width / step)
        return (high, wide) if high * wide == positions else (0, 0)


def _normal(vae: Any, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread by which pipelines take raw latents to the ones they denoise, each (C,)."""
    config = vae.config
    scale = float(config.get("scaling_factor") or 1.0)
    mean = np.full(channels, float(config.get("shift_factor") or 0.0))
    std = np.ones(channels)
    if _is_list(config.get("latents_mean"), channels):
        mean = np.asarray(config["latents_mean"], dtype=np.float64).reshape(channels)
    if _is_list(config.get("latents_std"), channels):
        std = np.asarray(config["latents_std"], dtype=np.float64).reshape(channels)
    return mean, std / scale


def _is_list(value: Any, channels: int) -> bool:
    return isinstance(value, (list, tuple)) and np.asarray(value).size == channels


def _opened(path: Path, side: int) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB").resize((side, side), Image.Resampling.BOX)


def _encoded(vae: Any, image: Image.Image) -> torch.Tensor:
    """Raw latents of one picture, (1, C, H, W) or (1, C, 1, H, W), where the autoencoder is."""
    parameter = next(vae.parameters())
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    pixels = pixels.to(parameter.device, parameter.dtype)
    if any(isinstance(m, torch.nn.Conv3d) for m in vae.modules()):
        pixels = pixels[:, :, None]  # an autoencoder of films: one frame
    try:
        out = vae.encode(pixels)
    except (RuntimeError, ValueError, TypeError) as error:
        raise _unsuited(error) from error
    if hasattr(out, "latent_dist"):
        found = out.latent_dist.mode()
    else:
        found = getattr(out, "latents", getattr(out, "latent", None))
    if not isinstance(found, torch.Tensor) or not (found.ndim == 4 or (found.ndim == 5 and found.shape[2] == 1)):
        raise NoPreview("its encoder does not give latents on a grid")
    return found


def _decoded(vae: Any, latent: torch.Tensor) -> torch.Tensor:
    """The colours the decoder makes of `latent`, averaged over the pixels of each position: (1, 3, H, W), 0…255."""
    try:
        pixels = vae.decode(latent, return_dict=False)[0]
    except (RuntimeError, ValueError, TypeError) as error:
        raise _unsuited(error) from error
    pixels = pixels[:, :, 0] if pixels.ndim == 5 else pixels
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise NoPreview("its decoder does not give colours")
    colours = (pixels.float().clamp(-1, 1) + 1) * 127.5
    # area interpolation is the exact box filter where one side divides the other, as it does for all autoencoders here
    return torch.nn.functional.interpolate(colours, size=tuple(latent.shape[-2:]), mode="area")


def _flat(x: torch.Tensor) -> np.ndarray:
    """(1, K, [1,] H, W) to (H·W, K), float64."""
    return x.to("cpu", torch.float64).flatten(2)[0].T.numpy()


def _unsuited(error: Exception) -> Exception:
    """Memory that ran out stays what it is: the next job may have more. All else is the autoencoder's kind."""
    if trouble.is_out_of_memory(error):
        return error
    return NoPreview(f"its autoencoder refused the pictures to fit it on ({str(error)[:80]})")


@contextlib.contextmanager
def _encodable(vae: Any) -> Iterator[None]:
    """Hold a VAE that overflows in float16 in float32; float16 to float32 and back is exact."""
    dtype = next(vae.parameters()).dtype
    upcast = dtype == torch.float16 and bool(vae.config.get("force_upcast"))
    if upcast:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype)


def _fingerprint(vae: Any) -> str:
    """Names an autoencoder: its settings, and 64 numbers from each of a few of its weights."""
    config = {k: v for k, v in sorted(vae.config.items()) if not k.startswith("_")}
    digest = hashlib.sha256(json.dumps([VERSION, type(vae).__name__, config], default=str, sort_keys=True).encode())
    parameters = list(vae.parameters())
    for parameter in parameters[:: max(1, len(parameters) // 8)]:
        numbers = parameter.detach().flatten()[:64].to("cpu", torch.float32)
        digest.update(f"{tuple(parameter.shape)}{parameter.dtype}".encode() + numbers.numpy().tobytes())
    return digest.hexdigest()[:24]
