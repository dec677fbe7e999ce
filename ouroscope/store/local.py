"""Files in a directory of this machine (or of a shared volume): the default store.

An artifact is staged under `staging/` and moved to its place as one directory, manifest inside, so no crash and no race
shows a part of it. Whoever stages holds a lock on the staging directory; the locks of the dead are free, so what they
left is swept away by the next one who stages.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from ouroscope.errors import CorruptArtifact, Unavailable
from ouroscope.store.files import ManifestOf, storage_errors
from ouroscope.store.manifest import CHUNK, MANIFEST, FileEntry, Source

_STAGING = "staging"
_Identity = tuple[int, int, int]


class LocalFiles:
    """A tree of files below `root`, which is made when something is written."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._verified: dict[tuple[Path, str], _Identity] = {}
        self._lock = Lock()

    def read(self, key: str) -> bytes:
        """See Files."""
        with storage_errors():
            return (self._root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """See Files."""
        with _written(self._root / key, data) as (new, path):
            new.replace(path)

    def create(self, key: str, data: bytes) -> bool:
        """See Files."""
        with _written(self._root / key, data) as (new, path):
            try:
                # Unlike a rename, a link refuses to replace.
                path.hardlink_to(new)
            except FileExistsError:
                return False
        return True

    def exists(self, key: str) -> bool:
        """See Files."""
        with storage_errors():
            return (self._root / key).is_file()

    def list(self, prefix: str) -> list[str]:
        """See Files."""
        top = self._root / prefix
        with storage_errors():
            walked = os.walk(top, onerror=_raise_unless_gone)
            found = [Path(folder, name).relative_to(top).as_posix() for folder, _, names in walked for name in names]
        return sorted(name for name in found if not name.rpartition("/")[2].startswith("."))

    def remove(self, prefix: str) -> None:
        """See Files."""
        path = self._root / prefix
        with storage_errors(), suppress(FileNotFoundError):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def publish(self, prefix: str, files: Mapping[str, Source], manifest_of: ManifestOf) -> None:
        """See Files."""
        with self.scratch() as stage, storage_errors():
            new = stage / "new"
            entries = {name: self._bring(source, new / name) for name, source in files.items()}
            _write(new / MANIFEST, manifest_of(entries, ""))
            _sync_folders(new)
            self._show(new, self._root / prefix, stage / "debris")

    def _bring(self, source: Source, target: Path) -> FileEntry:
        """Put a file of a new artifact into its stage and hash it on the way."""
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            _write(target, source)
            entry = FileEntry(hashlib.sha256(source).hexdigest(), len(source))
        elif (self._root / _STAGING) in source.absolute().parents and not source.is_symlink():
            # It lies in a scratch directory of this store: nobody needs a second copy.
            target.hardlink_to(source)
            entry = _hashed(target)
        else:
            entry = _copied(source, target)
        target.chmod(0o444)
        return entry

    def _show(self, new: Path, place: Path, debris: Path) -> None:
        """Move a finished directory to its place. If somebody was faster, theirs stays."""
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self._root / _STAGING):
            if (place / MANIFEST).exists():
                return
            if place.exists():
                # A copy of a store that was interrupted, or a manifest deleted by hand.
                place.rename(debris)
            new.rename(place)
        _sync(place.parent)

    def fetch(self, key: str, entry: FileEntry) -> Path:
        """See Files."""
        path = self._root / key
        with storage_errors():
            self._verify(path, entry)
        return path

    def directory(self, prefix: str, entries: Mapping[str, FileEntry]) -> Path:
        """See Files. It is the store's own directory: nothing in it may be changed."""
        path = self._root / prefix
        if strange := set(self.list(prefix)) - set(entries) - {MANIFEST}:
            raise CorruptArtifact(f"{prefix} holds files that nobody published: {', '.join(sorted(strange)[:3])}")
        for name, entry in entries.items():
            self.fetch(f"{prefix}/{name}", entry)
        return path

    def _verify(self, path: Path, entry: FileEntry) -> None:
        identity = _identity(path)
        with self._lock:
            known = self._verified.get((path, entry.sha256))
        if identity is not None and known == identity:
            return
        if identity is None or _hashed(path) != entry:
            raise CorruptArtifact(f"the file {path.name!r} of an artifact is damaged or gone; delete the artifact")
        with self._lock:
            self._verified[path, entry.sha256] = identity

    def entry(self, key: str) -> FileEntry | None:
        """See Files."""
        with storage_errors(), suppress(FileNotFoundError):
            return _hashed(self._root / key)
        return None

    def written(self, key: str) -> datetime | None:
        """See Files."""
        with storage_errors(), suppress(FileNotFoundError):
            return datetime.fromtimestamp((self._root / key).stat().st_mtime, UTC)
        return None

    def private(self, prefix: str) -> Path | None:
        """See Files."""
        path = self._root / prefix
        with storage_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod(0o700)
        return path

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See Files."""
        with storage_errors():
            self._sweep()
            path, handle = self._stage()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
            os.close(handle)

    def _stage(self) -> tuple[Path, int]:
        for _ in range(100):
            path = self._root / _STAGING / uuid.uuid4().hex
            path.mkdir(mode=0o700, parents=True)
            # A sweeper may come between the two lines above and below; then it is gone, and another is made.
            with suppress(FileNotFoundError):
                handle = os.open(path, os.O_RDONLY)
                fcntl.flock(handle, fcntl.LOCK_EX)
                if path.exists():
                    return path, handle
                os.close(handle)
        raise Unavailable("the artifact store cannot be staged to; try again")

    def _sweep(self) -> None:
        """Remove what the dead have left: nobody holds its lock."""
        staging = self._root / _STAGING
        for path in staging.iterdir() if staging.is_dir() else ():
            if path.is_dir():
                with suppress(OSError), _handle(path) as handle:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def _written(path: Path, data: bytes) -> Iterator[tuple[Path, Path]]:
    """Give a synced new file beside `path`; whatever happens, it is gone afterwards."""
    new = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}")
    with storage_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write(new, data)
            yield new, path
            _sync(path.parent)
        finally:
            new.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _copied(source: Path, target: Path) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(CHUNK):
            digest.update(chunk)
            size += writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(digest.hexdigest(), size)


def _hashed(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def _identity(path: Path) -> _Identity | None:
    """Return what changes when a file is replaced or written to; None if it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def _handle(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder against threads and processes."""
    with _handle(folder) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sync(folder: Path) -> None:
    with _handle(folder) as handle:
        os.fsync(handle)


def _sync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        _sync(Path(folder))
