"""One rung on its way to values: everything that metrics share is made when first asked for, and once.

Each method returns the replicates of its summary in the order of the groups, or a single one where the rung has no
groups.
"""

from __future__ import annotations

from functools import cached_property

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
        self._ngrams: dict[int, ngrams.NgramTable] = {}

    @cached_property
    def spectra(self) -> list[Spectrum]:
        """Return how often words occur."""
        left = self.rung.leave_one_out(self.rung.counts_VK)
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
        return ngrams.tallies(ngrams.skip_pairs(self.rung), self.rung)

    @cached_property
    def windows(self) -> list[Ratio]:
        """Return the different words of all windows, and their words."""
        return self._ratios(sequences.window_sums(self.rung))

    @cached_property
    def streams(self) -> list[list[int]]:
        """Return the words of each group in order: not replicates, but what they are means over."""
        return [words.tolist() for words in sequences.streams(self.rung)]

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
    def matches(self) -> list[list[int]]:
        """Return the match lengths of the words of each group: not replicates, but what they are means over."""
        return match_lengths(self.rung)

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
            count = ngrams.document_tallies if by_document else ngrams.tallies
            self._tallies[by_document, length] = count(self._table(length), self.rung)
        return self._tallies[by_document, length]

    def _table(self, length: int) -> ngrams.NgramTable:
        if length not in self._ngrams:
            shorter = self._table(length - 1) if length > 1 else None
            table = ngrams.lengthen(shorter, length, self.rung) if shorter else ngrams.single_words(self.rung)
            self._ngrams[length] = table
        return self._ngrams[length]

    def _ratios(self, sums: tuple[Counts, Counts]) -> list[Ratio]:
        over, under = (self.rung.leave_one_out(values).tolist() for values in sums)
        return [Ratio(*pair) for pair in zip(over, under, strict=True)]
