"""Documents that are nearly copies of others. MinHash finds which to compare; what counts is compared exactly.

Shapes: D = documents, S = different sets of shingles, C = cells (set, shingle). A shingle is a run of 5 words; words
enter by their keys, so that nothing depends on how a sample numbers them. Sets are told apart by 64-bit hashes: among
500,000 shingles two fall together once in 10^8 samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.cells import Ints, count_cells
from services.analyzer.keys import mix
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.rungs import RungSample

SHINGLE = 5
"""Words of a shingle."""
NEAR = Fraction(4, 5)
"""J from which two documents are near-copies."""
_PERMUTATIONS = 128
_ROWS = ((Fraction(7, 10), 4), (Fraction(3, 10), 2), (Fraction(0), 1))
# Rows of a band by the least J that is sought. With J = .8 two sets agree in all 4 rows of a band with .41: in none of
# 32 bands in 1 of 2 * 10^7 pairs. At each of the bounds at most 1 pair of 400 is missed; below .05 many are.
_NEIGHBOURS = 8
# The sets before and after, in each band, that a set is compared with: a hostile corpus cannot ask for all pairs.

Hashes = npt.NDArray[np.uint64]
Masks = npt.NDArray[np.uint32]
"""Groups as bits."""
Worth = Callable[[Ints, Ints], npt.NDArray[np.bool_]]

_SEEDS = mix(np.arange(1, 2 * _PERMUTATIONS + 1, dtype=np.uint64)).reshape(2, _PERMUTATIONS)


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
class ShingleSets:
    """Sets of shingles, one after the other, the shingles of each in rising order."""

    sizes_S: Ints
    sets_C: Ints
    codes_C: Ints
    """Dense codes of shingles, equal for equal shingles."""
    hashes_C: Hashes

    def take(self, kept_S: npt.NDArray[np.bool_]) -> ShingleSets:
        """Return some of the sets, numbered anew."""
        kept_C = kept_S[self.sets_C]
        numbers_S = np.cumsum(kept_S) - 1
        return ShingleSets(
            self.sizes_S[kept_S], numbers_S[self.sets_C[kept_C]], self.codes_C[kept_C], self.hashes_C[kept_C]
        )

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

    def alike(self, first: Ints, second: Ints, near: Fraction) -> npt.NDArray[np.bool_]:
        """Return whether J >= `near` for each pair, in integers: 9 |a and b| >= 4 (|a| + |b|) where it is 4/5."""
        sizes = self.sizes_S[first]
        pairs = np.repeat(np.arange(len(first)), sizes)
        within = np.arange(len(pairs)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        sought = second[pairs] * self._span + self.codes_C[self.starts_S[first][pairs] + within]
        places = np.minimum(np.searchsorted(self.cells_C, sought), len(self.cells_C) - 1)
        found = self.cells_C[places] == sought
        common = np.bincount(pairs[found], minlength=len(first))
        part, whole = near.as_integer_ratio()
        alike: npt.NDArray[np.bool_] = (part + whole) * common >= part * (sizes + self.sizes_S[second])
        return alike


def near_duplicates(rung: RungSample) -> list[Ratio]:
    """Return, for each replicate, the documents that have a near-copy in it, and all its documents."""
    groups_D = rung.groups_D
    sets, sets_D = distinct(shingle_sets(rung.lexicon.keys_V[rung.words_N], rung.documents_N, rung.used_D))
    groups_S = np.zeros(len(sets.sizes_S), dtype=np.uint32)
    np.bitwise_or.at(groups_S, sets_D, np.left_shift(np.uint32(1), groups_D.astype(np.uint32)))
    near_S = _groups_near(sets, groups_S, enough=min(2, rung.groups))
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


def shingle_sets(keys_N: Hashes, documents_N: npt.NDArray[np.integer[Any]], used_D: npt.ArrayLike) -> ShingleSets:
    """Return the shingles of each document, from the keys of its words; every document has `used_D` words, at least 1.

    `documents_N` has the number of the document of each word; it rises.
    """
    lengths_D = np.asarray(used_D, dtype=np.int64)
    starts_D = np.cumsum(lengths_D) - lengths_D
    last_D = starts_D + np.maximum(lengths_D - SHINGLE, 0)
    begins = np.arange(len(keys_N)) <= last_D[documents_N]
    hashes_U, codes = np.unique(_runs(keys_N, documents_N)[begins], return_inverse=True)
    cells_C, _ = count_cells([documents_N[begins].astype(np.int64) * len(hashes_U) + codes])
    documents_C, codes_C = np.divmod(cells_C, len(hashes_U))
    return ShingleSets(np.bincount(documents_C), documents_C, codes_C, hashes_U[codes_C])


def _runs(keys_N: Hashes, documents_N: npt.NDArray[np.integer[Any]]) -> Hashes:
    """Return a hash of the 5 words that start at each word, or of those that its document still has."""
    runs_N = keys_N.copy()
    for step in range(1, SHINGLE):
        goes_on = documents_N[step:] == documents_N[:-step]
        runs_N[:-step][goes_on] = mix(runs_N[:-step][goes_on]) + keys_N[step:][goes_on]
    return runs_N


def distinct(documents: ShingleSets) -> tuple[ShingleSets, Ints]:
    """Return the different sets in the order of the first document of each, and the set of each document.

    Equal sets are one from here on: however many copies there are, they cost no comparison.
    """
    _, first, sets_D = np.unique(documents.digests_S(), return_index=True, return_inverse=True)
    kept_D = np.zeros(len(sets_D), dtype=np.bool_)
    kept_D[first] = True
    numbers_D = np.cumsum(kept_D) - 1
    return documents.take(kept_D), numbers_D[first][sets_D]


def near_pairs(sets: ShingleSets, near: Fraction, worth: Worth) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs of different sets whose J is at least `near`; no set twice on one side of a yield.

    Args:
        sets: no two of them equal.
        near: in (0, 1].
        worth: is asked before pairs are compared which of them are worth it, and hears of all that came before.
    """
    searched_S = _may_be_near(sets, near)
    if not searched_S.any():
        return
    searched, numbers = sets.take(searched_S), np.flatnonzero(searched_S)
    for first, second in _candidates(searched, _rows(near)):
        wanted = worth(numbers[first], numbers[second])
        wanted &= _close_in_size(searched.sizes_S[first], searched.sizes_S[second], near)
        first, second = first[wanted], second[wanted]
        alike = searched.alike(first, second, near)
        yield numbers[first[alike]], numbers[second[alike]]


