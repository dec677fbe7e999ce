"""The trainer as a process: `python -m services.trainer`, settings from `OURO_TRAINER_*`."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from ouroscope.errors import InvalidRequest
from ouroscope.process import run_worker
from ouroscope.rpc.server import RunningServer
from ouroscope.security.settings import Security
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.telemetry.service_metrics import ServiceMetrics
from services.trainer.group.hosts import hosts_of
from services.trainer.service import start
from services.trainer.settings import PREFIX, TrainerSettings

if TYPE_CHECKING:
    from services.trainer.group.node import Node


def main() -> int:
    """Serve until a signal; return the exit status."""
    return run_worker(TrainerSettings, PREFIX, _start)


async def _start(settings: TrainerSettings, metrics: ServiceMetrics, security: Security) -> RunningServer | Node:
    if settings.node_rank:
        return await asyncio.to_thread(_node, settings)
    return await start(
        ArtifactStore(settings.store),
        settings.address,
        threads=settings.threads,
        device=settings.device,
        max_processes=settings.max_processes,
        nodes=settings.nodes,
        meeting=settings.meeting,
        queue_limit=settings.queue_limit,
        log_to=settings.log_to,
        metrics=metrics,
        allow_public=settings.allow_plaintext,
        security=security,
    )


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
