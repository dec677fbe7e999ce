"""Folds a corpus and the records of its model into samples, each document and record once; all of them or one domain's.

Knows accumulators; measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ouroscope.errors import FieldProblem, InvalidRequest
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import NextToken, ScoredText
from services.analyzer.modelled import ModelSample
from services.analyzer.sample import Accumulator, Sample
from services.analyzer.watch import Watch

TOLD = 10
"""Domains that are named where the one that was asked for is not there."""

T = TypeVar("T", Document, NextToken, ScoredText)


def read(
    documents: Iterable[Document],
    next_tokens: Iterable[NextToken],
    texts: Iterable[ScoredText],
    base_texts: Iterable[ScoredText],
    *,
    view: View,
    domain: str,
    watch: Watch,
) -> tuple[Sample, ModelSample]:
    """Return the samples of what is of `domain`, or of everything where it is empty.

    Raises:
        InvalidRequest: nothing is of that domain; others are named.
    """
    chosen, accumulator, known = _Chosen(domain), Accumulator(view), ModelSample()
    for batch in watch.over(documents, "reading", "documents"):
        accumulator.fold_all(chosen.of(batch))
    for prompts in watch.over(next_tokens, "reading", "prompts"):
        known.fold_next_tokens(chosen.of(prompts))
    for scored in watch.over(texts, "reading", "texts"):
        known.fold_texts(chosen.of(scored))
    for scored in watch.over(base_texts, "reading", "texts"):
        known.fold_base_texts(chosen.of(scored))
    chosen.check_any()
    return accumulator.finalise(), known


class _Chosen:
    """What is of one domain, and which other domains there are."""

    def __init__(self, domain: str) -> None:
        self._domain = domain
        self._found = False
        self._others: dict[str, None] = {}  # in the order of their appearance, one more than are told

    def of(self, items: Iterable[T]) -> Iterator[T]:
        """Yield what is of the domain."""
        for item in items:
            if not self._domain or item.domain == self._domain:
                self._found = True
                yield item
            elif item.domain and len(self._others) <= TOLD:
                self._others[item.domain] = None

    def check_any(self) -> None:
        """Raise if a domain was asked for that nothing is of."""
        if self._domain and not self._found:
            problem = FieldProblem("domain", f"nothing is of the domain {self._domain[:80]!r}; {self._told()}")
            raise InvalidRequest(f"{problem.field}: {problem.description}", [problem])

    def _told(self) -> str:
        if not self._others:
            return "no document and no record names a domain"
        names = ", ".join(repr(name[:80]) for name in list(self._others)[:TOLD])
        return f"there are {names}{' and more' if len(self._others) > TOLD else ''}"
