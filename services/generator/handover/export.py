"""Stored models in the directory that a server reads from: whole ones, and adapters as PEFT and vLLM expect them.

A model lies there under `ouro-` and the first 16 digits of its digest, so a server that tells the name or the path of
what it serves tells the digest. It appears as a whole, verified against its manifest while it is copied, or not at all.
Knows no server.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import structlog

from ouroscope.adapters import ADAPTER_WEIGHTS, check_adapter_directory
from ouroscope.errors import CorruptArtifact, StorageFull
from ouroscope.models import ADAPTER_CONFIG, check_model_directory
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.store.local import LocalFiles
from ouroscope.store.manifest import MANIFEST, FileEntry, Manifest, Source, decode_manifest, encode_manifest
from ouroscope.stored_models import stored_model

log = structlog.get_logger(__name__)

PREFIX = "ouro-"


def name_of(model: ArtifactRef) -> str:
    """Return what a model is called on servers.

    >>> from ouroscope.records.artifacts import ArtifactKind
    >>> name_of(ArtifactRef(ArtifactKind.MODEL, "0123456789abcdef" * 4))
    'ouro-0123456789abcdef'
    """
    return f"{PREFIX}{model.digest[:16]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A model that lies in the shared directory."""

    model: ArtifactRef
    name: str
    directory: str
    """Where the server finds it, in the server's own file system."""


