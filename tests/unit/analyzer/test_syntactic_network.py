"""The syntactic network against shortest paths of NetworkX, and on its way through a whole analysis."""

import io
import itertools
import random
import xml.etree.ElementTree as ET
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed
from ouroscope.records.documents import View
from services.analyzer.analysis import Options, analyze, measure
from services.analyzer.concepts import is_concept
from services.analyzer.export import NetworkFormat, export_network
from services.analyzer.modelled import ModelSample
from services.analyzer.network import syntactic
from services.analyzer.network.drawing import as_networkx
from services.analyzer.network.syntactic import CONTENT, meetings
from services.analyzer.parsing.parsed import PARSED, Need
from services.analyzer.parsing.parser import load_parser
from services.analyzer.rungs import ladder
from services.analyzer.sample import Accumulator
from services.analyzer.tools import Tools
from services.analyzer.trees import LONGEST_SENTENCE, RungTrees, Trees

from .corpora import SMALL, corpora, document, prose, sample_of
from .parses import FakeParser, Token, graph_of, parsed_of, sentences, sentences_of

SYNTACTIC = ("syntactic_nodes", "syntactic_edges", "syntactic_edge_weight_entropy", "syntactic_modularity")


def related(sentence, used=10**9):
    """The pairs of lemmas that meet in a sentence, by the definition."""
    close = dict(nx.all_pairs_shortest_path_length(graph_of(sentence), cutoff=3))
    nodes = [
        place
        for place, token in enumerate(sentence)
        if token.part in CONTENT and token.lemma != "--" and is_concept(token.lemma) and token.word < used
    ]
    pairs = ((a, b) for a, b in itertools.combinations(nodes, 2) if b in close[a])
    return {frozenset({sentence[a].lemma, sentence[b].lemma}) for a, b in pairs} - {
        frozenset({s.lemma}) for s in sentence
    }


def found_in(parsed):
    """The pairs of lemmas that meet, with the sentences in which they do."""
    met = meetings(parsed)
    return [
        (frozenset({parsed.lemmas[low], parsed.lemmas[high]}), int(parsed.sentence_T[later]))
        for low, high, later in zip(met.low_M, met.high_M, met.later_M, strict=True)
    ]


@given(sentences())
def test_concepts_meet_where_the_definition_says(drawn):
    expected = [(pair, number) for number, sentence in enumerate(drawn) for pair in related(sentence)]
    assert Counter(found_in(parsed_of([(0, drawn)]))) == Counter(expected)


