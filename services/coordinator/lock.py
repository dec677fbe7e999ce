"""One coordinator per home, or per database: an exclusive lock that dies with its process.

Two at once would run stages twice. Whoever holds the lock also looks after what it locks: while the database is away
or has no room, runs stand still; afterwards they are taken up again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from ouroscope.errors import PreconditionFailed, StorageFull, Unavailable
from services.coordinator import tables
from services.coordinator.connection import AWAY, DATABASE, FULL, is_full, is_outage

log = structlog.get_logger(__name__)

FILE = "lock"
ADVISORY_SPACE = 0x0B0B
"""First key of our advisory locks in PostgreSQL, so that they meet nobody else's; the second says which lock it is."""
ADVISORY_MARKS = 0x0B0C
"""First key of locks that are held only to be seen."""
WATCH = 2.0
"""Seconds between two looks at whether the lock is still held."""
ROOM = 1 << 20
"""Bytes that must fit before work begins again on a disk that was full."""

_TAKE = sa.text(
    "SELECT CASE WHEN pg_try_advisory_lock(:space, 0) THEN pg_try_advisory_lock(:marks, :mark) ELSE false END"
)
_HELD = sa.text(
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid = :space "
    "AND objid = :mark AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_WRITE = sa.text("SET TRANSACTION READ WRITE")
_FILL = sa.text("CREATE TEMPORARY TABLE ouroscope_room AS SELECT generate_series(1, :rows) AS row")
_BYTES_OF_A_ROW = 32
Shows = Callable[[str], None]


def _to_nobody(_: str) -> None:
    """Show nothing."""


class HomeLock:
    """An flock on `home/lock`. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        """Take the lock.

        Raises:
            PreconditionFailed: another process has it, or the home cannot be written.
        """
        path = home / FILE
        self._folder = (home / tables.FILE).parent
        self._was_full = False
        self._keeper: asyncio.Task[None] | None = None
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

    def keep(self, lost: Callable[[], None], back: Callable[[], Awaitable[None]], stands: Shows = _to_nobody) -> None:
        """Look after the disk until the lock is released; as long as this process lives, the lock cannot be lost.

        Args:
            lost: Never called.
            back: Called when there is room again; as long as it raises Unavailable or StorageFull, it is called again.
            stands: Told, again and again, why nothing goes on.
        """
        self._keeper = asyncio.create_task(self._look_after(back, stands))

    def doubt(self, error: BaseException) -> bool:
        """Return whether what failed with `error` can be taken up again: `back` is called then. From any thread.

        A full disk can have room again; there is no server that could come back, so whatever else fails has failed.
        """
        self._was_full = self._was_full or is_full(error)
        return is_full(error)

    async def leave(self) -> None:
        """Look after the disk no more; the lock is still held."""
        await _end(self._keeper)

    async def check(self, connection: AsyncConnection) -> None:
        """Do nothing: see `keep`."""

    async def release(self) -> None:
        """Let others in."""
        await self.leave()
        os.close(self._file)

    async def _look_after(self, back: Callable[[], Awaitable[None]], stands: Shows) -> None:
        while True:
            await asyncio.sleep(WATCH)
            if not self._was_full:
                continue
            stands(FULL)
            # Cleared before, so that what fails meanwhile is not forgotten.
            self._was_full = False
            try:
                await asyncio.to_thread(_write_and_forget, self._folder)
                await back()
            except (sa.exc.SQLAlchemyError, OSError, Unavailable, StorageFull) as error:
                self._was_full = True
                log.warning("database.full", error=type(error).__name__)


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
        self._was_full = False

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

    def keep(self, lost: Callable[[], None], back: Callable[[], Awaitable[None]], stands: Shows = _to_nobody) -> None:
        """Look after the lock until it is released.

        Args:
            lost: Called, once, if another process has taken it while the server was away.
            back: Called whenever it was taken again, and when there is room again; as long as it raises Unavailable or
                StorageFull, it is called again.
            stands: Told, again and again, why nothing goes on.
        """
        self._keeper = asyncio.create_task(self._look_after(lost, back, stands))

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

    def doubt(self, error: BaseException) -> bool:
        """Return whether what failed with `error` can be taken up again: `back` is called then. From any thread.

        It is, if the database failed, although the lock may still be held.
        """
        self._was_full = self._was_full or is_full(error)
        doubtful = is_outage(error) or is_full(error)
        self._was_gone = self._was_gone or doubtful
        return doubtful

    async def leave(self) -> None:
        """Look after the lock no more; it is still held."""
        await _end(self._keeper)

    async def release(self) -> None:
        """Let others in."""
        await self.leave()
        await self._let_go()
        await self._engine.dispose()

    async def _look_after(self, lost: Callable[[], None], back: Callable[[], Awaitable[None]], stands: Shows) -> None:
        while True:
            await asyncio.sleep(WATCH)
            try:
                if not await self._again():
                    log.error("lock.lost")
                    return lost()
                await self._take_up(back, stands)
            except (sa.exc.SQLAlchemyError, OSError, Unavailable) as error:
                # Nobody else can take it either as long as the server is away.
                log.warning("lock.unreachable", error=type(error).__name__)
                stands(AWAY)
                self._was_gone = True
                await self._let_go()

    async def _take_up(self, back: Callable[[], Awaitable[None]], stands: Shows) -> None:
        """Call `back` if anything has failed and there is room for what it will write. The lock stays held."""
        if not self._was_gone:
            return
        full, self._was_gone, self._was_full = self._was_full, False, False
        try:
            if full:
                stands(FULL)
                await self._write_and_forget()
            await back()
        except (StorageFull, sa.exc.DBAPIError) as error:
            if not is_full(error):
                raise
            self._was_gone = self._was_full = True
            log.warning("database.full", error=type(error).__name__)

    async def _write_and_forget(self) -> None:
        """Raise if the server has no room for a table of ROOM bytes. In a session beside that of the lock."""
        async with self._engine.connect() as other:
            await other.execute(_WRITE)
            await other.execute(_FILL, {"rows": ROOM // _BYTES_OF_A_ROW})
            await other.rollback()

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


async def _end(keeper: asyncio.Task[None] | None) -> None:
    if keeper is not None:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


def _write_and_forget(folder: Path) -> None:
    """Raise OSError if a file of ROOM bytes does not fit into `folder`."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(ROOM))
        file.flush()
        os.fsync(file.fileno())


async def take_lock(home: Path, database: str | None) -> Lock:
    """Take the lock of the home, or of the database where the runs lie in PostgreSQL."""
    if database is None:
        return HomeLock(home)
    return await DatabaseLock.take(tables.database_url(home, database))
