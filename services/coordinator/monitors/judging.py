"""What is said of a generation of a monitor, and what must be said again. Pure; compares nothing itself.

The analyzer gives the verdicts (statistics.md rule 12); here they are put together over the whole and its domains, and
the history that the next one rests on is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ouroscope.gate import GRAVITY
from ouroscope.records.analysis import (
    Comparison,
    FamilyEffect,
    PastEffects,
    Policy,
    Verdict,
    VerdictReason,
)
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import DomainComparison, MonitorGeneration

WHOLE = ""
"""Stands for the whole of a generation where a domain could stand; no domain is empty."""
LONGEST_HISTORY = 1000
"""Generations before the candidate that are sent along; far more than any persistence, far less than a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What later verdicts need of one comparison: of the whole, or of one domain."""

    domain: str = WHOLE
    baseline: ArtifactRef
    """What it was compared with: effects beside another baseline say nothing about this one."""
    families: tuple[FamilyEffect, ...]
    excess_novelty: float | None = None
    first_beyond: int | None = None
    persistence: int = Policy().persistence


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What later verdicts need of a recorded generation."""

    number: int
    verdict: Verdict | None = None
    """What was said of it; None for the baseline."""
    parts: tuple[Part, ...] = ()

    def part(self, domain: str) -> Part | None:
        """Return the comparison of a domain, or of the whole."""
        return next((part for part in self.parts if part.domain == domain), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A verdict over the whole and its domains."""

    verdict: Verdict
    reason: VerdictReason
    sentence: str
    domain: str = WHOLE
    """What it is said of."""


def past_of(generation: MonitorGeneration, baselines: Mapping[str, ArtifactRef]) -> Past:
    """Return what later verdicts need of a generation; `baselines` has what each part was compared with.

    A part whose baseline was missing, or that had no document, was not compared: it is no past.
    """
    compared = [(WHOLE, generation.comparison), *((one.domain, one.comparison) for one in generation.domains)]
    parts = [
        Part(
            domain=domain,
            baseline=baselines[domain],
            families=comparison.families,
            excess_novelty=comparison.excess_novelty,
            first_beyond=comparison.first_beyond,
            persistence=comparison.policy.persistence,
        )
        for domain, comparison in compared
        if comparison is not None and domain in baselines
    ]
    return Past(number=generation.number, verdict=generation.verdict, parts=tuple(parts))


def history_for(pasts: Sequence[Past], number: int, domain: str, baseline: ArtifactRef) -> tuple[PastEffects, ...]:
    """Return the effects of the generations before `number` beside the same baseline, in rising order.

    A new baseline begins a new sequence: three generations beyond two different baselines are not persistence.
    """
    before = sorted((past for past in pasts if past.number < number), key=lambda past: past.number)
    parts = [(past.number, past.part(domain)) for past in before]
    same = [(known, part) for known, part in parts if part is not None and part.baseline == baseline]
    return tuple(
        PastEffects(generation=known, families=part.families, excess_novelty=part.excess_novelty)
        for known, part in same[-LONGEST_HISTORY:]
    )


def to_judge_again(late: Past, later: Sequence[Past]) -> list[Past]:
    """Return which of the generations after a late one need another verdict, in rising order.

    Those that are so close behind it that persistence looks at it; and, where it lies beyond the margin itself, those
    whose sequence is said to have left the human band later than that, or not at all.
    """
    ordered = sorted((past for past in later if past.number > late.number), key=lambda past: past.number)
    return [past for position, past in enumerate(ordered) if _is_touched(late, past, position)]


def overall(whole: Comparison, domains: Sequence[DomainComparison]) -> Said:
    """Return the gravest verdict of the whole and of its domains; the sentence names the domain where it is one.

    INSUFFICIENT_DATA is no severity. Without a WARNING or worse the whole speaks for itself: domains that are STABLE do
    not make a whole stable that could not be judged.
    """
    grave = [one for one in domains if _gravity(one.comparison) > max(0, _gravity(whole))]
    if grave:
        worst = max(grave, key=lambda one: _gravity(one.comparison))
        return _said(worst.comparison, f"In the domain {worst.domain!r}: {worst.comparison.sentence}", worst.domain)
    alike = [one.domain for one in domains if one.comparison.verdict is whole.verdict]
    if _gravity(whole) > 0 and alike:
        return _said(whole, f"{whole.sentence} The same holds for {_listed(alike)}.")
    unclear = [one.domain for one in domains if one.comparison.verdict is Verdict.INSUFFICIENT_DATA]
    told = f" Not judged: {_listed(unclear)}." if unclear and whole.verdict is Verdict.STABLE else ""
    return _said(whole, whole.sentence + told)


def baseline_missing(baseline: ArtifactRef, policy: Policy) -> Comparison:
    """Return what is said where there is nothing left to compare with."""
    return Comparison(
        verdict=Verdict.INSUFFICIENT_DATA,
        reason=VerdictReason.BASELINE_MISSING,
        sentence=f"Nothing to compare with: the baseline {baseline} is not in the store any more, or is damaged; "
        "choose another one: `ouroscope monitors update --baseline` (UpdateMonitor).",
        policy=policy,
    )


def domain_missing(domain: str, policy: Policy) -> Comparison:
    """Return what is said of a domain that the generation does not have."""
    return Comparison(
        verdict=Verdict.INSUFFICIENT_DATA,
        reason=VerdictReason.TOO_FEW_TOKENS,
        sentence=f"The generation has no document and no record of the domain {domain!r}.",
        policy=policy,
    )


def _is_touched(late: Past, past: Past, position: int) -> bool:
    for part in past.parts:
        told = late.part(part.domain)
        if told is None or told.baseline != part.baseline:
            continue
        if position < part.persistence - 1:
            return True
        if told.first_beyond == late.number and (part.first_beyond is None or part.first_beyond > late.number):
            return True
    return False


def _gravity(comparison: Comparison) -> int:
    return GRAVITY.index(comparison.verdict) if comparison.verdict in GRAVITY else -1


def _said(comparison: Comparison, sentence: str, domain: str = WHOLE) -> Said:
    return Said(verdict=comparison.verdict, reason=comparison.reason, sentence=sentence, domain=domain)


def _listed(domains: Sequence[str]) -> str:
    return f"the {'domain' if len(domains) == 1 else 'domains'} {', '.join(map(repr, domains))}"
