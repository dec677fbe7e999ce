"""What people do without a verdict: a threshold on one number, relative to the baseline. On the same sequences.

At a fixed token budget distinct-1 is the type-token ratio, and the number of types in proportion to it; the rules
differ in their bounds and in which way they look. A metric that is not there raises no alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from benchmarks.detection.judge import Step, first
from benchmarks.detection.record import Value


class Sequenced(Protocol):
    """A baseline and what was seen after it."""

    @property
    def values(self) -> tuple[Value, ...]:
        """Return what the baseline measured."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return the generations, in rising order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An alarm when a metric has moved by more than a share of its value in the baseline."""

    metric: str
    bound: float
    """Share, above 0."""
    way: int
    """1 where a rise is bad, -1 where a fall is, 0 where both are."""

    def moved(self, before: Mapping[str, float], now: Mapping[str, float]) -> float:
        """Return by what share the metric moved in the bad way; minus infinity where that is not known."""
        if self.metric not in before or self.metric not in now or before[self.metric] <= 0:
            return -math.inf
        share = now[self.metric] / before[self.metric] - 1
        return share * self.way if self.way else abs(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One or several rules, each of which is enough for an alarm."""

    name: str
    rules: tuple[Rule, ...]

    def first_alarm(self, one: Sequenced) -> int | None:
        """Return the first generation that breaks a rule, None if none does."""
        before = known(one.values)
        return first(
            one.steps, lambda step: any(rule.moved(before, known(step.values)) > rule.bound for rule in self.rules)
        )


_DISTINCT = Rule(metric="distinct_1", bound=0.10, way=-1)
_PERPLEXITY = Rule(metric="heldout_perplexity", bound=0.10, way=1)
_VOCABULARY = Rule(metric="types", bound=0.20, way=-1)
PERPLEXITY = Rival(name="perplexity +10 %", rules=(_PERPLEXITY,))
RIVALS = (
    Rival(name="distinct-1 -10 %", rules=(_DISTINCT,)),
    PERPLEXITY,
    Rival(name="vocabulary -20 %", rules=(_VOCABULARY,)),
    Rival(name="any of the three", rules=(_DISTINCT, _PERPLEXITY, _VOCABULARY)),
    Rival(name="self-BLEU +10 %", rules=(Rule(metric="self_bleu_4", bound=0.10, way=1),)),
    Rival(name="type-token ratio +-10 %", rules=(Rule(metric="type_token_ratio", bound=0.10, way=0),)),
)


def known(values: Iterable[Value]) -> Mapping[str, float]:
    """Return the values that are defined, by the id of their metric."""
    return {one.id: one.value for one in values if one.value is not None}


def tuned(rival: Rival, sequences: Sequence[Sequenced], rate: float) -> Rival | None:
    """Return the rival of one rule with the bound that at most `rate` of human sequences break.

    None where no sequence knows its metric, and for combinations, whose bounds a rate does not decide.
    """
    if len(rival.rules) > 1:
        return None
    (rule,) = rival.rules
    worst = sorted(_worst(rule, one) for one in sequences)
    if not worst or worst[-1] == -math.inf:
        return None
    bound = worst[len(worst) - 1 - math.floor(rate * len(worst))]
    return Rival(name=f"{rule.metric}, tuned", rules=(replace(rule, bound=bound),))


def _worst(rule: Rule, one: Sequenced) -> float:
    before = known(one.values)
    return max((rule.moved(before, known(step.values)) for step in one.steps), default=-math.inf)
