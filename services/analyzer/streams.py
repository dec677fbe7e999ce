"""Streams of documents and records from callers, folded in by threads while the event loop stays free.

A message is read only after the one before it is folded in, so a caller cannot send faster than the analyzer measures.
Short work never waits for long work: each has threads of its own. Knows no kind of message.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from ouroscope.errors import Busy, Cancelled, Unavailable
from ouroscope.operations.tasks import SHUTTING_DOWN
from ouroscope.records.analysis import Report
from services.analyzer.jobs import Jobs
from services.analyzer.session import Session
from services.analyzer.watch import Watch

SMALL = 10_000
"""Words and records of a stream up to which measuring it is short work; the smallest rung."""
LIMIT = 256
"""Streams measured side by side, if nobody says otherwise."""
RETRY_AFTER = 1.0
"""Seconds after which who was refused should try again."""

M = TypeVar("M")
T = TypeVar("T")


class Streams:
    """Runs the blocking work of streaming calls in `workers` threads for long work and as many for short work.

    At most `limit` streams are measured side by side: each holds a sample in memory for as long as it lasts.
    """

    def __init__(self, jobs: Jobs, workers: int, limit: int = LIMIT) -> None:
        self._jobs = jobs
        self._limit = limit
        self._measuring = 0
        self._long = ThreadPoolExecutor(workers, thread_name_prefix="analyze-long")
        self._short = ThreadPoolExecutor(workers, thread_name_prefix="analyze-short")
        self._closed = False

    async def measure(
        self, messages: AsyncIterator[M], begin: Callable[[M | None], Session], fold: Callable[[Session, M], None]
    ) -> Report:
        """Fold all `messages` into one session and return its report.

        Args:
            messages: what the caller sends.
            begin: makes the session from the first message, or from None if there is none.
            fold: takes one message in; runs in a thread.

        Raises:
            LimitExceeded: the caller sent too much.
            InvalidRequest: an option is wrong, or there was nothing to measure.
            Busy: too many streams are measured already.
        """
        session: Session | None = None
        with self._place():
            async for message in messages:
                session = session or begin(message)
                await self.run(functools.partial(_fold, fold, session, message), short=True)
            begun = session or begin(None)
            return await self.run(lambda watch: self._jobs.finish(begun, watch), short=begun.size <= SMALL)

    async def run(self, work: Callable[[Watch], T], *, short: bool = False) -> T:
        """Run `work` in a thread; its watch raises once the caller has gone or the service stops.

        Raises:
            Unavailable: the service is shutting down.
        """
        if self._closed:
            raise Unavailable(SHUTTING_DOWN)
        gone = threading.Event()
        try:
            watch = Watch(check=lambda: self._check(gone))
            threads = self._short if short else self._long
            # As asyncio.to_thread does: the trace of the call goes with the work.
            context = contextvars.copy_context()
            return await asyncio.get_running_loop().run_in_executor(threads, context.run, work, watch)
        finally:
            gone.set()

    async def close(self) -> None:
        """Let work that is going on end at its next check; take no more."""
        self._closed = True
        for threads in (self._short, self._long):
            threads.shutdown(wait=False)

    @contextmanager
    def _place(self) -> Iterator[None]:
        # The event loop alone comes here.
        if self._measuring >= self._limit:
            raise Busy(f"{self._measuring} streams are measured already; try again later", retry_after=RETRY_AFTER)
        self._measuring += 1
        try:
            yield
        finally:
            self._measuring -= 1

    def _check(self, gone: threading.Event) -> None:
        if gone.is_set():
            raise Cancelled("the caller has gone")
        if self._closed:
            raise Unavailable(SHUTTING_DOWN)


def _fold(fold: Callable[[Session, M], None], session: Session, message: M, watch: Watch) -> None:
    watch.check()
    fold(session, message)
