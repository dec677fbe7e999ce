"""Measures of a semantic network that need the whole graph; each is a data sheet.

Too dear for 20 replicates, or not smooth: they are measured once, on the whole sample at its largest budget, carry no
interval and have no vote. Symbols: n = nodes, E = edges, k = degree.
"""

from __future__ import annotations

import math

import numpy as np

from ouroscope.errors import Undefined
from services.analyzer.network.graph import Graph


def clustering(graph: Graph) -> float:
    """Return how often two concepts related to a third are related, the mean over concepts.

        mean over nodes of triangles / (k (k - 1) / 2), 0 where k < 2

    Range [0, 1], no unit; moves either way under collapse. Undefined without relations. Bias: windows of 5 words, and
    neighbourhoods in a tree, make triangles by themselves. Source: Watts and Strogatz (1998), Nature 393.

    >>> from services.analyzer.network.graph import graph_of
    >>> clustering(graph_of([(0, 1, 1), (1, 2, 1), (0, 2, 1)]))
    1.0
    """
    _require(graph)
    return math.fsum(graph.local_clustering_n.tolist()) / graph.count


def transitivity(graph: Graph) -> float:
    """Return the share of paths of two relations that are closed to a triangle.

        3 triangles / sum over nodes of k (k - 1) / 2

    Range [0, 1], no unit; moves either way under collapse. Undefined where no concept has two relations. Bias: hubs
    count most. Source: Newman, Watts and Strogatz (2002), PNAS 99.

    >>> from services.analyzer.network.graph import graph_of
    >>> transitivity(graph_of([(0, 1, 1), (1, 2, 1), (0, 2, 1), (2, 3, 1)]))
    0.6
    """
    paths_n = graph.degree_n * (graph.degree_n - 1) // 2
    paths = int(paths_n.sum())
    if not paths:
        raise Undefined("no concept has two relations")
    return int(np.rint(graph.local_clustering_n * paths_n).sum()) / paths


def components(graph: Graph) -> float:
    """Return the number of parts of the network that no relation joins.

    Range [1, n/2], in components; moves either way under collapse. Undefined without relations. Bias: depends on the
    budget. Source: Wasserman and Faust (1994), Social network analysis.

    >>> from services.analyzer.network.graph import graph_of
    >>> components(graph_of([(0, 1, 1), (2, 3, 1)]))
    2.0
    """
    _require(graph)
    return float(graph.component_n.max() + 1)


def giant_share(graph: Graph) -> float:
    """Return the share of the concepts that belong to the largest component.

        nodes of the largest component / n

    Range (0, 1], no unit; moves either way under collapse. Undefined without relations. Bias: grows with the budget.
    Source: Newman (2010), Networks.

    >>> from services.analyzer.network.graph import graph_of
    >>> giant_share(graph_of([(0, 1, 1), (1, 2, 1), (3, 4, 1)]))
    0.6
    """
    _require(graph)
    return len(graph.giant) / graph.count


def path_length(graph: Graph) -> float:
    """Return the mean number of steps between two concepts of the largest component.

        mean over pairs of nodes of the length of the shortest path, weights ignored

    Range [1, oo), in steps; moves either way under collapse. Undefined without relations. Bias: none up to 2,000
    nodes. Above, paths from 256 nodes (fixed seed) stand for all, and the interval is that of this choice. Source:
    Watts and Strogatz (1998), Nature 393.

    >>> from services.analyzer.network.graph import graph_of
    >>> path_length(graph_of([(0, 1, 5), (1, 2, 1)]))
    1.3333333333333333
    """
    _require(graph)
    return graph.mean_path


