"""Counts of a whole corpus in memory that a setting bounds, however long it is; each with its bounds.

Sketches are those of Apache DataSketches (extra `sketches`). Distinct counts and lengths have equal bits in whatever
order a corpus is read and merged. Frequent words have not, where there are more words than a table holds; their bounds
hold in any order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ouroscope.errors import CapabilityMissing
from ouroscope.records.analysis import Count, Counting, CountingSpec, WholeCorpus
from services.analyzer.whole.items import DISTINCT, EDGES, items_of
from services.analyzer.whole.lengths import Lengths

try:
    import datasketches
except ImportError:  # pragma: no cover  # the extra is not installed
    datasketches = None

_LONGEST = 32
# Characters of a word that may be among the frequent ones: longer ones are numbers and keys, and a table has no bound
# of bytes if its words have none.
_TABLES = {"types": 256, EDGES: 400}
# Bytes of an entry: four for each character, and what a hash table takes beside it.
_MOST_REGISTERS = 21
# Power of 2; the most that the library has.
_DEVIATIONS = 3
_CONFIDENCE = 0.99


class SketchedCounts:
    """Folds the words of documents in, and merges with others of the same memory."""

    def __init__(self, spec: CountingSpec, shown: int) -> None:
        """Begin.

        Raises:
            CapabilityMissing: the extra `sketches` is not installed.
        """
        if datasketches is None:
            raise CapabilityMissing("sketches need an extra: pip install 'ouroscope[sketches]'")
        self.spec = spec
        self._shown = shown
        self._lengths = Lengths()
        registers = _registers(spec.memory)
        self._distinct = {name: datasketches.hll_union(registers) for name in DISTINCT}
        self._frequent = {
            name: datasketches.frequent_strings_sketch(_power(spec.memory // 4 // entry))
            for name, entry in _TABLES.items()
        }

    def fold(self, words: Sequence[str]) -> None:
        """Take in the words of one document."""
        self._lengths.fold(len(words))
        for items in items_of(words):
            for name, keys in items.distinct.items():
                update = self._distinct[name].update
                for key in keys:
                    update(key)
            for name, counts in (("types", items.words), (EDGES, items.edges)):
                update = self._frequent[name].update
                for key, count in counts.items():
                    if len(key) <= _LONGEST or max(map(len, key.split())) <= _LONGEST:
                        update(key, count)

    def merge(self, other: SketchedCounts) -> None:
        """Take in what `other`, of the same memory, has seen."""
        self._lengths.merge(other._lengths)
        for name, union in self._distinct.items():
            union.update(_registers_of(other._distinct[name]))
        for name, table in self._frequent.items():
            table.merge(other._frequent[name])

    def state(self) -> Mapping[str, bytes]:
        """Return what it holds, by name."""
        return {
            "lengths": json.dumps(self._lengths.state()).encode(),
            **{f"distinct/{name}": _registers_of(each).serialize_compact() for name, each in self._distinct.items()},
            **{f"frequent/{name}": table.serialize() for name, table in self._frequent.items()},
        }

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on where the one that gave `state` was.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: that is no state.
        """
        self._lengths = Lengths(map(tuple, json.loads(state["lengths"])))
        for name, union in self._distinct.items():
            union.update(datasketches.hll_sketch.deserialize(state[f"distinct/{name}"]))
        for name in self._frequent:
            self._frequent[name] = datasketches.frequent_strings_sketch.deserialize(state[f"frequent/{name}"])

    def result(self) -> WholeCorpus:
        """Return the counts, each with its bounds.

        Sources: Flajolet et al. (2007), HyperLogLog; Anderson et al. (2017), A high-performance algorithm for
        identifying frequent items in data streams.
        """
        return WholeCorpus(
            counting=Counting.SKETCH,
            memory=self.spec.memory,
            distinct=tuple(_different(name, union) for name, union in self._distinct.items()),
            frequent_words=self._most("types"),
            frequent_edges=self._most(EDGES),
            document_lengths=self._lengths.quantiles(),
        )

    def _most(self, name: str) -> tuple[Count, ...]:
        """Return the most frequent items; only those are told that are sure to be more frequent than what was lost."""
        sure = datasketches.frequent_items_error_type.NO_FALSE_POSITIVES
        found = sorted(self._frequent[name].get_frequent_items(sure), key=lambda one: (-one[1], one[0]))
        return tuple(
            Count(id=key, value=value, lower=lower, upper=upper, approximate=lower != upper)
            for key, value, lower, upper in found[: self._shown]
        )


def _different(name: str, union: Any) -> Count:
    # An estimate that comes of registers alone, not of the order in which they were filled: the library makes it for
    # what was merged, so it is merged with itself.
    merged = datasketches.hll_union(union.lg_config_k)
    for _ in range(2):
        merged.update(_registers_of(union))
    # Bounds are whole numbers, and one more: of few items hardly any collide, and that one does is no deviation of 3.
    return Count(
        id=name,
        value=merged.get_estimate(),
        lower=max(0, math.floor(merged.get_lower_bound(_DEVIATIONS)) - 1),
        upper=math.ceil(merged.get_upper_bound(_DEVIATIONS)) + 1,
        approximate=True,
        confidence=_CONFIDENCE,
    )


def _registers_of(union: Any) -> Any:
    return union.get_result(datasketches.HLL_8)


def _registers(memory: int) -> int:
    """Return the power of 2 of registers, a byte each, with which all distinct counts take half of the memory."""
    return min(_MOST_REGISTERS, _power(memory // 2 // len(DISTINCT)))


def _power(count: int) -> int:
    return count.bit_length() - 1
