"""Trying prompts while a language model learns: a plain sampler, the same before, during and after.

Knows one model's forward call. For writing texts for their own sake there are the engines of the text tab.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch

TEMPERATURE, TOP_K = 0.8, 40


def write(
    model: Any, ids: Sequence[int], most: int, ends: Collection[int], seed: int, check: Callable[[], None]
) -> list[int]:
    """Tokens that a model goes on with.

    Args:
        ids: what it reads first, at least one token. most: tokens to write. ends: tokens that end it.
        seed: the same one gives the same tokens; they are drawn on the processor. check: called before each token.
    """
    device = next(model.parameters()).device
    draws = torch.Generator().manual_seed(seed)
    fed, cache = torch.tensor([list(ids)], device=device), None
    written: list[int] = []
    while len(written) < most:
        check()
        answer = model(input_ids=fed, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        logits = answer.logits[0, -1].float().cpu() / TEMPERATURE
        if not bool(logits.isfinite().any()) or bool(logits.isnan().any()):
            break  # the loss is no number either, and the loop says so
        best, tokens = logits.topk(min(TOP_K, len(logits)))
        token = int(tokens[torch.multinomial(best.softmax(-1), 1, generator=draws)])
        if token in ends:
            break
        written.append(token)
        fed = torch.tensor([[token]], device=device)
    return written
