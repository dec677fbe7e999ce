"""Files behind fsspec: memory, S3 and whatever else it knows. Takes nothing for granted but whole-object writes.

Object stores cannot rename. So each attempt to publish writes under a folder of its own, and the manifest, written
last, says which attempt counts; what another attempt writes at the same time can never mix with it.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from ouroscope.errors import CorruptArtifact
from ouroscope.store.files import ManifestOf, storage_errors
from ouroscope.store.manifest import CHUNK, MANIFEST, FileEntry, Source
from ouroscope.store.s3 import SCHEMES, s3_errors

_DOWNLOAD = 16 * CHUNK
_MEMORY = RLock()
"""fsspec's memory file system is a plain dict that all its users in the process share."""


class ObjectFiles:
    """A tree of objects below `root` of an fsspec file system."""

    def __init__(self, system: Any, root: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._guard: AbstractContextManager[Any] = _MEMORY if "memory" in _protocols(system) else nullcontext()
        self._foreign = s3_errors if set(SCHEMES) & set(_protocols(system)) else nullcontext
        self._cache: tempfile.TemporaryDirectory[str] | None = None
        self._lock = Lock()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with storage_errors(), self._foreign():
            yield

    def read(self, key: str) -> bytes:
        """See Files."""
        with self._errors(), self._guard:
            return bytes(self._system.cat_file(self._path(key)))

    def write(self, key: str, data: bytes) -> None:
        """See Files."""
        with self._errors(), self._guard:
            self._system.pipe_file(self._path(key), data)

    def create(self, key: str, data: bytes) -> bool:
        """See Files."""
        with self._errors(), self._guard:
            try:
                self._system.pipe_file(self._path(key), data, mode="create")
            except FileExistsError:
                return False
            return True

    def exists(self, key: str) -> bool:
        """See Files."""
        with self._errors(), self._guard:
            # Not `isfile`: to s3fs, whatever it cannot reach is no file.
            try:
                return bool(self._system.info(self._path(key))["type"] == "file")
            except FileNotFoundError:
                return False

    def list(self, prefix: str) -> list[str]:
        """See Files."""
        top = self._path(prefix)
        with self._errors(), self._guard:
            found = self._system.find(top)
        return sorted(str(path)[len(top) + 1 :] for path in found)

    def remove(self, prefix: str) -> None:
        """See Files."""
        top = self._path(prefix)
        with self._errors(), self._guard:
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
        with self._errors(), self._guard, source.open("rb") as reader, self._writer(key) as writer:
            while chunk := reader.read(CHUNK):
                digest.update(chunk)
                writer.write(chunk)
                size += len(chunk)
        return FileEntry(digest.hexdigest(), size)

    @contextmanager
    def _writer(self, key: str) -> Iterator[Any]:
        """Give a file to write to; a large one goes up in parts."""
        writer = self._system.open(self._path(key), "wb")
        try:
            yield writer
        except BaseException:
            _abandon(writer)
            raise
        writer.close()

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
        new = path.with_name(f".{path.name}.new")
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with new.open("wb") as writer:
                    found = self._copied(key, writer.write)
                if found != entry:
                    told = f"the file {path.name!r} of an artifact is damaged or gone; delete the artifact"
                    raise CorruptArtifact(told)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)

    def entry(self, key: str) -> FileEntry | None:
        """See Files."""
        with self._errors():
            return self._copied(key, len)

    def _copied(self, key: str, take: Callable[[bytes], int]) -> FileEntry | None:
        """Hand an object over piece by piece and return what it is; None if it is not there."""
        digest, size = hashlib.sha256(), 0
        for chunk in self._chunks(key, self._size(key)):
            digest.update(chunk)
            size += take(chunk)
        return FileEntry(digest.hexdigest(), size) if self._size(key) == size else None

    def _chunks(self, key: str, size: int) -> Iterator[bytes]:
        # Ranges rather than one open file: some file systems share an open file between threads.
        for start in range(0, size, _DOWNLOAD):
            try:
                with self._guard:
                    chunk = self._system.cat_file(self._path(key), start=start, end=min(start + _DOWNLOAD, size))
            except FileNotFoundError:
                return
            yield chunk

    def _size(self, key: str) -> int:
        try:
            with self._guard:
                return int(self._system.size(self._path(key)))
        except FileNotFoundError:
            return -1

    def written(self, key: str) -> datetime | None:
        """See Files."""
        with self._errors(), self._guard:
            try:
                return _in_utc(self._system.modified(self._path(key)))
            except FileNotFoundError:
                return None

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


def _abandon(writer: Any) -> None:
    """Drop what was uploaded so far; merely closing would make an object of it, and so would the garbage collector."""
    with suppress(OSError):
        writer.discard()
    with suppress(AttributeError):
        writer.closed = True


def _in_utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
