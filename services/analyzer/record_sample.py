"""Next-token records and scored texts in jackknife groups. Knows sums of columns; knows no metric and no text.

Clusters of records are ranked by the keyed hash of their names; cluster number r belongs to group r % 20, and the
last r of n = 20 q + r clusters are left out, so that every group has as many. With fewer than 20 clusters there is
one group, and no replicates.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from services.analyzer.jackknife import GROUPS
from services.analyzer.keys import cluster_key
from services.analyzer.metrics.sequences import Ratio

Row = dict[str, float]


@dataclass(slots=True)
class RecordSample:
    """Rows of numbers, each of a named cluster; about 200 bytes a row are kept."""

    _rows: list[tuple[int, Row]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, cluster: str, row: Row) -> None:
        """Take in one row; a column may be missing where a record does not say."""
        self._rows.append((cluster_key(cluster), row))

    def merge(self, other: RecordSample) -> None:
        """Take in the rows of another."""
        self._rows.extend(other._rows)

    def column(self, name: str) -> list[float]:
        """Return the values of a column, in no particular order."""
        return [row[name] for _, row in self._rows if name in row]

    def ratios(self, over: str, under: str | None = None) -> list[Ratio]:
        """Return, for each replicate, the sum of one column over that of another, or over the rows that have it.

        Groups are summed by `math.fsum`, so the order of the rows changes nothing.
        """
        groups = self._groups([(key, row) for key, row in self._rows if over in row])
        above = [math.fsum(row[over] for row in rows) for rows in groups]
        below = [math.fsum(row[under] if under else 1 for row in rows) for rows in groups]
        return [Ratio(*pair) for pair in zip(_leave_one_out(above), _leave_one_out(below), strict=True)]

    def _groups(self, rows: Sequence[tuple[int, Row]]) -> list[list[Row]]:
        ranked = sorted({key for key, _ in rows})
        if len(ranked) < GROUPS:
            return [[row for _, row in rows]]
        even = len(ranked) // GROUPS * GROUPS
        group_of = {key: rank % GROUPS for rank, key in enumerate(ranked[:even])}
        groups: list[list[Row]] = [[] for _ in range(GROUPS)]
        for key, row in rows:
            if key in group_of:
                groups[group_of[key]].append(row)
        return groups


def _leave_one_out(sums: list[float]) -> Iterable[float]:
    if len(sums) == 1:
        return sums
    return [math.fsum(sums[:g] + sums[g + 1 :]) for g in range(len(sums))]
