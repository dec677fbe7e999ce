"""One coordinator per home, or per database: an exclusive lock that dies with its process.

Two at once would run stages twice.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ouroscope.errors import PreconditionFailed, Unavailable
from services.coordinator import tables
from services.coordinator.connection import DATABASE

log = structlog.get_logger(__name__)

FILE = "lock"
ADVISORY_SPACE = 0x0B0B
"""First key of our advisory locks in PostgreSQL, so that they meet nobody else's; the second says which lock it is."""
ADVISORY_MARKS = 0x0B0C
"""First key of locks that are held only to be seen."""
WATCH = 2.0
"""Seconds between two looks at whether the lock is still held."""

_TAKE = sa.text(
    "SELECT CASE WHEN pg_try_advisory_lock(:space, 0) THEN pg_try_advisory_lock(:marks, :mark) ELSE false END"
)
_HELD = sa.text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = :space "
    "AND objid = :mark AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class HomeLock:
    """An flock on `home/lock`. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        """Take the lock.

        Raises:
            PreconditionFailed: another process has it, or the home cannot be written.
        """
        path = home / FILE
        try:
            home.mkdir(parents=True, exist_ok=True)
            # Not inherited by workers that this process starts: they would keep the lock after its death.
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            told = f"cannot write to {home} ({error.strerror}); set OUROSCOPE_HOME to a folder that you can write"
            raise PreconditionFailed(told) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise PreconditionFailed(
                f"another coordinator (process {owner}) is at work on {home}, or about to be; wait until it answers, "
                "stop it, or use another OUROSCOPE_HOME",
                process=owner,
            ) from error
        os.truncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def keep(self, lost: Callable[[], None], back: Callable[[], Awaitable[None]]) -> None:
        """Do nothing: as long as this process lives, the lock cannot be lost."""

    doubt = None
    """There is no server that could come back: what fails with the file has failed."""

    async def leave(self) -> None:
        """Do nothing: see `keep`."""

    async def check(self, connection: AsyncConnection) -> None:
        """Do nothing: see `keep`."""

    async def release(self) -> None:
        """Let others in."""
        os.close(self._file)


class DatabaseLock:
    """An advisory lock of a PostgreSQL session: one coordinator per database, on whatever machine.

    The server lets go of it when the session ends. A server that is restarted ends it too, while this process lives on;
    so the lock is looked after, and every write asks whether it is still held (`check`).
    """

    def __init__(self, url: str) -> None:
        self._engine = tables.make_engine(url, read_only=True)
        self._session: AsyncConnection | None = None
        self._mark = secrets.randbits(31)
        """Second key of a lock that only this session can hold: how writes in other sessions know it."""
        self._keeper: asyncio.Task[None] | None = None
        self._was_gone = False

    @classmethod
    async def take(cls, url: str) -> DatabaseLock:
        """Take the lock.

        Raises:
            PreconditionFailed: another process has it.
            Unavailable: the database does not answer.
        """
        lock = cls(url)
        try:
            taken = await lock._try()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            await lock.release()
            told = f"the database of runs does not answer ({type(error).__name__}); check its address and try again"
            raise Unavailable(told) from error
        if not taken:
            await lock.release()
            raise PreconditionFailed(
                "another coordinator is at work on this database; stop it, or give this one a database of its own"
            )
        return lock

    def keep(self, lost: Callable[[], None], back: Callable[[], Awaitable[None]]) -> None:
        """Look after the lock until it is released.

        Args:
            lost: Called, once, if another process has taken it while the server was away.
            back: Called whenever it was taken again; as long as it raises Unavailable, it is called again.
        """
        self._keeper = asyncio.create_task(self._look_after(lost, back))

    async def check(self, connection: AsyncConnection) -> None:
        """Make sure that the lock is held while a transaction of another session writes.

        Raises:
            Unavailable: it is not, or not yet again.
        """
        held = await connection.execute(_HELD, {"space": ADVISORY_MARKS, "mark": self._mark})
        if held.first() is None:
            raise Unavailable(
                "the database was restarted and this coordinator has not taken it again yet; try again",
                dependency=DATABASE,
            )

    def doubt(self) -> None:
        """Say that the database failed, although the lock may still be held: `back` is called when it answers."""
        self._was_gone = True

    async def leave(self) -> None:
        """Look after the lock no more; it is still held."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def release(self) -> None:
        """Let others in."""
        await self.leave()
        await self._let_go()
        await self._engine.dispose()

    async def _look_after(self, lost: Callable[[], None], back: Callable[[], Awaitable[None]]) -> None:
        while True:
            await asyncio.sleep(WATCH)
            try:
                if not await self._again():
                    log.error("lock.lost")
                    return lost()
                if self._was_gone:
                    await back()
                    self._was_gone = False
            except (sa.exc.SQLAlchemyError, OSError, Unavailable) as error:
                # Nobody else can take it either as long as the server is away.
                log.warning("lock.unreachable", error=type(error).__name__)
                await self._let_go()

    async def _again(self) -> bool:
        """Return whether the lock is held; takes it again where the session is gone."""
        if self._session is None:
            self._was_gone = True
            return await self._try()
        await self._session.execute(sa.text("SELECT 1"))
        # The lock belongs to the session; an open transaction would only hold up the server's housekeeping.
        await self._session.commit()
        return True

    async def _try(self) -> bool:
        self._session = await self._engine.connect()
        both = {"space": ADVISORY_SPACE, "marks": ADVISORY_MARKS, "mark": self._mark}
        taken = bool((await self._session.execute(_TAKE, both)).scalar())
        await self._session.commit()
        return taken

    async def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            # Not given back: a session in the pool would still hold the lock.
            with suppress(sa.exc.SQLAlchemyError, OSError):
                await session.invalidate()
            with suppress(sa.exc.SQLAlchemyError, OSError):
                await session.close()


Lock = HomeLock | DatabaseLock


async def take_lock(home: Path, database: str | None) -> Lock:
    """Take the lock of the home, or of the database where the runs lie in PostgreSQL."""
    if database is None:
        return HomeLock(home)
    return await DatabaseLock.take(tables.database_url(home, database))
