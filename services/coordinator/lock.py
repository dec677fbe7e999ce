"""One coordinator per home: an exclusive lock that dies with its process. Two at once would run stages twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ouroscope.errors import PreconditionFailed, Unavailable
from services.coordinator import tables

FILE = "lock"
ADVISORY_SPACE = 0x0B0B
"""First key of our advisory locks in PostgreSQL, so that they meet nobody else's; the second is of the executor."""


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

    async def release(self) -> None:
        """Let others in."""
        os.close(self._file)


class DatabaseLock:
    """An advisory lock of a PostgreSQL session, for coordinators that share a database instead of a file system."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @classmethod
    async def take(cls, url: str, executor: str) -> DatabaseLock:
        """Take the lock of that executor.

        Raises:
            PreconditionFailed: another process has it.
            Unavailable: the database does not answer.
        """
        engine = tables.make_engine(url, read_only=True)
        try:
            connection = await engine.connect()
            query = sa.text("SELECT pg_try_advisory_lock(:space, hashtext(:executor))")
            taken = (await connection.execute(query, {"space": ADVISORY_SPACE, "executor": executor})).scalar()
            # The lock belongs to the session; an open transaction would only hold up the server's housekeeping.
            await connection.commit()
        except (sa.exc.SQLAlchemyError, OSError) as error:
            await engine.dispose()
            told = f"the database of runs does not answer ({type(error).__name__}); check its address and try again"
            raise Unavailable(told) from error
        if not taken:
            await connection.close()
            await engine.dispose()
            raise PreconditionFailed(
                f"another coordinator is at work as {executor!r} on this database; stop it, or rename this one"
            )
        return cls(connection)

    async def release(self) -> None:
        """Let others in."""
        await self._connection.close()
        await self._connection.engine.dispose()


Lock = HomeLock | DatabaseLock


async def take_lock(home: Path, database: str | None, executor: str) -> Lock:
    """Take the lock of the home, or of the executor's name where the runs lie in PostgreSQL."""
    if database is None:
        return HomeLock(home)
    return await DatabaseLock.take(tables.database_url(home, database), executor)
