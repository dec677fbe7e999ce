"""What is known of a model: a stream of records, folded into four samples of numbers. Mergeable, like `sample`."""

from __future__ import annotations

from collections.abc import Iterable

from ouroscope.records.analysis import Histogram
from ouroscope.records.predictions import NextToken, ScoredText, TextRole
from services.analyzer.answers import AnswerSample
from services.analyzer.metrics.model import prompt_row, text_row
from services.analyzer.record_sample import RecordSample

HISTOGRAM_BINS = 20


class ModelSample:
    """Prompts, held-out texts, documents of the corpus, and the same documents under generation 0. Mergeable."""

    def __init__(self) -> None:
        self.prompts = RecordSample()
        self.heldout = RecordSample()
        self.documents = RecordSample()
        self.base_documents = RecordSample()
        self.answers = AnswerSample()

    def fold_next_tokens(self, records: Iterable[NextToken]) -> None:
        """Take in what the model expects after prompts."""
        for record in records:
            self.prompts.add(record.cluster or record.prompt_id, prompt_row(record))
            self.answers.add(record)

    def fold_texts(self, records: Iterable[ScoredText]) -> None:
        """Take in texts that the model scored."""
        for record in records:
            sample = self.heldout if record.role is TextRole.HELDOUT else self.documents
            sample.add(record.cluster or record.document_id, text_row(record))

    def fold_base_texts(self, records: Iterable[ScoredText]) -> None:
        """Take in texts that generation 0 scored; held-out ones say nothing of the corpus and are passed over."""
        for record in records:
            if record.role is TextRole.DOCUMENT:
                self.base_documents.add(record.cluster or record.document_id, text_row(record))

    def merge(self, other: ModelSample) -> ModelSample:
        """Take in what another has seen; return self."""
        self.prompts.merge(other.prompts)
        self.heldout.merge(other.heldout)
        self.documents.merge(other.documents)
        self.base_documents.merge(other.base_documents)
        self.answers.merge(other.answers)
        return self

    def is_empty(self) -> bool:
        """Return whether nothing was folded in."""
        return not (len(self.prompts) or len(self.heldout) or len(self.documents) or len(self.base_documents))

    def top1_histogram(self) -> Histogram | None:
        """Return how often the most probable token had which probability, in 20 equal bins; None without prompts."""
        values = self.prompts.column("top1")
        if not values:
            return None
        counts = [0] * HISTOGRAM_BINS
        for value in values:
            counts[min(HISTOGRAM_BINS - 1, int(value * HISTOGRAM_BINS))] += 1
        return Histogram(edges=tuple(i / HISTOGRAM_BINS for i in range(HISTOGRAM_BINS + 1)), counts=tuple(counts))
