"""The forms of a gate's answer: all say the same, and no text of a stranger breaks any of them."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from ouroscope.canonical import from_plain, to_plain
from ouroscope.records.analysis import Family, Verdict, VerdictReason
from ouroscope.records.monitors import GateDecision
from ouroscope_app.gating.junit import junit
from ouroscope_app.gating.markdown import markdown
from ouroscope_app.gating.question import Answered, next_step
from ouroscope_app.gating.summary import show_answer
from ouroscope_app.standing import Standing, standings
from tests.unit.app.gate_examples import (
    EVERY,
    HOSTILE,
    LET_THROUGH,
    PASSED,
    REFUSED,
    UNJUDGED,
    WITHIN,
    WORSE,
    answered,
)

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

ATTRIBUTES = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"classname", "name", "time"},
    "failure": {"message", "type"},
    "skipped": {"message"},
    "system-out": set(),
}
"""Elements and attributes that the schemas of Jenkins, GitLab and Maven's Surefire have in common."""


def summary(answer: Answered) -> str:
    stream = io.StringIO()
    show_answer(Console(file=stream, width=200, highlight=False), answer)
    return stream.getvalue()


def cases(answer: Answered) -> dict[str, ElementTree.Element]:
    return {case.attrib["name"]: case for case in ElementTree.fromstring(junit(answer)).iter("testcase")}


@pytest.mark.parametrize("answer", EVERY)
def test_every_form_tells_the_decision(answer: Answered) -> None:
    assert answer.title in summary(answer)
    assert answer.title.lower() in markdown(answer).splitlines()[0]
    assert (cases(answer)["decision"].find("failure") is None) == answer.decision.passed


@pytest.mark.parametrize("answer", EVERY)
def test_no_form_holds_a_control_character(answer: Answered) -> None:
    for text in (summary(answer), markdown(answer), junit(answer)):
        assert not CONTROL.search(text)
        text.encode("utf-8")


@pytest.mark.parametrize("answer", EVERY)
def test_junit_has_only_what_its_readers_know_and_counts_right(answer: Answered) -> None:
    suites = ElementTree.fromstring(junit(answer))
    (suite,) = suites
    for element in suites.iter():
        assert set(element.attrib) == ATTRIBUTES[element.tag]
    for counted in (suites, suite):
        assert int(counted.attrib["tests"]) == len(list(suite.iter("testcase"))) == len(Family) + 1
        assert int(counted.attrib["failures"]) == len(list(suite.iter("failure")))
        assert int(counted.attrib["skipped"]) == len(list(suite.iter("skipped")))


def test_junit_names_the_family_that_failed_and_skips_what_cannot_be_judged() -> None:
    found = cases(REFUSED)
    assert found["text"].find("failure") is not None
    assert found["network"].find("system-out") is not None
    assert found["model"].find("skipped") is not None
    assert found["embedding"].find("skipped") is not None


def test_what_was_let_through_shows_no_red() -> None:
    assert not list(ElementTree.fromstring(junit(LET_THROUGH)).iter("failure"))


def test_the_same_answer_gives_the_same_file() -> None:
    assert junit(REFUSED) == junit(REFUSED)


OURS = {"h3", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li"}


class Tags(HTMLParser):
    """The elements of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.found.append(f"/{tag}")


@pytest.mark.parametrize("answer", EVERY)
def test_nothing_in_markdown_is_markup_of_a_stranger(answer: Answered) -> None:
    # Oracle: markdown-it, a CommonMark parser that comes with rich.
    html = MarkdownIt("commonmark").enable("table").render(markdown(answer))
    found = Tags(html).found
    assert set(found) <= OURS | {f"/{tag}" for tag in OURS}
    assert found.count("/details") == 1


@pytest.mark.parametrize("answer", EVERY)
def test_nothing_in_markdown_becomes_a_link_or_a_mention(answer: Answered) -> None:
    # GitHub makes them of plain text, after rendering, except in code.
    html = MarkdownIt("commonmark").enable("table").render(markdown(answer))
    prose = unescape(re.sub("<code>.*?</code>", "", html))
    assert not re.search(r"@\w|#\d|://|www\.", prose)


@pytest.mark.parametrize("answer", EVERY)
def test_every_row_of_a_markdown_table_has_as_many_cells_as_its_head(answer: Answered) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", markdown(answer), re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_no_words_of_a_stranger_are_lost_in_markdown() -> None:
    assert "onerror=alert(1)" in unescape(markdown(REFUSED))


def test_what_moved_is_shown_three_of_each_kind() -> None:
    said = summary(REFUSED)
    assert said.count("independent sources)") == 3
    assert "3.1 % of its strength, before 0.4 %" in said
    assert "entropy 0.30 nats, before 2.10" in said


def test_an_answer_without_explanation_has_no_heading_for_it() -> None:
    bare = replace(REFUSED.decision, comparison=replace(REFUSED.decision.comparison, explanation=None))
    assert "repeated texts" not in summary(replace(REFUSED, decision=bare))


def test_what_moved_in_a_stable_text_is_no_reason_and_is_not_shown() -> None:
    assert "repeated texts" not in summary(PASSED)


def test_json_is_the_decision_in_plain_form_and_reads_back() -> None:
    sound = replace(PASSED.decision, sentence="Passed.", comparison=replace(PASSED.decision.comparison, sentence="Ok."))
    assert from_plain(GateDecision, json.loads(json.dumps(to_plain(sound)))) == sound


def test_where_a_family_stands() -> None:
    found = {one.name: one.standing for one in standings(REFUSED.decision.comparison)}
    assert found == {
        "text": Standing.WORSE,
        "network": Standing.WITHIN,
        "model": Standing.UNCLEAR,
        "embedding": Standing.SILENT,
    }


def test_an_effect_that_holm_does_not_uphold_is_not_said_to_be_worse() -> None:
    doubtful = replace(WORSE, p_value=0.2)
    (text, *_) = standings(replace(REFUSED.decision.comparison, families=(doubtful,)))
    assert text.standing is Standing.UNCLEAR


def test_a_family_that_is_silent_in_another_domain_says_so() -> None:
    shifted = answered(Verdict.INSUFFICIENT_DATA, reason=VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN)
    words = {one.name: one.words for one in standings(shifted.decision.comparison)}
    assert "does not cover the domain" in words["text"]
    assert "not measured on both sides" in words["model"]


def test_what_to_do_next_is_said_unless_all_is_well() -> None:
    assert next_step(PASSED).said == ""
    assert "ouroscope compare human.jsonl" in next_step(REFUSED).command
    assert "--allow-insufficient-data" in next_step(UNJUDGED).said
    assert "COLLAPSE" in next_step(LET_THROUGH).said


def test_a_candidate_of_a_monitor_is_looked_at_beside_its_history() -> None:
    watched = answered(Verdict.COLLAPSE, WORSE, WITHIN, baseline="monitors/news")
    assert next_step(watched).command == "ouroscope monitors show news"


def test_a_name_in_a_command_to_copy_cannot_run_another() -> None:
    assert f"'{HOSTILE.split()[0]}" in next_step(REFUSED).command
