"""Everything about monitors in one place, put together once per coordinator. Knows no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ouroscope.store import ArtifactStore
from services.coordinator.database import History
from services.coordinator.monitors.baselines import Baselines
from services.coordinator.monitors.comparing import Comparing
from services.coordinator.monitors.gating import Gating
from services.coordinator.monitors.history import MonitorHistory
from services.coordinator.monitors.listener import MonitorListener
from services.coordinator.monitors.locks import Locks
from services.coordinator.monitors.measuring import Measuring
from services.coordinator.monitors.monitors import Monitors
from services.coordinator.monitors.recording import Recording
from services.coordinator.patience import Patiently
from services.coordinator.workers import Analyzer


@dataclass(frozen=True, slots=True)
class Desk:
    """What can be asked about monitors."""

    monitors: Monitors
    recording: Recording
    gating: Gating


def open_desk(
    runs: History,
    store: ArtifactStore,
    analyzer: Analyzer,
    patiently: Patiently,
    listeners: Sequence[MonitorListener] = (),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Desk:
    """Return the monitors that lie in the database of the runs."""
    history, locks = MonitorHistory(runs.database), Locks()
    measuring, comparing = Measuring(analyzer, store, patiently), Comparing(analyzer)
    baselines = Baselines(analyzer, measuring, store, runs, history)
    return Desk(
        Monitors(history, baselines, locks, listeners, now),
        Recording(history, measuring, comparing, locks, listeners, now),
        Gating(history, baselines, measuring, comparing),
    )
