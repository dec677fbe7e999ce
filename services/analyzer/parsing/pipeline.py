"""One spaCy pipeline in this process: only what is needed of it runs. The only file, beside training, that knows spaCy.

spaCy is imported when the first text is parsed.
"""

from __future__ import annotations

import gc
import re
import threading
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from ouroscope.errors import PreconditionFailed
from ouroscope.memory import importing, kept_out
from services.analyzer.parsing.parsed import PARTS_OF_SPEECH, Ints, Need, Parsed
from services.analyzer.parsing.sources import Source

_NEW_STRINGS = 200_000
# spaCy keeps every string it ever saw, about 300 bytes each: after so many, the pipeline is loaded anew.
_COLUMNS = ("LEMMA", "POS", "HEAD", "SENT_START", "IDX", "IS_SPACE", "LOWER")
_PROBE = "A word, 2 words."


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one document that is parsed by itself."""

    document: int
    text: str
    starts: tuple[int, ...]
    """Where each word begins, in characters of `text`."""
    first_word: int
    """How many words of the document stand before the piece."""


class _Turns:
    """A lock that is handed on in the order of asking; with a plain one, long work would keep short work waiting."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._busy = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        mine = threading.Lock()
        mine.acquire()
        with self._guard:
            if not self._busy:
                self._busy = True
                return
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._busy = False


class Pipeline:
    """A pipeline in this process, loaded when first used. Any thread may call it; one works at a time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._turn = _Turns()
        self._nlp: Any = None
        self._strings = 0

    def parse(self, pieces: Sequence[Piece], needs: frozenset[Need]) -> list[Parsed]:
        """Return the tokens of each piece.

        Raises:
            PreconditionFailed: the pipeline cannot be loaded, or does not work.
        """
        running = self._source.components(needs)
        with self._turn:
            nlp = self._loaded()
            idle = [name for name in nlp.pipe_names if name not in running]
            found = nlp.pipe([piece.text for piece in pieces], batch_size=max(1, len(pieces)), disable=idle)
            return [_parsed(piece, doc) for piece, doc in zip(pieces, found, strict=True)]

    def _loaded(self) -> Any:
        if self._nlp is not None and len(self._nlp.vocab.strings) > self._strings + _NEW_STRINGS:
            self._nlp = None
            # A pipeline holds itself in circles.
            gc.collect()
        if self._nlp is None:
            self._nlp = _load(self._source)
            self._strings = len(self._nlp.vocab.strings)
        return self._nlp


def _load(source: Source) -> Any:
    # Made by another minor version of spaCy; its answers are still its own.
    warnings.filterwarnings("ignore", r"\[W09[45]\]", UserWarning)
    try:
        spacy = _spacy(source)
        if source.package:
            # It may register components of its own.
            import_module(source.package)
        nlp = spacy.load(source.path, exclude=source.idle(frozenset(Need)))
        # One that lacks the tables of its rules, for example, loads and then does not work.
        nlp(_PROBE)
    except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
        raise PreconditionFailed(
            f"the spaCy pipeline {source.identity!r} cannot be used: was it made for another version of spaCy, was it "
            "never trained, or does it need a package that is not installed (a lemmatizer of rules is made with "
            f"spacy-lookups-data)?{_code(error)}",
            parser=source.identity,
        ) from error
    nlp.max_length = 2**31
    return nlp


def _spacy(source: Source) -> Any:
    """Import spaCy; where torch is not at work already, without it, which triples its memory and the time to start.

    thinc imports torch wherever it is installed, and only transformers use it. It remembers what it found: a process
    that began with another pipeline cannot load a transformer.
    """
    with importing(), nullcontext() if source.is_transformer else kept_out("torch"):
        return import_module("spacy")


def _code(error: Exception) -> str:
    """Return the number under which spaCy explains its error; the rest of its text names our paths."""
    found = re.match(r"\[(E\d+)\]", str(error))
    return f" spaCy says {found[1]}" if found else ""


def _parsed(piece: Piece, doc: Any) -> Parsed:
    columns = dict(zip(_COLUMNS, doc.to_array(_COLUMNS).T, strict=True))
    kept = columns["IS_SPACE"] == 0
    names = np.where(columns["LEMMA"] > 0, columns["LEMMA"], columns["LOWER"])
    lemmas, lemma_T = np.unique(names[kept], return_inverse=True)
    strings = doc.vocab.strings
    begins = columns["SENT_START"].view(np.int64) == 1
    return Parsed(
        lemmas=tuple(strings[int(key)].lower() for key in lemmas),
        lemma_T=lemma_T.astype(np.int32),
        pos_T=_parts_of_speech()[np.minimum(columns["POS"][kept].astype(np.int64), 255)],
        head_T=_heads(columns["HEAD"].view(np.int64), kept),
        sentence_T=_rising(np.cumsum(begins)[kept]),
        document_T=np.full(int(kept.sum()), piece.document, dtype=np.int32),
        word_T=_words_at(columns["IDX"][kept].astype(np.int64), piece),
    )


def _heads(offsets: npt.NDArray[np.int64], kept: npt.NDArray[np.bool_]) -> Ints:
    """Return the head of each kept token; one whose head is white space becomes a root."""
    places = np.cumsum(kept) - 1
    own = np.arange(len(offsets))
    heads = np.where(kept[own + offsets], own + offsets, own)
    return places[heads[kept]].astype(np.int32)


def _rising(numbers: npt.NDArray[np.int64]) -> Ints:
    return np.cumsum(np.diff(numbers, prepend=numbers[:1]) > 0).astype(np.int32)


def _words_at(characters: npt.NDArray[np.int64], piece: Piece) -> Ints:
    at = np.searchsorted(np.array(piece.starts, dtype=np.int64), characters, side="right") - 1
    return np.maximum(at + piece.first_word, 0).astype(np.int32)


@cache
def _parts_of_speech() -> npt.NDArray[np.uint8]:
    """Return our number of each of spaCy's numbers for parts of speech; what is none of them is X."""
    from spacy.parts_of_speech import IDS

    numbers = np.full(256, PARTS_OF_SPEECH.index("X"), dtype=np.uint8)
    for name, number in IDS.items():
        if name in PARTS_OF_SPEECH:
            numbers[number] = PARTS_OF_SPEECH.index(name)
    return numbers
