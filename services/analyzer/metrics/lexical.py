"""Diversity of the vocabulary of one sample. Takes frequency spectra of words; knows nothing of documents or order.

Symbols: N = words, V = different words (types), f_m = types that occur m times, p = share of a type. All fall or rise
with N even for unchanged style, so they are compared at one token budget only.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.metrics.spectrum import Spectrum

HDD_DRAWS = 42
HEAD = 100
"""Most frequent types that make up the head."""
UNIFORM_VOCABULARY = 50_000
"""Types of the imaginary uniform source of `expectation_adjusted_distinct`."""


def types(words: Spectrum) -> float:
    """Return the number of different words.

        V

    Range [1, N], in words; falls under collapse. Undefined without words. Bias: grows with N (Heaps' law); case and
    inflection make different words. Source: Herdan (1960), Type-token mathematics.

    Nominal 95 % intervals held the truth in 95 to 97 % of 300 samples of each of four human corpora.

    >>> types(Spectrum.of_counts([4, 2, 1, 1]))
    4.0
    """
    words.require("words")
    return float(words.types)


def type_token_ratio(words: Spectrum) -> float:
    """Return the share of different words among all words.

        TTR = V / N

    Range (0, 1], no unit; falls under collapse. Undefined without words. Bias: falls with N, and the ratio of a
    corpus may rise while single texts become poorer. Source: Johnson (1944), Psychological Monographs 56(2).

    >>> type_token_ratio(Spectrum.of_counts([4, 2, 1, 1]))
    0.5
    """
    words.require("words")
    return words.types / words.total


def token_entropy(words: Spectrum) -> float:
    """Return the Shannon entropy of the distribution of words.

        H = -sum over types of p ln p

    Range [0, ln V], in nats; falls under collapse. Undefined without words. Bias: the plug-in estimate is too low by
    about (V - 1) / 2N. Source: Shannon (1948), A mathematical theory of communication.

    Nominal 95 % intervals held the truth in 94 to 96 % of 300 samples of each of four human corpora.

    >>> round(token_entropy(Spectrum.of_counts([4, 2, 1, 1])) / math.log(2), 4)  # in bits
    1.75
    """
    words.require("words")
    return words.entropy


def normalized_entropy_by_tokens(words: Spectrum) -> float:
    """Return the entropy of words as a share of its greatest value for N words.

        H / ln N

    Range [0, 1], no unit; falls under collapse. Undefined below 2 words. Bias: falls with N. This is the form that
    the published research code computes, and it sees text that loops. Source: arXiv 2410.12341, code of versions 1 to
    3.

    Nominal 95 % intervals held the truth in 94 to 96 % of 300 samples of each of four human corpora.

    >>> round(normalized_entropy_by_tokens(Spectrum.of_counts([4, 2, 1, 1])), 4)
    0.5833
    >>> round(normalized_entropy_by_tokens(Spectrum.of_counts([20] * 4)), 3)  # "the church is a", 20 times
    0.316
    """
    if words.total < 2:
        raise Undefined("fewer than 2 words")
    return words.entropy / math.log(words.total)


def normalized_entropy_by_types(words: Spectrum) -> float:
    """Return the entropy of words as a share of its greatest value for V different words.

        H / ln V

    Range [0, 1], no unit; falls under collapse. Undefined below 2 different words. Bias: blind to a text that loops
    as a whole, which leaves p unchanged. Source: arXiv 2410.12341, text of version 3.

    >>> round(normalized_entropy_by_types(Spectrum.of_counts([4, 2, 1, 1])), 4)
    0.875
    >>> round(normalized_entropy_by_types(Spectrum.of_counts([20] * 4)), 3)  # blind to the loop
    1.0
    """
    if words.types < 2:
        raise Undefined("fewer than 2 different words")
    return min(1.0, words.entropy / math.log(words.types))


def hapax_share(words: Spectrum) -> float:
    """Return the share of words that occur once among the different words.

        f_1 / V

    Range [0, 1], no unit; falls under collapse. Undefined without words. Bias: falls slowly with N; whole documents
    that are repeated may raise it at a fixed budget. Source: Baayen (2001), Word frequency distributions.

    >>> hapax_share(Spectrum.of_counts([4, 2, 1, 1]))
    0.5
    """
    words.require("words")
    return words.types_with[0] / words.types if words.occurrences[0] == 1 else 0.0


def yule_k(words: Spectrum) -> float:
    """Return Yule's characteristic K: how likely two words drawn at random are the same, times ten thousand.

        K = 10^4 (sum over m of m^2 f_m - N) / N^2

    Range [0, 10^4), a pure number; rises under collapse. Undefined without words. Bias: nearly none in N, but it sees
    the most frequent words only. Source: Yule (1944), The statistical study of literary vocabulary.

    >>> yule_k(Spectrum.of_counts([4, 2, 1, 1]))  # (16 + 4 + 2 - 8) / 64
    2187.5
    """
    words.require("words")
    squares = sum(m * m * f for m, f in zip(words.occurrences, words.types_with, strict=True))
    return 10_000 * (squares - words.total) / words.total**2


def hdd(words: Spectrum) -> float:
    """Return HD-D: the type-token ratio to be expected of 42 words drawn at random without replacement.

        HD-D = 1/42 sum over types of (1 - C(N - m, 42) / C(N, 42))          m = occurrences of the type

    Range (0, 1], no unit; falls under collapse. Undefined below 42 words. Bias: none in N, but frequent function
    words dominate. Source: McCarthy and Jarvis (2007), Language Testing 24(4).

    >>> round(hdd(Spectrum.of_counts([21, 21])), 4)
    0.0476
    """
    if words.total < HDD_DRAWS:
        raise Undefined(f"fewer than {HDD_DRAWS} words")
    others = words.total - np.array(words.occurrences, dtype=np.float64)
    missing = np.ones_like(others)
    for drawn in range(HDD_DRAWS):
        missing *= np.maximum(0.0, others - drawn) / (words.total - drawn)
    return math.fsum((np.array(words.types_with) * (1 - missing)).tolist()) / HDD_DRAWS


def zipf_exponent(words: Spectrum) -> float:
    """Return how steeply frequency falls with rank.

        -slope of the least-squares line through (ln rank, ln occurrences), all types

    Range [0, oo), a pure number, about 1 in ordinary text; rises under collapse. Undefined below 2 different words.
    Bias: the long step of words that occur once pulls it down; grows with N. Source: Zipf (1949), Human behavior and
    the principle of least effort.

    >>> round(zipf_exponent(Spectrum.of_counts([1200 // rank for rank in range(1, 7)])), 3)
    1.0
    """
    if words.types < 2:
        raise Undefined("fewer than 2 different words")
    sums, squares = _log_rank_sums(2 ** (words.types - 1).bit_length())
    last = 0
    cross, heights = [], []
    for m, f in zip(reversed(words.occurrences), reversed(words.types_with), strict=True):
        cross.append(math.log(m) * float(sums[last + f] - sums[last]))
        heights.append(f * math.log(m))
        last += f
    width = float(squares[last]) - float(sums[last]) ** 2 / last
    return max(0.0, -(math.fsum(cross) - float(sums[last]) * math.fsum(heights) / last) / width)


@cache
def _log_rank_sums(ranks: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return sums of ln r and of its square over ranks 1..n, for n = 0..ranks."""
    logs = np.log(np.arange(1, ranks + 1, dtype=np.float64))
    return np.concatenate([[0.0], np.cumsum(logs)]), np.concatenate([[0.0], np.cumsum(logs**2)])


def head_share(words: Spectrum) -> float:
    """Return the share of all words that the 100 most frequent ones make up.

        sum over the 100 most frequent types of p

    Range (0, 1], no unit; rises under collapse. Undefined without words. Bias: 1 where there are at most 100
    different words; falls slowly with N. Source: Dohmatob et al. (2024), A tale of tails.

    >>> head_share(Spectrum.of_counts([3] * 100 + [1] * 100))
    0.75
    """
    words.require("words")
    return words.top(HEAD) / words.total


def expectation_adjusted_distinct(words: Spectrum) -> float:
    """Return the number of different words against what N words from a uniform source of 50,000 would give.

        EAD = V / (U (1 - ((U - 1) / U)^N))          U = 50,000

    Range (0, oo), below 1 in practice, no unit; falls under collapse. Undefined without words. Bias: the uniform
    source is a convention; text is far from it. Source: Liu et al. (2022), Rethinking and refining the distinct
    metric; used by Kirk et al. (2024).

    >>> round(expectation_adjusted_distinct(Spectrum.of_counts([4, 2, 1, 1])), 4)
    0.5
    """
    words.require("words")
    return words.types / (UNIFORM_VOCABULARY * -math.expm1(words.total * math.log1p(-1 / UNIFORM_VOCABULARY)))
