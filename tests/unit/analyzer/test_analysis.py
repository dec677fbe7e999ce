"""From documents to a report: only what is asked, with an answer or a typed error for whatever comes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import Cancelled, CorruptArtifact, InvalidRequest
from ouroscope.records.documents import Document, View
from services.analyzer.analysis import analyze
from services.analyzer.fingerprint import from_bytes, to_bytes
from services.analyzer.keys import pair_keys, word_keys
from services.analyzer.sample import Accumulator

from .corpora import document, prose


@pytest.fixture(scope="module")
def corpus():
    return [document(text, number) for number, text in enumerate(prose(700, 40, seed=9))]


@pytest.fixture(scope="module")
def analysed(corpus):
    return analyze(corpus, drawn_concepts=7)


def test_a_report_says_what_the_corpus_holds(analysed):
    report, _ = analysed
    assert (report.documents, report.tokens, report.clusters) == (700, 28_000, 700)
    assert [rung.budget for rung in report.rungs] == [10_000, 20_000]
    assert len(report.drawing.concepts) == 7
    assert report.model_metrics == ()
    assert ("MODEL", "no next-token records or scored texts were given") in {(o.id, o.reason) for o in report.left_out}


def test_every_value_has_an_interval_that_holds_it_or_is_measured_once(analysed):
    report, _ = analysed
    for rung in report.rungs:
        for value in rung.metrics:
            assert value.undefined_because is None
            if value.lower is not None:
                assert value.lower <= value.value <= value.upper
                assert len(value.replicates) == 20
    small, large = report.rungs
    only_large = {value.id for value in large.metrics} - {value.id for value in small.metrics}
    assert {"cooccurrence_path_length", "cooccurrence_modularity"} <= only_large
    assert all(value.lower is None for value in large.metrics if value.id in only_large)


def test_the_same_corpus_in_another_order_gives_the_same_report(corpus, analysed):
    assert analyze(reversed(corpus), drawn_concepts=7)[0] == analysed[0]


def test_only_what_is_asked_for_is_computed(corpus, monkeypatch):
    def never(*_):
        raise AssertionError("the network was built")

    monkeypatch.setattr("services.analyzer.measured.cooccurrences", never)
    monkeypatch.setattr("services.analyzer.metrics.sequences.compressed_sizes", never)
    report, prints = analyze(corpus, metrics=["types", "mattr"])
    assert [value.id for value in report.metrics] == ["types", "mattr"]
    assert report.left_out == ()
    assert prints[0].networks == {}


def test_an_unknown_metric_is_told_before_a_document_is_read():
    def unread():
        raise AssertionError("a document was read")
        yield

    with pytest.raises(InvalidRequest, match="did you mean token_entropy"):
        analyze(unread(), metrics=["tokens_entropy"])


def test_nothing_to_analyse_is_an_error():
    with pytest.raises(InvalidRequest, match="at least one document"):
        analyze([])


def test_a_corpus_without_words_is_answered_with_the_reason():
    report, prints = analyze([document("", 1), document("\U0001f600 \x00", 2)])
    assert (report.documents, report.tokens, report.rungs, prints) == (2, 0, (), ())
    assert ("TEXT", "no document has a word") in {(one.id, one.reason) for one in report.left_out}


def test_metrics_that_were_asked_for_are_left_out_by_their_own_names():
    none_given = "no next-token records or scored texts were given"
    report, _ = analyze([document("", 1)], metrics=["types", "heldout_perplexity", "cooccurrence_nodes"])
    assert {one.id: one.reason for one in report.left_out} == {
        "types": "no document has a word",
        "cooccurrence_nodes": "no document has a word",
        "heldout_perplexity": none_given,
    }
    asked, _ = analyze([document("a word", 1)], metrics=["heldout_perplexity"])
    assert [(one.id, one.reason) for one in asked.left_out] == [("heldout_perplexity", none_given)]


def test_one_document_is_measured_without_intervals():
    report, prints = analyze([document("the quick brown fox jumps over the lazy dog", 1)])
    (rung,) = report.rungs
    values = {value.id: value for value in rung.metrics}
    assert (rung.budget, rung.clusters, values["types"].value) == (9, 1, 8)
    assert all(value.replicates == () for value in rung.metrics)
    assert prints[0].groups == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\x00" * 1_000,
        "x" * 1_000_000,
        "\U0001f600" * 1_000,
        "\u202eabc \u0645\u0631\u062d\u0628\u0627",
        "\ud800",
        "'" * 99,
        "\n" * 99,
        "a \U0001f600" + "!" * 99_999,
    ],
    ids=["empty", "nul", "no space", "emoji", "right to left", "surrogate", "apostrophes", "lines", "symbols"],
)
def test_hostile_text_gets_an_answer(text):
    report, prints = analyze([document(text, 1), document("cat and dog", 2)], drawn_concepts=3)
    assert report.documents == 2
    assert from_bytes(to_bytes(prints))[0].budget == report.rungs[0].budget


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=40))
def test_no_text_gives_a_number_that_is_not_finite(texts):
    report, _ = analyze([document(text, number) for number, text in enumerate(texts)])
    for value in report.metrics:
        numbers = [
            number for number in (value.value, value.lower, value.upper, *value.replicates) if number is not None
        ]
        assert all(math.isfinite(number) for number in numbers), value.id


def test_memory_of_symbols_between_words_is_not_kept():
    accumulator = Accumulator()
    accumulator.fold(document("a " + "!" * 1_000_000 + " b", 1))
    assert accumulator.finalise().texts == ("a b",)


def test_progress_is_told_and_a_stop_is_heard(corpus):
    told = []
    analyze(corpus, metrics=["types"], on_progress=told.append)
    assert [(p.stage, p.done, p.total) for p in told if p.stage == "measuring"] == [
        ("measuring", 1, 2),
        ("measuring", 2, 2),
    ]
    assert told[0].done < 700

    def stop():
        if len(told) > 10:
            raise Cancelled("stopped")
        told.append(None)

    with pytest.raises(Cancelled):
        analyze(corpus * 5, metrics=["types"], check=stop)


def test_the_continuation_view_measures_what_was_written(corpus):
    documents = [
        Document(id=one.id, text="the prompt is " + one.text, prefix_length=len("the prompt is "), prompt_id=one.id)
        for one in corpus
    ]
    report, _ = analyze(documents, view=View.CONTINUATION, metrics=["types"])
    assert report.view is View.CONTINUATION
    assert report.tokens == 28_000


def test_a_fingerprint_counts_words_by_group_and_survives_being_written(corpus, analysed):
    report, prints = analysed
    again = from_bytes(to_bytes(prints))
    assert to_bytes(again) == to_bytes(prints)
    for rung, one in zip(report.rungs, again, strict=True):
        counts = one.counts_VK.astype(np.int64)
        left = counts.sum(axis=1, keepdims=True) - counts
        types = {value.id: value.replicates for value in rung.metrics}["types"]
        assert tuple(np.count_nonzero(left, axis=0).tolist()) == types
        assert np.all(np.diff(one.types_V.astype(object)) > 0)
        assert np.all(np.diff(one.networks["cooccurrence"].edges_E.astype(object)) > 0)


def test_masks_of_a_fingerprint_give_the_nodes_and_edges_of_every_replicate(analysed):
    report, prints = analysed
    values = {value.id: value.replicates for value in report.rungs[-1].metrics}
    network = prints[-1].networks["cooccurrence"]
    for group in range(20):
        elsewhere = np.uint32(2**20 - 1) ^ np.uint32(1 << group)
        assert np.count_nonzero(network.node_mask_n & elsewhere) == values["cooccurrence_nodes"][group]
        assert np.count_nonzero(network.edge_mask_E & elsewhere) == values["cooccurrence_edges"][group]


def test_a_fingerprint_names_the_central_concepts_in_the_order_of_the_drawing(analysed):
    report, prints = analysed
    drawn = report.drawing.concepts
    assert len({concept.strength for concept in drawn}) == len(drawn)
    assert (
        prints[-1].networks["cooccurrence"].central_C[:7].tolist()
        == word_keys(concept.label for concept in drawn).tolist()
    )


def test_a_large_network_keeps_the_edges_of_smallest_hash(corpus, analysed, monkeypatch):
    monkeypatch.setattr("services.analyzer.fingerprint.EDGE_LIMIT", 50)
    cut, full = (prints[-1].networks["cooccurrence"] for prints in (analyze(corpus)[1], analysed[1]))
    assert cut.edges_E.tolist() == full.edges_E[:50].tolist()
    assert cut.edges_to == full.edges_E[49]
    assert cut.edge_mask_E.tolist() == full.edge_mask_E[:50].tolist()
    assert full.edges_to == np.uint64(2**64 - 1)


def test_a_pair_has_one_key_whichever_way_it_is_named():
    first, second = word_keys(["cat", "dog"])[:1], word_keys(["cat", "dog"])[1:]
    assert pair_keys(first, second) == pair_keys(second, first)
    assert pair_keys(first, second) != pair_keys(first, first)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x00" * 64])
def test_bytes_that_are_no_fingerprint_are_refused(content):
    with pytest.raises(CorruptArtifact):
        from_bytes(content)
