"""Cuts texts into pieces that a parser takes at once, and pieces into batches. Knows no parser.

Pieces bound what one text can cost: a parser takes memory for each token of a text, and its tokeniser time for the
square of a run without blanks.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from services.analyzer import tokens
from services.analyzer.parsing.pipeline import Piece

WORDS_OF_PIECE = 1_000
"""A longer text is cut at the first end of a sentence after so many words, at twice as many in any case."""
CHARACTERS_OF_PIECE = 20_000
"""And at so many characters in any case, for text that is all symbols: each may be a token."""
BATCH_WORDS = 2_000
"""Words that are parsed between two looks at whether to stop: about a quarter of a second."""
CONTEXT_WORDS = 40
"""Words behind the last one that counts, so that its sentence is seen to its end."""
LONGEST_RUN = 128
"""Characters without white space after which a blank is put in."""

_CHARACTERS_OF_WORD = 10
# A piece counts in its batch as so many words at least as its characters would make.
_STOP = r"[.!?\u2026\u3002\uff01\uff1f\u061f\u0964]"
# Nothing is tried twice, however many full stops stand in a row.
_SENTENCE_END = re.compile(rf"(?<!{_STOP}){_STOP}++[\"')\]\u201d]*+\s|\n\s*?\n")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Half characters, which JSON can hold and nothing can encode.
_LONG_RUN = re.compile(rf"\S{{{LONGEST_RUN}}}(?=\S)")


def pieces(texts: Sequence[str], used: Iterable[int], documents: Iterable[int]) -> Iterator[Piece]:
    """Yield the texts in pieces, each text up to the first `used` of its words and a little further."""
    for text, count, document in zip(texts, used, documents, strict=True):
        shown = tokens.first_words(text, int(count) + CONTEXT_WORDS)
        yield from _pieces(_SURROGATE.sub("\ufffd", shown), int(document))


def batches(found: Iterable[Piece]) -> Iterator[tuple[Piece, ...]]:
    """Yield the pieces in batches of about `BATCH_WORDS` words."""
    batch: list[Piece] = []
    words = 0
    for piece in found:
        batch.append(piece)
        words += max(len(piece.starts), len(piece.text) // _CHARACTERS_OF_WORD) + 1
        if words >= BATCH_WORDS:
            yield tuple(batch)
            batch, words = [], 0
    if batch:
        yield tuple(batch)


def _pieces(text: str, document: int) -> Iterator[Piece]:
    starts = tokens.word_starts(text)
    begin, first = 0, 0
    while begin < len(text):
        end = _end_of_piece(text, starts, begin, first)
        words = bisect_left(starts, end, first)
        yield _broken(text[begin:end], tuple(start - begin for start in starts[first:words]), document, first)
        begin, first = end, words


def _end_of_piece(text: str, starts: Sequence[int], begin: int, first: int) -> int:
    """Return where the piece ends that begins with the character `begin` and with the word `first`."""
    latest = starts[first + 2 * WORDS_OF_PIECE] if first + 2 * WORDS_OF_PIECE < len(starts) else len(text)
    latest = min(latest, begin + CHARACTERS_OF_PIECE)
    if latest == len(text):
        return latest
    earliest = starts[first + WORDS_OF_PIECE] if first + WORDS_OF_PIECE < len(starts) else latest
    found = _SENTENCE_END.search(text, min(earliest, begin + CHARACTERS_OF_PIECE // 2), latest)
    return found.end() if found else _begin_of_word(starts, latest, first)


def _begin_of_word(starts: Sequence[int], character: int, first: int) -> int:
    """Return where the word begins in which `character` stands, or `character` if that is in no later word."""
    at = bisect_left(starts, character + 1, first) - 1
    inside = at > first and character - starts[at] <= tokens.LONGEST_TOKEN
    return starts[at] if inside else character


def _broken(text: str, starts: tuple[int, ...], document: int, first_word: int) -> Piece:
    """Return a piece whose runs without white space are no longer than `LONGEST_RUN`."""
    if _LONG_RUN.search(text) is None:
        return Piece(document, text, starts, first_word)
    breaks = [match.end() for match in _LONG_RUN.finditer(text)]
    moved, before = [], 0
    for start in starts:
        while before < len(breaks) and breaks[before] <= start:
            before += 1
        moved.append(start + before)
    return Piece(document, _LONG_RUN.sub(r"\g<0> ", text), tuple(moved), first_word)
