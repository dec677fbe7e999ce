"""What a model is asked to make small: the mean loss of the tokens that count, and its gradient.

Tokens that are context and nothing else come as complements; see `packing`. The loss of a step is the mean over all its
tokens that count, in whichever micro-batch they stand; so each micro-batch adds its sum divided by the count of all.
Corpora may have weights: then each token's loss is multiplied by that of its corpus, see `relative_weights`.

Shapes: B = blocks of one micro-step, T = tokens of a block, S = T - 1 of them predicted, N = B S, V = vocabulary,
C = corpora.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from services.trainer.environment import Environment
from services.trainer.packing import CORPUS_BIT
from services.trainer.surprise import IGNORED, nats_of
from services.trainer.world import World

_TOKEN = (1 << CORPUS_BIT) - 1
"""Bits of a token that counts which are the token itself."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What the tokens of one micro-batch add to a step."""

    loss: float
    """Their summed loss in nats, weighted, divided by the number of tokens that count in the whole step."""
    kept: float
    """How many tokens it is of; in several processes the mean number of one."""
    weight: float
    """Sum of their weights; `kept` where all are alike."""


def relative_weights(weights: Sequence[float], counting: Sequence[int]) -> list[float] | None:
    """Return the weights of corpora, scaled so that their mean over the tokens of an epoch is 1; None if all are alike.

    Divided by the number of tokens, the weighted losses of steps then average over an epoch to

        sum w l / sum w          over all its tokens that count (l = loss of one, w = weight of its corpus)

    whatever corpora meet in one step. To divide by the weights of each step instead would learn from a step without
    the heavier corpus as if that did not exist, and so weigh it less than asked for.

    Args:
        weights: Of each corpus, above 0.
        counting: Tokens of each corpus that count in an epoch.

    Source: He et al., arXiv 2502.18049 (2025), weighted training on real and synthetic data.

    >>> relative_weights([3.0, 1.0], [100, 100])
    [1.5, 0.5]
    """
    heard = {weight for weight, tokens in zip(weights, counting, strict=True) if tokens}
    if len(heard) < 2:
        return None
    shares = [weight / max(heard) if tokens else 0.0 for weight, tokens in zip(weights, counting, strict=True)]
    mean = math.fsum(share * tokens for share, tokens in zip(shares, counting, strict=True)) / sum(counting)
    return [share / mean for share in shares]


def counted_tokens(batches_BT: Iterable[torch.Tensor]) -> int:
    """Return how many tokens of these batches count; the first of a block is never predicted."""
    return sum(int((batch_BT[:, 1:] >= 0).sum()) for batch_BT in batches_BT)


def backward(
    model: torch.nn.Module,
    batch_BT: torch.Tensor,
    counted: float,
    truncation: float | None,
    environment: Environment,
    weights_C: torch.Tensor | None = None,
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
        weights_C: What the losses of a corpus are multiplied by, there; None multiplies none.
    """
    nats, kept, weight = _summed(model, batch_BT, truncation, environment, weights_C)
    loss = nats / (counted or 1)
    loss.backward()  # type: ignore[no-untyped-call]
    return Tally(float(loss.detach()), int(kept), float(weight))


def mean_loss(tally: Tally, counted: float, weights: Iterable[torch.Tensor]) -> float | None:
    """Turn the gradients of a step into those of the mean over the tokens that were kept; return their weighted mean.

    None if no token was kept: there is nothing to learn from.
    """
    if not tally.weight:
        return None
    if tally.kept != counted:
        for weight in weights:
            if weight.grad is not None:
                weight.grad.mul_(counted / tally.kept)
    return tally.loss * (counted / tally.weight)


@torch.no_grad()
def evaluate(
    model: torch.nn.Module, batches_BT: Sequence[torch.Tensor], environment: Environment, world: World
) -> float | None:
    """Return the mean loss of all tokens that count, in nats, untruncated and unweighted; None if none counts."""
    sums = [_summed(model, world.share(batch_BT), None, environment) for batch_BT in batches_BT]
    nats, counted = world.mean(math.fsum(float(nats) for nats, _, _ in sums), sum(int(count) for _, count, _ in sums))
    return nats / counted if counted else None


def _summed(
    model: torch.nn.Module,
    batch_BT: torch.Tensor,
    truncation: float | None,
    environment: Environment,
    weights_C: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | int, torch.Tensor | float]:
    """Return the summed loss of the tokens that count and are not too sure, their number, and their summed weight."""
    # Counted before they travel: to ask a GPU is to wait for it.
    counted = counted_tokens([batch_BT])
    batch_BT = batch_BT.to(environment.device)
    seen_BT = torch.where(batch_BT < 0, ~batch_BT, batch_BT & _TOKEN)
    # Around the forward pass only: inside, autocast keeps copies of the weights that a step would make stale.
    with environment.arithmetic():
        logits_BTV = model(input_ids=seen_BT, use_cache=False).logits
    told_BS = batch_BT[:, 1:]
    nats_N = nats_of(logits_BTV, (told_BS & _TOKEN).masked_fill(told_BS < 0, IGNORED))
    if truncation is None and weights_C is None:
        return nats_N.sum(), counted, counted
    told_N = told_BS.flatten()
    left_out_N = _left_out(told_N, nats_N, truncation)
    nats_N, kept = nats_N.masked_fill(left_out_N, 0.0), (~left_out_N).sum()
    if weights_C is None:
        return nats_N.sum(), kept, kept
    weights_N = weights_C[told_N.clamp(min=0) >> CORPUS_BIT].masked_fill(left_out_N, 0.0)
    return (nats_N * weights_N).sum(), kept, weights_N.sum(dtype=torch.float64)


def _left_out(told_N: torch.Tensor, nats_N: torch.Tensor, truncation: float | None) -> torch.Tensor:
    """Return which tokens are context, or surer than the truncation."""
    if truncation is None:
        return told_N < 0
    # Not the other way round: a loss that is no number must stay, to be found.
    return (told_N < 0) | (nats_N < -math.log(truncation))
