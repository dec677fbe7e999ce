"""What Prometheus sees of monitors: text that is written when something changes. Never asks a database or a service.

Every monitor shows its verdict, its families and its times; single metrics and domains only those that were heard of
last, up to a limit, so that a scrape stays small whatever people watch. A deleted monitor is gone at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope.telemetry.written import WrittenFamilies
from services.coordinator.metric_book import MetricBook
from services.coordinator.monitors.exposition import (
    Details,
    Newest,
    detail_families,
    details_of,
    monitor_families,
    newest_of,
    seconds_of,
    suppressed_family,
)
from services.coordinator.rows import Measured

LIMIT = 20
"""Monitors that are exported with every metric."""


class MonitorCollector:
    """A `MonitorListener` that writes its part of a scrape. Told by the event loop, scraped by another thread."""

    def __init__(self, book: MetricBook, *, limit: int = LIMIT, unix_time: Callable[[], float] = time.time) -> None:
        self._book = book
        self._limit = limit
        self._started = unix_time()
        self._lock = threading.Lock()
        self._newest: dict[str, Newest | None] = {}
        self._details: dict[str, Details] = {}
        self._unwritten: set[str] = set()
        """Monitors whose details are not in the text yet: at a start a thousand come and few of them stay."""
        self._written = WrittenFamilies()
        self._units: Mapping[str, str] = {}
        """With which the details were written."""

    def monitor_changed(self, monitor: Monitor) -> None:
        """Show a monitor that was made, changed or paused."""
        with self._lock:
            self._show(monitor, self._newest.get(monitor.name))

    def monitor_deleted(self, name: str) -> None:
        """Show it no longer."""
        with self._lock:
            self._newest.pop(name, None)
            self._written.drop(name)
            self._drop_details(name)

    def generation_judged(
        self, monitor: Monitor, generation: MonitorGeneration, values: tuple[Measured, ...], warned: int
    ) -> None:
        """Show the newest generation of a monitor."""
        with self._lock:
            before = self._newest.get(monitor.name)
            is_new = before is None or before.number < generation.number
            # What was recorded before this process began was counted by the one before.
            if is_new and seconds_of(generation.create_time) >= self._started:
                self._book.count(values)
            self._show(monitor, newest_of(generation, warned))
            self._detail(monitor.name, details_of(generation, values))

    def text(self) -> str:
        """Return the families of all monitors."""
        with self._lock:
            self._write_details()
            heard = sum(newest is not None for newest in self._newest.values())
            self._written.put("", [suppressed_family(heard - len(self._details))])
            return self._written.text()

    def _show(self, monitor: Monitor, newest: Newest | None) -> None:
        self._newest[monitor.name] = newest
        self._written.put(monitor.name, monitor_families(monitor, newest))

    def _detail(self, name: str, details: Details) -> None:
        """Keep details unless all that are kept are of monitors that were heard of later."""
        self._details[name] = details
        self._unwritten.add(name)
        first = min(self._details, key=lambda one: self._details[one].recorded)
        if len(self._details) > self._limit:
            self._drop_details(first)

    def _write_details(self) -> None:
        if self._units is not self._book.units:
            self._units = self._book.units
            self._unwritten.update(self._details)
        for name in self._unwritten:
            self._written.put(_details_piece(name), detail_families(name, self._details[name], self._units))
        self._unwritten.clear()

    def _drop_details(self, name: str) -> None:
        self._details.pop(name, None)
        self._unwritten.discard(name)
        self._written.drop(_details_piece(name))


def _details_piece(name: str) -> str:
    return f"{name}/details"
