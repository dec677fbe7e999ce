"""The one connection to the tables: writes one at a time, reads beside them, failures in our own words.

Knows no records: `database` keeps runs with it, `monitors.history` monitors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from copy import copy
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ouroscope.errors import StorageFull, Unavailable
from services.coordinator.migrations import migrate
from services.coordinator.patience import Patiently

DATABASE = "database"
"""What `dependency` in the metadata of an error says where it is ours that is away, or full."""
FULL = "the disk with the database of runs is full; make room: runs stand still until then, and go on by themselves"
AWAY = "the database of runs does not answer; it may be busy or unreachable"
DISK_FULL = "53100"
"""What PostgreSQL calls it."""
Check = Callable[[AsyncConnection], Awaitable[None]]
"""Raises where a transaction must not write, because its process holds the lock no longer."""


async def may_always(_: AsyncConnection) -> None:
    """Let every transaction write."""


class Database:
    """Tables that one process writes and others may read. Writes are one at a time: a read-change-write is whole."""

    def __init__(self, engine: AsyncEngine, may_write: Check = may_always) -> None:
        self._engine = engine
        self._may_write = may_write
        self._writing = asyncio.Lock()
        self._patiently = Patiently(limit=0.0)

    def patient(self, limit: float) -> Database:
        """Return the same tables for work that rather waits, up to `limit` seconds, than fails with their server."""
        twin = copy(self)
        twin._patiently = Patiently(limit=limit)
        return twin

    async def prepare(self) -> None:
        """Bring the tables to the state that this program knows; makes them if they are not there.

        Raises:
            PreconditionFailed: a newer program made them.
        """
        async with self._engine.begin() as connection:
            await connection.run_sync(migrate)

    async def close(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection whose changes are kept together at the end, or not at all."""
        with _database_errors():
            async with AsyncExitStack() as ending:
                yield await self._patiently(lambda: self._begin(ending), _silently)

    async def _begin(self, ending: AsyncExitStack) -> AsyncConnection:
        """Begin a transaction that ends with `ending`; whoever waits for the server holds up nobody."""
        with _database_errors():
            async with AsyncExitStack() as trying:
                await trying.enter_async_context(self._writing)
                connection = await trying.enter_async_context(self._engine.begin())
                await self._may_write(connection)
                ending.push_async_exit(trying.pop_all())
                return connection

    async def one(self, query: Any) -> Any:
        """Return the first row, or None."""
        rows = await self.all(query)
        return rows[0] if rows else None

    async def all(self, query: Any) -> list[Any]:
        """Return all rows."""
        return await self._patiently(lambda: self._read(query), _silently)

    async def _read(self, query: Any) -> list[Any]:
        with _database_errors():
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())

    def upsert(self, table: sa.Table, row: Mapping[str, Any]) -> Any:
        """Return the statement that puts a row in the place of the one with its key, or makes it."""
        dialect: Any = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        keys = [column.name for column in table.primary_key]
        changed = {name: value for name, value in row.items() if name not in keys}
        return dialect.insert(table).values(row).on_conflict_do_update(index_elements=keys, set_=changed)


def _silently(_: str) -> None:
    """Patience logs by itself; there is nobody to show a stage to."""


def is_outage(error: BaseException) -> bool:
    """Return whether work failed because the database was away, seen by us or by DBOS: it can be taken up again."""
    if isinstance(error, Unavailable):
        return error.metadata.get("dependency") == DATABASE
    return isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) and not is_full(error)


def is_full(error: BaseException) -> bool:
    """Return whether work failed because the disk of the database is full, seen by us or by DBOS."""
    if isinstance(error, StorageFull):
        return error.metadata.get("dependency") == DATABASE
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    return "full" in str(error.orig) or getattr(error.orig, "sqlstate", None) == DISK_FULL


@contextmanager
def _database_errors() -> Iterator[None]:
    """Tell what the database cannot do now in our own words. IntegrityError is for those who provoke it."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InternalError) as error:
        if is_full(error):
            raise StorageFull(FULL, dependency=DATABASE) from error
        raise Unavailable(AWAY, dependency=DATABASE) from error
