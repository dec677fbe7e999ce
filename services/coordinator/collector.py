"""What Prometheus sees of runs: one collector, rendered from memory at scrape time. Never asks a database or a service.

Live runs only, and for a grace time those that have ended, so that series of dead runs go stale by themselves. What is
undefined has no sample. `generation` is a value, never a label. Names: names.md of the design.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ouroscope.records.runs import Run, RunState
from services.coordinator.exposition import Exported, arm_families, effect_families, run_families, value_families
from services.coordinator.metric_book import MetricBook
from services.coordinator.rows import Kept

GRACE = 300.0
"""Seconds that the series of an ended run stay."""
LIMIT = 20
"""Runs that are exported at most; a scrape must stay small whatever people start."""
BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)


@dataclass(slots=True)
class _Durations:
    """Counts per bucket of a histogram, and their sum; its size does not grow with what it counts."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        bounds = (*(str(bound) for bound in BUCKETS), "+Inf")
        return [(bound, float(count)) for bound, count in zip(bounds, accumulate(self.counts), strict=True)]


class RunCollector(Collector):
    """A `board.Listener` that is also a Prometheus collector. Told by the event loop, scraped by another thread."""

    def __init__(
        self,
        book: MetricBook,
        *,
        grace: float = GRACE,
        limit: int = LIMIT,
        clock: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._grace = grace
        self._limit = limit
        self._clock = clock
        self._unix_time = unix_time
        self._lock = threading.Lock()
        self._runs: dict[str, Exported] = {}
        self._suppressed: set[str] = set()
        self._stages: dict[str, _Durations] = {}

    def run_changed(self, run: Run) -> None:
        """Show a new state, or let the grace time of an ended run begin."""
        with self._lock:
            shown = self._runs.setdefault(run.name, Exported(run))
            done = run.generations_done > shown.run.generations_done
            if done or (run.state is RunState.SUCCEEDED and shown.run.state is not RunState.SUCCEEDED):
                shown.last_success = self._unix_time()
            shown.run, shown.announced = run, True
            shown.ended_at = (shown.ended_at or self._clock()) if run.state.ended else None

    def generation_examined(self, run: Run, kept: Kept) -> None:
        """Show the values of a generation, unless a later one is known."""
        place = (kept.lane.arm, kept.lane.seed)
        with self._lock:
            shown = self._runs.setdefault(run.name, Exported(run))
            shown.run = run
            number, comparison = kept.generation.number, kept.generation.comparison
            if comparison is not None:
                shown.verdicts.setdefault(place, {})[number] = comparison.verdict
            before = shown.newest.get(place)
            if before is not None and before.generation.number > number:
                return
            if shown.announced and (before is None or before.generation.number < number or not before.values):
                self._book.count(kept.values)
            shown.newest[place] = kept

    def stage_took(self, stage: str, seconds: float) -> None:
        """Count how long a stage took."""
        with self._lock:
            self._stages.setdefault(stage, _Durations()).add(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a sample."""
        with self._lock:
            shown = self._shown()
            families = [
                *run_families(shown),
                *arm_families(shown),
                *value_families(shown, self._book.units),
                *effect_families(shown),
                *self._process_families(),
            ]
        yield from (family for family in families if family.samples)

    def _shown(self) -> Sequence[Exported]:
        """Drop what is past its grace time, and return the newest runs up to the limit."""
        now = self._clock()
        gone = [n for n, one in self._runs.items() if one.ended_at is not None and now - one.ended_at > self._grace]
        for name in gone:
            del self._runs[name]
        ordered = sorted(self._runs.values(), key=lambda one: one.run.create_time, reverse=True)
        self._suppressed.update(one.run.name for one in ordered[self._limit :])
        return ordered[: self._limit]

    def _process_families(self) -> list[Metric]:
        seconds = HistogramMetricFamily(
            "ouroscope_stage_duration_seconds", "Wall time of one stage of a generation.", labels=["stage"]
        )
        for stage, times in self._stages.items():
            seconds.add_metric([stage], times.buckets(), times.total)
        suppressed = CounterMetricFamily(
            "ouroscope_runs_suppressed", "Runs that were not exported since too many are live."
        )
        suppressed.add_metric([], len(self._suppressed))
        return [seconds, suppressed]
