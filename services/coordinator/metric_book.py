"""What is known of metrics whatever they were measured on: their units, and how often they were undefined.

Runs and monitors share one: a value without a sample is counted in one place. Written by the event loop, read by the
thread of a scrape.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from ouroscope.records.analysis import MetricInfo
from services.coordinator.rows import Measured


class MetricBook(Collector):
    """Units by metric, and counters of generations and of undefined values."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._units: Mapping[str, str] = {}
        self._undefined: Counter[str] = Counter()
        self._generations = 0

    def know(self, infos: Iterable[MetricInfo]) -> None:
        """Learn the units of metrics, which are part of their names here; before that, values are not shown."""
        self._units = {info.id: info.unit for info in infos}

    @property
    def units(self) -> Mapping[str, str]:
        """Return the unit of every metric; empty before the catalogue is known. Never changed in place."""
        return self._units

    def count(self, values: Iterable[Measured]) -> None:
        """Count a generation and what was undefined in it; once, however often it is shown."""
        undefined = [value.id for value in values if value.value is None]
        with self._lock:
            self._generations += 1
            self._undefined.update(undefined)

    def collect(self) -> Iterator[Metric]:
        """Yield the counters; a metric that is known starts at 0, so that its first increase is seen."""
        with self._lock:
            counts = {**dict.fromkeys(self._units, 0), **self._undefined}
            generations = self._generations
        undefined = CounterMetricFamily(
            "ouroscope_metric_undefined", "Values that were undefined, and so have no sample.", labels=["metric"]
        )
        for metric, count in sorted(counts.items()):
            undefined.add_metric([metric], count)
        examined = CounterMetricFamily(
            "ouroscope_generations_examined", "Generations of runs and monitors that this process has measured."
        )
        examined.add_metric([], generations)
        yield from (undefined, examined)
