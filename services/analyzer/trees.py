"""The parsed text of the largest rung: what all rungs share is worked out once, and each takes the tokens it uses.

A sentence of more than 128 tokens is cut into several, and a token whose head lies beyond the cut becomes a root. A
parser may hang two thousand tokens of a list on one word; the pairs among them would be two million relations, and say
little about any two. Shapes: T = tokens, S = sentences, F = cells (sentence, feature), K = groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.cells import Ints, count_cells
from services.analyzer.keys import mix
from services.analyzer.lexicon import Lexicon
from services.analyzer.metrics.trees import Kernel, Moments
from services.analyzer.network.edges import EdgeTable
from services.analyzer.network.syntactic import Meetings, meetings, syntactic
from services.analyzer.parsing.parsed import PARTS_OF_SPEECH, Parsed
from services.analyzer.rungs import RungSample

LONGEST_SENTENCE = 128
"""Tokens; longer sentences are cut."""
ITERATIONS = 2
"""Rounds of the Weisfeiler-Lehman kernel: a token is known by its tree up to so many steps away."""

_PUNCTUATION = PARTS_OF_SPEECH.index("PUNCT")
_ROUND = np.uint64(0x9E3779B97F4A7C15)

Floats = npt.NDArray[np.float64]


class Trees:
    """The trees of all documents of a sample."""

    def __init__(self, parsed: Parsed) -> None:
        self.parsed = cut_long_sentences(parsed)
        self.lexicon = Lexicon(parsed.lemmas)

    @cached_property
    def meetings(self) -> Meetings:
        """Return where concepts meet."""
        return meetings(self.parsed)

    @cached_property
    def first_S(self) -> Ints:
        """Return the first token of each sentence: the sentence belongs to a rung if this token does."""
        return np.flatnonzero(np.diff(self.parsed.sentence_T, prepend=-1))

    @cached_property
    def depth_S(self) -> Ints:
        """Return the most steps from the root of each sentence down to a token."""
        steps_T = steps_to_root(self.parsed.head_T)
        deepest_S: Ints = np.maximum.reduceat(steps_T, self.first_S) if len(self.first_S) else steps_T
        return deepest_S

    @cached_property
    def distances(self) -> tuple[Ints, Ints]:
        """Return the words that have a head, and how many words on or back it stands; punctuation is no word."""
        word_T = self.parsed.pos_T != _PUNCTUATION
        place_T = np.cumsum(word_T)
        own, head_T = np.arange(len(word_T)), self.parsed.head_T
        related = np.flatnonzero(word_T & word_T[head_T] & (head_T != own))
        return related, np.abs(place_T[related] - place_T[head_T[related]])

    @cached_property
    def features(self) -> Features:
        """Return what the kernel sees of each sentence."""
        return features(self.parsed)


@dataclass(frozen=True, eq=False)
class Features:
    """Sentences as vectors of length 1 over features: how often each label occurs in each round of the kernel."""

    sentence_F: Ints
    """Rising."""
    feature_F: Ints
    value_F: Floats


class RungTrees:
    """What one rung uses of the trees. Each method returns the replicates of its summary, as `MeasuredRung` does."""

    def __init__(self, trees: Trees, rung: RungSample) -> None:
        self._trees = trees
        self._rung = rung
        places = int(trees.parsed.document_T.max(initial=-1)) + 1
        used_D, group_D = np.zeros((2, max(places, int(rung.places_D[-1]) + 1)), dtype=np.int32)
        used_D[rung.places_D] = rung.used_D
        group_D[rung.places_D] = rung.groups_D
        self._kept_T = trees.parsed.word_T < used_D[trees.parsed.document_T]
        self._group_T = group_D[trees.parsed.document_T]

    @cached_property
    def network(self) -> EdgeTable:
        """Return the syntactic network."""
        trees = self._trees
        return syntactic(trees.meetings, trees.lexicon, self._kept_T, self._group_T, self._rung.groups)

    @cached_property
    def parts_of_speech_PK(self) -> Ints:
        """Count how often each part of speech stands in each group."""
        cells = self._trees.parsed.pos_T[self._kept_T].astype(np.int64) * self._rung.groups
        counts = np.bincount(cells + self._group_T[self._kept_T], minlength=len(PARTS_OF_SPEECH) * self._rung.groups)
        counts_PK: Ints = counts.reshape(len(PARTS_OF_SPEECH), self._rung.groups).astype(np.int64)
        return counts_PK

    @cached_property
    def depths(self) -> list[Moments]:
        """Return the depths of sentences."""
        return self._moments(self._trees.first_S, self._trees.depth_S)

    @cached_property
    def distances(self) -> list[Moments]:
        """Return the distances between words and their heads."""
        return self._moments(*self._trees.distances)

    @cached_property
    def kernels(self) -> list[Kernel]:
        """Return the sums of the kernel over all pairs of sentences."""
        kept_S, group_S = self._kept_T[self._trees.first_S], self._group_T[self._trees.first_S]
        sentences = np.bincount(group_S[kept_S], minlength=self._rung.groups)
        totals = self._rung.leave_one_out(sentences).tolist()
        squares = squared_lengths(self._trees.features, kept_S, group_S, self._rung.groups)
        return [Kernel(int(count), square) for count, square in zip(totals, squares, strict=True)]

    def _moments(self, tokens: Ints, values: Ints) -> list[Moments]:
        """Return the moments of the values at those of `tokens` that belong to the rung."""
        kept = self._kept_T[tokens]
        groups, inside = self._group_T[tokens[kept]], values[kept]
        sums = [np.bincount(groups, inside**power, minlength=self._rung.groups) for power in range(3)]
        left = (self._rung.leave_one_out(by_group.astype(np.int64)).tolist() for by_group in sums)
        return [Moments(*each) for each in zip(*left, strict=True)]


def cut_long_sentences(parsed: Parsed) -> Parsed:
    """Return the same tokens in sentences of at most `LONGEST_SENTENCE`, whose heads lie in the same sentence."""
    own = np.arange(len(parsed), dtype=np.int32)
    begins = np.diff(parsed.sentence_T, prepend=-1) > 0
    places = own - own[begins][np.cumsum(begins) - 1]
    sentence_T = np.cumsum(begins | (places % LONGEST_SENTENCE == 0), dtype=np.int32) - 1
    heads = np.where(sentence_T[parsed.head_T] == sentence_T, parsed.head_T, own)
    return replace(parsed, sentence_T=sentence_T, head_T=heads.astype(np.int32))


def steps_to_root(head_T: npt.NDArray[np.int32]) -> Ints:
    """Return how many steps each token stands below the root of its tree.

    >>> steps_to_root(np.array([1, 1, 3, 1], dtype=np.int32)).tolist()
    [1, 0, 2, 1]
    """
    reached_T = head_T
    steps_T: Ints = (head_T != np.arange(len(head_T))).astype(np.int64)
    # Each round doubles the steps that are looked ahead.
    for _ in range(LONGEST_SENTENCE.bit_length()):
        steps_T += steps_T[reached_T]
        reached_T = reached_T[reached_T]
    return steps_T


def features(parsed: Parsed) -> Features:
    """Return the features of sentences: labels of round 0 are parts of speech, later ones sum up what is around.

    Labels are hashes, so equal surroundings have equal labels in every corpus.
    """
    label_T = mix(parsed.pos_T.astype(np.uint64) + np.uint64(1))
    rounds = [label_T]
    own, head_T = np.arange(len(parsed)), parsed.head_T
    below = np.flatnonzero(head_T != own)
    for _ in range(ITERATIONS):
        spread_T = mix(label_T)
        around_T = np.zeros(len(parsed), dtype=np.uint64)
        np.add.at(around_T, head_T[below], spread_T[below])
        around_T[below] += spread_T[head_T[below]]
        label_T = mix(label_T * _ROUND + around_T)
        rounds.append(label_T)
    found, feature = np.unique(np.concatenate(rounds), return_inverse=True)
    cells, times = count_cells([np.tile(parsed.sentence_T, len(rounds)) * np.int64(len(found)) + feature])
    sentence_F, feature_F = np.divmod(cells, max(1, len(found)))
    lengths_S = np.sqrt(np.bincount(sentence_F, times**2))
    return Features(sentence_F, feature_F, times / lengths_S[sentence_F])


def squared_lengths(
    found: Features, kept_S: npt.NDArray[np.bool_], group_S: npt.NDArray[np.int32], groups: int
) -> list[float]:
    """Return the squared length of the sum of the vectors of each replicate's sentences.

    |s - s_g|^2 = |s|^2 - 2 s s_g + |s_g|^2, with s the sum over all sentences, s_g over those of group g.
    """
    inside = kept_S[found.sentence_F]
    sentences, features, values = (part[inside] for part in (found.sentence_F, found.feature_F, found.value_F))
    size = int(features.max(initial=-1)) + 1
    # Added up in the order of the sample, and then exactly: the same bits on every machine.
    cells = group_S[sentences] * np.int64(size) + features
    parts_KF: Floats = np.bincount(cells, values, minlength=groups * size).astype(np.float64).reshape(groups, size)
    whole_F: Floats = parts_KF.sum(axis=0)
    every = math.fsum((whole_F * whole_F).tolist())
    return [every + _without(whole_F, part_F) for part_F in parts_KF] if groups > 1 else [every]


def _without(whole_F: Floats, part_F: Floats) -> float:
    (there,) = np.nonzero(part_F)
    part, whole = part_F[there], whole_F[there]
    return math.fsum((part * (part - 2 * whole)).tolist())
