"""One of the other machines of a group: joins whatever the trainer on the first one starts. Knows no request.

Nothing listens here and nothing is handed over: the agent waits for the first machine, the workers are told by its
first process what to do, and read models and corpora from the store that both see. When a training has ended, or was
lost, the next one is waited for.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import threading
from pathlib import Path

import structlog

from services.trainer.group.agent import command
from services.trainer.group.hosts import Hosts
from services.trainer.group.launch import worker_environment

log = structlog.get_logger(__name__)

_PAUSE = 1.0
"""Seconds between two attempts to join: a trainer that is not training refuses at once."""


class Node:
    """Takes part in every training until it is stopped."""

    def __init__(self, hosts: Hosts, number: int, threads: int) -> None:
        """Begin.

        Args:
            hosts: All machines.
            number: Of this one, from 1: the trainer's is 0.
            threads: Processor threads that the processes of this machine share.
        """
        self._hosts, self._number, self._threads = hosts, number, threads
        self._stopping = threading.Event()
        self._agent: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._serve, name="node", daemon=True)
        self._thread.start()
        log.info("node.joined", number=number, meeting=hosts.meeting, processes=hosts.local)

    async def stop(self, grace: float = 10.0, *, notice: float = 0.0) -> None:
        """Leave: the processes of this machine get `grace` seconds to keep a checkpoint together with the others."""
        self._stopping.set()
        if self._agent:
            self._agent.terminate()
        await asyncio.to_thread(self._thread.join, grace)
        if self._agent and self._agent.poll() is None:
            self._agent.kill()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with tempfile.TemporaryDirectory(prefix="ouroscope-node-") as logs:
                self._join(Path(logs))
            self._stopping.wait(_PAUSE)

    def _join(self, logs: Path) -> None:
        joining = command(
            self._hosts.meeting,
            nodes=self._hosts.nodes,
            node=self._number,
            local=self._hosts.local,
            logs=logs,
            folder=None,
        )
        environment = worker_environment(max(1, self._threads // self._hosts.local), self._hosts.nodes)
        self._agent = subprocess.Popen(joining, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
        log.info("node.ended", status=self._agent.wait())
