"""Lexical metrics of every replicate against libraries that other people wrote, fed with the words that are left."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from lexicalrichness import LexicalRichness
from scipy import stats
from sklearn.feature_extraction.text import CountVectorizer

from services.analyzer.analysis import value_of
from services.analyzer.catalogue import METRICS
from services.analyzer.measured import MeasuredRung
from services.analyzer.rungs import ladder

from .corpora import corpora, document, prose, sample_of

BY_ID = {metric.id: metric for metric in METRICS}


@pytest.fixture(scope="module")
def rung():
    texts = [text for seed in range(4) for text in prose(45, 7 + 9 * seed, seed, vocabulary=60)]
    return ladder(sample_of([document(text, n) for n, text in enumerate(texts)], (1_900,)))[0]


@pytest.fixture(scope="module")
def left(rung):
    """Return, for each replicate, the documents that are left, each as its words with blanks between."""
    return texts_left(rung)


def texts_left(rung):
    ends = np.cumsum(rung.used_D)
    words = [rung.lexicon.words[word] for word in rung.words_N]
    texts = [" ".join(words[end - used : end]) for end, used in zip(ends, rung.used_D, strict=True)]
    groups = rung.groups_N[ends - 1]
    return [[text for text, g in zip(texts, groups, strict=True) if g != group] for group in range(20)]


def replicates(id, rung):
    return value_of(BY_ID[id], MeasuredRung(rung)).replicates


def grams(texts, length):
    """Return scikit-learn's counts: a row for each document, a column for each n-gram."""
    return CountVectorizer(analyzer="word", token_pattern=r"\S+", ngram_range=(length, length)).fit_transform(texts)


def word_counts(texts):
    return np.asarray(grams(texts, 1).sum(axis=0)).ravel()


ORACLES = {
    "type_token_ratio": lambda texts: LexicalRichness(" ".join(texts)).ttr,
    "yule_k": lambda texts: LexicalRichness(" ".join(texts)).yulek,
    "hdd": lambda texts: LexicalRichness(" ".join(texts)).hdd(draws=42),
    "types": lambda texts: len(word_counts(texts)),
    "hapax_share": lambda texts: np.mean(word_counts(texts) == 1),
    "token_entropy": lambda texts: stats.entropy(word_counts(texts)),
    "normalized_entropy_by_tokens": lambda texts: stats.entropy(word_counts(texts), base=word_counts(texts).sum()),
    "normalized_entropy_by_types": lambda texts: stats.entropy(word_counts(texts), base=len(word_counts(texts))),
}


@pytest.mark.parametrize("id", ORACLES)
def test_replicates_are_those_of_a_peer_on_the_words_that_are_left(id, rung, left):
    assert replicates(id, rung) == pytest.approx([ORACLES[id](texts) for texts in left], rel=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_distinct_is_that_of_scikit_learns_counts(length, rung, left):
    expected = [counts.shape[1] / counts.sum() for counts in (grams(texts, length) for texts in left)]
    assert replicates(f"distinct_{length}", rung) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_repetition_is_that_of_scikit_learns_counts(length, rung, left):
    expected = [1 - counts.nnz / counts.sum() for counts in (grams(texts, length) for texts in left)]
    assert replicates(f"repetition_{length}", rung) == pytest.approx(expected, rel=1e-12)


def test_the_diversity_product_is_that_of_scikit_learns_counts(rung, left):
    tables = [[grams(texts, length) for length in (2, 3, 4)] for texts in left]
    expected = [math.prod(counts.nnz / counts.sum() for counts in of_one) for of_one in tables]
    assert replicates("diversity_product", rung) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(documents=corpora())
def test_entropies_of_any_corpus_are_those_of_scipy(documents):
    for rung in ladder(sample_of(documents)):
        if rung.replicated:
            expected = [stats.entropy(word_counts(texts)) for texts in texts_left(rung)]
            assert replicates("token_entropy", rung) == pytest.approx(expected, abs=1e-12)
