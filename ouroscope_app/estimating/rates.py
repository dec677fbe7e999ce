"""How long work takes: rates of a machine, and from them the time of runs whose lanes go side by side. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ouroscope_app.estimating.work import Kind, Piece, Work

COORDINATION = 0.3
"""Seconds of a generation beside its stages: durable steps, comparisons, tables."""
START = 12.0
"""Seconds until services have started and libraries are loaded, once."""
AT_ONCE: Mapping[str, int] = {"generator": 1, "trainer": 1, "analyzer": 2}
"""Pieces of work that each service does at the same time."""
_SERVICE = {
    Kind.CUT: "generator",
    Kind.WRITE: "generator",
    Kind.SCORE: "generator",
    Kind.ANALYSE: "analyzer",
    Kind.TRAIN: "trainer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Time of one kind of work as a straight line: what a request costs, and what each unit of it costs."""

    kind: str
    """Value of a `Kind`."""
    fixed: float
    """Seconds."""
    per_unit: float
    """Seconds per token, step or document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What was measured on one machine with one model."""

    rates: tuple[Rate, ...]
    dataset: float
    """Seconds to read the embedded corpus, once per home."""

    def seconds(self, piece: Piece) -> float:
        """Return how long one piece takes where it need not wait."""
        rate = next(rate for rate in self.rates if rate.kind == piece.kind.value)
        return rate.fixed + rate.per_unit * piece.amount


def line(kind: Kind, small: tuple[int, float], large: tuple[int, float]) -> Rate:
    """Return the line through two measurements, each (amount, seconds); neither part of it is below 0.

    >>> line(Kind.SCORE, (10, 2.0), (30, 4.0))
    Rate(kind='score', fixed=1.0, per_unit=0.1)
    """
    slope = max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
    fixed = small[1] - slope * small[0]
    if fixed < 0:
        return Rate(kind=kind.value, fixed=0.0, per_unit=large[1] / large[0])
    return Rate(kind=kind.value, fixed=fixed, per_unit=slope)


def seconds_of(work: Work, rates: Rates, processors: int) -> float:
    """Return the expected wall time of all runs, one after the other.

    A run lasts as long as its longest lane, its busiest service, or all its work shared by the processors, whichever is
    most: no schedule is faster, and with one lane waiting for a service at a time none is twice as slow.
    """
    return START + rates.dataset + sum(_run(work, positions, rates, processors) for positions in work.runs)


def _run(work: Work, positions: Iterable[int], rates: Rates, processors: int) -> float:
    lanes = [work.lanes[position] for position in positions]
    chains = [sum(map(rates.seconds, lane)) + COORDINATION * _generations(lane) for lane in lanes]
    busy = dict.fromkeys(AT_ONCE, 0.0)
    for piece in (piece for lane in lanes for piece in lane):
        busy[_SERVICE[piece.kind]] += rates.seconds(piece)
    services = [seconds / min(AT_ONCE[name], processors) for name, seconds in busy.items()]
    return max(*chains, *services, sum(chains) / processors, 0.0)


def _generations(lane: Iterable[Piece]) -> int:
    return 1 + sum(piece.kind is Kind.TRAIN for piece in lane)
