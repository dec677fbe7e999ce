"""Text metrics against hand computation, other libraries, and the law that a replicate is a smaller sample."""

import collections
import itertools
import math
import random
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from lexicalrichness import LexicalRichness
from scipy import stats

from ouroscope.errors import Undefined
from services.analyzer.analysis import value_of
from services.analyzer.catalogue import METRICS, NETWORK, TEXT
from services.analyzer.measured import MeasuredRung
from services.analyzer.metrics import lexical, sequences
from services.analyzer.metrics.spectrum import Spectrum
from services.analyzer.rungs import RungSample, ladder

from .corpora import corpora, document, prose, rung_of, sample_of

BY_ID = {metric.id: metric for metric in METRICS}
VECTOR = "a a b a c a b d"


def value(id, texts):
    return value_of(BY_ID[id], MeasuredRung(rung_of(texts))).value


def without(rung: RungSample, group: int) -> RungSample:
    """Return the words of all groups but one as a rung of its own."""
    kept = rung.groups_N != group
    used, documents = np.unique(rung.documents_N[kept], return_inverse=True)
    return RungSample(
        budget=int(kept.sum()),
        clusters=rung.clusters,
        groups=1,
        lexicon=rung.lexicon,
        words_N=rung.words_N[kept],
        documents_N=documents.astype(np.int32),
        groups_N=np.zeros(int(kept.sum()), dtype=np.int32),
        lengths_D=rung.lengths_D[used],
        texts=tuple(rung.texts[place] for place in used),
        places_D=rung.places_D[used],
        used_D=np.bincount(documents).astype(np.int32),
    )


# Windows, compressed blocks and comparisons of documents end with their group, so the text of 19 groups laid end to end
# is another text for them.
IN_STREAMS = {"mattr", "mtld", "compression_ratio", "entropy_rate", "self_bleu_4", "levenshtein_diversity"}
# What needs a parser is held to the same law where a parser is.
REPLICABLE = [
    metric
    for metric in (*TEXT, *NETWORK)
    if not (metric.largest_rung_only or metric.needs) and metric.id not in IN_STREAMS
]


@settings(max_examples=20, deadline=None)
@given(documents=corpora())
def test_each_replicate_is_the_value_of_the_sample_without_its_group(documents):
    for rung in ladder(sample_of(documents)):
        if not rung.replicated:
            continue
        whole, parts = MeasuredRung(rung), [MeasuredRung(without(rung, group)) for group in (0, 7, 19)]
        for metric in REPLICABLE:
            replicates = value_of(metric, whole).replicates
            if replicates:
                direct = [value_of(metric, part).value for part in parts]
                assert [replicates[group] for group in (0, 7, 19)] == pytest.approx(direct, rel=1e-12), metric.id


@pytest.mark.parametrize(
    ("id", "expected"),
    [
        ("types", 4),
        ("type_token_ratio", 0.5),
        ("token_entropy", 1.75 * math.log(2)),
        ("normalized_entropy_by_types", 0.875),
        ("normalized_entropy_by_tokens", 1.75 / 3),
        ("hapax_share", 0.5),
        ("yule_k", 2187.5),
        ("head_share", 1.0),
        ("distinct_1", 0.5),
        ("distinct_2", 6 / 7),  # aa ab ba ac ca ab bd
        ("distinct_3", 1.0),
        ("repetition_2", 1 / 7),
        ("repetition_3", 0.0),
        ("diversity_product", 6 / 7),
        ("skipgram_2_2", 10 / 18),  # aa ab ac ad ba bc bd ca cb cd
        ("document_length", 8),
    ],
)
def test_the_published_test_vector(id, expected):
    assert value(id, [VECTOR]) == pytest.approx(expected, abs=1e-12)


def test_the_two_normalised_entropies_disagree_on_a_loop():
    loop = ["the church is a " * 20]
    assert value("normalized_entropy_by_types", loop) == pytest.approx(1.0)
    assert value("normalized_entropy_by_tokens", loop) == pytest.approx(0.316, abs=5e-4)


def test_both_normalised_entropies_are_1_when_all_words_differ():
    assert value("normalized_entropy_by_types", ["one two three"]) == pytest.approx(1.0)
    assert value("normalized_entropy_by_tokens", ["one two three"]) == pytest.approx(1.0)


def test_entropy_is_that_of_scipy():
    counts = np.random.default_rng(1).zipf(1.6, size=500) % 900 + 1
    assert lexical.token_entropy(Spectrum.of_counts(counts)) == pytest.approx(stats.entropy(counts), abs=1e-12)


def test_hdd_mattr_and_mtld_are_those_of_lexicalrichness():
    text = " ".join(prose(1, 600, seed=2, vocabulary=400))
    oracle = LexicalRichness(text)
    assert value("hdd", [text]) == pytest.approx(oracle.hdd(draws=42), abs=1e-9)
    assert value("mattr", [text]) == pytest.approx(oracle.mattr(window_size=50), abs=1e-12)
    assert value("mtld", [text]) == pytest.approx(oracle.mtld(threshold=0.72), abs=1e-9)


