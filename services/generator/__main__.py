"""The generator as a process: `python -m services.generator`, settings from `OURO_GENERATOR_*`."""

from __future__ import annotations

import sys

from ouroscope.process import run_worker
from ouroscope.rpc.server import RunningServer
from ouroscope.security.allowed import sources_for
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.generator.declared import read_backends
from services.generator.service import start
from services.generator.settings import PREFIX, GeneratorSettings


def main() -> int:
    """Serve until a signal; return the exit status."""
    return run_worker(GeneratorSettings, PREFIX, _start)


async def _start(settings: GeneratorSettings, metrics: ServiceMetrics, security: Security) -> RunningServer:
    return await start(
        ArtifactStore(settings.store),
        settings.address,
        declared=read_backends(settings.backends),
        tasks=settings.tasks,
        threads=settings.threads,
        device=settings.device,
        dtype=settings.dtype,
        kept_models=settings.kept_models,
        executor=settings.executor,
        ray_address=settings.ray_address,
        processes=settings.processes,
        max_model_bytes=settings.max_model_bytes,
        queue_limit=settings.queue_limit,
        metrics=metrics,
        allow_public=settings.allow_plaintext,
        sources=sources_for(settings.sources, settings.address, asks=security.asks),
        security=security,
    )


if __name__ == "__main__":
    sys.exit(main())
