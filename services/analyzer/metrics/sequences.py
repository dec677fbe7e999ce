"""Measures of running text: how soon words come back, how well the text compresses. Takes word ids in order.

The documents of one group are laid end to end in the order of sampling, since the documents of a loop are often
shorter than a window of 50 words (with windows kept inside documents, MATTR had no value for any document of the
default run, of about 35 words).
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined
from services.analyzer.rungs import Counts, RungSample

WINDOW = 50
"""Words of a window of MATTR."""
MTLD_THRESHOLD = 0.72
_COMPRESSION_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Ratio:
    """Two sums over a stretch of text."""

    over: float
    under: float


def mattr(windows: Ratio) -> float:
    """Return the moving-average type-token ratio: the mean over all windows of 50 words.

        MATTR = mean over windows of (different words in the window) / 50

    `windows` holds the different words of all windows, and their words. Range (0, 1], no unit; falls under collapse.
    Undefined below 50 words. Bias: none in N. Windows span neighbouring documents. Source: Covington and McFall
    (2010), Journal of Quantitative Linguistics 17(2).

    Nominal 95 % intervals held the truth in 93 to 97 % of 300 samples of each of four human corpora.

    >>> mattr(Ratio(over=75, under=100))
    0.75
    """
    if not windows.under:
        raise Undefined(f"fewer than {WINDOW} words")
    return windows.over / windows.under


def mtld(words: list[int]) -> float:
    """Return MTLD: the mean length of runs of words whose type-token ratio stays above .72.

        MTLD = mean of N / factors, read forwards and backwards          factors = finished runs + the share of the
        last one

    Range [1, oo), in words; falls under collapse. Undefined where no word is repeated. Bias: little in N; the mean
    over the groups of a sample. Source: McCarthy and Jarvis (2010), Behavior Research Methods 42(2).

    >>> mtld([1, 1, 1, 1])
    2.0
    """
    forwards, backwards = _factors(words), _factors(words[::-1])
    if not forwards or not backwards:
        raise Undefined("no word is repeated")
    return (len(words) / forwards + len(words) / backwards) / 2


def compression_ratio(sizes: Ratio) -> float:
    """Return how many times smaller the text gets when compressed.

        bytes / bytes after DEFLATE (zlib, level 6)          lower-cased words, blanks between, a line for a document

    Range (0, oo), about 2.5 in ordinary text, no unit; rises under collapse. Undefined without words. Bias: grows
    with N; the last digits depend on the zlib that is installed. Source: Shaib et al. (2024), Standardizing the
    measurement of text diversity.

    >>> compression_ratio(Ratio(over=500, under=200))
    2.5
    """
    if not sizes.under:
        raise Undefined("no words")
    return sizes.over / sizes.under


def window_sums(rung: RungSample) -> tuple[Counts, Counts]:
    """Return, for each group, the different words of all its windows added up, and the words of its windows."""
    pieces = [_window_types(piece) for piece in streams(rung)]
    windows = [max(0, len(piece) - WINDOW + 1) * WINDOW for piece in streams(rung)]
    return np.array(pieces, dtype=np.int64), np.array(windows, dtype=np.int64)


def _window_types(words: npt.NDArray[np.int32]) -> int:
    """Add up the different words of every window of `words`.

    The word at i is the first of its kind in the windows that start after its previous occurrence and hold i.
    """
    windows = len(words) - WINDOW + 1
    if windows <= 0:
        return 0
    order = np.argsort(words, kind="stable")
    same = words[order[1:]] == words[order[:-1]]
    previous = np.full(len(words), -1)
    previous[order[1:][same]] = order[:-1][same]
    here = np.arange(len(words))
    first = np.maximum(previous, here - WINDOW) + 1
    last = np.minimum(here, windows - 1)
    return int(np.maximum(0, last - np.maximum(first, 0) + 1).sum())


def _factors(words: list[int]) -> float:
    finished, length = 0, 0
    seen: set[int] = set()
    for word in words:
        length += 1
        seen.add(word)
        # At one word the ratio is 1, so the smallest finished run has 2.
        if len(seen) <= MTLD_THRESHOLD * length:
            finished += 1
            length = 0
            seen = set()
    unfinished = (1 - len(seen) / length) / (1 - MTLD_THRESHOLD) if length else 0.0
    return finished + unfinished


def compressed_sizes(rung: RungSample) -> tuple[Counts, Counts]:
    """Return, for each group, the bytes of its words as text and after compression."""
    plain = [_as_text(rung, group) for group in range(rung.groups)]
    packed = [len(zlib.compress(text, _COMPRESSION_LEVEL)) if text else 0 for text in plain]
    return np.array([len(text) for text in plain], dtype=np.int64), np.array(packed, dtype=np.int64)


def _as_text(rung: RungSample, group: int) -> bytes:
    inside = rung.groups_N == group
    words, documents = rung.words_N[inside].tolist(), rung.documents_N[inside]
    ends = np.flatnonzero(np.diff(documents, append=-1)) + 1
    lines = (words[start:end] for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    named = rung.lexicon.words
    return "\n".join(" ".join([named[word] for word in line]) for line in lines).encode("utf-8", "surrogatepass")


def streams(rung: RungSample) -> list[npt.NDArray[np.int32]]:
    """Return the words of each group, in the order of sampling."""
    bounds = np.searchsorted(rung.groups_N, np.arange(rung.groups + 1))
    return [rung.words_N[start:end] for start, end in itertools.pairwise(bounds.tolist())]
