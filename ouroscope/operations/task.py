"""One task: what is known of it, what its work may ask and tell, who waits for it. Knows no table, no transport."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import structlog

from ouroscope.errors import OuroscopeError
from ouroscope.records.progress import Progress

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """What is known of one task at one moment."""

    name: str
    """`operations/{method in lower case}-{request digest}`."""
    number: int
    """Rises with every start; the order of lists."""
    method: str
    digest: str
    target: str = ""
    """Resource that it makes, where that is not an artifact: `runs/{run}`."""
    create_time: datetime
    update_time: datetime
    progress: Progress = field(default_factory=Progress)
    result: Any = None
    """A record, once the task has succeeded."""
    error: OuroscopeError | None = None
    """Why it failed, once it has."""

    @property
    def done(self) -> bool:
        """Return whether nothing more will happen."""
        return self.result is not None or self.error is not None


class TaskContext:
    """What work may know of the task that it is: whether to stop, and where to say how far it is. Thread-safe."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def stopping(self) -> bool:
        """Return whether the work should end soon."""
        return self._task.stop_with is not None

    def check(self) -> None:
        """Do nothing, unless the work should end.

        Raises:
            Cancelled: somebody asked for it.
            Unavailable: the service is shutting down.
        """
        if self._task.stop_with is not None:
            raise self._task.stop_with

    def report(self, progress: Progress) -> None:
        """Say how far the work is. Cheap enough for every step; the time left is estimated where it is not given."""
        self._task.note(progress)


class Task:
    """One attempt at one request. The table writes under its lock; only `note` comes from the thread of the work."""

    def __init__(self, state: TaskState, work: Callable[[TaskContext], Any], before: threading.Event | None) -> None:
        self.state = state
        self.work: Callable[[TaskContext], Any] | None = work
        """None once it has begun, so that what it holds can be freed."""
        self.before = before
        """`left` of an attempt at the same request that is still ending; two must not write the same draft."""
        self.left = threading.Event()
        """Set once the work has left its thread, or will never enter one."""
        self.stop_with: OuroscopeError | None = None
        self.context = contextvars.copy_context()
        """Of whoever asked for it: its trace and the fields of its log go with the work into the thread."""
        self.waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._progress: tuple[Progress, datetime] | None = None
        self._stage: tuple[str, int, float] | None = None

    def note(self, progress: Progress) -> None:
        """Remember how far it is."""
        if self._stage is None or self._stage[0] != progress.stage:
            self._stage = (progress.stage, progress.done, time.monotonic())
        self._progress = (_with_estimate(progress, self._stage), datetime.now(UTC))

    def snapshot(self) -> TaskState:
        """Return the state with the progress of this moment."""
        if self._progress is None:
            return self.state
        progress, moved = self._progress
        return replace(self.state, progress=progress, update_time=max(moved, self.state.update_time))

    def end(self, *, result: Any = None, error: OuroscopeError | None = None) -> None:
        """Write the outcome, unless there is one already, and wake who waits."""
        if not self.state.done:
            self.state = replace(self.snapshot(), result=result, error=error, update_time=datetime.now(UTC))
            for loop, woken in self.waiters:
                _wake(loop, woken)


def _wake(loop: asyncio.AbstractEventLoop, woken: asyncio.Future[None]) -> None:
    def finish() -> None:
        if not woken.done():
            woken.set_result(None)

    try:
        loop.call_soon_threadsafe(finish)
    except RuntimeError:  # the loop of that waiter is closed, so nobody waits
        log.debug("task.waiter_gone")


def _with_estimate(progress: Progress, stage: tuple[str, int, float]) -> Progress:
    """Fill in the time left from the pace since the stage began."""
    _, first, began = stage
    made = progress.done - first
    if progress.seconds_left is not None or made <= 0 or progress.total <= progress.done:
        return progress
    pace = (time.monotonic() - began) / made
    return replace(progress, seconds_left=pace * (progress.total - progress.done))
