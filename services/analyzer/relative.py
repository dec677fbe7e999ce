"""Metrics of a candidate relative to a baseline, from two fingerprints with 20 groups: hashes and counts, no words.

Each is computed without group g on both sides for every g, so it has replicates like any other metric; only the overlap
of central concepts has none. Shapes: V = types, N = nodes or edges, K = 20 groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from ouroscope.records.analysis import MetricValue
from services.analyzer.embedding.prints import EmbeddingPrint
from services.analyzer.fingerprint import Fingerprint, Hashes, NetworkPrint
from services.analyzer.jackknife import GROUPS, interval
from services.analyzer.network.edges import CONSTRUCTIONS
from services.analyzer.relative_embedding import OF_EMBEDDINGS

PERSISTENCE = 0.98
"""p of the rank-biased overlap: the first 50 concepts carry 86 % of the weight."""

Counts = npt.NDArray[np.int64]
Replicates = tuple[float, ...]
T = TypeVar("T")


def novelty(baseline: Fingerprint, candidate: Fingerprint) -> Replicates:
    """Return the share of candidate tokens whose type the baseline never saw, in [0, 1].

    Raises:
        Undefined: the candidate has no token.
    """
    theirs_VK = without_each_group(candidate.counts_VK)
    ours_VK = without_each_group(_aligned(baseline, candidate.types_V))
    return _shares(np.where(ours_VK == 0, theirs_VK, 0), theirs_VK)


def own_novelty(baseline: Fingerprint) -> Replicates:
    """Return the share of baseline tokens whose type stands in one group only, in [0, 1].

    This is what `novelty` comes to for a second sample from the same sources: the Good-Turing estimate of unseen mass,
    with groups of whole clusters in place of single tokens.

    Raises:
        Undefined: the baseline has no token.
    """
    there_VK = baseline.counts_VK > 0
    groups_VK = there_VK.sum(axis=1, keepdims=True) - there_VK
    counts_VK = without_each_group(baseline.counts_VK)
    return _shares(np.where(groups_VK == 1, counts_VK, 0), counts_VK)


def vocabulary_coverage(baseline: Fingerprint, candidate: Fingerprint) -> Replicates:
    """Return the share of baseline types that the candidate uses, in [0, 1].

    Raises:
        Undefined: the baseline has no type.
    """
    ours_VK = without_each_group(baseline.counts_VK) > 0
    theirs_VK = without_each_group(_aligned(candidate, baseline.types_V)) > 0
    return _shares(ours_VK & theirs_VK, ours_VK)


def tail_coverage(baseline: Fingerprint, candidate: Fingerprint) -> Replicates:
    """Return the share of the baseline's rarer types that the candidate uses, in [0, 1].

    Rarer types are those no more frequent than the median type of the baseline.

    Raises:
        Undefined: the baseline has no type.
    """
    ours_VK = without_each_group(baseline.counts_VK)
    theirs_VK = without_each_group(_aligned(candidate, baseline.types_V))
    medians_K = np.array([np.median(column[column > 0]) if column.any() else 0 for column in ours_VK.T])
    tail_VK = (ours_VK > 0) & (ours_VK <= medians_K)
    return _shares(tail_VK & (theirs_VK > 0), tail_VK)


def pos_divergence(baseline: Fingerprint, candidate: Fingerprint) -> Replicates:
    """Return the Jensen-Shannon divergence of the parts of speech of the two sides, in [0, ln 2] nats.

        JS = (KL(p || m) + KL(q || m)) / 2          m = (p + q) / 2

    Raises:
        Undefined: a side was not parsed, or has no token.

    Source: Lin (1991), IEEE Transactions on Information Theory 37(1).
    """
    ours, theirs = (_parts_of_speech(side) for side in (baseline, candidate))
    return tuple(_jensen_shannon(p, q) for p, q in zip(ours, theirs, strict=True))


def _parts_of_speech(side: Fingerprint) -> list[list[float]]:
    """Return the shares of the parts of speech of each replicate."""
    if side.parts_of_speech_PK is None:
        raise Undefined("a side was measured without parts of speech")
    counts_KP = without_each_group(side.parts_of_speech_PK).T.tolist()
    if not all(map(sum, counts_KP)):
        raise Undefined("a side has no token")
    return [[count / sum(counts) for count in counts] for counts in counts_KP]


def _jensen_shannon(p: Sequence[float], q: Sequence[float]) -> float:
    pairs = zip((*p, *q), (*q, *p), strict=True)
    # Rounding may leave a hair below 0 where both are the same.
    return max(0.0, math.fsum(a * math.log(2 * a / (a + b)) for a, b in pairs if a) / 2)


def node_overlap(baseline: NetworkPrint, candidate: NetworkPrint) -> Replicates:
    """Return the Jaccard index of the two sets of nodes, in [0, 1].

    Raises:
        Undefined: both networks are empty.
    """
    return _jaccard(baseline.nodes_n, baseline.node_mask_n, candidate.nodes_n, candidate.node_mask_n)


def edge_overlap(baseline: NetworkPrint, candidate: NetworkPrint) -> Replicates:
    """Return the Jaccard index of the two sets of edges, in [0, 1]; of large networks, a fixed sample of edges.

    Raises:
        Undefined: both networks are without edges.
    """
    bound = min(baseline.edges_to, candidate.edges_to)
    ours, theirs = baseline.edges_E <= bound, candidate.edges_E <= bound
    return _jaccard(
        baseline.edges_E[ours], baseline.edge_mask_E[ours], candidate.edges_E[theirs], candidate.edge_mask_E[theirs]
    )


def central_overlap(baseline: NetworkPrint, candidate: NetworkPrint) -> float:
    """Return the rank-biased overlap of the most central concepts, in [0, 1]; 1 for the same ones in the same order.

        RBO = A_k p^k + (1 - p) / p * sum over d = 1..k of A_d p^d

    A_d is the share that the first d concepts have in common, k the length of the shorter list, p = .98.

    Raises:
        Undefined: a network has no node.

    Source: Webber, Moffat and Zobel (2010), ACM TOIS 28(4), the extrapolated form.
    """
    depth = min(len(baseline.central_C), len(candidate.central_C))
    if depth == 0:
        raise Undefined("a network has no node")
    ours, theirs = baseline.central_C.tolist(), candidate.central_C.tolist()
    agreement = [len(set(ours[:d]) & set(theirs[:d])) / d for d in range(1, depth + 1)]
    series = sum(share * PERSISTENCE**d for d, share in enumerate(agreement, start=1))
    return agreement[-1] * PERSISTENCE**depth + (1 - PERSISTENCE) / PERSISTENCE * series


def _between(
    construction: str, measure: Callable[[NetworkPrint, NetworkPrint], T]
) -> Callable[[Fingerprint, Fingerprint], T]:
    """Return `measure` for the networks of one construction."""

    def measured(baseline: Fingerprint, candidate: Fingerprint) -> T:
        if not all(construction in side.networks for side in (baseline, candidate)):
            raise Undefined(f"a side was measured without its {construction} network")
        return measure(baseline.networks[construction], candidate.networks[construction])

    return measured


def _of_meanings(
    measure: Callable[[EmbeddingPrint, EmbeddingPrint], float],
) -> Callable[[Fingerprint, Fingerprint], float]:
    """Return `measure` for what two fingerprints keep of vectors."""

    def measured(baseline: Fingerprint, candidate: Fingerprint) -> float:
        if baseline.embedding is None or candidate.embedding is None:
            raise Undefined("a side was measured without an encoder")
        return measure(baseline.embedding, candidate.embedding)

    return measured


REPLICATED: Mapping[str, Callable[[Fingerprint, Fingerprint], Replicates]] = {
    "vocabulary_coverage": vocabulary_coverage,
    "tail_coverage": tail_coverage,
    "novel_token_share": novelty,
    "pos_divergence": pos_divergence,
    **{f"{construction}_node_overlap": _between(construction, node_overlap) for construction in CONSTRUCTIONS},
    **{f"{construction}_edge_overlap": _between(construction, edge_overlap) for construction in CONSTRUCTIONS},
}
SINGLE: Mapping[str, Callable[[Fingerprint, Fingerprint], float]] = {
    **{f"{construction}_central_overlap": _between(construction, central_overlap) for construction in CONSTRUCTIONS},
    **{metric: _of_meanings(measure) for metric, measure in OF_EMBEDDINGS.items()},
}


def relative_metrics(
    baseline: Fingerprint, candidate: Fingerprint, check: Callable[[str], None] = lambda _: None
) -> Iterator[MetricValue]:
    """Yield every metric of the candidate that needs a baseline; an undefined one with its reason.

    `check` hears the id of each metric before it is measured, and raises Undefined if the two sides were made by tools
    whose answers cannot be compared.
    """
    for metric in (*REPLICATED, *SINGLE):
        try:
            check(metric)
            yield _measured(metric, baseline, candidate)
        except Undefined as reason:
            yield MetricValue(id=metric, undefined_because=str(reason))


def _measured(metric: str, baseline: Fingerprint, candidate: Fingerprint) -> MetricValue:
    if metric in SINGLE:
        return MetricValue(id=metric, value=SINGLE[metric](baseline, candidate))
    replicates = REPLICATED[metric](baseline, candidate)
    theta, lower, upper = interval(replicates)
    return MetricValue(id=metric, value=theta, lower=lower, upper=upper, replicates=replicates)


def without_each_group(counts_VK: npt.NDArray[np.integer]) -> Counts:
    """Return the totals without group g in column g."""
    exact = counts_VK.astype(np.int64)
    return np.asarray(exact.sum(axis=1, keepdims=True) - exact)


def _aligned(source: Fingerprint, wanted_V: Hashes) -> Counts:
    """Return the counts of `wanted_V` in `source`; a type that is not there has zeros."""
    rows_VK = np.zeros((len(wanted_V), GROUPS), dtype=np.int64)
    _, here, there = np.intersect1d(source.types_V, wanted_V, assume_unique=True, return_indices=True)
    rows_VK[there] = source.counts_VK[here]
    return rows_VK


def _jaccard(
    ours: Hashes, our_masks: npt.NDArray[np.uint32], theirs: Hashes, their_masks: npt.NDArray[np.uint32]
) -> Replicates:
    every = np.union1d(ours, theirs)
    ours_NK, theirs_NK = _present(ours, our_masks, every), _present(theirs, their_masks, every)
    return _shares(ours_NK & theirs_NK, ours_NK | theirs_NK)


def _present(hashes: Hashes, masks: npt.NDArray[np.uint32], every_N: Hashes) -> npt.NDArray[np.bool_]:
    """Return whether each of `every_N` is there without group g, in column g."""
    there_N = np.zeros(len(every_N), dtype=np.uint32)
    there_N[np.searchsorted(every_N, hashes)] = masks
    others_K = np.array([((1 << GROUPS) - 1) & ~(1 << group) for group in range(GROUPS)], dtype=np.uint32)
    return np.asarray((there_N[:, None] & others_K) != 0)


def _shares(parts_VK: npt.NDArray[np.generic], wholes_VK: npt.NDArray[np.generic]) -> Replicates:
    # Integers are summed, so the order of the rows changes no bit.
    parts, wholes = parts_VK.sum(axis=0).tolist(), wholes_VK.sum(axis=0).tolist()
    if not all(wholes):
        raise Undefined("there is nothing to relate to")
    return tuple(part / whole for part, whole in zip(parts, wholes, strict=True))
