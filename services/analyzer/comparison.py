"""Compares a candidate with a baseline: effects, families, shift guard, verdict. Pure; knows no text and no store.

Everything happens at the largest rung of the ladder that both sides reach (rule 1). Metrics measured on one side only
are left out. Reports of different versions of the analyzer are compared in the metrics that kept their definition.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from ouroscope.errors import FieldProblem, InvalidRequest, Undefined
from ouroscope.records.analysis import (
    Comparison,
    Direction,
    Family,
    FamilyEffect,
    MetricEffect,
    MetricInfo,
    MetricValue,
    PastEffects,
    Policy,
)
from services.analyzer.catalogue import CATALOGUE
from services.analyzer.comparable import check_definitions, check_tools, check_unit
from services.analyzer.doubts import Circumstances, length_ratio
from services.analyzer.effects import (
    NO_DIRECTION,
    Effect,
    adjust,
    by_evidence,
    family_effect,
    metric_effect,
    without_effect,
)
from services.analyzer.explanation import explanation_of
from services.analyzer.hindrances import silent_families, too_little_text
from services.analyzer.relative import relative_metrics
from services.analyzer.shift import not_covered, shift_between
from services.analyzer.side import Side
from services.analyzer.spread import HumanSpread
from services.analyzer.verdicts import first_beyond, judge

BY_TEXT = (Family.TEXT, Family.NETWORK, Family.EMBEDDING)
"""Families that look at the text, rung by rung; where the shift guard closes they do not vote."""

RELATIVE_ALREADY = "it says by itself how the candidate relates to the baseline"
"""Why such a metric has no effect. Between halves of one human source vocabulary coverage is .58 +- .02, between
generations of a model that reads people .44: the human spread is no unit for it."""

_INFO = {info.id: info for info in CATALOGUE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What the effects of all metrics of one comparison share."""

    baseline: Side
    candidate: Side
    spread: HumanSpread
    policy: Policy


def compare(
    baseline: Side,
    candidate: Side,
    *,
    spread: HumanSpread,
    policy: Policy,
    history: Sequence[PastEffects] = (),
    generation: int | None = None,
    explain: int = 0,
) -> Comparison:
    """Return the verdict on `candidate` beside `baseline`, with the effects it rests on.

    Args:
        baseline: A report or a frozen baseline.
        candidate: A report.
        spread: How far human sources differ, the unit of effects.
        policy: When a difference matters.
        history: Family effects of earlier generations of the candidate's sequence, in rising order.
        generation: Number of the candidate in its sequence; None where it is not part of one.
        explain: Most concepts, repeated texts and prompts to explain it with; it changes no verdict.

    Raises:
        InvalidRequest: the history is not in rising order, or does not end before the candidate.
    """
    _check(history, generation)
    budget = common_budget(baseline, candidate)
    shift = shift_between(baseline, candidate, budget) if budget else None
    case = _Case(baseline=baseline, candidate=candidate, spread=spread, policy=policy)
    effects = tuple(_effects(case, budget))
    shifted = shift is not None and shift.leaves_domain(policy)
    families = _families(effects, policy, silent=BY_TEXT if shifted else ())
    hindrances = [*too_little_text(baseline.report, candidate.report, budget), *silent_families(effects, families)]
    now = Circumstances(
        excess_novelty=shift.excess if shift else None, length_ratio=length_ratio(baseline, candidate, budget)
    )
    judgement = not_covered(shift) if shift and shifted else judge(families, hindrances, history, policy, now)
    return Comparison(
        verdict=judgement.verdict,
        reason=judgement.reason,
        sentence=judgement.sentence,
        budget=budget,
        novel_token_share=shift.share if shift else None,
        expected_novel_token_share=shift.expected if shift else None,
        families=families,
        metrics=by_evidence(effects, policy.margin),
        policy=policy,
        explanation=explanation_of(baseline, candidate, budget, explain) if explain else None,
        first_beyond=first_beyond(families, history, policy, generation),
    )


def common_budget(baseline: Side, candidate: Side) -> int:
    """Return the largest rung of the ladder that both sides reach; 0 if there is none."""
    return max(baseline.budgets & candidate.budgets, default=0)


def _check(history: Sequence[PastEffects], generation: int | None) -> None:
    if any(late.generation <= early.generation for early, late in pairwise(history)):
        _refuse("generations must rise, each given once")
    if history and generation is not None and history[-1].generation >= generation:
        _refuse(f"must end before the candidate, generation {generation}, and holds {history[-1].generation}")


def _refuse(description: str) -> None:
    problem = FieldProblem("history", description)
    raise InvalidRequest(f"the comparison is not valid: {problem.field}: {problem.description}", [problem])


def _families(effects: Sequence[Effect], policy: Policy, silent: Sequence[Family]) -> tuple[FamilyEffect, ...]:
    found = (family_effect(family, effects, policy) for family in Family if family not in silent)
    return adjust([effect for effect in found if effect is not None])


def _effects(case: _Case, budget: int) -> Iterator[Effect]:
    baseline, candidate = case.baseline, case.candidate
    if budget:
        for info, ours, theirs in _shared(baseline.text_values(budget), candidate.text_values(budget)):
            yield _effect(case, info, ours, theirs, budget)
        check = partial(check_tools, baseline=baseline.report, candidate=candidate.report)
        for value in relative_metrics(baseline.fingerprints[budget], candidate.fingerprints[budget], check):
            told = MetricEffect(id=value.id, candidate=value.value)
            yield without_effect(_INFO[value.id], told, value.undefined_because or RELATIVE_ALREADY)
    for info, ours, theirs in _shared(baseline.model_values, candidate.model_values):
        yield _effect(case, info, ours, theirs, 0)


def _shared(
    ours: Mapping[str, MetricValue], theirs: Mapping[str, MetricValue]
) -> Iterator[tuple[MetricInfo, MetricValue, MetricValue]]:
    for metric in ours:
        if metric in theirs and metric in _INFO:
            yield _INFO[metric], ours[metric], theirs[metric]


def _effect(case: _Case, info: MetricInfo, ours: MetricValue, theirs: MetricValue, budget: int) -> Effect:
    try:
        check_definitions(ours, theirs)
        check_tools(info.id, case.baseline.report, case.candidate.report)
        tau = _unit(case, info, ours, budget)
    except Undefined as reason:
        told = MetricEffect(id=info.id, baseline=ours.value, candidate=theirs.value)
        return without_effect(info, told, str(reason))
    return metric_effect(info, ours, theirs, tau, case.policy)


def _unit(case: _Case, info: MetricInfo, ours: MetricValue, budget: int) -> float:
    if info.direction is Direction.NONE:
        raise Undefined(NO_DIRECTION)
    check_unit(info.id, case.candidate.report, case.spread)
    return case.spread.deviation(info.id, budget, ours.value or 0.0, ours.definition)
