"""How much one caller may ask for: calls in a second, calls at a time, bytes in a second. Token buckets, no waiting."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ouroscope.errors import Busy

BURST_SECONDS = 2.0
"""What a caller may ask for at once, in seconds of its rate."""
REMEMBERED = 10_000
"""Callers whose use is known; the one that asked longest ago is forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each caller may use of one service; 0 is no limit."""

    calls_per_second: float = 0.0
    concurrent_calls: int = 0
    bytes_per_second: float = 0.0
    """Of requests."""

    def __bool__(self) -> bool:
        return any((self.calls_per_second, self.concurrent_calls, self.bytes_per_second))


class Bucket:
    """A token bucket that may go into debt: what is large is let through once and paid for afterwards."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._most = max(rate * BURST_SECONDS, 1.0)
        self._level, self._at = self._most, clock()

    def take(self, amount: float) -> None:
        """Take `amount`, be it there or not."""
        self._level = self._now() - amount

    def wait(self, amount: float = 0.0) -> float:
        """Return the seconds until `amount` is there; 0 where it is."""
        return max(0.0, (min(amount, self._most) - self._now()) / self._rate)

    def _now(self) -> float:
        now = self._clock()
        self._level, self._at = min(self._most, self._level + (now - self._at) * self._rate), now
        return self._level


class Use:
    """What one caller uses now."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.running = 0
        self._limits = limits
        self._calls = Bucket(limits.calls_per_second, clock) if limits.calls_per_second else None
        self._bytes = Bucket(limits.bytes_per_second, clock) if limits.bytes_per_second else None

    def admit(self) -> None:
        """Count one more call.

        Raises:
            Busy: the caller has used up what it may use now; says when to ask again.
        """
        if self._calls:
            if wait := self._calls.wait(1.0):
                raise _too_much("calls in a second", self._limits.calls_per_second, wait)
            self._calls.take(1.0)
        if wait := self.owed():
            raise _too_much("bytes in a second", self._limits.bytes_per_second, wait)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold one of the calls that may run at a time.

        Raises:
            Busy: all are held.
        """
        most = self._limits.concurrent_calls
        if most and self.running >= most:
            raise _too_much("calls at a time", most, 1.0)
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    def received(self, size: int) -> None:
        """Count the bytes of a request."""
        if self._bytes:
            self._bytes.take(size)

    def owed(self) -> float:
        """Return the seconds that a stream has to wait before it sends more."""
        return self._bytes.wait() if self._bytes else 0.0


class Meter:
    """Counts what every caller uses. For one event loop: no lock."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._uses: OrderedDict[str, Use] = OrderedDict()

    def use_of(self, caller: str) -> Use:
        """Return what `caller` uses now."""
        use = self._uses.pop(caller, None) or Use(self.limits, self._clock)
        self._uses[caller] = use
        if len(self._uses) > REMEMBERED:
            self._uses.popitem(last=False)
        return use


def _too_much(what: str, limit: float, wait: float) -> Busy:
    return Busy(
        f"this caller may make {limit:g} {what} and has used them up; ask again in {max(wait, 0.001):.3g} s",
        retry_after=max(wait, 0.001),
        limit=what,
    )
