"""The coordinator as a process: `python -m services.coordinator`, settings from `OURO_COORDINATOR_*`.

With `--migrate` it brings the tables up to date and ends: where something that watches over the process, like a probe,
might end it in the middle of a long change.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ouroscope.process import run_once, run_process
from ouroscope.security.allowed import sources_for
from ouroscope.security.connection import read_connection
from ouroscope.security.settings import Security
from ouroscope.store import ArtifactStore
from services.coordinator.database import open_history
from services.coordinator.lock import take_lock
from services.coordinator.service import RunningCoordinator, start
from services.coordinator.settings import PREFIX, CoordinatorSettings


def main(arguments: Sequence[str] = ()) -> int:
    """Serve until a signal, or only bring the tables up to date; return the exit status."""
    if not arguments:
        return run_process(CoordinatorSettings, PREFIX, _start)
    if list(arguments) != ["--migrate"]:
        sys.stderr.write("usage: python -m services.coordinator [--migrate]\n")
        return 2
    return run_once(CoordinatorSettings, PREFIX, _migrate)


async def _migrate(settings: CoordinatorSettings) -> None:
    """Only under the lock: no coordinator of before must be at work on tables that change."""
    home, database = _home(settings), _database(settings)
    lock = await take_lock(home, database)
    try:
        history = await open_history(home, database, lock.check)
        await history.close()
    finally:
        await lock.release()


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
