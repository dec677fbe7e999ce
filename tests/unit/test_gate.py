"""The rule of the gate: which verdicts pass, under which policy."""

from __future__ import annotations

import pytest

from ouroscope.errors import InvalidRequest
from ouroscope.gate import GRAVITY, decide
from ouroscope.records.analysis import Comparison, Verdict, VerdictReason
from ouroscope.records.monitors import GatePolicy

LEVELS = (Verdict.WARNING, Verdict.COLLAPSE)


def said(verdict: Verdict) -> Comparison:
    return Comparison(verdict=verdict, reason=VerdictReason.TOO_WIDE, sentence="Something was said.")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("verdict", GRAVITY)
def test_what_is_as_grave_as_the_level_is_refused_and_everything_milder_passes(
    verdict: Verdict, level: Verdict
) -> None:
    decision = decide(said(verdict), GatePolicy(refuse_from=level))
    assert decision.passed is (GRAVITY.index(verdict) < GRAVITY.index(level))


@pytest.mark.parametrize("level", LEVELS)
def test_what_cannot_be_judged_passes_only_where_the_policy_says_so(level: Verdict) -> None:
    unknown = said(Verdict.INSUFFICIENT_DATA)
    assert not decide(unknown, GatePolicy(refuse_from=level)).passed
    assert decide(unknown, GatePolicy(refuse_from=level, allow_insufficient_data=True)).passed


def test_the_decision_begins_with_itself_and_keeps_what_it_rests_on() -> None:
    comparison = said(Verdict.COLLAPSE)
    decision = decide(comparison, GatePolicy())
    assert decision.sentence == "Refused. Something was said."
    assert (decision.comparison, decision.policy) == (comparison, GatePolicy())


@pytest.mark.parametrize("level", [Verdict.STABLE, Verdict.INSUFFICIENT_DATA])
def test_a_gate_that_would_refuse_everything_or_nothing_cannot_be_made(level: Verdict) -> None:
    with pytest.raises(InvalidRequest, match="refuse_from: must be WARNING or COLLAPSE"):
        GatePolicy(refuse_from=level)
