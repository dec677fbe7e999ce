"""Tables that one role of PostgreSQL owns and changes, while the coordinator works with another that may not.

The owner's side (`migrate_as_owner`) is a program that ends; the coordinator's (`await_tables`) only looks. Knows both
kinds of tables, ours and those of DBOS, and no records.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_delay, wait_exponential

from ouroscope.errors import Busy, PreconditionFailed, Unavailable
from services.coordinator import durable, migrations, tables
from services.coordinator.lock import Lock, take_lock

log = structlog.get_logger(__name__)

T = TypeVar("T")
LONGEST_PAUSE = 5.0
"""Seconds between two attempts at most."""
READ_ONLY = ("alembic_version", "schema_version")
"""Tables that only migrations write."""
_HERE = Path()
"""A home, where one is asked for: the tables lie in a server."""


async def migrate_as_owner(url: str, role: str, limit: float) -> None:
    """Bring all tables up to date as the role of `url`, and let `role` work with them.

    Where something is to be changed, the coordinator of before must be gone: its lock is waited for.

    Args:
        url: PostgreSQL database, with a role that may make tables and schemas there.
        role: With whom the coordinator works, or a role that it is a member of.
        limit: Seconds that are waited for.

    Raises:
        Busy: a coordinator is still at work on tables that are to be changed.
        PreconditionFailed: a newer program made the tables.
        Unavailable: the database does not answer, or refuses.
    """
    async with AsyncExitStack() as held:
        behind = await _patiently(lambda: _behind(url), limit)
        if behind:
            lock = await _patiently(lambda: _take(url), limit)
            held.push_async_callback(lock.release)
        with _told():
            await asyncio.to_thread(durable.migrate_system, tables.system_url(_HERE, url), role)
            # Ours at the end and in one transaction with their rights: who may read them finds all of it done.
            async with _connected(url, read_only=False) as connection:
                await connection.run_sync(migrations.migrate)
                await connection.run_sync(_grant, role)
    log.info("tables.ready", role=role, changed=behind)


async def await_tables(url: str, limit: float) -> None:
    """Return when the tables are there for the role of `url`, as this program knows them, and nobody changes them.

    Raises:
        Busy: somebody still holds the lock of the database.
        PreconditionFailed: a newer program made the tables.
        Unavailable: they are not there after `limit` seconds.
    """

    async def look() -> None:
        if missing := await _behind(url):
            raise Unavailable(f"{missing} are not there yet, or older than this program, or not granted to this role")
        lock = await _take(url)
        await lock.release()

    await _patiently(look, limit)
    log.info("tables.ready")


def role_of(url: str | None) -> str:
    """Return the role that an address names; empty where it names none."""
    return "" if url is None else sa.make_url(url).username or ""


async def _behind(url: str) -> str:
    """Return which tables are to be changed, or cannot be read yet; empty if none are.

    Raises:
        PreconditionFailed: a newer program made them.
        Unavailable: the database does not answer.
    """
    with _told():
        async with _connected(url, read_only=True) as connection:
            try:
                behind = await connection.run_sync(migrations.is_behind)
            except sa.exc.ProgrammingError:
                # They are there, and this role may not read them.
                behind = True
        if behind:
            return "the tables of runs"
        behind = await asyncio.to_thread(durable.system_is_behind, tables.system_url(_HERE, url))
    return "the tables of the workflow library" if behind else ""


async def _take(url: str) -> Lock:
    try:
        return await take_lock(_HERE, url)
    except PreconditionFailed as error:
        raise Busy(error.message) from error


def _grant(connection: sa.Connection, role: str) -> None:
    """Let a role read and write our tables; those that say how far they have come it only reads."""
    quoted = connection.dialect.identifier_preparer.quote_identifier(role)
    for name in {*tables.metadata.tables, *READ_ONLY}:
        rights = "SELECT" if name in READ_ONLY else "SELECT, INSERT, UPDATE, DELETE"
        connection.exec_driver_sql(f'GRANT {rights} ON "{name}" TO {quoted}')


@asynccontextmanager
async def _connected(url: str, *, read_only: bool) -> AsyncIterator[AsyncConnection]:
    engine = tables.make_engine(tables.database_url(_HERE, url), read_only=read_only)
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


@contextmanager
def _told() -> Iterator[None]:
    """Tell what the server said, in its first line: never an address, which holds a password."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError) as error:
        said = getattr(getattr(getattr(error, "orig", None), "diag", None), "message_primary", None)
        raise Unavailable(f"the database does not do what is asked of it: {said or type(error).__name__}") from error


async def _patiently(work: Callable[[], Awaitable[T]], limit: float) -> T:
    """Return what `work` returns, once it does; it is tried again for `limit` seconds, and every time said why."""
    attempts = AsyncRetrying(
        retry=retry_if_exception_type((Busy, Unavailable)),
        stop=stop_after_delay(limit),
        wait=wait_exponential(multiplier=0.25, max=LONGEST_PAUSE),
        before_sleep=_tell,
        reraise=True,
    )

    # It looks at what it is given, and a lambda does not look like something to be awaited.
    async def once() -> T:
        return await work()

    return await attempts(once)


def _tell(state: RetryCallState) -> None:
    log.info("tables.awaited", why=str(state.outcome and state.outcome.exception()))
