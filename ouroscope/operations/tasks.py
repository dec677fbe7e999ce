"""Long work in threads of this process, named by the digest of its request. Knows no transport and no domain.

Nothing here is durable: a finished task's answer lies in the artifact store, where the same request finds it again, and
interrupted work goes on from its own drafts when it is asked for once more.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import structlog

from ouroscope.errors import Busy, Cancelled, Internal, NotFound, OuroscopeError, PreconditionFailed, Unavailable
from ouroscope.memory import give_back
from ouroscope.operations.task import Task, TaskContext, TaskState
from ouroscope.telemetry import tracing

__all__ = ["ResultStore", "TaskContext", "TaskState", "TaskTable"]

log = structlog.get_logger(__name__)

R = TypeVar("R")

SHUTTING_DOWN = "the service is shutting down; ask again, finished parts are kept"


class ResultStore(Protocol):
    """What a table needs of the artifact store."""

    def put_result(self, request_digest: str, record: Any) -> None:
        """Remember the answer to a request."""

    def get_result(self, request_digest: str, kind: type[R]) -> R | None:
        """Return a remembered answer whose artifacts still exist."""


class TaskTable:
    """Runs tasks in `workers` threads, at most `queue_limit` waiting; all methods may be called from any thread.

    The last `remembered` finished tasks can be looked at; the answers of older ones are still in the store. (The report
    of a corpus takes about 0.3 MB.)
    """

    def __init__(self, store: ResultStore, *, workers: int = 1, queue_limit: int = 100, remembered: int = 200) -> None:
        self._store = store
        self._queue_limit = queue_limit
        self._remembered = remembered
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._queued = 0
        self._count = 0
        self._closed = False
        # Daemons: work that does not heed `check` must not keep a stopped process alive.
        self._threads = [threading.Thread(target=self._run, name=f"task-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Tasks that have no worker yet."""
        return self._queued

    def start(self, method: str, request_digest: str, answer: type[R], work: Callable[[TaskContext], R]) -> str:
        """Make sure that the request is answered, being answered, or waits for it; return the name of its task.

        Equal digests share one task. An answer that the store remembers is not computed again. What failed or was
        cancelled is tried again. Reads the store, so it may block.

        Raises:
            Busy: too many tasks wait.
            Unavailable: the table is closed.
        """
        name = f"operations/{method.lower()}-{request_digest}"
        if self._is_under_way(name):
            return name
        known = self._store.get_result(request_digest, answer)
        with self._lock:
            if self._closed:
                raise Unavailable(SHUTTING_DOWN)
            old = self._tasks.get(name)
            if old is not None and not old.state.done and old.stop_with is None:
                return name
            task = self._new_task(name, method, request_digest, work, old)
            if known is None:
                self._enqueue(task)
            else:
                task.left.set()
                task.end(result=known)
            # Taken out first, so that the table stays in order of age.
            self._tasks.pop(name, None)
            self._tasks[name] = task
            self._drop_oldest()
        return name

    def get(self, name: str) -> TaskState:
        """Return what is known of the task.

        Raises:
            NotFound: there is no such task here (any more).
        """
        return self._find(name).snapshot()

    def list(self) -> list[TaskState]:
        """Return all tasks, the newest first."""
        with self._lock:
            tasks = list(self._tasks.values())
        return sorted((task.snapshot() for task in tasks), key=lambda state: -state.number)

    async def wait(self, name: str, timeout: float) -> TaskState:
        """Return the state once the task is done, or after `timeout` seconds as it is then."""
        task = self._find(name)
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if task.state.done:
                return task.snapshot()
            task.waiters.append((loop, woken))
        try:
            await asyncio.wait({woken}, timeout=timeout)
        finally:
            with self._lock:
                if (loop, woken) in task.waiters:
                    task.waiters.remove((loop, woken))
        return task.snapshot()

    def cancel(self, name: str) -> None:
        """Ask the task to stop; one that waits for a worker ends at once, a finished one stays as it is."""
        task = self._find(name)
        with self._lock:
            if not task.state.done:
                self._stop(task, Cancelled("the operation was cancelled"))

    def forget(self, name: str) -> None:
        """Drop a finished task from the table; its answer stays in the store.

        Raises:
            PreconditionFailed: it is not finished.
        """
        task = self._find(name)
        with self._lock:
            if not task.state.done:
                raise PreconditionFailed(f"{name} is not finished; cancel it first")
            self._tasks.pop(name, None)

    async def close(self, grace: float = 10.0) -> None:
        """Stop everything: waiters are let go at once, threads get `grace` seconds to leave their work."""
        with self._lock:
            self._closed = True
            tasks = [task for task in self._tasks.values() if not task.left.is_set()]
            for task in tasks:
                self._stop(task, Unavailable(SHUTTING_DOWN))
                task.end(error=Unavailable(SHUTTING_DOWN))
        for _ in self._threads:
            self._queue.put(None)
        late = await asyncio.to_thread(self._join, grace)
        if late:
            log.warning("tasks.did_not_stop", threads=late, grace=grace)

    def _join(self, grace: float) -> int:
        until = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _find(self, name: str) -> Task:
        with self._lock:
            task = self._tasks.get(name)
        if task is None:
            raise NotFound(f"there is no operation {name[:200]!r} here; ask for the work again", name=name[:200])
        return task

    def _is_under_way(self, name: str) -> bool:
        with self._lock:
            task = self._tasks.get(name)
            return task is not None and not task.state.done and task.stop_with is None

    def _new_task(
        self, name: str, method: str, digest: str, work: Callable[[TaskContext], Any], old: Task | None
    ) -> Task:
        self._count += 1
        now = datetime.now(UTC)
        state = TaskState(name=name, number=self._count, method=method, digest=digest, create_time=now, update_time=now)
        return Task(state, work, before=None if old is None or old.left.is_set() else old.left)

    def _enqueue(self, task: Task) -> None:
        if self._queued >= self._queue_limit:
            raise Busy(f"{self._queued} operations wait already; try again later", retry_after=5.0)
        self._queued += 1
        self._queue.put(task)

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            self._work_on(task)
            give_back()

    def _work_on(self, task: Task) -> None:
        with self._lock:
            work, task.work = task.work, None
            if task.left.is_set() or work is None:
                return
            self._queued -= 1
        if task.before is not None:
            task.before.wait()
        try:
            result, error = task.context.run(self._outcome, task, work), None
        except OuroscopeError as known:
            log.info("task.ended", operation=task.state.name, reason=known.reason)
            result, error = None, known
        except BaseException as unknown:  # a thread has nobody above it who would hear of it
            log.error("task.failed", operation=task.state.name, exc_info=unknown)
            result, error = None, Internal("the work failed unexpectedly; see the log of the service")
            # A log handler may keep the record, and with it every frame: their locals hold what the work held.
            traceback.clear_frames(unknown.__traceback__)
        # Their frames hold what the work held: models, texts.
        _strip(error)
        _strip(task.stop_with)
        with self._lock:
            task.left.set()
            task.end(result=result, error=error)
            self._drop_oldest()

    def _outcome(self, task: Task, work: Callable[[TaskContext], Any]) -> Any:
        context = TaskContext(task)
        context.check()
        started = time.monotonic()
        log.info("task.started", operation=task.state.name)
        with tracing.span(f"work {task.state.method}", operation=task.state.name):
            result = work(context)
        if result is None:
            raise TypeError("the work of a task must return a record")
        # Before anybody can see it as done: whoever asks again after a restart must find it.
        self._store.put_result(task.state.digest, result)
        log.info("task.succeeded", operation=task.state.name, seconds=round(time.monotonic() - started, 3))
        return result

    def _stop(self, task: Task, error: OuroscopeError) -> None:
        if task.stop_with is None:
            task.stop_with = error
        if task.work is not None and not task.left.is_set():
            self._queued -= 1
            task.left.set()
            task.end(error=error)

    def _drop_oldest(self) -> None:
        """Keep the table bounded. The lock is held."""
        finished = [name for name, task in self._tasks.items() if task.state.done]
        for name in finished[: max(0, len(finished) - self._remembered)]:
            del self._tasks[name]


def _strip(error: OuroscopeError | None) -> None:
    if error is not None:
        error.__traceback__ = error.__context__ = error.__cause__ = None
