"""Starts a generator: backend, table of tasks, servicers, server. Used by its own process and by the embedded one."""

from __future__ import annotations

import asyncio

import grpc.aio

from ouroscope.operations.servicer import Operations, OperationsServicer, TableSource, add_operations
from ouroscope.operations.tasks import TaskTable
from ouroscope.rpc.server import RunningServer, serve
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from ouroscope.v1 import generator_pb2, generator_pb2_grpc
from services.generator.backend import Backend
from services.generator.jobs import Jobs
from services.generator.servicer import GeneratorServicer

SERVICE_NAME = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"].full_name
MAX_MODEL_BYTES = 200 * 1024**3


async def start(
    store: ArtifactStore,
    address: str = "127.0.0.1:0",
    *,
    backend: Backend | None = None,
    threads: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    kept_models: int = 2,
    max_model_bytes: int = MAX_MODEL_BYTES,
    queue_limit: int = 100,
    metrics: ServiceMetrics | None = None,
    allow_public: bool = False,
) -> RunningServer:
    """Start a generator and return it when it answers.

    Args:
        store: Where corpora, models and predictions are.
        address: `host:port`; port 0 takes a free one.
        backend: What runs models; by default transformers in this process.
        threads: Processor threads of one operation; 0 takes as many as the process may use.
        device: See HfBackend.
        dtype: See HfBackend.
        kept_models: Models kept in memory.
        max_model_bytes: Largest model that may be imported.
        queue_limit: Operations that may wait.
        metrics: Where calls and tokens are counted.
        allow_public: Whether other machines may reach it.

    Raises:
        CapabilityMissing: this machine has no such device.
        PreconditionFailed: the address cannot be used.
    """
    if backend is None:
        backend = await asyncio.to_thread(_transformers, store, device, dtype, threads, kept_models)
    table = TaskTable(store, queue_limit=queue_limit)
    on_tokens = metrics.tokens_generated.inc if metrics else lambda _: None
    jobs = Jobs(store=store, backend=backend, max_model_bytes=max_model_bytes, on_tokens=on_tokens)
    if metrics:
        metrics.watch_queue(SERVICE_NAME, lambda: table.waiting)

    def add_services(server: grpc.aio.Server) -> tuple[str, str]:
        servicer = GeneratorServicer(jobs, Operations(table, jobs.fingerprint))
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(servicer, server)
        return SERVICE_NAME, add_operations(OperationsServicer(TableSource(table)), server)

    try:
        return await serve(add_services, address, metrics=metrics, allow_public=allow_public, on_drain=[table.close])
    except BaseException:
        await table.close()
        raise


def _transformers(store: ArtifactStore, device: str, dtype: str, threads: int, kept_models: int) -> Backend:
    # Imported here and in a thread: torch takes seconds, and whoever brings a backend of his own does without it.
    from services.generator.in_process.backend import HfBackend

    return HfBackend(store, device=device, dtype=dtype, threads=threads, kept_models=kept_models)
