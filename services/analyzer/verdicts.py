"""From family effects to a verdict and a sentence (rules 8 and 9 of the statistics). Knows no metric and no text.

One comparison says how far, a history says whether it lasts. A family is *beyond* a bound when the lower end of its
interval is above it and Holm over the families upholds that the margin is exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ouroscope.records.analysis import Family, FamilyEffect, PastEffects, Policy, Verdict, VerdictReason
from services.analyzer.hindrances import Hindrance

SUBJECTS = {
    Family.TEXT: "diversity of the text",
    Family.NETWORK: "richness of the semantic network",
    Family.MODEL: "openness of the model's predictions",
    Family.EMBEDDING: "spread of the meanings",
}
"""What falls when a family moves towards collapse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its reason, in words."""

    verdict: Verdict
    reason: VerdictReason
    sentence: str


def judge(
    families: Sequence[FamilyEffect],
    hindrances: Sequence[Hindrance],
    history: Sequence[PastEffects],
    policy: Policy,
) -> Judgement:
    """Return the verdict on a candidate; `families` are adjusted by Holm, `history` rises and is without the candidate.

    Families that are beyond the margin speak first. STABLE needs every family that both sides measured to vote and to
    lie below the margin, so it is never said for lack of data.
    """
    beyond = sorted((f for f in families if is_beyond(f, policy)), key=lambda f: -f.lower)
    lasting = [family for family in beyond if lasts(family.family, history, policy)]
    if beyond and beyond[0].lower > policy.far_bound:
        return _far(beyond[0], policy)
    if lasting:
        return _lasting(lasting[0], policy)
    if beyond:
        return _warning(beyond[0], policy)
    if hindrances:
        first = hindrances[0]
        return Judgement(verdict=Verdict.INSUFFICIENT_DATA, reason=first.reason, sentence=first.sentence)
    return _within_or_unclear(families, policy)


def is_beyond(family: FamilyEffect, policy: Policy) -> bool:
    """Return whether the effect is beyond the margin of `policy`."""
    return family.lower > policy.margin and family.p_value < 1 - policy.confidence


def lasts(family: Family, history: Sequence[PastEffects], policy: Policy) -> bool:
    """Return whether `family` was beyond the margin in all of the persistence - 1 generations before the candidate.

    A generation that is missing, or in which the family could not vote, breaks the sequence.
    """
    needed = policy.persistence - 1
    if needed == 0:
        return True
    recent = history[-needed:]
    unbroken = all(late.generation == early.generation + 1 for early, late in pairwise(recent))
    return len(recent) == needed and unbroken and all(_was_beyond(family, past, policy) for past in recent)


def figures(family: FamilyEffect, policy: Policy) -> str:
    """Return an effect with its interval, as a person reads it."""
    percent = f"{100 * policy.confidence:g} %"
    return f"{family.effect:.2f} human spreads ({percent} interval {family.lower:.2f} to {family.upper:.2f})"


def _was_beyond(family: Family, past: PastEffects, policy: Policy) -> bool:
    return any(effect.family is family and is_beyond(effect, policy) for effect in past.families)


def _far(family: FamilyEffect, policy: Policy) -> Judgement:
    return Judgement(
        verdict=Verdict.COLLAPSE,
        reason=VerdictReason.BEYOND_FAR_BOUND,
        sentence=f"Collapse: the {SUBJECTS[family.family]} is {figures(family, policy)} worse than the baseline, "
        f"wholly beyond the far bound of {policy.far_bound:g} that no human control reached.",
    )


def _lasting(family: FamilyEffect, policy: Policy) -> Judgement:
    return Judgement(
        verdict=Verdict.COLLAPSE,
        reason=VerdictReason.PERSISTENT,
        sentence=f"Collapse: the {SUBJECTS[family.family]} has been worse than the baseline by more than the margin of "
        f"{policy.margin:g} for {policy.persistence} generations in a row, now by {figures(family, policy)}.",
    )


def _warning(family: FamilyEffect, policy: Policy) -> Judgement:
    return Judgement(
        verdict=Verdict.WARNING,
        reason=VerdictReason.BEYOND_MARGIN,
        sentence=f"Warning: the {SUBJECTS[family.family]} is {figures(family, policy)} worse than the baseline, beyond "
        f"the margin of {policy.margin:g}; if it stays so for {policy.persistence} generations it is collapse.",
    )


def _within_or_unclear(families: Sequence[FamilyEffect], policy: Policy) -> Judgement:
    if not families:
        return Judgement(
            verdict=Verdict.INSUFFICIENT_DATA,
            reason=VerdictReason.NOTHING_COMPARABLE,
            sentence="Nothing can be compared: the two sides have no headline metric in common; measure the same "
            "metrics of both, and both with text or both with predictions.",
        )
    worst = max(families, key=lambda family: family.upper)
    if worst.upper < policy.margin:
        return Judgement(
            verdict=Verdict.STABLE,
            reason=VerdictReason.WITHIN_MARGIN,
            sentence=f"Stable: nothing is worse than the baseline by the margin of {policy.margin:g}; closest to it is "
            f"the {SUBJECTS[worst.family]}, at {figures(worst, policy)}, where above 0 is worse.",
        )
    return Judgement(
        verdict=Verdict.INSUFFICIENT_DATA,
        reason=VerdictReason.TOO_WIDE,
        sentence=f"Too uncertain to tell: the {SUBJECTS[worst.family]} is worse than the baseline by "
        f"{figures(worst, policy)}, which lies on both sides of the margin of {policy.margin:g}; measure more "
        "documents or more prompts.",
    )
