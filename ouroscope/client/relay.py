"""Documents and records passed on as they came, without decoding each of them. Knows the wire, decides nothing.

Who passes a stream on looks into what it holds only for the domain of each item and for who wrote a document.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ouroscope.client.analyzer import AnalyzerClient
from ouroscope.client.arguments import request_of
from ouroscope.client.batches import KINDS, Fields
from ouroscope.records.analysis import Report
from ouroscope.records.documents import View
from ouroscope.v1 import analyzer_pb2, document_pb2


class RelayingAnalyzer(AnalyzerClient):
    """An analyzer for those who have items as messages, not as records."""

    async def analyze_batches(
        self, found: AsyncIterator[Fields], *, view: View = View.WHOLE, drawn_concepts: int = 0, repeated_texts: int = 0
    ) -> Report:
        """Measure what is encoded already; the rest as in `analyze`.

        Args:
            found: what each message holds: encoded items by the name of their field; see `fields_of`.
            view: which part of each document is looked at.
            drawn_concepts: concepts in the drawing of the network; 0 draws none.
            repeated_texts: most runs of words to show that many documents share; 0 shows none.
        """
        options = request_of(
            analyzer_pb2.AnalysisOptions, view=view, drawn_concepts=drawn_concepts, repeated_texts=repeated_texts
        )
        return await self._analyze(options, found)


def fields_of(message: Any) -> Fields:
    """Return the items that a message carries, by the name of their field; empty fields are left out."""
    return {field: items for field in KINDS if (items := getattr(message, field))}


def domain_of(item: Any) -> str:
    """Return the domain of an encoded document or record; empty where it names none."""
    domain: str = item.domain
    return domain


def characters_of(document: Any) -> tuple[int, int] | None:
    """Return how many characters of an encoded document a model wrote, and how many it has; None if nobody knows."""
    size = len(document.text)
    if document.origin == document_pb2.ORIGIN_HUMAN:
        return 0, size
    if document.origin == document_pb2.ORIGIN_SYNTHETIC:
        return size - document.prefix_length, size
    return None
