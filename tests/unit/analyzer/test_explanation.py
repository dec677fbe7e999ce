"""What moved most: told in names that the caller knows, silent where a side kept nothing, no part of the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.records.analysis import Policy
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken
from services.analyzer.analysis import Options, measure
from services.analyzer.answers import KEPT, LONGEST_ID, AnswerSample, nameless
from services.analyzer.comparison import common_budget, compare
from services.analyzer.explanation import explanation_of
from services.analyzer.fingerprint import Fingerprint, NetworkPrint
from services.analyzer.modelled import ModelSample
from services.analyzer.sample import Accumulator
from services.analyzer.side import Side, side_of
from services.analyzer.spread import HumanSpread
from tests.unit.analyzer.corpora import prose

BUDGET = 10_000
NETWORK = ("cooccurrence_nodes",)


def answer(prompt_id: str, entropy: float, top1: float = 0.5) -> NextToken:
    return NextToken(prompt_id=prompt_id, cluster=prompt_id, top_probabilities=(top1,), entropy=entropy)


@cache
def side(word: str = "", share: int = 0, answers: tuple[NextToken, ...] = (), concepts: int = 40) -> Side:
    """Measure prose in which `word` stands in place of every `share`-th word."""
    known = ModelSample()
    known.fold_next_tokens(answers)
    accumulator = Accumulator()
    for number, text in enumerate(prose(300, 50, 0)):
        words = [word if share and at % share == 0 else one for at, one in enumerate(text.split())]
        accumulator.fold(Document(id=str(number), text=" ".join(words)))
    options = Options(metrics=NETWORK, drawn_concepts=concepts, repeated_texts=5)
    report, prints = measure(accumulator.finalise(), known, options)
    return side_of(report, prints, known.answers.kept())


def with_network(one: Side, **changes: object) -> Side:
    """Return a side whose networks are changed."""

    def changed(printed: Fingerprint) -> Fingerprint:
        networks: Mapping[str, NetworkPrint] = {
            name: replace(network, **changes)  # type: ignore[arg-type]  # fields of a print
            for name, network in printed.networks.items()
        }
        return replace(printed, networks=networks)

    return replace(one, fingerprints={budget: changed(printed) for budget, printed in one.fingerprints.items()})


# Concepts


def test_nothing_moves_between_a_side_and_itself() -> None:
    told = explanation_of(side(), side(), BUDGET, 50)
    assert (told.concepts, told.prompts) == ((), ())
    assert told.repeated_texts == side().report.repeated_texts[:50]


def test_the_concept_that_took_the_place_of_others_is_told_first_with_its_shares() -> None:
    baseline, candidate = side(), side("quokka", 10)
    first, *others = explanation_of(baseline, candidate, BUDGET, 5).concepts
    assert (first.label, first.baseline_share) == ("quokka", 0.0)
    assert candidate.report.drawing is not None
    drawn = {concept.label: concept.strength for concept in candidate.report.drawing.concepts}
    network = candidate.fingerprints[BUDGET].networks["cooccurrence"]
    assert network.strength_n is not None
    # The drawing and the fingerprint are of the same rung here.
    assert first.candidate_share == pytest.approx(drawn["quokka"] / network.strength_n.sum())
    growth = [one.candidate_share - (one.baseline_share or 0.0) for one in (first, *others)]
    assert growth == sorted(growth, reverse=True)
    assert all(value > 0 for value in growth)


def test_what_lost_its_place_is_not_told() -> None:
    told = explanation_of(side("quokka", 10), side(), BUDGET, 50)
    assert "quokka" not in {one.label for one in told.concepts}


@pytest.mark.parametrize(
    ("baseline", "candidate", "budget"),
    [
        (side, lambda: side("quokka", 10, concepts=0), BUDGET),
        (side, lambda: side("quokka", 10), 0),
        (lambda: with_network(side(), strength_n=None), lambda: side("quokka", 10), BUDGET),
        (side, lambda: with_network(side("quokka", 10), strength_n=None), BUDGET),
    ],
    ids=["no drawing", "no common rung", "an old baseline", "an old candidate"],
)
def test_where_a_side_kept_nothing_nothing_is_said_of_concepts(
    baseline: Callable[[], Side], candidate: Callable[[], Side], budget: int
) -> None:
    assert explanation_of(baseline(), candidate(), budget, 5).concepts == ()


# Prompts


def test_prompts_that_both_answered_are_told_where_the_entropy_fell_most() -> None:
    before = side(answers=(answer("a", 2.0, 0.2), answer("b", 2.0), answer("c", 1.0), answer("left", 3.0)))
    now = side(answers=(answer("c", 0.75), answer("a", 0.5, 0.8), answer("b", 2.5), answer("new", 0.0)))
    told = explanation_of(before, now, 0, 5).prompts
    assert [(one.prompt_id, one.baseline_entropy, one.candidate_entropy) for one in told] == [
        ("a", 2.0, 0.5),
        ("c", 1.0, 0.75),
    ]
    assert (told[0].baseline_top1, told[0].candidate_top1) == (0.2, 0.8)
    assert explanation_of(before, now, 0, 1).prompts == told[:1]


def test_a_baseline_needs_no_names_and_a_candidate_without_them_tells_nothing() -> None:
    before, now = side(answers=(answer("a", 2.0),)), side(answers=(answer("a", 1.0),))
    frozen = replace(before, answers=nameless(before.answers))
    assert explanation_of(frozen, now, 0, 5) == explanation_of(before, now, 0, 5)
    assert explanation_of(before, replace(now, answers=nameless(now.answers)), 0, 5).prompts == ()


def test_an_id_as_long_as_a_text_is_not_kept() -> None:
    long = "x" * (LONGEST_ID + 1)
    told = explanation_of(side(answers=(answer(long, 2.0),)), side(answers=(answer(long, 1.0),)), 0, 5)
    assert told.prompts == ()


answers_of = st.lists(
    st.builds(answer, st.text("abc", min_size=1, max_size=2), st.floats(0, 3), st.floats(0.1, 1)), max_size=30
)


@settings(max_examples=50, deadline=None)
@given(records=answers_of, cut=st.integers(0, 30), kept=st.integers(1, 12))
def test_sharding_and_order_change_no_answer_and_no_more_than_the_limit_are_kept(
    records: Sequence[NextToken], cut: int, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.analyzer.answers.KEPT", kept)
        whole, left, right = AnswerSample(), AnswerSample(), AnswerSample()
        for record in records:
            whole.add(record)
        for record in reversed(records[:cut]):
            left.add(record)
        for record in records[cut:]:
            right.add(record)
        right.merge(left)
    assert right.kept() == whole.kept()
    assert len(whole.kept()) == min(kept, len({record.prompt_id for record in records}))
    surest = {one.prompt_id: one.entropy for one in whole.kept()}
    assert all(surest.get(record.prompt_id, 0.0) <= record.entropy for record in records)


def test_two_models_with_the_same_prompts_keep_the_same_ones() -> None:
    first, second = AnswerSample(), AnswerSample()
    for number in range(2 * KEPT):
        first.add(answer(f"p{number}", 2.0))
        second.add(answer(f"p{2 * KEPT - 1 - number}", 1.0))
    assert [one.key for one in first.kept()] == [one.key for one in second.kept()]
    assert len(first.kept()) == KEPT


# The verdict

EMPTY = HumanSpread(analyzer_version="", date="", command="", sources=(), rungs=())


def test_an_explanation_changes_nothing_else_of_a_comparison() -> None:
    before, now = side(answers=(answer("a", 2.0),)), side("quokka", 10, answers=(answer("a", 1.0),))
    plain, explained = (compare(before, now, spread=EMPTY, policy=Policy(), explain=most) for most in (0, 5))
    assert plain.explanation is None
    assert explained.explanation is not None
    assert explained.explanation == explanation_of(before, now, common_budget(before, now), 5)
    assert explained.explanation.concepts
    assert explained.explanation.prompts
    assert replace(explained, explanation=None) == plain
