"""Measures of a semantic network that need only its spectra of weights, degrees and strengths; each is a data sheet.

Cheap enough for every replicate. Symbols: n = nodes (concepts with at least one relation), E = edges (relations), w =
weight of an edge (how often its two concepts met), k = degree of a node, s = strength of a node (weight of its
edges).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ouroscope.errors import Undefined
from services.analyzer.cells import Ints
from services.analyzer.metrics.spectrum import Spectrum
from services.analyzer.network.edges import EdgeTable

HUB_SHARE_OF_NODES = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """How often each weight, degree and strength occurs in one network."""

    weights: Spectrum
    degrees: Spectrum
    strengths: Spectrum

    def require(self) -> None:
        """Raise Undefined if the network is empty."""
        if not self.weights.types:
            raise Undefined("no two concepts meet")


def shapes(table: EdgeTable) -> list[Shape]:
    """Return the shape of the network of each replicate, or of the whole where there is one group."""
    if table.groups == 1:
        return [_shape(np.bincount(table.weight_E, minlength=1), table.degree_n, table.strength_n)]
    only = table.of_one_group()
    lost_degree = table.by_group(np.ones_like(table.pair_weight_P), only)
    lost_strength = table.by_group(table.pair_weight_P, np.ones_like(only))
    return [
        _shape(_weights_without(table, g), table.degree_n - lost_degree[:, g], table.strength_n - lost_strength[:, g])
        for g in range(table.groups)
    ]


def _weights_without(table: EdgeTable, group: int) -> Ints:
    """Return how many edges have each weight when `group` is left out."""
    inside = table.pair_group_P == group
    before = table.weight_E[table.pair_edge_P[inside]]
    size = int(table.weight_E.max(initial=0)) + 1
    every = np.bincount(table.weight_E, minlength=size)
    return (
        every - np.bincount(before, minlength=size) + np.bincount(before - table.pair_weight_P[inside], minlength=size)
    )


def _shape(weights: Ints, degrees: Ints, strengths: Ints) -> Shape:
    return Shape(
        Spectrum.of_histogram(weights),
        Spectrum.of_histogram(np.bincount(degrees, minlength=1)),
        _sparse_spectrum(strengths),
    )


def _sparse_spectrum(values: Ints) -> Spectrum:
    # A hub's strength may be in the millions: sorting is cheaper than a histogram of that length.
    found, times = np.unique(values[values > 0], return_counts=True)
    return Spectrum(tuple(found.tolist()), tuple(times.tolist()))


def shape_of(edges: list[tuple[str, str, int]]) -> Shape:
    """Return the shape of a network given as (concept, concept, weight), for examples and tests."""
    degrees: dict[str, int] = {}
    strengths: dict[str, int] = {}
    for first, second, weight in edges:
        for node in (first, second):
            degrees[node] = degrees.get(node, 0) + 1
            strengths[node] = strengths.get(node, 0) + weight
    weights = [weight for _, _, weight in edges]
    return Shape(*(Spectrum.of_counts(counts) for counts in (weights, degrees.values(), strengths.values())))


def nodes(shape: Shape) -> float:
    """Return the number of concepts that are related to another.

        n

    Range [2, oo), in concepts; falls under collapse. Undefined without relations. Bias: grows with the budget.
    Source: arXiv 2410.12341, version 1: fewer concepts as generations pass.

    Nominal 95 % intervals held the truth in 94 to 97 % of 300 samples of each of four human corpora.

    >>> nodes(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)]))
    3.0
    """
    shape.require()
    return float(shape.degrees.types)


def edges(shape: Shape) -> float:
    """Return the number of different relations.

        E

    Range [1, oo), in relations; falls under collapse. Undefined without relations. Bias: grows with the budget.
    Source: arXiv 2410.12341, version 1: fewer relations as generations pass.

    Nominal 95 % intervals held the truth in 94 to 97 % of 300 samples of each of four human corpora.

    >>> edges(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)]))
    2.0
    """
    shape.require()
    return float(shape.weights.types)


def edge_weight_entropy(shape: Shape) -> float:
    """Return the entropy of how meetings are spread over relations.

        -sum over edges of p ln p          p = w / sum of w

    Range [0, ln E], in nats; falls under collapse, as the same relations are repeated. Undefined without relations.
    Bias: grows with the budget. Source: Shannon entropy of edge weights; chosen by this project.

    Nominal 95 % intervals held the truth in 93 to 97 % of 300 samples of each of four human corpora.

    >>> round(edge_weight_entropy(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)])), 4)
    0.5623
    """
    shape.require()
    return shape.weights.entropy


def degree_entropy(shape: Shape) -> float:
    """Return the entropy of how ends of relations are spread over concepts.

        -sum over nodes of q ln q          q = k / 2E

    Range [0, ln n], in nats; falls under collapse, as relations concentrate on few concepts. Undefined without
    relations. Bias: grows with the budget. Source: degree-based graph entropy, Cao, Dehmer and Shi (2014),
    Information Sciences 278.

    Nominal 95 % intervals held the truth in 94 to 96 % of 300 samples of each of four human corpora.

    >>> round(degree_entropy(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)])), 4)  # q = 1/2, 1/4, 1/4
    1.0397
    """
    shape.require()
    return shape.degrees.entropy


def hub_share(shape: Shape) -> float:
    """Return the share of the weight that the strongest 1 % of the concepts hold.

        sum of s over the strongest ceil(n / 100) nodes / sum of s over all nodes

    Range (0, 1], no unit; rises under collapse. Undefined without relations. Bias: jumps a little where n passes a
    hundred. Source: chosen by this project after the rich-get-richer finding of arXiv 2410.12341, version 1.

    Nominal 95 % intervals held the truth in 96 to 99 % of 300 samples of each of four human corpora.

    >>> hub_share(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)]))
    0.5
    """
    shape.require()
    return shape.strengths.top(math.ceil(HUB_SHARE_OF_NODES * shape.strengths.types)) / shape.strengths.total


def density(shape: Shape) -> float:
    """Return the share of the possible relations that exist.

        2 E / (n (n - 1))

    Range (0, 1], no unit; moves either way under collapse, since n falls too. Undefined without relations. Bias:
    falls with the budget. Source: Wasserman and Faust (1994), Social network analysis.

    >>> round(density(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)])), 4)
    0.6667
    """
    shape.require()
    count = shape.degrees.types
    return 2 * shape.weights.types / (count * (count - 1))


def mean_degree(shape: Shape) -> float:
    """Return the mean number of relations of a concept.

        2 E / n

    Range [1, oo), in relations; moves either way under collapse. Undefined without relations. Bias: grows with the
    budget. Source: Wasserman and Faust (1994), Social network analysis.

    >>> round(mean_degree(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)])), 4)
    1.3333
    """
    shape.require()
    return 2 * shape.weights.types / shape.degrees.types


def degree_gini(shape: Shape) -> float:
    """Return how unevenly relations are spread over concepts.

        G = 2 sum over i of i k_(i) / (n sum of k) - (n + 1) / n          k_(1) <= k_(2) <= ...

    Range [0, 1), no unit; rises under collapse. Undefined without relations. Bias: grows with the budget. Source:
    Gini (1912); Hu and Wang (2008), Physica A 387(14).

    >>> round(degree_gini(shape_of([("cat", "dog", 3), ("cat", "mouse", 1)])), 4)  # degrees 1, 1, 2
    0.1667
    """
    shape.require()
    count, before, ranked = shape.degrees.types, 0, 0
    for degree, times in zip(shape.degrees.occurrences, shape.degrees.types_with, strict=True):
        ranked += degree * (before * times + times * (times + 1) // 2)
        before += times
    return 2 * ranked / (count * shape.degrees.total) - (count + 1) / count