def test_zipf_exponent_is_the_slope_of_the_line_through_all_types():
    counts = sorted((random.Random(3).randint(1, 400) for _ in range(300)), reverse=True)
    slope = stats.linregress(np.log(np.arange(1, 301)), np.log(counts)).slope
    assert lexical.zipf_exponent(Spectrum.of_counts(counts)) == pytest.approx(-slope, abs=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_distinct_and_repetition_are_those_of_counting(length):
    texts = prose(12, 15, seed=4, vocabulary=6)
    grams = [list(zip(*(text.split()[i:] for i in range(length)), strict=False)) for text in texts]
    total = sum(map(len, grams))
    assert value(f"distinct_{length}", texts) == len(set(itertools.chain(*grams))) / total
    if 2 <= length <= 4:
        unique = sum(len(set(of_one)) for of_one in grams)
        assert value(f"repetition_{length}", texts) == pytest.approx(1 - unique / total, abs=1e-12)


def test_skipgrams_are_those_of_counting():
    texts = prose(9, 11, seed=5, vocabulary=6)
    pairs = collections.Counter(
        (words[i], words[j]) for words in map(str.split, texts) for i in range(11) for j in range(i + 1, min(i + 4, 11))
    )
    assert value("skipgram_2_2", texts) == len(pairs) / pairs.total()


def test_compression_is_that_of_the_words_of_a_document_on_a_line():
    texts = ["One, two.", "Three!"]
    rung = rung_of(texts)
    plain = (
        "\n".join(" ".join(text.replace(",", "").rstrip(".").split()) for text in rung.texts).replace("!", "").encode()
    )
    assert value("compression_ratio", texts) == len(plain) / len(zlib.compress(plain, 6))


def test_windows_and_runs_end_with_their_group():
    rung = ladder(sample_of([document(text, n) for n, text in enumerate(prose(60, 60, seed=6))], (1_900,)))[0]
    measured = MeasuredRung(rung)
    streams = [" ".join(rung.lexicon.words[word] for word in words) for words in measured.streams()]
    oracles = [LexicalRichness(stream) for stream in streams]
    for id, of_group in (("mattr", [o.mattr(50) for o in oracles]), ("mtld", [o.mtld(0.72) for o in oracles])):
        expected = [np.mean(np.delete(of_group, group)) for group in range(20)]
        assert value_of(BY_ID[id], measured).replicates == pytest.approx(expected, rel=1e-12)


def test_document_length_counts_whole_documents_even_where_the_budget_cuts_them():
    documents = [document("word " * 30 + str(n), n) for n in range(200)]
    rung = ladder(sample_of(documents, (95, 1_900)))[0]
    assert rung.budget == 95
    assert value_of(BY_ID["document_length"], MeasuredRung(rung)).value == 31


@pytest.mark.parametrize(
    ("id", "text", "reason"),
    [
        ("normalized_entropy_by_tokens", "one", "fewer than 2 words"),
        ("normalized_entropy_by_types", "one one", "fewer than 2 different words"),
        ("zipf_exponent", "one one", "fewer than 2 different words"),
        ("hdd", "one two", "fewer than 42 words"),
        ("mattr", "one two", "fewer than 50 words"),
        ("mtld", "one two", "no word is repeated"),
        ("distinct_3", "one two", "no document is long enough"),
        ("repetition_2", "one", "no document is long enough"),
        ("diversity_product", "one two three", "no document is long enough"),
        ("cooccurrence_nodes", "the", "no two concepts meet"),
        ("cooccurrence_transitivity", "cat dog", "no concept has two relations"),
    ],
)
def test_what_cannot_be_measured_says_why(id, text, reason):
    measured = value_of(BY_ID[id], MeasuredRung(rung_of([text])))
    assert measured.value is None
    assert measured.undefined_because == reason


@pytest.mark.parametrize("sheet", [lexical.types, lexical.token_entropy, lexical.yule_k, lexical.head_share])
def test_an_empty_spectrum_is_undefined_not_zero(sheet):
    with pytest.raises(Undefined):
        sheet(Spectrum((), ()))


def test_the_window_sum_is_that_of_sliding():
    words = np.array(random.Random(7).choices(range(30), k=180), dtype=np.int32)
    slid = sum(len(set(words[start : start + 50].tolist())) for start in range(131))
    assert sequences._window_types(words) == slid


def test_match_lengths_are_those_of_searching():
    words = random.Random(8).choices("abcd", k=60) + list("abcdabcdabcdabcd")
    expected = []
    for place in range(len(words)):
        past, length = " ".join(words[:place]) + " ", 1
        while place + length <= len(words) and " ".join(words[place : place + length]) + " " in past:
            length += 1
        expected.append(length)
    assert [found.tolist() for found in MeasuredRung(rung_of([" ".join(words)])).matches()] == [expected]


def test_a_loop_has_a_lower_entropy_rate_than_prose_and_is_bounded():
    loop, free = (value("entropy_rate", [text]) for text in ("the church is a " * 500, prose(1, 2_000, seed=1)[0]))
    assert 0 < loop < 0.25 < free


def test_match_lengths_do_not_reach_into_another_group():
    rung = ladder(sample_of([document("same words here again", n, group=f"g{n}") for n in range(20)], (76,)))[0]
    assert rung.replicated
    assert [found.tolist() for found in MeasuredRung(rung).matches()] == [[1, 1, 1, 1]] * 20


def test_sentences_and_syllables_make_the_reading_ease():
    text = "The cat sat. The dog, reading a table, ran!"
    assert value("sentence_length", [text]) == 4.5
    assert value("readability", [text]) == pytest.approx(206.835 - 1.015 * 4.5 - 84.6 * 11 / 9)
