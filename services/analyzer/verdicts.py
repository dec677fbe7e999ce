"""From family effects to a verdict and a sentence (rules 8 and 9 of the statistics). Knows no metric and no text.

One comparison says how far, a history says whether it lasts. A family is *beyond* a bound when the lower end of its
interval is above it and Holm over the families upholds that the margin is exceeded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.records.analysis import Family, FamilyEffect, PastEffects, Policy, Verdict, VerdictReason
from services.analyzer.doubts import Circumstances, doubt, recent
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
    now: Circumstances = Circumstances(),  # noqa: B008  # frozen
) -> Judgement:
    """Return the verdict on a candidate; `families` are adjusted by Holm, `history` rises and is without the candidate.

    Families that are beyond the margin speak first. STABLE needs every family that both sides measured to vote and to
    lie below the margin, so it is never said for lack of data.
    """
    beyond = sorted((f for f in families if is_beyond(f, policy)), key=lambda f: -f.lower)
    lasting = [family for family in beyond if lasts(family.family, history, policy)]
    doubts = {family.family: doubt(family, now, history, policy) for family in lasting}
    certain = [family for family in lasting if doubts[family.family] is None]
    if beyond and beyond[0].lower > policy.far_bound:
        return _far(beyond[0], policy)
    if certain:
        return _lasting(certain[0], policy)
    if lasting:
        return _doubtful(lasting[0], doubts[lasting[0].family], policy)
    if beyond:
        return _warning(beyond[0], policy)
    if hindrances:
        first = hindrances[0]
        return Judgement(verdict=Verdict.INSUFFICIENT_DATA, reason=first.reason, sentence=first.sentence)
    return _within_or_unclear(families, policy)


def is_beyond(family: FamilyEffect, policy: Policy) -> bool:
    """Return whether the effect is beyond the margin of `policy`."""
    return family.lower > policy.margin and family.p_value < 1 - policy.confidence


def first_beyond(
    families: Sequence[FamilyEffect], history: Sequence[PastEffects], policy: Policy, generation: int | None
) -> int | None:
    """Return the first generation of a sequence in which a family was beyond the margin.

    None where none was, or where the candidate has no number.
    """
    if generation is None:
        return None
    sequence = (*history, PastEffects(generation=generation, families=tuple(families)))
    return next((one.generation for one in sequence if any(is_beyond(f, policy) for f in one.families)), None)


def lasts(family: Family, history: Sequence[PastEffects], policy: Policy) -> bool:
    """Return whether `family` was beyond the margin in the last persistence - 1 generations that were looked at.

    One in which the family could not vote breaks the row. A number that is missing does not: a pipeline may count in
    steps of training, or have lost one, and what nobody looked at speaks neither for nor against.
    """
    before = recent(history, policy)
    return len(before) == policy.persistence - 1 and all(_was_beyond(family, past, policy) for past in before)


def figures(family: FamilyEffect, policy: Policy) -> str:
    """Return an effect with its interval, as a person reads it."""
    percent = f"{100 * policy.confidence:g} %"
    return f"{family.effect:.2f} human spreads ({percent} interval {family.lower:.2f} to {family.upper:.2f})"


def _was_beyond(family: Family, past: PastEffects, policy: Policy) -> bool:
    effect = past.of(family)
    return effect is not None and is_beyond(effect, policy)


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


def _doubtful(family: FamilyEffect, doubt: str | None, policy: Policy) -> Judgement:
    return Judgement(
        verdict=Verdict.WARNING,
        reason=VerdictReason.BEYOND_MARGIN,
        sentence=f"Warning: the {SUBJECTS[family.family]} has been worse than the baseline by more than the margin of "
        f"{policy.margin:g} for {policy.persistence} generations in a row, now by {figures(family, policy)}. It is not "
        f"called collapse, since {doubt}.",
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
        f"{figures(worst, policy)}, {_why_unclear(worst, policy)}; measure more documents or more prompts.",
    )


def _why_unclear(family: FamilyEffect, policy: Policy) -> str:
    if family.lower > policy.margin:
        # Holm asks more of one family where several are tried.
        return (
            f"beyond the margin of {policy.margin:g}, but not surely so among several families (p {family.p_value:.2g})"
        )
    return f"which lies on both sides of the margin of {policy.margin:g}"
