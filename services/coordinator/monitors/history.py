"""What the coordinator keeps of monitors: one class that reads and writes records, in the database of the runs.

Payloads are the plain form of the records. Beside them lie what later verdicts need (`effects`), what the exporter
shows (`measured`), and of each monitor a light copy of its newest generation, so that lists read few bytes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.errors import AlreadyExists, NotFound
from ouroscope.records.analysis import Comparison, Verdict
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.monitors import Monitor, MonitorGeneration
from services.coordinator.connection import Database
from services.coordinator.monitors.judging import Past, past_of
from services.coordinator.monitors.names import generation_of, monitor_id_of
from services.coordinator.rows import Measured, time_text
from services.coordinator.tables import monitor_generations as generations
from services.coordinator.tables import monitors
from services.coordinator.verdicts import WARNED, warned_in_a_row

CHUNK = 100
"""Monitors that are read at a time when all of them are."""
FAR_BACK = 100
"""Generations in a row that are counted at most; more say no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A generation as it lies in the database."""

    generation: MonitorGeneration
    values: tuple[Measured, ...] = ()
    baselines: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """What was compared with what: by domain, and `judging.WHOLE` for the whole."""

    @property
    def past(self) -> Past:
        """Return what later verdicts need of it."""
        return past_of(self.generation, self.baselines)


class MonitorHistory:
    """Monitors and their generations. Whoever reads and then writes holds the lock of the monitor meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, monitor: Monitor, request_id: str | None, request: str) -> None:
        """Keep a new monitor; `request` is the digest of what was asked for.

        Raises:
            AlreadyExists: there is one of that name.
        """
        row = {"monitor": monitor_id_of(monitor.name), "request_id": request_id, "request": request}
        try:
            async with self._database.change() as connection:
                await connection.execute(monitors.insert().values({**row, **_monitor_row(monitor)}))
        except sa.exc.IntegrityError as error:
            raise AlreadyExists(f"there is a monitor {monitor.name}; choose another name") from error

    async def monitor(self, monitor_id: str) -> Monitor:
        """Return a monitor; its newest generation is the light copy.

        Raises:
            NotFound: there is none of that name.
        """
        row = await self._database.one(sa.select(monitors).where(monitors.c.monitor == monitor_id))
        if row is None:
            raise NotFound(
                f"there is no monitor {monitor_id!r}; `ouroscope monitors list` (ListMonitors) tells which there are"
            )
        return _monitor_of(row)

    async def find(self, monitor_id: str) -> Monitor | None:
        """Return a monitor, or None."""
        row = await self._database.one(sa.select(monitors).where(monitors.c.monitor == monitor_id))
        return _monitor_of(row) if row else None

    async def of_request(self, request_id: str) -> tuple[Monitor, str] | None:
        """Return the monitor that a request made, with the digest of that request."""
        row = await self._database.one(sa.select(monitors).where(monitors.c.request_id == request_id))
        return (_monitor_of(row), row.request) if row else None

    async def count(self) -> int:
        """Return how many monitors there are."""
        return int((await self._database.one(sa.select(sa.func.count()).select_from(monitors)))[0])

    async def page(self, limit: int, after: str = "") -> list[tuple[Monitor, int]]:
        """Return at most `limit` monitors in order of name, behind the id `after`, each with its size in bytes."""
        query = sa.select(monitors).where(monitors.c.monitor > after).order_by(monitors.c.monitor).limit(limit)
        rows = await self._database.all(query)
        return [(_monitor_of(row), len(row.payload) + len(row.newest or "")) for row in rows]

    async def change(self, monitor: Monitor) -> None:
        """Keep the new state of a monitor."""
        async with self._database.change() as connection:
            await _put(connection, monitor)

    async def delete(self, monitor_id: str) -> None:
        """Forget a monitor and its generations.

        Raises:
            NotFound: there is none of that name.
        """
        await self.monitor(monitor_id)
        async with self._database.change() as connection:
            for table in (generations, monitors):
                await connection.execute(table.delete().where(table.c.monitor == monitor_id))

    async def generation(self, monitor_id: str, number: int) -> Recorded | None:
        """Return one generation, or None."""
        return await self._one(generations.c.monitor == monitor_id, generations.c.number == number)

    async def generation_of_request(self, monitor_id: str, request_id: str) -> Recorded | None:
        """Return the generation that a request recorded, or None."""
        return await self._one(generations.c.monitor == monitor_id, generations.c.request_id == request_id)

    async def generations(self, monitor_id: str, limit: int, after: int = -1) -> list[tuple[MonitorGeneration, int]]:
        """Return generations in rising order behind the number `after`, each with its size in bytes."""
        mine = generations.c.monitor == monitor_id
        query = sa.select(generations.c.payload).where(mine, generations.c.number > after)
        rows = await self._database.all(query.order_by(generations.c.number).limit(limit))
        return [(from_plain(MonitorGeneration, json.loads(row.payload)), len(row.payload)) for row in rows]

    async def before(self, monitor_id: str, number: int, limit: int) -> list[Past]:
        """Return what verdicts need of the newest generations before `number`, in rising order."""
        rows = await self._effects(monitor_id, generations.c.number < number, generations.c.number.desc(), limit)
        return rows[::-1]

    async def behind(self, monitor_id: str, number: int) -> list[Past]:
        """Return what verdicts need of the generations after `number`, in rising order."""
        return await self._effects(monitor_id, generations.c.number > number, generations.c.number, None)

    async def warned(self, generation: MonitorGeneration) -> int:
        """Return how many generations in a row were warned of, up to this one, as far back as `FAR_BACK`."""
        if generation.verdict not in WARNED:
            return 0
        monitor_id, number = generation_of(generation.name)
        mine = generations.c.monitor == monitor_id, generations.c.number < number
        query = sa.select(generations.c.number, generations.c.effects).where(*mine)
        rows = await self._database.all(query.order_by(generations.c.number.desc()).limit(FAR_BACK))
        # Only the verdicts: a thousand monitors are asked for them at a start.
        verdicts = {row.number: _verdict(json.loads(row.effects).get("verdict")) for row in rows}
        return warned_in_a_row({**verdicts, generation.number: generation.verdict})

    async def keep(self, monitor: Monitor, recorded: Sequence[Recorded], request_id: str | None) -> None:
        """Keep a new generation, the first of `recorded`, with those that were judged again, and its monitor."""
        monitor_id = monitor_id_of(monitor.name)
        rows = [_generation_row(monitor_id, one) for one in recorded]
        rows[0]["request_id"] = request_id
        async with self._database.change() as connection:
            for row in rows:
                await connection.execute(self._database.upsert(generations, row))
            await _put(connection, monitor)

    async def everything(self) -> AsyncIterator[Monitor]:
        """Yield all monitors in order of name."""
        after = ""
        while found := [monitor for monitor, _ in await self.page(CHUNK, after)]:
            after = monitor_id_of(found[-1].name)
            for monitor in found:
                yield monitor

    async def latest(self, of: Iterable[Monitor], limit: int) -> dict[str, Recorded]:
        """Return all of the newest generations of those monitors whose was recorded last, by name of the monitor."""
        times = [(time_text(one.newest.create_time), one) for one in of if one.newest and one.newest.create_time]
        found = {}
        for _, monitor in sorted(times, key=itemgetter(0), reverse=True)[:limit]:
            assert monitor.newest is not None
            recorded = await self.generation(monitor_id_of(monitor.name), monitor.newest.number)
            if recorded is not None:
                found[monitor.name] = recorded
        return found

    async def _one(self, *where: Any) -> Recorded | None:
        row = await self._database.one(sa.select(generations).where(*where))
        return _recorded_of(row) if row else None

    async def _effects(self, monitor_id: str, where: Any, order: Any, limit: int | None) -> list[Past]:
        query = sa.select(generations.c.effects).where(generations.c.monitor == monitor_id, where).order_by(order)
        rows = await self._database.all(query.limit(limit) if limit else query)
        return [from_plain(Past, json.loads(row.effects)) for row in rows]


