"""A whole comparison, from two measured corpora to a verdict: what it rests on, and when it cannot tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import pytest

from ouroscope.errors import InvalidRequest
from ouroscope.records.analysis import (
    Comparison,
    Family,
    FamilyEffect,
    MetricEffect,
    MetricValue,
    PastEffects,
    Policy,
    Verdict,
    VerdictReason,
)
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken
from services.analyzer.analysis import analyze
from services.analyzer.catalogue import ANALYZER_VERSION, METRICS
from services.analyzer.comparison import compare
from services.analyzer.side import Side, side_of
from services.analyzer.spread import FEWEST_SOURCES, HumanSpread, RungSpread, Spread
from tests.unit.analyzer.corpora import prose

POLICY = Policy()
WORDS = tuple(one.id for one in METRICS if one.headline and one.family is not Family.MODEL and not one.needs)
SYNTAX = tuple(one.id for one in METRICS if one.headline and one.id.startswith("syntactic_"))
MODEL = tuple(one.id for one in METRICS if one.headline and one.family is Family.MODEL)
PARSER = "en_toy 1.0.0 0123456789ab"
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
SCALES |= {id: SCALES[id.replace("syntactic_", "cooccurrence_")] for id in SYNTAX}


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
PARSED_TABLE = replace(TABLE, rungs=(RungSpread(budget=10_000, metrics=spread_of(WORDS + SYNTAX)),), parser=PARSER)


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
    # No prompt has collapsed, and the share of nothing has no interval.
    assert (effect(told, "collapsed_99").effect, effect(told, "collapsed_99").lower) == (0.0, None)
    directed = [one for one in told.metrics if one.id in WORDS + MODEL and one.id != "collapsed_99"]
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


def test_a_numbered_candidate_hears_where_its_sequence_left_the_human_band() -> None:
    beyond = FamilyEffect(family=Family.MODEL, effect=2, lower=1.5, upper=2.5, p_value=0.001, metrics=("gini_top100",))
    history = [PastEffects(generation=1, families=()), PastEffects(generation=4, families=(beyond,))]
    calm, far = model(0.3), model(0.9)
    assert compare(calm, calm, spread=TABLE, policy=POLICY, history=history, generation=5).first_beyond == 4
    assert compare(calm, far, spread=TABLE, policy=POLICY, history=history[:1], generation=5).first_beyond == 5
    assert compare(calm, calm, spread=TABLE, policy=POLICY, history=history[:1], generation=5).first_beyond is None
    assert compare(calm, far, spread=TABLE, policy=POLICY, history=history).first_beyond is None


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_a_history_that_holds_the_candidate_or_what_came_after_it_is_refused(generation: int) -> None:
    history = [PastEffects(generation=n, families=()) for n in (1, 2)]
    with pytest.raises(InvalidRequest, match=f"before the candidate, generation {generation}, and holds 2") as refused:
        compare(model(0.3), model(0.3), spread=TABLE, policy=POLICY, history=history, generation=generation)
    assert refused.value.problems[0].field == "history"


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


def changed(side: Side, change: Callable[[MetricValue], Iterable[MetricValue]]) -> Side:
    """Return a side with other values of text."""
    rungs = (
        replace(rung, metrics=tuple(new for old in rung.metrics for new in change(old))) for rung in side.report.rungs
    )
    return replace(side, report=replace(side.report, rungs=tuple(rungs)))


def redefined(side: Side, *metrics: str) -> Side:
    """Return a side whose values of some metrics rest on a definition 2."""
    return changed(side, lambda old: [replace(old, definition=2) if old.id in metrics else old])


def parsed(side: Side, parser: str = PARSER) -> Side:
    """Return a side that has the syntactic network as well: one of the same shape as the other network."""

    def both_networks(old: MetricValue) -> list[MetricValue]:
        other = old.id.replace("cooccurrence_", "syntactic_")
        return [old] if other == old.id else [old, replace(old, id=other)]

    made = changed(side, both_networks)
    return replace(made, report=replace(made.report, parser=parser))


def test_another_version_of_the_analyzer_changes_no_verdict() -> None:
    older = replace(text(0), report=replace(text(0).report, analyzer_version="0"))
    assert judge(older, text(1)) == judge(text(0), text(1))
    assert judge(text(0), text(1), table=replace(TABLE, analyzer_version="0")) == judge(text(0), text(1))


def test_a_metric_whose_definition_changed_says_so_and_the_others_are_compared() -> None:
    told = judge(text(0), redefined(text(1), "types"))
    types = effect(told, "types")
    assert types.undefined_because == "its definition changed from 1 to 2; measure the baseline again"
    assert (types.effect, types.lower) == (None, None)
    of_text = next(one for one in told.families if one.family is Family.TEXT)
    assert set(of_text.metrics) == {id for id in WORDS if "_" in id and "cooccurrence" not in id} | {"mattr"}
    assert told.verdict is Verdict.STABLE


def test_of_two_definitions_the_older_side_is_to_be_measured_again() -> None:
    told = judge(redefined(text(0), "types"), text(1))
    assert "measure the candidate again" in (effect(told, "types").undefined_because or "")


def test_a_table_of_another_definition_has_no_unit() -> None:
    # Both sides agree, and the table does not know the new definition.
    told = judge(redefined(text(0), "types"), redefined(text(1), "types"))
    reason = effect(told, "types").undefined_because or ""
    assert "by its definition 1, not by 2" in reason
    assert "calibrate again" in reason


def test_a_family_that_loses_all_its_headlines_forbids_stability_and_says_why() -> None:
    told = judge(text(0), redefined(text(1), *WORDS))
    assert (told.verdict, told.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.NOTHING_COMPARABLE)
    assert told.families == ()
    assert "text cannot be judged (types: its definition changed from 1 to 2; measure the baseline" in told.sentence


def test_both_networks_vote_where_both_sides_were_parsed_by_the_parser_of_the_table() -> None:
    told = judge(parsed(text(0)), parsed(text(1)), table=PARSED_TABLE)
    alone = judge(text(0), text(1))
    network = next(one for one in told.families if one.family is Family.NETWORK)
    assert set(network.metrics) == set(SYNTAX) | {id for id in WORDS if id.startswith("cooccurrence_")}
    # The two networks have the same shape here, and the family is their mean.
    cooccurrence = next(one for one in alone.families if one.family is Family.NETWORK)
    assert (network.effect, network.lower) == pytest.approx((cooccurrence.effect, cooccurrence.lower))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_side_that_was_not_parsed_is_compared_by_cooccurrence(swapped: bool) -> None:
    sides = (text(0), parsed(text(1)))
    told = judge(*(sides[::-1] if swapped else sides), table=PARSED_TABLE)
    network = next(one for one in told.families if one.family is Family.NETWORK)
    assert all(metric.startswith("cooccurrence_") for metric in network.metrics)
    assert not [one for one in told.metrics if one.id in SYNTAX]
    assert told.verdict is Verdict.STABLE


def test_what_two_parsers_made_is_not_compared() -> None:
    told = judge(parsed(text(0), "en_other 2.0.0 ba9876543210"), parsed(text(1)), table=PARSED_TABLE)
    reason = effect(told, "syntactic_nodes").undefined_because
    assert reason == f"parsed with en_other 2.0.0 ba9876543210 there and with {PARSER} here"
    assert effect(told, "cooccurrence_nodes").effect is not None
    overlap = effect(told, "syntactic_node_overlap")
    assert (overlap.candidate, overlap.undefined_because) == (None, reason)


def test_the_human_spread_of_another_parser_is_no_unit_and_the_hint_names_the_command() -> None:
    told = judge(parsed(text(0)), parsed(text(1)), table=replace(PARSED_TABLE, parser=""))
    reason = effect(told, "syntactic_nodes").undefined_because or ""
    assert "the human spread with nothing" in reason
    assert "python -m services.analyzer.calibrate TABLE --parser en_toy" in reason
    assert effect(told, "cooccurrence_nodes").effect is not None


def test_a_metric_without_direction_asks_for_no_calibration() -> None:
    documents = [Document(id=str(n), text=t) for n, t in enumerate(prose(300, 50, 0))]
    side = side_of(*analyze(documents, metrics=["document_length"]))
    told = judge(side, side)
    assert effect(told, "document_length").undefined_because == "it has no direction under collapse"


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
