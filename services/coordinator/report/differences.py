"""An arm minus its control at the same generation, over the seeds. Pure arithmetic on what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from ouroscope.records.analysis import Direction
from ouroscope.records.runs import ArmSpec
from services.coordinator.report.view import RunView, value_of

METRICS = ("heldout_perplexity", "gini_top100", "normalized_entropy_by_tokens")
"""What the difference is shown of: one metric of how well it predicts, one of how narrow, one of its text."""

_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom; any table has them."""


def t_quantile(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t, to three digits (beyond the table by Cornish and Fisher).

    >>> t_quantile(2), round(t_quantile(30), 2), round(t_quantile(99), 2)
    (4.303, 2.04, 1.98)
    """
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Arm minus control of one metric at one generation."""

    number: int
    mean: float
    lower: float | None = None
    """Ends of the 95 % t-interval over seeds; None with one seed."""
    upper: float | None = None
    seeds: int = 1
    direction: Direction = Direction.NONE

    @property
    def mark(self) -> str:
        """Return `worse`, `better`, `beyond` (no direction), `open` (0 is inside) or `single` (one seed)."""
        if self.lower is None or self.upper is None:
            return "single"
        if self.lower <= 0 <= self.upper:
            return "open"
        if self.direction is Direction.NONE:
            return "beyond"
        return "worse" if (self.mean > 0) is (self.direction is Direction.RISING) else "better"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The differences of one metric between two arms."""

    arm: str
    control: str
    metric: str
    cells: tuple[Difference, ...]

    @property
    def worse(self) -> tuple[int, ...]:
        """Return the generations whose interval lies beyond 0, towards collapse."""
        return tuple(cell.number for cell in self.cells if cell.mark == "worse")


def rows(view: RunView, metrics: Sequence[str] = METRICS) -> list[Row]:
    """Return the differences of every arm that has a control arm."""
    found = []
    for arm in view.arms:
        control = view.run.spec.control_of(arm)
        for metric in metrics if control else ():
            assert control is not None
            cells = [cell for number in view.numbers if (cell := _cell(view, arm, control, metric, number))]
            if cells:
                found.append(Row(arm=arm.name, control=control.name, metric=metric, cells=tuple(cells)))
    return found


def _cell(view: RunView, arm: ArmSpec, control: ArmSpec, metric: str, number: int) -> Difference | None:
    """Seeds are paired: both arms of a seed saw the same prompts."""
    sides = [{p.seed: value_of(p.report, metric) for p in view.of(a.name, number)} for a in (arm, control)]
    pairs = [(mine, theirs) for seed, mine in sides[0].items() if mine and (theirs := sides[1].get(seed))]
    values = [mine[0] - theirs[0] for mine, theirs in pairs]
    if not values:
        return None
    lower, upper = interval(values)
    return Difference(
        number=number,
        mean=fmean(values),
        lower=lower,
        upper=upper,
        seeds=len(values),
        direction=view.info(metric).direction,
    )


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the 95 % t-interval of the mean, or nothing for a single value.

    >>> interval([1.0])
    (None, None)
    >>> [round(end, 3) for end in interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    if len(values) < 2:
        return None, None
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
