"""The coordinator as a process: `python -m services.coordinator`, settings from `OURO_COORDINATOR_*`.

With `--migrate` it brings the tables up to date and ends: where something that watches over the process, like a probe,
might end it in the middle of a long change. With `--await-tables` it ends when another process has done so that works
with the role that owns the tables.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ouroscope.errors import PreconditionFailed
from ouroscope.process import run_once, run_process
from ouroscope.security.allowed import sources_for
from ouroscope.security.connection import read_connection
from ouroscope.security.settings import Security
from ouroscope.store import ArtifactStore
from services.coordinator.database import open_history
from services.coordinator.lock import take_lock
from services.coordinator.ownership import await_tables, migrate_as_owner, role_of
from services.coordinator.service import RunningCoordinator, start
from services.coordinator.settings import PREFIX, CoordinatorSettings


def main(arguments: Sequence[str] = ()) -> int:
    """Serve until a signal, or only bring the tables up to date; return the exit status."""
    if not arguments:
        return run_process(CoordinatorSettings, PREFIX, _start)
    work = {"--migrate": _migrate, "--await-tables": _await_tables}.get(" ".join(arguments))
    if work is None:
        sys.stderr.write("usage: python -m services.coordinator [--migrate | --await-tables]\n")
        return 2
    return run_once(CoordinatorSettings, PREFIX, work)


async def _migrate(settings: CoordinatorSettings) -> None:
    """Only under the lock: no coordinator of before must be at work on tables that change."""
    if settings.migration_database is not None:
        owner = settings.migration_database.reveal()
        return await migrate_as_owner(owner, _role(settings), settings.migration_wait)
    home, database = _home(settings), _database(settings)
    lock = await take_lock(home, database)
    try:
        history = await open_history(home, database, lock.check)
        await history.close()
    finally:
        await lock.release()


async def _await_tables(settings: CoordinatorSettings) -> None:
    if (database := _database(settings)) is None:
        raise PreconditionFailed("--await-tables is for tables in PostgreSQL: set OURO_COORDINATOR_DATABASE")
    await await_tables(database, settings.migration_wait)


def _role(settings: CoordinatorSettings) -> str:
    """Return the role that the coordinator works with."""
    if role := settings.grant_to or role_of(_database(settings)):
        return role
    raise PreconditionFailed(
        "who is to work with the tables? Set OURO_COORDINATOR_GRANT_TO, or _DATABASE with its user"
    )


async def _start(settings: CoordinatorSettings, security: Security) -> RunningCoordinator:
    home = _home(settings)
    return await start(
        home,
        ArtifactStore(settings.store or str(home / "store")),
        settings.address,
        generator=settings.generator,
        trainer=settings.trainer,
        analyzer=settings.analyzer,
        metrics_address=settings.metrics_address,
        page_address=settings.page_address,
        database=_database(settings),
        executor=settings.executor,
        recover=settings.recover,
        patience=settings.patience,
        metrics_grace=settings.metrics_grace,
        metrics_limit=settings.metrics_limit,
        allow_public=settings.allow_plaintext,
        sources=sources_for(settings.sources, settings.address, asks=security.asks),
        security=security,
        connection=read_connection(os.environ),
    )


def _home(settings: CoordinatorSettings) -> Path:
    return Path(settings.home).expanduser().absolute()


def _database(settings: CoordinatorSettings) -> str | None:
    return settings.database.reveal() if settings.database else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
