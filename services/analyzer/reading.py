"""Folds a corpus and the records of its model into samples, each document and record once; all of them or one domain's.

Knows accumulators; measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.analysis import CountingSpec
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken, ScoredText
from services.analyzer.folded import Folded
from services.analyzer.modelled import ModelSample
from services.analyzer.watch import Watch

TOLD = 10
"""Domains that are named where the one that was asked for is not there."""

T = TypeVar("T", Document, NextToken, ScoredText)


class ReadElsewhere(Protocol):
    """A corpus that others read, each a part of it."""

    def fold(self, view: View, chosen: Chosen, watch: Watch, counting: CountingSpec | None = None) -> Folded:
        """Return what all documents that are `chosen` give, and tell `chosen` what was found."""


def read(
    documents: Iterable[Document] | ReadElsewhere,
    next_tokens: Iterable[NextToken],
    texts: Iterable[ScoredText],
    base_texts: Iterable[ScoredText],
    *,
    view: View,
    domain: str,
    watch: Watch,
    counting: CountingSpec | None = None,
) -> tuple[Folded, ModelSample]:
    """Return what is of `domain` gives, or everything where it is empty; the whole is counted if `counting` says how.

    Raises:
        InvalidRequest: nothing is of that domain; others are named.
        LimitExceeded: counting exactly takes more memory than it may.
    """
    chosen, known = Chosen(domain), ModelSample()
    folded = _read_text(documents, view, chosen, watch, counting)
    for prompts in watch.over(next_tokens, "reading", "prompts"):
        known.fold_next_tokens(chosen.of(prompts))
    for scored in watch.over(texts, "reading", "texts"):
        known.fold_texts(chosen.of(scored))
    for scored in watch.over(base_texts, "reading", "texts"):
        known.fold_base_texts(chosen.of(scored))
    chosen.check_any()
    return folded, known


def _read_text(
    documents: Iterable[Document] | ReadElsewhere,
    view: View,
    chosen: Chosen,
    watch: Watch,
    counting: CountingSpec | None,
) -> Folded:
    if not isinstance(documents, Iterable):
        return documents.fold(view, chosen, watch, counting)
    folded = Folded.empty(view, counting)
    for batch in watch.over(documents, "reading", "documents"):
        folded.fold_all(chosen.of(batch))
    return folded


class Chosen:
    """What is of one domain, and which other domains there are."""

    def __init__(self, domain: str) -> None:
        self.domain = domain
        self.found = False
        """Whether anything was."""
        self._others: dict[str, None] = {}

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """Yield what is of the domain."""
        for item in items:
            if not self.domain or item.domain == self.domain:
                self.found = True
                yield item
            elif item.domain:
                self.hear(False, (item.domain,))

    @property
    def others(self) -> tuple[str, ...]:
        """Return other domains in the order of their appearance, one more than are told."""
        return tuple(self._others)

    def hear(self, found: bool, others: Iterable[str]) -> None:
        """Take in what another has found of the same domain, or beside it."""
        self.found = self.found or found
        for domain in others:
            if len(self._others) <= TOLD:
                self._others[domain] = None

    def check_any(self) -> None:
        """Raise if a domain was asked for that nothing is of."""
        if self.domain and not self.found:
            problem = FieldProblem("domain", f"nothing is of the domain {self.domain[:80]!r}; {self._told()}")
            raise InvalidRequest(f"{problem.field}: {problem.description}", [problem])

    def _told(self) -> str:
        if not self._others:
            return "no document and no record names a domain"
        names = ", ".join(repr(name[:80]) for name in list(self._others)[:TOLD])
        return f"there are {names}{' and more' if len(self._others) > TOLD else ''}"
