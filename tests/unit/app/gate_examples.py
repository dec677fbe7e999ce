"""Decisions to look at: made-up figures, and words of strangers that are hostile on purpose."""

from __future__ import annotations

from ouroscope.gate import decide
from ouroscope.records.analysis import (
    Comparison,
    ConceptMove,
    Explanation,
    Family,
    FamilyEffect,
    MetricEffect,
    Policy,
    PromptMove,
    RepeatedText,
    Verdict,
    VerdictReason,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.monitors import GatePolicy
from ouroscope_app.gating.question import Answered, Question

HOSTILE = (
    "</details></testcase>]]>\n| a | <img src=x onerror=alert(1)> [link](http://evil.example) www.evil.example `x` "
    "@everyone #1 *bold* \x1b[2J\x07\x00 \u202eabc\ud800"
)


def family(kind: Family, lower: float, upper: float, p_value: float) -> FamilyEffect:
    middle = (lower + upper) / 2
    return FamilyEffect(
        family=kind, effect=middle, lower=lower, upper=upper, p_value=p_value, metrics=("types", "mattr")
    )


def metric(id: str, effect: float) -> MetricEffect:
    return MetricEffect(id=id, baseline=2000.0, candidate=500.0, effect=effect, lower=effect - 1, upper=effect + 1)


WORSE = family(Family.TEXT, 2.0, 3.0, 0.001)
WITHIN = family(Family.NETWORK, -0.5, 0.5, 1.0)
UNCLEAR = family(Family.MODEL, 0.5, 4.0, 0.2)

EXPLANATION = Explanation(
    concepts=(ConceptMove(label=HOSTILE, baseline_share=0.004, candidate_share=0.031),),
    repeated_texts=tuple(RepeatedText(text=f"{HOSTILE} {n}", documents=40 - n, clusters=30 - n) for n in range(5)),
    prompts=(
        PromptMove(
            prompt_id=HOSTILE, baseline_entropy=2.1, candidate_entropy=0.3, baseline_top1=0.4, candidate_top1=0.95
        ),
    ),
)


def comparison(verdict: Verdict, *families: FamilyEffect, reason: VerdictReason | None = None) -> Comparison:
    reasons = {
        Verdict.STABLE: VerdictReason.WITHIN_MARGIN,
        Verdict.WARNING: VerdictReason.BEYOND_MARGIN,
        Verdict.COLLAPSE: VerdictReason.BEYOND_FAR_BOUND,
        Verdict.INSUFFICIENT_DATA: VerdictReason.TOO_FEW_TOKENS,
    }
    return Comparison(
        verdict=verdict,
        reason=reason or reasons[verdict],
        sentence=f"{verdict.value}: domain {HOSTILE}.",
        budget=10_000,
        families=families,
        metrics=(metric("types", 2.5), metric("mtld", 0.4)),
        policy=Policy(),
        explanation=EXPLANATION,
    )


def answered(
    verdict: Verdict,
    *families: FamilyEffect,
    policy: GatePolicy | None = None,
    reason: VerdictReason | None = None,
    baseline: str = "human.jsonl",
) -> Answered:
    decision = decide(
        comparison(verdict, *families, reason=reason),
        policy or GatePolicy(),
        ArtifactRef(kind=ArtifactKind.REPORT, digest="a" * 64),
    )
    question = Question(baseline=baseline, candidate=f"{HOSTILE}.jsonl")
    return Answered(question=question, decision=decision, basis=("baseline: 10 documents",))


REFUSED = answered(Verdict.WARNING, WORSE, WITHIN, UNCLEAR)
PASSED = answered(Verdict.STABLE, WITHIN)
LET_THROUGH = answered(Verdict.WARNING, WORSE, WITHIN, policy=GatePolicy(refuse_from=Verdict.COLLAPSE))
UNJUDGED = answered(Verdict.INSUFFICIENT_DATA)
EVERY = (REFUSED, PASSED, LET_THROUGH, UNJUDGED)
