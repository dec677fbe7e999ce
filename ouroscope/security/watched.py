"""Files that are read again when they change, so that secrets and certificates are renewed without a restart."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from ouroscope.errors import OuroscopeError

log = structlog.get_logger(__name__)

T = TypeVar("T")
State = tuple[tuple[int, int, int], ...]

LOOK_AGAIN = 1.0
"""Seconds between two looks at the files."""


class Watched(Generic[T]):
    """What was read from files. After a change that cannot be read the last good value stays, and the log tells it."""

    def __init__(
        self,
        paths: Sequence[Path],
        read: Callable[[], T],
        *,
        event: str,
        every: float = LOOK_AGAIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files for the first time.

        Args:
            paths: the files; a link is followed, so that a swapped link is a change.
            read: makes the value; may raise OuroscopeError.
            event: first part of the names of the events in the log, for example `tls`.
            every: seconds between two looks.
            clock: tells the time in seconds.
        """
        self._paths, self._read, self._event = tuple(paths), read, event
        self._every, self._clock = every, clock
        self._lock = threading.Lock()
        # Looked at before the files are read: what changes meanwhile is seen the next time.
        self._state = _state(self._paths)
        self._value = read()
        self._looked = clock()
        self.version = 0
        """Grows with every value that was read."""

    def get(self) -> T:
        """Return the newest good value; safe in any thread."""
        now = self._clock()
        if now - self._looked >= self._every and self._lock.acquire(blocking=False):
            try:
                self._looked = now
                self._look()
            finally:
                self._lock.release()
        return self._value

    def _look(self) -> None:
        state = _state(self._paths)
        if state == self._state:
            return
        try:
            self._value = self._read()
        except OuroscopeError as error:
            log.error(f"{self._event}.not_renewed", error=error.message, reason=error.reason)
        else:
            self.version += 1
            log.info(f"{self._event}.renewed", version=self.version)
        self._state = state


def _state(paths: Sequence[Path]) -> State:
    return tuple(_one(path) for path in paths)


def _one(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
