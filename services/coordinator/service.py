"""Starts a coordinator: lock, tables, workers, engine, exporter, server.

Used by its own process and by the embedded one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import structlog

from ouroscope.addresses import check_free, split_address
from ouroscope.client import GeneratorClient, TrainerClient
from ouroscope.client.relay import RelayingAnalyzer
from ouroscope.errors import OuroscopeError
from ouroscope.operations.servicer import OperationsServicer, add_operations
from ouroscope.rpc.channel import open_channel
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.security.connection import PLAIN, Connection
from ouroscope.security.settings import Security
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.http import MetricsEndpoint, start_metrics_endpoint
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import (
    coordinator_pb2,
    coordinator_pb2_grpc,
    externalscaler_pb2,
    externalscaler_pb2_grpc,
    monitor_pb2,
    monitor_pb2_grpc,
)
from services.coordinator import collector, tables
from services.coordinator.board import Board
from services.coordinator.bodies import Bodies
from services.coordinator.collector import RunCollector
from services.coordinator.database import open_history
from services.coordinator.lock import take_lock
from services.coordinator.metric_book import MetricBook
from services.coordinator.monitor_servicer import MonitorServicer
from services.coordinator.monitors.collector import MonitorCollector
from services.coordinator.monitors.desk import Desk, open_desk
from services.coordinator.operations import RunOperations
from services.coordinator.page.opening import OpenPage
from services.coordinator.patience import Patiently
from services.coordinator.runs import Runs
from services.coordinator.scaler_servicer import ScalerServicer
from services.coordinator.servicer import CoordinatorServicer
from services.coordinator.workers import Analyzer, Workers
from services.coordinator.workflows import Engine

log = structlog.get_logger(__name__)

SERVICE_NAME = coordinator_pb2.DESCRIPTOR.services_by_name["CoordinatorService"].full_name
MONITOR_SERVICE_NAME = monitor_pb2.DESCRIPTOR.services_by_name["MonitorService"].full_name
SCALER_SERVICE_NAME = externalscaler_pb2.DESCRIPTOR.services_by_name["ExternalScaler"].full_name
EXECUTOR = "coordinator"
ASK_AGAIN = 5.0
"""Seconds between two attempts to learn the catalogue of metrics."""


def end_this_process() -> None:
    """End as a supervisor would ask for it: calls are drained, and whoever starts it again finds out who is at work."""
    os.kill(os.getpid(), signal.SIGTERM)


class RunningCoordinator:
    """A coordinator that answers. `stop` leaves its runs where they are; the next one goes on with them."""

    def __init__(
        self, server: RunningServer, endpoint: MetricsEndpoint, page_url: str, resources: AsyncExitStack
    ) -> None:
        self._server = server
        self._resources = resources
        self.port = server.port
        """Port in use, also where 0 was asked for."""
        self.address = server.address
        self.metrics_port = endpoint.port
        self.metrics_url = endpoint.url
        self.page_url = page_url
        """Empty where no page is served."""

    async def stop(self, grace: float = 10.0, *, notice: float = 0.0) -> None:
        """Drain, let watchers go, leave the runs, let go of the lock. Stopping twice is harmless."""
        await self._server.stop(grace, notice=notice)
        await self._resources.aclose()


async def start(
    home: Path,
    store: ArtifactStore,
    address: str = "127.0.0.1:0",
    *,
    generator: str = "",
    trainer: str = "",
    analyzer: str = "",
    metrics_address: str = "127.0.0.1:0",
    page_address: str = "127.0.0.1:0",
    database: str | None = None,
    executor: str = EXECUTOR,
    recover: bool = True,
    patience: float = 600.0,
    metrics_grace: float = collector.GRACE,
    metrics_limit: int = collector.LIMIT,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
    sources: AllowedSources = EVERYTHING,
    security: Security = Security(),  # noqa: B008  # frozen
    connection: Connection = PLAIN,
    workers: Workers | None = None,
    on_lost: Callable[[], None] = end_this_process,
) -> RunningCoordinator:
    """Start a coordinator and return it when it answers. At most one per home or database, and one per process.

    Args:
        home: Folder of the lock and, without `database`, of the databases (`state/`).
        store: Where artifacts are; the same as that of the workers.
        address: `host:port`; port 0 takes a free one.
        generator: Address of the generator.
        trainer: Address of the trainer.
        analyzer: Address of the analyzer.
        metrics_address: `host:port` of the Prometheus endpoint.
        page_address: `host:port` of the page to look at; empty serves none.
        database: URL of a PostgreSQL database, instead of files in the home.
        executor: Beginning of its name in the database; every launch adds something of its own.
        recover: Whether to go on with interrupted runs; otherwise they are marked as failed, and can be resumed.
        patience: Seconds that a stage waits for a worker that cannot be reached.
        metrics_grace: Seconds that the series of an ended run stay.
        metrics_limit: Runs that are exported at most, and monitors with every metric.
        metrics: Where calls are counted; by default counters of its own, shown at the same endpoint.
        allow_public: Whether other machines may reach it although strangers are not kept out.
        sources: Where the text of runs may come from.
        security: TLS, tokens and limits, of the calls, the metrics and the page.
        connection: How the workers are reached.
        workers: Instead of the three addresses, for tests.
        on_lost: Called when another coordinator has taken the database while it was away; this one must not go on.

    Raises:
        PreconditionFailed: the home or database is in use or cannot be written, or an address cannot be used.
        Unavailable: the database cannot be opened.
    """
    # Before anything goes on: a coordinator that nobody can reach must not drive runs.
    check_free(*split_address(address), option="--address")
    async with AsyncExitStack() as resources:
        lock = await take_lock(home, database)
        resources.push_async_callback(lock.release)
        history = await open_history(home, database, lock.check)
        resources.push_async_callback(history.close)
        team = workers or await _connect(resources, connection, generator, trainer, analyzer)
        book = MetricBook()
        exporter = RunCollector(book, grace=metrics_grace, limit=metrics_limit)
        monitor_exporter = MonitorCollector(book, limit=metrics_limit)
        counted = metrics or ServiceMetrics()
        for collects in (book, exporter):
            counted.registry.register(collects)
            resources.callback(counted.registry.unregister, collects)
        endpoint = _show(resources, counted, monitor_exporter, metrics_address, security, allow_public)
        board = Board([exporter])
        page = OpenPage(history, store, board)
        patiently = Patiently(limit=patience)
        desk = open_desk(history, store, team.analyzer, patiently, [monitor_exporter, page.watched])
        page_url = page.serve(resources, page_address, allow_public=allow_public, security=security)
        await desk.monitors.show_all(metrics_limit)
        bodies = Bodies(store, team, history.patient(patience), board, patiently, lock.doubt, sources)
        engine = Engine(tables.system_url(home, database), executor, history, board, bodies)
        await engine.launch(recover=recover)
        resources.push_async_callback(engine.close)
        lock.keep(on_lost, engine.relaunch, board.stand_still)
        resources.push_async_callback(lock.leave)
        learning = asyncio.create_task(_learn_units(team.analyzer, book, page))
        resources.callback(learning.cancel)
        runs = Runs(history, engine, board, allowed=sources)
        operations = RunOperations(history, engine, board)
        server = await _serve(runs, operations, board, desk, address, counted, allow_public, security)
        return RunningCoordinator(server, endpoint, page_url, resources.pop_all())


async def _connect(
    resources: AsyncExitStack, connection: Connection, generator: str, trainer: str, analyzer: str
) -> Workers:
    channels = [
        await resources.enter_async_context(open_channel(at, connection)) for at in (generator, trainer, analyzer)
    ]
    return Workers(GeneratorClient(channels[0]), TrainerClient(channels[1]), RelayingAnalyzer(channels[2]))


def _show(
    resources: AsyncExitStack,
    metrics: ServiceMetrics,
    monitors: MonitorCollector,
    address: str,
    security: Security,
    allow_public: bool,
) -> MetricsEndpoint:
    host, port = split_address(address)
    endpoint = start_metrics_endpoint(
        metrics.registry, port, host=host, sources=[monitors], security=security, allow_public=allow_public
    )
    resources.callback(endpoint.close)
    log.info("metrics.serving", url=endpoint.url)
    return endpoint


async def _serve(
    runs: Runs,
    operations: RunOperations,
    board: Board,
    desk: Desk,
    address: str,
    metrics: ServiceMetrics,
    allow_public: bool,
    security: Security,
) -> RunningServer:
    def add_services(server: grpc.aio.Server) -> tuple[str, ...]:
        servicer = CoordinatorServicer(runs)
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(servicer, server)
        monitor_pb2_grpc.add_MonitorServiceServicer_to_server(MonitorServicer(desk), server)
        externalscaler_pb2_grpc.add_ExternalScalerServicer_to_server(ScalerServicer(board), server)
        operations_name = add_operations(OperationsServicer(operations), server)
        return SERVICE_NAME, MONITOR_SERVICE_NAME, SCALER_SERVICE_NAME, operations_name

    return await serve(
        add_services,
        address,
        metrics=metrics,
        allow_public=allow_public,
        security=security,
        on_drain=[board.close],
    )


async def _learn_units(analyzer: Analyzer, book: MetricBook, page: OpenPage) -> None:
    """Ask the analyzer for its catalogue until it answers; values are exported and drawn from then on."""
    while not book.units:
        try:
            catalogue = await analyzer.list_metrics()
            book.know(catalogue)
            page.reading.know_metrics(catalogue)
        except OuroscopeError as error:
            log.info("catalogue.unknown", reason=error.reason)
            await asyncio.sleep(ASK_AGAIN)
