"""How many different clusters a corpus has, in bounded memory: exact to a limit, then estimated. Knows only hashes."""

from __future__ import annotations

from collections.abc import Iterable

EXACT_LIMIT = 65_536
"""Distinct hashes that are counted exactly; above it the estimate has a relative standard error of 0.4 %."""


class DistinctCount:
    """Keeps the smallest `EXACT_LIMIT` + 1 hashes (a k-minimum-values sketch); order and sharding change nothing."""

    def __init__(self) -> None:
        self._smallest: set[int] = set()

    def add(self, keys: Iterable[int]) -> None:
        """Take in 64-bit hashes."""
        self._smallest.update(keys)
        if len(self._smallest) > 2 * EXACT_LIMIT:
            self._prune()

    def merge(self, other: DistinctCount) -> None:
        """Take in what another has seen."""
        self.add(other._smallest)

    def kept(self) -> tuple[int, ...]:
        """Return the hashes that it keeps, sorted; another that takes them in counts as this one does."""
        self._prune()
        return tuple(sorted(self._smallest))

    def count(self) -> int:
        """Return the number of distinct hashes: exact up to `EXACT_LIMIT`, estimated above.

        The estimate is (k - 1) / (k-th smallest / 2^64), k = `EXACT_LIMIT` + 1.

        Source: Bar-Yossef et al. (2002), Counting distinct elements in a data stream.
        """
        if len(self._smallest) <= EXACT_LIMIT:
            return len(self._smallest)
        self._prune()
        return round(EXACT_LIMIT * 2**64 / max(self._smallest))

    def _prune(self) -> None:
        self._smallest = set(sorted(self._smallest)[: EXACT_LIMIT + 1])
