"""Spectra, sums and distances of vectors: laws, hand values, and the definitions by brute force with scipy."""

import itertools
import math
import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, linalg
from scipy.special import rel_entr
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info
from vendi_score import vendi

from ouroscope.errors import PreconditionFailed, Undefined
from ouroscope.records.analysis import Family, Policy
from services.analyzer.analysis import analyze
from services.analyzer.comparison import compare
from services.analyzer.embedding import embedded, moments, prints
from services.analyzer.embedding.one_thread import one_thread
from services.analyzer.fingerprint import from_bytes, to_bytes
from services.analyzer.metrics.embedding import effective_rank, mean_cosine_distance, vendi_score
from services.analyzer.relative_embedding import frechet_distance, frontier_divergence, frontier_integral
from services.analyzer.rungs import ladder
from services.analyzer.side import side_of
from services.analyzer.spread import HumanSpread, RungSpread, Spread
from services.analyzer.tools import Tools

from .corpora import SMALL, document, prose, rung_of, sample_of


def directions(count, dimensions, seed, spread=1.0):
    """Unit vectors around a common direction, as encoders make them."""
    rng = np.random.default_rng(seed)
    return embedded.unit_vectors(rng.normal(size=(count, dimensions)) * spread + 1)


# Shapes with fewer and with more vectors than dimensions: two ways to the same numbers.
SHAPES = [(12, 5), (30, 30), (40, 64)]


@pytest.fixture(params=SHAPES, ids=str)
def vectors(request):
    return directions(*request.param, seed=sum(request.param))


def groups_of(vectors, groups=4):
    return np.sort(np.arange(len(vectors)) % groups)


# By definition


def vendi_of(vectors):
    # The package of the authors of the score.
    return float(vendi.score_dual(vectors, normalize=False))


def effective_rank_of(vectors):
    values = np.linalg.eigvalsh(np.cov(vectors.T))
    shares = values[values > 1e-14] / values.sum()
    return math.exp(-(shares * np.log(shares)).sum())


def cosine_distance_of(vectors):
    pairs = itertools.combinations(vectors, 2)
    return np.mean([1 - one @ other for one, other in pairs])


MEASURED = {
    vendi_of: lambda *sums: [vendi_score(spectrum) for spectrum in moments.kernel_spectra(*sums)],
    effective_rank_of: lambda *sums: [effective_rank(spectrum) for spectrum in moments.covariance_spectra(*sums)],
    cosine_distance_of: lambda *sums: [mean_cosine_distance(one) for one in moments.alignments(*sums)],
}


@pytest.mark.parametrize("definition", MEASURED)
def test_replicates_are_the_definition_without_each_group(vectors, definition):
    groups_D = groups_of(vectors)
    left = MEASURED[definition](vectors, groups_D, 4)
    assert left == pytest.approx([definition(vectors[groups_D != group]) for group in range(4)], rel=1e-9)


@pytest.mark.parametrize("definition", MEASURED)
def test_without_groups_there_is_the_one_value_of_all_vectors(vectors, definition):
    assert MEASURED[definition](vectors, np.zeros(len(vectors), dtype=int), 1) == pytest.approx([definition(vectors)])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**32))
def test_bounds_hold_and_a_turn_of_all_vectors_changes_nothing(count, dimensions, seed):
    vectors = directions(count, dimensions, seed)
    turn = linalg.qr(np.random.default_rng(seed).normal(size=(dimensions, dimensions)))[0]
    groups_D = np.zeros(count, dtype=int)
    for measure in MEASURED.values():
        assert measure(vectors, groups_D, 1) == pytest.approx(measure(vectors @ turn, groups_D, 1), rel=1e-7)
    vendi, rank, distance = (measure(vectors, groups_D, 1)[0] for measure in MEASURED.values())
    assert 1 <= vendi <= min(count, dimensions) + 1e-9
    assert 1 - 1e-9 <= rank <= min(count - 1, dimensions) + 1e-9
    assert 0 <= distance <= count / (count - 1) + 1e-9


