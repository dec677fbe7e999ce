"""Parsed text as arrays of integers: all that metrics need of lemmas, parts of speech and trees. Knows no spaCy.

Shapes: T = tokens (white space is none), L = different lemmas. Tokens lie in the order of the documents and their text.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]

PARTS_OF_SPEECH = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""Universal parts of speech; their ids are positions in this list."""


class Need(Enum):
    """What a metric needs beyond words; nothing that no metric asked for is made."""

    POS = "parts of speech"
    LEMMA = "lemmas"
    TREE = "dependency trees"
    EMBEDDING = "embeddings"


PARSED = frozenset({Need.POS, Need.LEMMA, Need.TREE})
"""Needs that a parser meets."""


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """Tokens of some documents."""

    lemmas: tuple[str, ...]
    """Lower-cased lemmas by id, L of them; the word form where the pipeline has no lemmas."""
    lemma_T: Ints
    pos_T: npt.NDArray[np.uint8]
    """Position in `PARTS_OF_SPEECH`; X where the pipeline has no parts of speech."""
    head_T: Ints
    """Position in T of the head; a root (and every token without trees) has its own."""
    sentence_T: Ints
    """Number of the sentence, rising from 0 and never shared by two documents."""
    document_T: Ints
    """Document that the token belongs to: a position in the sample, rising."""
    word_T: Ints
    """Which word of its document (as `tokens.words` counts them) the token begins in, or stands behind; 0 before the
    first. A rung that uses the first n words of a document has its tokens with word_T < n."""

    def __len__(self) -> int:
        return len(self.lemma_T)

    def at(self, documents: npt.NDArray[np.integer]) -> Parsed:
        """Return the same tokens with `documents[d]` in place of document d."""
        return replace(self, document_T=documents[self.document_T].astype(np.int32))


def join(parts: Iterable[Parsed]) -> Parsed:
    """Return the tokens of all parts one after the other, lemmas under one numbering in order of first appearance.

    Documents keep their numbers, so a document that was cut may continue in the next part. Parts may be joined in any
    grouping.
    """
    parts = list(parts)
    ids: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    lemma_parts = [np.array([ids[lemma] for lemma in part.lemmas], dtype=np.int32)[part.lemma_T] for part in parts]
    tokens = _offsets([len(part) for part in parts])
    sentences = _offsets([int(part.sentence_T[-1]) + 1 if len(part) else 0 for part in parts])
    return Parsed(
        lemmas=tuple(ids),
        lemma_T=_end_to_end(lemma_parts),
        pos_T=np.concatenate([np.zeros(0, dtype=np.uint8), *(part.pos_T for part in parts)]),
        head_T=_end_to_end(part.head_T + offset for part, offset in zip(parts, tokens, strict=True)),
        sentence_T=_end_to_end(part.sentence_T + offset for part, offset in zip(parts, sentences, strict=True)),
        document_T=_end_to_end(part.document_T for part in parts),
        word_T=_end_to_end(part.word_T for part in parts),
    )


def _offsets(lengths: Sequence[int]) -> list[int]:
    """Return how much lies before each part."""
    return [0, *itertools.accumulate(lengths)][: len(lengths)]


def _end_to_end(arrays: Iterable[npt.NDArray[np.integer]]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int32), *arrays]).astype(np.int32)
