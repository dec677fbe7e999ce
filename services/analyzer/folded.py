"""What one reading of documents gives: the sample that is measured, and counts of the whole if they are asked for."""

from __future__ import annotations

from collections.abc import Iterable

from ouroscope.records.analysis import CountingSpec
from ouroscope.records.documents import Document, View
from services.analyzer.sample import Accumulator
from services.analyzer.whole.counts import Counts, open_counts


class Folded:
    """A stretch of a corpus. Each document is read once, whatever is made of it."""

    def __init__(self, text: Accumulator, whole: Counts | None = None) -> None:
        self.text = text
        self.whole = whole

    @classmethod
    def empty(cls, view: View, counting: CountingSpec | None = None) -> Folded:
        """Begin.

        Raises:
            CapabilityMissing: what counting needs is not installed.
        """
        return cls(Accumulator(view), open_counts(counting) if counting else None)

    def fold_all(self, documents: Iterable[Document]) -> Folded:
        """Take in all of `documents`; return self.

        Raises:
            LimitExceeded: counting exactly takes more memory than it may.
        """
        for document in documents:
            words = self.text.fold(document)
            if self.whole:
                self.whole.fold(words)
        return self

    def merge(self, other: Folded) -> Folded:
        """Take in what `other`, begun in the same way, has seen; return self.

        Raises:
            LimitExceeded: counting exactly takes more memory than it may.
        """
        self.text.merge(other.text)
        if self.whole and other.whole:
            self.whole.merge(other.whole)
        return self
