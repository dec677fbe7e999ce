"""From a verdict to a decision: may this be trained on? One rule for the command line, the service and a pipeline."""

from __future__ import annotations

from ouroscope.records.analysis import Comparison, Verdict
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import GateDecision, GatePolicy

GRAVITY = (Verdict.STABLE, Verdict.WARNING, Verdict.COLLAPSE)
"""Rising. INSUFFICIENT_DATA is not among them: it says that nobody knows."""


def decide(comparison: Comparison, policy: GatePolicy, report: ArtifactRef | None = None) -> GateDecision:
    """Return whether a candidate may pass, and why.

    What cannot be judged is refused unless the policy lets it through: a gate that opens for lack of data is none.
    """
    passed = _passes(comparison.verdict, policy)
    return GateDecision(
        passed=passed,
        sentence=f"{'Passed' if passed else 'Refused'}. {comparison.sentence}{_hint(comparison.verdict, passed)}",
        comparison=comparison,
        report=report,
        policy=policy,
    )


def reaches(verdict: Verdict, least: Verdict) -> bool:
    """Return whether `verdict` is as grave as `least`; what cannot be judged reaches nothing."""
    return verdict in GRAVITY and GRAVITY.index(verdict) >= GRAVITY.index(least)


def _passes(verdict: Verdict, policy: GatePolicy) -> bool:
    if verdict is Verdict.INSUFFICIENT_DATA:
        return policy.allow_insufficient_data
    return not reaches(verdict, policy.refuse_from)


def _hint(verdict: Verdict, passed: bool) -> str:
    if verdict is not Verdict.INSUFFICIENT_DATA:
        return ""
    return " The policy lets through what cannot be judged." if passed else " What cannot be judged is not let through."
