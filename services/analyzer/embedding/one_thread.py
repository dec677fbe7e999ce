"""Linear algebra on one thread.

Products of matrices round differently with another number of threads, so the number of processors would change the
last digits of a value. And on a busy machine threads that wait for each other took 40 times as long.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_inside = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold the linear algebra of this process to one thread; the last of several users lifts the limit."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _limits
    with _lock:
        # Setting it twice would take the limit for what was there before.
        _limits = _limits or threadpool_limits(1, user_api="blas")
        _inside += 1


def _leave() -> None:
    global _inside, _limits
    with _lock:
        _inside -= 1
        if not _inside and _limits is not None:
            _limits.restore_original_limits()
            _limits = None
