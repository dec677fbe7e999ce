"""How alike documents are: the n-grams they have in common, the words to change from one to the next.

Documents are compared inside their group, so that a replicate is what the other groups add up to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from ouroscope.errors import Undefined
from services.analyzer.cells import Ints, count_cells
from services.analyzer.metrics.ngrams import NgramTable
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.rungs import Counts, RungSample

LONGEST_NGRAM = 4
"""Words of the longest n-grams of BLEU-4."""
COMPARED_WORDS = 500
"""Words after which a document is cut before distances are taken: time grows with the square of the length."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """What documents have in common with the other documents of their group, added up."""

    matches: tuple[int, ...]
    """n-grams that another document has as often, for n = 1 to 4."""
    ngrams: tuple[int, ...]
    """All n-grams, for n = 1 to 4."""
    words: int
    """Words of the documents that were compared."""
    reference_words: int
    """Words of the other document whose length is closest to each, the shorter of two as close."""


def self_bleu_4(overlap: Overlap) -> float:
    """Return the corpus BLEU-4 of every document against the other documents of its group.

        B exp(1/4 sum over n = 1..4 of ln(m_n / t_n))          B = min(1, exp(1 - r / c))

    t_n = n-grams of length n; m_n = those matched, an n-gram of a document at most as often as the other document that
    has it most often; c = words; r = words of the other documents of the closest lengths. Range [0, 1], no unit; rises
    under collapse. It is 0, a true 0, where no 4 words in a row stand in two documents of a group: nothing is smoothed.
    Undefined where no group has two documents, or none of them has 4 words. Bias: rises with the number of documents
    in a group, so it is lower than over the whole sample. Source: Zhu et al. (2018), Texygen; BLEU: Papineni et al.
    (2002).

    >>> self_bleu_4(Overlap(matches=(10, 8, 6, 4), ngrams=(10, 8, 6, 4), words=10, reference_words=10))
    1.0
    """
    if not overlap.words:
        raise Undefined("no group has two documents")
    if not overlap.ngrams[-1]:
        raise Undefined("no document is long enough")
    if not all(overlap.matches):
        return 0.0
    shares = (math.log(found / of) for found, of in zip(overlap.matches, overlap.ngrams, strict=True))
    brevity = min(0.0, 1 - overlap.reference_words / overlap.words)
    return math.exp(brevity + math.fsum(shares) / LONGEST_NGRAM)


def levenshtein_diversity(distances: Ratio) -> float:
    """Return the mean share of words that must change to make a document its neighbour in the sample.

        mean over pairs of d(a, b) / max(|a|, |b|)          d = fewest words to insert, delete or replace

    `distances` holds the shares added up, and the pairs. A pair is two documents of a group one after the other, in
    the order of sampling, which is random by a keyed hash. Range [0, 1], no unit; falls under collapse. Undefined
    where no group has two documents. Bias: little in N; documents are cut at 500 words; the documents of one cluster
    are neighbours, so corpora of many short pieces of one source get smaller values. Source: Briesch et al. (2023),
    Large language models suffer from their own output; here over words.

    >>> levenshtein_diversity(Ratio(over=1.5, under=2))
    0.75
    """
    if not distances.under:
        raise Undefined("no group has two documents")
    return distances.over / distances.under


def overlaps(rung: RungSample, tables: Iterable[NgramTable]) -> list[Overlap]:
    """Return the overlap of each replicate; `tables` are those of the n-grams with n = 1 to 4."""
    groups_D = rung.groups_D
    lengths = _lengths(rung, groups_D)
    counts = np.array([row for table in tables for row in _matches(table, rung, groups_D)] + lengths)
    # A document alone in its group has nothing to be compared with.
    counts *= np.bincount(groups_D, minlength=rung.groups) > 1
    columns = rung.leave_one_out(counts).T.tolist()
    return [Overlap(tuple(one[:-2:2]), tuple(one[1:-2:2]), one[-2], one[-1]) for one in columns]


def _matches(table: NgramTable, rung: RungSample, groups_D: npt.NDArray[np.int32]) -> list[Counts]:
    """Return, for each group, the n-grams that another document has too, and all n-grams.

    The document that has an n-gram most often finds it in others only as often as the second most has it; any other
    document finds all it has.
    """
    total = np.bincount(rung.groups_N[table.starts], minlength=rung.groups)
    cells, times = count_cells([table.codes.astype(np.int64) * len(groups_D) + rung.documents_N[table.starts]])
    codes, documents = cells // len(groups_D), cells % len(groups_D)
    most, second, groups = _two_largest(codes * rung.groups + groups_D[documents], times, rung.groups)
    unmatched = np.bincount(groups, weights=most - second, minlength=rung.groups).astype(np.int64)
    return [total - unmatched, total]


def _two_largest(places: Ints, times: Ints, groups: int) -> tuple[Ints, Ints, Ints]:
    """Return the largest and second largest of the `times` at each place (0 if it has one), and its group."""
    span = int(times.max(initial=0)) + 1
    places, times = np.divmod(np.sort(places * span + times), span)
    again = np.diff(places, prepend=-1) == 0
    largest = np.flatnonzero(~np.append(again[1:], False)[: len(places)])
    second = np.where(again[largest], times[largest - 1], 0)
    return times[largest], second, places[largest] % groups


def _lengths(rung: RungSample, groups_D: npt.NDArray[np.int32]) -> list[Counts]:
    """Return, for each group, the words of its documents, and those of the closest other document of each."""
    order = np.lexsort((rung.used_D, groups_D))
    lengths, groups = rung.used_D[order].astype(np.int64), groups_D[order]
    far = len(rung.words_N) + 1
    gaps = np.where(np.diff(groups) == 0, np.diff(lengths), far)
    before, after = np.concatenate([[far], gaps]), np.concatenate([gaps, [far]])
    closest = np.where(before <= after, lengths - before, lengths + after)
    by_group = (np.bincount(groups, weights=words, minlength=rung.groups) for words in (lengths, closest))
    return [words.astype(np.int64) for words in by_group]


def neighbour_distances(rung: RungSample) -> list[Ratio]:
    """Return, for each replicate, the relative distances of neighbouring documents added up, and their number."""
    documents, groups = _as_strings(rung), rung.groups_D.tolist()
    of_group: list[list[float]] = [[] for _ in range(rung.groups)]
    for (one, group), (other, next_group) in itertools.pairwise(zip(documents, groups, strict=True)):
        if group == next_group:
            of_group[group].append(Levenshtein.distance(one, other) / max(len(one), len(other)))
    sums, pairs = [math.fsum(shares) for shares in of_group], [len(shares) for shares in of_group]
    if not rung.replicated:
        return [Ratio(sums[0], pairs[0])]
    return [Ratio(math.fsum(sums[:g] + sums[g + 1 :]), sum(pairs) - pairs[g]) for g in range(rung.groups)]


def _as_strings(rung: RungSample) -> list[str]:
    """Return each document, cut, with a character for each word: what the library compares fastest.

    A sample has fewer words than there are characters (1,114,112).
    """
    text = rung.words_N.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    ends = np.cumsum(rung.used_D).tolist()
    starts = [0, *ends[:-1]]
    return [text[start : min(end, start + COMPARED_WORDS)] for start, end in zip(starts, ends, strict=True)]
