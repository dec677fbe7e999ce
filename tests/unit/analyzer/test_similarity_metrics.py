"""Metrics that compare documents: laws first, then sacrebleu, scikit-learn, and comparing all pairs the long way."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from sklearn.feature_extraction.text import TfidfVectorizer

from services.analyzer.analysis import value_of
from services.analyzer.catalogue import METRICS
from services.analyzer.measured import MeasuredRung
from services.analyzer.metrics import duplicates
from services.analyzer.metrics.similarity import COMPARED_WORDS
from services.analyzer.rungs import RungSample, ladder

from .corpora import corpora, document, prose, rung_of, sample_of

IDS = ("self_bleu_4", "near_duplicate_share", "levenshtein_diversity", "tfidf_mean")
BY_ID = {metric.id: metric for metric in METRICS}
EQUAL = ["two texts of ten words make one group of twenty"] * 80


def measure(id, rung):
    return value_of(BY_ID[id], MeasuredRung(rung))


def value(id, texts):
    return measure(id, rung_of(texts)).value


def of_one_source(texts) -> RungSample:
    """Return all documents in one group, without replicates."""
    return ladder(sample_of([document(text, n, group="one") for n, text in enumerate(texts)], (10**6,)))[-1]


def of_sources(texts, budgets=(380,)) -> RungSample:
    """Return a rung of documents that all have a source of their own, so that there are replicates."""
    return ladder(sample_of([document(text, n, group=f"source {n}") for n, text in enumerate(texts)], budgets))[-1]


def by_group(rung):
    """Return the documents of each group, as lists of words, as far as the rung uses them."""
    groups = [[] for _ in range(rung.groups)]
    for end, used in zip(np.cumsum(rung.used_D), rung.used_D, strict=True):
        words = [rung.lexicon.words[word] for word in rung.words_N[end - used : end]]
        groups[rung.groups_N[end - 1]].append(words)
    return groups


def without(groups, group):
    return [words for g, documents in enumerate(groups) if g != group for words in documents]


def near_copies(count, seed, words=40):
    """Return texts of which many are others with a few words changed, some copies and some very short."""
    rng = random.Random(seed)
    texts = prose(count // 3, words, seed)
    while len(texts) < count:
        changed = rng.choice(texts[: count // 3]).split()[: rng.choice((2, 8, words, words, words))]
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            changed[rng.randrange(len(changed))] = f"new{rng.randrange(50)}"
        texts.append(" ".join(changed))
    return texts


@settings(max_examples=25, deadline=None)
@given(documents=corpora(), seed=st.integers(0, 2**32))
def test_the_order_of_documents_changes_no_bit(documents, seed):
    shuffled = random.Random(seed).sample(documents, len(documents))
    for one, other in zip(ladder(sample_of(documents)), ladder(sample_of(shuffled)), strict=True):
        for id in IDS:
            assert measure(id, one) == measure(id, other)


@settings(max_examples=25, deadline=None)
@given(documents=corpora())
def test_values_lie_between_0_and_1(documents):
    for rung, id in itertools.product(ladder(sample_of(documents)), IDS):
        measured = measure(id, rung)
        assert measured.value is None or all(0 <= one <= 1 for one in (measured.value, *measured.replicates))


@pytest.mark.parametrize("rung", [of_one_source(EQUAL), of_sources(EQUAL)])
def test_documents_that_are_all_equal_are_as_alike_as_can_be(rung):
    assert measure("self_bleu_4", rung).value == 1
    assert measure("near_duplicate_share", rung).value == 1
    assert measure("levenshtein_diversity", rung).value == 0


@pytest.mark.parametrize("make", [of_one_source, of_sources])
def test_documents_without_a_common_word_are_not_alike_at_all(make):
    rung = make([" ".join(f"w{n}x{m}" for m in range(6)) for n in range(100)])
    assert measure("self_bleu_4", rung).value == 0
    assert measure("near_duplicate_share", rung).value == 0
    assert measure("levenshtein_diversity", rung).value == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), copied=st.integers(0, 11))
def test_a_copy_of_a_document_lowers_neither_its_matches_nor_the_share_of_near_copies(seed, copied):
    texts = prose(12, 8, seed, vocabulary=9)
    before, after = MeasuredRung(of_one_source(texts)), MeasuredRung(of_one_source([*texts, texts[copied]]))
    ((one,), (other,)) = before.overlaps, after.overlaps
    for n in range(4):
        assert other.matches[n] * one.ngrams[n] >= one.matches[n] * other.ngrams[n]
    assert measure("near_duplicate_share", before.rung).value <= measure("near_duplicate_share", after.rung).value


def test_what_documents_are_made_of_and_not_what_words_are_called_counts():
    texts = prose(30, 25, seed=3, vocabulary=20)
    renamed = [" ".join("x" + word for word in text.split()) for text in texts]
    one, other = ([value(id, some) for id in ("self_bleu_4", "near_duplicate_share")] for some in (texts, renamed))
    assert one == other


def bleu_of(groups):
    """Return sacrebleu's value for documents against all others of their group, counts of groups added up."""
    bleu = BLEU(tokenize="none", smooth_method="none", force=True)
    sums = np.zeros(10, dtype=int)
    for documents in groups:
        texts = [" ".join(words) for words in documents]
        if len(texts) > 1:
            others = [[texts[(n + shift) % len(texts)] for n in range(len(texts))] for shift in range(1, len(texts))]
            score = bleu.corpus_score(texts, others)
            sums += [*score.counts, *score.totals, score.sys_len, score.ref_len]
    correct, total, length, reference = sums[:4].tolist(), sums[4:8].tolist(), *sums[8:].tolist()
    return BLEU.compute_bleu(correct, total, length, reference, smooth_method="none").score / 100


