"""What can be told of documents before they are measured: their domains, and how much of them a model wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ouroscope.client.relay import characters_of
from ouroscope.records.documents import Document, Origin

LONGEST_DOMAIN = 100
"""Characters of a domain that is measured by itself: its name stands in answers, tables and labels."""


class Survey:
    """Counts documents as they pass; keeps none of them."""

    def __init__(self) -> None:
        self.domains: Counter[str] = Counter()
        """Documents and records of each domain; only of what lies in the store, where all of it is looked at first."""
        self._synthetic = self._characters = 0
        self._known = True

    @property
    def synthetic_share(self) -> float | None:
        """Return the share of the characters that a model wrote; None unless every document says who wrote it."""
        return self._synthetic / self._characters if self._known and self._characters else None

    def add_encoded(self, documents: Iterable[Any]) -> None:
        """Count documents as they come over the wire."""
        for document in documents:
            self._add(characters_of(document))

    def add(self, document: Document) -> None:
        """Count a stored document."""
        self.note_domain(document.domain)
        size = len(document.text)
        written = {Origin.HUMAN: 0, Origin.SYNTHETIC: size - document.prefix_length}.get(document.origin)
        self._add(None if written is None else (written, size))

    def note_domain(self, domain: str | None) -> None:
        """Count a document or record of a domain."""
        if domain and len(domain) <= LONGEST_DOMAIN:
            self.domains[domain] += 1

    def _add(self, characters: tuple[int, int] | None) -> None:
        if characters is None:
            self._known = False
            return
        self._synthetic += characters[0]
        self._characters += characters[1]
