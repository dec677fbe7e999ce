"""One rung on its way to values: everything that metrics share is made when first asked for, and once.

Each method returns the replicates of its summary in the order of the groups, or a single one where the rung has no
groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.embedding import moments
from services.analyzer.embedding.embedded import Embedded, Vectors
from services.analyzer.metrics import documents, duplicates, ngrams, sequences, similarity, weighting
from services.analyzer.metrics.entropy_rate import match_lengths
from services.analyzer.metrics.sequences import Ratio
from services.analyzer.metrics.spectrum import Spectrum
from services.analyzer.network.edges import COOCCURRENCE, EdgeTable, cooccurrences
from services.analyzer.network.graph import Graph
from services.analyzer.network.shape import Shape, shapes
from services.analyzer.rungs import Counts, RungSample
from services.analyzer.trees import RungTrees, Trees


class MeasuredNetwork:
    """Summaries of one network."""

    def __init__(self, table: EdgeTable) -> None:
        self.table = table

    @cached_property
    def graph(self) -> Graph:
        """Return the network as one graph of all groups."""
        return Graph.of(self.table)

    @cached_property
    def shapes(self) -> list[Shape]:
        """Return the shape of the network."""
        return shapes(self.table)


class MeasuredRung:
    """Summaries of one rung; those of trees and vectors only where the text was parsed or embedded for them."""

    def __init__(self, rung: RungSample, trees: Trees | None = None, embedded: Embedded | None = None) -> None:
        self.rung = rung
        self._shared_trees = trees
        self._embedded = embedded
        self._tallies: dict[tuple[bool, int], list[ngrams.Tally]] = {}
        self._networks: dict[str, MeasuredNetwork] = {}
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
    def overlaps(self) -> list[similarity.Overlap]:
        """Return the n-grams that documents of a group have in common."""
        tables = (self._table(length) for length in range(1, similarity.LONGEST_NGRAM + 1))
        return similarity.overlaps(self.rung, tables)

    @cached_property
    def near_duplicates(self) -> list[Ratio]:
        """Return the documents that have a near-copy, and all documents."""
        return duplicates.near_duplicates(self.rung)

    @cached_property
    def neighbour_distances(self) -> list[Ratio]:
        """Return the relative distances of neighbouring documents, and their number."""
        return similarity.neighbour_distances(self.rung)

    @cached_property
    def word_weights(self) -> list[Ratio]:
        """Return the tf-idf weights of the words of documents, and their number."""
        return weighting.weight_sums(self.rung)

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
    def trees(self) -> RungTrees:
        """Return the trees of the rung; who asks for them has had the text parsed."""
        assert self._shared_trees is not None
        return RungTrees(self._shared_trees, self.rung)

    @property
    def vectors(self) -> tuple[Vectors, moments.Groups]:
        """Return a vector for each embedded document, and its group; who asks has had the documents embedded."""
        assert self._embedded is not None
        return self._embedded.of(self.rung)

    @cached_property
    def kernel_spectra(self) -> list[moments.Spectrum]:
        """Return how the likeness of documents is spread over directions."""
        return moments.kernel_spectra(*self.vectors, self.rung.groups)

    @cached_property
    def covariance_spectra(self) -> list[moments.Spectrum]:
        """Return how what sets documents apart is spread over directions."""
        return moments.covariance_spectra(*self.vectors, self.rung.groups)

    @cached_property
    def alignments(self) -> list[moments.Alignment]:
        """Return how much documents point the same way."""
        return moments.alignments(*self.vectors, self.rung.groups)

    def network(self, construction: str) -> MeasuredNetwork:
        """Return the network of that construction."""
        if construction not in self._networks:
            table = cooccurrences(self.rung) if construction == COOCCURRENCE else self.trees.network
            self._networks[construction] = MeasuredNetwork(table)
        return self._networks[construction]

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
