"""Engines make works. They run in worker processes only; here are their names, and nothing is loaded."""

from __future__ import annotations

ENGINES: dict[str, str] = {
    # name -> "module:class"; by hand, so that it can be searched and frozen
    "text.llama": "studio.engines.text.llama:Llama",
    "text.transformers": "studio.engines.text.transformers_engine:TransformersText",
    "image.diffusers": "studio.engines.image.diffusion:Diffusion",
    "image.edit": "studio.engines.image.editing:Editing",
    "image.upscale": "studio.engines.image.upscaling:Upscaling",
    "image.cutout": "studio.engines.image.cutout:Cutout",
    "image.sheet": "studio.engines.image.sheets:Sheets",
    "speech.piper": "studio.engines.audio.piper:Piper",
    "evaluate.text": "studio.engines.evaluate.text:EvaluateText",
    "evaluate.image": "studio.engines.evaluate.image:EvaluateImage",
    "evaluate.speech": "studio.engines.evaluate.speech:EvaluateSpeech",
    "data.sets": "studio.engines.data.sets:Sets",
    "train.convert": "studio.engines.train.convert:Convert",
    "train.text": "studio.engines.train.text:TrainText",
    "train.image": "studio.engines.train.pictures:TrainImage",
    "train.search": "studio.engines.train.search:Search",
    "export.files": "studio.library.exports:Exporter",
}
