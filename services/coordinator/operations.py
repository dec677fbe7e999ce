"""Runs seen as google.longrunning operations: `operations/runs-{run}` is the run, and has no life of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

from ouroscope.canonical import digest_of
from ouroscope.errors import Cancelled, CapabilityMissing, NotFound, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.operations.tasks import TaskState
from ouroscope.records.progress import Progress
from ouroscope.records.runs import Run, RunEvent, RunState
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.rows import time_text
from services.coordinator.workflows import Engine

PREFIX = "operations/runs-"
METHOD = "CreateRun"


def operation_of(run: Run, event: RunEvent | None = None) -> TaskState:
    """Return the operation that is `run`; `event` is the newest of it, where it is at work."""
    progress = Progress(
        stage=(event.stage if event else None) or run.state.value.lower(),
        done=run.generations_done,
        total=run.generations_total,
        unit="generations",
        seconds_left=event.seconds_left if event else None,
    )
    return TaskState(
        name=PREFIX + run.name.removeprefix("runs/"),
        number=_number(run.create_time),
        method=METHOD,
        digest=digest_of(METHOD, run.spec),
        target=run.name,
        create_time=run.create_time,
        update_time=run.update_time,
        progress=progress,
        result=run if run.state is RunState.SUCCEEDED else None,
        error=_error(run),
    )


class RunOperations:
    """`operations.servicer.OperationSource` over the runs of a home."""

    def __init__(self, history: History, engine: Engine, board: Board) -> None:
        self._history = history
        self._engine = engine
        self._board = board

    async def get(self, name: str) -> TaskState:
        """Return the state of one run."""
        run = await self._history.run(_run_id(name))
        return operation_of(run, self._board.newest(run.name))

    async def wait(self, name: str, timeout: float) -> TaskState:
        """Return its state once it has ended, or after `timeout` seconds."""
        with suppress(TimeoutError, Unavailable):
            async with asyncio.timeout(timeout):
                await self._board.ended(f"runs/{_run_id(name)}")
        return await self.get(name)

    async def page(self, size: int, below: int | None) -> list[TaskState]:
        """Return up to `size` runs, the newest first, that were made before the time `below`."""
        after = None if below is None else (time_text(datetime.fromtimestamp(below / 1e6, UTC)), "~")
        return [operation_of(run, self._board.newest(run.name)) for run in await self._history.runs(size, after)]

    async def cancel(self, name: str) -> None:
        """Stop the run."""
        await self._engine.cancel(_run_id(name))

    async def forget(self, name: str) -> None:
        """Refuse: an operation here is its run."""
        run = await self._history.run(_run_id(name))
        raise CapabilityMissing(f"this operation is the run {run.name}; delete the run instead")


def _run_id(name: str) -> str:
    if not name.startswith(PREFIX):
        raise NotFound(f"there is no operation {name[:200]!r} here; those of the coordinator are {PREFIX}RUN")
    return name.removeprefix(PREFIX)


def _number(time: datetime) -> int:
    return round(time.timestamp() * 1e6)


def _error(run: Run) -> OuroscopeError | None:
    if run.state is RunState.FAILED:
        return PreconditionFailed(run.error or "the run has failed", run=run.name)
    if run.state is RunState.CANCELLED:
        return Cancelled(f"{run.name} was cancelled; go on with ResumeRun", run=run.name)
    return None
