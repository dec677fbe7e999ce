"""Waiting for a worker that cannot be reached or has no room, instead of failing a run of hours. Knows no worker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from ouroscope.errors import Busy, DeadlineExceeded, OuroscopeError, Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

PASSING = (Unavailable, Busy, DeadlineExceeded)
"""Failures that say nothing about the request; the same request may succeed later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patiently:
    """Repeats work that fails in passing, with growing pauses, until `limit` seconds have gone by without success."""

    limit: float = 600.0
    first_pause: float = 0.5
    longest_pause: float = 15.0

    async def __call__(self, work: Callable[[], Awaitable[T]], waiting: Callable[[str], None]) -> T:
        """Return what `work` returns; `waiting` is told why nothing moves. `work` may be begun many times.

        Raises:
            OuroscopeError: what `work` raised last, once patience is over, or at once if waiting cannot help.
        """
        pause, until = self.first_pause, time.monotonic() + self.limit
        while True:
            began = time.monotonic()
            try:
                return await work()
            except PASSING as error:
                if time.monotonic() - began > self.limit:
                    # It worked for long before it failed: that is a new failure, not the old one.
                    pause, until = self.first_pause, time.monotonic() + self.limit
                if time.monotonic() + pause > until:
                    raise
                await self._rest(error, pause, waiting)
                pause = min(2 * pause, self.longest_pause)

    async def _rest(self, error: OuroscopeError, pause: float, waiting: Callable[[str], None]) -> None:
        seconds = max(pause, error.retry_after if isinstance(error, Busy | Unavailable) else 0.0)
        seconds = min(seconds, self.longest_pause) * random.uniform(0.75, 1.25)
        log.info("stage.waits", reason=error.reason, error=error.message, seconds=round(seconds, 2))
        waiting(f"{error.message}; trying again")
        await asyncio.sleep(seconds)
