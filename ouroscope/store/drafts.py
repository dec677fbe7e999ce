"""Private working areas, named by the digest of a request, in which killed work finds what it had already done."""

from __future__ import annotations

from pathlib import Path

from ouroscope.errors import NotFound, Unavailable
from ouroscope.store.files import Files
from ouroscope.store.manifest import check_label, check_name


class Draft:
    """Files of unfinished work. Each is whole or absent; nobody but its owner can read it; it survives a crash.

    Two workers on one key must write the same content under the same name; then they only help each other.
    """

    def __init__(self, files: Files, key: str) -> None:
        self._files = files
        self._prefix = f"drafts/{check_label(key, 'draft')}"

    def has(self, name: str) -> bool:
        """Return whether `name` was written."""
        return self._files.exists(self._key(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole: after a crash it is there or it is not.

        Raises:
            StorageFull: no room is left.
            PreconditionFailed: the store cannot be written.
            Unavailable: the draft was discarded meanwhile.
        """
        self._files.private(self._prefix)
        try:
            self._files.write(self._key(name), data)
        except FileNotFoundError as error:
            raise Unavailable("the draft was discarded by another worker; repeat the request") from error

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            NotFound: it was not written, or the draft was discarded.
        """
        try:
            return self._files.read(self._key(name))
        except FileNotFoundError as error:
            raise NotFound(f"the draft has no file {name!r}") from error

    def names(self) -> tuple[str, ...]:
        """Return the names of all files, sorted."""
        return tuple(self._files.list(self._prefix))

    @property
    def path(self) -> Path | None:
        """The draft as a local directory (mode 0700) for tools that write files themselves, or None if it is remote."""
        return self._files.private(self._prefix)

    def discard(self) -> None:
        """Remove everything; fine if there is nothing."""
        self._files.remove(self._prefix)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{check_name(name)}"
