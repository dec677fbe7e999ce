"""Model metrics against the published test vectors and hand computation."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from services.analyzer.analysis import analyze
from services.analyzer.metrics.model import gini
from services.analyzer.modelled import ModelSample


def prompt(number, probabilities=(0.5, 0.25), rank=2, entropy=1.0, cluster=None):
    return NextToken(
        prompt_id=f"p{number}",
        cluster=cluster or f"c{number}",
        top_probabilities=tuple(probabilities),
        entropy=entropy,
        true_rank=rank,
        true_probability=0.25,
    )


def scored(number, probabilities=(0.5, 0.25, 0.125), role=TextRole.HELDOUT, greedy=1, size=12):
    return ScoredText(
        document_id=f"d{number}",
        cluster=f"c{number}",
        role=role,
        tokens=len(probabilities),
        text_bytes=size,
        log_probability=sum(map(math.log, probabilities)),
        greedy_tokens=greedy,
        last_tokens=2,
        last_greedy_tokens=1,
    )


def measured(prompts=(), texts=(), base=()):
    report, prints = analyze(None, prompts, texts, base)
    assert prints == ()
    return {value.id: value for value in report.model_metrics}


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.01] * 100, 0.0),
        ([1.0] + [0.0] * 99, 0.99),
        ([0.5**power for power in range(1, 101)], 0.97),
        ([1 / (rank * 6) for rank in range(1, 101)], 0.6244),
        ([0.7, 0.2, 0.1], 0.40),
    ],
)
def test_gini_of_the_published_vectors(probabilities, expected):
    assert gini(probabilities) == pytest.approx(expected, abs=5e-5)


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=30))
def test_gini_is_the_mean_difference_of_its_definition(values):
    falling = sorted(values, reverse=True)
    differences = sum(abs(a - b) for a in values for b in values)
    assert gini(falling) == pytest.approx(differences / (2 * len(values) * sum(values)), abs=1e-9)


def test_values_of_next_token_records():
    prompts = [prompt(0, (0.995, 0.001), rank=2, entropy=0.5), prompt(1, (0.5, 0.5), rank=8, entropy=1.5)]
    values = {id: value.value for id, value in measured(prompts).items()}
    assert values["top1_probability"] == pytest.approx(0.7475)
    assert values["collapsed_90"] == values["collapsed_99"] == 0.5
    assert values["collapsed_999"] == 0.0
    assert values["next_token_entropy"] == 1.0
    assert values["effective_tokens"] == pytest.approx(math.e)
    assert values["true_token_rank"] == pytest.approx(4.0)
    assert values["gini_top100"] == pytest.approx((gini([0.995, 0.001]) + 0) / 2)


@pytest.mark.parametrize(("collapsed", "interval"), [(4, False), (5, True), (35, True), (36, False)])
def test_the_share_of_collapsed_prompts_has_an_interval_where_five_have_and_five_have_not(collapsed, interval):
    prompts = [prompt(n, (0.995 if n < collapsed else 0.5, 0.001)) for n in range(40)]
    found = measured(prompts)["collapsed_99"]
    assert found.value == pytest.approx(collapsed / 40)
    assert bool(found.replicates) is interval
    assert (found.lower is not None) is interval


def test_values_of_scored_texts():
    documents = [scored(0, role=TextRole.DOCUMENT), scored(1, (0.125,), role=TextRole.DOCUMENT)]
    values = {id: value.value for id, value in measured(texts=[scored(0), *documents], base=documents).items()}
    assert values["heldout_perplexity"] == pytest.approx(4.0)
    assert values["bits_per_byte"] == pytest.approx(6 / 12)
    assert values["last_n_accuracy"] == 0.5
    assert values["surplexity"] == pytest.approx(math.sqrt(4 * 8))
    assert values["base_perplexity_of_synthetic"] == pytest.approx(2 ** (9 / 4))
    assert values["greedy_share"] == 2 / 4


def test_what_was_not_recorded_is_undefined_with_the_reason():
    values = measured([prompt(0, (0.9,), rank=None)])
    assert values["true_token_rank"].undefined_because == "no prompts with a known true token"
    assert values["gini_top100"].undefined_because == "no prompts with two probabilities"
    assert values["heldout_perplexity"].undefined_because == "no held-out texts"
    assert values["surplexity"].undefined_because == "no scored documents"
    assert values["base_perplexity_of_synthetic"].undefined_because == "no documents scored by generation 0"


UNTOLD = {"entropy": None, "greedy_tokens": None, "last_greedy_tokens": None}
"""What some servers do not tell."""


def untold(records):
    return [replace(each, **{key: None for key in UNTOLD if hasattr(each, key)}) for each in records]


def test_what_a_server_does_not_tell_is_undefined_with_the_reason_and_changes_nothing_else():
    prompts = [prompt(n, (0.3 + 0.01 * n, 0.2)) for n in range(40)]
    texts = [scored(n, role=role) for n in range(40) for role in TextRole]
    whole, part = measured(prompts, texts, texts), measured(untold(prompts), untold(texts), untold(texts))
    reasons = {
        "next_token_entropy": "no prompts with a known entropy",
        "effective_tokens": "no prompts with a known entropy",
        "last_n_accuracy": "no held-out texts with known first choices",
        "greedy_share": "no scored documents with known first choices",
    }
    assert {id: value.undefined_because for id, value in part.items() if value.value is None} == reasons
    assert {id: value for id, value in part.items() if id not in reasons} == {
        id: value for id, value in whole.items() if id not in reasons
    }


def test_records_that_tell_everything_count_alone_beside_those_that_do_not():
    prompts = [prompt(0, entropy=1.0), prompt(1, entropy=3.0)]
    texts = [scored(0, role=TextRole.DOCUMENT, greedy=2), scored(1, (0.5,), role=TextRole.DOCUMENT, greedy=0)]
    told = measured([*prompts, *untold([prompt(2, entropy=9.0)])], [*texts, *untold([scored(2)])])
    assert told["next_token_entropy"].value == pytest.approx(2.0)
    assert told["greedy_share"].value == pytest.approx(2 / 4)


def test_answers_without_an_entropy_are_not_shown_beside_each_other():
    known = ModelSample()
    known.fold_next_tokens([*untold([prompt(0), prompt(1)]), prompt(2)])
    assert [answer.prompt_id for answer in known.answers.kept()] == ["p2"]


def test_an_impossible_token_makes_perplexity_undefined_not_infinite():
    text = ScoredText(
        document_id="d",
        cluster="c",
        role=TextRole.HELDOUT,
        tokens=1,
        text_bytes=0,
        log_probability=-math.inf,
        greedy_tokens=0,
        last_tokens=0,
        last_greedy_tokens=0,
    )
    values = measured(texts=[text])
    assert values["heldout_perplexity"].undefined_because == "a token has probability 0"
    assert values["bits_per_byte"].value is None
    assert values["last_n_accuracy"].value is None


def test_20_clusters_carry_an_interval_and_19_do_not():
    assert measured([prompt(n) for n in range(20)])["top1_probability"].lower is not None
    assert measured([prompt(n) for n in range(19)])["top1_probability"].lower is None
    many_of_one = measured([prompt(n, cluster=f"c{n % 19}") for n in range(200)])
    assert many_of_one["top1_probability"].replicates == ()


def test_the_remainder_of_the_clusters_is_left_out_of_the_replicates():
    few = ModelSample()
    few.fold_next_tokens(prompt(n) for n in range(59))
    assert {ratio.under for ratio in few.prompts.ratios("top1")} == {38}


def test_the_interval_of_a_mean_is_that_of_the_mean():
    rng = random.Random(1)
    prompts = [prompt(n, (rng.random(), 0.0)) for n in range(400)]
    value = measured(prompts)["top1_probability"]
    assert value.value == pytest.approx(sum(p.top_probabilities[0] for p in prompts) / 400)
    assert value.upper - value.lower == pytest.approx(2 * 2.09 * math.sqrt(1 / 12 / 400), rel=0.5)


@given(st.permutations(range(40)), st.integers(0, 40))
def test_order_and_sharding_of_records_change_nothing(order, cut):
    records = [prompt(n, (0.3 + 0.01 * n, 0.1), rank=n + 1, entropy=0.1 * n) for n in range(40)]
    whole, left, right = ModelSample(), ModelSample(), ModelSample()
    whole.fold_next_tokens(records)
    left.fold_next_tokens(records[n] for n in order[:cut])
    right.fold_next_tokens(records[n] for n in order[cut:])
    merged = right.merge(left)
    for column in ("top1", "gini", "entropy", "log_rank"):
        assert merged.prompts.ratios(column) == whole.prompts.ratios(column)
    assert merged.top1_histogram() == whole.top1_histogram()


def test_the_histogram_has_20_bins_and_counts_every_prompt():
    known = ModelSample()
    known.fold_next_tokens([prompt(0, (0.05,)), prompt(1, (1.0,)), prompt(2, (0.999,)), prompt(3, (0.5,))])
    histogram = known.top1_histogram()
    assert len(histogram.edges) == 21
    assert sum(histogram.counts) == 4
    assert (histogram.counts[1], histogram.counts[10], histogram.counts[19]) == (1, 1, 2)


def test_heldout_texts_of_generation_0_say_nothing_of_the_corpus():
    assert measured([prompt(0)], base=[scored(0)])["base_perplexity_of_synthetic"].value is None
