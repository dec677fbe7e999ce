"""The semantic network against NetworkX, and its drawing and export against themselves."""

import itertools
import json
import math
import xml.etree.ElementTree as ET

import networkx as nx
import numpy as np
import pytest
from scipy import stats

from ouroscope.records.analysis import Concept, NetworkDrawing, Relation
from services.analyzer.analysis import value_of
from services.analyzer.catalogue import METRICS
from services.analyzer.concepts import is_concept
from services.analyzer.measured import MeasuredRung
from services.analyzer.network import graph as graph_module
from services.analyzer.network.drawing import (
    as_networkx,
    drawing,
    graphml,
    most_central,
    node_link_json,
    relations_among,
)
from services.analyzer.network.edges import cooccurrences
from services.analyzer.network.graph import Graph, graph_of
from services.analyzer.network.structure import assortativity
from services.analyzer.network.svg import HEIGHT, WIDTH, Drawn, svg

from .corpora import prose, rung_of

BY_ID = {metric.id.removeprefix("cooccurrence_"): metric for metric in METRICS}


@pytest.fixture(scope="module")
def measured():
    # 15 documents: one group, so that values are those of the whole network.
    return MeasuredRung(rung_of(prose(15, 40, seed=8, vocabulary=150)))


@pytest.fixture(scope="module")
def network(measured):
    return measured.network("cooccurrence")


@pytest.fixture(scope="module")
def oracle(measured):
    """The same network, built by the definition with NetworkX."""
    graph = nx.Graph()
    for text in measured.rung.texts:
        for (i, first), (j, second) in itertools.combinations(enumerate(text.split()), 2):
            if j - i < 5 and first != second:
                weight = graph.get_edge_data(first, second, {"weight": 0})["weight"]
                graph.add_edge(first, second, weight=weight + 1)
    return graph


def test_the_network_is_that_of_the_definition(network, oracle):
    built = as_networkx(network.table)
    assert nx.utils.graphs_equal(nx.Graph(built.edges(data=True)), nx.Graph(oracle.edges(data=True)))


ORACLES = {
    "nodes": lambda g: g.number_of_nodes(),
    "edges": lambda g: g.number_of_edges(),
    "edge_weight_entropy": lambda g: stats.entropy([w for _, _, w in g.edges(data="weight")]),
    "degree_entropy": lambda g: stats.entropy([k for _, k in g.degree]),
    "hub_share": lambda g: strongest(g) / (2 * g.size("weight")),
    "density": nx.density,
    "mean_degree": lambda g: np.mean([k for _, k in g.degree]),
    "degree_gini": lambda g: gini([k for _, k in g.degree]),
    "clustering": nx.average_clustering,
    "transitivity": nx.transitivity,
    "components": nx.number_connected_components,
    "giant_share": lambda g: len(max(nx.connected_components(g), key=len)) / len(g),
    "path_length": lambda g: nx.average_shortest_path_length(g.subgraph(max(nx.connected_components(g), key=len))),
    "assortativity": nx.degree_assortativity_coefficient,
    "core_depth": lambda g: max(nx.core_number(g).values()),
}


def strongest(graph):
    return sum(sorted((s for _, s in graph.degree(weight="weight")), reverse=True)[: math.ceil(len(graph) / 100)])


def gini(values):
    return sum(abs(a - b) for a, b in itertools.product(values, repeat=2)) / (2 * len(values) * sum(values))


@pytest.mark.parametrize("name", ORACLES)
def test_measures_are_those_of_networkx(name, measured, oracle):
    assert value_of(BY_ID[name], measured).value == pytest.approx(ORACLES[name](oracle), abs=1e-9)


def test_modularity_is_that_of_its_partition_and_no_worse_than_that_of_networkx(measured, network, oracle):
    names = network.table.names
    parts: dict[int, set[str]] = {}
    for name, part in zip(names, network.graph.partition_n.tolist(), strict=True):
        parts.setdefault(part, set()).add(name)
    found = value_of(BY_ID["modularity"], measured).value
    assert found == pytest.approx(nx.community.modularity(oracle, parts.values()), abs=1e-9)
    assert found > nx.community.modularity(oracle, nx.community.louvain_communities(oracle, seed=1)) - 0.05
    assert value_of(BY_ID["communities"], measured).value == len(parts)


def test_communities_are_the_same_every_time(network):
    again = Graph.of(network.table)
    assert np.array_equal(again.partition_n, network.graph.partition_n)


