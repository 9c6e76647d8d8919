"""Settings: declared once, like recipes; the dialog, the checks and the documents read these declarations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from studio.core.declare import Field, about, explain, fields
from studio.core.problems import BadSetting
from studio.core.text import clean, shown


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a person can set once for all works."""

    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        about("Device", "Where pictures are computed; auto takes the fastest that is there."),
    ] = "auto"
    threads: Annotated[
        int, about("Threads", "Processor threads of all lanes together; 0 takes one per physical core.", ge=0, le=512)
    ] = 0
    context: Annotated[
        int,
        about(
            "Longest context", "The longest context window opened unless a recipe asks for more.", unit="tokens",
            ge=256, le=1_048_576,
        ),
    ] = 4096  # fmt: skip
    preview_every: Annotated[
        int, about("Preview every", "Show the picture every so many steps; 0 shows none.", unit="steps", ge=0, le=1000)
    ] = 1
    grace_seconds: Annotated[
        float,
        about(
            "Patience", "How long a cancelled job may take to stop by itself before its worker is ended.", unit="s",
            ge=0.1, le=60.0,
        ),
    ] = 3.0  # fmt: skip
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        about("Number format", "Of picture models; auto takes what the device computes in well. Others may be faster."),
    ] = "auto"
    channels_last: Annotated[
        bool,
        about(
            "Channels last", "Lay picture networks out in another order: faster on some graphics cards. The result "
            "may differ slightly.",
        ),
    ] = False  # fmt: skip
    compile: Annotated[
        bool,
        about(
            "Compile", "Compile picture networks (torch.compile): the first picture takes minutes, the others may be "
            "faster. The result may differ slightly.",
        ),
    ] = False  # fmt: skip
    memory: Annotated[
        Literal["auto", "full", "sliced", "tiled", "offload", "sequential"],
        about(
            "Memory",
            "How pictures save memory; auto begins with what fits. A thriftier way is slower, and is taken by itself "
            "when memory runs out.",
        ),
    ] = "auto"  # fmt: skip
    memory_limit: Annotated[
        float,
        about(
            "Memory for models", "How much all loaded models may hold together; 0 takes what the computer has.",
            unit="GB", ge=0.0, le=4096.0,
        ),
    ] = 0.0  # fmt: skip
    idle_minutes: Annotated[
        float,
        about(
            "Unload after", "A model that nobody has used for so long gives its memory back; 0 keeps it.", unit="min",
            ge=0.0, le=1440.0,
        ),
    ] = 15.0  # fmt: skip
    text_model: Annotated[str, about("Text model", "Used when a recipe names none; empty takes the first.")] = ""
    image_model: Annotated[str, about("Picture model", "Used when a recipe names none; empty takes the first.")] = ""
    voice: Annotated[str, about("Voice", "Used when a recipe names none; empty takes the first.")] = ""
    theme: Annotated[
        Literal["system", "light", "dark"], about("Theme", "Colours of the window; system follows your desktop.")
    ] = "system"
    warm: Annotated[
        bool, about("Load models early", "Load a tab's model in the background, so that the first work starts sooner.")
    ] = True
    play: Annotated[bool, about("Play at once", "Start to play a reading when its first sentence has been spoken.")] = (
        True
    )


def declared() -> tuple[Field, ...]:
    """The settings as the dialog shows them."""
    return fields(Settings)


def changed(settings: Settings, **values: Any) -> Settings:
    """A copy with `values` laid over it.

    Raises:
        BadSetting: an unknown name or a value outside its limits.
    """
    names = {f.name: f for f in declared()}
    for name in values:
        if name not in names:
            raise BadSetting(
                f"There is no setting “{shown(name)}”.", f"Settings are {', '.join(names)}.", field=shown(name)
            )
    # halves of characters could not be written to the settings file
    values = {n: clean(v)[0] if isinstance(v, str) else v for n, v in values.items()}
    merged = {n: values.get(n, getattr(settings, n)) for n in names}
    try:
        return msgspec.convert(merged, Settings)
    except msgspec.ValidationError as error:
        name = next((n for n in values if f"$.{n}" in str(error)), "")
        sentence = explain(names[name], values[name]) if name else f"A setting is wrong: {error}."
        raise BadSetting(sentence, field=name, detail=str(error)) from None
