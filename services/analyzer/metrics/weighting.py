"""Words weighted by how few documents have them. Shapes: D = documents, V = words, C = cells (document, word)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.cells import Ints, count_cells
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.rungs import RungSample


def tfidf_mean(weights: Ratio) -> float:
    """Return the mean tf-idf weight of the words of a document, over all documents and their different words.

        mean of w(d, v) / sqrt(sum over u of w(d, u)^2)          w(d, v) = n(d, v) (ln((1 + D) / (1 + D_v)) + 1)

    n(d, v) = how often word v stands in document d; D = documents; D_v = documents with v. `weights` holds the weights
    of all cells that are not 0, and their number. Range (0, 1], no unit; moves either way under collapse. Undefined
    without words. Bias: falls with the number of different words of a document, so with its length. Source: Salton and
    Buckley (1988), Information Processing and Management 24(5); the smoothing is that of scikit-learn.

    >>> tfidf_mean(Ratio(over=3.0, under=4))
    0.75
    """
    if not weights.under:
        raise Undefined("no words")
    return weights.over / weights.under


def weight_sums(rung: RungSample) -> list[Ratio]:
    """Return, for each replicate, the weights of all cells added up, and their number."""
    span = len(rung.lexicon)
    cells_C, times_C = count_cells([rung.documents_N.astype(np.int64) * span + rung.words_N])
    documents_C, words_C = np.divmod(cells_C, span)
    sums = []
    for kept_D in _kept_documents(rung):
        kept_C = kept_D[documents_C]
        idf_V = _idf(np.bincount(words_C[kept_C], minlength=span), int(kept_D.sum()))
        # Rows that are left out are weighed as well: cheaper than to copy all the others.
        rows_D = _row_sums(documents_C, times_C * idf_V[words_C])
        sums.append(Ratio(math.fsum(rows_D[kept_D].tolist()), int(kept_C.sum())))
    return sums


def _kept_documents(rung: RungSample) -> Iterator[npt.NDArray[np.bool_]]:
    groups_D = rung.groups_D
    if not rung.replicated:
        yield np.ones(len(groups_D), dtype=np.bool_)
        return
    for group in range(rung.groups):
        yield groups_D != group


def _idf(with_word_V: Ints, documents: int) -> npt.NDArray[np.float64]:
    idf: npt.NDArray[np.float64] = np.log((1 + documents) / (1 + with_word_V)) + 1
    return idf


def _row_sums(documents_C: Ints, weights_C: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the sum of each row after it was given the length 1; bincount adds in the order of the cells."""
    squares = np.bincount(documents_C, weights=weights_C * weights_C)
    sums: npt.NDArray[np.float64] = np.bincount(documents_C, weights=weights_C) / np.sqrt(squares)
    return sums
