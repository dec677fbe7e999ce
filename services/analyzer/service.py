"""Starts an analyzer: table of tasks, servicers, server. Used by its own process and by the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import grpc.aio

from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskTable
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.security.settings import Security
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import analyzer_pb2, analyzer_pb2_grpc
from services.analyzer.jobs import Jobs
from services.analyzer.servicer import AnalyzerServicer
from services.analyzer.session import Limits
from services.analyzer.spread import HumanSpread, shipped_spread
from services.analyzer.streams import LIMIT, Streams
from services.analyzer.tools import Tools

SERVICE_NAME = analyzer_pb2.DESCRIPTOR.services_by_name["AnalyzerService"].full_name


async def start(
    store: ArtifactStore,
    address: str = "127.0.0.1:0",
    *,
    spread: HumanSpread | None = None,
    limits: Limits = Limits(),  # noqa: B008  # frozen
    tools: Tools = Tools(),  # noqa: B008  # frozen
    workers: int = 2,
    queue_limit: int = 100,
    max_streams: int = LIMIT,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
    security: Security = Security(),  # noqa: B008  # frozen
) -> RunningServer:
    """Start an analyzer and return it when it answers.

    Args:
        store: Where corpora, predictions, reports and baselines are.
        address: `host:port`; port 0 takes a free one.
        spread: The calibration table; by default the one that comes with the project.
        limits: How much one stream may hold.
        tools: Parser and encoder; they are closed with the service.
        workers: Corpora measured at the same time, and beside them as many streams.
        queue_limit: Operations that may wait.
        max_streams: Streams measured side by side; more are refused for a while.
        metrics: Where calls and documents are counted.
        allow_public: Whether other machines may reach it although strangers are not kept out.
        security: TLS, tokens and limits.

    Raises:
        PreconditionFailed: the address cannot be used.
    """
    if spread is None:
        spread = await asyncio.to_thread(shipped_spread)
    table = TaskTable(store, workers=workers, queue_limit=queue_limit)
    jobs = Jobs(
        store=store,
        spread=spread,
        limits=limits,
        tools=tools,
        on_documents=metrics.documents_analysed.inc if metrics else lambda _: None,
    )
    streams = Streams(jobs, workers, max_streams)
    if metrics:
        metrics.watch_queue(SERVICE_NAME, lambda: table.waiting)

    def add_services(server: grpc.aio.Server) -> tuple[str, str]:
        servicer = AnalyzerServicer(jobs, streams, Operations(table, jobs.fingerprint))
        analyzer_pb2_grpc.add_AnalyzerServiceServicer_to_server(servicer, server)
        return SERVICE_NAME, add_operations(OperationsServicer(TableSource(table)), server)

    closers: list[Callable[[], Awaitable[None]]] = [table.close, streams.close, partial(asyncio.to_thread, tools.close)]
    try:
        return await serve(
            add_services, address, metrics=metrics, allow_public=allow_public, security=security, on_drain=closers
        )
    except BaseException:
        await asyncio.gather(*(close() for close in closers))
        raise
