"""Laws of sampling: order and sharding change nothing, groups are even and paired, memory is bounded."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.records.documents import Document, View
from services.analyzer import distinct
from services.analyzer.analysis import Options, measure
from services.analyzer.distinct import DistinctCount
from services.analyzer.fingerprint import to_bytes
from services.analyzer.measured import MeasuredRung
from services.analyzer.metrics.ngrams import distinct as distinct_share
from services.analyzer.modelled import ModelSample
from services.analyzer.rungs import ladder
from services.analyzer.sample import LADDER, Accumulator, Sample, words_per_group

from .corpora import SMALL, corpora, document, prose, sample_of


def everything(sample: Sample) -> tuple:
    """All that may depend on order: the arrays themselves, hence every value that is computed from them."""
    arrays = (sample.words_N, sample.documents_N, sample.lengths_D, sample.clusters_D)
    counts = (sample.documents, sample.tokens, sample.clusters, sample.group_starts)
    return counts, sample.lexicon.words, sample.texts, tuple(array.tobytes() for array in arrays)


@given(documents=corpora(), cuts=st.tuples(st.integers(0, 120), st.integers(0, 120)), seed=st.integers(0, 9))
def test_permuting_and_sharding_documents_changes_nothing(documents, cuts, seed):
    whole = everything(sample_of(documents))
    shuffled = random.Random(seed).sample(documents, len(documents))
    low, high = sorted(cuts)
    shards = [
        Accumulator(budgets=SMALL).fold_all(part) for part in (shuffled[:low], shuffled[low:high], shuffled[high:])
    ]
    first, second, third = shards
    assert everything(second.merge(third.merge(first)).finalise()) == whole
    assert everything(sample_of(shuffled)) == whole


@settings(max_examples=10, deadline=None)
@given(documents=corpora(), cut=st.integers(0, 120))
def test_merged_shards_give_the_same_report_and_fingerprint_bit_for_bit(documents, cut):
    options = Options(drawn_concepts=5)
    whole = measure(sample_of(documents), ModelSample(), options)
    left, right = (Accumulator(budgets=SMALL).fold_all(part) for part in (documents[cut:], documents[:cut]))
    merged = measure(left.merge(right).finalise(), ModelSample(), options)
    assert merged[0] == whole[0]
    assert to_bytes(merged[1]) == to_bytes(whole[1])


def test_a_sharded_corpus_that_overflows_every_rung_gives_the_same_sample():
    documents = [document(text, number) for number, text in enumerate(prose(600, 7, seed=1))]
    parts = [documents[start::5] for start in range(5)]
    merged = Accumulator(budgets=SMALL)
    for part in reversed(parts):
        merged.merge(Accumulator(budgets=SMALL).fold_all(part))
    assert everything(merged.finalise()) == everything(sample_of(documents))


@given(documents=corpora())
def test_every_replicate_of_a_rung_has_the_same_number_of_words(documents):
    for rung in ladder(sample_of(documents)):
        words = np.bincount(rung.groups_N, minlength=rung.groups)
        assert len(set(words.tolist())) == 1
        if rung.replicated:
            assert rung.budget <= 19 * words[0] < rung.budget + 19


def test_corpora_too_small_for_the_ladder_share_the_fixed_budgets_below_it():
    small, larger, enough = (
        [rung.budget for rung in ladder(sample_of([document(t, n) for n, t in enumerate(prose(60, words, 0))], LADDER))]
        for words in (40, 100, 400)
    )
    assert small[:-1] == [500, 1_000, 2_000]
    assert larger[:-1] == [500, 1_000, 2_000, 5_000]
    assert small[-1] < larger[-1] < LADDER[0]
    assert set(enough) <= set(LADDER)


@given(documents=corpora(most=60))
def test_repeating_a_corpus_raises_the_types_of_no_replicate(documents):
    once = {rung.budget: rung for rung in ladder(sample_of(documents)) if rung.budget in SMALL and rung.replicated}
    twice = {rung.budget: rung for rung in ladder(sample_of(documents * 2)) if rung.budget in once and rung.replicated}
    assert set(twice) == set(once)
    for budget, rung in twice.items():
        pairs = zip(MeasuredRung(rung).spectra, MeasuredRung(once[budget]).spectra, strict=True)
        assert all(again.types <= before.types for again, before in pairs)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1_000))
def test_repeating_a_corpus_of_prose_raises_entropy_at_no_rung(seed):
    # On any corpus the law holds in the mean over keys only: "y", "x x x" cut to 4 words goes from y x x x to y y x x.
    documents = [document(text, number) for number, text in enumerate(prose(80, 20, seed))]
    budgets = (380, 760)
    once, twice = (ladder(sample_of(corpus, budgets)) for corpus in (documents, documents * 3))
    assert [rung.budget for rung in once] == [rung.budget for rung in twice] == list(budgets)
    for before, again in zip(once, twice, strict=True):
        means = [np.mean([spectrum.entropy for spectrum in MeasuredRung(rung).spectra]) for rung in (before, again)]
        assert means[1] <= means[0]


@given(documents=corpora(most=15), copied=st.integers(0, 14))
def test_a_copy_of_a_document_raises_neither_unbudgeted_ratio(documents, copied):
    more = [*documents, document(documents[copied % len(documents)].text, 99)]
    pairs = zip(ladder(sample_of(documents, LADDER)), ladder(sample_of(more, LADDER)), strict=True)
    for before, after in ((MeasuredRung(a), MeasuredRung(b)) for a, b in pairs):
        assert not before.rung.replicated
        for length in (1, 2, 3):
            (old,), (new,) = before.tallies(length), after.tallies(length)
            assert old.total == 0 or distinct_share(new) <= distinct_share(old)


def test_a_copy_of_a_document_may_raise_entropy():
    def bits(texts):
        documents = [document(text, number, group=str(number)) for number, text in enumerate(texts)]
        return MeasuredRung(ladder(sample_of(documents, LADDER))[0]).spectra[0].entropy / np.log(2)

    texts = ["a a a a a a a a", "b c d e"]
    assert round(bits(texts), 2) == 1.58
    assert round(bits([*texts, "b c d e"]), 2) == 2.0


def test_equal_prompts_fall_in_equal_groups_whatever_was_written():
    human = [document(f"human wrote of {n}", n, prompt=f"p{n}") for n in range(100)]
    synthetic = [document(f"model {n}", n + 500, prompt=f"p{n}") for n in range(100)]
    ours, theirs = (groups_by_number(ladder(sample_of(side))[-1]) for side in (human, synthetic))
    assert len(ours.keys() & theirs.keys()) > 20
    assert all(ours[number] == theirs[number] for number in ours.keys() & theirs.keys())


def groups_by_number(rung):
    """Return the group of each document, which ends with its number."""
    groups = dict(zip(rung.documents_N.tolist(), rung.groups_N.tolist(), strict=True))
    return {int(text.split()[-1]): groups[place] for place, text in enumerate(rung.texts)}


def test_a_document_without_words_keeps_the_rank_of_its_cluster():
    texts = {n: f"word{n} again{n}" for n in range(60)}
    full = sample_of([document(text, n, prompt=f"p{n}") for n, text in texts.items()])
    gap = sample_of([document("" if n == 7 else text, n, prompt=f"p{n}") for n, text in texts.items()])
    ranks = [dict(zip(sample.texts, sample.clusters_D.tolist(), strict=True)) for sample in (full, gap)]
    assert ranks[1] == {text: rank for text, rank in ranks[0].items() if text != texts[7]}


def test_groups_of_clusters_differ_by_one_cluster_at_most():
    sample = sample_of([document(f"w{n}", n) for n in range(50)], LADDER)
    sizes = np.diff(sample.group_starts)
    assert sizes.max() - sizes.min() <= 1


def test_copies_of_a_text_are_one_cluster_whatever_their_ids():
    sample = sample_of([document("the same", n) for n in range(5)] + [document("another", 9)])
    assert (sample.documents, sample.clusters, sample.tokens) == (6, 2, 11)


def test_documents_of_one_source_are_one_cluster():
    sample = sample_of([document(f"w{n}", n, group="article") for n in range(5)])
    assert (sample.documents, sample.clusters) == (5, 1)


def test_the_sample_is_bounded_and_the_counts_are_those_of_the_whole_corpus():
    texts = prose(3_000, 8, seed=3)
    sample = sample_of([document(text, number) for number, text in enumerate(texts)])
    assert sample.documents == 3_000
    assert sample.tokens == 24_000
    assert sample.clusters == len(set(texts))
    assert len(sample.words_N) <= 20 * words_per_group(SMALL[-1])


def test_one_huge_cluster_is_cut_to_what_one_group_can_use():
    accumulator = Accumulator(budgets=SMALL)
    for number in range(500):
        accumulator.fold(document(f"w{number} " * 50, number, group="article"))
    sample = accumulator.finalise()
    assert len(sample.words_N) == words_per_group(SMALL[-1])
    assert len(sample.texts) == 1
    assert sample.texts[0].count("w") == words_per_group(SMALL[-1])


def test_the_continuation_view_leaves_out_the_real_prefix():
    written = Document(id="a", text="once upon a time", prefix_length=10)
    whole, continued = (Accumulator(view).fold_all([written]).finalise() for view in (View.WHOLE, View.CONTINUATION))
    assert whole.lexicon.words == ("once", "upon", "a", "time")
    assert continued.lexicon.words == ("a", "time")


def test_fewer_than_20_clusters_are_measured_whole_without_replicates():
    (rung,) = ladder(sample_of([document(f"two words{n}", n) for n in range(19)], LADDER))
    assert not rung.replicated
    assert rung.budget == 38
    assert rung.clusters == 19


def test_20_clusters_below_the_ladder_get_replicates_at_the_budget_they_reach():
    (rung,) = ladder(sample_of([document(f"two words{n}", n) for n in range(20)], LADDER))
    assert rung.replicated
    assert rung.budget == 38
    assert rung.clusters == 20


def test_one_cluster_that_is_far_shorter_than_the_rest_does_not_shrink_the_sample():
    documents = [document("word " * 500 + str(n), n) for n in range(19)] + [document("short", 20)]
    *lower, whole = ladder(sample_of(documents, (20_000,)))
    assert not whole.replicated
    assert whole.budget == 19 * 501 + 1
    assert [rung.budget for rung in lower] == [500, 1_000, 2_000, 5_000]


def test_groups_that_are_too_uneven_for_replicates_share_the_lower_budgets_with_even_ones():
    uneven = [document(text, n) for n, text in enumerate(prose(19, 100, seed=3))] + [document("short", 20)]
    rungs = ladder(sample_of(uneven, LADDER))
    assert [rung.budget for rung in rungs[:-1]] == [500, 1_000]
    for rung in rungs[:-1]:
        assert len(rung.words_N) == rung.budget
        assert rung.used_D.sum() == rung.budget
        assert not rung.replicated
    for small, large in itertools.pairwise(rungs):
        assert set(small.places_D) <= set(large.places_D)
        assert all(small.used_D <= large.used_D[np.isin(large.places_D, small.places_D)])


def test_a_short_group_costs_the_interval_but_not_the_least_fixed_budget():
    documents = [document(text, n) for n, text in enumerate([*prose(19, 40, seed=4), *prose(1, 20, seed=5)])]
    least, whole = ladder(sample_of(documents, LADDER))
    assert (least.budget, whole.budget) == (500, 780)
    assert not least.replicated


def test_a_corpus_without_words_has_no_rung():
    assert ladder(sample_of([document("... \U0001f600 !!!", 1), document("", 2)])) == ()


def test_rungs_are_nested_and_rise():
    rungs = ladder(sample_of([document(text, number) for number, text in enumerate(prose(100, 10, seed=5))]))
    assert [rung.budget for rung in rungs] == list(SMALL)
    for small, large in itertools.pairwise(rungs):
        assert set(small.texts) <= set(large.texts)


@pytest.mark.parametrize("count", [10, 99, 100, 101, 5_000])
def test_distinct_hashes_are_counted_exactly_up_to_the_limit_and_closely_above(count, monkeypatch):
    monkeypatch.setattr(distinct, "EXACT_LIMIT", 100)
    rng = random.Random(count)
    keys = [rng.getrandbits(64) for _ in range(count)]
    left, right = DistinctCount(), DistinctCount()
    left.add(keys[::2] * 2)
    for key in keys:
        right.add((key,))
    left.merge(right)
    assert left.count() == right.count() == (count if count <= 100 else pytest.approx(count, rel=0.3))
