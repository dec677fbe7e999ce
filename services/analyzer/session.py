"""One stream of documents, of records, or of both, on its way to a report: folded in message by message, within limits.

Knows accumulators; knows neither store nor transport. What was folded in is not kept, only the sample of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ouroscope.errors import LimitExceeded
from ouroscope.records.documents import Document
from ouroscope.records.predictions import NextToken, ScoredText
from services.analyzer.analysis import Options, measure
from services.analyzer.choice import choose
from services.analyzer.modelled import ModelSample
from services.analyzer.sample import Accumulator
from services.analyzer.side import Side, side_of
from services.analyzer.tools import Tools
from services.analyzer.watch import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one caller may send in one stream, and ask for."""

    documents: int = 10_000_000
    bytes: int = 64 * 1024**3
    """Of encoded documents, and of the records that come with them."""
    tokens: int = 1_000_000_000
    """Words, in the part of each document that is looked at."""
    records: int = 5_000_000
    """Next-token records and scored texts together; each takes about 200 bytes of memory."""
    counting: int = 2**28
    """Bytes that the counts of one whole corpus may be allowed."""


class Session:
    """What one caller has sent so far. Not thread-safe: fold one message after the other."""

    def __init__(self, options: Options, limits: Limits, tools: Tools = Tools()) -> None:  # noqa: B008  # frozen
        """Begin.

        Raises:
            InvalidRequest: a metric is unknown.
        """
        choose(options.metrics)
        self._options = options
        self._limits = limits
        self._tools = tools
        self._text = Accumulator(options.view)
        self._model = ModelSample()
        self._documents = self._bytes = self._records = 0

    @property
    def documents(self) -> int:
        """Return how many documents were folded in."""
        return self._documents

    @property
    def size(self) -> int:
        """Return how many words and records were folded in: what measuring takes grows with it."""
        return self._text.tokens + self._records

    def fold_documents(self, documents: Sequence[Document], size: int) -> None:
        """Take in one message of documents, `size` bytes long.

        Raises:
            LimitExceeded: that is more than one stream may hold.
        """
        self._documents = _within(self._documents + len(documents), self._limits.documents, "documents")
        self._bytes = _within(self._bytes + size, self._limits.bytes, "bytes")
        self._text.fold_all(documents)
        _within(self._text.tokens, self._limits.tokens, "tokens")

    def fold_records(self, next_tokens: Sequence[NextToken], texts: Sequence[ScoredText]) -> None:
        """Take in one message of records.

        Raises:
            LimitExceeded: that is more than one stream may hold; nothing of the message was taken in.
        """
        count = self._records + len(next_tokens) + len(texts)
        self._records = _within(count, self._limits.records, "records")
        self._model.fold_next_tokens(next_tokens)
        self._model.fold_texts(texts)

    def finish(self, watch: Watch) -> Side:
        """Measure what was folded in.

        Raises:
            InvalidRequest: nothing was.
        """
        report, prints = measure(self._text.finalise(), self._model, self._options, self._tools, watch)
        return side_of(report, prints, self._model.answers.kept())


def _within(count: int, limit: int, unit: str) -> int:
    if count > limit:
        raise LimitExceeded(
            f"one stream may hold {limit:,} {unit} and this one holds more; send a random part of it, or let the "
            "operator raise the limit",
            unit=unit,
            limit=str(limit),
        )
    return count
