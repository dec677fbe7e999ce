"""Memory that did not suffice, as torch says it, and memory that is not needed any more. Does not import torch."""

from __future__ import annotations

import ctypes
from functools import cache
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


@cache
def _trim() -> Any:
    """Return `malloc_trim`, or None where there is none (macOS, musl, Windows)."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, TypeError, AttributeError):
        return None
