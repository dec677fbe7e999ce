"""A whole comparison, from two measured corpora to a verdict: what it rests on, and when it cannot tell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import pytest

from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import (
    Comparison,
    Family,
    FamilyEffect,
    MetricEffect,
    PastEffects,
    Policy,
    Verdict,
    VerdictReason,
)
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import ANALYZER_VERSION, CATALOGUE
from services.analyzer.comparison import compare
from services.analyzer.side import Side, side_of
from services.analyzer.spread import FEWEST_SOURCES, HumanSpread, RungSpread, Spread
from tests.unit.analyzer.corpora import prose

POLICY = Policy()
WORDS = tuple(info.id for info in CATALOGUE if info.headline and info.family is not Family.MODEL)
MODEL = tuple(info.id for info in CATALOGUE if info.headline and info.family is Family.MODEL)
# Headlines of Zipf text, 5 % of their values: enough for tests, which ask for no real calibration.
SCALES = {
    "types": 60.0,
    "mattr": 0.03,
    "token_entropy": 0.25,
    "normalized_entropy_by_tokens": 0.03,
    "distinct_3": 0.04,
    "cooccurrence_nodes": 60.0,
    "cooccurrence_edges": 1500.0,
    "cooccurrence_edge_weight_entropy": 0.3,
    "cooccurrence_degree_entropy": 0.2,
    "cooccurrence_hub_share": 0.03,
    "top1_probability": 0.05,
    "gini_top100": 0.02,
    "collapsed_99": 0.02,
    "next_token_entropy": 0.2,
}


def spread_of(ids: Iterable[str]) -> tuple[Spread, ...]:
    return tuple(Spread(id=id, mean=1.0, deviation=SCALES[id], sources=FEWEST_SOURCES) for id in ids)


TABLE = HumanSpread(
    analyzer_version=ANALYZER_VERSION,
    date="2026-01-01",
    command="test",
    sources=(),
    rungs=(RungSpread(budget=10_000, metrics=spread_of(WORDS)), RungSpread(budget=20_000, metrics=spread_of(WORDS))),
    model_metrics=spread_of(MODEL),
)


@cache
def text(seed: int = 0, *, documents: int = 300, words: int = 50, vocabulary: int = 2_000) -> Side:
    texts = prose(documents, words, seed, vocabulary)
    return side_of(*analyze([Document(id=str(n), text=t) for n, t in enumerate(texts)], metrics=WORDS))


@cache
def model(top: float, prompts: int = 60) -> Side:
    records = [
        NextToken(
            prompt_id=str(n),
            cluster=str(n),
            top_probabilities=(top, *[(1 - top) / 99] * 99),
            entropy=3.0 * (1 - top) + 0.01 * (n % 3),
        )
        for n in range(prompts)
    ]
    return side_of(*analyze(None, records, metrics=MODEL))


def both(words: Side, predictions: Side) -> Side:
    return replace(words, report=replace(words.report, model_metrics=predictions.report.model_metrics))


def judge(baseline: Side, candidate: Side, *history: PastEffects, table: HumanSpread = TABLE) -> Comparison:
    return compare(baseline, candidate, spread=table, policy=POLICY, history=history)


def effect(comparison: Comparison, metric: str) -> MetricEffect:
    return next(one for one in comparison.metrics if one.id == metric)


def test_a_report_beside_itself_is_exactly_as_before() -> None:
    side = both(text(), model(0.3))
    told = judge(side, side)
    assert (told.verdict, told.reason) == (Verdict.STABLE, VerdictReason.WITHIN_MARGIN)
    for one in told.families:
        assert (one.effect, one.lower, one.upper, one.p_value) == (0.0, 0.0, 0.0, 1.0)
    directed = [one for one in told.metrics if one.id in WORDS + MODEL]
    assert {(one.effect, one.lower, one.upper) for one in directed} == {(0.0, 0.0, 0.0)}
    assert told.novel_token_share == 0.0


def test_another_sample_of_the_same_kind_is_stable() -> None:
    told = judge(text(0), text(1))
    assert told.verdict is Verdict.STABLE, told.sentence
    assert told.budget == 10_000


def test_a_poorer_vocabulary_is_collapse_by_text_and_network() -> None:
    told = judge(text(0), text(1, vocabulary=300))
    assert (told.verdict, told.reason) == (Verdict.COLLAPSE, VerdictReason.BEYOND_FAR_BOUND)
    assert {one.family for one in told.families} == {Family.TEXT, Family.NETWORK}
    types = effect(told, "types")
    assert types.effect is not None
    assert types.baseline is not None
    assert types.candidate is not None
    assert types.effect == pytest.approx((types.baseline - types.candidate) / SCALES["types"])
    coverage = effect(told, "vocabulary_coverage")
    assert coverage.candidate is not None
    assert coverage.candidate < 0.4
    assert (coverage.effect, bool(coverage.undefined_because)) == (None, True)


def test_a_richer_candidate_is_stable_however_far_it_moved() -> None:
    # Words of the candidate that the baseline lacks would close the guard, so both draw from the same few words.
    told = judge(text(1, vocabulary=120), text(1, vocabulary=150))
    assert all(one.effect < 0 for one in told.families)
    assert told.verdict is not Verdict.COLLAPSE


def test_the_largest_rung_that_both_reach_is_compared() -> None:
    large = text(0, documents=800)
    assert max(large.budgets) == 20_000
    assert judge(large, text(1)).budget == 10_000
    assert judge(large, large).budget == 20_000


def other_words(side: Side) -> Side:
    """Return a candidate whose every word is unknown to others."""
    moved = {budget: replace(one, types_V=one.types_V ^ 1) for budget, one in side.fingerprints.items()}
    return replace(side, fingerprints=moved)


def test_another_domain_is_never_collapse_but_not_covered() -> None:
    poorer = both(other_words(text(1, vocabulary=300)), model(0.9))
    told = judge(both(text(0), model(0.3)), poorer)
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN)
    assert told.novel_token_share == pytest.approx(1.0, abs=0.01)
    assert told.expected_novel_token_share is not None
    assert told.expected_novel_token_share < 0.1


def test_families_that_the_guard_silences_are_not_told_so_no_history_counts_them() -> None:
    told = judge(both(text(0), model(0.3)), both(other_words(text(1)), model(0.3)))
    assert {one.family for one in told.families} == {Family.MODEL}
    assert effect(told, "types").effect is not None


def test_a_model_alone_is_judged_by_its_predictions() -> None:
    told = judge(model(0.3), model(0.9))
    assert told.verdict is Verdict.COLLAPSE
    assert (told.budget, told.novel_token_share) == (0, None)
    assert "predictions" in told.sentence


def test_a_history_turns_a_warning_into_collapse() -> None:
    beyond = FamilyEffect(family=Family.MODEL, effect=2, lower=1.5, upper=2.5, p_value=0.001, metrics=("gini_top100",))
    history = [PastEffects(generation=n, families=(beyond,)) for n in (1, 2)]
    # Between margin and far bound: gini and top1 move by 0.1 / 0.05 and less.
    warned = judge(model(0.3), model(0.4))
    assert (warned.verdict, warned.reason) == (Verdict.WARNING, VerdictReason.BEYOND_MARGIN)
    lasting = judge(model(0.3), model(0.4), *history)
    assert (lasting.verdict, lasting.reason) == (Verdict.COLLAPSE, VerdictReason.PERSISTENT)


def test_generations_out_of_order_are_refused() -> None:
    past = [PastEffects(generation=n, families=()) for n in (2, 1)]
    with pytest.raises(InvalidRequest, match="history"):
        judge(model(0.3), model(0.3), *past)


@pytest.mark.parametrize(
    ("candidate", "reason", "hint"),
    [
        (lambda: text(1, documents=30), VerdictReason.TOO_FEW_TOKENS, "1,500 words"),
        (lambda: text(1, documents=15, words=2_000), VerdictReason.TOO_FEW_CLUSTERS, "has 15 and 20 are needed"),
        (lambda: model(0.3), VerdictReason.NOTHING_COMPARABLE, "both with text"),
    ],
)
def test_too_little_is_never_stable_and_says_what_is_lacking(candidate: object, reason: object, hint: str) -> None:
    told = judge(text(0), candidate())  # type: ignore[operator]  # made late, since corpora take a while
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, reason)
    assert hint in told.sentence


def test_too_little_text_forbids_stability_even_if_the_model_is_calm() -> None:
    told = judge(both(text(0), model(0.3)), both(text(1, documents=30), model(0.3)))
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.TOO_FEW_TOKENS)
    assert [one.family for one in told.families] == [Family.MODEL]


def test_too_few_prompts_cannot_vote() -> None:
    told = judge(model(0.3), model(0.3, prompts=15))
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.TOO_FEW_CLUSTERS)


def test_other_definitions_of_the_metrics_are_not_compared() -> None:
    older = replace(text(0), report=replace(text(0).report, analyzer_version="0"))
    told = judge(older, text(1))
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.NOTHING_COMPARABLE)
    assert "measure both again" in told.sentence
    stale = judge(text(0), text(1), table=replace(TABLE, analyzer_version="0"))
    assert "calibrate again" in stale.sentence


def test_a_metric_without_human_spread_has_no_effect_and_says_so() -> None:
    bare = replace(TABLE, rungs=(RungSpread(budget=10_000, metrics=spread_of(["types"])),))
    told = judge(text(0), text(1), table=bare)
    assert effect(told, "types").effect is not None
    assert effect(told, "mattr").effect is None
    assert "no human spread of mattr" in (effect(told, "mattr").undefined_because or "")
    assert [one.metrics for one in told.families] == [("types",)]
    # The network was measured on both sides and could not vote.
    assert told.reason is VerdictReason.NOTHING_COMPARABLE


def test_beyond_the_measured_rungs_the_deviation_grows_with_the_value_and_never_shrinks() -> None:
    assert TABLE.deviation("types", 20_000, 5.0) == SCALES["types"]
    assert TABLE.deviation("types", 50_000, 5.0) == 5 * SCALES["types"]
    assert TABLE.deviation("types", 50_000, 0.2) == SCALES["types"]