@given(sentences(), st.integers(1, 30))
def test_how_many_tokens_are_looked_at_together_changes_nothing(drawn, chunk):
    whole = found_in(parsed_of([(0, drawn)]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syntactic, "_CHUNK", chunk)
        assert Counter(found_in(parsed_of([(0, drawn)]))) == Counter(whole)


@settings(max_examples=40)
@given(corpora())
def test_a_rung_has_the_network_of_its_words_group_by_group(documents):
    cuts = ladder(sample_of(documents))
    trees = Trees(FakeParser().parse(cuts[-1], PARSED)) if cuts else None
    for cut in cuts:
        expected: Counter[tuple[frozenset[str], int]] = Counter()
        groups = cut.groups_N[np.unique(cut.documents_N, return_index=True)[1]].tolist()
        for text, used, group in zip(cut.texts, cut.used_D.tolist(), groups, strict=True):
            for sentence in sentences_of(text, used):
                expected.update((pair, group) for pair in related(sentence, used))
        table = RungTrees(trees, cut).network
        names = table.names
        found = {
            (frozenset({names[table.source_E[edge]], names[table.target_E[edge]]}), int(group)): int(weight)
            for edge, group, weight in zip(table.pair_edge_P, table.pair_group_P, table.pair_weight_P, strict=True)
        }
        assert found == expected
        by_edge = Counter()
        for (pair, _), weight in expected.items():
            by_edge[pair] += weight
        whole = as_networkx(table)
        assert {frozenset(ends): weight for *ends, weight in whole.edges(data="weight")} == by_edge


def test_the_weight_of_a_relation_is_its_number_of_sentences():
    twice = [Token("cat", "NOUN", 1), Token("see", "VERB", 1), Token("cat", "NOUN", 1)]
    once = [Token("see", "VERB", 0), Token("cat", "NOUN", 0)]
    assert Counter(pair for pair, _ in found_in(parsed_of([(0, [twice, once])]))) == {frozenset({"cat", "see"}): 2}


@pytest.mark.parametrize("lemma", ["the", "x", "1914", "--", "\U0001f600", "a\x00b", "a\ud800", "a\x1fb", ""])
def test_a_lemma_that_is_no_concept_or_no_text_is_no_node(lemma):
    assert found_in(parsed_of([(0, [[Token("cat", "NOUN", 0), Token(lemma, "NOUN", 0)]])])) == []


@pytest.mark.parametrize("part", ["PRON", "DET", "AUX", "NUM", "X"])
def test_only_content_words_are_nodes(part):
    assert found_in(parsed_of([(0, [[Token("cat", "NOUN", 0), Token("dog", part, 0)]])])) == []


def test_two_thousand_words_that_hang_on_one_make_no_millions_of_relations():
    star = [Token(f"word{place}", "NOUN", 0) for place in range(2_000)]
    found = Trees(parsed_of([(0, [star])])).meetings
    assert len(found.low_M) == LONGEST_SENTENCE * (LONGEST_SENTENCE - 1) // 2
    assert int(found.later_M.max()) < LONGEST_SENTENCE


def test_nothing_parsed_is_an_empty_network():
    assert found_in(parsed_of([])) == []
    assert found_in(parsed_of([(0, [[Token("cat", "NOUN", 0)]])])) == []


@pytest.fixture(scope="module")
def corpus():
    return [document(text, number) for number, text in enumerate(prose(400, 40, seed=3, vocabulary=300))]


@pytest.fixture(scope="module")
def analysed(corpus):
    return analyze(corpus, metrics=SYNTACTIC, drawn_concepts=9, tools=Tools(parser=FakeParser()))


def test_order_and_shards_change_nothing(corpus, analysed):
    shuffled = random.Random(1).sample(corpus, len(corpus))
    shards = [Accumulator().fold_all(shuffled[start::3]) for start in range(3)]
    sample = shards[2].merge(shards[0]).merge(shards[1]).finalise()
    options = Options(metrics=SYNTACTIC, drawn_concepts=9)
    report, _ = measure(sample, ModelSample(), options, Tools(parser=FakeParser()))
    assert report == analysed[0]
    assert [value.id for value in report.metrics] == list(SYNTACTIC)
    assert all(value.value is not None for value in report.metrics)


def test_order_and_shards_change_nothing_with_a_real_parser():
    documents = [document(_sentences(number), number) for number in range(60)]
    tools = Tools(parser=load_parser())
    straight, shards = Accumulator(budgets=SMALL), [Accumulator(budgets=SMALL) for _ in range(3)]
    straight.fold_all(documents)
    for number, one in enumerate(reversed(documents)):
        shards[number % 3].fold(one)
    merged = shards[1].merge(shards[2]).merge(shards[0])
    reports = [measure(one.finalise(), ModelSample(), Options(), tools)[0] for one in (straight, merged)]
    assert reports[0] == reports[1]
    values = {value.id: value.value for value in reports[0].metrics}
    assert values["syntactic_nodes"] > 10


def _sentences(number):
    rng = random.Random(number)
    animals = rng.sample(["cat", "dog", "wolf", "fox", "mouse", "goose", "hen", "rat"], 2)
    town = rng.choice(["Paris", "London", "Rome", "Oslo", "Bern"])
    return f"The {rng.choice(['big', 'small', 'old'])} {animals[0]} chased a {animals[1]} near {town}. It was {number}!"


@pytest.mark.parametrize(
    ("metrics", "needs"),
    [
        (["types", "cooccurrence_nodes"], []),
        (["dependency_depth"], [{Need.TREE}]),
        (["dependency_distance"], [{Need.TREE, Need.POS}]),
        (["pos_divergence"], [{Need.POS}]),
        (["syntactic_nodes"], [{Need.LEMMA, Need.POS, Need.TREE}]),
        (["syntactic_node_overlap"], [{Need.LEMMA, Need.POS, Need.TREE}]),
        ([], [{Need.LEMMA, Need.POS, Need.TREE}]),
    ],
)
def test_only_what_is_needed_is_parsed_and_only_once(corpus, metrics, needs):
    parser = FakeParser()
    report, prints = analyze(corpus[:60], metrics=metrics, tools=Tools(parser=parser))
    assert parser.asked == needs
    assert report.parser == (parser.identity if needs else "")
    assert (prints[0].parts_of_speech_PK is not None) == (bool(needs) and Need.POS in needs[0])
    constructions = {"cooccurrence", "syntactic"} if not metrics else {id.partition("_")[0] for id in metrics}
    assert set(prints[0].networks) == constructions & {"cooccurrence", "syntactic"}


def test_without_a_parser_the_report_says_what_is_left_out_and_why(corpus):
    report, prints = analyze(corpus[:60])
    reasons = {one.id: one.reason for one in report.left_out}
    assert {"syntactic_nodes", "dependency_depth", "syntactic_diversity"} <= set(reasons)
    assert "OURO_ANALYZER_PARSER" in reasons["syntactic_nodes"]
    assert set(prints[0].networks) == {"cooccurrence"}
    assert report.part_of_speech_shares == ()


def test_with_a_parser_that_makes_no_trees_the_rest_is_measured(corpus):
    parser = FakeParser(able=frozenset({Need.POS, Need.LEMMA}))
    report, prints = analyze(corpus[:60], metrics=["syntactic_nodes", "pos_divergence"], tools=Tools(parser=parser))
    assert parser.asked == [{Need.POS}]
    assert {one.id: one.reason for one in report.left_out} == {
        "syntactic_nodes": "en_fake 1 abc makes no dependency trees",
        "pos_divergence": "needs a baseline; ask for a comparison",
    }
    assert prints[0].parts_of_speech_PK is not None


def test_shares_of_parts_of_speech_are_those_of_the_largest_rung(analysed):
    report, prints = analysed
    assert sum(share.value for share in report.part_of_speech_shares) == pytest.approx(1)
    counts = prints[-1].parts_of_speech_PK.sum(axis=1)
    assert [share.value for share in report.part_of_speech_shares] == pytest.approx(counts / counts.sum())


def test_the_drawing_is_of_the_syntactic_network_where_there_is_one(corpus, analysed):
    assert analysed[0].drawing.construction == "syntactic"
    assert len(analysed[0].drawing.concepts) == 9
    other, _ = analyze(corpus[:60], metrics=["dependency_depth"], drawn_concepts=3, tools=Tools(parser=FakeParser()))
    assert other.drawing.construction == "cooccurrence"


def test_the_syntactic_network_can_be_exported(corpus, analysed):
    def export(form, concepts=0):
        tools = Tools(parser=FakeParser())
        return export_network(corpus, View.WHOLE, form, concepts, construction="syntactic", tools=tools)

    values = {value.id: value.replicates for value in analysed[0].metrics}
    graph = nx.read_graphml(io.BytesIO(export(NetworkFormat.GRAPHML)))
    assert graph.graph["construction"] == "syntactic"
    assert graph.number_of_nodes() >= max(values["syntactic_nodes"])
    picture = ET.fromstring(export(NetworkFormat.SVG, 12))
    circles = picture.findall("{http://www.w3.org/2000/svg}circle")
    counted = picture.findtext("{http://www.w3.org/2000/svg}desc")
    assert counted.startswith(f"The 12 strongest of {graph.number_of_nodes():,} concepts and")
    strongest = sorted(graph.degree(weight="weight"), key=lambda pair: (-pair[1], pair[0]))[:12]
    assert [circle[0].text.partition(":")[0] for circle in circles] == [name for name, _ in strongest]


def test_an_export_that_cannot_be_made_says_what_to_do(corpus):
    with pytest.raises(CapabilityMissing, match="OURO_ANALYZER_PARSER"):
        export_network(corpus, View.WHOLE, NetworkFormat.GRAPHML, 0, construction="syntactic")
    with pytest.raises(InvalidRequest, match="use cooccurrence or syntactic, got 'semantic'"):
        export_network(corpus, View.WHOLE, NetworkFormat.GRAPHML, 0, construction="semantic")
    with pytest.raises(InvalidRequest, match="at most 100"):
        export_network(corpus, View.WHOLE, NetworkFormat.SVG, 101)
    with pytest.raises(PreconditionFailed, match="no word"):
        export_network([document("!")], View.WHOLE, NetworkFormat.SVG, 0)
