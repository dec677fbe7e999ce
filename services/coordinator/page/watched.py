"""The list of monitors, kept in memory as they are told of, so that showing a thousand of them reads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ouroscope.records.analysis import Verdict
from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.coordinator.page.bounds import MOST_MONITORS
from services.coordinator.report.words import SEVERITY
from services.coordinator.rows import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One monitor in the list."""

    name: str
    description: str
    paused: bool
    generations: int
    number: int | None = None
    """Of the newest generation."""
    time: datetime | None = None
    """When that was recorded."""
    verdict: Verdict | None = None
    sentence: str = ""


class Watched:
    """A `monitors.listener.MonitorListener` that remembers one line per monitor."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}

    def monitor_changed(self, monitor: Monitor) -> None:
        """Note a monitor, with its newest generation where it has one."""
        self._note(monitor, monitor.newest)

    def monitor_deleted(self, name: str) -> None:
        """Forget a monitor."""
        self._lines.pop(name, None)

    def generation_judged(
        self, monitor: Monitor, generation: MonitorGeneration, values: tuple[Measured, ...], warned: int
    ) -> None:
        """Note the newest generation of a monitor."""
        self._note(monitor, generation)

    def _note(self, monitor: Monitor, newest: MonitorGeneration | None) -> None:
        line = Line(
            name=monitor.name,
            description=monitor.description,
            paused=monitor.paused,
            generations=monitor.generations,
            number=newest.number if newest else None,
            time=newest.create_time if newest else None,
            verdict=newest.verdict if newest else None,
            sentence=newest.sentence if newest else "",
        )
        self._lines[monitor.name] = line

    @property
    def count(self) -> int:
        """Return how many monitors there are."""
        return len(self._lines)

    def by_verdict(self) -> Mapping[Verdict, int]:
        """Return how many monitors have which verdict."""
        return Counter(line.verdict for line in self._lines.values() if line.verdict is not None)

    def gravest(self) -> list[Line]:
        """Return the lines to show: the gravest first, then by name."""
        return sorted(self._lines.values(), key=_place)[:MOST_MONITORS]


def _place(line: Line) -> tuple[int, str]:
    return SEVERITY.index(line.verdict) if line.verdict else len(SEVERITY), line.name
