"""The analyzer as a process: `python -m services.analyzer`, settings from `OURO_ANALYZER_*`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import structlog

from ouroscope.errors import OuroscopeError
from ouroscope.rpc.server import RunningServer, run_until_signalled
from ouroscope.settings import load
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.http import start_metrics_endpoint
from ouroscope.telemetry.logs import configure_logs
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.analyzer.parsing.sources import SHIPPED
from services.analyzer.service import start
from services.analyzer.settings import PREFIX, AnalyzerSettings
from services.analyzer.spread import HumanSpread, read_spread
from services.analyzer.tools import Tools, open_tools

log = structlog.get_logger(__name__)


def main() -> int:
    """Serve until a signal; return the exit status."""
    configure_logs(json=True)
    try:
        settings = load(AnalyzerSettings, os.environ, PREFIX)
        configure_logs(json=settings.log_json, level=settings.log_level)
        metrics = ServiceMetrics()
        endpoint = start_metrics_endpoint(
            metrics.registry, settings.metrics_port, host=settings.metrics_host, option=f"{PREFIX}_METRICS_PORT"
        )
    except OuroscopeError as error:
        log.error("process.not_started", error=error.message, reason=error.reason)
        return 1
    log.info("metrics.serving", url=endpoint.url)
    try:
        return run_until_signalled(lambda: _start(settings, metrics), grace=settings.grace)
    finally:
        endpoint.close()


async def _start(settings: AnalyzerSettings, metrics: ServiceMetrics) -> RunningServer:
    return await start(
        ArtifactStore(settings.store),
        settings.address,
        spread=_spread(settings),
        limits=settings.limits,
        tools=await asyncio.to_thread(_tools, settings),
        workers=settings.workers,
        queue_limit=settings.queue_limit,
        metrics=metrics,
        allow_public=settings.allow_public,
    )


def _tools(settings: AnalyzerSettings) -> Tools:
    tools = open_tools(settings.parser, settings.processes, settings.encoder)
    # The one that ships is known to work; of another it is told now, not by the first call, that it does not.
    if tools.parser and settings.parser != SHIPPED:
        tools.parser.try_out()
    return tools


def _spread(settings: AnalyzerSettings) -> HumanSpread | None:
    return read_spread(Path(settings.human_spread)) if settings.human_spread else None


if __name__ == "__main__":
    sys.exit(main())
