"""What is known of the documents of one corpus beyond their text: scores, what a detector says, real continuations.

Held while the corpus is read, and forgotten with it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from ouroscope.corpora.stored import read_corpus
from ouroscope.errors import LimitExceeded
from ouroscope.predictions import read_detections, read_scored_texts
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document, View
from ouroscope.records.predictions import ScoredText, TextRole
from ouroscope.records.selection import SelectionRule, SelectionSource, SelectionSpec
from ouroscope.store.artifacts import ArtifactStore
from services.analyzer import tokens
from services.analyzer.keys import word_keys

MOST_DOCUMENTS = 1_000_000
"""Documents of one pool, and records about one corpus: some 500 bytes of memory each."""
MOST_REFERENCE_WORDS = 50_000_000
"""Words of the real continuations of one corpus: 8 bytes of memory each."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the documents of one corpus."""

    surplexity: Mapping[str, float] = field(default_factory=dict)
    """By id of the document."""
    detections: Mapping[str, float] = field(default_factory=dict)
    """Probability that a machine wrote it, by id of the document."""
    continuations: Mapping[str, array[int]] = field(default_factory=dict)
    """Keys of the words of the real continuation, by id of the prompt."""


def known_of(store: ArtifactStore, source: SelectionSource, spec: SelectionSpec, check: Callable[[], None]) -> Known:
    """Read what is known of the documents of a source, as far as the rule needs it or the composition tells it.

    Raises:
        NotFound, CorruptArtifact: it cannot be read.
        LimitExceeded: there is too much of it.
    """
    detections = source.detections if spec.rule is SelectionRule.DETECTOR else None
    reference = source.reference if spec.rule is SelectionRule.VERIFIER else None
    return Known(
        surplexity=_surplexities(store, source.predictions, check),
        detections={
            one.document_id: one.probability
            for one in _followed(read_detections(store, detections) if detections else (), check)
        },
        continuations=_continuations(_followed(read_corpus(store, reference) if reference else (), check)),
    )


def surplexity(text: ScoredText) -> float:
    """Return the perplexity of a text under the model that scored it, without its real prefix.

        S = exp(-1/m sum over its m tokens of ln p)

    Range [1, oo); a text with probabilities of 1/2, 1/4 and 1/8 has 4. Source: arXiv 2410.12341, version 3.
    """
    # Beyond 700 the exponential is no number; such a text is as surprising as any.
    return math.exp(min(700.0, -text.log_probability / text.tokens))


def check_size(documents: int) -> None:
    """Raise LimitExceeded if so many documents are more than one selection may hold."""
    if documents > MOST_DOCUMENTS:
        raise LimitExceeded(f"a pool may have {MOST_DOCUMENTS} documents at most; give fewer corpora at once")


def _surplexities(store: ArtifactStore, predictions: ArtifactRef | None, check: Callable[[], None]) -> dict[str, float]:
    scored = _followed(read_scored_texts(store, predictions) if predictions else (), check)
    return {text.document_id: surplexity(text) for text in scored if text.role is TextRole.DOCUMENT}


def _continuations(windows: Iterable[Document]) -> dict[str, array[int]]:
    """Return the words of each window after its real prefix; a window goes by its id and by its prompt."""
    found: dict[str, array[int]] = {}
    total = 0
    for window in windows:
        keys = array("Q", word_keys(words_of(window)).tobytes())
        total += len(keys)
        if total > MOST_REFERENCE_WORDS:
            raise LimitExceeded(f"a reference may have {MOST_REFERENCE_WORDS} words at most; give fewer documents")
        for name in {window.id, window.prompt_id or window.id}:
            found.setdefault(name, keys)
    return found


def words_of(document: Document) -> list[str]:
    """Return the words after the real prefix of a document."""
    return tokens.words(tokens.compose(document.visible(View.CONTINUATION)))


def _followed(records: Iterable[T], check: Callable[[], None]) -> Iterator[T]:
    for count, record in enumerate(records, start=1):
        if count % 1000 == 0:
            check()
        check_size(count)
        yield record
