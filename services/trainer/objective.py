"""What a model is asked to make small: the mean loss of the tokens that count, and its gradient.

Tokens that are context and nothing else come as complements; see `packing`. The loss of a step is the mean over all its
tokens that count, in whichever micro-batch they stand; so each micro-batch adds its sum divided by the count of all.

Shapes: B = blocks of one micro-step, T = tokens of a block, V = vocabulary, N = B (T - 1) predicted tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from services.trainer.environment import Environment
from services.trainer.world import World

_IGNORED = -100
"""Target that cross entropy passes over."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the tokens of one micro-batch add to a step."""

    loss: float
    """Their summed loss in nats, divided by the number of tokens that count in the whole step."""
    kept: float
    """How many tokens it is of; in several processes the mean number of one."""


def counted_tokens(batches_BT: Iterable[torch.Tensor]) -> int:
    """Return how many tokens of these batches count; the first of a block is never predicted."""
    return sum(int((batch_BT[:, 1:] >= 0).sum()) for batch_BT in batches_BT)


def backward(
    model: torch.nn.Module, batch_BT: torch.Tensor, counted: float, truncation: float | None, environment: Environment
) -> Tally:
    """Add the gradient of one micro-batch: that of the summed loss of its tokens, divided by `counted`.

    Args:
        model: What learns.
        batch_BT: Tokens; complements are context.
        counted: Tokens that count in the whole step; in several processes the mean number of one, since gradients
            are averaged.
        truncation: Tokens to which the model gives more than this probability are left out (Shabgahi et al.,
            arXiv 2509.08972: text that a model wrote is text it is sure of); None keeps all.
        environment: Where and in which type to compute.
    """
    nats, kept = _summed(model, batch_BT, truncation, environment)
    loss = nats / (counted or 1)
    loss.backward()  # type: ignore[no-untyped-call]
    return Tally(float(loss.detach()), kept)


def mean_loss(tally: Tally, counted: float, weights: Iterable[torch.Tensor]) -> float | None:
    """Turn the gradients of a step into those of the mean over the tokens that were kept; return that mean.

    None if no token was kept: there is nothing to learn from.
    """
    if not tally.kept:
        return None
    if tally.kept != counted:
        for weight in weights:
            if weight.grad is not None:
                weight.grad.mul_(counted / tally.kept)
    return tally.loss * (counted / tally.kept)


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, batches_BT: Sequence[torch.Tensor], environment: Environment, world: World
) -> float | None:
    """Return the mean loss of all tokens that count, in nats, without truncation; None if none counts."""
    sums = [_summed(model, world.share(batch_BT), None, environment) for batch_BT in batches_BT]
    nats, counted = world.mean(math.fsum(float(nats) for nats, _ in sums), sum(count for _, count in sums))
    return nats / counted if counted else None


def _summed(
    model: torch.nn.Module, batch_BT: torch.Tensor, truncation: float | None, environment: Environment
) -> tuple[torch.Tensor, int]:
    """Return the summed loss of the tokens that count and are not too sure, and their number."""
    # Counted before they travel: to ask a GPU is to wait for it.
    counted = counted_tokens([batch_BT])
    batch_BT = batch_BT.to(environment.device)
    seen_BT = torch.where(batch_BT < 0, ~batch_BT, batch_BT)
    # Around the forward pass only: inside, autocast keeps copies of the weights that a step would make stale.
    with environment.arithmetic():
        logits_BTV = model(input_ids=seen_BT, use_cache=False).logits
    logits_NV, told_N = logits_BTV[:, :-1].float().flatten(0, 1), batch_BT[:, 1:].flatten()
    targets_N = told_N.masked_fill(told_N < 0, _IGNORED)
    if truncation is None:
        nats = torch.nn.functional.cross_entropy(logits_NV, targets_N, ignore_index=_IGNORED, reduction="sum")
        return nats, counted
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, ignore_index=_IGNORED, reduction="none")
    # Not the other way round: a loss that is no number must stay, to be found.
    left_out_N = (told_N < 0) | (nats_N < -math.log(truncation))
    return nats_N.masked_fill(left_out_N, 0.0).sum(), int((~left_out_N).sum())
