"""Topics inside one domain of human text: the libraries of the embedded corpus, or one end of a latent direction."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import svds

from benchmarks.detection.worlds import Source

DIRECTIONS = 3
"""Latent directions of the words among which topics are chosen."""
SHARE = 0.3
"""Share of the sources that make up a topic where the corpus names none."""
FEWEST_WORDS = 24_000
"""Words of a library below which it is no topic."""
COMMON = 5
"""Sources a word must stand in to tell of topics."""

Split = tuple[list[Source], list[Source]]


def split_by_topic(sources: tuple[Source, ...], rng: random.Random) -> Split:
    """Return the sources without a topic chosen at random, and those of it."""
    if not any(source.topic for source in sources):
        return _by_direction(sources, rng)
    words = Counter[str]()
    for source in sources:
        words[source.topic] += source.words
    topic = rng.choice(sorted(name for name, count in words.items() if count >= FEWEST_WORDS))
    return [one for one in sources if one.topic != topic], [one for one in sources if one.topic == topic]


def _by_direction(sources: tuple[Source, ...], rng: random.Random) -> Split:
    order = np.argsort(directions(sources)[:, rng.randrange(DIRECTIONS)] * rng.choice((-1, 1)), kind="stable")
    size = round(SHARE * len(sources))
    return [sources[at] for at in order[:-size]], [sources[at] for at in order[-size:]]


@cache
def directions(sources: tuple[Source, ...]) -> npt.NDArray[np.float64]:
    """Return where each source lies on the first latent directions of its words, beyond what all of them share.

    Latent semantic analysis: singular vectors of damped word counts, weighted by rarity, all sources equally long.
    """
    counts = [Counter(" ".join(source.texts).lower().split()) for source in sources]
    weights = _weights(counts)
    lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1))).ravel()
    scaled = diags(1 / np.maximum(lengths, 1e-9)) @ weights
    # The first vector is what all sources share; it tells how typical a source is, not what it is about.
    left, sizes, _ = svds(scaled, k=DIRECTIONS + 1, v0=np.ones(min(scaled.shape)))
    placed: npt.NDArray[np.float64] = left[:, np.argsort(-sizes)[1:]]
    return placed


def _weights(counts: Sequence[Counter[str]]) -> csr_matrix:
    """Return sources by words: log counts times the log of how rare the word is among sources."""
    spread = Counter(word for words in counts for word in words)
    ids = {word: number for number, word in enumerate(sorted(word for word, n in spread.items() if n >= COMMON))}
    cells = [
        (row, ids[word], (1 + np.log(n)) * np.log(len(counts) / spread[word]))
        for row, words in enumerate(counts)
        for word, n in words.items()
        if word in ids
    ]
    rows, columns, values = zip(*cells, strict=True)
    return csr_matrix((values, (rows, columns)), shape=(len(counts), len(ids)))
