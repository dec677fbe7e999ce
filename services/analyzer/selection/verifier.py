"""A verifier that knows the real continuation of each prompt, and errs at given rates: when that is good enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from ouroscope.errors import Undefined


def verifier_threshold(keep_right: float, keep_wrong: float) -> float:
    """Return the share of wrong labels up to which training on what a verifier keeps finds the right ones.

        p* = 1 / (1 + psi / phi)          phi, psi = probability that a right, a wrong example is kept

    With fewer wrong ones the accuracy goes to 1 as data grow, with more to 0. Range [0, 1], no unit. Undefined where
    nothing is kept. It is a theorem on linear classifiers; for text it is a rule of thumb. Source: Feng et al., Beyond
    model collapse, arXiv 2406.07515 (2024).

    >>> round(verifier_threshold(0.9, 0.3), 3), round(verifier_threshold(0.7, 0.05), 3)
    (0.75, 0.933)
    >>> verifier_threshold(1.0, 1.0)  # one that keeps everything
    0.5
    """
    if keep_right + keep_wrong <= 0:
        raise Undefined("the verifier keeps nothing")
    return keep_right / (keep_right + keep_wrong)


def unigram_f1(words: Sequence[Hashable], reference: Sequence[Hashable]) -> float:
    """Return how much of its words a text shares with a reference: ROUGE-1 F1 on the words of the analyzer.

        2 c / (n + m)          c = common words, each as often as both have it; n, m = words of text and reference

    Range [0, 1], no unit. Undefined where neither has a word. Source: Lin (2004), ROUGE; without stemming.

    >>> round(unigram_f1("the cat sat".split(), "the cat the dog".split()), 4)
    0.5714
    """
    if not words and not reference:
        raise Undefined("no words")
    return 2 * (Counter(words) & Counter(reference)).total() / (len(words) + len(reference))
