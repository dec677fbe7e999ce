"""One rung on its way to values: everything that metrics share is made when first asked for, and once.

Each method returns the replicates of its summary in the order of the groups, or a single one where the rung has no
groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.metrics import documents, ngrams, sequences
from services.analyzer.metrics.entropy_rate import match_lengths
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.metrics.spectrum import Spectrum
from services.analyzer.network.edges import EdgeTable, cooccurrences
from services.analyzer.network.graph import Graph
from services.analyzer.network.shape import Shape, shapes
from services.analyzer.rungs import Counts, RungSample


class MeasuredRung:
    """Summaries of one rung."""

    def __init__(self, rung: RungSample) -> None:
        self.rung = rung
        self._tallies: dict[tuple[bool, int], list[ngrams.Tally]] = {}
        self._longest: tuple[int, ngrams.NgramTable | None] = (0, None)

    @cached_property
    def spectra(self) -> list[Spectrum]:
        """Return how often words occur."""
        left = self.rung.leave_one_out(self.rung.counts_VK())
        return [Spectrum.of_counts(left[:, g]) for g in range(left.shape[1])]

    def tallies(self, length: int) -> list[ngrams.Tally]:
        """Return the n-grams of the whole sample."""
        return self._tally(False, length)

    def document_tallies(self, length: int) -> list[ngrams.Tally]:
        """Return the n-grams of all documents, each document by itself."""
        return self._tally(True, length)

    @cached_property
    def skip_tallies(self) -> list[ngrams.Tally]:
        """Return the word pairs with at most 2 words between."""
        return ngrams.skip_tallies(self.rung)

    @cached_property
    def windows(self) -> list[Ratio]:
        """Return the different words of all windows, and their words."""
        return self._ratios(sequences.window_sums(self.rung))

    def streams(self) -> Iterator[list[int]]:
        """Yield the words of each group in order: not replicates, but what they are means over."""
        return (words.tolist() for words in sequences.streams(self.rung))

    def matches(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the match lengths of the words of each group: not replicates, but what they are means over."""
        return (match_lengths(words) for words in sequences.streams(self.rung))

    @cached_property
    def compressed(self) -> list[Ratio]:
        """Return bytes before and after compression."""
        return self._ratios(sequences.compressed_sizes(self.rung))

    @cached_property
    def lengths(self) -> list[Ratio]:
        """Return words and number of documents."""
        return self._ratios(documents.length_sums(self.rung))

    @cached_property
    def sentences(self) -> list[Ratio]:
        """Return words and number of sentences."""
        return self._ratios(documents.sentence_sums(self.rung))

    @cached_property
    def syllables(self) -> list[Ratio]:
        """Return syllables and words."""
        return self._ratios(documents.syllable_sums(self.rung))

    @cached_property
    def network(self) -> EdgeTable:
        """Return the co-occurrence network."""
        return cooccurrences(self.rung)

    @cached_property
    def graph(self) -> Graph:
        """Return the network as one graph of all groups."""
        return Graph.of(self.network)

    @cached_property
    def shapes(self) -> list[Shape]:
        """Return the shape of the network."""
        return shapes(self.network)

    def _tally(self, by_document: bool, length: int) -> list[ngrams.Tally]:
        if (by_document, length) not in self._tallies:
            # Both kinds at once, since only the table of the longest n-grams so far is kept: they are large.
            table = self._table(length)
            self._tallies[False, length] = ngrams.tallies(table, self.rung)
            self._tallies[True, length] = ngrams.document_tallies(table, self.rung)
        return self._tallies[by_document, length]

    def _table(self, length: int) -> ngrams.NgramTable:
        reached, table = self._longest
        if table is None or reached > length:
            reached, table = 1, ngrams.single_words(self.rung)
        for longer in range(reached + 1, length + 1):
            table = ngrams.lengthen(table, longer, self.rung)
        self._longest = length, table
        return table

    def _ratios(self, sums: tuple[Counts, Counts]) -> list[Ratio]:
        over, under = (self.rung.leave_one_out(values).tolist() for values in sums)
        return [Ratio(*pair) for pair in zip(over, under, strict=True)]
