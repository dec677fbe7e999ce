"""The analyzer as a process: `python -m services.analyzer`, settings from `OURO_ANALYZER_*`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ouroscope.process import run_worker
from ouroscope.rpc.server import RunningServer
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.analyzer.parsing.sources import SHIPPED
from services.analyzer.service import start
from services.analyzer.settings import PREFIX, AnalyzerSettings
from services.analyzer.spread import HumanSpread, read_spread
from services.analyzer.tools import Tools, open_tools


def main() -> int:
    """Serve until a signal; return the exit status."""
    return run_worker(AnalyzerSettings, PREFIX, _start)


async def _start(settings: AnalyzerSettings, metrics: ServiceMetrics, security: Security) -> RunningServer:
    return await start(
        ArtifactStore(settings.store),
        settings.address,
        spread=_spread(settings),
        limits=settings.limits,
        tools=await asyncio.to_thread(_tools, settings),
        workers=settings.workers,
        queue_limit=settings.queue_limit,
        max_streams=settings.max_streams,
        metrics=metrics,
        allow_public=settings.allow_plaintext,
        security=security,
    )


def _tools(settings: AnalyzerSettings) -> Tools:
    tools = open_tools(settings.parser, settings.processes, settings.encoder, settings.executor, settings.ray_address)
    # The one that ships is known to work here; of others it is told now, not by the first call, that they do not.
    if tools.parser and (settings.parser != SHIPPED or tools.readers):
        tools.parser.try_out()
    return tools


def _spread(settings: AnalyzerSettings) -> HumanSpread | None:
    return read_spread(Path(settings.human_spread)) if settings.human_spread else None


if __name__ == "__main__":
    sys.exit(main())
