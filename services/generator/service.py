"""Starts a generator: backends, table of tasks, servicers, server. Used by its own process and by the embedded one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc.aio
import structlog

from ouroscope.errors import InvalidRequest, NotFound
from ouroscope.memory import importing
from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskTable
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import generator_pb2, generator_pb2_grpc
from services.generator.backend import Backend
from services.generator.backends import Backends, Unusable
from services.generator.cluster import open_cluster
from services.generator.declared import DeclaredBackend
from services.generator.jobs import Jobs
from services.generator.servicer import GeneratorServicer

log = structlog.get_logger(__name__)

SERVICE_NAME = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"].full_name
MAX_MODEL_BYTES = 200 * 1024**3
_AT_ONCE = 4
"""Operations per server: so many arms of a run write side by side."""


async def start(
    store: ArtifactStore,
    address: str = "127.0.0.1:0",
    *,
    backend: Backend | None = None,
    declared: Sequence[DeclaredBackend] = (),
    tasks: Path | None = None,
    threads: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    kept_models: int = 2,
    executor: str = "local",
    ray_address: str = "",
    processes: int = 1,
    max_model_bytes: int = MAX_MODEL_BYTES,
    queue_limit: int = 100,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
    sources: AllowedSources = EVERYTHING,
    security: Security = Security(),  # noqa: B008  # frozen
) -> RunningServer:
    """Start a generator and return it when it answers.

    Args:
        store: Where corpora, models and predictions are.
        address: `host:port`; port 0 takes a free one.
        backend: What runs models where a request names no other; by default transformers in this process.
        declared: Servers that a request may name.
        tasks: Folder with tasks of lm-evaluation-harness beside those that it ships.
        threads: Processor threads of one operation; 0 takes as many as the process may use.
        device: See HfBackend.
        dtype: See HfBackend.
        kept_models: Models kept in memory.
        executor: Where models of no declared server write and score: `local`, or `ray` for a cluster; see ray.md.
        ray_address: `host:port` of the head of that cluster, or `auto`.
        processes: Workers of that cluster.
        max_model_bytes: Largest model that may be imported.
        queue_limit: Operations that may wait.
        metrics: Where calls and tokens are counted.
        allow_public: Whether other machines may reach it although strangers are not kept out.
        sources: Where models may come from.
        security: TLS, tokens and limits.

    Raises:
        CapabilityMissing: this machine has no such device.
        NotFound: there is no folder `tasks`.
        InvalidRequest: the variable that holds the token of a declared server is not set, or there is no such executor.
        PreconditionFailed: the address cannot be used, or no cluster can read the store.
    """
    if tasks is not None and not tasks.is_dir():
        raise NotFound(f"there is no folder {str(tasks)!r}; OURO_GENERATOR_TASKS names one with YAML files of tasks")
    cluster = open_cluster(
        store,
        executor,
        processes=processes,
        ray_address=ray_address,
        device=device,
        dtype=dtype,
        threads=threads,
        kept_models=kept_models,
    )
    if backend is None:
        backend = await asyncio.to_thread(_transformers, store, device, dtype, threads, kept_models)
    servers = await asyncio.to_thread(_servers, store, declared)
    backends = Backends(backend, servers, {one.name: one.weights.value for one in declared})
    # Work for a server or a cluster mostly waits; what runs here takes turns.
    table = TaskTable(store, workers=1 + _AT_ONCE * (len(servers) + bool(cluster)), queue_limit=queue_limit)
    on_tokens = metrics.tokens_generated.inc if metrics else lambda _: None
    jobs = Jobs(
        store=store,
        backends=backends,
        max_model_bytes=max_model_bytes,
        sources=sources,
        tasks_folder=tasks,
        cluster=cluster,
        on_tokens=on_tokens,
    )
    if metrics:
        metrics.watch_queue(SERVICE_NAME, lambda: table.waiting)

    def add_services(server: grpc.aio.Server) -> tuple[str, str]:
        servicer = GeneratorServicer(jobs, Operations(table, jobs.fingerprint))
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(servicer, server)
        return SERVICE_NAME, add_operations(OperationsServicer(TableSource(table)), server)

    try:
        return await serve(
            add_services,
            address,
            metrics=metrics,
            allow_public=allow_public,
            security=security,
            on_drain=[table.close, jobs.close],
        )
    except BaseException:
        await table.close()
        await jobs.close()
        raise


def _servers(store: ArtifactStore, declared: Sequence[DeclaredBackend]) -> list[Backend]:
    if not declared:
        return []
    # Imported here: a generator without servers needs no HTTP client.
    from services.generator.opening import open_backend

    opened: list[Backend] = []
    for one in declared:
        try:
            opened.append(open_backend(one, store))
        except InvalidRequest as error:
            # One server without its token does not take the others away.
            log.warning("backend.unusable", backend=one.name, error=error.message)
            opened.append(Unusable(one.name, one.kind.value, error.message))
    return opened


def _transformers(store: ArtifactStore, device: str, dtype: str, threads: int, kept_models: int) -> Backend:
    # Imported here and in a thread: torch takes seconds, and whoever brings a backend of his own does without it.
    with importing():
        from services.generator.in_process.backend import HfBackend

    return HfBackend(store, device=device, dtype=dtype, threads=threads, kept_models=kept_models)
