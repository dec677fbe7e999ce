"""Counts of a whole corpus: exact ones against their definitions, sketches against exact ones."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.canonical import canonical_json
from ouroscope.errors import CapabilityMissing, InvalidRequest, LimitExceeded
from ouroscope.records.analysis import AnalyzeCorpus, Counting, CountingSpec, Report, WholeCorpus
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.store import ArtifactStore
from services.analyzer import baselines, reports
from services.analyzer.analysis import Options, analyze_side
from services.analyzer.concepts import is_concept
from services.analyzer.whole import items, sketched
from services.analyzer.whole.counts import Counts, check_counting, open_counts
from services.analyzer.whole.lengths import Lengths

EXACT = CountingSpec(counting=Counting.EXACT)
PREDICTIONS = ArtifactRef(kind=ArtifactKind.PREDICTIONS, digest="0" * 64)
SMALL = CountingSpec(counting=Counting.SKETCH, memory=2**20)

words = st.sampled_from(["cat", "dog", "the", "of", "7", "x", "tree", "sea", "road", "house"])
corpora = st.lists(st.lists(words, max_size=30), max_size=8)


def counted(corpus: list[list[str]], spec: CountingSpec = EXACT, shown: int = 10**6) -> Counts:
    counts = open_counts(spec, shown)
    for each in corpus:
        counts.fold(each)
    return counts


def of(whole: WholeCorpus) -> dict[str, float]:
    return {count.id: count.value for count in whole.distinct}


def frequent(whole: WholeCorpus) -> tuple[dict[str, float], dict[str, float]]:
    tables = whole.frequent_words, whole.frequent_edges
    return tuple({count.id: count.value for count in table} for table in tables)  # type: ignore[return-value]


def met(corpus: list[list[str]]) -> Counter[str]:
    """Count by the definition: two different concepts at most 4 words apart."""
    return Counter(
        " ".join(sorted((one, other)))
        for text in corpus
        for (i, one), (j, other) in combinations(enumerate(text), 2)
        if j - i < 5 and one != other and is_concept(one) and is_concept(other)
    )


@given(corpora)
def test_exact_counts_are_those_of_the_definitions(corpus):
    whole = counted(corpus).result()
    edges = met(corpus)
    assert of(whole) == {
        "types": len({word for text in corpus for word in text}),
        "ngrams_2": len({pair for text in corpus for pair in pairwise(text)}),
        "ngrams_3": len({triple for text in corpus for triple in zip(text, text[1:], text[2:], strict=False)}),
        "cooccurrence_nodes": len({end for edge in edges for end in edge.split()}),
        "cooccurrence_edges": len(edges),
    }
    assert frequent(whole) == (Counter(word for text in corpus for word in text), edges)
    assert not any(count.approximate for count in (*whole.distinct, *whole.frequent_words, *whole.document_lengths))


def test_a_long_document_is_counted_in_pieces_that_change_nothing(monkeypatch):
    corpus = [random.Random(1).choices(["cat", "dog", "tree", "the", "sea", *"abcdefgh"], k=200)]
    whole = counted(corpus).result()
    monkeypatch.setattr(items, "_PIECE", 7)
    assert counted(corpus).result() == whole


@settings(max_examples=25)
@given(corpora, st.randoms(), st.sampled_from([EXACT, SMALL]))
def test_the_order_of_reading_and_merging_and_a_rest_in_a_file_change_nothing(corpus, chance, spec):
    whole = counted(corpus, spec).result()
    parts = []
    for text in chance.sample(corpus, len(corpus)):
        rested = open_counts(spec, 10**6)
        rested.restore(counted([text], spec).state())
        parts.append(rested)
    merged = open_counts(spec, 10**6)
    for part in parts:
        merged.merge(part)
    assert merged.result() == whole


def test_distinct_counts_of_many_items_do_not_depend_on_the_order_either():
    texts = [[f"w{number}" for number in range(first, first + 1_000)] for first in range(0, 100_000, 1_000)]
    forward, backward = counted(texts, SMALL), counted(texts[::-1], SMALL)
    halves = counted(texts[::2], SMALL)
    halves.merge(counted(texts[1::2], SMALL))
    assert forward.result().distinct == backward.result().distinct == halves.result().distinct


def zipf(seed: int, documents: int, vocabulary: int) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    ranks = rng.zipf(1.2, size=(documents, 100)) % vocabulary
    return [[f"word{rank}" for rank in row] for row in ranks.tolist()]


def test_true_numbers_lie_within_the_bounds_of_sketches_whose_memory_does_not_grow():
    sizes = []
    for documents in (50, 1_500):
        corpus = zipf(3, documents, 10**6)
        truth, counts = counted(corpus).result(), counted(corpus, SMALL, shown=20)
        whole = counts.result()
        true = of(truth)
        assert all(count.lower <= true[count.id] <= count.upper for count in whole.distinct)
        assert all(count.approximate and count.confidence == 0.99 for count in whole.distinct)
        for found, all_of_them in zip((whole.frequent_words, whole.frequent_edges), frequent(truth), strict=True):
            assert all(count.lower <= all_of_them[count.id] <= count.upper for count in found)
        words_ = [count.id for count in whole.frequent_words]
        assert words_[:3] == ["word1", "word2", "word3"]
        assert whole.document_lengths == truth.document_lengths
        sizes.append(sum(map(len, counts.state().values())))
    assert max(sizes) <= SMALL.memory


def test_a_word_as_long_as_a_key_is_counted_but_never_among_the_frequent():
    whole = counted([["k" * 40, "cat", "k" * 40]] * 5, SMALL).result()
    assert of(whole)["types"] == pytest.approx(2)
    assert frequent(whole) == ({"cat": 5}, {})


@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=50))
def test_lengths_are_exact_below_ten_thousand_words_and_right_to_a_thousandth_above(lengths):
    held = Lengths()
    for length in lengths:
        held.fold(length)
    for share, found in zip((0.1, 0.5, 0.9), held.quantiles(), strict=True):
        true = int(np.quantile(lengths, share, method="inverted_cdf"))
        assert found.lower <= true <= found.upper
        assert found.approximate == (found.lower != found.upper)
        assert found.upper - found.lower <= true * 0.001
        assert true >= 10_000 or found.value == true


def test_counting_exactly_ends_where_its_memory_does():
    spec = CountingSpec(counting=Counting.EXACT, memory=2**20)
    with pytest.raises(LimitExceeded, match="sketches") as told:
        counted([[f"w{number}"] for number in range(20_000)], spec)
    assert told.value.metadata == {"unit": "bytes", "limit": "1048576"}


def test_what_cannot_be_counted_is_told_before_anything_is_read(monkeypatch):
    check_counting(None, 0)
    check_counting(SMALL, 2**20)
    with pytest.raises(LimitExceeded, match="OURO_ANALYZER_MAX_COUNTING"):
        check_counting(EXACT, 2**20)
    monkeypatch.setattr(sketched, "datasketches", None)
    check_counting(EXACT, EXACT.memory)
    with pytest.raises(CapabilityMissing, match=r"ouroscope\[sketches\]"):
        check_counting(SMALL, SMALL.memory)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: CountingSpec(memory=1000), "memory"),
        (lambda: CountingSpec(memory=2**37), "memory"),
        (lambda: AnalyzeCorpus(predictions=PREDICTIONS, whole_corpus=EXACT), "whole_corpus"),
    ],
)
def test_impossible_requests_are_refused(make: Any, field: str):
    with pytest.raises(InvalidRequest, match=field):
        make()


def test_a_report_without_counts_has_the_digest_that_it_always_had():
    assert "whole_corpus" not in canonical_json(Report(analyzer_version="1"))
    assert "whole_corpus" not in canonical_json(AnalyzeCorpus(predictions=PREDICTIONS))


def test_counts_stand_beside_the_sample_and_agree_with_it_where_it_is_everything(tmp_path):
    texts = [f"the cat number{n} saw a dog near the old sea road" for n in range(10)]
    documents = [Document(id=str(n), text=text) for n, text in enumerate(texts)]
    asked = ("types", "cooccurrence_nodes", "cooccurrence_edges")
    side = analyze_side(documents, options=Options(metrics=asked, whole_corpus=EXACT))
    whole, sampled = side.report.whole_corpus, {value.id: value.value for value in side.report.metrics}
    assert whole is not None
    assert {id: value for id, value in of(whole).items() if id in asked} == sampled
    # A baseline keeps the numbers and nobody's words.
    store = ArtifactStore(tmp_path)
    published = reports.publish(store, side)
    assert published.report.report is not None
    info = baselines.create(store, "mine", published.report.report)
    kept = reports.read(store, info.baseline).report.whole_corpus
    assert kept is not None
    assert (kept.distinct, kept.frequent_words, kept.frequent_edges) == (whole.distinct, (), ())
