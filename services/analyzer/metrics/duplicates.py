"""Documents that are nearly copies of others. MinHash finds which to compare; what counts is compared exactly.

Shapes: D = documents, S = different sets of shingles, C = cells (set, shingle). A shingle is a run of 5 words; words
enter by their keys, so that nothing depends on how a sample numbers them. Sets are told apart by 64-bit hashes: among
500,000 shingles two fall together once in 10^8 samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.cells import Ints, count_cells
from services.analyzer.keys import mix
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.rungs import RungSample

SHINGLE = 5
"""Words of a shingle."""
_BANDS, _ROWS = 32, 4
# 128 permutations. Two sets with J = .8 agree in all rows of a band with .41: in no band in 1 of 2 * 10^7 pairs.
_NEIGHBOURS = 8
# The sets before and after, in each band, that a set is compared with: a hostile corpus cannot ask for all pairs.
_SMALLEST = 4
# Shingles: a smaller set has J of at most 3/4 with any but its equal.

Hashes = npt.NDArray[np.uint64]
Masks = npt.NDArray[np.uint32]
"""Groups as bits."""

_SEEDS = mix(np.arange(1, 2 * _BANDS * _ROWS + 1, dtype=np.uint64)).reshape(2, _BANDS, _ROWS)


def near_duplicate_share(documents: Ratio) -> float:
    """Return the share of documents of which the sample holds a near-copy.

        documents with another whose J >= .8, of all          J = |a and b| / |a or b|, of sets of runs of 5 words

    A document of fewer than 5 words is one run. Range [0, 1], no unit; rises under collapse. It is 0, a true 0, where
    no document has a near-copy. Undefined without words. Bias: rises with N, since a larger sample holds more copies;
    a document cut by the budget (one in a group) is compared as it is cut. Each is compared with at most 512 others, so
    where thousands of documents are just below .8 some near-copies are missed (a seventh in a trial of 8,780 copies of
    one text of 60 words with 2 words changed in each; none in trials on other text). Source: Broder (1997), On the
    resemblance and containment of documents; Lee et al. (2022), Deduplicating training data.

    >>> near_duplicate_share(Ratio(over=2, under=8))
    0.25
    """
    if not documents.under:
        raise Undefined("no words")
    return documents.over / documents.under


@dataclass(frozen=True, eq=False)
class _Sets:
    """Sets of shingles, one after the other, the shingles of each in rising order."""

    sizes_S: Ints
    sets_C: Ints
    codes_C: Ints
    """Dense codes of shingles, equal for equal shingles."""
    hashes_C: Hashes

    def take(self, kept_S: npt.NDArray[np.bool_]) -> _Sets:
        """Return some of the sets, numbered anew."""
        kept_C = kept_S[self.sets_C]
        numbers_S = np.cumsum(kept_S) - 1
        return _Sets(self.sizes_S[kept_S], numbers_S[self.sets_C[kept_C]], self.codes_C[kept_C], self.hashes_C[kept_C])

    @cached_property
    def starts_S(self) -> Ints:
        """Return where each set begins."""
        return np.cumsum(self.sizes_S) - self.sizes_S

    @cached_property
    def cells_C(self) -> Ints:
        """Return a number for each set and shingle, rising."""
        return self.sets_C * self._span + self.codes_C

    @cached_property
    def _span(self) -> int:
        return int(self.codes_C.max()) + 1

    def digests_S(self) -> Hashes:
        """Return a hash of each set, which does not depend on the order of its shingles."""
        digests: Hashes = np.add.reduceat(mix(self.hashes_C), self.starts_S)
        return digests

    def alike(self, first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
        """Return whether J >= 4/5 for each pair, in integers: 9 |a and b| >= 4 (|a| + |b|)."""
        sizes = self.sizes_S[first]
        pairs = np.repeat(np.arange(len(first)), sizes)
        within = np.arange(len(pairs)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        sought = second[pairs] * self._span + self.codes_C[self.starts_S[first][pairs] + within]
        places = np.minimum(np.searchsorted(self.cells_C, sought), len(self.cells_C) - 1)
        found = self.cells_C[places] == sought
        common = np.bincount(pairs[found], minlength=len(first))
        alike: npt.NDArray[np.bool_] = 9 * common >= 4 * (sizes + self.sizes_S[second])
        return alike


def near_duplicates(rung: RungSample) -> list[Ratio]:
    """Return, for each replicate, the documents that have a near-copy in it, and all its documents."""
    groups_D, documents = rung.groups_D, _shingle_sets(rung)
    _, first, sets_D = np.unique(documents.digests_S(), return_index=True, return_inverse=True)
    # Equal sets are one from here on: however many copies there are, they cost no comparison.
    kept_D = np.zeros(len(groups_D), dtype=np.bool_)
    kept_D[first] = True
    numbers_D = np.cumsum(kept_D) - 1
    sets_D = numbers_D[first][sets_D]
    groups_S = np.zeros(len(first), dtype=np.uint32)
    np.bitwise_or.at(groups_S, sets_D, np.left_shift(np.uint32(1), groups_D.astype(np.uint32)))
    near_S = _groups_near(documents.take(kept_D), groups_S, enough=min(2, rung.groups))
    return [_with_copies(left_S, near_S, gone) for left_S, gone in _replicates(rung, sets_D, groups_D)]


def _replicates(rung: RungSample, sets_D: Ints, groups_D: npt.NDArray[np.int32]) -> Iterator[tuple[Ints, np.uint32]]:
    """Yield, for each replicate, how many documents each set has in it, and the group that is gone, as a bit."""
    total_S = np.bincount(sets_D)
    if not rung.replicated:
        yield total_S, np.uint32(0)
        return
    for group in range(rung.groups):
        yield total_S - np.bincount(sets_D[groups_D == group], minlength=len(total_S)), np.uint32(1 << group)


def _with_copies(left_S: Ints, near_S: Masks, gone: np.uint32) -> Ratio:
    copied_S = (left_S >= 2) | ((near_S & ~gone) > 0)
    return Ratio(int(left_S[copied_S].sum()), int(left_S.sum()))


def _shingle_sets(rung: RungSample) -> _Sets:
    """Return the shingles of each document."""
    starts_D = np.cumsum(rung.used_D, dtype=np.int64) - rung.used_D
    last_D = starts_D + np.maximum(rung.used_D - SHINGLE, 0)
    begins = np.arange(len(rung.words_N)) <= last_D[rung.documents_N]
    hashes_U, codes = np.unique(_runs(rung)[begins], return_inverse=True)
    cells_C, _ = count_cells([rung.documents_N[begins].astype(np.int64) * len(hashes_U) + codes])
    documents_C, codes_C = np.divmod(cells_C, len(hashes_U))
    return _Sets(np.bincount(documents_C), documents_C, codes_C, hashes_U[codes_C])


def _runs(rung: RungSample) -> Hashes:
    """Return a hash of the 5 words that start at each word, or of those that its document still has."""
    keys_N = rung.lexicon.keys_V[rung.words_N]
    runs_N = keys_N.copy()
    for step in range(1, SHINGLE):
        goes_on = rung.documents_N[step:] == rung.documents_N[:-step]
        runs_N[:-step][goes_on] = mix(runs_N[:-step][goes_on]) + keys_N[step:][goes_on]
    return runs_N


def _groups_near(sets: _Sets, groups_S: Masks, enough: int) -> Masks:
    """Return the groups in which each set has a near-duplicate other than itself.

    Where there are two groups it is enough to know two: no replicate lacks both.
    """
    near_S = np.zeros(len(groups_S), dtype=np.uint32)
    searched_S = _may_be_near(sets)
    if not searched_S.any():
        return near_S
    sets, groups, near = sets.take(searched_S), groups_S[searched_S], near_S[searched_S]
    for first, second in _candidates(sets):
        is_open = np.bitwise_count(near) < enough
        worth = (is_open[first] | is_open[second]) & _close_in_size(sets.sizes_S[first], sets.sizes_S[second])
        first, second = first[worth], second[worth]
        alike = sets.alike(first, second)
        first, second = first[alike], second[alike]
        near[first] |= groups[second]
        near[second] |= groups[first]
    near_S[searched_S] = near
    return near_S


def _may_be_near(sets: _Sets) -> npt.NDArray[np.bool_]:
    """Return whether enough shingles of each set stand in others: in ordinary text this leaves next to none."""
    shared_C = np.bincount(sets.codes_C)[sets.codes_C] > 1
    shared_S = np.bincount(sets.sets_C[shared_C], minlength=len(sets.sizes_S))
    return (5 * shared_S >= 4 * sets.sizes_S) & (sets.sizes_S >= _SMALLEST)


def _close_in_size(one: Ints, other: Ints) -> npt.NDArray[np.bool_]:
    close: npt.NDArray[np.bool_] = 5 * np.minimum(one, other) >= 4 * np.maximum(one, other)
    return close


def _candidates(sets: _Sets) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs that agree in a band; no set twice on one side of a yield.

    Sets that agree in a band lie in the order of the next band, so that those that agree in both are neighbours.
    """
    bands = [_band(sets, band) for band in range(_BANDS)]
    for band, keys in enumerate(bands):
        order = np.lexsort((bands[(band + 1) % _BANDS], keys))
        for step in range(1, _NEIGHBOURS + 1):
            agree = keys[order[step:]] == keys[order[:-step]]
            yield order[:-step][agree], order[step:][agree]


def _band(sets: _Sets, band: int) -> Hashes:
    """Return a hash of the smallest shingle of each set under each permutation of a band."""
    keys_S = np.zeros(len(sets.sizes_S), dtype=np.uint64)
    for factor, addend in zip(*_SEEDS[:, band], strict=True):
        # Odd factors make permutations of the 64-bit numbers.
        smallest = np.minimum.reduceat(sets.hashes_C * (factor | np.uint64(1)) + addend, sets.starts_S)
        keys_S = mix(keys_S + smallest)
    return keys_S