def _groups_near(sets: ShingleSets, groups_S: Masks, enough: int) -> Masks:
    """Return the groups in which each set has a near-duplicate other than itself.

    Where there are two groups it is enough to know two: no replicate lacks both.
    """
    near_S = np.zeros(len(groups_S), dtype=np.uint32)

    def is_open(first: Ints, second: Ints) -> npt.NDArray[np.bool_]:
        return (np.bitwise_count(near_S[first]) < enough) | (np.bitwise_count(near_S[second]) < enough)

    for first, second in near_pairs(sets, NEAR, is_open):
        near_S[first] |= groups_S[second]
        near_S[second] |= groups_S[first]
    return near_S


def _may_be_near(sets: ShingleSets, near: Fraction) -> npt.NDArray[np.bool_]:
    """Return whether enough shingles of each set stand in others: in ordinary text this leaves next to none.

    A set so small that one shingle more or less is too much has no near-copy but its equal.
    """
    part, whole = near.as_integer_ratio()
    shared_C = np.bincount(sets.codes_C)[sets.codes_C] > 1
    shared_S = np.bincount(sets.sets_C[shared_C], minlength=len(sets.sizes_S))
    return (whole * shared_S >= part * sets.sizes_S) & (whole * sets.sizes_S >= part * (sets.sizes_S + 1))


def _close_in_size(one: Ints, other: Ints, near: Fraction) -> npt.NDArray[np.bool_]:
    part, whole = near.as_integer_ratio()
    close: npt.NDArray[np.bool_] = whole * np.minimum(one, other) >= part * np.maximum(one, other)
    return close


def _rows(near: Fraction) -> int:
    return next(rows for least, rows in _ROWS if near >= least)


def _candidates(sets: ShingleSets, rows: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield pairs that agree in a band; no set twice on one side of a yield.

    Sets that agree in a band lie in the order of the next band, so that those that agree in both are neighbours.
    """
    seeds = _SEEDS.reshape(2, -1, rows)
    bands = [_band(sets, seeds[:, band]) for band in range(seeds.shape[1])]
    for band, keys in enumerate(bands):
        order = np.lexsort((bands[(band + 1) % len(bands)], keys))
        for step in range(1, _NEIGHBOURS + 1):
            agree = keys[order[step:]] == keys[order[:-step]]
            yield order[:-step][agree], order[step:][agree]


def _band(sets: ShingleSets, seeds: Hashes) -> Hashes:
    """Return a hash of the smallest shingle of each set under each permutation of a band."""
    keys_S = np.zeros(len(sets.sizes_S), dtype=np.uint64)
    for factor, addend in zip(*seeds, strict=True):
        # Odd factors make permutations of the 64-bit numbers.
        smallest = np.minimum.reduceat(sets.hashes_C * (factor | np.uint64(1)) + addend, sets.starts_S)
        keys_S = mix(keys_S + smallest)
    return keys_S
