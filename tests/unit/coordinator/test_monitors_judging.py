"""What is said of a generation as a whole, what a verdict rests on, and what must be judged again."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import Comparison, Family, FamilyEffect, Policy, Verdict, VerdictReason
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.monitors import DomainComparison, MonitorGeneration
from services.coordinator.monitors import names
from services.coordinator.monitors.judging import (
    LONGEST_HISTORY,
    WHOLE,
    Part,
    Past,
    baseline_missing,
    domain_missing,
    history_for,
    overall,
    past_of,
    to_judge_again,
)

from .fakes import made

BASELINE, OTHER = made(ArtifactKind.REPORT, "baseline"), made(ArtifactKind.REPORT, "other")
EFFECT = FamilyEffect(family=Family.TEXT, effect=2.0, lower=1.5, upper=2.5, p_value=0.001, metrics=("types",))

VERDICTS = st.sampled_from(list(Verdict))


def said(verdict: Verdict) -> Comparison:
    return Comparison(verdict=verdict, reason=VerdictReason.TOO_WIDE, sentence=f"{verdict.value} it is.")


def of_domain(name: str, verdict: Verdict) -> DomainComparison:
    return DomainComparison(domain=name, comparison=said(verdict))


def past(number: int, *, first_beyond: int | None = None, baseline=BASELINE, persistence: int = 3) -> Past:
    part = Part(baseline=baseline, families=(EFFECT,), first_beyond=first_beyond, persistence=persistence)
    return Past(number=number, parts=(part,))


def test_the_gravest_of_the_whole_and_the_domains_speaks_and_names_its_domain():
    told = overall(said(Verdict.STABLE), [of_domain("news", Verdict.WARNING), of_domain("wiki", Verdict.COLLAPSE)])
    assert (told.verdict, told.domain) == (Verdict.COLLAPSE, "wiki")
    assert told.sentence == "In the domain 'wiki': COLLAPSE it is."


def test_a_domain_that_is_as_grave_as_the_whole_is_named_behind_it():
    told = overall(said(Verdict.WARNING), [of_domain("news", Verdict.WARNING), of_domain("wiki", Verdict.STABLE)])
    assert told.domain == WHOLE
    assert told.sentence == "WARNING it is. The same holds for the domain 'news'."


def test_stable_domains_do_not_make_a_whole_stable_that_could_not_be_judged():
    told = overall(said(Verdict.INSUFFICIENT_DATA), [of_domain("news", Verdict.STABLE)])
    assert told.verdict is Verdict.INSUFFICIENT_DATA


def test_a_domain_that_could_not_be_judged_is_named_beside_a_stable_whole():
    told = overall(said(Verdict.STABLE), [of_domain("news", Verdict.INSUFFICIENT_DATA), of_domain("a", Verdict.STABLE)])
    assert told.sentence == "STABLE it is. Not judged: the domain 'news'."


@given(VERDICTS, st.lists(VERDICTS, max_size=4))
def test_nothing_hides_a_warning_and_nobody_makes_one_up(whole, domains):
    told = overall(said(whole), [of_domain(str(n), verdict) for n, verdict in enumerate(domains)])
    grave = (Verdict.COLLAPSE, Verdict.WARNING)
    expected = next((level for level in grave if level in (whole, *domains)), whole)
    assert told.verdict is expected


def test_a_verdict_rests_on_the_generations_before_it_beside_the_same_baseline():
    pasts = [past(3), past(1), past(2, baseline=OTHER), past(5)]
    assert [one.generation for one in history_for(pasts, 5, WHOLE, BASELINE)] == [1, 3]
    assert [one.generation for one in history_for(pasts, 9, WHOLE, OTHER)] == [2]
    assert history_for(pasts, 9, "news", BASELINE) == ()


def test_the_history_that_is_sent_is_bounded_and_is_the_newest():
    found = history_for([past(n) for n in range(LONGEST_HISTORY + 5)], 10**6, WHOLE, BASELINE)
    assert (len(found), found[0].generation, found[-1].generation) == (LONGEST_HISTORY, 5, LONGEST_HISTORY + 4)


def test_the_order_in_which_the_past_is_given_does_not_matter():
    pasts = [past(n) for n in (1, 2, 4, 7)]
    found = {history_for(order, 5, WHOLE, BASELINE) for order in permutations(pasts)}
    assert len(found) == 1


def test_what_was_not_compared_is_no_past():
    missing = DomainComparison(domain="wiki", comparison=domain_missing("wiki", Policy()))
    news = DomainComparison(domain="news", comparison=said(Verdict.STABLE))
    generation = MonitorGeneration(
        name="g", number=3, comparison=baseline_missing(BASELINE, Policy()), domains=(news, missing)
    )
    found = past_of(generation, {"news": OTHER})
    assert [(part.domain, part.baseline) for part in found.parts] == [("news", OTHER)]
    assert past_of(MonitorGeneration(name="g", number=0), {}).parts == ()


def numbers(late: Past, *later: Past) -> list[int]:
    return [one.number for one in to_judge_again(late, later)]


def test_only_those_close_behind_a_late_generation_are_judged_again():
    assert numbers(past(2), *(past(n) for n in (6, 5, 4, 3))) == [3, 4]
    assert numbers(past(2), *(past(n, persistence=1) for n in (3, 4))) == []


def test_all_whose_first_generation_beyond_was_later_are_judged_again_if_the_late_one_is_beyond():
    later = (
        past(3, first_beyond=3),
        past(6),
        past(7, first_beyond=1),
        past(8, first_beyond=7),
        past(9, first_beyond=2),
    )
    assert numbers(past(2, first_beyond=2), *later) == [3, 6, 8]


def test_another_baseline_is_another_sequence():
    assert numbers(past(2, first_beyond=2), past(3, baseline=OTHER)) == []


def test_what_is_missing_is_said_with_what_to_do():
    told = baseline_missing(BASELINE, Policy())
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.BASELINE_MISSING)
    assert str(BASELINE) in told.sentence
    assert "UpdateMonitor" in told.sentence


@pytest.mark.parametrize("number", [0, 7, names.MOST_NUMBER])
def test_names_of_generations_are_read_as_they_are_written(number):
    assert names.generation_of(names.generation_name("a-1", number)) == ("a-1", number)


@pytest.mark.parametrize(
    "name",
    [
        "monitors/a/generations/-1",
        "monitors/a/generations/",
        "monitors/A/generations/1",
        "monitors/a/generations/٣",
        f"monitors/a/generations/{names.MOST_NUMBER + 1}",
        "monitors/a/generations/1/2",
        "runs/a/generations/1",
    ],
)
def test_what_is_no_generation_of_a_monitor_is_refused(name):
    with pytest.raises(InvalidRequest, match="not the name of a generation"):
        names.generation_of(name)
