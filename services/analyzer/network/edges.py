"""The edges of a semantic network as arrays, group by group: replicates are made by subtraction, never re-parsed.

The co-occurrence network is here; the syntactic one has a file of its own. Shapes: n = nodes, E = edges, P = (edge,
group) pairs that occur, K = groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.cells import Ints, count_cells
from services.analyzer.lexicon import Lexicon
from services.analyzer.rungs import RungSample
from services.analyzer.sample import Words

COOCCURRENCE = "cooccurrence"
SYNTACTIC = "syntactic"
CONSTRUCTIONS = (COOCCURRENCE, SYNTACTIC)
"""How networks are built; their names begin the ids of the metrics."""
WINDOW = 5
"""Consecutive words in which two concepts must stand to be related."""


@dataclass(frozen=True, eq=False)
class EdgeTable:
    """An undirected weighted network without loops; edges in rising order of (source, target), source < target."""

    construction: str
    lexicon: Lexicon
    """What the nodes are called: words, or lemmas."""
    nodes_n: Ints
    """Id in the lexicon of each node, rising."""
    source_E: Words
    target_E: Words
    """Positions in `nodes_n`."""
    weight_E: Ints
    """How often the two words met, in all groups."""
    pair_edge_P: Words
    """Edge of each pair, rising."""
    pair_group_P: Words
    pair_weight_P: Words
    groups: int

    def __len__(self) -> int:
        return len(self.nodes_n)

    @property
    def names(self) -> list[str]:
        """Return what each node is called."""
        return [self.lexicon.words[node] for node in self.nodes_n.tolist()]

    @cached_property
    def degree_n(self) -> Ints:
        """Return the number of edges of each node."""
        return self._at_ends(None)

    @cached_property
    def strength_n(self) -> Ints:
        """Return the weight of the edges of each node."""
        return self._at_ends(self.weight_E)

    @cached_property
    def pairs_of_E(self) -> Ints:
        """Return in how many groups each edge occurs."""
        return np.bincount(self.pair_edge_P, minlength=len(self.source_E))

    def of_one_group(self) -> npt.NDArray[np.bool_]:
        """Return which pairs are the only one of their edge: without that group the edge is gone."""
        only: npt.NDArray[np.bool_] = self.pairs_of_E[self.pair_edge_P] == 1
        return only

    def _at_ends(self, weight: Ints | None) -> Ints:
        ends = np.concatenate([self.source_E, self.target_E])
        weights = None if weight is None else np.concatenate([weight, weight])
        sums: Ints = np.bincount(ends, weights, minlength=len(self.nodes_n)).astype(np.int64)
        return sums

    def by_group(self, values_P: Words, chosen_P: npt.NDArray[np.bool_]) -> Ints:
        """Add up a value of the chosen pairs at the two nodes of each: an array n x K."""
        edges, groups, values = self.pair_edge_P[chosen_P], self.pair_group_P[chosen_P], values_P[chosen_P]
        sums = np.zeros(len(self.nodes_n) * self.groups, dtype=np.int64)
        for ends_E in (self.source_E, self.target_E):
            cells = ends_E[edges] * np.int32(self.groups) + groups
            sums += np.bincount(cells, values, minlength=len(sums)).astype(np.int64)
        return sums.reshape(len(self.nodes_n), self.groups)


def edge_table(construction: str, lexicon: Lexicon, groups: int, meetings: Iterable[Ints]) -> EdgeTable:
    """Return the network in which two words of `lexicon` are related as often as they meet.

    Args:
        construction: what a meeting is.
        lexicon: the words.
        groups: K.
        meetings: parts of a list of cells (low * V + high) * K + group, one for each meeting; low < high are the ids of
            the two words.
    """
    cells, weights = count_cells(meetings)
    group_P = (cells % groups).astype(np.int32)
    cells //= groups
    first = np.diff(cells, prepend=-1) > 0
    begins = np.flatnonzero(first)
    low, high = np.divmod(cells[first], len(lexicon))
    related = np.zeros(len(lexicon), dtype=np.bool_)
    related[low] = related[high] = True
    place = np.cumsum(related, dtype=np.int32) - 1
    return EdgeTable(
        construction=construction,
        lexicon=lexicon,
        nodes_n=np.flatnonzero(related),
        source_E=place[low],
        target_E=place[high],
        weight_E=np.add.reduceat(weights, begins) if len(begins) else weights,
        pair_edge_P=np.cumsum(first, dtype=np.int32) - 1,
        pair_group_P=group_P,
        pair_weight_P=weights.astype(np.int32),
        groups=groups,
    )


def cooccurrences(rung: RungSample) -> EdgeTable:
    """Return the co-occurrence network of a rung.

    Nodes are lower-cased words that are no stop words and hold a letter; two different ones are related each time they
    stand in one window of 5 consecutive words of a document, and the weight of a relation is how often they do. Stop
    words keep their place in the window.
    """
    meetings = (_meetings(rung, distance) for distance in range(1, WINDOW))
    return edge_table(COOCCURRENCE, rung.lexicon, rung.groups, meetings)


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
