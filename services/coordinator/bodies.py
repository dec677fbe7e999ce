"""What the durable workflows do: one body per run, one per lane. Knows DBOS only as what remembers steps and children.

A lane that waits for the report of another asks the tables, not a DBOS event: the report is durable there already, and
an event would be a second truth that grows the history of the workflow with every poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from dbos import DBOS, SetWorkflowID
from dbos import error as dbos_error

from ouroscope.canonical import from_plain, to_plain
from ouroscope.errors import Busy, OuroscopeError
from ouroscope.records.runs import RunSpec, RunState
from ouroscope.security.allowed import EVERYTHING, AllowedSources
from ouroscope.store import ArtifactStore
from services.coordinator import plan
from services.coordinator.board import Board
from services.coordinator.connection import FULL, is_full, is_outage
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
        on_outage: Callable[[], None] | None = None,
        allowed: AllowedSources = EVERYTHING,
    ) -> None:
        """Prepare; `on_outage` is called when the database fails under a run, and the run is then taken up again.

        Runs read no text but of the `allowed` sources, also those that were made when more was allowed.
        """
        self._store = store
        self._workers = workers
        self._history = history
        self._board = board
        self._patiently = patiently
        self._on_outage = on_outage
        self._allowed = allowed
        self._interrupted: set[str] = set()
        self._tasks: dict[asyncio.Task[Any], str] = {}
        self.run: Callable[..., Any]
        """Workflow of a run, once registered: takes its id and its specification in plain form."""
        self._arm: Callable[..., Any]

    def register(self) -> None:
        """Tell DBOS its two workflows. They are closures: DBOS marks functions, and methods cannot be marked."""
        self._interrupted.clear()

        async def run(run_id: str, spec: Plain) -> None:
            with self._body(run_id):
                await self._drive(run_id, from_plain(RunSpec, spec))

        async def arm(run_id: str, name: str, seed: int, spec: Plain, setup: Plain) -> None:
            lane = Lane(run_id, name, seed)
            with self._body(lane.workflow_id):
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
                while any(name.split("/")[0] == run_id for name in self._tasks.values()):
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
            await self.move(run_id, state=RunState.RUNNING)
            setup = await self._setup(run_id, spec)
            await self._lanes(run_id, spec, setup)
            if await self.move(run_id, state=RunState.SUCCEEDED):
                log.info("run.succeeded", run=run_id)
        except Exception as error:
            _log(error, run=run_id)
            if self._is_interrupted(run_id, error):
                raise
            # If the run itself was cancelled, DBOS refuses this call, and no failure is noted.
            await DBOS.cancel_workflows_async([lane.workflow_id for lane in plan.lanes_of(run_id, spec)])
            await self.fail(run_id, _told(error))
            raise

    async def _setup(self, run_id: str, spec: RunSpec) -> Setup:
        steps = RunSetup(
            run_id,
            spec,
            self._store,
            self._workers,
            self._history,
            self._board,
            durable_step,
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
            durable_step,
            self._patiently,
            self._history,
        )
        try:
            await run_arm(plan.arm_named(spec, lane.arm), lane.seed, spec, stages)
        except Exception as error:
            # Noted here, where it is known best; what reaches the run is only that a lane has failed.
            _log(error, run=lane.run, arm=lane.arm, seed=lane.seed)
            if self._is_interrupted(lane.run, error):
                raise
            await self._history.note_error(lane.run, f"arm {lane.arm}, seed {lane.seed}, {_told(error)}")
            raise

    def _is_interrupted(self, run_id: str, error: Exception) -> bool:
        """Return whether a run stops because the database failed: nothing is wrong with it, and it will go on."""
        if self._on_outage is not None and is_outage(error):
            self._interrupted.add(run_id)
            self._on_outage()
        # What a lane raised reaches its run as an error of DBOS, which tells nothing.
        return run_id in self._interrupted

    @contextmanager
    def _body(self, workflow_id: str) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None, "DBOS runs async workflows as tasks"
        self._tasks[task] = workflow_id
        try:
            yield
        finally:
            del self._tasks[task]


def _told(error: Exception) -> str:
    """Return what callers may be told of a failure, with the place that the stages noted on it."""
    place = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    if isinstance(error, OuroscopeError):
        return place + error.message.rstrip(".")
    if is_full(error):
        return place + FULL
    return f"{place}an internal error; see the log of the coordinator"


def _log(error: Exception, **fields: str | int) -> None:
    """Log a failure; with its traceback if it is none that callers are told of."""
    if is_outage(error):
        log.warning("workflow.interrupted", error=type(error).__name__, **fields)
    elif isinstance(error, OuroscopeError) or is_full(error):
        log.error("workflow.failed", error=_told(error), **fields)
    elif not isinstance(error, dbos_error.DBOSException):
        log.error("workflow.unexpected_error", exc_info=error, **fields)
