"""Measures of trees against NetworkX, the statistics module and all pairs by brute force."""

import itertools
import math
import statistics
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import Undefined
from services.analyzer.analysis import analyze, value_of
from services.analyzer.catalogue import METRICS
from services.analyzer.measured import MeasuredRung
from services.analyzer.metrics.trees import Kernel, Moments, dependency_depth_variance, syntactic_diversity
from services.analyzer.parsing.parsed import PARSED, PARTS_OF_SPEECH, Need
from services.analyzer.rungs import ladder
from services.analyzer.tools import Tools
from services.analyzer.trees import LONGEST_SENTENCE, Trees, steps_to_root

from .corpora import corpora, document, prose, rung_of, sample_of
from .parses import FakeParser, Token, graph_of, parsed_of, random_tree, sentences, sentences_of

BY_ID = {metric.id: metric for metric in METRICS}
EVERYTHING = 10**9
"""More words than any document has."""


def depth_of(sentence):
    graph = graph_of(sentence)
    roots = [place for place, token in enumerate(sentence) if token.head == place]
    return max(max(nx.single_source_shortest_path_length(graph, root).values()) for root in roots)


def distances_of(sentence, used=EVERYTHING):
    words = [place for place, token in enumerate(sentence) if token.part != "PUNCT"]
    return [
        abs(words.index(place) - words.index(sentence[place].head))
        for place in words
        if sentence[place].head != place and sentence[place].head in words and sentence[place].word < used
    ]


def features_of(sentence):
    hashes = nx.weisfeiler_lehman_subgraph_hashes(
        graph_of(sentence), node_attr="part", iterations=2, include_initial_labels=True
    )
    return Counter((turn, label) for labels in hashes.values() for turn, label in enumerate(labels))


def kernel(one, other):
    dot = sum(one[label] * other[label] for label in one)
    return dot / math.sqrt(sum(n * n for n in one.values()) * sum(n * n for n in other.values()))


def diversity_of(found):
    features = [features_of(sentence) for sentence in found]
    return 1 - statistics.fmean(kernel(*pair) for pair in itertools.combinations(features, 2))


def expected_of(found, used=None):
    """All measures of sentences, and the words used of the document of each, by definition; None where undefined."""
    pairs = list(zip(found, used or [EVERYTHING] * len(found), strict=True))
    depths = [depth_of(sentence) for sentence in found]
    distances = [distance for pair in pairs for distance in distances_of(*pair)]
    return {
        "dependency_depth": statistics.fmean(depths) if depths else None,
        "dependency_depth_variance": statistics.variance(depths) if len(depths) > 1 else None,
        "dependency_distance": statistics.fmean(distances) if distances else None,
        "dependency_distance_variance": statistics.variance(distances) if len(distances) > 1 else None,
        "syntactic_diversity": diversity_of(found) if len(found) > 1 else None,
    }


@given(st.integers(1, LONGEST_SENTENCE), st.randoms(use_true_random=False))
def test_steps_to_the_root_are_those_of_networkx(size, rng):
    sentence = [Token("cat", "NOUN", head) for head in random_tree(size, rng)]
    found = steps_to_root(np.array([token.head for token in sentence], dtype=np.int32))
    graph = graph_of(sentence)
    roots = [place for place, token in enumerate(sentence) if token.head == place]
    paths = nx.multi_source_dijkstra_path_length(graph, roots)
    assert found.tolist() == [paths[place] for place in range(size)]


@settings(max_examples=40)
@given(corpora(most=60))
def test_every_replicate_is_what_the_definition_says_of_its_sentences(documents):
    cuts = ladder(sample_of(documents))
    trees = Trees(FakeParser().parse(cuts[-1], PARSED)) if cuts else None
    for cut in cuts:
        groups = cut.groups_N[np.unique(cut.documents_N, return_index=True)[1]].tolist()
        # The parser saw the texts up to where the largest rung ends; this rung has the sentences that begin in it.
        used_there = dict(zip(cuts[-1].places_D.tolist(), cuts[-1].used_D.tolist(), strict=True))
        of_group = [[] for _ in range(cut.groups)]
        for text, used, place, group in zip(cut.texts, cut.used_D.tolist(), cut.places_D.tolist(), groups, strict=True):
            begun = [s for s in sentences_of(text, used_there[place]) if s[0].word < used]
            of_group[group] += [(sentence, used) for sentence in begun]
        rung = MeasuredRung(cut, trees)
        for group in (0, 7) if cut.groups > 1 else (None,):
            left = [pair for g, pairs in enumerate(of_group) if g != group for pair in pairs]
            for id, expected in expected_of([s for s, _ in left], [used for _, used in left]).items():
                assert_value(BY_ID[id], list(BY_ID[id].take(rung))[group or 0], expected)


