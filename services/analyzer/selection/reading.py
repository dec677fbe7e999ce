"""The first pass over a pool: every document becomes a candidate, and its text is let go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import PreconditionFailed
from ouroscope.records.documents import Document, Origin
from ouroscope.records.selection import ORIGIN, SelectDocuments, SelectionRule, SelectionSource, SelectionSpec
from ouroscope.store.artifacts import ArtifactStore
from services.analyzer.selection.candidate import Candidate
from services.analyzer.selection.copies import WordKeys
from services.analyzer.selection.draws import Namer
from services.analyzer.selection.known import Known, check_size, known_of, words_of
from services.analyzer.selection.measures import MEASURES, Measure, origin
from services.analyzer.watch import Watch


def documents_of(store: ArtifactStore, sources: Sequence[SelectionSource]) -> Iterator[tuple[int, Document]]:
    """Yield the documents of all sources in their order, each with the number of its source."""
    for number, source in enumerate(sources):
        for document in read_corpus(store, source.corpus):
            yield number, document


class PoolReader:
    """Makes candidates of the documents of one pool, in their order."""

    def __init__(self, store: ArtifactStore, request: SelectDocuments, watch: Watch) -> None:
        self._store, self._request, self._watch = store, request, watch
        self._measure = _measure(request.selection)
        self._namer = Namer()
        self._source, self._known = -1, Known()
        self._candidates: list[Candidate] = []
        self._words = WordKeys() if request.selection.rule is SelectionRule.NEAR_DUPLICATES else None

    def read(self) -> list[Candidate]:
        """Return the candidates.

        Raises:
            PreconditionFailed: what the rule needs to know is not known of a document.
            LimitExceeded: the pool is too large.
        """
        documents = enumerate(documents_of(self._store, self._request.sources))
        for batch in self._watch.over(documents, "reading", "documents"):
            for position, (source, document) in batch:
                self._fold(position, source, document)
        return self._with_firsts(self._words) if self._words else self._candidates

    def _fold(self, position: int, source: int, document: Document) -> None:
        if source != self._source:
            known = known_of(self._store, self._request.sources[source], self._request.selection, self._watch.check)
            self._source, self._known = source, known
        if self._request.selection.human_free and _is_human(document):
            return
        check_size(len(self._candidates) + 1)
        words = words_of(document)
        self._candidates.append(self._candidate(position, document, words))
        if self._words:
            self._words.add(words)

    def _candidate(self, position: int, document: Document, words: Sequence[str]) -> Candidate:
        return Candidate(
            position=position,
            name=self._namer.name(document),
            human=document.origin is Origin.HUMAN,
            domain=document.domain or "",
            words=len(words),
            value=self._measure(document, words, self._known),
            surplexity=self._known.surplexity.get(document.id),
        )

    def _with_firsts(self, words: WordKeys) -> list[Candidate]:
        """Return the candidates with a value for the first of each cluster of near copies."""
        firsts = words.firsts(self._request.selection.threshold, self._watch.check)
        return [replace(one, value=1.0 if first else None) for one, first in zip(self._candidates, firsts, strict=True)]


def _measure(spec: SelectionSpec) -> Measure:
    return origin if spec.rule is SelectionRule.DETECTOR and spec.scorer == ORIGIN else MEASURES[spec.rule]


def _is_human(document: Document) -> bool:
    if document.origin is Origin.UNKNOWN:
        raise PreconditionFailed("human_free needs to know who wrote each document; one does not say it")
    return document.origin is Origin.HUMAN
