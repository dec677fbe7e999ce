"""The shift guard: is the candidate of a domain that the baseline covers? Less diversity is not collapse (rule 7).

The share of candidate tokens that the baseline never saw falls with the budget: for halves of one corpus it is .18 at
10,000 tokens and .05 at 100,000, so no fixed bound on it can hold. What the clusters of the baseline find new in one
another falls with it. The difference stays near 0 for text of the same domain at every budget, human or recursive, and
is large for another domain; docs/log.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.records.analysis import Policy, Verdict, VerdictReason
from services.analyzer.jackknife import estimate
from services.analyzer.relative import novelty, own_novelty
from services.analyzer.side import Side
from services.analyzer.verdicts import Judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How much of the candidate is new to the baseline, and how much would be in text of its own domain."""

    share: float
    """Share of candidate tokens whose type the baseline never saw, in [0, 1]."""
    expected: float
    """The same share between the clusters of the baseline, in [0, 1]."""

    @property
    def excess(self) -> float:
        """Return how much more of the candidate is new than would be in text of the baseline's sources."""
        return self.share - self.expected

    def leaves_domain(self, policy: Policy) -> bool:
        """Return whether the baseline does not cover the domain of the candidate."""
        return self.excess > policy.max_novel_token_share


def shift_between(baseline: Side, candidate: Side, budget: int) -> Shift:
    """Return the shift at a rung of which both sides have fingerprints.

    Raises:
        Undefined: a side has no token there.
    """
    ours, theirs = baseline.fingerprints[budget], candidate.fingerprints[budget]
    return Shift(share=estimate(novelty(ours, theirs)), expected=estimate(own_novelty(ours)))


def not_covered(shift: Shift) -> Judgement:
    """Return what is said instead of a verdict where the baseline does not cover the domain.

    The model family does not change that: a model that was taught another human domain also becomes surer or less sure
    on the prompts of the old one, and nobody has measured by how much.
    """
    return Judgement(
        verdict=Verdict.INSUFFICIENT_DATA,
        reason=VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN,
        sentence=f"The baseline does not cover the domain of the candidate: {shift.share:.0%} of its words never occur "
        f"in the baseline, where {shift.expected:.0%} are expected of the same domain. Less diversity in another "
        "domain is not collapse; choose a baseline of the same domain.",
    )
