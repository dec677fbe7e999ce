"""The one connection to the tables: writes one at a time, reads beside them, failures in our own words.

Knows no records: `database` keeps runs with it, `monitors.history` monitors.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ouroscope.errors import PreconditionFailed, StorageFull, Unavailable
from services.coordinator import tables


class Database:
    """Tables that one process writes and others may read. Writes are one at a time: a read-change-write is whole."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._writing = asyncio.Lock()

    async def prepare(self) -> None:
        """Make the tables, or check that they are of this version."""
        async with self._engine.begin() as connection:
            await connection.run_sync(tables.metadata.create_all)
            found = (await connection.execute(sa.select(tables.schema_version.c.version))).scalar()
            if found is None:
                await connection.execute(tables.schema_version.insert().values(version=tables.SCHEMA_VERSION))
            elif found != tables.SCHEMA_VERSION:
                raise PreconditionFailed(
                    f"the runs of this home were written by another version of Ouroscope (tables {found}, this one "
                    f"knows {tables.SCHEMA_VERSION}); use that version, or another home"
                )

    async def close(self) -> None:
        """Let go of the database."""
        await self._engine.dispose()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection whose changes are kept together at the end, or not at all."""
        async with self._writing:
            with _database_errors():
                async with self._engine.begin() as connection:
                    yield connection

    async def one(self, query: Any) -> Any:
        """Return the first row, or None."""
        rows = await self.all(query)
        return rows[0] if rows else None

    async def all(self, query: Any) -> list[Any]:
        """Return all rows."""
        with _database_errors():
            async with self._engine.connect() as connection:
                return list((await connection.execute(query)).all())

    def upsert(self, table: sa.Table, row: Mapping[str, Any]) -> Any:
        """Return the statement that puts a row in the place of the one with its key, or makes it."""
        dialect: Any = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        keys = [column.name for column in table.primary_key]
        changed = {name: value for name, value in row.items() if name not in keys}
        return dialect.insert(table).values(row).on_conflict_do_update(index_elements=keys, set_=changed)


@contextmanager
def _database_errors() -> Iterator[None]:
    """Tell what the database cannot do now in our own words. IntegrityError is for those who provoke it."""
    try:
        yield
    except sa.exc.OperationalError as error:
        if "full" in str(error.orig):
            raise StorageFull("the disk with the database of runs is full; make room, then resume the run") from error
        raise Unavailable("the database of runs does not answer; it may be busy or unreachable") from error
