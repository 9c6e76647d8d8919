"""What a computer cannot do is said in a sentence."""

from __future__ import annotations

import pytest

from studio.core import abilities


def test_qlora_needs_a_card_and_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def there(name: str) -> object:
        return object()

    def gone(name: str) -> None:
        return None

    monkeypatch.setattr(abilities.importlib.util, "find_spec", gone)
    assert abilities.no_four_bits(cuda=False) == (
        "QLoRA needs an NVIDIA graphics card and the library bitsandbytes, which this computer does not have."
    )
    assert "bitsandbytes" in abilities.no_four_bits(cuda=True) and "NVIDIA" not in abilities.no_four_bits(cuda=True)
    monkeypatch.setattr(abilities.importlib.util, "find_spec", there)
    assert "NVIDIA" in abilities.no_four_bits(cuda=False)
    assert abilities.no_four_bits(cuda=True) == ""
