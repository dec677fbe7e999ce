"""How far the meanings of a candidate lie from those of a baseline, from what two fingerprints keep of their vectors.

Both are single values without an interval. Shapes: d = dimensions, M = kept vectors of both sides together, k = cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.embedding.one_thread import one_thread
from services.analyzer.embedding.prints import EmbeddingPrint

MOST_CELLS = 500
_VECTORS_OF_CELL = 10
_SEED, _STARTS = 20_261_122, 5
# k-means begins so often at random vectors, always the same ones; the best end counts.

Counts = npt.NDArray[np.int64]


def frechet_distance(baseline: EmbeddingPrint, candidate: EmbeddingPrint) -> float:
    """Return how far the meanings lie from the baseline's: the Frechet distance of two normal distributions.

        |m - m'|^2 + tr(C) + tr(C') - 2 tr((C^1/2 C' C^1/2)^1/2)          m, C = mean and covariance of a side

    Range [0, oo), no unit (vectors have length 1); rises under collapse. Undefined with fewer than two documents on a
    side. Bias: upwards by order d / n, so compare only values from about equally many documents. Source: Heusel et al.
    (2017), NeurIPS; Dowson and Landau (1982).

    >>> one, other = (EmbeddingPrint(np.array([2]), np.array([x]), np.array([[1.0]]), None) for x in (0.0, 2.0))
    >>> frechet_distance(one, other)
    4.0
    """
    if min(int(side.documents[0]) for side in (baseline, candidate)) < 2:
        raise Undefined("fewer than two documents on one side")
    ours, theirs = (side.covariance_dd.astype(np.float64) for side in (baseline, candidate))
    step_d = baseline.mean_d - candidate.mean_d
    # The trace of that root is the sum of the singular values of C^1/2 C'^1/2, which needs no root of small numbers.
    with one_thread():
        shared = np.linalg.svd(_root(ours) @ _root(theirs), compute_uv=False)
    parts = [*(step_d * step_d).tolist(), *np.diag(ours).tolist(), *np.diag(theirs).tolist(), *(-2 * shared).tolist()]
    return max(0.0, math.fsum(parts))


def frontier_divergence(baseline: EmbeddingPrint, candidate: EmbeddingPrint) -> float:
    """Return the frontier integral: how little the two sides cover the same cells of the space of meanings.

        sum over cells of (p + q) / 2 - p q / (p - q) ln(p / q),  0 where p = q

    That is 2 * integral over t in [0, 1] of t KL(P | R_t) + (1 - t) KL(Q | R_t), R_t = t P + (1 - t) Q: the curve whose
    area under another transform is MAUVE, summed up so that larger is worse and 1 means nothing in common. Cells come
    from k-means over the kept vectors of both sides, k = a tenth of the smaller side, within [2, 500].

    Range [0, 1], no unit; rises under collapse. Undefined with fewer than two documents on a side. Bias: upwards, the
    more the fewer documents there are (two halves of one corpus do not have 0). Source: Liu et al. (2021), Divergence
    frontiers for generative models, NeurIPS; Pillutla et al. (2021), MAUVE, NeurIPS.

    >>> round(frontier_integral(np.array([3, 1]), np.array([1, 3])), 4)
    0.176
    """
    if min(len(baseline.vectors_md), len(candidate.vectors_md)) < 2:
        raise Undefined("fewer than two documents on one side")
    return frontier_integral(*_cells(baseline.vectors_md, candidate.vectors_md))


def frontier_integral(ours_k: Counts, theirs_k: Counts) -> float:
    """Return the frontier integral of two histograms; see `frontier_divergence`."""
    pairs = zip((ours_k / ours_k.sum()).tolist(), (theirs_k / theirs_k.sum()).tolist(), strict=True)
    return max(0.0, math.fsum(_frontier(p, q) for p, q in pairs))


def _frontier(p: float, q: float) -> float:
    if p == q:
        return 0.0
    return (p + q) / 2 - (p * q / (p - q) * math.log(p / q) if p and q else 0.0)


def _cells(ours: npt.NDArray[np.float16], theirs: npt.NDArray[np.float16]) -> tuple[Counts, Counts]:
    """Return how many vectors of each side lie in each cell."""
    # Only where there are embeddings: it takes as long to import as all else of scipy that an analyzer needs.
    from scipy.cluster.vq import kmeans, vq

    joint_Md = np.concatenate([ours, theirs]).astype(np.float64)
    # In an order of their own, so that the cells do not depend on which side comes first.
    order = np.lexsort(joint_Md.T)
    wanted = max(2, min(MOST_CELLS, min(len(ours), len(theirs)) // _VECTORS_OF_CELL))
    with one_thread():
        centres, _ = kmeans(joint_Md[order], wanted, iter=_STARTS, rng=np.random.default_rng(_SEED))
        cells_M, _ = vq(joint_Md, centres)
    first, second = (np.bincount(part, minlength=len(centres)) for part in np.split(cells_M, [len(ours)]))
    return first, second


def _root(matrix_dd: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix_dd)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


OF_EMBEDDINGS: Mapping[str, Callable[[EmbeddingPrint, EmbeddingPrint], float]] = {
    "frechet_distance": frechet_distance,
    "frontier_divergence": frontier_divergence,
}