def test_structure_of_a_network_in_pieces_is_that_of_networkx():
    edges = [(0, 1, 1), (1, 2, 1), (2, 0, 3), (2, 3, 1), (4, 5, 2), (6, 7, 1), (7, 8, 1)]
    graph, oracle = graph_of(edges), nx.Graph((a, b) for a, b, _ in edges)
    assert graph.giant.tolist() == [0, 1, 2, 3]
    assert graph.mean_path == nx.average_shortest_path_length(oracle.subgraph([0, 1, 2, 3]))
    assert assortativity(graph) == pytest.approx(nx.degree_assortativity_coefficient(oracle), abs=1e-12)


def test_paths_from_sampled_sources_come_close_to_all_paths(network, monkeypatch):
    exact = Graph.of(network.table).mean_path
    monkeypatch.setattr(graph_module, "EXACT_PATHS", 50)
    monkeypatch.setattr(graph_module, "SAMPLED_SOURCES", 60)
    sampled = Graph.of(network.table).mean_path
    assert sampled == pytest.approx(exact, rel=0.02)
    assert sampled == Graph.of(network.table).mean_path


def test_paths_are_right_with_more_sources_than_bits_in_a_word():
    ring = [(node, (node + 1) % 600, 1) for node in range(599)] + [(0, 599, 1)]
    assert graph_of(ring).mean_path == pytest.approx(nx.average_shortest_path_length(nx.cycle_graph(600)))


def test_stop_words_are_no_concepts_but_keep_their_place():
    near = cooccurrences(rung_of(["cat and the of dog"]))
    far = cooccurrences(rung_of(["cat and the of a dog"]))
    assert len(near.nodes_n) == 2
    assert len(far.nodes_n) == 0


def test_relations_do_not_cross_documents():
    assert len(cooccurrences(rung_of(["cat", "dog"])).nodes_n) == 0


def test_a_concept_is_not_related_to_itself():
    assert len(cooccurrences(rung_of(["cat cat cat"])).source_E) == 0


def test_numbers_and_single_letters_are_no_concepts():
    assert [is_concept(word) for word in ("x", "1914", "b2", "don't", "\u00e9t\u00e9")] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_a_drawing_shows_the_strongest_concepts_and_relations_among_them(network, oracle):
    drawn = drawing(network.table, 12)
    strengths = sorted(((-s, name) for name, s in oracle.degree(weight="weight")))[:12]
    assert [(concept.label, concept.strength) for concept in drawn.concepts] == [(name, -s) for s, name in strengths]
    assert drawn.construction == "cooccurrence"
    for relation in drawn.relations:
        first, second = (drawn.concepts[end].label for end in (relation.source, relation.target))
        assert oracle[first][second]["weight"] == relation.weight
    assert [r.weight for r in drawn.relations] == sorted((r.weight for r in drawn.relations), reverse=True)
    assert 0 < len(drawn.relations) <= 60


def test_a_drawing_does_not_depend_on_the_order_of_words(measured, network):
    rung = rung_of(list(reversed(measured.rung.texts)))
    again = cooccurrences(rung)
    assert drawing(again, 12) == drawing(network.table, 12)


def test_a_drawing_of_nothing_is_empty():
    rung = rung_of(["the of"])
    assert drawing(cooccurrences(rung), 5).concepts == ()


def test_exports_are_read_back_by_networkx(network, oracle, tmp_path):
    graph = as_networkx(network.table)
    path = tmp_path / "network.graphml"
    path.write_bytes(graphml(graph))
    link = nx.node_link_graph(json.loads(node_link_json(graph)), edges="edges")
    for read in (nx.read_graphml(path), link):
        assert {frozenset(edge[:2]): edge[2] for edge in read.edges(data="weight")} == {
            frozenset(edge[:2]): edge[2] for edge in oracle.edges(data="weight")
        }


def test_an_export_can_be_cut_to_the_strongest_concepts(network):
    few = as_networkx(network.table, 10)
    assert sorted(few) == sorted(c.label for c in drawing(network.table, 10).concepts)


SVG = "{http://www.w3.org/2000/svg}"


def names_in(root: ET.Element) -> list[str]:
    return [text.text for text in root.findall(f"{SVG}text[@class='name']")]


def test_a_picture_shows_every_concept_and_relation_inside_its_frame(network):
    drawn = drawing(network.table, 30)
    root = ET.fromstring(svg(drawn))
    circles, lines = root.findall(f"{SVG}circle"), root.findall(f"{SVG}line")
    assert len(circles) == 30
    assert len(lines) == len(drawn.relations)
    assert all(0 <= float(circle.get("cx")) <= WIDTH and 0 <= float(circle.get("cy")) <= HEIGHT for circle in circles)
    assert sorted(names_in(root)) == sorted(concept.label for concept in drawn.concepts)


