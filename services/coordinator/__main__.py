"""The coordinator as a process: `python -m services.coordinator`, settings from `OURO_COORDINATOR_*`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ouroscope.process import run_process
from ouroscope.security.connection import read_connection
from ouroscope.security.settings import Security
from ouroscope.store import ArtifactStore
from services.coordinator.service import RunningCoordinator, start
from services.coordinator.settings import PREFIX, CoordinatorSettings


def main() -> int:
    """Serve until a signal; return the exit status."""
    return run_process(CoordinatorSettings, PREFIX, _start)


async def _start(settings: CoordinatorSettings, security: Security) -> RunningCoordinator:
    home = Path(settings.home).expanduser().absolute()
    return await start(
        home,
        ArtifactStore(settings.store or str(home / "store")),
        settings.address,
        generator=settings.generator,
        trainer=settings.trainer,
        analyzer=settings.analyzer,
        metrics_address=settings.metrics_address,
        page_address=settings.page_address,
        database=settings.database.reveal() if settings.database else None,
        executor=settings.executor,
        recover=settings.recover,
        patience=settings.patience,
        metrics_grace=settings.metrics_grace,
        metrics_limit=settings.metrics_limit,
        allow_public=settings.allow_plaintext,
        security=security,
        connection=read_connection(os.environ),
    )


if __name__ == "__main__":
    sys.exit(main())
