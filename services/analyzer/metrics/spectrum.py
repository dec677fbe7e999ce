"""Frequency spectrum: how many types occur once, twice, ...: all that most measures of diversity need.

Sums over a spectrum are exact integers, or `math.fsum` over rising frequencies: equal whatever order the words came in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ouroscope.errors import Undefined


@dataclass(frozen=True)
class Spectrum:
    """f_m types occur m times each; m rises, every f_m is above 0."""

    occurrences: tuple[int, ...]
    """The m, each at least 1."""
    types_with: tuple[int, ...]
    """The f_m."""

    @classmethod
    def of_counts(cls, counts: Iterable[int] | npt.NDArray[np.int64]) -> Spectrum:
        """Make a spectrum from how often each type occurs; zeros do not count.

        >>> Spectrum.of_counts([4, 2, 1, 1, 0])
        Spectrum(occurrences=(1, 2, 4), types_with=(2, 1, 1))
        """
        array = counts if isinstance(counts, np.ndarray) else np.array(list(counts), dtype=np.int64)
        return cls.of_histogram(np.bincount(array))

    @classmethod
    def of_histogram(cls, histogram: npt.NDArray[np.int64]) -> Spectrum:
        """Make a spectrum from an array whose entry m is f_m; entry 0 does not count."""
        (found,) = np.nonzero(histogram[1:])
        return cls(tuple((found + 1).tolist()), tuple(histogram[found + 1].tolist()))

    @cached_property
    def total(self) -> int:
        """N: all occurrences."""
        return sum(m * f for m, f in zip(self.occurrences, self.types_with, strict=True))

    @cached_property
    def types(self) -> int:
        """V: different types."""
        return sum(self.types_with)

    def require(self, what: str) -> None:
        """Raise Undefined if the spectrum is empty; `what` says what is missing."""
        if not self.total:
            raise Undefined(f"no {what}")

    @cached_property
    def entropy(self) -> float:
        """H = -sum p ln p in nats, p = m / N; 0 for an empty spectrum."""
        if not self.total:
            return 0.0
        pairs = zip(self.occurrences, self.types_with, strict=True)
        spread = math.fsum(f * (m * math.log(m)) for m, f in pairs) / self.total
        # Rounding may leave a hair below 0 when there is one type.
        return max(0.0, math.log(self.total) - spread)

    def top(self, count: int) -> int:
        """Return the occurrences of the `count` most frequent types together."""
        taken = 0
        for m, f in zip(reversed(self.occurrences), reversed(self.types_with), strict=True):
            step = min(f, count)
            taken += m * step
            count -= step
        return taken
