"""What happened in a training so far. All of it lies in checkpoints: a resumed job knows what the killed one knew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ouroscope.records.training import LossPoint, Recipe


@dataclass(slots=True, kw_only=True)
class Course:
    """The past of one training."""

    losses: list[float | None] = field(default_factory=list)
    """Of every step made, nats per token; None where no token counted, so that no weight moved."""
    heldout: list[LossPoint] = field(default_factory=list)
    """Of every evaluation made."""
    best: dict[str, torch.Tensor] | None = None
    """Weights at the best evaluation; None while there is none or nobody waits for it (no patience)."""

    @property
    def steps(self) -> int:
        """Return the number of steps made."""
        return len(self.losses)

    @property
    def last_heldout_loss(self) -> float | None:
        """Return the loss of the last evaluation, or None before the first."""
        return self.heldout[-1].loss if self.heldout else None

    def over(self, recipe: Recipe) -> bool:
        """Return whether all steps are made, or held-out text has not been understood better for too long."""
        return self.steps >= recipe.steps or 0 < recipe.patience <= self._evaluations_since_best

    def judge(self, loss: float, weights: Mapping[str, torch.Tensor], recipe: Recipe) -> None:
        """Note an evaluation of the weights after the last step; with patience, keep a copy of the best weights."""
        self.heldout.append(LossPoint(step=self.steps, loss=loss))
        if recipe.patience and not self._evaluations_since_best:
            self.best = {name: weight.detach().clone() for name, weight in weights.items()}

    @property
    def _evaluations_since_best(self) -> int:
        losses = [point.loss for point in self.heldout]
        # The first of equals: to be as good again is no improvement.
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0


@torch.no_grad()
def put_back(kept: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> None:
    """Give `weights` the values of `kept`, name by name."""
    for name, weight in weights.items():
        weight.copy_(kept[name])
