"""Who wants to know what becomes of monitors: the Prometheus collector. Knows no transport and no database."""

from __future__ import annotations

from typing import Protocol

from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.coordinator.rows import Measured


class MonitorListener(Protocol):
    """Told by the event loop; must return at once."""

    def monitor_changed(self, monitor: Monitor) -> None:
        """A monitor was made, updated, paused or unpaused, or is there at start-up."""

    def monitor_deleted(self, name: str) -> None:
        """A monitor is gone."""

    def generation_judged(
        self, monitor: Monitor, generation: MonitorGeneration, values: tuple[Measured, ...], warned: int
    ) -> None:
        """Say what the newest generation of a monitor is: when recorded, judged again, and at start-up.

        `warned` says how many generations in a row were warned of, up to this one.
        """
