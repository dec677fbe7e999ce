"""What one of several processes does: join the others, train, and let the first tell what came of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FrameType

import structlog
import torch

from ouroscope.errors import Cancelled, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.records.progress import Progress
from ouroscope.store import ArtifactStore
from ouroscope.telemetry.logs import configure_logs
from services.trainer.course import Course
from services.trainer.environment import prepare
from services.trainer.group.exchange import STOP, TASK, Task, tell_error, tell_progress, tell_result
from services.trainer.group.shards import ShardedCheckpoints
from services.trainer.job import Job
from services.trainer.world import Group, whole_tensor

log = structlog.get_logger(__name__)


def take_part(folder: Path | None) -> int:
    """Train and return the exit status of the process: 0 also after an error that was told.

    Args:
        folder: What is shared with the supervisor; None on other machines than its own.
    """
    configure_logs(json=True)
    orders = _Orders(folder)
    signal.signal(signal.SIGTERM, orders.note_signal)
    try:
        world = Group()
        task = Task.decoded(world.tell(_read(folder, world.rank)))
        configure_logs(json=True, level=task.log_level)
        _train(task, world, orders, folder)
        world.close()
    except Exception as error:
        # Most often the connection to another process that died, and the supervisor starts all of them again.
        log.error("worker.failed", error=type(error).__name__, exc_info=error)
        return 1
    return 0


class _Orders:
    """What the supervisor, or the machine, wants of this process; what the supervisor hears of it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._signalled = folder, False

    def note_signal(self, number: int, frame: FrameType | None) -> None:
        """Remember that the machine wants the process to end."""
        self._signalled = True

    def check(self) -> None:
        """Raise Cancelled or Unavailable if the work shall stop."""
        if self._signalled:
            raise Unavailable("a process of the group was told to stop; ask again, what was reached is kept")
        if self._folder and (self._folder / STOP).exists():
            raise Cancelled("the group was asked to stop")

    def report(self, progress: Progress) -> None:
        """Tell the supervisor how far the work is; the progress of one process is that of all."""
        if self._folder and torch.distributed.get_rank() == 0:
            tell_progress(self._folder, progress)


def _read(folder: Path | None, rank: int) -> bytes:
    if rank:
        return b""
    if folder is None:
        raise PreconditionFailed(
            "the first machine must be that of the trainer: OURO_TRAINER_NODE_RANK is 0 there only"
        )
    return (folder / TASK).read_bytes()


def _train(task: Task, world: Group, orders: _Orders, folder: Path | None) -> None:
    try:
        world.together(partial(_prepare, task))
        world.settle(task.environment.device)
        job = Job(store=ArtifactStore(task.store), request=task.request, environment=task.environment, control=orders)
        course, weights = job.take_part(world, lambda draft: ShardedCheckpoints(draft, world))
        world.together(partial(_tell, folder, world.rank, course, weights))
    except OuroscopeError as error:
        log.info("worker.stopped", reason=error.reason, rank=world.rank)
        if folder:
            tell_error(folder, world.rank, error)


def _prepare(task: Task) -> None:
    here = prepare(task.threads, task.environment.device)
    if (here.versions, here.hardware) != (task.environment.versions, task.environment.hardware):
        raise PreconditionFailed(
            "the machines of the group differ in hardware or in the versions of their libraries; make them equal",
            here=", ".join((here.hardware, *here.versions)),
        )


def _tell(folder: Path | None, rank: int, course: Course, weights: Mapping[str, torch.Tensor]) -> None:
    # By all of them, tensor by tensor: at most one of them is whole in each process but the first.
    whole = ((name, whole_tensor(weight)) for name, weight in weights.items())
    kept = {name: tensor for name, tensor in whole if rank == 0}
    if folder and rank == 0:
        tell_result(folder, course, kept)