def light(generation: MonitorGeneration) -> MonitorGeneration:
    """Return a generation with its verdicts and effects of families, without effects of metrics and explanations."""
    domains = tuple(replace(one, comparison=_light(one.comparison)) for one in generation.domains)
    comparison = _light(generation.comparison) if generation.comparison else None
    return replace(generation, comparison=comparison, domains=domains)


def _verdict(name: str | None) -> Verdict | None:
    return Verdict(name) if name else None


def _light(comparison: Comparison) -> Comparison:
    return replace(comparison, metrics=(), explanation=None)


async def _put(connection: AsyncConnection, monitor: Monitor) -> None:
    mine = monitors.c.monitor == monitor_id_of(monitor.name)
    await connection.execute(monitors.update().where(mine).values(_monitor_row(monitor)))


def _monitor_row(monitor: Monitor) -> dict[str, Any]:
    return {
        "payload": canonical_json(replace(monitor, generations=0, newest=None)),
        "generations": monitor.generations,
        "newest": canonical_json(light(monitor.newest)) if monitor.newest else None,
    }


def _monitor_of(row: Any) -> Monitor:
    newest = from_plain(MonitorGeneration, json.loads(row.newest)) if row.newest else None
    return replace(from_plain(Monitor, json.loads(row.payload)), generations=row.generations, newest=newest)


def _generation_row(monitor_id: str, recorded: Recorded) -> dict[str, Any]:
    generation = recorded.generation
    return {
        "monitor": monitor_id,
        "number": generation.number,
        "report": str(generation.report),
        "effects": canonical_json(recorded.past),
        "payload": canonical_json(generation),
        "measured": canonical_json({"values": recorded.values, "baselines": recorded.baselines}),
    }


def _recorded_of(row: Any) -> Recorded:
    kept = json.loads(row.measured or "{}")
    return Recorded(
        generation=from_plain(MonitorGeneration, json.loads(row.payload)),
        values=tuple(from_plain(Measured, plain) for plain in kept.get("values", ())),
        baselines={domain: ArtifactRef.parse(text) for domain, text in kept.get("baselines", {}).items()},
    )
