"""What can be asked about monitors: made, looked at, changed, deleted. Records in and out, no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from ouroscope.canonical import digest_of
from ouroscope.errors import AlreadyExists, FieldProblem, InvalidRequest, LimitExceeded, NotFound, PreconditionFailed
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope.rpc.paging import page_size, read_token, write_token
from services.coordinator.monitors import names
from services.coordinator.monitors.baselines import Baselines
from services.coordinator.monitors.history import MonitorHistory, Recorded
from services.coordinator.monitors.listener import MonitorListener
from services.coordinator.monitors.locks import Locks
from services.coordinator.requests import read_request_id

T = TypeVar("T")

MOST_MONITORS = 10_000
CHANGEABLE = ("description", "baseline", "domain_baselines", "policy", "paused")
"""Fields that UpdateMonitor sets."""
LARGEST_PAGE_BYTES = 3 * 1024 * 1024
"""Of records in JSON, which is longer than the message: clients in other languages accept 4 MiB by default."""
LARGEST_PAGE_OF_GENERATIONS = 100


class Monitors:
    """The monitors of one home. Lists come in pages: the items and the token of the next page, empty on the last."""

    def __init__(
        self,
        history: MonitorHistory,
        baselines: Baselines,
        locks: Locks,
        listeners: Sequence[MonitorListener],
        now: Callable[[], datetime],
    ) -> None:
        self._history = history
        self._baselines = baselines
        self._locks = locks
        self._listeners = tuple(listeners)
        self._now = now

    async def show_all(self, detailed: int) -> None:
        """Tell the listeners what earlier processes have recorded: every verdict, and of the latest every value."""
        everything = [monitor async for monitor in self._history.everything()]
        latest = await self._history.latest(everything, detailed)
        for monitor in everything:
            self._tell(monitor)
            if monitor.newest is not None:
                known = latest.get(monitor.name, Recorded(generation=monitor.newest))
                warned = await self._history.warned(known.generation)
                for listener in self._listeners:
                    listener.generation_judged(monitor, known.generation, known.values, warned)

    async def create(self, monitor_id: str, wanted: Monitor, baseline_name: str = "", request_id: str = "") -> Monitor:
        """Make a monitor and return it; the same `request_id` again returns the one that it made.

        Raises:
            InvalidRequest: a name is none, or the baseline is of another kind.
            NotFound: the baseline is not there.
            AlreadyExists: there is a monitor of that name, or the request_id was used for another request.
            LimitExceeded: there are too many monitors.
        """
        name, key = names.monitor_name(monitor_id), read_request_id(request_id)
        settings = Monitor(**{field: getattr(wanted, field) for field in CHANGEABLE})
        request = digest_of(name, settings, baseline_name)
        # Two that come at once with one request_id: the second waits, and finds what the first has made.
        async with self._locks.of(name):
            if key is not None and (made := await self._history.of_request(key)):
                return _same_request(*made, request)
            await self._check_room(monitor_id)
            monitor = self._stamped(await self._with_baseline(replace(settings, name=name), baseline_name), new=True)
            await self._history.create(monitor, key, request)
        self._tell(monitor)
        return monitor

    async def get(self, name: str) -> Monitor:
        """Return the monitor `monitors/{monitor}` with all of its newest generation."""
        monitor_id = names.monitor_id_of(name)
        monitor = await self._history.monitor(monitor_id)
        newest = await self._history.generation(monitor_id, monitor.newest.number) if monitor.newest else None
        return replace(monitor, newest=newest.generation) if newest else monitor

    async def page(self, size: int, token: str) -> tuple[list[Monitor], str]:
        """Return a page of monitors in order of name; of their newest generations only the families."""
        size, after = page_size(size), read_token(token) or ""
        shown, more = _cut(await self._history.page(size + 1, after), size)
        return shown, write_token(names.monitor_id_of(shown[-1].name)) if more else ""

    async def update(self, changed: Monitor, fields: Sequence[str]) -> Monitor:
        """Set `fields` of a monitor to what `changed` has, and return it.

        Raises:
            InvalidRequest: a field cannot be set, or no field is named.
            PreconditionFailed: `changed` has an etag, and the monitor was changed after it was read.
        """
        monitor_id = names.monitor_id_of(changed.name, "monitor.name")
        _check_fields(fields)
        await self._check_baselines(changed, fields)
        async with self._locks.of(changed.name):
            monitor = await self._history.monitor(monitor_id)
            if changed.etag and changed.etag != monitor.etag:
                raise PreconditionFailed(f"{monitor.name} was changed meanwhile; read it again", etag=monitor.etag)
            monitor = self._stamped(replace(monitor, **{field: getattr(changed, field) for field in fields}))
            await self._history.change(monitor)
        self._tell(monitor)
        return monitor

    async def delete(self, name: str) -> None:
        """Remove a monitor and its history; reports stay in the store."""
        monitor_id = names.monitor_id_of(name)
        async with self._locks.of(name):
            await self._history.delete(monitor_id)
        for listener in self._listeners:
            listener.monitor_deleted(name)

    async def generation(self, name: str) -> MonitorGeneration:
        """Return the generation `monitors/{monitor}/generations/{n}`."""
        monitor_id, number = names.generation_of(name)
        await self._history.monitor(monitor_id)
        recorded = await self._history.generation(monitor_id, number)
        if recorded is None:
            raise NotFound(f"there is no {name}; ListMonitorGenerations tells which there are")
        return recorded.generation

    async def generations(self, parent: str, size: int, token: str) -> tuple[list[MonitorGeneration], str]:
        """Return a page of the history of a monitor in rising order of number."""
        monitor_id = names.monitor_id_of(parent, "parent")
        await self._history.monitor(monitor_id)
        size, after = min(page_size(size), LARGEST_PAGE_OF_GENERATIONS), _number(read_token(token))
        shown, more = _cut(await self._history.generations(monitor_id, size + 1, after), size)
        return shown, write_token(str(shown[-1].number)) if more else ""

    async def _with_baseline(self, monitor: Monitor, baseline_name: str) -> Monitor:
        await self._check_baselines(replace(monitor, baseline=None), ("domain_baselines",))
        beside = await self._baselines.of(monitor.baseline, baseline_name, corpus=True)
        if beside is None:
            return monitor
        return replace(monitor, baseline=beside.baseline, domain_baselines=monitor.domain_baselines or beside.domains)

    async def _check_baselines(self, monitor: Monitor, fields: Sequence[str]) -> None:
        if "baseline" in fields and monitor.baseline is not None:
            await self._baselines.check(monitor.baseline, "monitor.baseline")
        if "domain_baselines" in fields:
            for position, one in enumerate(monitor.domain_baselines):
                await self._baselines.check(one.baseline, f"monitor.domain_baselines[{position}].baseline")

    async def _check_room(self, monitor_id: str) -> None:
        if await self._history.find(monitor_id) is not None:
            raise AlreadyExists(f"there is a monitor {monitor_id!r}; choose another name")
        if await self._history.count() >= MOST_MONITORS:
            raise LimitExceeded(f"there are {MOST_MONITORS} monitors, and no more can be made; delete some")

    def _stamped(self, monitor: Monitor, *, new: bool = False) -> Monitor:
        return stamped(replace(monitor, create_time=self._now()) if new else monitor, self._now())

    def _tell(self, monitor: Monitor) -> None:
        for listener in self._listeners:
            listener.monitor_changed(monitor)


def stamped(monitor: Monitor, now: datetime) -> Monitor:
    """Return a changed monitor with the time of the change and an etag that no other state of it has."""
    return replace(monitor, update_time=now, etag=digest_of(replace(monitor, newest=None), now)[:16])


def _same_request(made: Monitor, asked: str, asks: str) -> Monitor:
    if asked != asks:
        raise AlreadyExists(f"the request_id was used for {made.name}; make a new one", monitor=made.name)
    return made


def _check_fields(fields: Sequence[str]) -> None:
    unknown = [field for field in fields if field not in CHANGEABLE]
    if unknown or not fields:
        told = f"name one or more of {', '.join(CHANGEABLE)}"
        told += f"; got {', '.join(field[:80] for field in unknown[:5])}" if unknown else ""
        raise InvalidRequest(f"update_mask: {told}", (FieldProblem("update_mask", told),))


def _cut(found: list[tuple[T, int]], size: int) -> tuple[list[T], bool]:
    """Return as many of `found` as a page has and one message holds, and whether more follow; at least one."""
    shown: list[T] = []
    taken = 0
    for item, length in found[:size]:
        taken += length
        if shown and taken > LARGEST_PAGE_BYTES:
            break
        shown.append(item)
    return shown, len(found) > len(shown)


def _number(key: str | None) -> int:
    if key is None:
        return -1
    if not key.isdecimal():
        raise InvalidRequest("page_token is of another list; start again without it")
    return int(key)
