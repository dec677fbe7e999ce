"""Near copies in a pool: which documents are the first of their cluster. Holds keys of words, no text.

Clusters are closed: a near-copy of a near-copy belongs to the cluster as well, whichever of them comes first.
Source: Lee et al. (2022), Deduplicating training data makes language models better.

Shapes: N = words of the pool, D = documents, S = different sets of shingles.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ouroscope.errors import LimitExceeded
from services.analyzer.cells import Ints
from services.analyzer.keys import word_keys
from services.analyzer.metrics.duplicates import ShingleSets, distinct, near_pairs, shingle_sets

MOST_WORDS = 10_000_000
"""Words of a pool that are compared: some 100 bytes of memory each."""
_FINEST = 1_000_000
# Thresholds are read as fractions, so that 0.8 is 4/5; with numerators that keep products of counts within 64 bits.


class WordKeys:
    """The words of documents, one after the other, as 64-bit keys."""

    def __init__(self) -> None:
        self._keys = array("Q")
        self._lengths = array("q")

    def add(self, words: Sequence[str]) -> None:
        """Take in the words of the next document.

        Raises:
            LimitExceeded: those before it had too many.
        """
        if len(self._keys) + len(words) > MOST_WORDS:
            raise LimitExceeded(f"near copies are sought among {MOST_WORDS} words at most; give fewer corpora at once")
        self._keys.frombytes(word_keys(words).tobytes())
        self._lengths.append(len(words))

    def firsts(self, threshold: float, check: Callable[[], None]) -> list[bool]:
        """Return whether each document is the first of its cluster; those without words are copies of each other.

        Args:
            threshold: Jaccard similarity of sets of runs of 5 words from which two documents are copies, in (0, 1].
            check: is called now and then; what it raises ends the work.
        """
        lengths_D = np.asarray(self._lengths, dtype=np.int64)
        clusters_D = np.zeros(len(lengths_D), dtype=np.int64)
        worded_D = lengths_D > 0
        if worded_D.any():
            numbers_N = np.repeat(np.arange(int(worded_D.sum())), lengths_D[worded_D])
            keys_N = np.asarray(self._keys, dtype=np.uint64)
            sets, sets_D = distinct(shingle_sets(keys_N, numbers_N, lengths_D[worded_D]))
            clusters_D[worded_D] = 1 + clusters(sets, threshold, check)[sets_D]
        _, first = np.unique(clusters_D, return_index=True)
        firsts: list[bool] = np.isin(np.arange(len(clusters_D)), first).tolist()
        return firsts


def clusters(sets: ShingleSets, threshold: float, check: Callable[[], None]) -> Ints:
    """Return the number of the cluster of each set."""
    near = max(Fraction(str(threshold)).limit_denominator(_FINEST), Fraction(1, _FINEST))
    clusters_S = np.arange(len(sets.sizes_S))

    def apart(first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
        return np.not_equal(clusters_S[first], clusters_S[second])

    for first, second in near_pairs(sets, near, apart):
        check()
        if len(first):
            clusters_S = _joined(clusters_S, first, second)
    return clusters_S


def _joined(clusters_S: Ints, first: Ints, second: Ints) -> Ints:
    ends = clusters_S[first], clusters_S[second]
    size = len(clusters_S)
    links = coo_array((np.ones(len(first), dtype=np.bool_), ends), shape=(size, size))
    joined: Ints = connected_components(links, directed=False)[1].astype(np.int64)[clusters_S]
    return joined
