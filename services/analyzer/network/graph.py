"""One whole network, with what its heavy measures share. The only file that knows NetworKit.

Shapes: n = nodes, E = edges, S = sources of a search, W = 64-bit words of a bit set over sources.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ouroscope.memory import importing, kept_out
from services.analyzer.cells import Ints
from services.analyzer.jackknife import t_quantile
from services.analyzer.network.edges import EdgeTable
from services.analyzer.sample import Words

EXACT_PATHS = 2_000
"""Nodes of the giant component up to which every pair of nodes counts for the path length."""
SAMPLED_SOURCES = 256
"""Above that, nodes from which paths are measured."""
_AT_ONCE = 64
# Sources of one search: more would be faster by a little and take memory for each of all edges.
_SEED = 20_241

_networkit_settings = threading.Lock()
# NetworKit's seed and number of threads are global: one measure at a time.


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected weighted network; edges have source != target and occur once."""

    count: int
    """n."""
    source_E: Words
    target_E: Words
    weight_E: Ints

    @classmethod
    def of(cls, table: EdgeTable) -> Graph:
        """Return the network of all groups together."""
        return cls(len(table.nodes_n), table.source_E, table.target_E, table.weight_E)

    @cached_property
    def degree_n(self) -> Ints:
        """Return the number of edges of each node."""
        return np.bincount(np.concatenate([self.source_E, self.target_E]), minlength=self.count)

    @cached_property
    def component_n(self) -> npt.NDArray[np.int32]:
        """Return the number of the component that each node belongs to."""
        labels: npt.NDArray[np.int32] = connected_components(self._neighbours, directed=False)[1]
        return labels

    @cached_property
    def giant(self) -> Ints:
        """Return the nodes of the largest component, rising; the one with the first node among equals."""
        return np.flatnonzero(self.component_n == np.argmax(np.bincount(self.component_n)))

    @cached_property
    def local_clustering_n(self) -> npt.NDArray[np.float64]:
        """Return the share of each node's pairs of neighbours that are related; 0 below two neighbours."""
        # Turbo: three times as fast for a little memory.
        found = _run(lambda nk: nk.centrality.LocalClusteringCoefficient(self._networkit, True))
        return np.array(found.scores(), dtype=np.float64)

    @cached_property
    def partition_n(self) -> Ints:
        """Return the community of each node, by the Louvain method with refinement and a fixed seed."""
        found = _run(lambda nk: nk.community.PLM(self._networkit, refine=True)).getPartition()
        return np.unique(np.array(found.getVector(), dtype=np.int64), return_inverse=True)[1].astype(np.int64)

    @cached_property
    def max_core(self) -> int:
        """Return the largest k such that some part of the network has only nodes with k neighbours inside it."""
        return int(_run(lambda nk: nk.centrality.CoreDecomposition(self._networkit)).maxCoreNumber())

    @property
    def mean_path(self) -> float:
        """Return the mean number of steps between two nodes of the giant component, which has at least two."""
        return int(self._steps_S.sum()) / (len(self._steps_S) * (len(self.giant) - 1))

    @property
    def mean_path_interval(self) -> tuple[float, float] | None:
        """Return the 95 % interval of `mean_path` for the choice of sources; None where every node was one."""
        sources, nodes = len(self._steps_S), len(self.giant)
        if sources == nodes:
            return None
        means = self._steps_S / (nodes - 1)
        error = math.sqrt(float(means.var(ddof=1)) / sources * (1 - sources / nodes))
        half = t_quantile(sources - 1, 0.95) * error
        return self.mean_path - half, self.mean_path + half

    @cached_property
    def _steps_S(self) -> Ints:
        """Return the distances from each source to all nodes of the giant component, added up."""
        sources = self.giant
        if len(sources) > EXACT_PATHS:
            sources = np.sort(np.random.default_rng(_SEED).choice(sources, SAMPLED_SOURCES, replace=False))
        parts = [self._steps_from(sources[start : start + _AT_ONCE]) for start in range(0, len(sources), _AT_ONCE)]
        return np.concatenate(parts)

    def _steps_from(self, sources: Ints) -> Ints:
        """Add up the distances from each source to all it reaches: one breadth-first search for all, a bit for each."""
        reached_nW = np.zeros((self.count, -(-len(sources) // 64)), dtype=np.uint64)
        here = np.arange(len(sources))
        reached_nW[sources, here // 64] |= np.uint64(1) << (here % 64).astype(np.uint64)
        front_nW, distance, steps = reached_nW.copy(), 0, np.zeros(len(sources), dtype=np.int64)
        while front_nW.any():
            distance += 1
            front_nW = self._spread(front_nW) & ~reached_nW
            reached_nW |= front_nW
            steps += distance * _nodes_of_bits(front_nW)[: len(sources)]
        return steps

    def _spread(self, front_nW: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        spread_nW = np.zeros_like(front_nW)
        joined = self.degree_n > 0
        # reduceat has no empty segments, so nodes without edges are left out.
        starts = self._neighbours.indptr[:-1][joined]
        spread_nW[joined] = np.bitwise_or.reduceat(front_nW[self._neighbours.indices], starts, axis=0)
        return spread_nW

    @cached_property
    def _neighbours(self) -> csr_array:
        rows = np.concatenate([self.source_E, self.target_E])
        columns = np.concatenate([self.target_E, self.source_E])
        return csr_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(self.count, self.count))

    @cached_property
    def _networkit(self) -> Any:
        # NetworKit reads the memory as it is: other widths than these would crash the process.
        ends = (self.source_E.astype(np.uint64), self.target_E.astype(np.uint64))
        data = (self.weight_E.astype(np.float64), ends)
        return _library().GraphFromCoo(data, n=self.count, weighted=True, directed=False)


def _nodes_of_bits(front_nW: npt.NDArray[np.uint64]) -> Ints:
    """Return in how many rows each bit is set, bit 0 of the first word first."""
    # "<u8" makes the order of the bytes the same on every machine.
    little = front_nW[front_nW.any(axis=1)].astype("<u8").view(np.uint8)
    nodes: Ints = np.unpackbits(little, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
    return nodes


@cache
def _library() -> Any:
    """Import NetworKit, once a network is measured, without what it learns and draws with.

    Where those are installed they are six sevenths of its time to start (2.6 seconds of a processor, 0.4 without) and
    150 MB.
    """
    with importing(), kept_out("sklearn", "matplotlib", "pandas"):
        return import_module("networkit")


def _run(make: Any) -> Any:
    """Run a NetworKit algorithm on one thread with the fixed seed, so that it gives the same answer every time."""
    library = _library()
    with _networkit_settings:
        library.setNumberOfThreads(1)
        library.setSeed(_SEED, False)
        algorithm = make(library)
        algorithm.run()
    return algorithm


def graph_of(edges: list[tuple[int, int, int]]) -> Graph:
    """Return a network given as (node, node, weight) with nodes 0..n-1, for examples and tests."""
    source, target, weight = np.array(edges, dtype=np.int64).reshape(-1, 3).T
    ends = source.astype(np.int32), target.astype(np.int32)
    return Graph(int(max(source.max(), target.max())) + 1, *ends, weight)
