"""What the scores of a model say: log-probabilities of tokens, what is expected next. Knows no model, no text.

Shapes: R = positions looked at together, V = vocabulary, N = probabilities kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ouroscope.errors import PreconditionFailed


def check_finite(logits: Tensor) -> None:
    """Refuse scores that are not numbers.

    Raises:
        PreconditionFailed: some are not.
    """
    # The extremes are numbers only if all are; looking at them costs a twentieth of looking at each.
    if not bool(torch.isfinite(torch.stack(torch.aminmax(logits))).all()):
        raise PreconditionFailed("the model's probabilities are not numbers: its training diverged; use an earlier one")


def log_probabilities(logits_RV: Tensor, targets_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability of each target, and whether it is the first choice: no other is more probable."""
    log_RV = torch.log_softmax(logits_RV, -1)
    # The largest value is found fifteen times as fast as its place.
    first_R = logits_RV.gather(-1, targets_R[:, None]).squeeze(-1) == logits_RV.amax(-1)
    return log_RV.gather(-1, targets_R[:, None]).squeeze(-1), first_R


def expectations(
    logits_RV: Tensor, targets_R: Tensor, top_n: int
) -> Iterator[tuple[tuple[float, ...], float, int, float]]:
    """Yield of each position: the largest probabilities, the entropy in nats, rank and probability of its target."""
    log_RV = torch.log_softmax(logits_RV, -1)
    share_RV = log_RV.exp()
    # Where a probability is 0 its logarithm is minus infinity, and 0 times that is no number.
    entropy_R = -(share_RV * log_RV.clamp(min=torch.finfo(torch.float32).min)).sum(-1, dtype=torch.float64)
    top_RN = share_RV.topk(min(top_n, share_RV.shape[-1]), -1).values.double()
    true_R = share_RV.gather(-1, targets_R[:, None]).squeeze(-1).double()
    rank_R = (logits_RV > logits_RV.gather(-1, targets_R[:, None])).sum(-1) + 1
    columns = zip(top_RN.tolist(), entropy_R.tolist(), rank_R.tolist(), true_R.tolist(), strict=True)
    for top, entropy, rank, probability in columns:
        yield tuple(top), max(0.0, entropy), rank, probability
