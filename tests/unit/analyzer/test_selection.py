"""The rules of selection on pools of numbers: laws first, then examples worked out by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import LimitExceeded
from ouroscope.records.selection import SelectionOrder, SelectionRule, SelectionSpec
from services.analyzer.selection import rules
from services.analyzer.selection.candidate import Candidate
from services.analyzer.selection.composition import composition
from services.analyzer.selection.draws import uniform
from services.analyzer.selection.rules import RULES
from services.analyzer.selection.taking import quotas, take

HIGHEST, LOWEST = SelectionOrder.HIGHEST, SelectionOrder.LOWEST


def candidate(number: int, value: float | None = None, **changes: object) -> Candidate:
    blank = Candidate(position=number, name=number.to_bytes(16, "big"), human=False, domain="", words=10, value=value)
    return replace(blank, **changes)  # type: ignore[arg-type]  # as wanted by each test


def chosen(pool: Sequence[Candidate], spec: SelectionSpec, documents: int, seed: int = 0) -> Counter[int]:
    """Return how often each document is taken, by its position."""
    entries = RULES[spec.rule](pool, spec, seed)
    copies = take(pool, entries, documents, within_domains=spec.within_domains)
    return Counter({one.position: times for one, times in zip(pool, copies, strict=True) if times})


pools = st.lists(st.sampled_from([None, 0.0, 0.2, 0.5, 0.5, 0.9, 1.0]), min_size=1, max_size=40).map(
    lambda values: [
        candidate(n, value, domain="abc"[n % 3], human=n % 4 == 0, words=n) for n, value in enumerate(values)
    ]
)


@given(
    pool=pools,
    rule=st.sampled_from(SelectionRule),
    documents=st.integers(1, 60),
    within=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_the_order_of_a_pool_changes_nothing(pool, rule, documents, within, order):
    spec = SelectionSpec(rule=rule, within_domains=within, keep_right=0.8, keep_wrong=0.3)
    shuffled = order.sample(pool, len(pool))
    assert chosen(shuffled, spec, documents, seed=5) == chosen(pool, spec, documents, seed=5)


@given(pool=pools, few=st.integers(0, 40), more=st.integers(0, 40), rule=st.sampled_from(SelectionRule))
def test_who_asks_for_more_gets_the_same_and_more(pool, few, more, rule):
    spec = SelectionSpec(rule=rule)
    assert chosen(pool, spec, few) <= chosen(pool, spec, few + more)


@given(pool=pools, documents=st.integers(0, 40), seed=st.integers(0, 3))
def test_the_highest_and_the_lowest_of_a_ranking_are_all_of_it(pool, documents, seed):
    ranked = [one for one in pool if one.value is not None]
    documents = min(documents, len(ranked))
    high = chosen(pool, SelectionSpec(rule=SelectionRule.SURPLEXITY, order=HIGHEST), documents, seed)
    low = chosen(pool, SelectionSpec(rule=SelectionRule.SURPLEXITY, order=LOWEST), len(ranked) - documents, seed)
    assert high + low == Counter(one.position for one in ranked)


@given(pool=pools, documents=st.integers(1, 40))
def test_nothing_that_is_left_out_is_better_than_what_is_taken(pool, documents):
    taken = chosen(pool, SelectionSpec(rule=SelectionRule.TEXT_ENTROPY), documents)
    left = [one.value for one in pool if one.value is not None and one.position not in taken]
    assert not taken or not left or max(left) <= min(pool[n].value for n in taken)


@given(pool=pools, documents=st.integers(1, 200), repeats=st.integers(1, 4), exponent=st.sampled_from([0.0, 1.0, 10.0]))
def test_no_document_is_drawn_more_often_than_it_may(pool, documents, repeats, exponent):
    spec = SelectionSpec(rule=SelectionRule.DETECTOR, repeats=repeats, exponent=exponent)
    taken = chosen(pool, spec, documents)
    drawable = sum(one.value is not None and (one.value < 1 or exponent == 0) for one in pool)
    assert taken.total() == min(documents, repeats * drawable)
    assert max(taken.values(), default=0) <= repeats


@given(sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30), min_size=1), documents=st.integers(0, 120))
def test_domains_give_equally_as_far_as_they_can(sizes, documents):
    given_ = quotas(sizes, documents)
    assert sum(given_.values()) == min(documents, sum(sizes.values()))
    assert all(0 <= given_[name] <= size for name, size in sizes.items())
    unspent = [given_[name] for name, size in sizes.items() if given_[name] < size]
    assert not unspent or max(given_.values()) <= min(unspent) + 1


def test_what_cannot_be_divided_comes_from_the_fullest_domain():
    assert quotas({"wiki": 50, "news": 60, "code": 40}, 20) == {"code": 6, "wiki": 7, "news": 7}
    assert quotas({"wiki": 50, "news": 60, "code": 40}, 19) == {"code": 6, "wiki": 6, "news": 7}


def test_within_domains_the_best_of_each_are_taken():
    pool = [candidate(n, float(n), domain="wiki" if n < 8 else "news") for n in range(12)]
    spec = SelectionSpec(rule=SelectionRule.ENTROPY_RATE, within_domains=True)
    assert set(chosen(pool, spec, 4)) == {6, 7, 10, 11}
    assert set(chosen(pool, replace(spec, within_domains=False), 4)) == {8, 9, 10, 11}


def test_every_document_is_drawn_equally_often():
    pool = [candidate(n) for n in range(10)]
    taken = sum((chosen(pool, SelectionSpec(), 3, seed) for seed in range(3_000)), Counter())
    # Binomial with mean 900 and standard deviation 25.
    assert all(800 < taken[n] < 1_000 for n in range(10))


def test_documents_are_drawn_as_their_weights_say():
    pool = [candidate(0, 0.0), candidate(1, 0.5), candidate(2, 0.75), candidate(3, 1.0)]
    spec = SelectionSpec(rule=SelectionRule.DETECTOR, exponent=2.0)
    first = sum((chosen(pool, spec, 1, seed) for seed in range(4_200)), Counter())
    # Weights 1, 1/4, 1/16, 0: shares 16, 4, 1 and 0 of 21.
    assert first[0] == pytest.approx(3_200, abs=120)
    assert first[1] == pytest.approx(800, abs=110)
    assert first[2] == pytest.approx(200, abs=60)
    assert first[3] == 0


def test_a_document_that_was_drawn_may_be_drawn_again_with_the_same_chance():
    pool = [candidate(0, 0.0), candidate(1, 0.5)]
    spec = SelectionSpec(rule=SelectionRule.DETECTOR, exponent=1.0, repeats=2)
    pairs = Counter(tuple(sorted(chosen(pool, spec, 2, seed).elements())) for seed in range(3_600))
    # Draws with replacement, 2/3 against 1/3: 4/9, 4/9, 1/9.
    assert pairs[0, 0] == pytest.approx(1_600, abs=120)
    assert pairs[0, 1] == pytest.approx(1_600, abs=120)
    assert pairs[1, 1] == pytest.approx(400, abs=80)


def test_the_steepest_weight_still_has_an_order():
    pool = [candidate(n, p) for n, p in enumerate((0.9, 0.1, 0.5))]
    spec = SelectionSpec(rule=SelectionRule.DETECTOR, exponent=1_000.0, repeats=1)
    assert set(chosen(pool, spec, 1)) == {1}
    assert set(chosen(pool, spec, 2)) == {1, 2}


def test_more_draws_than_memory_is_meant_for_are_refused(monkeypatch):
    monkeypatch.setattr(rules, "MOST_ENTRIES", 10)
    with pytest.raises(LimitExceeded, match="lower repeats"):
        chosen([candidate(n, 0.5) for n in range(4)], SelectionSpec(rule=SelectionRule.DETECTOR, repeats=3), 4)


def test_a_perfect_verifier_keeps_the_right_share_and_everything_human():
    pool = [candidate(n, n / 10) for n in range(10)] + [candidate(10 + n, 1.0, human=True) for n in range(3)]
    spec = SelectionSpec(rule=SelectionRule.VERIFIER, right_share=0.3)
    assert set(chosen(pool, spec, 100)) == {7, 8, 9, 10, 11, 12}


def test_a_verifier_errs_as_often_as_it_is_told():
    pool = [candidate(n, float(n)) for n in range(8_000)]
    spec = SelectionSpec(rule=SelectionRule.VERIFIER, right_share=0.5, keep_right=0.9, keep_wrong=0.3)
    kept = chosen(pool, spec, len(pool))
    right = sum(number >= 4_000 for number in kept)
    assert right == pytest.approx(3_600, abs=80)
    assert len(kept) - right == pytest.approx(1_200, abs=120)


def test_a_document_is_kept_or_not_whoever_stands_beside_it():
    spec = SelectionSpec(rule=SelectionRule.VERIFIER, keep_right=0.5, keep_wrong=0.5)
    pool = [candidate(n, float(n)) for n in range(100)]
    rng = random.Random(3)
    part = sorted(rng.sample(pool, 50), key=lambda one: one.position)
    assert set(chosen(part, spec, 100)) == set(chosen(pool, spec, 100)) & {one.position for one in part}


@given(pool=pools, data=st.data())
def test_a_composition_is_a_mean_over_copies(pool, data):
    copies = data.draw(st.lists(st.integers(0, 3), min_size=len(pool), max_size=len(pool)))
    told = composition(pool, copies)
    spread = [one for one, times in zip(pool, copies, strict=True) for _ in range(times)]
    assert told == composition(spread, [1] * len(spread))
    assert told.documents == len(spread)
    if spread:
        assert sum(share.value for share in told.domains) == pytest.approx(1)
        assert told.human_share == sum(one.human for one in spread) / len(spread)
        assert told.mean_words == sum(one.words for one in spread) / len(spread)


def test_a_composition_worked_out_by_hand():
    values = (1.0, 2.0, 3.0, 4.0, 5.0)
    pool = [candidate(n, surplexity=v, human=n == 0, words=2 * n, domain="wiki") for n, v in enumerate(values)]
    told = composition([*pool, candidate(5, domain="")], [1, 1, 1, 1, 1, 3])
    assert (told.documents, told.human_share, told.mean_words) == (8, 1 / 8, 50 / 8)
    assert [(share.label, share.value) for share in told.domains] == [("", 3 / 8), ("wiki", 5 / 8)]
    assert told.surplexity == pytest.approx((1.2, 2.0, 3.0, 4.0, 4.8))


def test_of_nothing_nothing_is_told():
    told = composition([candidate(0)], [0])
    assert (told.documents, told.human_share, told.mean_words, told.domains, told.surplexity) == (0, None, None, (), ())


@given(seed=st.integers(0, 2**63 - 1), name=st.binary(min_size=16, max_size=16), number=st.integers(0, 10))
@settings(max_examples=50)
def test_a_draw_is_never_0_or_1_and_another_purpose_is_another_draw(seed, name, number):
    drawn = uniform(seed, name, "verifier", number)
    assert 0 < drawn < 1
    assert drawn != uniform(seed, name, "draw", number)
