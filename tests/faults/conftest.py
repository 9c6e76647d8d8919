"""Faults that show in the window are tested with the window's own rig."""

from tests.ui.conftest import open_window, rig

__all__ = ["open_window", "rig"]
