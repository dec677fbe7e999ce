"""Coroutines run from threads that may block: all at once in one event loop, stopped as soon as somebody wants it.

Whoever waits looks at the clock ten times a second, so the wish to stop reaches every coroutine at its next wait.
Knows nothing of what they do.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

R = TypeVar("R")

_LOOK = 0.1
"""Seconds between two looks whether the work is to stop."""
_END = 10.0
"""Seconds that the loop gets to end."""


class Loop:
    """An event loop in a thread of its own, started when it is first needed. Thread-safe."""

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        """`at_end`: awaited in the loop when it is closed, after everything else has ended."""
        self._at_end = at_end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(
        self,
        starts: Sequence[Callable[[], Coroutine[Any, Any, R]]],
        pulse: Callable[[int], None],
        worth: Callable[[int, R], int] = lambda _, __: 0,
    ) -> list[R]:
        """Run all of them together and return their results in order. Blocks; not to be called in an event loop.

        Args:
            starts: Each makes a coroutine.
            pulse: Hears `worth` of every result (by its place), and 0 ten times a second; if it raises, all stop.
            worth: What a result counts.

        Raises:
            Exception: the first that one of them raised; the others are stopped. Or what `pulse` raised.
        """
        pulse(0)
        done: queue.SimpleQueue[int | None] = queue.SimpleQueue()

        def hear(place: int, result: R) -> None:
            done.put(worth(place, result))

        work = asyncio.run_coroutine_threadsafe(_all(starts, hear), self._started())
        work.add_done_callback(lambda _: done.put(None))
        try:
            _wait(done, pulse)
            return work.result()
        finally:
            work.cancel()

    def close(self) -> None:
        """Stop what is running and let the loop end."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(_END)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop, self._at_end), daemon=True)
                self._thread.start()
            return self._loop


async def _all(starts: Sequence[Callable[[], Coroutine[Any, Any, R]]], hear: Callable[[int, R], None]) -> list[R]:
    """Return the results in order; the first error stops the rest."""

    async def one(place: int, start: Callable[[], Coroutine[Any, Any, R]]) -> R:
        result = await start()
        hear(place, result)
        return result

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(place, start)) for place, start in enumerate(starts)]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def _wait(done: queue.SimpleQueue[int | None], pulse: Callable[[int], None]) -> None:
    """Pass on what results are worth until None comes."""
    while True:
        try:
            tokens = done.get(timeout=_LOOK)
        except queue.Empty:
            tokens = 0
        if tokens is None:
            return
        pulse(tokens)


def _serve(loop: asyncio.AbstractEventLoop, at_end: Callable[[], Awaitable[None]]) -> None:
    """Run the loop until it is stopped, then end what is left in it."""
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_end(at_end))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _end(at_end: Callable[[], Awaitable[None]]) -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await at_end()
    # A connection is closed one turn of the loop after it was told to.
    await asyncio.sleep(0)
