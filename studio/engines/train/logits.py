"""The last layer of a language model with a large vocabulary, a few tokens at a time.

A row of logits of a vocabulary of 260,000 takes 1 MB, and cross-entropy holds it four times over: for a batch of a
thousand tokens that is more than all the rest of a small model. Here hidden states come in, and the loss and its
gradient are computed for some rows at once; no more than those rows' logits are there at any time, and nothing is
computed twice.

Knows the last layers of transformers' models; knows nothing of data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

ROOM = 128 * 2**20  # bytes of logits that are held at once
LEAST = 32  # rows at once, whatever they take

Tail = Callable[[Tensor], Tensor]


def tail_of(model: Any) -> Tail:
    """What a model does from its last hidden states to its logits, as far as it is known.

    `holds` tells whether that is all.
    """
    head, config = model.get_output_embeddings(), model.config
    cap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None)
    divisor = getattr(config, "logits_scaling", None)

    def tail(hidden: Tensor) -> Tensor:
        logits = head(hidden)
        if isinstance(scale, (int, float)):
            logits = logits * scale
        if isinstance(divisor, (int, float)):
            logits = logits / divisor
        if isinstance(cap, (int, float)):
            logits = torch.tanh(logits / cap) * cap
        return logits

    return tail


def holds(tail: Tail, hidden: Tensor, logits: Tensor) -> bool:
    """Whether `tail` gives what the model itself made of `hidden`."""
    with torch.no_grad():
        return bool(torch.allclose(tail(hidden).float(), logits.float(), rtol=1e-4, atol=1e-4))


def rows_at_once(vocabulary: int) -> int:
    return max(LEAST, ROOM // (4 * vocabulary))


def summed(tail: Tail, head: nn.Module, hidden: Tensor, labels: Tensor, rows: int) -> Tensor:
    """The sum of the cross-entropies, as `cross_entropy(tail(hidden).float(), labels, reduction="sum")`.

    Args:
        hidden: (tokens, width). labels: (tokens,). rows: tokens whose logits may be there at once.
    """
    if not torch.is_grad_enabled():
        parts = [_loss(tail, h, y) for h, y in zip(hidden.split(rows), labels.split(rows), strict=True)]
        return torch.stack(parts).sum()
    weights = [p for p in head.parameters() if p.requires_grad]
    total: Tensor = _InParts.apply(tail, rows, labels, hidden, *weights)
    return total


def _loss(tail: Tail, hidden: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(tail(hidden).float(), labels, reduction="sum")


class _InParts(torch.autograd.Function):
    """The gradient is computed together with the loss, part by part, while the logits of the part are there."""

    @staticmethod
    def forward(ctx: Any, tail: Tail, rows: int, labels: Tensor, hidden: Tensor, *weights: Tensor) -> Tensor:
        total = torch.zeros((), device=hidden.device)
        slope = torch.empty_like(hidden)
        slopes = [torch.zeros_like(weight) for weight in weights]
        for at in range(0, len(hidden), rows):
            with torch.enable_grad():
                part = hidden[at : at + rows].detach().requires_grad_()
                loss = _loss(tail, part, labels[at : at + rows])
                found = torch.autograd.grad(loss, [part, *weights])
            total += loss.detach()
            slope[at : at + rows] = found[0]
            for sum_, each in zip(slopes, found[1:], strict=True):
                sum_ += each
        ctx.save_for_backward(slope, *slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        (factor,) = outer
        slope, *slopes = ctx.saved_tensors
        return None, None, None, slope * factor.to(slope.dtype), *(each * factor.to(each.dtype) for each in slopes)
