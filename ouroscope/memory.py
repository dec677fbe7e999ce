"""When the memory of a device did not suffice, as torch says it. Knows torch by the names of its errors only."""

from __future__ import annotations


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether an error of torch says that the memory did not suffice."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    # On the processor torch raises a plain RuntimeError.
    return named or isinstance(error, MemoryError) or "can't allocate memory" in str(error)
