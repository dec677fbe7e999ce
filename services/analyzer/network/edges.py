"""The edges of a semantic network as arrays, group by group: replicates are made by subtraction, never re-parsed.

Construction `cooccurrence`: nodes are lower-cased words that are no stop words and hold a letter; two different ones
are related each time they stand in one window of 5 consecutive words of a document. Stop words keep their place in
the window. Shapes: n = nodes, E = edges, P = (edge, group) pairs that occur, K = groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.rungs import RungSample

CONSTRUCTION = "cooccurrence"
WINDOW = 5
"""Consecutive words in which two concepts must stand to be related."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """An undirected weighted network without loops; edges in rising order of (source, target), source < target."""

    nodes_n: Ints
    """Word id of each node, rising."""
    source_E: Ints
    target_E: Ints
    """Positions in `nodes_n`."""
    weight_E: Ints
    """How often the two words met, in all groups."""
    pair_edge_P: Ints
    """Edge of each pair, rising."""
    pair_group_P: Ints
    pair_weight_P: Ints
    groups: int

    @cached_property
    def degree_n(self) -> Ints:
        """Return the number of edges of each node."""
        return self._at_ends(self.source_E, self.target_E, None)

    @cached_property
    def strength_n(self) -> Ints:
        """Return the weight of the edges of each node."""
        return self._at_ends(self.source_E, self.target_E, self.weight_E)

    @cached_property
    def pairs_of_E(self) -> Ints:
        """Return in how many groups each edge occurs."""
        return np.bincount(self.pair_edge_P, minlength=len(self.source_E))

    def of_one_group(self) -> npt.NDArray[np.bool_]:
        """Return which pairs are the only one of their edge: without that group the edge is gone."""
        only: npt.NDArray[np.bool_] = self.pairs_of_E[self.pair_edge_P] == 1
        return only

    def _at_ends(self, source: Ints, target: Ints, weight: Ints | None) -> Ints:
        ends = np.concatenate([source, target])
        weights = None if weight is None else np.concatenate([weight, weight])
        sums: Ints = np.bincount(ends, weights, minlength=len(self.nodes_n)).astype(np.int64)
        return sums

    def by_group(self, values_P: Ints, chosen_P: npt.NDArray[np.bool_]) -> Ints:
        """Add up a value of the chosen pairs at the two nodes of each: an array n x K."""
        edges, groups = self.pair_edge_P[chosen_P], self.pair_group_P[chosen_P]
        cells = np.concatenate([self.source_E[edges], self.target_E[edges]]) * self.groups + np.tile(groups, 2)
        weights = np.tile(values_P[chosen_P], 2)
        flat: Ints = np.bincount(cells, weights, minlength=len(self.nodes_n) * self.groups).astype(np.int64)
        return flat.reshape(len(self.nodes_n), self.groups)


def cooccurrences(rung: RungSample) -> EdgeTable:
    """Return the co-occurrence network of a rung."""
    cells = np.concatenate([_meetings(rung, distance) for distance in range(1, WINDOW)])
    found, weights = np.unique(cells, return_counts=True)
    codes, groups = np.divmod(found, rung.groups)
    begins = np.flatnonzero(np.diff(codes, prepend=-1))
    low, high = np.divmod(codes[begins], len(rung.lexicon))
    nodes, ends = np.unique(np.concatenate([low, high]), return_inverse=True)
    return EdgeTable(
        nodes_n=nodes,
        source_E=ends[: len(low)].astype(np.int64),
        target_E=ends[len(low) :].astype(np.int64),
        weight_E=np.add.reduceat(weights, begins) if len(begins) else weights,
        pair_edge_P=np.cumsum(np.diff(codes, prepend=-1) > 0) - 1,
        pair_group_P=groups,
        pair_weight_P=weights,
        groups=rung.groups,
    )


def _meetings(rung: RungSample, distance: int) -> Ints:
    """Return a cell (low word, high word, group) for each pair of concepts that stand `distance` words apart."""
    first, second = rung.words_N[:-distance].astype(np.int64), rung.words_N[distance:].astype(np.int64)
    concepts_V = rung.lexicon.concepts_V
    related = concepts_V[first] & concepts_V[second] & (first != second)
    related &= rung.documents_N[:-distance] == rung.documents_N[distance:]
    first, second = first[related], second[related]
    low, high = np.minimum(first, second), np.maximum(first, second)
    cells: Ints = (low * len(rung.lexicon) + high) * rung.groups + rung.groups_N[:-distance][related]
    return cells
