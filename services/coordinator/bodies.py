"""What the durable workflows do: one body per run, one per lane. Knows DBOS only as what remembers steps and children.

A lane that waits for the report of another asks the tables, not a DBOS event: the report is durable there already, and
an event would be a second truth that grows the history of the workflow with every poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeGuard

import structlog
from dbos import DBOS, PortableWorkflowError, SetWorkflowID
from dbos import error as dbos_error

from ouroscope import errors
from ouroscope.canonical import from_plain, to_plain
from ouroscope.errors import Busy, OuroscopeError, PreconditionFailed
from ouroscope.records.runs import RunSpec, RunState
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.store import ArtifactStore
from services.coordinator import plan
from services.coordinator.board import Board
from services.coordinator.connection import FULL, is_full
from services.coordinator.database import History
from services.coordinator.durable import durable_step
from services.coordinator.loop import run_arm
from services.coordinator.patience import Patiently
from services.coordinator.plan import Lane
from services.coordinator.setup import RunSetup
from services.coordinator.stages import LaneStages, Plain, Setup
from services.coordinator.workers import Workers

log = structlog.get_logger(__name__)

POLL = 0.25
"""Seconds between two looks at whether a lane has ended."""
WIND_DOWN = 20.0
"""Seconds that a cancelled body gets to end before its run can be resumed."""


class Bodies:
    """The bodies of the workflows, and the tasks that they run as."""

    def __init__(
        self,
        store: ArtifactStore,
        workers: Workers,
        history: History,
        board: Board,
        patiently: Patiently,
        doubt: Callable[[BaseException], bool] = lambda _: False,
        allowed: AllowedSources = EVERYTHING,
    ) -> None:
        """Prepare.

        `doubt` is asked of every failure whether it is one of the database; whoever says yes stops all bodies and takes
        them up again when it is back. Runs read no text but of the `allowed` sources, also those that were made when
        more was allowed.
        """
        self._store = store
        self._workers = workers
        self._history = history
        self._board = board
        self._patiently = patiently
        self.doubt = doubt
        self._allowed = allowed
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self.run: Callable[..., Any]
        """Workflow of a run, once registered: takes its id and its specification in plain form."""
        self._arm: Callable[..., Any]

    def register(self) -> None:
        """Tell DBOS its two workflows. They are closures: DBOS marks functions, and methods cannot be marked."""

        async def run(run_id: str, spec: Plain) -> None:
            async with self._body(run_id):
                await self._drive(run_id, from_plain(RunSpec, spec))

        async def arm(run_id: str, name: str, seed: int, spec: Plain, setup: Plain) -> None:
            lane = Lane(run_id, name, seed)
            async with self._body(lane.workflow_id):
                await self._drive_lane(lane, from_plain(RunSpec, spec), from_plain(Setup, setup))

        self.run = DBOS.workflow(name="ouroscope.run", max_recovery_attempts=None)(run)
        self._arm = DBOS.workflow(name="ouroscope.arm", max_recovery_attempts=None)(arm)

    async def stop(self) -> None:
        """Stop all bodies where they are. DBOS notes nothing of a cancelled task, so their workflows stay pending."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_until_ended(self, run_id: str) -> None:
        """A cancelled body ends when its step has noticed; going on before would make two of them."""
        try:
            async with asyncio.timeout(WIND_DOWN):
                while any(plan.run_of(name) == run_id for name in self._tasks.values()):
                    await asyncio.sleep(POLL / 5)
        except TimeoutError as error:
            raise Busy(f"run {run_id!r} has not come to its end yet; try again", retry_after=5.0) from error

    async def move(self, run_id: str, **changes: Any) -> bool:
        """Change a run that has not ended and show it; a cancelled one stays cancelled whatever its body still says."""
        moved = await self._history.move(run_id, **changes)
        if moved is not None:
            self._board.run_changed(moved)
        return moved is not None

    async def fail(self, run_id: str, told: str) -> None:
        """Note that a run has failed, with the first thing that was said about it and with what to do."""
        run = await self._history.run(run_id)
        if run.state.ended:
            return
        error = f"{run.error or told}. To go on: ouroscope runs resume {run_id}"
        await self._history.settle(run_id, RunState.RUNNING, RunState.FAILED)
        await self.move(run_id, state=RunState.FAILED, error=error)
        log.error("run.failed", run=run_id, error=error)

    async def _drive(self, run_id: str, spec: RunSpec) -> None:
        try:
            await self._begin(run_id)
            setup = await self._setup(run_id, spec)
            await self._lanes(run_id, spec, setup)
            if await self.move(run_id, state=RunState.SUCCEEDED):
                log.info("run.succeeded", run=run_id)
        except Exception as error:
            await self._stand_still_if_away(error, run=run_id)
            _log(error, run=run_id)
            # If the run itself was cancelled, DBOS refuses this call, and no failure is noted.
            await DBOS.cancel_workflows_async([lane.workflow_id for lane in plan.lanes_of(run_id, spec)])
            await self.fail(run_id, _told(error))
            raise

    async def _begin(self, run_id: str) -> None:
        """Show that the run is at work.

        Raises:
            PreconditionFailed: it was cancelled or has failed, and this process or its disk was gone before DBOS noted
                it. Nobody wants it to go on; as a failed workflow it can be resumed.
        """
        if await self.move(run_id, state=RunState.RUNNING):
            return
        if (await self._history.run(run_id)).state is not RunState.SUCCEEDED:
            raise PreconditionFailed(f"run {run_id!r} has ended")

    async def _setup(self, run_id: str, spec: RunSpec) -> Setup:
        steps = RunSetup(
            run_id,
            spec,
            self._store,
            self._workers,
            self._history,
            self._board,
            self._step,
            self._patiently,
            self._allowed,
        )
        return await steps.prepare()

    async def _lanes(self, run_id: str, spec: RunSpec, setup: Setup) -> None:
        """Let all lanes go side by side; the first that fails ends the run."""
        waiting = []
        for lane in plan.lanes_of(run_id, spec):
            with SetWorkflowID(lane.workflow_id):
                arguments = (run_id, lane.arm, lane.seed, to_plain(spec), to_plain(setup))
                waiting.append(await DBOS.start_workflow_async(self._arm, *arguments))
        while waiting:
            ended = await DBOS.wait_first_async(waiting, polling_interval_sec=POLL)
            waiting.remove(ended)
            await ended.get_result()

    async def _drive_lane(self, lane: Lane, spec: RunSpec, setup: Setup) -> None:
        stages = LaneStages(
            lane,
            spec,
            setup,
            self._workers,
            self._history,
            self._board,
            self._step,
            self._patiently,
            self._history,
        )
        try:
            await run_arm(plan.arm_named(spec, lane.arm), lane.seed, spec, stages)
        except Exception as error:
            # Noted here, where it is known best; what reaches the run is only that a lane has failed.
            await self._stand_still_if_away(error, run=lane.run, arm=lane.arm, seed=lane.seed)
            _log(error, run=lane.run, arm=lane.arm, seed=lane.seed)
            await self._history.note_error(lane.run, f"arm {lane.arm}, seed {lane.seed}, {_told(error)}")
            raise

    async def _step(self, name: str, work: Callable[[], Awaitable[Plain]]) -> Plain:
        """Do work as a durable step: `stages.Steps`."""

        async def step() -> Plain:
            try:
                return await work()
            except Exception as error:
                await self._stand_still_if_away(error, step=name)
                raise

        return await durable_step(name, step)

    async def _stand_still_if_away(self, error: Exception, **fields: str | int) -> None:
        """Wait to be stopped and taken up again if it is the database that failed: nothing is wrong with the run.

        Raised, the failure would be noted by DBOS if the database is back by then, and come again with every replay.
        """
        if self.doubt(error):
            log.warning("workflow.interrupted", error=type(error).__name__, **fields)
            await asyncio.Event().wait()

    @asynccontextmanager
    async def _body(self, workflow_id: str) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None, "DBOS runs async workflows as tasks"
        self._tasks[task] = workflow_id
        try:
            yield
        except Exception as error:
            # What was to be said of a failure may fail as well.
            await self._stand_still_if_away(error, workflow=workflow_id)
            raise
        finally:
            del self._tasks[task]


def _told(error: Exception) -> str:
    """Return what callers may be told of a failure, with the place that the stages noted on it."""
    place = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    if isinstance(error, OuroscopeError) or _is_remembered(error):
        return place + error.message.rstrip(".")
    if is_full(error):
        return place + FULL
    return f"{place}an internal error; see the log of the coordinator"


def _is_remembered(error: Exception) -> TypeGuard[PortableWorkflowError]:
    """Return whether it is an error of ours that a step has raised before, as DBOS remembers it."""
    return isinstance(error, PortableWorkflowError) and error.name in vars(errors)


def _log(error: Exception, **fields: str | int) -> None:
    """Log a failure; with its traceback if it is none that callers are told of."""
    if isinstance(error, OuroscopeError | PortableWorkflowError) or is_full(error):
        log.error("workflow.failed", error=_told(error), **fields)
    elif not isinstance(error, dbos_error.DBOSException):
        log.error("workflow.unexpected_error", exc_info=error, **fields)
