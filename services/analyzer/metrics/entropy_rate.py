"""Entropy rate of running text by match lengths: how much of the next words the words before give away.

Shapes: N = words of the rung; positions within a group count from 0.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.rungs import RungSample

LONGEST_MATCH = 50
"""Words at which a match is cut off, so that a text in a loop takes bounded time."""


def entropy_rate(matches: list[int]) -> float:
    """Return the Kontoyiannis estimate of the entropy rate, from match lengths.

        h = 1 / (1/n sum over i of L_i / ln(i + 1))          L_i = length of the shortest run of words from i on that
        does
                                                             not stand before i

    Range (0, oo), in nats a word; falls under collapse. Undefined without words. Bias: too high for short text; falls
    with n, and the mean is over the groups of a sample, whose documents are laid end to end. Matches are cut off at
    50 words. Source: Kontoyiannis et al. (1998), IEEE Transactions on Information Theory 44(3).

    >>> round(entropy_rate([1, 1, 3, 2]), 4)  # "a b a b"
    0.6945
    """
    if not matches:
        raise Undefined("no words")
    logarithms = np.log(np.arange(2, len(matches) + 2))
    return len(matches) / math.fsum((np.array(matches) / logarithms).tolist())


def match_lengths(rung: RungSample) -> list[list[int]]:
    """Return L_i of every word, by group: 1 + the length of the longest run from i on that stands before i."""
    share = np.bincount(rung.groups_N, minlength=rung.groups)
    begins = np.concatenate([[0], np.cumsum(share)])
    group = rung.groups_N.astype(np.int64)
    place = np.arange(len(group)) - begins[group]
    lengths = np.ones(len(group), dtype=np.int64)
    codes = group * len(rung.lexicon) + rung.words_N
    where = np.arange(len(group))
    for length in range(1, LONGEST_MATCH):
        where, codes = _repeated(where, codes)
        if not len(where):
            break
        first = where[np.unique(codes, return_index=True)[1]][codes]
        lengths[where] += place[first] + length <= place[where]
        inside = where + length < begins[group[where] + 1]
        where, codes = where[inside], codes[inside]
        codes = codes * len(rung.lexicon) + rung.words_N[where + length]
    return [part.tolist() for part in np.split(lengths, begins[1:-1])]


def _repeated(
    where: npt.NDArray[np.int64], codes: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keep the positions whose run occurs twice or more, and name the runs by dense codes; no other can match."""
    _, dense, times = np.unique(codes, return_inverse=True, return_counts=True)
    kept = times[dense] > 1
    return where[kept], np.unique(dense[kept], return_inverse=True)[1].astype(np.int64)
