"""Where this user's studio keeps its things. Few imports: the window asks before its first paint."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """STUDIO_HOME, or the system's place for a program's data."""
    chosen = os.environ.get("STUDIO_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_data_dir("studio", appauthor=False))
