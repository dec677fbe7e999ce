"""Mean path length of networks too large for all pairs: the interval of the sampled sources holds the exact value."""

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest

from services.analyzer.analysis import value_of
from services.analyzer.catalogue import METRICS
from services.analyzer.network import graph as graph_module
from services.analyzer.network.graph import Graph

NODES = 800


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    monkeypatch.setattr(graph_module, "EXACT_PATHS", 300)
    monkeypatch.setattr(graph_module, "SAMPLED_SOURCES", 100)


def network(seed, nodes=NODES):
    """A network with hubs, as those of words have."""
    made = nx.barabasi_albert_graph(nodes, 3, seed=seed)
    ends = np.array(sorted(map(sorted, made.edges)), dtype=np.int32)
    return made, Graph(nodes, ends[:, 0], ends[:, 1], np.ones(len(ends), dtype=np.int64))


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_holds_the_exact_value(seed):
    made, graph = network(seed)
    lower, upper = graph.mean_path_interval
    exact = nx.average_shortest_path_length(made)
    assert lower <= exact <= upper
    assert upper - lower < 0.1 * exact


def test_the_exact_value_has_no_interval(monkeypatch):
    monkeypatch.setattr(graph_module, "EXACT_PATHS", NODES)
    made, exact = network(1)
    assert exact.mean_path_interval is None
    assert exact.mean_path == pytest.approx(nx.average_shortest_path_length(made), abs=1e-9)


def test_the_report_tells_the_interval():
    metric = next(metric for metric in METRICS if metric.id == "cooccurrence_path_length")

    sampled = SimpleNamespace(graph=network(2)[1])
    value = value_of(metric, SimpleNamespace(network=lambda construction: sampled))
    assert value.lower < value.value < value.upper
    assert not value.replicates
