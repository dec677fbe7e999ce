"""How much earlier one alarm is than another, with intervals over loops. Knows no model and no metric.

An alarm that never came within the generations recorded is censored: it counts as the generation after the last one
that a loop can have, and the number of such loops is told. Where only the other alarm is censored the lead is too
small by that, where only ours is, too large.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DRAWS = 4_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A mean over loops."""

    mean: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Generations by which an alarm comes before another one, on the average of loops."""

    of: Interval
    loops: int
    never: int
    """Loops in which the alarm did not come."""
    other_never: int
    """Loops in which the other did not."""


def lead(alarms: Sequence[int | None], others: Sequence[int | None], last: int) -> Lead:
    """Return the lead over loops that could have had `last` generations; both lists have the order of the loops."""
    return Lead(
        of=over_loops(list(_leads(alarms, others, last))),
        loops=len(alarms),
        never=sum(one is None for one in alarms),
        other_never=sum(one is None for one in others),
    )


def mean_lead(alarms: Sequence[int | None], others: Sequence[int | None], last: int) -> float:
    """Return the mean lead alone."""
    return statistics.fmean(_leads(alarms, others, last))


def over_loops(values: Sequence[float], draws: int = DRAWS) -> Interval:
    """Return the mean of one value per loop with the percentile interval of a bootstrap over loops.

    >>> over_loops([2.0, 2.0, 2.0])
    Interval(mean=2.0, lower=2.0, upper=2.0)
    """
    rng = random.Random(0)
    drawn = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(draws))
    tail = round((1 - CONFIDENCE) / 2 * draws)
    return Interval(mean=statistics.fmean(values), lower=drawn[tail], upper=drawn[-1 - tail])


def _leads(alarms: Sequence[int | None], others: Sequence[int | None], last: int) -> Iterator[int]:
    for ours, other in zip(alarms, others, strict=True):
        yield (last + 1 if other is None else other) - (last + 1 if ours is None else ours)
