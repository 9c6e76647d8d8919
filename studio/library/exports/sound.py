"""What the sound formats share: reading the kept sound in blocks and handing it to libsndfile. Imports soundfile."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import soundfile  # type: ignore[import-untyped]

from studio.core.problems import NotSaved
from studio.engines.context import RunContext
from studio.library.exports.source import SOFTWARE, Sink, Source, unreadable

BLOCK = 65_536  # frames: three seconds, so that a long sound is never in memory whole and cancel is heard soon

# How samples are carried over so that no bit is lost: integers as integers, floats as they are.
_CARRIED = {
    "PCM_S8": "int16", "PCM_U8": "int16", "PCM_16": "int16", "PCM_24": "int32", "PCM_32": "int32",
    "FLOAT": "float32", "DOUBLE": "float64",
}  # fmt: skip


def open_sound(source: Source) -> soundfile.SoundFile:
    """The kept sound, open for reading.

    Raises:
        LibraryBroken: it is not a sound, or holds no samples. NotRead: the disk refuses.
    """
    try:
        sound = soundfile.SoundFile(source.path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise unreadable(source, error) from error
    if sound.frames < 1:
        sound.close()
        raise unreadable(source, "no samples")
    return sound


def hold_shape(sound: soundfile.SoundFile, title: str, rates: tuple[int, ...] = (), channels: int = 0) -> None:
    """Raises NotSaved where a format takes only some sample rates (Hz) or at most so many channels."""
    if rates and sound.samplerate not in rates:
        raise NotSaved(
            f"The sound has {sound.samplerate:,} samples per second, which {title} does not take.",
            "Export it as WAV, FLAC or OGG.", field="to",
        )  # fmt: skip
    if channels and sound.channels > channels:
        raise NotSaved(
            f"The sound has {sound.channels} channels, and {title} takes at most {channels}.", "Export it as WAV.",
            field="to",
        )  # fmt: skip


def pour(
    source: Source,
    sound: soundfile.SoundFile,
    stream: BinaryIO,
    ctx: RunContext,
    container: str,
    subtype: str,
    *,
    tags: bool = True,
    **how: Any,
) -> dict[str, Any]:
    """Write all of `sound` to `stream`, block by block.

    Args:
        container, subtype: as soundfile names them, for example "WAV" and "PCM_16".
        tags: store title and software through libsndfile.
        how: compression_level and bitrate_mode, as soundfile takes them.

    Raises:
        LibraryBroken: the sound ends early or has samples that are no numbers. NotRead: the disk refuses.
        OSError: the disk refused, whether or not libsndfile noticed.
    """
    dtype = _CARRIED.get(sound.subtype, "float32")
    total, done = sound.frames, 0
    sink = Sink(stream, quiet=True)
    try:
        with soundfile.SoundFile(
            sink, "w", sound.samplerate, sound.channels, subtype, format=container, **how
        ) as written:  # fmt: skip
            if tags:
                if source.tag:
                    written.title = source.tag
                written.software = SOFTWARE
            while done < total:
                ctx.check()
                block = _read(source, sound, min(BLOCK, total - done), dtype)
                written.write(block)
                if sink.error is not None:
                    break
                done += len(block)
                ctx.progress(done, total, "frames", "writing")
    except (soundfile.LibsndfileError, AssertionError) as error:
        # soundfile asserts that all was written; what really happened is in the sink
        sink.finish()
        raise NotSaved("The sound could not be written in this format.", detail=repr(error), field="to") from error
    sink.finish()
    return {"seconds": total / sound.samplerate, "sample_rate": sound.samplerate, "channels": sound.channels}


def _read(source: Source, sound: soundfile.SoundFile, frames: int, dtype: str) -> np.ndarray[Any, Any]:
    try:
        block: np.ndarray[Any, Any] = sound.read(frames, dtype=dtype, always_2d=True)
    except soundfile.LibsndfileError as error:
        raise unreadable(source, error) from error
    if len(block) != frames:
        raise unreadable(source, "it ends early")
    if dtype.startswith("float") and not np.isfinite(block).all():
        # as 16-bit samples these would become a bang at full volume
        raise unreadable(source, "samples that are no numbers")
    return block


def depth_of(sound: soundfile.SoundFile, deepest: str = "") -> str:
    """The subtype that keeps the sound's samples, for lossless formats; `deepest` where floats do not fit."""
    if sound.subtype in ("PCM_S8", "PCM_U8", "PCM_16"):
        return "PCM_16"
    if sound.subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE") and not deepest:
        return str(sound.subtype)
    return deepest or "PCM_16"
