"""What runs on a node of the cluster: an actor that does work it is sent, and keeps what the work loaded.

Imported by name on every node, so nodes have the same `ouroscope` as the process that asks. Knows no ray.
"""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from ouroscope import __version__
from ouroscope.errors import PreconditionFailed
from ouroscope.executor import ONE_THREAD

LIBRARIES = ("numpy", "spacy", "torch", "transformers")
"""Libraries whose other versions may give other values."""
Answer = tuple[bool, bytes]
"""Whether the work was done, and the pickle of what it gave or raised."""


def versions() -> Mapping[str, str]:
    """Return what must be equal on both sides: values of another version are other values."""
    return {"ouroscope": __version__, "python": platform.python_version(), **dict(map(_installed, LIBRARIES))}


def _installed(library: str) -> tuple[str, str]:
    try:
        return library, metadata.version(library)
    except metadata.PackageNotFoundError:
        return library, ""


class Actor:
    """One worker process of the cluster, with one thread for arithmetic."""

    def __init__(self) -> None:
        os.environ.update(ONE_THREAD)

    def about(self) -> Mapping[str, str]:
        """Return the versions on this node; that it answers says that it can work."""
        return versions()

    def do(self, order: bytes) -> Answer:
        """Return what `work(item)` gives, or what it raises: an error that Ray carries would lose its class."""
        try:
            work, item = _opened(order)
            return True, pickle.dumps(work(item))
        except Exception as error:  # whatever the work raises is for the one who asked
            return False, pickled_error(error)


def _opened(order: bytes) -> Any:
    try:
        return pickle.loads(order)
    except (ImportError, AttributeError) as error:
        name = getattr(error, "name", None) or "part of a package"
        raise PreconditionFailed(f"a worker of the cluster lacks {name}; use the same image on every node") from error


def pickled_error(error: Exception) -> bytes:
    """Return the pickle of an error, or of one of its text where it cannot be pickled."""
    try:
        return pickle.dumps(error)
    except (pickle.PicklingError, TypeError, AttributeError):
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
