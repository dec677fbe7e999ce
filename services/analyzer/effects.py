"""Effects: differences in units of human spread, with intervals from paired replicates. Knows no verdict and no text.

    E = sign * (theta_candidate - theta_baseline) / tau

sign turns every metric so that positive means towards collapse; tau is the deviation between human sources. The
interval is that of the difference of the replicates, paired by group: where both sides have the same clusters they
share groups, and what they have in common cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtr

from ouroscope.records.analysis import Direction, Family, FamilyEffect, MetricEffect, MetricInfo, MetricValue, Policy
from services.analyzer.jackknife import GROUPS, estimate, interval, standard_error

NO_DIRECTION = "it has no direction under collapse"
SIGNS = {Direction.RISING: 1.0, Direction.FALLING: -1.0}

Replicates = tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How far one metric moved, with what is needed to join it to others."""

    info: MetricInfo
    told: MetricEffect
    replicates: Replicates = ()
    """Of the effect; empty where it has no interval."""

    @property
    def votes(self) -> bool:
        """Return whether it counts for its family."""
        return self.info.headline and bool(self.replicates)


def metric_effect(
    info: MetricInfo, baseline: MetricValue, candidate: MetricValue, tau: float, policy: Policy
) -> Effect:
    """Return the effect of one metric that both sides have measured; `tau` is above 0.

    Without a direction there is no effect; without replicates on both sides there is no interval.
    """
    told = MetricEffect(id=info.id, baseline=baseline.value, candidate=candidate.value)
    if info.direction is Direction.NONE:
        return without_effect(info, told, NO_DIRECTION)
    sign = SIGNS[info.direction]
    pairs = zip(baseline.replicates, candidate.replicates, strict=False)
    replicates = tuple(_scaled(sign, theirs - ours, tau) for ours, theirs in pairs)
    if _usable(baseline.replicates) and _usable(candidate.replicates):
        return Effect(info=info, told=_with_interval(told, replicates, policy), replicates=replicates)
    assert baseline.value is not None
    assert candidate.value is not None
    return Effect(info=info, told=replace(told, effect=_scaled(sign, candidate.value - baseline.value, tau)))


def without_effect(info: MetricInfo, told: MetricEffect, reason: str) -> Effect:
    """Return what can be told of a metric that cannot be compared."""
    return Effect(info=info, told=replace(told, undefined_because=reason))


def family_effect(family: Family, effects: Sequence[Effect], policy: Policy) -> FamilyEffect | None:
    """Return the mean of the headline effects of `family`, jackknifed as one number, or None if none has an interval.

    Its p-value is one-sided, against an effect of the margin or less, and not yet adjusted.
    """
    votes = [effect for effect in effects if effect.votes and effect.info.family is family]
    if not votes:
        return None
    means = [estimate(group) for group in zip(*(effect.replicates for effect in votes), strict=True)]
    theta, lower, upper = interval(means, policy.confidence)
    return FamilyEffect(
        family=family,
        effect=theta,
        lower=lower,
        upper=upper,
        p_value=p_value(means, policy.margin),
        metrics=tuple(effect.info.id for effect in votes),
    )


def p_value(replicates: Sequence[float], margin: float) -> float:
    """Return the one-sided p-value of the hypothesis that the effect is at most `margin`: t with K - 1 degrees.

    >>> p_value([2.0, 2.0], 1.0), p_value([0.0, 0.0], 1.0), p_value([0.5, 1.5], 1.0)
    (0.0, 1.0, 0.5)
    """
    theta, error = estimate(replicates), standard_error(replicates)
    if error == 0:
        return 0.0 if theta > margin else 1.0
    return float(stdtr(len(replicates) - 1, (margin - theta) / error))


def adjust(families: Sequence[FamilyEffect]) -> tuple[FamilyEffect, ...]:
    """Return the families with p-values adjusted by Holm's step-down procedure, in the same order.

    The i-th smallest of m p-values becomes the largest of min(1, (m - j + 1) * p_j) over j = 1..i.
    """
    adjusted, worst = {}, 0.0
    for rank, effect in enumerate(sorted(families, key=lambda effect: effect.p_value)):
        worst = max(worst, min(1.0, (len(families) - rank) * effect.p_value))
        adjusted[effect.family] = worst
    return tuple(replace(effect, p_value=adjusted[effect.family]) for effect in families)


def by_evidence(effects: Sequence[Effect], margin: float) -> tuple[MetricEffect, ...]:
    """Return the effects with the strongest evidence of an effect beyond the margin first.

    That is the order of Benjamini and Hochberg over all metrics; effects without an interval and metrics without an
    effect come last.
    """

    def key(effect: Effect) -> tuple[int, float, float, str]:
        size = -(effect.told.effect or 0.0)
        if effect.replicates:
            return 0, p_value(effect.replicates, margin), size, effect.info.id
        return (1 if effect.told.effect is not None else 2), 0.0, size, effect.info.id

    return tuple(effect.told for effect in sorted(effects, key=key))


def _with_interval(told: MetricEffect, replicates: Replicates, policy: Policy) -> MetricEffect:
    theta, lower, upper = interval(replicates, policy.confidence)
    return replace(told, effect=theta, lower=lower, upper=upper)


def _scaled(sign: float, difference: float, tau: float) -> float:
    return sign * difference / tau + 0.0  # no change is 0, never -0


def _usable(replicates: Sequence[float]) -> bool:
    return len(replicates) == GROUPS and all(math.isfinite(replicate) for replicate in replicates)