def test_copies_are_worth_one_document_and_right_angles_all_of_them():
    copies, apart = np.tile([0.6, 0.8, 0.0], (5, 1)), np.eye(5)
    one_group = np.zeros(5, dtype=int)
    assert vendi_score(moments.kernel_spectra(copies, one_group, 1)[0]) == pytest.approx(1)
    assert vendi_score(moments.kernel_spectra(apart, one_group, 1)[0]) == pytest.approx(5)
    assert mean_cosine_distance(moments.alignments(copies, one_group, 1)[0]) == pytest.approx(0)
    assert mean_cosine_distance(moments.alignments(apart, one_group, 1)[0]) == pytest.approx(1)
    with pytest.raises(Undefined, match="same vector"):
        effective_rank(moments.covariance_spectra(copies, one_group, 1)[0])
    assert effective_rank(moments.covariance_spectra(apart, one_group, 1)[0]) == pytest.approx(4)


def test_two_of_a_kind_and_one_apart_have_the_published_vendi_score():
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert vendi_score(moments.kernel_spectra(vectors, np.zeros(3, dtype=int), 1)[0]) == pytest.approx(1.8899, abs=5e-5)


def test_a_single_document_has_no_distance():
    with pytest.raises(Undefined, match="fewer than two"):
        mean_cosine_distance(moments.Alignment(documents=1, squared_sum=1.0))


# Which documents are embedded


class Letters:
    """Stands in for an encoder: how often each letter occurs. Remembers what it was asked."""

    identity, libraries = "letters 1", ""

    def __init__(self):
        self.asked = []

    def embed(self, texts, on_done):
        self.asked += texts
        on_done(len(texts))
        return np.array([[text.count(letter) + 0.01 for letter in "abcdefghijkz"] for text in texts], dtype=np.float32)


def test_each_text_is_embedded_once_and_every_rung_finds_its_own():
    texts = [" ".join(random.Random(number).choices("abcdefghij", k=6)) for number in range(200)]
    rungs = ladder(sample_of([document(text, n) for n, text in enumerate(texts)], SMALL))
    encoder = Letters()
    found = embedded.embed(rungs[-1], encoder)
    assert len(encoder.asked) == len(set(encoder.asked))
    for rung in rungs:
        vectors, groups_D = found.of(rung)
        assert np.array_equal(vectors, embedded.embed(rung, Letters()).vectors_Dd)
        assert groups_D.tolist() == sorted(groups_D.tolist())
        assert len(vectors) == len(rung.texts)


def test_of_many_documents_the_first_of_each_group_are_embedded(monkeypatch):
    monkeypatch.setattr(embedded, "MOST_DOCUMENTS", 40)
    rung = rung_of(prose(300, 40, seed=3))
    vectors, groups_D = embedded.embed(rung, Letters()).of(rung)
    assert np.bincount(groups_D).tolist() == [2] * 20
    assert len(vectors) == 40


def test_a_stop_is_heard_between_batches():
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedded.embed(rung_of(["a b", "c d"]), Letters(), check=check)


@pytest.mark.parametrize("row", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_a_vector_without_direction_is_refused(row):
    with pytest.raises(PreconditionFailed, match="not finite"):
        embedded.unit_vectors(np.array([[1.0, 0.0], row]))


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 100))
def test_batches_hold_every_text_once_and_no_more_tokens_than_allowed(lengths, most):
    found = list(embedded.batches(lengths, most))
    assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= most


# Against a baseline


def printed(*arguments, **options):
    return prints.embedding_print(directions(*arguments, **options))


def frechet_of(ours, theirs):
    gap = ours.mean(axis=0) - theirs.mean(axis=0)
    one, other = np.cov(ours.T), np.cov(theirs.T)
    return gap @ gap + np.trace(one + other - 2 * linalg.sqrtm(one @ other).real)


