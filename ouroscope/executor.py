"""Where work that takes processors is done: in this process, or in several others. Knows nothing of what is done.

Answers come in the order of the items, whatever the number of processes, so results do not depend on it. Work must be
a function of a module with arguments that can be pickled (`functools.partial` is fine); what it loads it keeps by
itself, so that each process loads it once. Another place to work, a cluster say, is another class with `map` and
`close`.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Protocol, TypeVar

from ouroscope.errors import Unavailable

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Items handed out per process before their turn: enough that no process waits, few enough that memory is bounded."""
_LOOK = 0.1
"""Seconds between two looks whether an answer is still wanted."""
_CLOSING = "the worker processes are shutting down"
ONE_THREAD = {
    name: "1"
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    )
}
"""Environment of a process whose arithmetic has one thread: several with all processors each would wait for another."""
_environment = threading.Lock()


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Executor(Protocol):
    """Does work on items, one answer for each."""

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield `work(item)` for each item, in order; items are taken as answers are. What the work raises is raised.

        Whoever stops before the last answer closes the generator; items that have not begun never will.

        Raises:
            Unavailable: a process of the executor was lost, or the executor is closed.
        """

    def close(self) -> None:
        """Give back what the executor holds."""


class InProcess:
    """Does the work where it is asked for, when the answer is asked for."""

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield `work(item)` for each item."""
        for item in items:
            yield work(item)

    def close(self) -> None:
        """Do nothing."""


def in_order(
    submit: Callable[[T], Future[R]], items: Iterable[T], most: int, look: Callable[[], None] | None = None
) -> Generator[R]:
    """Yield the answer to each item in order, at most `most` items handed out; leaving early cancels the rest.

    `look` is called ten times a second while an answer is waited for; if it raises, that is leaving early.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            if len(waiting) >= most:
                yield _answer(waiting, look)
        while waiting:
            yield _answer(waiting, look)
    finally:
        for future in waiting:
            future.cancel()


def _answer(waiting: deque[Future[R]], look: Callable[[], None] | None) -> R:
    """Return the answer that is waited for longest; it stays among those that are cancelled while it is not there."""
    while look and not waiting[0].done():
        look()
        wait([waiting[0]], _LOOK)
    return waiting.popleft().result()


class Processes:
    """Does the work in `count` processes, started when first needed; they end with this one.

    They are spawned: a fork of a process with gRPC threads may never wake up. Any number of threads may ask at once.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._turn = threading.Lock()
        self._closed = False
        self._pool = self._start()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
        """Yield `work(item)` for each item, at most a few items ahead of the reader."""
        pools: list[ProcessPoolExecutor] = []

        def submit(item: T) -> Future[R]:
            if pools:
                return self._submit(pools[0], work, item)
            pool, future = self._first(self._pool, work, item)
            pools.append(pool)
            return future

        try:
            yield from in_order(submit, items, AHEAD * self._count)
        except BrokenProcessPool as error:
            self._replace(pools[0] if pools else self._pool)
            raise Unavailable("a worker process was lost, perhaps for want of memory; try again") from error
        except CancelledError as error:
            raise Unavailable(_CLOSING) from error

    def close(self) -> None:
        """End the processes; work that has begun is finished first."""
        with self._turn:
            self._closed = True
        self._pool.shutdown(cancel_futures=True)

    def _first(
        self, pool: ProcessPoolExecutor, work: Callable[[T], R], item: T
    ) -> tuple[ProcessPoolExecutor, Future[R]]:
        """Hand out the first item, to new processes if one was lost while it had nothing to do."""
        try:
            return pool, self._submit(pool, work, item)
        except BrokenProcessPool:
            self._replace(pool)
            pool = self._pool
            return pool, self._submit(pool, work, item)

    def _submit(self, pool: ProcessPoolExecutor, work: Callable[[T], R], item: T) -> Future[R]:
        # Under the lock, since a pool that is shut down answers with a plain RuntimeError.
        with self._turn:
            if self._closed:
                raise Unavailable(_CLOSING)
            return pool.submit(work, item)

    def _replace(self, broken: ProcessPoolExecutor) -> None:
        """Put a new pool in the place of a broken one, once, however many threads find it broken."""
        with self._turn:
            if self._pool is broken and not self._closed:
                self._pool = self._start()

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self._count, mp_context=_WorkerContext(), initializer=_begin)


def executor_of(processes: int) -> Executor:
    """Return what does the work in so many processes; 1 is this one."""
    return InProcess() if processes == 1 else Processes(processes)


class _Worker(SpawnProcess):
    """A process with one thread for arithmetic: several with all processors each would wait for one another."""

    def start(self) -> None:
        with _environment, _set(ONE_THREAD):
            super().start()


class _WorkerContext(SpawnContext):
    Process = _Worker


@contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the child that is being started: it reads them before any code of ours runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin() -> None:
    """Prepare a new process: Ctrl-C is for the parent to handle, and its death is ours."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True, name="parent-watch").start()


def _end_with_parent() -> None:
    # Linux could send a signal instead, but does so when the thread that started us ends, and threads come and go.
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
