"""What pages show, read from the tables and the store: little at a time, so that a loop that goes on is not slowed.

The loop of the coordinator reads rows, and parses one generation between two awaits; files are read in threads. What
has ended does not change, and is kept.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime

from ouroscope.records.analysis import MetricInfo
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope.records.runs import Generation, Run
from ouroscope.store import ArtifactStore
from services.coordinator.database import History
from services.coordinator.dataset.texts import dealt_of
from services.coordinator.monitors.history import MonitorHistory
from services.coordinator.monitors.names import MOST_NUMBER
from services.coordinator.page.bounds import MOST_GENERATIONS, MOST_POINTS, MOST_PROMPTS, MOST_RUNS, shown_of
from services.coordinator.report.loading import Artifacts, load_view
from services.coordinator.report.view import RunView
from services.coordinator.rows import Outline


class Reading:
    """Reads runs and monitors. Writes nothing."""

    def __init__(self, history: History, store: ArtifactStore) -> None:
        self._history = history
        self._monitors = MonitorHistory(history.database)
        self._artifacts = Artifacts(store, 2 * MOST_POINTS, MOST_PROMPTS)
        self._ended: OrderedDict[tuple[str, datetime, Outline], Generation] = OrderedDict()
        self.metrics: tuple[MetricInfo, ...] = ()
        """Catalogue of the analyzer; empty before it is known."""

    def know_metrics(self, infos: Iterable[MetricInfo]) -> None:
        """Learn the catalogue."""
        self.metrics = tuple(infos)

    async def runs(self) -> list[Run]:
        """Return the newest runs, newest first."""
        return await self._history.runs(MOST_RUNS)

    async def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            NotFound: there is none of that name.
        """
        return await self._history.run(run_id)

    async def outline(self, run: Run) -> tuple[Outline, ...]:
        """Return what is there of the generations that are shown."""
        shown = shown_of(run.spec)
        found = await self._history.outline(_id(run.name), seeds=shown.seeds, numbers=shown.numbers)
        return tuple(one for one in found if one.lane.arm in shown.arms)

    async def view(self, run: Run, outline: Sequence[Outline]) -> RunView:
        """Return a run with what was measured of the generations in `outline`."""
        generations = [await self._generation(run, one) for one in outline]
        kept = await self._history.artifacts(_id(run.name))
        dealt = dealt_of(kept.get("dataset"))
        return await asyncio.to_thread(load_view, self._artifacts, run, generations, self.metrics, dealt=dealt)

    async def _generation(self, run: Run, outline: Outline) -> Generation:
        key = (run.name, run.create_time, outline)
        if key in self._ended:
            self._ended.move_to_end(key)
            return self._ended[key]
        generation = (await self._history.generation(outline.lane, outline.number)).generation
        if outline.state.ended:
            self._ended[key] = generation
            while len(self._ended) > MOST_POINTS:
                self._ended.popitem(last=False)
        return generation

    async def monitor(self, monitor_id: str) -> Monitor:
        """Return a monitor with its newest generation.

        Raises:
            NotFound: there is none of that name.
        """
        return await self._monitors.monitor(monitor_id)

    async def generations(self, monitor: Monitor) -> list[MonitorGeneration]:
        """Return the newest generations of a monitor, in rising order."""
        monitor_id = _id(monitor.name)
        newest = await self._monitors.before(monitor_id, MOST_NUMBER + 1, MOST_GENERATIONS)
        found = [await self._monitors.generation(monitor_id, past.number) for past in newest]
        return [one.generation for one in found if one is not None]


def _id(name: str) -> str:
    return name.partition("/")[2]
