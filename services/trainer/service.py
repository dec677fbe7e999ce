"""Starts a trainer: environment, table of tasks, servicers, server. Used by its own process and by the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio

from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskContext, TaskTable
from ouroscope.records.training import FineTune, FineTuned
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import trainer_pb2, trainer_pb2_grpc
from services.trainer.servicer import TrainerServicer

if TYPE_CHECKING:
    from services.trainer.environment import Environment

Train = Callable[[FineTune, TaskContext], FineTuned]

SERVICE_NAME = trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name


async def start(
    store: ArtifactStore,
    address: str = "127.0.0.1:0",
    *,
    threads: int = 0,
    device: str = "auto",
    queue_limit: int = 100,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
) -> RunningServer:
    """Start a trainer and return it when it answers. One job trains at a time; others wait.

    Args:
        store: Where corpora and models are.
        address: `host:port`; port 0 takes a free one.
        threads: Processor threads of one operation; 0 takes as many as the process may use.
        device: `cpu`, `cuda`, or `auto` for an accelerator if there is one.
        queue_limit: Operations that may wait.
        metrics: Where calls are counted.
        allow_public: Whether other machines may reach it.

    Raises:
        CapabilityMissing: this machine has no such device.
        PreconditionFailed: the address cannot be used.
    """
    environment, train = await asyncio.to_thread(_prepared, store, threads, device)
    table = TaskTable(store, queue_limit=queue_limit)
    if metrics:
        metrics.watch_queue(SERVICE_NAME, lambda: table.waiting)

    def add_services(server: grpc.aio.Server) -> tuple[str, str]:
        servicer = TrainerServicer(train, Operations(table, environment.fingerprint))
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
        return SERVICE_NAME, add_operations(OperationsServicer(TableSource(table)), server)

    try:
        return await serve(add_services, address, metrics=metrics, allow_public=allow_public, on_drain=[table.close])
    except BaseException:
        await table.close()
        raise


def _prepared(store: ArtifactStore, threads: int, device: str) -> tuple[Environment, Train]:
    # Imported here and in a thread: torch takes seconds, and the event loop must not stand still meanwhile.
    from services.trainer.environment import prepare
    from services.trainer.job import Job

    environment = prepare(threads, device)

    def train(request: FineTune, context: TaskContext) -> FineTuned:
        return Job(store=store, request=request, environment=environment, control=context).run()

    return environment, train
