"""Numbers around the loop: learning rate by step, loss curve, speed. Knows neither tensors nor clocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ouroscope.errors import TrainingDiverged
from ouroscope.records.progress import Progress
from ouroscope.records.training import LossPoint, Recipe, Schedule

MOST_POINTS = 100
_HOPELESS = 10.0
"""A loss of that many times the surprise of a uniform guess does not come back."""
_RECENT_STEPS = 20


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of optimiser step `step`, counted from 0.

    It rises in a straight line over the first `warmup_share` of the steps, reaching the recipe's rate in the last of
    them, then follows the schedule; linear and cosine would reach 0 one step after the last.
    """
    warm = math.floor(recipe.steps * recipe.warmup_share)
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    done = (step - warm) / max(1, recipe.steps - warm)
    return recipe.learning_rate * _DECAY[recipe.schedule](done)


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))


_DECAY: dict[Schedule, Callable[[float], float]] = {
    Schedule.CONSTANT: lambda done: 1.0,
    Schedule.LINEAR: lambda done: 1.0 - done,
    Schedule.COSINE: _cosine,
}


def evaluates(step: int, recipe: Recipe) -> bool:
    """Return whether held-out text is looked at after `step` steps: after every `heldout_steps`, and after the last."""
    return recipe.heldout_steps > 0 and (step % recipe.heldout_steps == 0 or step >= recipe.steps)


def loss_curve(losses: Sequence[float | None], points: int = MOST_POINTS) -> tuple[LossPoint, ...]:
    """Return the mean loss of equal stretches of steps, at most `points` of them, the last one maybe shorter.

    Steps without a loss are left out of the means, and stretches of nothing else out of the curve.

    >>> loss_curve([4.0, 2.0, 1.0], points=2)
    (LossPoint(step=2, loss=3.0), LossPoint(step=3, loss=1.0))
    """
    stretch = max(1, math.ceil(len(losses) / points))
    pieces = [
        (min(start + stretch, len(losses)), [loss for loss in losses[start : start + stretch] if loss is not None])
        for start in range(0, len(losses), stretch)
    ]
    return tuple(LossPoint(step=end, loss=math.fsum(piece) / len(piece)) for end, piece in pieces if piece)


def check_health(step: int, loss: float, gradient_norm: float, vocabulary: int, recipe: Recipe) -> None:
    """Refuse to go on with numbers that cannot recover; `step` counts from 0.

    Raises:
        TrainingDiverged: loss or gradient is not finite, or the loss is far worse than a uniform guess.
    """
    if math.isfinite(loss) and math.isfinite(gradient_norm) and loss <= _HOPELESS * math.log(max(2, vocabulary)):
        return
    if step == 0:
        raise TrainingDiverged(
            f"the model has a loss of {loss:.4g} before anything was learnt; its weights are damaged", step="1"
        )
    raise TrainingDiverged(
        f"training left every bound at step {step + 1} of {recipe.steps} (loss {loss:.4g}, gradient norm "
        f"{gradient_norm:.4g}); lower recipe.learning_rate (now {recipe.learning_rate:g}) or raise recipe.warmup_share",
        step=str(step + 1),
    )


class Meter:
    """Turns finished steps into progress. Takes the clock, so that it can be tested without waiting."""

    def __init__(self, recipe: Recipe, clock: Callable[[], float], done: int = 0) -> None:
        self._recipe, self._clock = recipe, clock
        # Speed is that of the last steps: the first ones are slow, and a resumed job did not make the earlier ones.
        self._marks: list[tuple[int, float]] = [(done, clock())]

    def progress(self, done: int, loss: float | None, heldout_loss: float | None = None) -> Progress:
        """Return how far training is after `done` steps."""
        self._marks = [*self._marks[-_RECENT_STEPS:], (done, self._clock())]
        (since, began), now = self._marks[0], self._marks[-1][1]
        per_step = (now - began) / max(1, done - since)
        return Progress(
            stage="train",
            done=done,
            total=self._recipe.steps,
            unit="steps",
            loss=loss,
            heldout_loss=heldout_loss,
            seconds_left=per_step * (self._recipe.steps - done),
            tokens_per_second=tokens_per_step(self._recipe) / per_step if per_step > 0 else None,
        )


def tokens_per_step(recipe: Recipe) -> int:
    """Return how many tokens one optimiser step sees."""
    return recipe.batch_size * recipe.gradient_accumulation * recipe.block_tokens
