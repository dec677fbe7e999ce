"""The coordinator as a process: `python -m services.coordinator`, settings from `OURO_COORDINATOR_*`."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ouroscope.errors import OuroscopeError
from ouroscope.rpc.server import run_until_signalled
from ouroscope.settings import load
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.logs import configure_logs
from services.coordinator.service import RunningCoordinator, start
from services.coordinator.settings import PREFIX, CoordinatorSettings

log = structlog.get_logger(__name__)


def main() -> int:
    """Serve until a signal; return the exit status."""
    configure_logs(json=True)
    try:
        settings = load(CoordinatorSettings, os.environ, PREFIX)
    except OuroscopeError as error:
        log.error("process.not_started", error=error.message, reason=error.reason)
        return 1
    configure_logs(json=settings.log_json, level=settings.log_level)
    # It only calls `stop`, which a coordinator has too.
    start_it: Any = partial(_start, settings)
    return run_until_signalled(start_it, grace=settings.grace)


async def _start(settings: CoordinatorSettings) -> RunningCoordinator:
    home = Path(settings.home).expanduser().absolute()
    return await start(
        home,
        ArtifactStore(settings.store or str(home / "store")),
        settings.address,
        generator=settings.generator,
        trainer=settings.trainer,
        analyzer=settings.analyzer,
        metrics_address=settings.metrics_address,
        database=settings.database.reveal() if settings.database else None,
        executor=settings.executor,
        recover=settings.recover,
        patience=settings.patience,
        metrics_grace=settings.metrics_grace,
        metrics_limit=settings.metrics_limit,
        allow_public=settings.allow_public,
    )


if __name__ == "__main__":
    sys.exit(main())
