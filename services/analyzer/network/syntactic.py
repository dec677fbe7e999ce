"""The syntactic network (textual forma mentis): concepts that stand close to one another in the trees of sentences.

Where two words meet is found once, for the whole parse; a rung takes the meetings that lie in it. Shapes: T = tokens,
L = lemmas, M = meetings, K = groups.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.analyzer.cells import Ints
from services.analyzer.concepts import is_concept
from services.analyzer.lexicon import Lexicon
from services.analyzer.network.edges import SYNTACTIC, EdgeTable, edge_table
from services.analyzer.parsing.parsed import PARTS_OF_SPEECH, Need, Parsed

NEEDS = frozenset({Need.LEMMA, Need.POS, Need.TREE})
"""What a parser must make for it."""
CONTENT = ("NOUN", "PROPN", "VERB", "ADJ", "ADV")
"""Parts of speech of concepts."""

_IS_CONTENT = np.array([part in CONTENT for part in PARTS_OF_SPEECH])
_NO_XML = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_CHUNK = 16_384
# Tokens that are looked at together: within a chunk, lemmas, sentences and tokens have numbers below 2**15, so that a
# 64-bit number holds a meeting and one sort finds the equal ones.

_Numbers = npt.NDArray[np.int32]
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Meetings:
    """Which two lemmas meet in which sentence, once for each sentence."""

    low_M: _Numbers
    high_M: _Numbers
    """Ids of the two lemmas, low < high."""
    later_M: _Numbers
    """The later one of the two tokens (where several meet, of those that are complete first): a rung that holds this
    token holds the meeting."""


def syntactic(found: Meetings, lexicon: Lexicon, kept_T: _Mask, group_T: _Numbers, groups: int) -> EdgeTable:
    """Return the syntactic network (textual forma mentis) of a rung.

    Nodes are lemmas of nouns, names, verbs, adjectives and adverbs that are no stop words and hold a letter; two
    different ones are related in a sentence if words with these lemmas lie at most 3 steps apart in its dependency
    tree, and the weight of a relation is the number of such sentences. The steps may pass through any word. A sentence
    of more than 128 tokens counts as several, and relations across a cut are not seen.

    Args:
        found: the meetings of the whole parse.
        lexicon: lemmas by id.
        kept_T: whether each token belongs to the rung.
        group_T: group of each token.
        groups: K.
    """
    inside = kept_T[found.later_M]
    low, high, later = found.low_M[inside].astype(np.int64), found.high_M[inside], found.later_M[inside]
    return edge_table(SYNTACTIC, lexicon, groups, [(low * len(lexicon) + high) * groups + group_T[later]])


def meetings(parsed: Parsed) -> Meetings:
    """Return every meeting of two concepts; pairs rise with the square of a sentence, so none should be long."""
    nodes_L = np.fromiter(map(_is_node, parsed.lemmas), dtype=np.bool_, count=len(parsed.lemmas))
    concept_T = nodes_L[parsed.lemma_T] & _IS_CONTENT[parsed.pos_T]
    nothing = np.zeros(0, dtype=np.int32)
    parts = [(nothing, nothing, nothing)]
    parts += [_in_chunk(parsed, concept_T, start, stop) for start, stop in _chunks(parsed.sentence_T)]
    return Meetings(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _is_node(lemma: str) -> bool:
    # Unlike words, lemmas may be symbols, or hold characters that no XML file can.
    return is_concept(lemma) and any(map(str.isalpha, lemma)) and not _NO_XML.search(lemma)


def _chunks(sentence_T: _Numbers) -> Iterator[tuple[int, int]]:
    """Yield stretches of at most `_CHUNK` tokens, or one sentence, that end where a sentence does."""
    ends = [*(np.flatnonzero(np.diff(sentence_T)) + 1).tolist(), len(sentence_T)]
    start = 0
    for end, following in itertools.pairwise([*ends, len(sentence_T) + _CHUNK + 1]):
        if following - start > _CHUNK and end > start:
            yield start, end
            start = end


def _in_chunk(parsed: Parsed, concept_T: _Mask, start: int, stop: int) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Return the meetings of the sentences between two tokens: low, high, later."""
    lemmas, lemma_T = np.unique(parsed.lemma_T[start:stop], return_inverse=True)
    sentence_T = (parsed.sentence_T[start:stop] - parsed.sentence_T[start]).astype(np.int64)
    pairs = list(_close(concept_T[start:stop], parsed.head_T[start:stop].astype(np.int64) - start))
    first, second = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    size, sentences = stop - start, int(sentence_T[-1]) + 1
    low, high = np.minimum(lemma_T[first], lemma_T[second]), np.maximum(lemma_T[first], lemma_T[second])
    cells = ((low * len(lemmas) + high) * sentences + sentence_T[first]) * size + np.maximum(first, second)
    cells = np.sort(cells[low < high])
    met, later = np.divmod(cells, size)
    earliest = np.diff(met, prepend=-1) > 0
    low, high = np.divmod(met[earliest] // sentences, len(lemmas))
    return lemmas[low], lemmas[high], (later[earliest] + start).astype(np.int32)


def _close(concept_T: _Mask, head_T: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Yield the pairs of concepts at most 3 steps apart, each at least once, as two arrays of tokens.

    Such a pair is a token and its parent, grandparent or great-grandparent, two children of one token, or a child and
    a grandchild of one token.
    """
    # One token more, which is above all roots and itself.
    roots = len(head_T)
    above_T = np.append(np.where(head_T == np.arange(roots), roots, head_T), roots)
    below = np.flatnonzero(concept_T)
    ancestors = [above_T[below]]
    ancestors += [above_T[ancestors[0]]]
    ancestors += [above_T[ancestors[1]]]
    for ancestor in ancestors:
        there = np.append(concept_T, False)[ancestor]
        yield below[there], ancestor[there]
    children, grandchildren = (_by_ancestor(below, ancestor, roots) for ancestor in ancestors[:2])
    yield _joined(children, children)
    yield _joined(children, grandchildren)


def _by_ancestor(below: Ints, ancestor: Ints, roots: int) -> tuple[Ints, Ints]:
    """Return (ancestor, token) for each token that has that ancestor, sorted."""
    order = np.argsort(ancestor, kind="stable")
    order = order[: np.searchsorted(ancestor[order], roots)]
    return ancestor[order], below[order]


def _joined(ours: tuple[Ints, Ints], theirs: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Return every pair of one of our tokens and one of theirs with the same ancestor."""
    begins = np.searchsorted(theirs[0], ours[0], side="left")
    counts = np.searchsorted(theirs[0], ours[0], side="right") - begins
    before = np.cumsum(counts) - counts
    places = np.arange(int(counts.sum())) + np.repeat(begins - before, counts)
    return np.repeat(ours[1], counts), theirs[1][places]
