"""Asks the gate in this process: both sides are measured or read here, no service is needed."""

from __future__ import annotations

from pathlib import Path

from ouroscope.errors import InvalidRequest
from ouroscope.gate import decide
from ouroscope.records.analysis import Policy
from ouroscope.records.documents import View
from ouroscope_app.comparison_table import basis
from ouroscope_app.expectations import expectations_named
from ouroscope_app.explaining import MOST
from ouroscope_app.gating.policies import gate_policy
from ouroscope_app.gating.question import Answered, Question
from ouroscope_app.home import Home
from ouroscope_app.measure import side_named
from services.analyzer.comparison import compare
from services.analyzer.spread import shipped_spread
from services.analyzer.tools import Tools

KEPT_BY_A_COORDINATOR = ("monitors/", "runs/")


def decide_here(home: Home, question: Question, tools: Tools) -> Answered:
    """Measure what has to be measured and return the decision.

    The view is that of monitors: a document with a real prefix is looked at behind it, so the gate says here what a
    coordinator would say.

    Raises:
        InvalidRequest: the policy is wrong, a side holds no documents, or only a coordinator knows the baseline.
        NotFound: there is no such policy, file, artifact or baseline.
    """
    policy = gate_policy(question.policy, question.allow_insufficient_data, Policy())
    _check_known_here(question.baseline)
    expected = expectations_named(home.store(), question.predictions)
    view = View.CONTINUATION
    baseline = side_named(home, question.baseline, question.text_field, view, tools)
    candidate = side_named(home, question.candidate, question.text_field, view, tools, expected, explained=True)
    comparison = compare(baseline, candidate, spread=shipped_spread(), policy=policy.policy, explain=MOST)
    decision = decide(comparison, policy, candidate.report.report)
    return Answered(question=question, decision=decision, basis=tuple(basis(comparison, (baseline, candidate))))


def _check_known_here(baseline: str) -> None:
    if baseline.startswith(KEPT_BY_A_COORDINATOR) and not Path(baseline).exists():
        raise InvalidRequest(f"only a coordinator knows {baseline}; say --coordinator HOST:PORT as well")