@pytest.mark.parametrize("vocabulary", [4, 12, 200])
def test_self_bleu_is_that_of_sacrebleu(vocabulary):
    rng = random.Random(vocabulary)
    texts = [prose(1, rng.randint(1, 20), seed, vocabulary)[0] for seed in range(40)]
    rung = of_one_source(texts)
    assert measure("self_bleu_4", rung).value == pytest.approx(bleu_of(by_group(rung)), abs=1e-12)


def test_self_bleu_of_a_replicate_is_that_of_sacrebleu_over_the_other_groups():
    rng = random.Random(5)
    rung = of_sources([prose(1, rng.randint(3, 20), seed, 8)[0] for seed in range(150)], budgets=(950,))
    groups = by_group(rung)
    expected = [bleu_of(groups[:g] + groups[g + 1 :]) for g in range(20)]
    assert measure("self_bleu_4", rung).replicates == pytest.approx(expected, abs=1e-12)


def test_short_documents_pay_for_it():
    # All of "a b c d" matches, and all but 2, 1, 1, 1 of the longer one's n-grams: r / c = 10 / 10.
    assert value("self_bleu_4", ["a b c d", "a b c d e f"]) == pytest.approx((8 / 10 * 6 / 8 * 4 / 6 * 2 / 4) ** 0.25)


def shingles(words):
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def duplicate_share(documents):
    sets = [shingles(words) for words in documents]
    copied = set()
    for one, other in itertools.combinations(range(len(sets)), 2):
        if 5 * len(sets[one] & sets[other]) >= 4 * len(sets[one] | sets[other]):
            copied |= {one, other}
    return len(copied) / len(sets)


@pytest.mark.parametrize("seed", range(6))
def test_near_duplicates_are_those_of_comparing_all_pairs(seed):
    texts = near_copies(240, seed, words=random.Random(seed).choice((12, 25, 60)))
    rung = of_sources(texts, budgets=(1_900,))
    groups = by_group(rung)
    expected = [duplicate_share(without(groups, group)) for group in range(20)]
    assert measure("near_duplicate_share", rung).replicates == pytest.approx(expected, abs=1e-15)
    whole = of_one_source(texts)
    assert measure("near_duplicate_share", whole).value == duplicate_share(by_group(whole)[0])


@settings(max_examples=25, deadline=None)
@given(documents=corpora())
def test_near_duplicates_of_short_documents_are_those_of_comparing_all_pairs(documents):
    for rung in ladder(sample_of(documents)):
        groups = by_group(rung)
        expected = [duplicate_share(without(groups, group)) for group in range(20)] if rung.replicated else []
        assert measure("near_duplicate_share", rung).replicates == pytest.approx(expected, abs=1e-15)