def test_a_picture_speaks_to_a_screen_reader(network):
    drawn = drawing(network.table, 30)
    root = ET.fromstring(svg(drawn))
    spoken = [root.find(f"*[@id='{id}']").text for id in root.get("aria-labelledby").split()]
    assert root.get("role") == "img"
    assert spoken[0] == "Semantic network (cooccurrence)"
    assert all(concept.label in spoken[1] for concept in drawn.concepts[:8])


def test_every_concept_tells_its_figures_where_the_mouse_rests_on_it_or_its_name(network):
    drawn = drawing(network.table, 100)
    root = ET.fromstring(svg(drawn))
    told = [f"{one.label}: strength {one.strength:g}, degree {one.degree}" for one in drawn.concepts]
    assert [circle.findtext(f"{SVG}title") for circle in root.findall(f"{SVG}circle")] == told
    for name in root.findall(f"{SVG}text[@class='name']"):
        assert name.findtext(f"{SVG}title") in told
        assert name.findtext(f"{SVG}title").startswith(name.text)
    names = [concept.label for concept in drawn.concepts]
    assert [line.findtext(f"{SVG}title") for line in reversed(root.findall(f"{SVG}line"))] == [
        f"{names[one.source]} and {names[one.target]}: weight {one.weight:g}" for one in drawn.relations
    ]


def test_no_name_lies_on_another(network):
    root = ET.fromstring(svg(drawing(network.table, 100)))
    boxes = []
    for name in root.findall(f"{SVG}text[@class='name']"):
        size, x, y = (float(name.get(key)) for key in ("font-size", "x", "y"))
        half = 0.29 * size * len(name.text)
        boxes.append((x - half, y - 0.9 * size, x + half, y + 0.2 * size))
    for one, other in itertools.combinations(boxes, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert len(boxes) >= 95


def test_a_picture_says_how_much_of_the_network_it_shows(network):
    drawn = drawing(network.table, 30)
    among = len(relations_among(network.table, most_central(network.table, 30)))
    assert len(drawn.relations) == 150 < among
    root = ET.fromstring(svg(drawn, Drawn(len(network.table), among)))
    caption = [text.text for text in root.findall(f"{SVG}text[@class='caption']")]
    part = f"the 30 strongest of {len(network.table)} concepts and the 150 strongest of {among} relations among them"
    assert caption == [
        f"Semantic network (cooccurrence): {part}",
        "Size of a circle: strength of the concept. Width of a line: weight of the relation.",
    ]
    assert root.findtext(f"{SVG}desc").startswith(part.capitalize())
    whole = ET.fromstring(svg(drawn)).findtext(f"{SVG}desc")
    assert whole.startswith("30 concepts and 150 relations among them; the strongest concepts:")


def test_relations_among_concepts_are_those_of_networkx(network, oracle):
    strongest = most_central(network.table, 30)
    names = [network.table.names[node] for node in strongest]
    assert len(relations_among(network.table, strongest)) == oracle.subgraph(names).number_of_edges()


def test_a_picture_is_the_same_every_time(network):
    assert svg(drawing(network.table, 30)) == svg(drawing(network.table, 30))


HOSTILE = (
    "</text><script>alert(1)</script>",
    "a&b\"'",
    "]]>",
    "nul\x00\x08",
    "\ud800half",
    "\u202eright",
    "x" * 500,
    "\uffff",
)


def test_a_picture_of_hostile_labels_is_plain_xml_without_scripts():
    concepts = tuple(Concept(label=label, strength=2.0, degree=1) for label in HOSTILE)
    relations = tuple(Relation(source=place, target=place + 1, weight=1.0) for place in range(len(HOSTILE) - 1))
    content = svg(NetworkDrawing(construction="syntactic", concepts=concepts, relations=relations))
    root = ET.fromstring(content)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "desc", "style"),
        *("line", "circle", "text"),
    }
    assert len(root.findall(f"{SVG}circle")) == len(HOSTILE)
    assert b"<script" not in content
    assert all(len(name) <= 24 for name in names_in(root))


@pytest.mark.parametrize("concepts", [(), (Concept(label="alone", strength=0.0, degree=0),)])
def test_a_picture_of_nearly_nothing_can_be_drawn(concepts):
    root = ET.fromstring(svg(NetworkDrawing(construction="cooccurrence", concepts=concepts, relations=())))
    assert len(root.findall(f"{SVG}circle")) == len(concepts)
