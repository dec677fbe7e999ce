"""Starts several processes that train, listens to them, and ends them. Knows processes and files; no tensor.

An agent starts the workers, in a session of its own. They are asked to stop by a file, which the first of them sees and
tells the others at the next step, so that all keep the same checkpoint; whoever does not heed it in time is killed
through the lifeline. A group that was lost, without a reason that would come back, is started again from its last
checkpoint.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch

import services
from ouroscope.errors import CapabilityMissing, OuroscopeError, Unavailable
from ouroscope.records.training import FineTune, Recipe
from ouroscope.store import ArtifactStore
from services.trainer.course import Course
from services.trainer.environment import Environment
from services.trainer.finetune import Control
from services.trainer.group.agent import command
from services.trainer.group.exchange import STOP, TASK, ProgressReader, Task, forget_attempt, put, result, told_error
from services.trainer.group.hosts import Hosts
from services.trainer.group.lifeline import supervising, workers_gone

log = structlog.get_logger(__name__)

ATTEMPTS = 3
"""Times that a group is started for one request."""
_PAUSE = 0.1
_STOP_SECONDS = 120.0
"""What a group gets to keep a checkpoint when it is asked to stop."""
_LAST_SECONDS = 15.0
"""What processes get to leave when another one has told why it stopped."""
_KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Trains in several processes."""

    store: ArtifactStore
    hosts: Hosts

    def check(self, recipe: Recipe) -> None:
        """Refuse what the machines cannot do.

        Raises:
            CapabilityMissing: with the number of processes that can be had.
        """
        hosts = self.hosts
        if recipe.processes > hosts.processes:
            raise CapabilityMissing(
                f"recipe.processes is {recipe.processes}, and this trainer has at most {hosts.processes}; ask for "
                "fewer, or raise OURO_TRAINER_MAX_PROCESSES",
                processes=str(hosts.processes),
            )
        if hosts.nodes > 1 and recipe.processes != hosts.processes:
            raise CapabilityMissing(
                f"this trainer works on {hosts.nodes} machines that train together; set recipe.processes to 1 or to "
                f"{hosts.processes}",
                processes=str(hosts.processes),
            )
        if self.store.url.startswith("memory://"):
            raise CapabilityMissing("a store in memory is not seen by other processes; use a directory or s3://")

    @contextmanager
    def trained(
        self, request: FineTune, environment: Environment, control: Control
    ) -> Iterator[tuple[Course, Mapping[str, torch.Tensor]]]:
        """Train in `request.recipe.processes` processes; give what happened and the weights that moved, whole.

        Raises:
            Unavailable: the group was lost `ATTEMPTS` times; the last checkpoint is kept.
            OuroscopeError: what `control` said, or what ended the training.
        """
        local = request.recipe.processes // self.hosts.nodes
        threads = max(1, environment.threads // local)
        level = logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()
        task = Task(store=self.store.url, request=request, environment=environment, threads=threads, log_level=level)
        with self.store.scratch() as folder:
            put(folder, TASK, task.encoded())
            yield self._finished(folder, local, threads, control)

    def _finished(
        self, folder: Path, local: int, threads: int, control: Control
    ) -> tuple[Course, Mapping[str, torch.Tensor]]:
        for attempt in range(1, ATTEMPTS + 1):
            self._run(folder, local, threads, control)
            error, found = told_error(folder), result(folder)
            if found is not None:
                return found
            if error is not None and not isinstance(error, Unavailable):
                raise error
            log.warning("group.lost", attempt=attempt, attempts=ATTEMPTS)
        raise error or Unavailable(
            f"a process of the group died {ATTEMPTS} times, perhaps for want of memory; see the log of the trainer. "
            "What was reached is kept: ask again to go on"
        )

    def _run(self, folder: Path, local: int, threads: int, control: Control) -> None:
        """Start the group and follow it until it has ended, one way or another."""
        forget_attempt(folder)
        log.info("group.started", processes=local, nodes=self.hosts.nodes, threads=threads)
        # The workers end first: then the agent has nothing left to wait for.
        with _started(self._command(folder, local), worker_environment(threads, self.hosts.nodes)) as agent:
            try:
                with supervising(folder):
                    _follow(agent, folder, control)
            finally:
                if not workers_gone(folder, _KILL_SECONDS):
                    log.error("group.outlives", seconds=_KILL_SECONDS)

    def _command(self, folder: Path, local: int) -> list[str]:
        hosts = self.hosts
        meeting = hosts.meeting if hosts.nodes > 1 else f"127.0.0.1:{_free_port()}"
        return command(meeting, nodes=hosts.nodes, node=0, local=local, logs=folder / "logs", folder=folder)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def worker_environment(threads: int, nodes: int) -> dict[str, str]:
    """Return the environment of the workers: that of this process, with its code, and a share of its processors."""
    code = str(Path(next(iter(services.__path__))).parent)
    path = os.pathsep.join(part for part in (code, os.environ.get("PYTHONPATH", "")) if part)
    # The tokenizers of the library start threads of their own.
    told = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    if nodes == 1:
        # They are all here, so nobody else needs to reach them.
        loopback = "lo" if sys.platform == "linux" else "lo0"
        told |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
    return {**os.environ, **told}


@contextmanager
def _started(given: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start an agent in a session of its own, so that a signal from the terminal is the trainer's to pass on."""
    agent = subprocess.Popen(given, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield agent
    finally:
        if not _ended(agent, _KILL_SECONDS):
            agent.kill()
            agent.wait()


def _follow(agent: subprocess.Popen[bytes], folder: Path, control: Control) -> None:
    """Pass on progress until the group has ended; if it shall stop, ask it to and wait for that."""
    told = ProgressReader(folder)
    left = _LAST_SECONDS
    while agent.poll() is None and left > 0:
        for progress in told.new():
            control.report(progress)
        try:
            control.check()
        except OuroscopeError:
            (folder / STOP).touch()
            _ended(agent, _STOP_SECONDS)
            raise
        time.sleep(_PAUSE)
        left -= _PAUSE if told_error(folder) else 0
    for progress in told.new():
        control.report(progress)


def _ended(agent: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        agent.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