def test_four_fifths_in_common_is_enough_and_three_quarters_is_not():
    words = [f"w{n}" for n in range(9)]
    assert value("near_duplicate_share", [" ".join(words[:8]), " ".join(words)]) == 1
    assert value("near_duplicate_share", [" ".join(words[:7]), " ".join(words[:8])]) == 0


def test_a_partner_in_the_missing_group_is_missing():
    texts = [f"only{n} here{n} is{n} this{n} text{n}" for n in range(159)]
    rung = of_sources([*texts, texts[0]], budgets=(760,))
    homes = {g for g, documents in enumerate(by_group(rung)) for words in documents if words == texts[0].split()}
    assert len(homes) == 2
    replicates = measure("near_duplicate_share", rung).replicates
    assert {g for g, share in enumerate(replicates) if not share} == homes


def test_however_many_documents_agree_the_pairs_to_compare_rise_no_faster():
    words = [f"w{n}" for n in range(80)]
    texts = [" ".join([*words[:n], "changed", *words[n + 1 :]]) for n in range(80)]
    rung = rung_of(texts)
    sets = duplicates.shingle_sets(rung.lexicon.keys_V[rung.words_N], rung.documents_N, rung.used_D)
    pairs = sum(len(first) for first, _ in duplicates._candidates(sets, rows=4))
    assert pairs <= 256 * len(texts)
    assert value("near_duplicate_share", texts) == 1


def distance(one, other):
    row = list(range(len(other) + 1))
    for i, word in enumerate(one, start=1):
        above = row
        row = [i]
        for j, other_word in enumerate(other, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other_word)))
    return row[-1]


def mean_distance(groups):
    pairs = [pair for documents in groups for pair in itertools.pairwise(documents)]
    return np.mean([distance(one, other) / max(len(one), len(other)) for one, other in pairs])


def test_distances_are_those_of_the_plain_table():
    rng = random.Random(6)
    rung = of_sources([prose(1, rng.randint(1, 20), seed, 12)[0] for seed in range(120)], budgets=(500,))
    groups = by_group(rung)
    expected = [mean_distance(groups[:g] + groups[g + 1 :]) for g in range(20)]
    assert measure("levenshtein_diversity", rung).replicates == pytest.approx(expected, abs=1e-12)


def test_documents_are_compared_up_to_their_500th_word():
    beginning = "same " * COMPARED_WORDS
    assert value("levenshtein_diversity", [beginning + "one way", beginning + "or another way"]) == 0


def test_words_with_numbers_of_surrogates_are_words():
    many = " ".join(f"w{n}" for n in range(0xE100))
    pair = [" ".join(f"w{n}" for n in range(start, 0xE000, 2)) for start in (0xDE00, 0xDE01)]
    assert value("levenshtein_diversity", [many, *pair]) == pytest.approx(1.0)


def tfidf_oracle(documents):
    return TfidfVectorizer(analyzer=list).fit_transform(documents).data.mean()


def test_weights_are_those_of_scikit_learn():
    rng = random.Random(7)
    rung = of_sources([prose(1, rng.randint(1, 40), seed)[0] for seed in range(150)], budgets=(1_900,))
    groups = by_group(rung)
    expected = [tfidf_oracle(without(groups, group)) for group in range(20)]
    assert measure("tfidf_mean", rung).replicates == pytest.approx(expected, rel=1e-12)


def test_a_document_of_one_word_has_the_weight_1():
    assert value("tfidf_mean", ["word word word"]) == 1


@pytest.mark.parametrize(
    ("id", "texts", "reason"),
    [
        ("self_bleu_4", ["one document of five words"], "no group has two documents"),
        ("self_bleu_4", ["three words here", "and three there"], "no document is long enough"),
        ("levenshtein_diversity", ["one document"], "no group has two documents"),
    ],
)
def test_what_cannot_be_compared_says_why(id, texts, reason):
    measured = measure(id, rung_of(texts))
    assert measured.value is None
    assert measured.undefined_because == reason


@pytest.mark.parametrize(
    "texts",
    [["word"] * 3_000, [f"w{n}" for n in range(3_000)], ["word " * 5_000], ["😀 !?", "word"], ["", "a\0b"]],
    ids=["equal words", "different words", "one long loop", "hardly a word", "a NUL"],
)
def test_hostile_text_gets_a_value_or_a_reason(texts):
    for id in IDS:
        measured = measure(id, rung_of(texts))
        assert (measured.value is None) == bool(measured.undefined_because)
