"""Drives runs with DBOS: one workflow per run, one child per lane, that survive a kill. What they do is in `bodies`.

Rules that were found by trying (DBOS 3.4), beside those of ARCHITECTURE.md and of `durable`:

- One DBOS per process; it must be launched inside the running loop, and it replaces the default executor of that loop,
  which therefore is replaced again when it goes.
- Shutting down cancels the tasks of the bodies. DBOS does not note a cancelled task, so the workflow stays pending and
  goes on with the next launch.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import ClassVar

import structlog
from dbos import DBOS, SetWorkflowID

from ouroscope.canonical import to_plain
from ouroscope.errors import NotFound, PreconditionFailed, Unavailable
from ouroscope.records.runs import Run, RunSpec, RunState
from services.coordinator import plan
from services.coordinator.board import Board
from services.coordinator.bodies import Bodies
from services.coordinator.database import History
from services.coordinator.durable import (
    UNDER_WAY,
    check_version,
    configuration,
    hear_errors,
    new_name,
    prepare_file,
    rewind,
    stand_down,
    statuses,
    taken_by_others,
)

log = structlog.get_logger(__name__)

INTERRUPTED = "the process that drove it ended"
LOOK = 5.0
"""Seconds between two looks for workflows that somebody else has taken."""


class Engine:
    """Drives runs. The caller holds the lock of the home, so that no other process does."""

    _alive: ClassVar[bool] = False

    def __init__(self, database: str, executor: str, history: History, board: Board, bodies: Bodies) -> None:
        """Prepare, without starting anything.

        Args:
            database: URL of the DBOS system database.
            executor: Beginning of the name under which workflows are driven.
            history: What is kept of runs.
            board: Where what goes on is shown.
            bodies: What the workflows do.
        """
        self._database = database
        self._stem = self._executor = executor
        self._history = history
        self._board = board
        self._bodies = bodies
        self._moving: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listening = ExitStack()
        self._looking: asyncio.Task[None] | None = None

    async def launch(self, *, recover: bool = True) -> None:
        """Start, and go on with interrupted runs.

        With `recover` off they are marked as failed instead, and can be resumed one by one.

        Raises:
            PreconditionFailed: this process drives runs already.
            Unavailable: the database does not answer.
            StorageFull: it has no room.
        """
        if Engine._alive:
            raise PreconditionFailed("this process has a coordinator already; start another process for another home")
        interrupted = await self._history.unfinished()
        if not recover:
            await asyncio.to_thread(stand_down, self._database)
            for run in interrupted:
                await self._bodies.fail(run.name.removeprefix("runs/"), INTERRUPTED)
        for run in interrupted if recover else ():
            await self._show(await self._without_error(run))
        self._launch()
        await self._take_back()
        for run in interrupted if recover else ():
            await self._recover(run)
        self._looking = asyncio.create_task(self._keep_taking_back())

    def _launch(self) -> None:
        Engine._alive = True
        self._executor = new_name(self._stem)
        try:
            prepare_file(self._database)
            DBOS(config=configuration(self._database, self._executor))
            self._bodies.register()
            DBOS.launch()
            self._listening.callback(hear_errors(self._database, self._bodies.doubt))
        except Exception as error:
            DBOS.destroy(destroy_registry=True)
            Engine._alive = False
            log.error("engine.not_launched", exc_info=error)
            raise Unavailable(
                "the database of workflows cannot be opened; is it reachable, is the disk full?"
            ) from error

    async def close(self) -> None:
        """Leave: bodies stop where they are and stay pending."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._bodies.stop()
        own = ThreadPoolExecutor(1)
        await asyncio.get_running_loop().run_in_executor(own, lambda: DBOS.destroy(destroy_registry=True))
        own.shutdown()
        self._listening.close()
        # DBOS made its own pool the default one of this loop, and has just shut it down.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        Engine._alive = False

    async def relaunch(self) -> None:
        """Begin again after the database was away or full, as a new process would: DBOS does not take up what failed.

        Raises:
            Unavailable: it is away again.
            StorageFull: it is full again.
        """
        if Engine._alive:
            await self.close()
        await self.launch()
        await self._show_ended()

    async def start(self, run_id: str, spec: RunSpec) -> None:
        """Begin a run that the tables know and that was never begun."""
        _check_awake()
        await self._show(await self._history.run(run_id))
        if await statuses([run_id]):
            # Left by tables that are gone; its history is that of another run of the same name.
            await DBOS.delete_workflows_async([run_id], delete_children=True)
        with SetWorkflowID(run_id):
            await DBOS.start_workflow_async(self._bodies.run, run_id, to_plain(spec))

    async def cancel(self, run_id: str) -> Run:
        """Stop a run and its lanes; workers are told within about a second. One that has ended stays as it is."""
        _check_awake()
        async with self._moving[run_id]:
            cancelled = await self._history.move(run_id, state=RunState.CANCELLED)
            if cancelled is None:
                return await self._history.run(run_id)
            await DBOS.cancel_workflows_async([run_id], cancel_children=True)
            await self._history.settle(run_id, RunState.RUNNING, RunState.CANCELLED)
            self._board.run_changed(cancelled)
            log.info("run.cancelled", run=run_id)
            return cancelled

    async def resume(self, run_id: str) -> Run:
        """Go on with a run that was cancelled, failed or interrupted; one that is at work stays as it is.

        Raises:
            PreconditionFailed: it has succeeded, or was begun by an incompatible version.
            Busy: what was cancelled has not ended yet.
        """
        _check_awake()
        async with self._moving[run_id]:
            run = await self._history.run(run_id)
            if not run.state.ended:
                return run
            if run.state is RunState.SUCCEEDED:
                raise PreconditionFailed(f"run {run_id!r} has finished; there is nothing to resume")
            for status in (await statuses(_workflows(run_id, run.spec))).values():
                check_version(run_id, status)
            await self._bodies.wait_until_ended(run_id)
            await self._history.settle(run_id, run.state, RunState.RUNNING)
            run = await self._history.change_run(run_id, state=RunState.RUNNING, error=None)
            await self._show(run)
            await self._go_on(run_id, run.spec)
            log.info("run.resumed", run=run_id)
            return run

    async def delete(self, run_id: str) -> None:
        """Forget a run that has ended.

        Raises:
            PreconditionFailed: it has not ended.
            Busy: what was cancelled has not ended yet.
        """
        _check_awake()
        async with self._moving[run_id]:
            run = await self._history.run(run_id)
            if not run.state.ended:
                raise PreconditionFailed(f"run {run_id!r} is at work; cancel it first")
            await self._bodies.wait_until_ended(run_id)
            if await statuses([run_id]):
                await DBOS.delete_workflows_async([run_id], delete_children=True)
            await self._history.delete_run(run_id)

    async def _go_on(self, run_id: str, spec: RunSpec) -> None:
        """Move every workflow of a run that has neither succeeded nor is under way. Safe to be done again.

        Lanes first: the run must not find an ended lane when it looks again.
        """
        found = await statuses(_workflows(run_id, spec))
        for workflow_id in _workflows(run_id, spec):
            if workflow_id in found and found[workflow_id].status not in (*UNDER_WAY, "SUCCESS"):
                await rewind(workflow_id)
        if run_id not in found:
            await self.start(run_id, spec)

    async def _show(self, run: Run) -> None:
        run_id = run.name.removeprefix("runs/")
        self._board.open(run, await self._history.generations(run_id), await self._history.setup(run_id))

    async def _show_ended(self) -> None:
        """Let go of those who watch a run that another coordinator has ended while this one had lost the database."""
        for name in self._board.shown():
            with suppress(NotFound):
                if (run := await self._history.run(name.removeprefix("runs/"))).state.ended:
                    self._board.run_changed(run)

    async def _without_error(self, run: Run) -> Run:
        """Forget what a lane has said of its failure before the run could end with it: the lane is gone on with."""
        if run.error is None:
            return run
        return await self._history.change_run(run.name.removeprefix("runs/"), error=None)

    async def _keep_taking_back(self) -> None:
        """Let nothing stand still because a process that has lost the lock took it from the queue before it ended."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._take_back()
            except Exception as error:
                # The lock looks after the database; this only has to be there when it is back.
                log.warning("engine.not_looked", error=type(error).__name__)

    async def _take_back(self) -> None:
        """Go on with every workflow that another process, or an earlier launch, has left at work."""
        for workflow_id in await taken_by_others(self._executor):
            async with self._moving[plan.run_of(workflow_id)]:
                # Looked at again under the lock: what was cancelled meanwhile must stay so.
                if workflow_id in await taken_by_others(self._executor):
                    await DBOS.resume_workflow_async(workflow_id)
                    log.info("workflow.taken_back", workflow=workflow_id)

    async def _recover(self, run: Run) -> None:
        """See to what is not at work: a run that was killed between two of its tables' writes."""
        run_id = run.name.removeprefix("runs/")
        try:
            for status in (await statuses(_workflows(run_id, run.spec))).values():
                check_version(run_id, status)
        except PreconditionFailed as error:
            await self._bodies.fail(run_id, error.message)
        else:
            await self._go_on(run_id, run.spec)
            log.info("run.recovered", run=run_id)


def _check_awake() -> None:
    """Refuse while the engine begins again; a run that the tables know by then is taken up with the others."""
    if not Engine._alive:
        raise Unavailable("the database was away and runs are being taken up again; try again")


def _workflows(run_id: str, spec: RunSpec) -> tuple[str, ...]:
    """Return the durable names of all lanes of a run, then its own."""
    return (*(lane.workflow_id for lane in plan.lanes_of(run_id, spec)), run_id)
