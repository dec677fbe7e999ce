"""How a whole corpus is counted: the two ways, under one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from ouroscope.errors import LimitExceeded
from ouroscope.records.analysis import Counting, CountingSpec, WholeCorpus
from services.analyzer.whole.exact import ExactCounts
from services.analyzer.whole.sketched import SketchedCounts

SHOWN = 20
"""Most frequent words, and edges, that are told."""


class Counts(Protocol):
    """Counts on their way."""

    spec: CountingSpec

    def fold(self, words: Sequence[str]) -> None:
        """Take in the words of one document; nothing is counted across its end."""

    def merge(self, other: Self) -> None:
        """Take in what another of the same specification has seen."""

    def state(self) -> Mapping[str, bytes]:
        """Return what it holds, by name."""

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on where the one that gave `state` was; only right after it was opened."""

    def result(self) -> WholeCorpus:
        """Return the counts; more may be folded in afterwards."""


def check_counting(spec: CountingSpec | None, allowed: int) -> None:
    """Say now what would fail later.

    Raises:
        LimitExceeded: more than the `allowed` bytes are asked for.
        CapabilityMissing: see `open_counts`.
    """
    if spec is None:
        return
    if spec.memory > allowed:
        raise LimitExceeded(
            f"counts of a whole corpus may take {allowed:,} bytes here and {spec.memory:,} are asked for; ask for "
            "less, or let the operator raise OURO_ANALYZER_MAX_COUNTING",
            unit="bytes",
            limit=str(allowed),
        )
    open_counts(spec)


def open_counts(spec: CountingSpec, shown: int = SHOWN) -> Counts:
    """Begin to count.

    Raises:
        CapabilityMissing: sketches are asked for, and the extra `sketches` is not installed.
    """
    return ExactCounts(spec, shown) if spec.counting is Counting.EXACT else SketchedCounts(spec, shown)