@pytest.mark.parametrize("dimensions", [3, 8])
def test_frechet_distance_is_the_definition(dimensions):
    ours, theirs = directions(60, dimensions, 1), directions(80, dimensions, 2, spread=0.5)
    found = frechet_distance(prints.embedding_print(ours), prints.embedding_print(theirs))
    assert found == pytest.approx(frechet_of(ours, theirs), rel=1e-4)  # covariances are kept in 32 bits


@pytest.mark.parametrize("measure", [frechet_distance, frontier_divergence])
def test_a_side_is_not_far_from_itself_and_both_ways_are_equally_long(measure):
    # Fewer vectors than dimensions, so most eigenvalues are 0 and a careless root is not.
    one, other = printed(25, 40, seed=1), printed(30, 40, seed=2, spread=0.3)
    assert measure(one, one) == pytest.approx(0, abs=1e-6)
    assert measure(one, other) == pytest.approx(measure(other, one), rel=1e-9)
    assert measure(one, other) > 0.01


def test_the_frontier_is_at_its_end_where_the_sides_have_nothing_in_common():
    apart = [prints.embedding_print(np.tile(row, (20, 1))) for row in np.eye(2)]
    assert frontier_divergence(*apart) == pytest.approx(1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_the_frontier_integral_is_the_definition(pairs):
    ours, theirs = np.array([(1, 1), *pairs]).T
    p, q = ours / ours.sum(), theirs / theirs.sum()

    def between(t):
        mixed = t * p + (1 - t) * q
        return t * rel_entr(p, mixed).sum() + (1 - t) * rel_entr(q, mixed).sum()

    expected = 2 * integrate.quad(between, 0, 1)[0]
    assert frontier_integral(ours, theirs) == pytest.approx(expected, abs=1e-6)
    assert 0 <= frontier_integral(ours, theirs) <= 1


def test_whose_k_means_makes_the_cells_hardly_matters():
    ours, theirs = printed(200, 6, seed=3), printed(200, 6, seed=4, spread=0.5)
    joint = np.concatenate([ours.vectors_md, theirs.vectors_md]).astype(float)
    labels = KMeans(n_clusters=20, n_init=5, random_state=0).fit(joint).labels_
    expected = frontier_integral(*(np.bincount(part, minlength=20) for part in np.split(labels, 2)))
    assert frontier_divergence(ours, theirs) == pytest.approx(expected, abs=0.05)


def test_more_of_the_same_is_nearer_than_something_else():
    here, again, elsewhere = (printed(200, 8, seed=seed, spread=spread) for seed, spread in ((1, 1), (2, 1), (3, 0.2)))
    for measure in (frechet_distance, frontier_divergence):
        assert measure(here, again) < measure(here, elsewhere) / 3


def test_one_document_on_a_side_is_not_enough():
    one, many = printed(1, 4, seed=1), printed(9, 4, seed=2)
    for measure in (frechet_distance, frontier_divergence):
        with pytest.raises(Undefined, match="fewer than two"):
            measure(many, one)


def test_a_print_keeps_a_thousand_vectors_evenly_and_is_read_as_it_was_written():
    kept = prints.embedding_print(np.repeat(np.eye(5), 500, axis=0))
    assert kept.vectors_md.sum(axis=0).tolist() == [200] * 5
    read = prints.embedding_print_of("10000/embedding", kept.tensors("10000/embedding"))
    assert all(np.array_equal(getattr(read, part), getattr(kept, part)) for part in prints._PARTS)
    assert prints.embedding_print_of("20000/embedding", kept.tensors("10000/embedding")) is None


# Linear algebra on one thread


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_last_of_several_users_lifts_the_limit():
    before, inside, leave = blas_threads(), threading.Event(), threading.Event()

    def other():
        with one_thread():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        inside.wait()
    assert blas_threads() == {1}
    leave.set()
    thread.join()
    assert blas_threads() == before


# From documents to a verdict


EMBEDDING_METRICS = ("vendi_score", "effective_rank", "mean_cosine_distance")


def corpus(count, seed, letters="abcdefghij"):
    rng = random.Random(seed)
    return [document(" ".join(rng.choices(letters, k=120)), number) for number in range(count)]


def analyzed(documents, encoder=None, metrics=EMBEDDING_METRICS, **options):
    report, fingerprints = analyze(documents, metrics=metrics, tools=Tools(encoder=encoder), **options)
    return side_of(report, from_bytes(to_bytes(fingerprints)))


def test_every_rung_has_the_metrics_with_intervals_and_the_report_names_the_encoder():
    side = analyzed(corpus(400, 1), Letters())
    assert side.report.encoder == "letters 1"
    assert [rung.budget for rung in side.report.rungs] == [10_000, 20_000]
    for rung in side.report.rungs:
        assert tuple(value.id for value in rung.metrics) == EMBEDDING_METRICS
        assert all(value.lower < value.value < value.upper for value in rung.metrics)
        assert all(len(value.replicates) == 20 for value in rung.metrics)


def test_the_order_of_the_documents_changes_no_bit():
    documents = corpus(150, 2)
    once, again = (analyzed(order, Letters()) for order in (documents, documents[::-1]))
    assert once.report == again.report
    assert np.array_equal(
        once.fingerprints[10_000].embedding.vectors_md, again.fingerprints[10_000].embedding.vectors_md
    )


def test_nobody_is_embedded_for_metrics_that_need_no_vectors():
    encoder = Letters()
    side = analyzed(corpus(30, 3), encoder, metrics=["types"])
    assert encoder.asked == []
    assert side.report.encoder == ""
    assert all(one.embedding is None for one in side.fingerprints.values())


def test_without_an_encoder_the_report_says_how_to_get_one():
    report = analyzed(corpus(30, 4)).report
    assert {left.id for left in report.left_out} >= set(EMBEDDING_METRICS)
    assert all("OURO_ANALYZER_ENCODER" in left.reason for left in report.left_out)


def test_progress_is_told_and_the_stage_has_a_name():
    heard = []
    analyzed(corpus(40, 5), Letters(), on_progress=heard.append)
    assert [one.done for one in heard if one.stage == "embedding"] == [40]


def effects_of(baseline, candidate, spread):
    found = compare(baseline, candidate, spread=spread, policy=Policy())
    return found, {effect.id: effect for effect in found.metrics}


def table(**encoder):
    units = tuple(Spread(id=id, mean=1.0, deviation=0.1, sources=9) for id in EMBEDDING_METRICS)
    rungs = (RungSpread(budget=10_000, metrics=units),)
    return HumanSpread(analyzer_version="2", date="2026-11-22", command="", sources=(), rungs=rungs, **encoder)


def test_the_family_votes_where_the_calibration_had_the_same_encoder():
    baseline, candidate = analyzed(corpus(150, 6), Letters()), analyzed(corpus(150, 7, letters="abc"), Letters())
    found, effects = effects_of(baseline, candidate, table(encoder="letters 1"))
    assert [family.family for family in found.families] == [Family.EMBEDDING]
    assert found.families[0].effect > 0
    assert effects["frechet_distance"].candidate > 0
    assert effects["frontier_divergence"].candidate > 0.5
    other, effects = effects_of(baseline, candidate, table(encoder="letters 2"))
    assert other.families == ()
    assert "calibrate" in effects["vendi_score"].undefined_because


def test_vectors_of_two_encoders_are_not_compared():
    class Others(Letters):
        identity = "letters 2"

    baseline, candidate = analyzed(corpus(150, 8), Letters()), analyzed(corpus(150, 9), Others())
    _, effects = effects_of(baseline, candidate, table(encoder="letters 1"))
    for id in (*EMBEDDING_METRICS, "frechet_distance", "frontier_divergence"):
        assert effects[id].undefined_because == "embedded with letters 1 there and with letters 2 here"
