"""Keeping libraries from the network."""

from __future__ import annotations

import os


def go_offline() -> None:
    """Keep the libraries from the network. Must run before they are imported: they read this once."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
