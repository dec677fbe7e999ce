"""Documents and sentences as units: how long they are, how easy to read. Takes sums; arrays add them up by group."""

from __future__ import annotations

import numpy as np

from ouroscope.errors import Undefined
from services.analyzer import tokens
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.rungs import Counts, RungSample


def document_length(lengths: Ratio) -> float:
    """Return the mean number of words of a document.

        words of the sampled documents / sampled documents

    Range [1, oo), in words; moves either way under collapse. Undefined without words. Bias: a document counts with its
    full length even where the budget cuts it, at most one group's share of the largest budget; documents without words
    are left out. Source: none needed.

    >>> document_length(Ratio(over=300, under=10))
    30.0
    """
    if not lengths.under:
        raise Undefined("no words")
    return lengths.over / lengths.under


def sentence_length(lengths: Ratio) -> float:
    """Return the mean number of words of a sentence.

        words of the sampled documents / their sentences

    Range (0, oo), in words; moves either way under collapse. Undefined without words. Bias: sentences end at . ! ?
    before white space, at empty lines and with the document, so abbreviations cut them and a document cut short ends
    one. Source: Sherman (1893), Analytics of literature.

    >>> sentence_length(Ratio(over=300, under=20))
    15.0
    """
    if not lengths.under:
        raise Undefined("no words")
    return lengths.over / lengths.under


def readability(sums: tuple[Ratio, Ratio]) -> float:
    """Return Flesch's reading ease: high for short sentences of short words.

        206.835 - 1.015 words / sentences - 84.6 syllables / words

    Range (-oo, 206.835), about 0 to 100 in prose, a pure number; moves either way under collapse. Undefined without
    words. Bias: made for English; syllables are counted as runs of vowels without a final silent e. Source: Flesch
    (1948), Journal of Applied Psychology 32(3).

    >>> round(readability((Ratio(over=300, under=20), Ratio(over=450, under=300))), 2)
    64.71
    """
    sentences, syllables = sums
    if not syllables.under:
        raise Undefined("no words")
    return 206.835 - 1.015 * sentence_length(sentences) - 84.6 * syllables.over / syllables.under


def length_sums(rung: RungSample) -> tuple[Counts, Counts]:
    """Return, for each group, the words of its documents and their number."""
    groups = rung.groups_D
    words = np.bincount(groups, weights=rung.lengths_D, minlength=rung.groups)
    return words.astype(np.int64), np.bincount(groups, minlength=rung.groups)


def sentence_sums(rung: RungSample) -> tuple[Counts, Counts]:
    """Return, for each group, the words of its documents and their sentences."""
    found = [len(tokens.sentences(text)) for text in rung.texts]
    sentences = np.bincount(rung.groups_D, weights=found, minlength=rung.groups)
    return length_sums(rung)[0], sentences.astype(np.int64)


def syllable_sums(rung: RungSample) -> tuple[Counts, Counts]:
    """Return, for each group, the syllables of its words and the words."""
    counts_VK = rung.counts_VK()
    return rung.lexicon.syllables_V @ counts_VK, counts_VK.sum(axis=0)
