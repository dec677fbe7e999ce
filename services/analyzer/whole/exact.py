"""Exact counts of a whole corpus: everything that differs is kept, so memory grows with the corpus until it ends."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ouroscope.errors import LimitExceeded
from ouroscope.records.analysis import Count, Counting, CountingSpec, WholeCorpus
from services.analyzer.whole.items import DISTINCT, EDGES, items_of
from services.analyzer.whole.lengths import Lengths

_SLOT = 100
# Bytes that a dict or set takes for an entry beside its text while it grows, with the number.

Table = dict[str, int]


class ExactCounts:
    """Folds the words of documents in; merging in any order gives equal bits."""

    def __init__(self, spec: CountingSpec, shown: int) -> None:
        self.spec = spec
        self._shown = shown
        self._bytes = 0
        self._lengths = Lengths()
        # How often each item was met; what is only counted once has 1.
        self._tables: dict[str, Table] = {name: {} for name in DISTINCT}

    def fold(self, words: Sequence[str]) -> None:
        """Take in the words of one document.

        Raises:
            LimitExceeded: all that differs takes more than the memory of the request.
        """
        self._lengths.fold(len(words))
        for items in items_of(words):
            for name, keys in items.others.items():
                self._know(name, keys)
            self._add("types", items.words)
            self._add(EDGES, items.edges)

    def merge(self, other: ExactCounts) -> None:
        """Take in what `other` has seen.

        Raises:
            LimitExceeded: as in `fold`.
        """
        self._lengths.merge(other._lengths)
        for name, table in other._tables.items():
            (self._add if name in ("types", EDGES) else self._know)(name, table)

    def state(self) -> Mapping[str, bytes]:
        """Return what it holds, by name; equal counts give equal bytes."""
        tables = {name: dict(sorted(table.items())) for name, table in self._tables.items()}
        return {name: json.dumps(held).encode() for name, held in {"lengths": self._lengths.state(), **tables}.items()}

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on where the one that gave `state` was.

        Raises:
            KeyError, TypeError, ValueError: that is no state.
        """
        held = {name: json.loads(data) for name, data in state.items()}
        self._lengths = Lengths(map(tuple, held["lengths"]))
        for name in DISTINCT:
            self._add(name, held[name])

    def result(self) -> WholeCorpus:
        """Return the counts."""
        return WholeCorpus(
            counting=Counting.EXACT,
            memory=self.spec.memory,
            distinct=tuple(_count(name, len(table)) for name, table in self._tables.items()),
            frequent_words=self._most("types"),
            frequent_edges=self._most(EDGES),
            document_lengths=self._lengths.quantiles(),
        )

    def _add(self, name: str, counts: Mapping[str, int]) -> None:
        table = self._tables[name]
        self._make_room(key for key in counts if key not in table)
        for key, count in counts.items():
            table[key] = table.get(key, 0) + count

    def _know(self, name: str, keys: Iterable[str]) -> None:
        table = self._tables[name]
        new = [key for key in keys if key not in table]
        self._make_room(new)
        table.update(dict.fromkeys(new, 1))

    def _make_room(self, keys: Iterable[str]) -> None:
        self._bytes += sum(sys.getsizeof(key) + _SLOT for key in keys)
        if self._bytes > self.spec.memory:
            raise LimitExceeded(
                f"counting this corpus exactly takes more than {self.spec.memory:,} bytes; allow more memory, or count "
                "with sketches, whose memory stays within it",
                unit="bytes",
                limit=str(self.spec.memory),
            )

    def _most(self, name: str) -> tuple[Count, ...]:
        most = Counter(self._tables[name]).items()
        return tuple(
            _count(key, value) for key, value in sorted(most, key=lambda one: (-one[1], one[0]))[: self._shown]
        )


def _count(id: str, value: int) -> Count:
    return Count(id=id, value=value, lower=value, upper=value)
