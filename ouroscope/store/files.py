"""Where bytes lie: what the store asks of a file system, and the failures it may have.

Two answers to it: `local.py` for a directory, `objects.py` for everything fsspec knows. Keys are relative POSIX paths.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from ouroscope.errors import OuroscopeError, PreconditionFailed, StorageFull, Unavailable
from ouroscope.store.manifest import FileEntry, Source

ManifestOf = Callable[[Mapping[str, FileEntry], str], bytes]
"""Gives the manifest's bytes once the files are written, from their entries and the folder they lie in."""

_FULL = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
_REFUSED = frozenset([errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST])


class Files(Protocol):
    """A tree of files. Every method may raise StorageFull, PreconditionFailed or Unavailable."""

    def read(self, key: str) -> bytes:
        """Return a whole file; FileNotFoundError if absent."""

    def write(self, key: str, data: bytes) -> None:
        """Put a file there as a whole; a reader sees the old one or the new one, never a part."""

    def create(self, key: str, data: bytes) -> bool:
        """Write a file that must not exist; return False, and change nothing, if it does."""

    def exists(self, key: str) -> bool:
        """Return whether the file exists."""

    def list(self, prefix: str) -> list[str]:
        """Return the files below `prefix`, relative to it, sorted; none if it does not exist."""

    def remove(self, prefix: str) -> None:
        """Remove a file or everything below; removing what is absent is fine."""

    def publish(self, prefix: str, files: Mapping[str, Source], manifest_of: ManifestOf) -> None:
        """Write files, then the manifest. Until it is there, nothing is; if one is there already, it stays."""

    def fetch(self, key: str, entry: FileEntry) -> Path:
        """Return a local file with the content of `key`, its digest checked once per process.

        Raises:
            CorruptArtifact: it is absent or not what `entry` says.
        """

    def directory(self, prefix: str, entries: Mapping[str, FileEntry]) -> Path:
        """Return a local directory with exactly these files below `prefix`, checked as by `fetch`."""

    def entry(self, key: str) -> FileEntry | None:
        """Return digest and size of what lies there now, read from end to end; None if it is absent."""

    def written(self, key: str) -> datetime | None:
        """Return when the file was written; None if it is absent."""

    def private(self, prefix: str) -> Path | None:
        """Return `prefix` as a local directory that only its owner can enter, or None if the tree is not local."""

    def scratch(self) -> AbstractContextManager[Path]:
        """Give a local directory, on the same device where that makes sense, that vanishes after use or a crash."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the operating system says into what a caller can act on. FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _typed(error) from error


def _typed(error: OSError) -> OuroscopeError:
    # No path in these messages: they may reach a remote caller.
    if error.errno in _FULL:
        return StorageFull(
            "the artifact store has no room left and nothing was published; free some space, then repeat"
        )
    if error.errno in _REFUSED or isinstance(error, PermissionError):
        told = error.strerror or "permission denied"
        return PreconditionFailed(f"the artifact store cannot be used ({told}); check its directory, owner and mode")
    return Unavailable(f"the artifact store cannot be reached ({error.strerror or type(error).__name__}); try again")


def open_binary(path: Path) -> BinaryIO:
    """Open a local file for reading."""
    return path.open("rb")