def assert_value(metric, summary, expected):
    if expected is None:
        with pytest.raises(Undefined):
            metric.sheet(summary)
    else:
        assert metric.sheet(summary) == pytest.approx(expected, abs=1e-12)


@given(sentences())
def test_measures_of_one_rung_are_those_of_the_definition(drawn):
    measured = MeasuredRung(rung_of(["a word"]), Trees(parsed_of([(0, drawn)])))
    for id, expected in expected_of(drawn).items():
        assert value_of(BY_ID[id], measured).value == (
            expected if expected is None else pytest.approx(expected, abs=1e-12)
        )


def test_a_longer_sentence_is_cut_and_heads_beyond_the_cut_are_roots():
    chain = [Token("cat", "NOUN", max(0, place - 1)) for place in range(300)]
    parts = [chain[start : start + LONGEST_SENTENCE] for start in range(0, 300, LONGEST_SENTENCE)]
    cut = Trees(parsed_of([(0, [chain])]))
    assert cut.depth_S.tolist() == [len(part) - 1 for part in parts]
    assert len(cut.distances[0]) == 300 - len(parts)


def test_equal_sentences_have_no_diversity_and_no_variance():
    sentence = [Token("the", "DET", 1), Token("cat", "NOUN", 2), Token("sleeps", "VERB", 2), Token(".", "PUNCT", 2)]
    measured = MeasuredRung(rung_of(["a word"]), Trees(parsed_of([(0, [sentence] * 9)])))
    assert value_of(BY_ID["syntactic_diversity"], measured).value == pytest.approx(0, abs=1e-15)
    assert value_of(BY_ID["dependency_depth_variance"], measured).value == 0


def test_sentences_without_a_common_part_of_speech_are_wholly_different():
    pair = [[Token("cat", "NOUN", 0)], [Token("sleep", "VERB", 0)]]
    measured = MeasuredRung(rung_of(["a word"]), Trees(parsed_of([(0, pair)])))
    assert value_of(BY_ID["syntactic_diversity"], measured).value == pytest.approx(1, abs=1e-15)


@given(sentences(), st.permutations(range(len(PARTS_OF_SPEECH))))
def test_what_parts_of_speech_are_called_changes_no_diversity(drawn, order):
    renamed = [
        [Token(t.lemma, PARTS_OF_SPEECH[order[PARTS_OF_SPEECH.index(t.part)]], t.head) for t in sentence]
        for sentence in drawn
    ]
    rung = rung_of(["a word"])
    values = [
        value_of(BY_ID["syntactic_diversity"], MeasuredRung(rung, Trees(parsed_of([(0, found)])))).value
        for found in (drawn, renamed)
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_one_sentence_or_none_has_no_diversity_and_says_why():
    for count in (0, 1):
        with pytest.raises(Undefined, match="two sentences"):
            syntactic_diversity(Kernel(count, float(count)))
    with pytest.raises(Undefined, match="two sentences"):
        dependency_depth_variance(Moments.of([3]))


def test_measures_have_intervals_and_do_not_depend_on_the_order_of_documents():
    corpus = [document(text, number) for number, text in enumerate(prose(400, 40, seed=5, vocabulary=300))]
    ids = [id for id, metric in BY_ID.items() if metric.needs and not id.startswith("syntactic_n")]
    reports = [
        analyze(documents, metrics=ids, tools=Tools(parser=FakeParser()))[0] for documents in (corpus, corpus[::-1])
    ]
    assert reports[0] == reports[1]
    values = {value.id: value for value in reports[0].metrics}
    for id in ("dependency_depth", "dependency_distance_variance", "syntactic_diversity"):
        assert values[id].lower < values[id].value < values[id].upper


def test_nothing_parsed_has_no_value_and_says_why():
    measured = MeasuredRung(rung_of(["a word"]), Trees(parsed_of([])))
    for id, metric in BY_ID.items():
        if Need.TREE in metric.needs:
            assert value_of(metric, measured).undefined_because, id
