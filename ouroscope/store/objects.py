"""Files behind fsspec: memory, S3 and whatever else it knows. Takes nothing for granted but whole-object writes.

Object stores cannot rename. So each attempt to publish writes under a folder of its own, and the manifest, written
last, says which attempt counts; what another attempt writes at the same time can never mix with it.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from ouroscope.errors import CorruptArtifact
from ouroscope.store.files import ManifestOf, storage_errors
from ouroscope.store.manifest import CHUNK, MANIFEST, FileEntry, Source

_DOWNLOAD = 16 * CHUNK
_MEMORY = RLock()
"""fsspec's memory file system is a plain dict that all its users in the process share."""


class ObjectFiles:
    """A tree of objects below `root` of an fsspec file system."""

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._guard: AbstractContextManager[Any] = _MEMORY if "memory" in _protocols(system) else nullcontext()
        self._cache: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    def read(self, key: str) -> bytes:
        """See Files."""
        with storage_errors(), self._guard:
            return bytes(self._system.cat_file(self._path(key)))

    def write(self, key: str, data: bytes) -> None:
        """See Files."""
        with storage_errors(), self._guard:
            self._system.pipe_file(self._path(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """See Files."""
        with storage_errors(), self._guard:
            try:
                self._system.pipe_file(self._path(key), data, mode="create")
            except FileExistsError:
                return False
            return True

    def exists(self, key: str) -> bool:
        """See Files."""
        with storage_errors(), self._guard:
            return bool(self._system.isfile(self._path(key)))

    def list(self, prefix: str) -> list[str]:
        """See Files."""
        top = self._path(prefix)
        with storage_errors(), self._guard:
            found = self._system.find(top)
        return sorted(str(path)[len(top) + 1 :] for path in found)

    def remove(self, prefix: str) -> None:
        """See Files."""
        top = self._path(prefix)
        with storage_errors(), self._guard:
            found = self._system.find(top)
            if found:
                self._system.rm(found)

    def publish(self, prefix: str, files: Mapping[str, Source], manifest_of: ManifestOf) -> None:
        """See Files."""
        place = uuid.uuid4().hex
        try:
            entries = {name: self._bring(source, f"{prefix}/{place}/{name}") for name, source in files.items()}
        except BaseException:
            self.remove(f"{prefix}/{place}")
            raise
        self.write(f"{prefix}/{MANIFEST}", manifest_of(entries, place))

    def _bring(self, source: Source, key: str) -> FileEntry:
        """Upload one file and hash it on the way."""
        if isinstance(source, bytes):
            self.write(key, source)
            return FileEntry(hashlib.sha256(source).hexdigest(), len(source))
        digest, size = hashlib.sha256(), 0
        with (
            storage_errors(),
            self._guard,
            source.open("rb") as reader,
            self._system.open(self._path(key), "wb") as writer,
        ):
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
        return FileEntry(digest.hexdigest(), size)

    def fetch(self, key: str, entry: FileEntry) -> Path:
        """See Files."""
        path = self._cached(key)
        with self._lock:
            if not path.exists():
                self._download(key, entry, path)
        return path

    def directory(self, prefix: str, entries: Mapping[str, FileEntry]) -> Path:
        """See Files."""
        for name, entry in entries.items():
            self.fetch(f"{prefix}/{name}", entry)
        return self._cached(prefix)

    def _download(self, key: str, entry: FileEntry, path: Path) -> None:
        digest, size = hashlib.sha256(), 0
        new = path.with_name(f".{path.name}.new")
        with storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            with new.open("wb") as writer:
                for chunk in self._chunks(key, entry):
                    digest.update(chunk)
                    size += writer.write(chunk)
            if FileEntry(digest.hexdigest(), size) != entry or self._size(key) != size:
                new.unlink()
                raise CorruptArtifact(f"the file {path.name!r} of an artifact is damaged or gone; delete the artifact")
            new.replace(path)

    def _chunks(self, key: str, entry: FileEntry) -> Iterator[bytes]:
        # Ranges rather than one open file: some file systems share an open file between threads.
        for start in range(0, entry.size, _DOWNLOAD):
            try:
                with self._guard:
                    chunk = self._system.cat_file(self._path(key), start=start, end=min(start + _DOWNLOAD, entry.size))
            except FileNotFoundError:
                return
            yield chunk

    def _size(self, key: str) -> int:
        try:
            with self._guard:
                return int(self._system.size(self._path(key)))
        except FileNotFoundError:
            return -1

    def private(self, prefix: str) -> Path | None:
        """See Files."""
        return None

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See Files."""
        with storage_errors():
            folder = tempfile.TemporaryDirectory(prefix="ouroscope-")
        with folder as path:
            yield Path(path)

    def _cached(self, key: str) -> Path:
        with self._lock:
            if self._cache is None:
                self._cache = tempfile.TemporaryDirectory(prefix="ouroscope-cache-", ignore_cleanup_errors=True)
                weakref.finalize(self, self._cache.cleanup)
            return Path(self._cache.name, key)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def _protocols(system: Any) -> tuple[str, ...]:
    return (system.protocol,) if isinstance(system.protocol, str) else tuple(system.protocol)
