"""Previews look like the picture, for every form of latents, and change nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studio.core.events import Preview
from studio.core.plans import Plan
from studio.core.recipes import SCHEDULERS, ImageRecipe
from studio.engines.image import previews, schedulers
from studio.engines.image.diffusion import Diffusion
from studio.engines.image.watching import Watch
from tests.engines.image import tiny

EngineOf = Callable[[str], Diffusion]


def seen(jpeg: bytes, side: int = 16) -> np.ndarray:
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX), dtype=float)


def test_the_last_preview_of_the_starter_looks_like_the_picture(engine_of: EngineOf, around: tiny.Around) -> None:
    engine_of("starter").run(
        ImageRecipe(prompt="a red apple, noto style", seed=4, steps=6, guidance=4.0, guidance_rescale=0.7), around.ctx
    )
    guess = seen(around.of(Preview)[-1].jpeg)
    truth = seen((around.out / "0.png").read_bytes())
    grey = truth.mean()
    assert np.abs(guess - truth).mean() < 0.6 * np.abs(grey - truth).mean()
    assert np.corrcoef(guess.ravel(), truth.ravel())[0, 1] > 0.8


def test_the_map_foretells_shipped_pictures_it_has_not_seen_decoded_at_this_size(engine_of: EngineOf) -> None:
    vae = engine_of("starter")._pipe.vae
    colours = previews.fit(vae)
    assert colours.shape == (9, 3)
    for path in sorted((tiny.STARTER.parents[1] / "pictures").glob("*.webp")):
        with torch.no_grad():
            latent = previews._encoded(vae, previews._opened(path, 96))
            truth = previews._flat(previews._decoded(vae, latent))
        guess = np.c_[previews._flat(latent), np.ones(12 * 12)] @ colours
        assert np.corrcoef(guess.ravel(), truth.ravel())[0, 1] > 0.6, path.name


def test_the_map_is_fitted_once_per_autoencoder(engine_of: EngineOf, tmp_path: Path) -> None:
    vae = engine_of("sd")._pipe.vae
    first = previews.cached_fit(vae, tmp_path)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns

    def never() -> None:
        raise AssertionError("fitted again")

    assert np.array_equal(previews.cached_fit(vae, tmp_path, never), first)
    assert kept.stat().st_mtime_ns == written
    kept.write_text("[[1, 2")  # a cache may be damaged
    assert np.allclose(previews.cached_fit(vae, tmp_path), first)
    other = engine_of("sdxl")._pipe.vae
    previews.cached_fit(other, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_fitting_leaves_the_weights_and_the_random_numbers_as_they_were(engine_of: EngineOf) -> None:
    vae = engine_of("sdxl")._pipe.vae  # the one that asks for float32
    vae.to(torch.float16)
    try:
        before = [p.detach().clone() for p in vae.parameters()]
        state = torch.get_rng_state()
        colours = previews.fit(vae)
        assert np.isfinite(colours).all()
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(before, vae.parameters(), strict=True))
    finally:
        vae.to(torch.float32)


def forms(channels: int) -> dict[str, Callable[[torch.Tensor], torch.Tensor]]:
    def packed(x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(b, (h // 2) * (w // 2), c * 4)

    return {
        "film, channels first": lambda x: x[:, :, None],
        "film, frames first": lambda x: x[:, None],
        "list of positions": lambda x: x.flatten(2).transpose(1, 2),
        "packed two by two": packed,
        "patches": lambda x: torch.nn.functional.pixel_unshuffle(x, 2),
    }


@pytest.mark.parametrize("form", forms(4))
def test_every_known_form_of_latents_gives_the_same_preview(form: str, engine_of: EngineOf) -> None:
    pipe = engine_of("sd")._pipe
    shower = previews.Previewer(pipe, previews.fit(pipe.vae), 96, 64)
    grid = torch.randn((1, 4, 8, 12), generator=torch.Generator().manual_seed(1))
    assert shower.jpeg(forms(4)[form](grid)) == shower.jpeg(grid)


def test_flux_latents_are_unpacked_as_flux_does(engine_of: EngineOf) -> None:
    pipe = engine_of("flux")._pipe
    shower = previews.Previewer(pipe, previews.fit(pipe.vae), 96, 64)
    grid = torch.randn((1, 4, 8, 12), generator=torch.Generator().manual_seed(1))
    assert shower.jpeg(pipe._pack_latents(grid, 1, 4, 8, 12)) == shower.jpeg(grid)


def test_latents_of_an_unknown_form_give_a_note_and_no_failure(
    engine_of: EngineOf, around: tiny.Around, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of("sd")
    wide = np.zeros((6, 3))  # a map for five channels, where there are four
    monkeypatch.setattr(engine, "_colours", None)  # another test may have asked for them
    monkeypatch.setattr(previews, "cached_fit", lambda *_: wide)
    result = engine.run(ImageRecipe(prompt="a red apple", seed=1, steps=2, width=64, height=64), around.ctx)
    assert around.of(Preview) == []
    assert any(n.startswith("No previews with this model: its latents have a form") for n in result.notes)


def test_a_preview_does_not_write_into_the_latents(engine_of: EngineOf) -> None:
    pipe = engine_of("sd")._pipe
    shower = previews.Previewer(pipe, previews.fit(pipe.vae), 64, 64)
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(1)) * 20
    latents[0, 0, 0, 0] = float("nan")
    before = latents.clone()
    shower.jpeg(latents)
    assert torch.equal(before.nan_to_num(), latents.nan_to_num())


def test_every_normalisation_leads_back_to_raw_latents() -> None:
    class Vae:
        config = {"scaling_factor": 2.0, "shift_factor": 0.5, "latents_mean": None}

    mean, std = previews._normal(Vae, 3)
    assert (list(mean), list(std)) == ([0.5] * 3, [0.5] * 3)
    Vae.config = {"latents_mean": [1, 2, 3], "latents_std": [4, 5, 6]}
    mean, std = previews._normal(Vae, 3)
    assert (list(mean), list(std)) == ([1, 2, 3], [4, 5, 6])


class Shown:
    """What one run painted, the latents each preview was made of, and those after each step."""

    def __init__(
        self, engine: Diffusion, folder: Path, monkeypatch: pytest.MonkeyPatch, every: int, **values: object
    ) -> None:  # fmt: skip
        self.shown: list[torch.Tensor] = []
        self.latents: list[torch.Tensor] = []
        own = Watch.step

        def jpeg(_: object, latents: torch.Tensor) -> bytes:
            self.shown.append(latents[:1].detach().float().clone())
            return b"jpeg"

        def step(watch: Watch, done: int, of: int, latents: torch.Tensor | None = None) -> None:
            if latents is not None:
                self.latents.append(latents[:1].detach().float().clone())
            own(watch, done, of, latents)

        around = tiny.Around(folder)
        with monkeypatch.context() as patch:
            patch.setattr(previews.Previewer, "jpeg", jpeg)
            patch.setattr(Watch, "step", step)
            engine.load(engine._card, Plan(device="cpu", threads=1, preview_every=every), around.ctx)
            engine.run(ImageRecipe(prompt="a red apple", seed=1, **values), around.ctx)
            engine.load(engine._card, Plan(device="cpu", threads=1), around.ctx)
        self.picture = (around.out / "0.png").read_bytes()

    def far(self, which: str, at: int) -> float:
        """How far what was shown, or the latents themselves, were from the last ones after step `at`."""
        return float((getattr(self, which)[at] - self.latents[-1]).square().mean().sqrt())


@pytest.mark.parametrize("name", ["model", *SCHEDULERS])
def test_previews_show_what_the_network_foresees_and_change_no_byte(
    name: str, engine_of: EngineOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"scheduler": name, "steps": 4, "guidance": 4.0, "width": 64, "height": 64}
    engine = engine_of("starter")
    run = Shown(engine, tmp_path / "shown", monkeypatch, 1, **values)
    assert Shown(engine, tmp_path / "unseen", monkeypatch, 0, **values).picture == run.picture
    assert len(run.shown) == len(run.latents) >= 4
    for at in (0, 1):
        assert run.far("shown", at) < 0.85 * run.far("latents", at), at
    assert torch.equal(run.shown[-1], run.latents[-1])
    assert "step" not in vars(engine._scheduler)


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "zimage"])
def test_every_family_foresees_and_paints_the_same(
    family: str, engine_of: EngineOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"steps": 4, "width": 64, "height": 64}
    engine = engine_of(family)
    asked: list[int] = []
    own = schedulers.denoised
    monkeypatch.setattr(schedulers, "denoised", lambda *given: asked.append(1) or own(*given))
    run = Shown(engine, tmp_path / "shown", monkeypatch, 2, **values)
    assert len(asked) == len(run.shown) == len(run.latents) // 2
    assert Shown(engine, tmp_path / "unseen", monkeypatch, 0, **values).picture == run.picture
    assert len(asked) == len(run.shown)
    assert not torch.equal(run.shown[0], run.latents[1])
    assert run.shown[0].shape == run.latents[1].shape


def test_a_scheduler_nobody_can_read_has_its_latents_shown(
    engine_of: EngineOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise AttributeError("sigmas")

    monkeypatch.setattr(schedulers, "denoised", unreadable)
    run = Shown(engine_of("sd"), tmp_path, monkeypatch, 1, steps=3, width=64, height=64)
    assert all(torch.equal(a, b) for a, b in zip(run.shown, run.latents, strict=True))
