"""Measures of dependency trees: how deep they are, how far words stand from their heads, how alike sentences are built.

Data sheets only; the trees are made by a parser and summed up in `services.analyzer.trees`. A sentence belongs to a
rung if its first word does.
"""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.errors import Undefined


@dataclass(frozen=True, slots=True)
class Moments:
    """How many values there are, their sum and the sum of their squares: whole numbers, so nothing is rounded."""

    count: int
    total: int
    squares: int

    @classmethod
    def of(cls, values: list[int]) -> Moments:
        """Sum up `values`, for examples and tests."""
        return cls(len(values), sum(values), sum(value * value for value in values))

    def mean(self, what: str) -> float:
        """Return the mean, or raise Undefined if there is no value; `what` says what is missing."""
        if not self.count:
            raise Undefined(f"no {what}")
        return self.total / self.count

    def variance(self, what: str) -> float:
        """Return the variance of a sample, or raise Undefined below two values."""
        if self.count < 2:
            raise Undefined(f"fewer than two {what}")
        return (self.count * self.squares - self.total**2) / (self.count * (self.count - 1))


@dataclass(frozen=True, slots=True)
class Kernel:
    """How many sentences there are, and the kernel summed over all ordered pairs of them, also of one with itself."""

    sentences: int
    total: float


def dependency_depth(depths: Moments) -> float:
    """Return the mean depth of the trees of sentences.

        mean over sentences of the most steps from the root down to a token; a sentence of one word has depth 0

    Range [0, 127], in steps; moves either way under collapse. Undefined without sentences. Bias: grows with the length
    of sentences, of which one of more than 128 tokens counts as several; punctuation counts; as good as the parser.
    Source: Liu (2026), arXiv 2605.20602, where the mean may rise.

    >>> dependency_depth(Moments.of([2, 4]))
    3.0
    """
    return depths.mean("sentences")


def dependency_depth_variance(depths: Moments) -> float:
    """Return the variance of the depth of the trees of sentences.

        sum over sentences of (depth - mean)^2 / (sentences - 1)

    Range [0, oo), in steps^2; falls under collapse, as all sentences get the same build. Undefined below two
    sentences. Bias: none in N; grows with the variance of the length of sentences. Source: Liu (2026), arXiv
    2605.20602.

    >>> dependency_depth_variance(Moments.of([2, 4]))
    2.0
    """
    return depths.variance("sentences")


def dependency_distance(distances: Moments) -> float:
    """Return the mean dependency distance: how many words on or back the head of a word stands.

        MDD = mean over words with a head of |position of the word - position of its head|

    Punctuation is no word here and has no position. Range [1, oo), in steps; moves either way under collapse.
    Undefined where no word has a head. Bias: grows with the length of sentences, and differs between languages;
    it is as good as the parser. Source: Liu (2008), Journal of Cognitive Science 9(2), over all words of the sample.

    >>> dependency_distance(Moments.of([1, 1, 4]))
    2.0
    """
    return distances.mean("words with a head")


def dependency_distance_variance(distances: Moments) -> float:
    """Return the variance of the distance between words and their heads.

        sum over words with a head of (distance - MDD)^2 / (words with a head - 1)

    Range [0, oo), in steps^2; falls under collapse, as far-fetched constructions go first. Undefined below two words
    with a head. Bias: none in N; a few long sentences carry much of it. Source: Liu (2026), arXiv 2605.20602.

    >>> dependency_distance_variance(Moments.of([1, 1, 4]))
    3.0
    """
    return distances.variance("words with a head")


def syntactic_diversity(kernel: Kernel) -> float:
    """Return how differently sentences are built: the mean distance of two of them by the Weisfeiler-Lehman kernel.

        1 - mean over pairs of sentences of <x, y> / (|x| |y|)          x = how often each label occurs in a sentence
        in rounds 0, 1 and 2; a label of round 0 is a part of speech, one of round r + 1 the label of round r of a
        token with those of its head and its dependents

    Exact over all pairs: with s the sum of the n vectors x / |x|, the mean is (|s|^2 - n) / (n^2 - n). Range [0, 1], no
    unit; falls under collapse. Undefined below two sentences. Bias: none in N; short sentences are more different.
    Source: Guo et al. (2024), The curious decline of linguistic diversity, with Universal Dependencies.

    >>> syntactic_diversity(Kernel(sentences=2, total=3.0))  # two sentences with a kernel of 1/2
    0.5
    """
    if kernel.sentences < 2:
        raise Undefined("fewer than two sentences")
    alike = (kernel.total - kernel.sentences) / (kernel.sentences * (kernel.sentences - 1))
    # Rounding may leave a hair outside.
    return min(1.0, max(0.0, 1 - alike))
