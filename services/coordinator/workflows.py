"""Makes runs durable with DBOS: one workflow per run, one child per lane, steps that survive a kill. Decides nothing.

Rules that were found by trying (DBOS 3.4), beside those of ARCHITECTURE.md and of `durable`:

- One DBOS per process; it must be launched inside the running loop, and it replaces the default executor of that loop,
  which therefore is replaced again when it goes.
- Shutting down cancels the tasks of the bodies. DBOS does not note a cancelled task, so the workflow stays pending and
  goes on with the next launch.
- A lane that waits for the report of another asks the tables, not a DBOS event: the report is durable there already,
  and an event would be a second truth that grows the history of the workflow with every poll.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ClassVar

import structlog
from dbos import DBOS, SetWorkflowID

from ouroscope.canonical import from_plain, to_plain
from ouroscope.errors import Busy, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.records.runs import Run, RunSpec, RunState
from ouroscope.store import ArtifactStore
from services.coordinator import plan
from services.coordinator.board import Board
from services.coordinator.database import History
from services.coordinator.durable import (
    APPLICATION_VERSION,
    UNDER_WAY,
    check_version,
    configuration,
    durable_step,
    rewind,
    stand_down,
    statuses,
)
from services.coordinator.loop import run_arm
from services.coordinator.patience import Patiently
from services.coordinator.plan import Lane
from services.coordinator.setup import RunSetup
from services.coordinator.stages import LaneStages, Plain, Setup
from services.coordinator.workers import Workers

log = structlog.get_logger(__name__)

POLL = 0.25
"""Seconds between two looks at whether a lane has ended."""
WIND_DOWN = 30.0
"""Seconds that a cancelled body gets to end before its run can be resumed."""
INTERRUPTED = "the process that drove it ended"


class Engine:
    """Drives runs. The caller holds the lock of the home, so that no other process does."""

    _alive: ClassVar[bool] = False

    def __init__(
        self,
        database: str,
        executor: str,
        store: ArtifactStore,
        workers: Workers,
        history: History,
        board: Board,
        patiently: Patiently,
    ) -> None:
        """Prepare, without starting anything; `database` is the URL of the DBOS system database."""
        self._database = database
        self._executor = executor
        self._store = store
        self._workers = workers
        self._history = history
        self._board = board
        self._patiently = patiently
        self._bodies: dict[asyncio.Task[Any], str] = {}
        self._run: Callable[..., Any]
        self._arm: Callable[..., Any]

    async def launch(self, *, recover: bool = True) -> None:
        """Start, and go on with interrupted runs.

        With `recover` off they are marked as failed instead, and can be resumed one by one.

        Raises:
            PreconditionFailed: this process drives runs already.
        """
        if Engine._alive:
            raise PreconditionFailed("this process has a coordinator already; start another process for another home")
        interrupted = await self._history.unfinished()
        if not recover:
            await asyncio.to_thread(stand_down, self._database)
            for run in interrupted:
                await self._fail(run.name.removeprefix("runs/"), INTERRUPTED)
        for run in interrupted if recover else ():
            await self._show(run)
        self._launch()
        for run in interrupted if recover else ():
            await self._recover(run)

    def _launch(self) -> None:
        Engine._alive = True
        try:
            DBOS(config=configuration(self._database, self._executor))
            self._register()
            DBOS.launch()
        except Exception as error:
            DBOS.destroy(destroy_registry=True)
            Engine._alive = False
            log.error("engine.not_launched", exc_info=error)
            raise Unavailable(
                "the database of workflows cannot be opened; is it reachable, is the disk full?"
            ) from error

    async def close(self) -> None:
        """Leave: bodies stop where they are and stay pending."""
        bodies = list(self._bodies)
        for task in bodies:
            task.cancel()
        await asyncio.gather(*bodies, return_exceptions=True)
        own = ThreadPoolExecutor(1)
        await asyncio.get_running_loop().run_in_executor(own, lambda: DBOS.destroy(destroy_registry=True))
        own.shutdown()
        # DBOS made its own pool the default one of this loop, and has just shut it down.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        Engine._alive = False

    async def start(self, run_id: str, spec: RunSpec) -> None:
        """Begin a run that the tables know; nothing happens if it was begun before."""
        await self._show(await self._history.run(run_id))
        with SetWorkflowID(run_id):
            await DBOS.start_workflow_async(self._run, run_id, to_plain(spec))

    async def cancel(self, run_id: str) -> Run:
        """Stop a run and its lanes; workers are told within about a second. One that has ended stays as it is."""
        run = await self._history.run(run_id)
        if run.state.ended:
            return run
        run = await self._history.change_run(run_id, state=RunState.CANCELLED)
        await DBOS.cancel_workflows_async([run_id], cancel_children=True)
        await self._history.settle(run_id, RunState.RUNNING, RunState.CANCELLED)
        self._board.run_changed(run)
        log.info("run.cancelled", run=run_id)
        return run

    async def resume(self, run_id: str) -> Run:
        """Go on with a run that was cancelled, failed or interrupted; one that is at work stays as it is.

        Raises:
            PreconditionFailed: it has succeeded, or was begun by an incompatible version.
            Busy: what was cancelled has not ended yet.
        """
        run = await self._history.run(run_id)
        if not run.state.ended:
            return run
        if run.state is RunState.SUCCEEDED:
            raise PreconditionFailed(f"run {run_id!r} has finished; there is nothing to resume")
        lanes = [lane.workflow_id for lane in plan.lanes_of(run_id, run.spec)]
        found = await statuses([run_id, *lanes])
        for status in found.values():
            check_version(run_id, status)
        await self._wait_for_bodies(run_id)
        await self._history.settle(run_id, run.state, RunState.RUNNING)
        run = await self._history.change_run(run_id, state=RunState.RUNNING, error=None)
        await self._show(run)
        # Lanes first: the run must not find an ended lane when it looks again.
        for workflow_id in (*lanes, run_id):
            if workflow_id in found and found[workflow_id].status != "SUCCESS":
                await rewind(workflow_id)
        if run_id not in found:
            await self.start(run_id, run.spec)
        log.info("run.resumed", run=run_id)
        return run

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended.

        Raises:
            PreconditionFailed: it has not ended.
        """
        run = await self._history.run(run_id)
        if not run.state.ended:
            raise PreconditionFailed(f"run {run_id!r} is at work; cancel it first")
        await self._wait_for_bodies(run_id)
        if await statuses([run_id]):
            await DBOS.delete_workflows_async([run_id], delete_children=True)
        await self._history.delete_run(run_id)

    def _register(self) -> None:
        """Tell DBOS its two workflows. They are closures: DBOS marks functions, and methods cannot be marked."""

        async def run(run_id: str, spec: Plain) -> None:
            with self._body(run_id):
                await self._drive(run_id, from_plain(RunSpec, spec))

        async def arm(run_id: str, name: str, seed: int, spec: Plain, setup: Plain) -> None:
            lane = Lane(run_id, name, seed)
            with self._body(lane.workflow_id):
                await self._drive_lane(lane, from_plain(RunSpec, spec), from_plain(Setup, setup))

        self._run = DBOS.workflow(name="ouroscope.run", max_recovery_attempts=None)(run)
        self._arm = DBOS.workflow(name="ouroscope.arm", max_recovery_attempts=None)(arm)

    async def _drive(self, run_id: str, spec: RunSpec) -> None:
        try:
            await self._note(run_id, state=RunState.RUNNING)
            setup = await self._setup(run_id, spec)
            await self._lanes(run_id, spec, setup)
            await self._succeed(run_id)
        except Exception as error:
            # If the run itself was cancelled, DBOS refuses this call, and no failure is noted.
            await DBOS.cancel_workflows_async([lane.workflow_id for lane in plan.lanes_of(run_id, spec)])
            await self._fail(run_id, _told(error))
            raise

    async def _setup(self, run_id: str, spec: RunSpec) -> Setup:
        steps = RunSetup(
            run_id, spec, self._store, self._workers, self._history, self._board, durable_step, self._patiently
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
            self._history.report_of,
        )
        try:
            await run_arm(plan.arm_named(spec, lane.arm), lane.seed, spec, stages)
        except Exception as error:
            # Noted here, where it is known best; what reaches the run is only that a lane has failed.
            unexpected = None if isinstance(error, OuroscopeError) else error
            log.error(
                "lane.failed", run=lane.run, arm=lane.arm, seed=lane.seed, exc_info=unexpected, error=_told(error)
            )
            await self._history.note_error(lane.run, f"arm {lane.arm}, seed {lane.seed}, {_told(error)}")
            raise

    async def _succeed(self, run_id: str) -> None:
        if not (await self._history.run(run_id)).state.ended:
            await self._note(run_id, state=RunState.SUCCEEDED)
            log.info("run.succeeded", run=run_id)

    async def _fail(self, run_id: str, told: str) -> None:
        """Note that a run has failed, with the first thing that was said about it and with what to do."""
        run = await self._history.run(run_id)
        if run.state.ended:
            return
        error = f"{run.error or told}. To go on: ouroscope runs resume {run_id}"
        await self._history.settle(run_id, RunState.RUNNING, RunState.FAILED)
        await self._note(run_id, state=RunState.FAILED, error=error)
        log.error("run.failed", run=run_id, error=error)

    async def _show(self, run: Run) -> None:
        run_id = run.name.removeprefix("runs/")
        self._board.open(run, await self._history.generations(run_id), await self._history.setup(run_id))

    async def _note(self, run_id: str, **changes: Any) -> None:
        self._board.run_changed(await self._history.change_run(run_id, **changes))

    @contextmanager
    def _body(self, workflow_id: str) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None, "DBOS runs async workflows as tasks"
        self._bodies[task] = workflow_id
        try:
            yield
        finally:
            del self._bodies[task]

    async def _wait_for_bodies(self, run_id: str) -> None:
        """A cancelled body ends when its step has noticed; going on before would make two of them."""
        try:
            async with asyncio.timeout(WIND_DOWN):
                while any(name.split("/")[0] == run_id for name in self._bodies.values()):
                    await asyncio.sleep(POLL / 5)
        except TimeoutError as error:
            raise Busy(f"run {run_id!r} has not come to its end yet; try again", retry_after=5.0) from error

    async def _recover(self, run: Run) -> None:
        """See to an interrupted run that DBOS will not take up by itself."""
        run_id = run.name.removeprefix("runs/")
        status = (await statuses([run_id])).get(run_id)
        if status is None:
            await self.start(run_id, run.spec)
        elif status.status not in UNDER_WAY or status.app_version != APPLICATION_VERSION:
            await self._fail(run_id, INTERRUPTED)
        else:
            log.info("run.recovered", run=run_id)


def _told(error: Exception) -> str:
    """Return what callers may be told of a failure, with the place that the stages noted on it."""
    place = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
    if isinstance(error, OuroscopeError):
        return place + error.message.rstrip(".")
    return f"{place}an internal error; see the log of the coordinator"
