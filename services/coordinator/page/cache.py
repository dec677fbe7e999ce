"""Keeps answers that are asked for again and again. Bounded; knows nothing of what it keeps."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    making: asyncio.Lock = field(default_factory=asyncio.Lock)
    value: T | None = None
    made: float | None = None
    version: Hashable = None


class Cache(Generic[T]):
    """Answers by key. Those who ask at the same time wait for one making; what fails is not kept."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep the `most` newest answers, each for `seconds`."""
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]], version: Hashable = None) -> T:
        """Return the answer of that key and version, made anew if it is too old or of another version."""
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
        async with entry.making:
            fresh = entry.made is not None and self._clock() - entry.made < self._seconds
            if entry.value is None or not fresh or entry.version != version:
                entry.value = await make()
                entry.made, entry.version = self._clock(), version
            return entry.value
