"""Whether processes of other machines find a store, and under which name."""

from __future__ import annotations

from pathlib import Path

from ouroscope.errors import PreconditionFailed
from ouroscope.store.artifacts import ArtifactStore


def shared_url(store: ArtifactStore) -> str:
    """Return the URL under which another process finds the store.

    Raises:
        PreconditionFailed: it lies in the memory of this one.
    """
    if store.url.startswith("memory:"):
        raise PreconditionFailed("a store in memory cannot be read by the workers of a cluster; use a directory or s3")
    return store.url if "://" in store.url else str(Path(store.url).expanduser().absolute())
