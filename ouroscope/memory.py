"""Memory that did not suffice, as torch says it, and memory that is or is not needed. Does not import torch."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.abc import MetaPathFinder
from typing import Any


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether an error of torch says that the memory did not suffice."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    # On the processor torch raises a plain RuntimeError.
    return named or isinstance(error, MemoryError) or "can't allocate memory" in str(error)


def give_back() -> None:
    """Return what was freed to the system, where the C library keeps it instead (glibc).

    It keeps a heap for every thread. The tensors of one training step after another leave holes in each of them: a
    process that trained 150 small models held more than a gigabyte that nobody used (docs/log.md).
    """
    if (trim := _trim()) is not None:
        trim(0)


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while large libraries are imported.

    torch and transformers make a million objects, and all of them stay. To look at them again and again took a seventh
    of the time: 1.1 of 7.3 seconds of a process that trains.
    """
    pause = _pause
    pause.begin()
    try:
        yield
    finally:
        pause.end()


class _Pause:
    """Stops the looking for garbage while any thread wants it so; the last one lets it go on as it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._looked = False

    def begin(self) -> None:
        """Want it."""
        with self._lock:
            if not self._wanted:
                self._looked = gc.isenabled()
                gc.disable()
            self._wanted += 1

    def end(self) -> None:
        """No longer want it."""
        with self._lock:
            self._wanted -= 1
            if not self._wanted and self._looked:
                gc.enable()


_pause = _Pause()


@contextmanager
def kept_out(*names: str) -> Iterator[None]:
    """Let this thread not find modules that nobody has imported yet; the others find them meanwhile.

    For what a library imports wherever it is installed and does without where it is not.
    """
    finder = _Blind(names, threading.get_ident())
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Blind(MetaPathFinder):
    """Tells one thread that some modules are not there, and nobody else anything."""

    def __init__(self, names: tuple[str, ...], thread: int) -> None:
        self._names, self._thread = names, thread

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Raise for what is kept out; leave all else to the finders that follow."""
        if fullname in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{fullname} is kept out", name=fullname)


@cache
def _trim() -> Any:
    """Return `malloc_trim`, or None where there is none (macOS, musl, Windows)."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None