class Exports:
    """The shared directory, as this generator writes it. Several generators may write to one; thread-safe."""

    def __init__(self, store: ArtifactStore, directory: Path, *, server_directory: str = "", kept: int = 4) -> None:
        """Nothing is written yet.

        Args:
            store: Where models are.
            directory: The shared directory, as this machine sees it.
            server_directory: The same directory as the server sees it; empty if both see it under one path.
            kept: Models that stay when older ones are removed, at least 1.
        """
        self._store = store
        self._directory = directory.absolute()
        self._server = PurePosixPath(server_directory or self._directory)
        self._kept = kept
        self._files = LocalFiles(self._directory)
        self._held: dict[str, int] = {}
        """Open directories by name; each is locked against removal."""
        self._lock = threading.Lock()

    def put(self, model: ArtifactRef, *, base_name: str = "", check: Callable[[], None] = lambda: None) -> Export:
        """Let the model lie in the directory and hold it there; what is there already is verified, not copied.

        Args:
            model: Whole, or an adapter.
            base_name: What the server calls the base of an adapter.
            check: Called between files; may raise to stop.

        Raises:
            NotFound: the model is not in the store.
            CorruptArtifact: a file does not match its manifest.
            UntrustedArtifact: something in it could run code.
            StorageFull: no room is left in the directory; nothing of it is there.
            PreconditionFailed: the directory cannot be written.
        """
        name, files = name_of(model), self._sources(model, base_name)
        with self._lock:
            # Held before it is looked at, so that nobody removes what was found to be there.
            if not (self._hold(name) and self._is_sound(name, model, files)):
                self._let_go(name)
                self._copy(name, model, files, check)
                self._hold(name)
        return Export(model=model, name=name, directory=str(self._server / name))

    def release(self, name: str) -> None:
        """Let a model go: it may be removed from now on."""
        with self._lock:
            self._let_go(name)

    def keep_only(self, name: str) -> None:
        """Let all models go but this one, and remove old ones."""
        for other in [held for held in self._held if held != name]:
            self.release(other)
        self.remove_old()

    def remove_old(self) -> list[str]:
        """Remove all but the last models, never one that some generator holds; return the names of what is gone."""
        with self._lock, storage_errors():
            found = [path for path in self._directory.glob(f"{PREFIX}*") if path.is_dir()]
            newest = sorted(found, key=_last_used, reverse=True)
            gone = [path.name for path in newest[self._kept :] if path.name not in self._held and _removed(path)]
        if gone:
            log.info("exports.removed", names=gone)
        return gone

    def _sources(self, model: ArtifactRef, base_name: str) -> dict[str, Source]:
        """Return the files that the server is given, verified against the store's manifest."""
        stored = stored_model(self._store, model)
        if stored.adapter is not None:
            return _adapter_files(stored.adapter, base_name)
        return {name: stored.directory / name for name in check_model_directory(stored.directory).files}

    def _is_sound(self, name: str, model: ArtifactRef, files: Mapping[str, Source]) -> bool:
        """Return whether exactly these files lie there; each is read once per process."""
        if not self._files.exists(f"{name}/{MANIFEST}"):
            return False
        try:
            manifest = decode_manifest(model, self._files.read(f"{name}/{MANIFEST}"))
            self._files.directory(name, manifest.files)
            return self._entries(model, files) == manifest.files
        except CorruptArtifact:
            log.warning("export.damaged", name=name)
            return False

    def _copy(self, name: str, model: ArtifactRef, files: Mapping[str, Source], check: Callable[[], None]) -> None:
        known = self._store.manifest(model).files

        def manifest_of(entries: Mapping[str, FileEntry], place: str) -> bytes:
            for file, entry in entries.items():
                if not isinstance(files[file], bytes) and known[file] != entry:
                    raise CorruptArtifact(f"{file} of {model} changed while it was copied; repeat the request")
            return encode_manifest(
                Manifest(kind=model.kind, digest=model.digest, files=entries, summary={}, place=place)
            )

        try:
            # Whatever lies there is not this model, or the caller would not be here.
            self._files.remove(name)
            self._files.publish(name, _Checked(files, check), manifest_of)
        except StorageFull as error:
            raise StorageFull(
                "the directory that is shared with the server has no room left and nothing of the model is in it; "
                "free some space, then repeat"
            ) from error
        # The server is somebody else on its machine, whatever the umask of this process is.
        (self._directory / name).chmod(0o755)
        log.info("model.exported", name=name, files=len(files))

    def _entries(self, model: ArtifactRef, files: Mapping[str, Source]) -> dict[str, FileEntry]:
        known = self._store.manifest(model).files
        return {name: _entry(source) if isinstance(source, bytes) else known[name] for name, source in files.items()}

    def _hold(self, name: str) -> bool:
        """Keep everybody from removing it, other generators too; return False if it is not there."""
        path = self._directory / name
        with storage_errors(), suppress(FileNotFoundError):
            if name not in self._held:
                handle = os.open(path, os.O_RDONLY)
                fcntl.flock(handle, fcntl.LOCK_SH)
                self._held[name] = handle
            # The last used stay longest; a directory of another user's generator keeps its time.
            with suppress(PermissionError):
                os.utime(path)
            return True
        return False

    def _let_go(self, name: str) -> None:
        handle = self._held.pop(name, None)
        if handle is not None:
            os.close(handle)


class _Checked(Mapping[str, Source]):
    """Files whose copying can be stopped between two of them."""

    def __init__(self, files: Mapping[str, Source], check: Callable[[], None]) -> None:
        self._files, self._check = files, check

    def __getitem__(self, name: str) -> Source:
        self._check()
        return self._files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _adapter_files(adapter: Path, base_name: str) -> dict[str, Source]:
    """Return an adapter as PEFT reads it, its base called as the server calls it."""
    check_adapter_directory(adapter)
    config: dict[str, Any] = json.loads((adapter / ADAPTER_CONFIG).read_bytes())
    named = {**config, "base_model_name_or_path": base_name or config.get("base_model_name_or_path")}
    text = json.dumps(named, indent=2, sort_keys=True) + "\n"
    return {ADAPTER_CONFIG: text.encode(), ADAPTER_WEIGHTS: adapter / ADAPTER_WEIGHTS}


def _last_used(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    # Another generator was faster.
    return 0


def _entry(data: bytes) -> FileEntry:
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def _removed(path: Path) -> bool:
    """Remove a model unless somebody holds it; its manifest goes first, so what is left by a crash is no model."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            return True
        except (BlockingIOError, PermissionError):
            # Somebody holds it, or it is another user's.
            return False
        finally:
            os.close(handle)
    return False
