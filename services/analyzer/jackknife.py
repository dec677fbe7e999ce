"""Delete-one-group jackknife: 20 replicates in, estimate and interval out. Knows nothing of what was measured.

K = 20 groups of whole clusters of equal size; replicate g is the value without group g (rule 3 of the statistics).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from scipy.special import stdtrit

GROUPS = 20
"""K: groups of clusters, and replicates of every value that carries an interval."""


def estimate(replicates: Sequence[float]) -> float:
    """Return the mean of the replicates, theta; no bias correction is applied.

    >>> estimate([1.0, 2.0, 3.0])
    2.0
    """
    return math.fsum(replicates) / len(replicates)


def standard_error(replicates: Sequence[float]) -> float:
    """Return the jackknife standard error of theta, in the unit of the replicates.

        SE^2 = (K - 1) / K * sum over g of (theta_-g - theta)^2          K = number of replicates, at least 2

    >>> standard_error([1.0, 2.0, 3.0])
    1.1547005383792515
    """
    theta = estimate(replicates)
    squares = math.fsum((replicate - theta) ** 2 for replicate in replicates)
    return math.sqrt((len(replicates) - 1) / len(replicates) * squares)


def interval(replicates: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return (theta, lower, upper): the two-sided t interval with K - 1 degrees of freedom.

    >>> [round(x, 4) for x in interval([1.0, 2.0, 3.0])]
    [2.0, -2.9683, 6.9683]
    """
    theta = estimate(replicates)
    half = t_quantile(len(replicates) - 1, confidence) * standard_error(replicates)
    return theta, theta - half, theta + half


@cache
def t_quantile(degrees: int, confidence: float) -> float:
    """Return t such that a t variable with `degrees` lies in [-t, t] with probability `confidence`.

    >>> round(t_quantile(19, 0.95), 4)
    2.093
    """
    return float(stdtrit(degrees, (1 + confidence) / 2))
