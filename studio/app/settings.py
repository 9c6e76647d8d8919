"""The settings file: reading and writing it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from studio.core.files import write_durably
from studio.core.problems import NotSaved
from studio.core.settings import Settings


def load_settings(path: Path) -> tuple[Settings, str]:
    """Read the settings, or the defaults where there are none.

    Returns:
        The settings, and a note where the file could not be used; it is kept beside, with `.broken` behind its name.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Settings), ""
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, msgspec.DecodeError) as error:
        with contextlib.suppress(OSError):
            os.replace(path, path.with_name(path.name + ".broken"))
        return Settings(), f"The settings could not be read ({error}); the defaults are used."


def save_settings(path: Path, settings: Settings) -> None:
    """Write the settings durably. Raises NotSaved."""
    try:
        write_durably(path, msgspec.json.format(msgspec.json.encode(settings), indent=1))
    except OSError as error:
        raise NotSaved(f"The settings could not be written: {error.strerror or error}.") from None