def assortativity(graph: Graph) -> float:
    """Return whether concepts with many relations are related to each other: the correlation of degrees over relations.

        r = (4 E sum jk - S^2) / (2 E sum (j^2 + k^2) - S^2)          j, k = degrees at the ends of an edge, S = sum
        (j + k)

    Range [-1, 1], no unit; moves either way under collapse. Undefined where all concepts have equally many relations.
    Bias: heavy-tailed degrees push it below 0. Source: Newman (2002), Physical Review Letters 89.

    >>> from services.analyzer.network.graph import graph_of
    >>> assortativity(graph_of([(0, 1, 1), (0, 2, 1), (0, 3, 1)]))
    -1.0
    """
    _require(graph)
    first, second = graph.degree_n[graph.source_E], graph.degree_n[graph.target_E]
    ends = int((first + second).sum())
    spread = 2 * len(first) * int((first**2 + second**2).sum()) - ends**2
    if not spread:
        raise Undefined("all concepts have equally many relations")
    return (4 * len(first) * int((first * second).sum()) - ends**2) / spread


def modularity(graph: Graph) -> float:
    """Return how clearly the network falls into communities.

        Q = sum over communities of (w_in / W - (s / 2W)^2)      w_in = weight inside, s = strength, W = weight of all
        edges

    Range [-1/2, 1), no unit; moves either way under collapse. Undefined without relations. Bias: the communities are
    found by a search (Louvain with refinement, fixed seed), so the value is a lower bound. Source: Newman (2004);
    Blondel et al. (2008).

    >>> from services.analyzer.network.graph import graph_of
    >>> modularity(graph_of([(0, 1, 1), (2, 3, 1)]))
    0.5
    """
    _require(graph)
    first, second = graph.partition_n[graph.source_E], graph.partition_n[graph.target_E]
    size = int(graph.partition_n.max()) + 1
    strength = np.bincount(np.concatenate([first, second]), np.tile(graph.weight_E, 2), minlength=size)
    total = int(graph.weight_E.sum())
    inside = int(graph.weight_E[first == second].sum())
    return inside / total - math.fsum(float(s / (2 * total)) ** 2 for s in strength)


def communities(graph: Graph) -> float:
    """Return the number of communities of the network.

    Range [1, n], in communities; moves either way under collapse. Undefined without relations. Bias: as for
    `modularity`; small components are communities of their own. Source: Blondel et al. (2008), Journal of Statistical
    Mechanics P10008.

    >>> from services.analyzer.network.graph import graph_of
    >>> communities(graph_of([(0, 1, 1), (2, 3, 1)]))
    2.0
    """
    _require(graph)
    return float(graph.partition_n.max() + 1)


def core_depth(graph: Graph) -> float:
    """Return how deep the core of the network is.

        largest k such that some concepts have k relations or more among themselves

    Range [1, n - 1], in relations; moves either way under collapse. Undefined without relations. Bias: grows with the
    budget, in whole steps. Source: Seidman (1983), Social Networks 5.

    >>> from services.analyzer.network.graph import graph_of
    >>> core_depth(graph_of([(0, 1, 1), (1, 2, 1), (0, 2, 1), (2, 3, 1)]))
    2.0
    """
    _require(graph)
    return float(graph.max_core)


def small_world(graph: Graph) -> float:
    """Return how much more clustered the network is than a random one, for its path length.

        sigma = (C / C_r) / (L / L_r)          C_r = mean k / n, L_r = ln n / ln mean k

    Range [0, oo), no unit; moves either way under collapse. Undefined where the mean degree is at most 1 or less than
    3 concepts are related. Bias: the random network is an approximation by formula. Source: Humphries and Gurney
    (2008), PLoS ONE 3(4).

    >>> from services.analyzer.network.graph import graph_of
    >>> round(small_world(graph_of([(0, 1, 1), (1, 2, 1), (0, 2, 1)])), 4)
    2.3774
    """
    _require(graph)
    mean_degree = 2 * len(graph.source_E) / graph.count
    if mean_degree <= 1 or graph.count < 3:
        raise Undefined("the network is too thin")
    random_clustering = mean_degree / graph.count
    random_length = math.log(graph.count) / math.log(mean_degree)
    return (clustering(graph) / random_clustering) / (graph.mean_path / random_length)


def _require(graph: Graph) -> None:
    if not len(graph.source_E):
        raise Undefined("no two concepts meet")
