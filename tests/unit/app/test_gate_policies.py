"""Policies of a gate on the command line: words and files, read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.gate import GRAVITY, decide, reaches
from ouroscope.records.analysis import Policy, Verdict
from ouroscope.records.monitors import GatePolicy
from ouroscope_app.gating.policies import gate_policy, read_policy
from tests.unit.app.gate_examples import comparison


@pytest.mark.parametrize("source", ["", "warning"])
def test_a_warning_is_refused_unless_something_else_is_said(source: str) -> None:
    assert gate_policy(source, False, Policy()) == GatePolicy()


def test_a_word_keeps_the_thresholds() -> None:
    own = Policy(margin=2.0)
    found = gate_policy("collapse", True, own)
    assert found == GatePolicy(policy=own, refuse_from=Verdict.COLLAPSE, allow_insufficient_data=True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gate.yaml", "refuse_from: collapse\npolicy:\n  margin: 1.5\n"),
        ("gate.json", '{\n\t"refuse_from": "COLLAPSE",\n\t"policy": {"margin": 1.5}\n}\n'),
    ],
)
def test_a_file_says_all_that_a_policy_can(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    expected = GatePolicy(policy=Policy(margin=1.5), refuse_from=Verdict.COLLAPSE)
    assert gate_policy(str(path), False, Policy(margin=3.0)) == expected


def test_the_option_lets_through_what_the_file_does_not(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("refuse_from: WARNING\n")
    assert gate_policy(str(path), True, Policy()).allow_insufficient_data


def test_all_problems_of_a_file_are_told_at_once_with_what_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("refuse_form: WARNING\npolicy: {margn: 1.0, persistence: many}\nallow_insufficient_data: perhaps\n")
    with pytest.raises(InvalidRequest) as wrong:
        gate_policy(str(path), False, Policy())
    told = wrong.value.message
    assert all(word in told for word in ("gate.yaml", "did you mean refuse_from", "did you mean margin", "persistence"))
    assert "allow_insufficient_data" in told


@pytest.mark.parametrize("text", ["- a list\n", "{broken", "", "refuse_from: STABLE\n", "policy: {far_bound: 0.5}\n"])
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=r"gate\.yaml"):
        gate_policy(str(path), False, Policy())


def test_json_that_is_broken_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    path.write_text('{\n"refuse_from":\n}')
    with pytest.raises(InvalidRequest, match=r"gate\.json:3"):
        gate_policy(str(path), False, Policy())


def test_a_policy_that_is_nowhere_names_the_words() -> None:
    with pytest.raises(NotFound, match="warning, collapse"):
        gate_policy("colapse", False, Policy())


def test_a_monitor_reads_thresholds_alone(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("margin: 1.5\nrefuse_from: COLLAPSE\n")
    with pytest.raises(InvalidRequest, match="refuse_from"):
        read_policy(Policy, str(path))


def test_a_graver_verdict_never_passes_where_a_lighter_one_is_refused() -> None:
    for refused in (Verdict.WARNING, Verdict.COLLAPSE):
        passed = [decide(comparison(verdict), GatePolicy(refuse_from=refused)).passed for verdict in GRAVITY]
        assert passed == sorted(passed, reverse=True)


def test_what_cannot_be_judged_is_refused_unless_it_is_allowed() -> None:
    unjudged = comparison(Verdict.INSUFFICIENT_DATA)
    assert not decide(unjudged, GatePolicy(refuse_from=Verdict.COLLAPSE)).passed
    assert decide(unjudged, GatePolicy(allow_insufficient_data=True)).passed


def test_what_cannot_be_judged_is_as_grave_as_nothing() -> None:
    assert not any(reaches(Verdict.INSUFFICIENT_DATA, least) for least in GRAVITY)
