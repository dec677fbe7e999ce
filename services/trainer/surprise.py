"""The surprise of a model at each next token. Its logits are the largest tensor of a step: float32 in pieces only.

Without pieces a step holds, beside the logits, a copy of them in float32, their log-softmax and two gradients; with
them the gradient alone. A piece is computed again in the backward pass, by the same operations, so that the gradient is
that of the whole to the last bit.

Shapes: B = blocks, T = tokens of a block, S = T - 1 next tokens of a block, N = B S, V = vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

IGNORED = -100
"""Target that has no surprise."""
LARGE = 1 << 25
"""Logits that are worth the time of computing pieces again: in float32, 128 MiB."""
PIECE = 1 << 22
"""Logits of a piece, unless one block has more."""


def nats_of(logits_BTV: torch.Tensor, targets_BS: torch.Tensor) -> torch.Tensor:
    """Return the surprise at each next token, [N], in nats and float32; 0 where the target is `IGNORED`."""
    if logits_BTV.numel() <= LARGE:
        return _nats(logits_BTV, targets_BS)
    nats_N: torch.Tensor = _InPieces.apply(logits_BTV, targets_BS)  # type: ignore[no-untyped-call]
    return nats_N


def _nats(logits_BTV: torch.Tensor, targets_BS: torch.Tensor) -> torch.Tensor:
    logits_NV = logits_BTV[:, :-1].float().flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits_NV, targets_BS.flatten(), ignore_index=IGNORED, reduction="none")


class _InPieces(torch.autograd.Function):
    """`_nats`, some blocks at a time."""

    @staticmethod
    def forward(ctx: Any, logits_BTV: torch.Tensor, targets_BS: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(logits_BTV, targets_BS)
        return torch.cat([_nats(*piece) for piece in _pieces(logits_BTV, targets_BS)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits_BTV, targets_BS = ctx.saved_tensors
        gradient_BTV = torch.empty_like(logits_BTV)
        wanted_BS = gradients[0].view_as(targets_BS)
        for logits, targets, wanted, found in _pieces(logits_BTV, targets_BS, wanted_BS, gradient_BTV):
            with torch.enable_grad():
                leaf = logits.detach().requires_grad_()
                nats_N = _nats(leaf, targets)
            (gradient,) = torch.autograd.grad(nats_N, leaf, wanted.flatten())
            found.copy_(gradient)
        return gradient_BTV, None


def _pieces(logits_BTV: torch.Tensor, *others: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    blocks = max(1, PIECE // logits_BTV[0].numel())
    return zip(*(torch.split(tensor, blocks) for tensor in (logits_BTV, *others)), strict=True)
