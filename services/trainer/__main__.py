"""The trainer as a process: `python -m services.trainer`, settings from `OURO_TRAINER_*`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ouroscope.errors import InvalidRequest
from ouroscope.process import run_worker
from ouroscope.rpc.server import RunningServer
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.trainer.group.hosts import hosts_of
from services.trainer.jobs.front import work_by_jobs
from services.trainer.service import start
from services.trainer.settings import PREFIX, TrainerSettings
from services.trainer.work import Work

if TYPE_CHECKING:
    from services.trainer.group.node import Node


def main() -> int:
    """Serve until a signal; return the exit status."""
    return run_worker(TrainerSettings, PREFIX, _start)


async def _start(settings: TrainerSettings, metrics: ServiceMetrics, security: Security) -> RunningServer | Node:
    store = ArtifactStore(settings.store)
    elsewhere = _by_jobs(settings, store) if settings.jobs else None
    if settings.node_rank:
        return await asyncio.to_thread(_node, settings)
    return await start(
        store,
        settings.address,
        threads=settings.threads,
        device=settings.device,
        max_processes=settings.max_processes,
        nodes=settings.nodes,
        meeting=settings.meeting,
        queue_limit=settings.queue_limit,
        log_to=settings.log_to,
        elsewhere=elsewhere,
        metrics=metrics,
        allow_public=settings.allow_plaintext,
        security=security,
    )


def _by_jobs(settings: TrainerSettings, store: ArtifactStore) -> Work:
    # What trains is the template's word: a setting that would mean nothing here is a misunderstanding.
    plain = TrainerSettings()
    for name in ("device", "threads", "max_processes", "nodes", "node_rank", "meeting", "log_to"):
        if getattr(settings, name) != getattr(plain, name):
            raise InvalidRequest(
                f"{PREFIX}_{name.upper()} means nothing beside {PREFIX}_JOBS: put it into the template, or leave it out"
            )
    return work_by_jobs(Path(settings.jobs), store, os.environ)


def _node(settings: TrainerSettings) -> Node:
    # Imported here: torch takes seconds, and the event loop must not stand still meanwhile.
    from services.trainer.environment import places, prepare
    from services.trainer.group.node import Node

    environment = prepare(settings.threads, settings.device)
    hosts = hosts_of(settings.max_processes, settings.nodes, settings.meeting, here=places(environment.device))
    if settings.node_rank >= hosts.nodes:
        raise InvalidRequest("OURO_TRAINER_NODE_RANK counts from 0 and must be below OURO_TRAINER_NODES")
    return Node(hosts, settings.node_rank, environment.threads)


if __name__ == "__main__":
    sys.exit(main())
