"""Human sources to draw sequences from: halves that share no source, decks that deal without replacement.

A source is what is independent: an article, a news item, an abstract, a module of the embedded corpus. What one source
gives to one generation is at most a group's share of the rung, chosen at random among its texts: then twenty groups
fill with the least text, and no long article outweighs the others.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from ouroscope.records.documents import Document
from services.analyzer import tokens
from services.analyzer.sample import LADDER, words_per_group

PASSAGE = words_per_group(LADDER[0])
"""Words that the passages of texts without a group have at least: one fills a group."""
FEW = 100
"""Where a domain has fewer sources, a group has one or two, and a short one would leave it unfilled: then those shorter
than a passage are left out."""


class Half(Enum):
    """Thresholds are set on the one and judged on the other."""

    CALIBRATION = "calibration"
    REPORTING = "reporting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Texts that are not independent of each other."""

    name: str
    topic: str
    """Library of the embedded corpus; empty where the corpus names no topics."""
    texts: tuple[str, ...]

    @property
    def words(self) -> int:
        """Return how many words its texts have."""
        return sum(map(count_words, self.texts))

    def some(self, rng: random.Random, words: int) -> Source:
        """Return random texts of it that have so many words together, or all of them."""
        taken, count = list[str](), 0
        for text in rng.sample(self.texts, len(self.texts)):
            if count >= words:
                break
            taken.append(text)
            count += count_words(text)
        return replace(self, texts=tuple(taken))

    def documents(self, sequence: str) -> list[Document]:
        """Return its texts as documents of one sequence.

        The order of sampling follows from the names of clusters, so they are new in each sequence and the same in all
        of its generations.
        """
        name = f"{sequence}/{self.name}"
        return [Document(id=f"{name}/{number}", text=text, group=name) for number, text in enumerate(self.texts)]


def sources_of(documents: Iterable[Document]) -> list[Source]:
    """Return the sources of a corpus; long texts without a group become passages of one source."""
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for document in documents:
        if document.group:
            texts[document.group, document.domain or ""].append(document.text)
        else:
            texts[document.id, ""] += passages(document.text)
    found = [Source(name=name, topic=topic, texts=tuple(theirs)) for (name, topic), theirs in texts.items()]
    return found if len(found) >= FEW else [source for source in found if source.words >= PASSAGE]


@cache
def count_words(text: str) -> int:
    """Return how many words the analyzer finds in a text."""
    return len(tokens.words(tokens.compose(text)))


def passages(text: str) -> list[str]:
    """Cut a text into equal passages of at least `PASSAGE` words; a shorter one stays whole."""
    count = count_words(text) // PASSAGE
    while count > 1:
        if min(map(count_words, pieces := _pieces(text, count))) >= PASSAGE:
            return pieces
        count -= 1
    return [text]


def thirds(source: Source) -> Source:
    """Return the same words in documents a third as long."""
    return replace(source, texts=tuple(piece for text in source.texts for piece in _pieces(text, 3)))


def _pieces(text: str, count: int) -> list[str]:
    words = text.split(" ")
    cuts = [part * len(words) // count for part in range(count + 1)]
    return [" ".join(words[begin:end]) for begin, end in itertools.pairwise(cuts) if begin < end]


def half_of(source: Source) -> Half:
    """Return the half of a source: by a hash of its name, whatever else there is."""
    odd = hashlib.blake2b(source.name.encode(), digest_size=8).digest()[0] & 1
    return Half.REPORTING if odd else Half.CALIBRATION


class Deck:
    """Deals sources in random order without replacement; when all were dealt it is shuffled anew."""

    def __init__(self, sources: Sequence[Source], rng: random.Random) -> None:
        self._sources = tuple(sources)
        self._rng = rng
        self._left: list[Source] = []

    def deal(self, words: int) -> Iterator[Source]:
        """Yield about `words` words of each source, no source twice, for as long as they are wanted."""
        seen = set[str]()
        while len(seen) < len(self._sources):
            source = self._next(seen)
            seen.add(source.name)
            yield source.some(self._rng, words)

    def _next(self, seen: set[str]) -> Source:
        if all(source.name in seen for source in self._left):
            self._left += self._rng.sample(self._sources, len(self._sources))
        at = next(at for at, source in enumerate(self._left) if source.name not in seen)
        return self._left.pop(at)


def blended(ours: Iterator[Source], theirs: Iterator[Source], share: float) -> Iterator[Source]:
    """Yield sources of two decks so that `share`, above 0, of the words are of the second; stops when one runs out."""
    of_ours = of_theirs = 0
    while True:
        due = of_theirs * (1 - share) <= of_ours * share
        source = next(theirs if due else ours, None)
        if source is None:
            return
        of_theirs += source.words if due else 0
        of_ours += 0 if due else source.words
        yield source
