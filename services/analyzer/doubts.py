"""Why a fall of diversity that lasts may be something else: another topic, or documents of another length.

A model that learns from its own text stays inside the words it has: its share of new words sinks below what the
clusters of the baseline find new in one another. People who turn to another topic bring its words along, at most as
varied as before, and a third of the length cuts a third of the relations off. docs/detection.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.records.analysis import Family, FamilyEffect, PastEffects, Policy
from services.analyzer.side import Side

LENGTH = "document_length"
NEAR = 1.1
"""Times the margin: a lower end that stays below on average may be another topic's, whatever its words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What is known of a candidate beside its effects."""

    excess_novelty: float | None = None
    """Share of its words that the baseline never saw, beyond what is expected of text of the baseline's sources."""
    length_ratio: float | None = None
    """Mean length of its documents in terms of the baseline's."""


def length_ratio(baseline: Side, candidate: Side, budget: int) -> float | None:
    """Return how long the candidate's documents are in terms of the baseline's; None where one is not known."""
    ours, theirs = (side.text_values(budget).get(LENGTH) for side in (baseline, candidate))
    if ours is None or theirs is None or not ours.value or not theirs.value:
        return None
    return theirs.value / ours.value


def doubt(effect: FamilyEffect, now: Circumstances, history: Sequence[PastEffects], policy: Policy) -> str | None:
    """Return why what lasts in a family is not called collapse, or None. The model's own answers are beyond doubt.

    Narrowing and lower ends are averaged over the generations that persistence looks at: one share of new words alone
    has an error of about .01.
    """
    if effect.family is Family.MODEL:
        return None
    ratio = now.length_ratio
    if ratio is not None and abs(math.log(ratio)) > math.log(policy.max_length_ratio):
        return (
            f"its documents are {ratio:.2g} times as long as the baseline's, which moves diversity by itself; compare "
            "with a baseline of such documents"
        )
    new = _mean_novelty(now, history, policy)
    if new is not None and new > -policy.min_narrowing:
        return (
            "it brings as many new words as text of the same sources would, which a model that learns from itself does "
            f"not ({new:+.1%} of what is expected, collapse lies below {-policy.min_narrowing:+.1%}): rather another "
            "topic; choose a baseline that has it"
        )
    lower = _mean_lower(effect, history, policy)
    if lower <= NEAR * policy.margin:
        return (
            f"it stays near the margin (lower ends of {lower:.2f} on average, collapse lies above "
            f"{NEAR * policy.margin:.2f}), as another topic can; look at what moved, and wait"
        )
    return None


def recent(history: Sequence[PastEffects], policy: Policy) -> Sequence[PastEffects]:
    """Return the generations before the candidate that persistence looks at, as many of them as there are."""
    return history[-(policy.persistence - 1) :] if policy.persistence > 1 else ()


def _mean_novelty(now: Circumstances, history: Sequence[PastEffects], policy: Policy) -> float | None:
    shares = (*(past.excess_novelty for past in recent(history, policy)), now.excess_novelty)
    told = [share for share in shares if share is not None]
    return math.fsum(told) / len(told) if told else None


def _mean_lower(effect: FamilyEffect, history: Sequence[PastEffects], policy: Policy) -> float:
    before = (past.of(effect.family) for past in recent(history, policy))
    lowers = [effect.lower, *(one.lower for one in before if one is not None)]
    return math.fsum(lowers) / len(lowers)
