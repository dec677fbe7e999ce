"""Measures of documents as units: how long they are, how long their sentences are. Takes sums; knows no words."""

from __future__ import annotations

import numpy as np

from ouroscope.errors import Undefined
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.rungs import Counts, RungSample


def document_length(lengths: Ratio) -> float:
    """Return the mean number of words of a document.

        words of the sampled documents / sampled documents

    Range [1, oo), in words; moves either way under collapse. Undefined without words. Bias: a document counts with
    its full length even where the budget cuts it, at most one group's share of the largest budget; documents without
    words are left out. Source: none needed.

    >>> document_length(Ratio(over=300, under=10))
    30.0
    """
    if not lengths.under:
        raise Undefined("no words")
    return lengths.over / lengths.under


def length_sums(rung: RungSample) -> tuple[Counts, Counts]:
    """Return, for each group, the words of its documents and their number."""
    _, first = np.unique(rung.documents_N, return_index=True)
    groups = rung.groups_N[first]
    words = np.bincount(groups, weights=rung.lengths_D, minlength=rung.groups)
    return words.astype(np.int64), np.bincount(groups, minlength=rung.groups)
