"""Measures of one semantic network: ours beside NetworkX, on real text.

`python -m benchmarks.graphs FILE [--words 70000]` prints one table. FILE is JSON lines with `id` and `text`; the
network is that of co-occurrence at about so many words. NetworkX measures all pairs of nodes, as ours is told to do
here; in use, networks above 2,000 nodes are sampled, which has its own row. Values must agree to 1e-9. Targets:
clustering and path length at least 50 times NetworkX, everything together under 5 s.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import networkx as nx

from ouroscope.corpora.readers import read_documents
from services.analyzer.network import graph as graphs
from services.analyzer.network import structure
from services.analyzer.network.edges import EdgeTable, cooccurrences
from services.analyzer.network.graph import Graph
from services.analyzer.network.shape import shapes
from services.analyzer.rungs import ladder
from services.analyzer.sample import Accumulator

ROUNDS = 3
MEASURES = (
    structure.clustering,
    structure.transitivity,
    structure.components,
    structure.giant_share,
    structure.path_length,
    structure.assortativity,
    structure.modularity,
    structure.communities,
    structure.core_depth,
    structure.small_world,
)


def main() -> None:
    """Measure and print."""
    options = _arguments()
    table = _network(options.file, options.words)
    peer = nx.Graph(list(zip(table.source_E.tolist(), table.target_E.tolist(), strict=True)))
    Graph.of(table).local_clustering_n  # noqa: B018  # loads NetworKit
    print(f"{len(table.nodes_n):,} nodes, {len(table.source_E):,} edges; medians of {ROUNDS}, CPU seconds\n")
    print("| measure | ours | NetworkX | times |\n|---|---:|---:|---:|")
    _compare("clustering", table, structure.clustering, lambda: nx.average_clustering(peer))
    giant = peer.subgraph(max(nx.connected_components(peer), key=len))
    if options.rounds:
        _compare("mean path, all pairs", table, _exact_path, lambda: _their_path(giant), rounds=options.rounds)
    _alone("mean path, 256 sources", table, structure.path_length)
    for measure in MEASURES:
        _alone(measure.__name__, table, measure)
    _alone("shape with 20 replicates", table, lambda _: float(len(shapes(table))))
    _alone("all of the above but all pairs", table, lambda graph: sum(measure(graph) for measure in MEASURES))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--words", type=int, default=70_000)
    parser.add_argument("--rounds", type=int, default=1, help="of NetworkX's all pairs, minutes each; 0 for none")
    return parser.parse_args()


def _network(file: str, words: int) -> EdgeTable:
    sample = Accumulator(budgets=(words,)).fold_all(read_documents(file)).finalise()
    return cooccurrences(ladder(sample)[-1])


def _their_path(giant: nx.Graph) -> float:
    return float(nx.average_shortest_path_length(giant))


def _exact_path(graph: Graph) -> float:
    limit, graphs.EXACT_PATHS = graphs.EXACT_PATHS, graph.count
    try:
        return structure.path_length(graph)
    finally:
        graphs.EXACT_PATHS = limit


def _compare(
    name: str, table: EdgeTable, ours: Callable[[Graph], float], theirs: Callable[[], float], rounds: int = ROUNDS
) -> None:
    # A new graph each time: it keeps what it has worked out.
    our_seconds, our_value = _timed([lambda: ours(Graph.of(table))] * ROUNDS)
    their_seconds, their_value = _timed([theirs] * rounds)
    assert abs(our_value - their_value) < 1e-9, (name, our_value, their_value)
    print(f"| {name} | {our_seconds:.3f} | {their_seconds:.2f} | {their_seconds / our_seconds:.0f} |")


def _alone(name: str, table: EdgeTable, ours: Callable[[Graph], float]) -> None:
    seconds, _ = _timed([lambda: ours(Graph.of(table))] * ROUNDS)
    print(f"| {name} | {seconds:.3f} | | |")


def _timed(runs: Sequence[Callable[[], Any]]) -> tuple[float, Any]:
    seconds, value = [], None
    for run in runs:
        begin = time.process_time()
        value = run()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds), value


if __name__ == "__main__":
    main()
