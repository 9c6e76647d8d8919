"""What the tests of evaluations share with those of texts."""

from __future__ import annotations

from tests.engines.text.conftest import starter_path

__all__ = ["starter_path"]
