"""Starts a trainer: environment, table of tasks, servicers, server. Used by its own process and by the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio

from ouroscope.memory import importing
from ouroscope.operations.requests import request_digest
from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskContext, TaskTable
from ouroscope.records.training import CheckRecipe, FineTune, FineTuned
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import trainer_pb2, trainer_pb2_grpc
from services.trainer.group.hosts import Hosts, hosts_of
from services.trainer.requests import METHOD
from services.trainer.servicer import TrainerServicer

if TYPE_CHECKING:
    from services.trainer.environment import Environment

Train = Callable[[FineTune, TaskContext], FineTuned]
Check = Callable[[CheckRecipe], None]

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
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
    security: Security = Security(),  # noqa: B008  # frozen
) -> RunningServer:
    """Start a trainer and return it when it answers. One job trains at a time; others wait.

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
        metrics: Where calls are counted.
        allow_public: Whether other machines may reach it although strangers are not kept out.
        security: TLS, tokens and limits.

    Raises:
        CapabilityMissing: this machine has no such device, or the package that `log_to` needs is missing.
        PreconditionFailed: the address cannot be used.
        InvalidRequest: the machines cannot share the processes equally.
    """
    prepared = partial(_prepared, store, threads, device, log_to, partial(hosts_of, max_processes, nodes, meeting))
    environment, train, check = await asyncio.to_thread(prepared)
    table = TaskTable(store, queue_limit=queue_limit)
    if metrics:
        metrics.watch_queue(SERVICE_NAME, lambda: table.waiting)

    def add_services(server: grpc.aio.Server) -> tuple[str, str]:
        servicer = TrainerServicer(train, check, Operations(table, environment.fingerprint))
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server)
        return SERVICE_NAME, add_operations(OperationsServicer(TableSource(table)), server)

    try:
        return await serve(
            add_services, address, metrics=metrics, allow_public=allow_public, security=security, on_drain=[table.close]
        )
    except BaseException:
        await table.close()
        raise


def _prepared(
    store: ArtifactStore, threads: int, device: str, log_to: str, hosts: Callable[[int], Hosts]
) -> tuple[Environment, Train, Check]:
    # Imported here and in a thread: torch takes seconds, and the event loop must not stand still meanwhile.
    with importing():
        from services.trainer.checking import check_stored
        from services.trainer.environment import places, prepare
        from services.trainer.group.launch import Launcher
        from services.trainer.job import Job
        from services.trainer.journal import following, new_writers

    environment, new_writer = prepare(threads, device), new_writers(log_to)
    helpers = Launcher(store=store, hosts=hosts(places(environment.device)))

    def train(request: FineTune, context: TaskContext) -> FineTuned:
        name = request_digest(METHOD, request, environment.fingerprint)[:12]
        with following(context, request, name, new_writer) as control:
            job = Job(store=store, request=request, environment=environment, control=control, helpers=helpers)
            return job.run()

    def check(asked: CheckRecipe) -> None:
        check_stored(store, asked.model, asked.recipe, environment, helpers.check)

    return environment, train, check
