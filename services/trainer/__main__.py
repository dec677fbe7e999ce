"""The trainer as a process: `python -m services.trainer`, settings from `OURO_TRAINER_*`."""

from __future__ import annotations

import sys

from ouroscope.process import run_worker
from ouroscope.rpc.server import RunningServer
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.trainer.service import start
from services.trainer.settings import PREFIX, TrainerSettings


def main() -> int:
    """Serve until a signal; return the exit status."""
    return run_worker(TrainerSettings, PREFIX, _start)


async def _start(settings: TrainerSettings, metrics: ServiceMetrics) -> RunningServer:
    return await start(
        ArtifactStore(settings.store),
        settings.address,
        threads=settings.threads,
        device=settings.device,
        queue_limit=settings.queue_limit,
        metrics=metrics,
        allow_public=settings.allow_public,
    )


if __name__ == "__main__":
    sys.exit(main())
