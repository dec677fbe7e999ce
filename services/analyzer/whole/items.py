"""What of a document is counted over the whole corpus: words, n-grams, edges of the co-occurrence network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from services.analyzer.concepts import is_concept
from services.analyzer.network.edges import WINDOW

NODES, EDGES = "cooccurrence_nodes", "cooccurrence_edges"
DISTINCT = ("types", "ngrams_2", "ngrams_3", NODES, EDGES)
"""What is counted once, however often it stands in the corpus."""
_PIECE = 10_000
# Words that are looked at together: a document may be long, and what is kept beside the counts is not.


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a stretch of a document; an n-gram and an edge are their words with a space between."""

    words: Counter[str]
    edges: Counter[str]
    """How often two concepts stand in one window of 5 words; the smaller one is named first."""
    others: Mapping[str, Set[str]]
    """The rest of `DISTINCT`."""

    @property
    def distinct(self) -> Mapping[str, Set[str]]:
        """Return the different items of each kind."""
        return {"types": self.words.keys(), EDGES: self.edges.keys(), **self.others}


def items_of(words: Sequence[str]) -> Iterator[Items]:
    """Yield the items of a document, piece by piece; none is in two pieces, though its like may be."""
    for first in range(0, len(words), _PIECE):
        yield _items(words[first : first + _PIECE], words[first : first + _PIECE + WINDOW - 1])


def _items(here: Sequence[str], beyond: Sequence[str]) -> Items:
    """Return what begins in the words `here`; `beyond` are these and the next few."""
    pairs = Counter(_pairs([word if is_concept(word) else "" for word in beyond], len(here)))
    others = {
        "ngrams_2": set(map(" ".join, zip(here, beyond[1:], strict=False))),
        "ngrams_3": set(map(" ".join, zip(here, beyond[1:], beyond[2:], strict=False))),
        NODES: {end for pair in pairs for end in pair},
    }
    return Items(Counter(here), Counter({" ".join(pair): count for pair, count in pairs.items()}), others)


def _pairs(concepts: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    """Yield the two ends of each meeting whose first word is among the first `count`; what is no concept is empty."""
    for distance in range(1, WINDOW):
        for first, second in zip(concepts[:count], concepts[distance:], strict=False):
            if first and second and first != second:
                yield (first, second) if first < second else (second, first)
