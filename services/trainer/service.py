"""Starts a trainer: who does the work, table of tasks, servicers, server.

Used by its own process and by the embedded one.
"""

from __future__ import annotations

import asyncio
from functools import partial

import grpc.aio

from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskTable
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import trainer_pb2, trainer_pb2_grpc
from services.trainer.group.hosts import hosts_of
from services.trainer.servicer import TrainerServicer
from services.trainer.work import Work, work_here

SERVICE_NAME = trainer_pb2.DESCRIPTOR.services_by_name["TrainerService"].full_name


async def start(
    store: ArtifactStore,
    address: str = "127.0.0.1:0",
    *,
    threads: int = 0,
    device: str = "auto",
    max_processes: int = 0,
    nodes: int = 1,
    meeting: str = "",
    queue_limit: int = 100,
    log_to: str = "",
    elsewhere: Work | None = None,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
    security: Security = Security(),  # noqa: B008  # frozen
) -> RunningServer:
    """Start a trainer and return it when it answers. In this process one job trains at a time; others wait.

    Args:
        store: Where corpora and models are.
        address: `host:port`; port 0 takes a free one.
        threads: Processor threads of one operation; 0 takes as many as the process may use.
        device: `cpu`, `cuda`, or `auto` for an accelerator if there is one.
        max_processes: Most processes of one training, on all machines; 0 takes all processors, or all GPUs.
        nodes: Machines that train together; on the others runs `services.trainer.group.node`.
        meeting: `host:port` of this machine, where the others find it; only with several.
        queue_limit: Operations that may wait.
        log_to: Where curves of trainings go, as OURO_TRAINER_LOG_TO says it; empty is nowhere.
        elsewhere: Who carries requests out, where that is not this process; the settings of devices then mean nothing.
        metrics: Where calls are counted.
        allow_public: Whether other machines may reach it although strangers are not kept out.
        security: TLS, tokens and limits.

    Raises:
        CapabilityMissing: this machine has no such device, or the package that `log_to` needs is missing.
        PreconditionFailed: the address cannot be used.
        InvalidRequest: the machines cannot share the processes equally.
    """
    hosts = partial(hosts_of, max_processes, nodes, meeting)
    # In a thread: torch takes seconds to import, and the event loop must not stand still meanwhile.
    here = partial(work_here, store, threads, device, log_to, hosts)
    work = await asyncio.to_thread(here) if elsewhere is None else elsewhere
    table = TaskTable(store, workers=work.at_once, queue_limit=queue_limit)
    if metrics:
        metrics.watch_queue(SERVICE_NAME, lambda: table.waiting)

    def add_services(server: grpc.aio.Server) -> tuple[str, str]:
        servicer = TrainerServicer(work.train, work.check, Operations(table, work.fingerprint))
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
        return SERVICE_NAME, add_operations(OperationsServicer(TableSource(table)), server)

    try:
        return await serve(
            add_services, address, metrics=metrics, allow_public=allow_public, security=security, on_drain=[table.close]
        )
    except BaseException:
        await table.close()
        raise
