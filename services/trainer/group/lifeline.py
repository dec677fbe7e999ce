"""Processes that end with the one that supervises them, however that ends. Knows locks on files; nothing of training.

The supervisor holds a lock for as long as it lives; the kernel gives it back when the supervisor is killed. Each worker
has a thread that waits for that lock and ends the worker when it gets it. A second lock, shared by the workers, tells
the supervisor when the last of them is gone. No process number is remembered, so none can be mistaken.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUPERVISOR = "supervisor.lock"
_WORKERS = "workers.lock"


@contextmanager
def supervising(folder: Path) -> Iterator[None]:
    """Let the workers of `folder` live inside this context; at its end they are killed, if they are still there."""
    handle = os.open(folder / _SUPERVISOR, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def end_with_supervisor(folder: Path) -> None:
    """Kill this process as soon as nobody supervises `folder`, at once if nobody does now."""
    try:
        handle = os.open(folder / _SUPERVISOR, os.O_RDWR)
        fcntl.flock(os.open(folder / _WORKERS, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_SH)
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        threading.Thread(target=_wait, args=(handle,), name="lifeline", daemon=True).start()
        return
    except FileNotFoundError:
        pass
    _end()


def workers_gone(folder: Path, seconds: float) -> bool:
    """Return whether no worker of `folder` is left, waiting for it up to `seconds`."""
    until = time.monotonic() + seconds
    while not _free(folder / _WORKERS):
        if time.monotonic() >= until:
            return False
        time.sleep(0.02)
    return True


def _wait(handle: int) -> None:
    fcntl.flock(handle, fcntl.LOCK_SH)
    _end()


def _end() -> None:
    # No exception, no cleaning up: another thread may stand in a collective operation that never returns.
    os.kill(os.getpid(), signal.SIGKILL)


def _free(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
