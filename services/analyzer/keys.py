"""Keyed hashes that put clusters, texts, words and relations in an order that no input can predict by accident.

The key is fixed: the same cluster must get the same place in every corpus, on every machine, or comparisons could not
be paired.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import numpy.typing as npt


def cluster_key(name: str) -> int:
    """Return the place of a cluster in the order of sampling, a 64-bit number."""
    return _hash(name, b"ouroscope/cluster", 8)


def text_key(text: str) -> int:
    """Return the place of a text within its cluster, a 128-bit number; equal texts get equal places."""
    return _hash(text, b"ouroscope/text", 16)


def word_keys(words: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each word, so that vocabularies can be compared without keeping them."""
    return np.array([_hash(word, b"ouroscope/word", 8) for word in words], dtype=np.uint64)


def prompt_key(prompt_id: str) -> int:
    """Return a 64-bit hash of the id of a prompt."""
    return _hash(prompt_id, b"ouroscope/prompt", 8)


def pair_keys(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each unordered pair of word hashes."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    # A combination that is not symmetric.
    return mix(low * np.uint64(0x9E3779B97F4A7C15) + high)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of splitmix64 of each value: a bijection that leaves no pattern.

    >>> hex(mix(np.array([1], dtype=np.uint64))[0])
    '0x5692161d100b05e5'
    """
    # Array arithmetic wraps around, as wanted.
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _hash(text: str, key: bytes, size: int) -> int:
    # A lone surrogate may reach us from a broken decoder; it has a hash like any other character.
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size, key=key).digest(), "big")
