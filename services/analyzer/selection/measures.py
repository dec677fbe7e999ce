"""What a rule looks at in one document. All of it concerns what was written after the real prefix.

To see what each rule looks at, read `MEASURES`. A document without a value is never taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ouroscope.errors import PreconditionFailed, Undefined
from ouroscope.records.documents import Document, Origin, View
from ouroscope.records.selection import SelectionRule
from services.analyzer.keys import word_keys
from services.analyzer.metrics import entropy_rate as rates
from services.analyzer.metrics.lexical import normalized_entropy_by_tokens
from services.analyzer.metrics.spectrum import Spectrum
from services.analyzer.selection.known import Known
from services.analyzer.selection.verifier import unigram_f1

Words = Sequence[str]
Measure = Callable[[Document, Words, Known], float | None]


def nothing(document: Document, words: Words, known: Known) -> None:
    """Look at nothing."""


def surplexity(document: Document, words: Words, known: Known) -> float | None:
    """Return the perplexity under the current model; None of a document that has nothing after its prefix.

    Raises:
        PreconditionFailed: the model was not asked about this document.
    """
    return _told(known.surplexity, document, "the rule SURPLEXITY needs a score of every document by the current model")


def text_entropy(document: Document, words: Words, known: Known) -> float | None:
    """Return the normalised entropy of the words of one document; None below 2 words.

    Source: the arm of the highest text entropy in arXiv 2410.12341, version 3.
    """
    try:
        return normalized_entropy_by_tokens(Spectrum.of_counts(Counter(words).values()))
    except Undefined:
        return None


def entropy_rate(document: Document, words: Words, known: Known) -> float | None:
    """Return the entropy rate of the words of one document, in nats a word; None without words.

    Source: the filter of arXiv 2610.01493 (2026).
    """
    ids = {word: number for number, word in enumerate(dict.fromkeys(words))}
    try:
        return rates.entropy_rate(rates.match_lengths(np.array([ids[word] for word in words], dtype=np.int32)))
    except Undefined:
        return None


def origin(document: Document, words: Words, known: Known) -> float:
    """Return 1 if a machine wrote the document, 0 if a person did: what a perfect detector would say.

    Raises:
        PreconditionFailed: nobody knows.
    """
    if document.origin is Origin.UNKNOWN:
        raise PreconditionFailed("the scorer `origin` needs to know who wrote each document; one does not say it")
    return float(document.origin is Origin.SYNTHETIC)


def detection(document: Document, words: Words, known: Known) -> float | None:
    """Return how probable a detector holds it that a machine wrote the document; None of one without text.

    Raises:
        PreconditionFailed: the detector was not asked about this document.
    """
    return _told(known.detections, document, "the rule DETECTOR needs a detection for every document")


def likeness(document: Document, words: Words, known: Known) -> float | None:
    """Return how much a synthetic document is like the real continuation of its prompt; None without words.

    Human documents are 1: they are the real continuation of something.

    Raises:
        PreconditionFailed: the real continuation of its prompt is not known.
    """
    if document.origin is Origin.HUMAN:
        return 1.0
    real = known.continuations.get(document.prompt_id or document.id)
    if real is None:
        raise PreconditionFailed(
            "the rule VERIFIER needs the real continuation of every synthetic document and one has none; give the "
            "windows whose beginnings it continues as reference of its corpus"
        )
    try:
        return unigram_f1(word_keys(words).tolist(), real)
    except Undefined:
        return None


MEASURES: Mapping[SelectionRule, Measure] = MappingProxyType(
    {
        SelectionRule.RANDOM: nothing,
        SelectionRule.SURPLEXITY: surplexity,
        SelectionRule.TEXT_ENTROPY: text_entropy,
        SelectionRule.ENTROPY_RATE: entropy_rate,
        SelectionRule.NEAR_DUPLICATES: nothing,
        SelectionRule.DETECTOR: detection,
        SelectionRule.VERIFIER: likeness,
    }
)


def _told(values: Mapping[str, float], document: Document, needed: str) -> float | None:
    value = values.get(document.id)
    if value is None and document.visible(View.CONTINUATION):
        raise PreconditionFailed(f"{needed}, and one has none; ask about the whole corpus (max_documents 0)")
    return value
