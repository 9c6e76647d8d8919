"""Engines make works. They run in worker processes only; here are their names, and nothing is loaded."""

from __future__ import annotations

ENGINES: dict[str, str] = {
    # name -> "module:class"; by hand, so that it can be searched and frozen
    "text.llama": "studio.engines.text.llama:Llama",
    "image.diffusers": "studio.engines.image.diffusion:Diffusion",
    "image.edit": "studio.engines.image.editing:Editing",
    "image.upscale": "studio.engines.image.upscaling:Upscaling",
    "image.cutout": "studio.engines.image.cutout:Cutout",
    "image.sheet": "studio.engines.image.sheets:Sheets",
    "speech.piper": "studio.engines.audio.piper:Piper",
    "export.files": "studio.library.exports:Exporter",
}
