"""What the coordinator keeps of runs: one class that reads and writes records. Knows no DBOS and no gRPC.

One process writes (it holds the lock of the home); others may read at any time and never disturb it. Payloads are the
plain form of the records, so a new field of a record needs no line here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ouroscope.canonical import canonical_json, from_plain
from ouroscope.errors import AlreadyExists, NotFound, PreconditionFailed, Unavailable
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.runs import Generation, Run, RunState, StageTime
from services.coordinator import tables
from services.coordinator.connection import Check, Database, may_always
from services.coordinator.plan import Lane
from services.coordinator.rows import (
    Counted,
    Kept,
    Measured,
    Outline,
    counted_of,
    generation_row,
    kept_of,
    loads,
    outline_of,
    run_row,
)

_MAY_NOT = (
    "the tables of runs are not those of this program, and the user of the database may not change them; let their "
    "owner do it: python -m services.coordinator --migrate, see docs/operations.md"
)


def open_readonly(home: Path, url: str | None = None) -> History:
    """Open the tables of `home` for reading. Takes no lock, creates nothing, starts no run.

    Raises:
        NotFound: no run was ever started there.
    """
    if url is None and not (home / tables.FILE).exists():
        raise NotFound(f"there are no runs in {home}; start one with `ouroscope run`, or set OUROSCOPE_HOME")
    return History(tables.make_engine(tables.database_url(home, url), read_only=True))


async def open_history(home: Path, url: str | None = None, may_write: Check = may_always) -> History:
    """Open the tables for reading and writing, made or brought up to date if need be. The caller holds the lock.

    Args:
        home: Folder of the tables, where there is no `url`.
        url: PostgreSQL database instead.
        may_write: Asked in every transaction that writes.

    Raises:
        PreconditionFailed: a newer program made them, the folder cannot be written, or the user of the database may not
            change them.
        Unavailable: the database server does not answer.
    """
    try:
        (home / tables.FILE).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        told = f"cannot write to {home} ({error.strerror}); set OUROSCOPE_HOME to a folder that you can write"
        raise PreconditionFailed(told) from error
    history = History(tables.make_engine(tables.database_url(home, url), read_only=False), may_write=may_write)
    try:
        await history.prepare()
    except BaseException as error:
        await history.close()
        if not isinstance(error, sa.exc.SQLAlchemyError | OSError):
            raise
        if isinstance(error, sa.exc.ProgrammingError):
            raise PreconditionFailed(_MAY_NOT) from error
        told = f"the database of runs cannot be opened ({type(error).__name__}); is it reachable, is the disk full?"
        raise Unavailable(told) from error
    return history


class History:
    """Runs and their generations. Writes are one at a time, so a read-change-write is never torn."""

    def __init__(
        self,
        engine: AsyncEngine,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        may_write: Check = may_always,
    ) -> None:
        self.database = Database(engine, may_write)
        """Where the rows lie; monitors keep theirs in it too."""
        self._now = now
        self._changed = asyncio.Condition()

    def patient(self, limit: float) -> History:
        """Return the same runs for work that rather waits, up to `limit` seconds, than fails with the database."""
        twin = copy(self)
        twin.database = self.database.patient(limit)
        return twin

    async def prepare(self) -> None:
        """See Database.prepare."""
        await self.database.prepare()

    async def close(self) -> None:
        """Let go of the database."""
        await self.database.close()

    async def create_run(self, run_id: str, run: Run, request_id: str | None) -> None:
        """Keep a new run.

        Raises:
            AlreadyExists: there is a run of that name.
        """
        row = {"run": run_id, "request_id": request_id, **run_row(run)}
        try:
            async with self.database.change() as connection:
                await connection.execute(tables.runs.insert().values(row))
        except sa.exc.IntegrityError as error:
            raise AlreadyExists(f"there is a run {run_id!r}; choose another name, or resume that one") from error

    async def run(self, run_id: str) -> Run:
        """Return a run.

        Raises:
            NotFound: there is none of that name.
        """
        row = await self.database.one(sa.select(tables.runs.c.payload).where(tables.runs.c.run == run_id))
        if row is None:
            raise NotFound(f"there is no run {run_id!r}; `ouroscope runs list` shows those that are there")
        return from_plain(Run, json.loads(row.payload))

    async def run_of_request(self, request_id: str) -> Run | None:
        """Return the run that a CreateRun with this request_id made, if there is one."""
        row = await self.database.one(sa.select(tables.runs.c.payload).where(tables.runs.c.request_id == request_id))
        return from_plain(Run, json.loads(row.payload)) if row else None

    async def runs(self, limit: int, after: tuple[str, str] | None = None) -> list[Run]:
        """Return at most `limit` runs, newest first, behind the place that `place_of` named."""
        query = sa.select(tables.runs.c.payload).order_by(tables.runs.c.created.desc(), tables.runs.c.run).limit(limit)
        if after is not None:
            later = sa.and_(tables.runs.c.created == after[0], tables.runs.c.run > after[1])
            query = query.where(sa.or_(tables.runs.c.created < after[0], later))
        return [from_plain(Run, json.loads(row.payload)) for row in await self.database.all(query)]

    async def unfinished(self) -> list[Run]:
        """Return the runs that have not ended, oldest first."""
        states = [state.value for state in RunState if not state.ended]
        query = sa.select(tables.runs.c.payload).where(tables.runs.c.state.in_(states)).order_by(tables.runs.c.created)
        return [from_plain(Run, json.loads(row.payload)) for row in await self.database.all(query)]

    async def change_run(self, run_id: str, **changes: Any) -> Run:
        """Set fields of a run and return it."""
        async with self.database.change() as connection:
            return await self._replace_run(connection, run_id, changes)

    async def move(self, run_id: str, **changes: Any) -> Run | None:
        """Set fields of a run that has not ended and return it; None, and no change, if it has."""
        async with self.database.change() as connection:
            if (await self._load_run(connection, run_id)).state.ended:
                return None
            return await self._replace_run(connection, run_id, changes)

    async def recount(self, run_id: str, count: Callable[[Sequence[Counted]], Mapping[str, Any]]) -> Run:
        """Set the fields of a run that follow from its generations; no other write comes between."""
        columns = tables.generations.c
        wanted = (columns.arm, columns.seed, columns.number, columns.state, columns.verdict, columns.sentence)
        async with self.database.change() as connection:
            rows = (await connection.execute(sa.select(*wanted).where(columns.run == run_id))).all()
            return await self._replace_run(connection, run_id, count([counted_of(row) for row in rows]))

    async def note_error(self, run_id: str, told: str) -> None:
        """Note what went wrong, unless something was said before: the first failure is the cause of the others."""
        async with self.database.change() as connection:
            run = await self._load_run(connection, run_id)
            if run.error is None and not run.state.ended:
                await self._replace_run(connection, run_id, {"error": told})

    async def keep_setup(self, run_id: str, stage: str, answer: Any, took: StageTime) -> None:
        """Keep what came of a setup stage: which artifacts the run works with, and how long it took."""
        async with self.database.change() as connection:
            row = (await connection.execute(sa.select(tables.runs.c.setup).where(tables.runs.c.run == run_id))).first()
            setup = {**loads(row.setup if row else None), stage: {"answer": answer, "seconds": took.seconds}}
            values = {"setup": canonical_json(setup)}
            await connection.execute(tables.runs.update().where(tables.runs.c.run == run_id).values(values))

    async def setup(self, run_id: str) -> list[StageTime]:
        """Return the setup stages that are done."""
        row = await self.database.one(sa.select(tables.runs.c.setup).where(tables.runs.c.run == run_id))
        found = loads(row.setup if row else None)
        return [StageTime(stage=stage, seconds=kept["seconds"]) for stage, kept in found.items()]

    async def artifacts(self, run_id: str) -> dict[str, Any]:
        """Return which artifacts the run works with, by setup stage: its corpora and its base model."""
        row = await self.database.one(sa.select(tables.runs.c.setup).where(tables.runs.c.run == run_id))
        return {stage: kept["answer"] for stage, kept in loads(row.setup if row else None).items()}

    async def delete_run(self, run_id: str) -> None:
        """Forget a run and its generations."""
        async with self.database.change() as connection:
            for table in (tables.generations, tables.runs):
                await connection.execute(table.delete().where(table.c.run == run_id))

    async def generation(self, lane: Lane, number: int) -> Kept:
        """Return one generation.

        Raises:
            NotFound: it is not there (yet).
        """
        row = await self.database.one(
            sa.select(tables.generations).where(*_is(lane), tables.generations.c.number == number)
        )
        if row is None:
            raise NotFound(f"there is no {lane.generation_name(number)}; it may not have begun yet")
        return kept_of(row)

    async def generations(
        self,
        run_id: str,
        arm: str | None = None,
        seed: int | None = None,
        *,
        limit: int | None = None,
        after: tuple[str, int, int] | None = None,
    ) -> list[Kept]:
        """Return generations by arm, seed and number, behind the place `after` (arm, seed, number)."""
        place = (tables.generations.c.arm, tables.generations.c.seed, tables.generations.c.number)
        query = sa.select(tables.generations).where(tables.generations.c.run == run_id).order_by(*place)
        if arm is not None:
            query = query.where(tables.generations.c.arm == arm)
        if seed is not None:
            query = query.where(tables.generations.c.seed == seed)
        if after is not None:
            query = query.where(sa.tuple_(*place) > sa.tuple_(*(sa.literal(part) for part in after)))
        return [kept_of(row) for row in await self.database.all(query.limit(limit) if limit else query)]

    async def outline(self, run_id: str, *, seeds: int, numbers: Collection[int]) -> list[Outline]:
        """Return what is there of some generations of the first seeds, by arm, seed and number, without payloads."""
        kept = tables.generations.c
        wanted = (kept.run, kept.arm, kept.seed, kept.number, kept.state, kept.report, kept.verdict)
        asked = (kept.run == run_id, kept.seed < seeds, kept.number.in_(numbers))
        query = sa.select(*wanted).where(*asked).order_by(kept.arm, kept.seed, kept.number)
        return [outline_of(row) for row in await self.database.all(query)]

    async def change_generation(
        self,
        lane: Lane,
        number: int,
        *,
        times: tuple[StageTime, ...] = (),
        values: tuple[Measured, ...] | None = None,
        **changes: Any,
    ) -> Kept:
        """Set fields of a generation and make it if need be; a stage that is timed again replaces its time."""
        async with self.database.change() as connection:
            query = sa.select(tables.generations).where(*_is(lane), tables.generations.c.number == number)
            row = (await connection.execute(query)).first()
            old = kept_of(row) if row else Kept(lane, Generation(name=lane.generation_name(number), number=number))
            timed = {time.stage: time for time in (*old.generation.stages, *times)}
            new = Kept(
                lane,
                replace(old.generation, stages=tuple(timed.values()), **changes),
                old.values if values is None else values,
            )
            await connection.execute(self.database.upsert(tables.generations, generation_row(new)))
        async with self._changed:
            self._changed.notify_all()
        return new

    async def settle(self, run_id: str, before: RunState, after: RunState) -> None:
        """Move the generations of a run from one state to another: what was at work stops with its run."""
        columns = tables.generations.c
        query = sa.select(tables.generations).where(columns.run == run_id, columns.state == before.value)
        async with self.database.change() as connection:
            for row in (await connection.execute(query)).all():
                old = kept_of(row)
                new = replace(old, generation=replace(old.generation, state=after))
                await connection.execute(self.database.upsert(tables.generations, generation_row(new)))

    async def report_of(self, lane: Lane, number: int) -> ArtifactRef:
        """Return the report of a generation, once there is one. Waits as long as it takes: cancel it."""
        return await self._once(lane, number, [tables.generations.c.report], _report)

    async def corpus_of(self, lane: Lane, number: int) -> ArtifactRef:
        """Return what a generation wrote, once it is there. Waits as long as it takes: cancel it."""
        return await self._once(lane, number, [tables.generations], lambda row: kept_of(row).generation.corpus)

    async def _once(
        self, lane: Lane, number: int, wanted: Sequence[Any], read: Callable[[Any], ArtifactRef | None]
    ) -> ArtifactRef:
        """Return what `read` finds in a row of generations, once it finds something."""
        query = sa.select(*wanted).where(*_is(lane), tables.generations.c.number == number)
        async with self._changed:
            while True:
                row = await self.database.one(query)
                if row is not None and (found := read(row)) is not None:
                    return found
                await self._changed.wait()

    async def _load_run(self, connection: AsyncConnection, run_id: str) -> Run:
        row = (await connection.execute(sa.select(tables.runs.c.payload).where(tables.runs.c.run == run_id))).first()
        if row is None:
            raise NotFound(f"there is no run {run_id!r}")
        return from_plain(Run, json.loads(row.payload))

    async def _replace_run(self, connection: AsyncConnection, run_id: str, changes: Mapping[str, Any]) -> Run:
        run = replace(await self._load_run(connection, run_id), update_time=self._now(), **changes)
        await connection.execute(tables.runs.update().where(tables.runs.c.run == run_id).values(run_row(run)))
        return run


def _report(row: Any) -> ArtifactRef | None:
    return None if row.report is None else ArtifactRef.parse(row.report)


def _is(lane: Lane) -> tuple[Any, ...]:
    columns = tables.generations.c
    return columns.run == lane.run, columns.arm == lane.arm, columns.seed == lane.seed
