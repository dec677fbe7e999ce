"""Which part of the embedded corpus a paragraph belongs to, and which paragraphs are copies of others.

Knows only texts. Three parts, because one pool of text must serve three masters without leaking: what the small model
learns from, what runs use as prompts and real references, and what measures the small model.

A paragraph's part depends on nothing but its own words, so installing or upgrading a library moves no other paragraph.
The words are looked at through overlapping runs of five (shingles), and the shingle with the least hash decides. This
is MinHash: two texts that share a fraction J of their shingles have the same least shingle with probability J
(Broder 1997), so the lightly edited copy that next year's release brings most likely stays in the part of its model.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import Enum

SHINGLE_WORDS = 5
"""Length of a shingle: long enough that independent authors seldom share one, short enough to survive small edits."""
COPIED_SHARE = 0.3
"""A text with more than this share of its shingles seen before counts as a copy, in [0, 1]."""

_WORD = re.compile(r"[^\W\d_]+")
_SALT = b"ouroscope.corpora.parts/1:"
"""Changing it deals all paragraphs anew, and then `models/ouro-tiny` must be trained anew."""


class Part(Enum):
    """What a paragraph of the embedded corpus may be used for."""

    TRAIN = "TRAIN"
    """Pretraining of `models/ouro-tiny` and of its tokenizer; nothing else reads it."""
    PROMPT = "PROMPT"
    """Prompts, real continuations, baselines and human admixture of runs; the small model never saw it."""
    HELD_OUT = "HELD_OUT"
    """What measures models: the perplexity on the card of `models/ouro-tiny`, and the examination in every run.

    Nothing is ever trained on it.
    """


SHARES = ((Part.TRAIN, 44), (Part.PROMPT, 48), (Part.HELD_OUT, 8))
"""Percentages. A run needs several disjoint slices of prompts, so the prompts get most."""


def normalised(text: str) -> str:
    """Return the words of a text, lower case, single spaces: equal for texts that differ in markup and layout only.

    >>> normalised("Return  the `value`, or 0.")
    'return the value or'
    """
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def shingles(text: str) -> list[str]:
    """Return the runs of five words of a text, in order; a shorter text is its own only shingle."""
    words = normalised(text).split(" ")
    count = max(1, len(words) - SHINGLE_WORDS + 1)
    return [" ".join(words[start : start + SHINGLE_WORDS]) for start in range(count)]


def part_of(text: str) -> Part:
    """Return the part of a text. Depends on its words only, and is mostly alike for near-copies (see above)."""
    return fingerprint(text).part


def identity(text: str) -> str:
    """Return a short name of a text, the same wherever and whenever it is found."""
    return hashlib.blake2b(normalised(text).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is needed to compare a text with others without looking at it again."""

    runs: frozenset[int]
    """Its shingles, as numbers of 32 bits: a tenth of the memory, and one false match in thousands."""
    part: Part

    @property
    def trains(self) -> bool:
        """Say whether the small model learns from the text."""
        return self.part is Part.TRAIN

    def repeats(self, known: Set[int]) -> bool:
        """Say whether the text is mostly made of known shingles."""
        return len(self.runs & known) > COPIED_SHARE * len(self.runs)


def fingerprint(text: str) -> Fingerprint:
    """Return the fingerprint of a text."""
    runs = [(zlib.crc32(run.encode()), run) for run in shingles(text)]
    return Fingerprint(frozenset(number for number, _ in runs), _part_decided_by(min(runs)[1]))


def distinct(fingerprints: Iterable[Fingerprint]) -> list[bool]:
    """Say for each text, in order, whether it stays when copies are dropped.

    First a text goes if it repeats those before it, whatever their part. What is left can still hold a short text that
    a later, longer one contains: where that one is in TRAIN and the short one is not, the short one goes too, for the
    small model would have seen it.
    """
    marks, seen, stays = list(fingerprints), set[int](), list[bool]()
    for mark in marks:
        stays.append(not mark.repeats(seen))
        if stays[-1]:
            seen |= mark.runs
    trained = set[int]().union(*(mark.runs for mark, kept in zip(marks, stays, strict=True) if kept and mark.trains))
    return [kept and (mark.trains or not mark.repeats(trained)) for mark, kept in zip(marks, stays, strict=True)]


def _part_decided_by(run: str) -> Part:
    """Deal a part by one shingle."""
    # The least of many hashes is small by construction, so it is hashed again before it deals the parts.
    ticket = int.from_bytes(hashlib.blake2b(_SALT + run.encode(), digest_size=8).digest()) % 100
    for part, share in SHARES:
        ticket -= share
        if ticket < 0:
            return part
    raise AssertionError("shares sum to 100")
