"""The answer of a gate as JUnit XML: a case for the decision and one for each family, which every CI server can show.

A family fails only where the gate refuses: a pipeline that was let through shows no red.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from ouroscope_app.gating.question import Answered, next_step
from ouroscope_app.printable import printable
from ouroscope_app.standing import FamilyStanding, Standing, standings

SUITE = "ouroscope.gate"
LONGEST = 2000


def junit(answered: Answered) -> str:
    """Return the whole document."""
    cases = [
        _decision_case(answered),
        *(_family_case(one, answered) for one in standings(answered.decision.comparison)),
    ]
    counts = {
        "tests": str(len(cases)),
        "failures": str(_holding(cases, "failure")),
        "errors": "0",
        "skipped": str(_holding(cases, "skipped")),
    }
    suites = ElementTree.Element("testsuites", {"name": SUITE, **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": SUITE, **counts})
    suite.append(_properties(answered))
    suite.extend(cases)
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _properties(answered: Answered) -> ElementTree.Element:
    told = {
        "baseline": answered.question.baseline,
        "candidate": answered.question.candidate,
        "verdict": answered.decision.comparison.verdict.value,
        "reason": answered.decision.comparison.reason.value,
        "report": str(answered.decision.report or ""),
    }
    properties = ElementTree.Element("properties")
    for name, value in told.items():
        if value:
            ElementTree.SubElement(properties, "property", {"name": name, "value": printable(value, LONGEST)})
    return properties


def _decision_case(answered: Answered) -> ElementTree.Element:
    case = _case("decision")
    sentence = printable(answered.decision.sentence, LONGEST)
    if answered.decision.passed:
        ElementTree.SubElement(case, "system-out").text = sentence
        return case
    kind = answered.decision.comparison.verdict.value
    failure = ElementTree.SubElement(case, "failure", {"message": sentence, "type": kind})
    step = next_step(answered)
    failure.text = "\n".join((sentence, *answered.basis, f"{step.said} {step.command}".rstrip()))
    return case


def _family_case(one: FamilyStanding, answered: Answered) -> ElementTree.Element:
    case = _case(one.name)
    if one.standing in (Standing.SILENT, Standing.UNCLEAR):
        ElementTree.SubElement(case, "skipped", {"message": _told(one)})
    elif one.standing is Standing.WORSE and not answered.decision.passed:
        kind = answered.decision.comparison.verdict.value
        ElementTree.SubElement(case, "failure", {"message": _told(one), "type": kind}).text = _told(one)
    else:
        ElementTree.SubElement(case, "system-out").text = _told(one)
    return case


def _case(name: str) -> ElementTree.Element:
    # No clock is read: the same candidate gives the same file.
    return ElementTree.Element("testcase", {"classname": SUITE, "name": name, "time": "0"})


def _told(one: FamilyStanding) -> str:
    if one.effect is None:
        return one.words
    return f"{one.effect.effect:+.2f} human spreads ({one.effect.lower:+.2f} to {one.effect.upper:+.2f}), {one.words}"


def _holding(cases: Iterable[ElementTree.Element], tag: str) -> int:
    return sum(case.find(tag) is not None for case in cases)
