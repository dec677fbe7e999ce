"""Metrics of a candidate relative to a baseline, from two fingerprints with 20 groups: hashes and counts, no words.

Each is computed without group g on both sides for every g, so it has replicates like any other metric; only the overlap
of central concepts has none. The functions in the tables at the end are data sheets. Shapes: V = types, N = nodes or
edges, K = 20 groups.
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
    """Return the share of words of the candidate that the baseline never saw.

        sum over types that are not in the baseline of m / N'          m = occurrences, N' = words of the candidate

    Range [0, 1], no unit; moves either way under collapse, and guards verdicts: far more new words than the baseline's
    own parts have for one another mean another subject, not a poorer text. Undefined without words on the candidate's
    side. Bias: falls with the budget, as a larger baseline knows more words. Source: the out-of-vocabulary rate of
    speech recognition; what to expect of it, Good (1953), Biometrika 40.

    >>> sides = ([1, 2], [2, 3])  # hashes of the types of each side; each type stands once in every group
    >>> counts_VK = np.ones((2, GROUPS), dtype=np.int32)
    >>> baseline, candidate = (Fingerprint(38, np.array(types, np.uint64), counts_VK) for types in sides)
    >>> novelty(baseline, candidate)[0]
    0.5
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
    """Return the share of the baseline's different words that still occur.

        |V and V'| / |V|          V, V' = types of the baseline, of the candidate

    Range [0, 1], no unit; falls under collapse. Undefined without words on the baseline's side. Bias: rises with the
    budget, and is far below 1 for two samples of one source, since rare words are in one of them only. Source: chosen
    by this project.

    >>> sides = ([1, 2], [2, 3])  # hashes of the types of each side; each type stands once in every group
    >>> counts_VK = np.ones((2, GROUPS), dtype=np.int32)
    >>> baseline, candidate = (Fingerprint(38, np.array(types, np.uint64), counts_VK) for types in sides)
    >>> vocabulary_coverage(baseline, candidate)[0]
    0.5
    """
    ours_VK = without_each_group(baseline.counts_VK) > 0
    theirs_VK = without_each_group(_aligned(candidate, baseline.types_V)) > 0
    return _shares(ours_VK & theirs_VK, ours_VK)


def tail_coverage(baseline: Fingerprint, candidate: Fingerprint) -> Replicates:
    """Return the share of the baseline's rarer words that still occur.

        |T and V'| / |T|          T = types of the baseline with m <= median m, V' = types of the candidate

    Range [0, 1], no unit; falls under collapse, as rare words go first. Undefined without words on the baseline's side.
    Bias: as for `vocabulary_coverage`, and stronger; where most types occur once, T is these. Source: chosen by this
    project, after the lost tails of Shumailov et al. (2024), Nature 631.

    >>> sides = ([1, 2], [2, 3])  # hashes of the types of each side; each type stands once in every group
    >>> counts_VK = np.ones((2, GROUPS), dtype=np.int32)
    >>> baseline, candidate = (Fingerprint(38, np.array(types, np.uint64), counts_VK) for types in sides)
    >>> tail_coverage(baseline, candidate)[0]
    0.5
    """
    ours_VK = without_each_group(baseline.counts_VK)
    theirs_VK = without_each_group(_aligned(candidate, baseline.types_V))
    medians_K = np.array([np.median(column[column > 0]) if column.any() else 0 for column in ours_VK.T])
    tail_VK = (ours_VK > 0) & (ours_VK <= medians_K)
    return _shares(tail_VK & (theirs_VK > 0), tail_VK)


def pos_divergence(baseline: Fingerprint, candidate: Fingerprint) -> Replicates:
    """Return how far the mix of parts of speech is from the baseline's: the Jensen-Shannon divergence.

        JS = (KL(p || m) + KL(q || m)) / 2          p, q = shares of the parts of speech, m = (p + q) / 2

    Range [0, ln 2], in nats; rises under collapse. Undefined where a side was not parsed, or has no token. Bias:
    upwards by order 1 / N; as good as the parser. Source: Lin (1991), IEEE Transactions on Information Theory 37(1).

    >>> round(_jensen_shannon([1.0, 0.0], [0.5, 0.5]), 4)
    0.2158
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
    """Return how many concepts the network shares with the baseline's: the Jaccard index of the two sets.

        |A and B| / |A or B|          A, B = nodes of the two networks

    Range [0, 1], no unit; falls under collapse. Undefined where both networks are empty, or a side has none. Bias:
    rises with the budget, and is far below 1 for two samples of one source. Source: Jaccard (1901), Bulletin de la
    Societe vaudoise des sciences naturelles 37.

    >>> ours, theirs = (np.array(hashes, np.uint64) for hashes in ([1, 2], [2, 3]))
    >>> masks = np.array([3, 3], np.uint32)  # each occurs in the groups 0 and 1
    >>> round(_jaccard(ours, masks, theirs, masks)[0], 4)
    0.3333
    """
    return _jaccard(baseline.nodes_n, baseline.node_mask_n, candidate.nodes_n, candidate.node_mask_n)


def edge_overlap(baseline: NetworkPrint, candidate: NetworkPrint) -> Replicates:
    """Return how many relations the network shares with the baseline's: the Jaccard index of the two sets.

        |A and B| / |A or B|          A, B = edges of the two networks

    Range [0, 1], no unit; falls under collapse. Undefined where both networks have no edge, or a side has no network.
    Bias: as for `node_overlap`, and stronger. A report keeps at most 200,000 edges, those with the smallest hashes, so
    of larger networks the same random part is compared on both sides. Source: Jaccard (1901), Bulletin de la Societe
    vaudoise des sciences naturelles 37.

    >>> ours, theirs = (np.array(hashes, np.uint64) for hashes in ([1, 2], [2, 3]))
    >>> masks = np.array([3, 3], np.uint32)  # each occurs in the groups 0 and 1
    >>> round(_jaccard(ours, masks, theirs, masks)[0], 4)
    0.3333
    """
    bound = min(baseline.edges_to, candidate.edges_to)
    ours, theirs = baseline.edges_E <= bound, candidate.edges_E <= bound
    return _jaccard(
        baseline.edges_E[ours], baseline.edge_mask_E[ours], candidate.edges_E[theirs], candidate.edge_mask_E[theirs]
    )


def central_overlap(baseline: NetworkPrint, candidate: NetworkPrint) -> float:
    """Return how alike the most central concepts are to the baseline's: their rank-biased overlap.

        RBO = A_k p^k + (1 - p) / p * sum over d = 1..k of A_d p^d

    A_d is the share that the first d concepts have in common, k the length of the shorter list (at most 200), p = .98;
    concepts are in falling order of strength. Range [0, 1], no unit, 1 for the same ones in the same order; falls under
    collapse. Undefined where a network has no node, or a side has none. Bias: little in N; the first 50 concepts carry
    86 % of the weight. Source: Webber, Moffat and Zobel (2010), ACM TOIS 28(4), the extrapolated form.

    >>> round(rank_biased_overlap([1, 2], [2, 1]), 4)
    0.98
    """
    depth = min(len(baseline.central_C), len(candidate.central_C))
    if depth == 0:
        raise Undefined("a network has no node")
    return rank_biased_overlap(baseline.central_C[:depth].tolist(), candidate.central_C[:depth].tolist())


def rank_biased_overlap(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Return the rank-biased overlap of two rankings of equal length; see `central_overlap`."""
    depth = len(ours)
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
