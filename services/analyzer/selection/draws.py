"""Random choices that depend on a seed and on what a document is, and on nothing else.

The order of the corpora, how they are cut into shards and who works on them change no draw.
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b

from ouroscope.canonical import canonical_json
from ouroscope.records.documents import Document

Name = bytes
"""16 bytes that stand for one document of one pool."""

_KEY = b"ouroscope/selection"


class Namer:
    """Names the documents of one pool. Equal documents get different names, which do not say where each came from."""

    def __init__(self) -> None:
        self._seen: Counter[bytes] = Counter()

    def name(self, document: Document) -> Name:
        """Return the name of the next document; all that is known of it counts, so equal ids alone make none equal."""
        digest = _hash(canonical_json(document).encode("ascii"), 16)
        self._seen[digest] += 1
        return _hash(digest + b"%d" % self._seen[digest], 16)


def place(seed: int, name: Name, purpose: str, number: int = 0) -> int:
    """Return a 64-bit number for one choice about one document; `purpose` and `number` tell choices apart."""
    return int.from_bytes(_hash(name + f"{seed}/{purpose}/{number}".encode("ascii"), 8), "big")


def uniform(seed: int, name: Name, purpose: str, number: int = 0) -> float:
    """Return the same as a number in (0, 1), never 0 or 1."""
    # 52 bits and a half: the largest of them is still a float below 1.
    return ((place(seed, name, purpose, number) >> 12) + 0.5) / 2**52


def _hash(data: bytes, size: int) -> bytes:
    return blake2b(data, digest_size=size, key=_KEY).digest()
