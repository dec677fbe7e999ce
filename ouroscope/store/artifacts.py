"""The artifact store: corpora, predictions, models, reports and baselines, each under the digest of its content.

Layout below the root: `<kind>/<aa>/<digest>/` files and `manifest.json`, `results/<aa>/<digest>.json` remembered
answers, `names/<space>/<name>.json` names that people give, `drafts/<key>/` unfinished work. Knows what an artifact is,
not what is in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from ouroscope.canonical import canonical_json
from ouroscope.errors import (
    AlreadyExists,
    CorruptArtifact,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.answers import decode_answer, encode_answer, references_in
from ouroscope.store.drafts import Draft
from ouroscope.store.files import open_binary, storage_errors
from ouroscope.store.keys import name_key, place_of, prefix_of, result_key
from ouroscope.store.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    Source,
    Summary,
    check_label,
    check_name,
    decode_manifest,
    encode_manifest,
    files_digest,
)
from ouroscope.store.opening import open_files

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An artifact under a name that somebody gave it."""

    name: str
    ref: ArtifactRef
    summary: Summary


class ArtifactStore:
    """Artifacts below one URL. Synchronous; may be used from several threads and processes at once."""

    def __init__(self, url: str | Path) -> None:
        """Open `/path`, `file:///path`, `memory://name` or `s3://bucket/prefix`. Nothing is written yet.

        Raises:
            InvalidRequest: no such kind of store is known.
            CapabilityMissing: its driver is not installed.
        """
        self.url = str(url)
        self._files = open_files(self.url)

    def manifest(self, ref: ArtifactRef) -> Manifest:
        """Return what an artifact says of itself.

        Raises:
            NotFound: there is no such artifact.
            CorruptArtifact: its manifest is damaged.
        """
        try:
            return decode_manifest(ref, self._files.read(f"{prefix_of(ref)}/{MANIFEST}"))
        except FileNotFoundError as error:
            raise NotFound(f"{ref} is not in the artifact store", artifact=str(ref)) from error

    def exists(self, ref: ArtifactRef) -> bool:
        """Return whether the artifact was published here."""
        return self._files.exists(f"{prefix_of(ref)}/{MANIFEST}")

    def read(self, ref: ArtifactRef, name: str) -> bytes:
        """Return a whole file, checked against the manifest.

        Raises:
            NotFound: there is no such artifact.
            CorruptArtifact: the file is not what was published, or is not in it.
        """
        manifest = self.manifest(ref)
        entry = manifest.entry(name)
        try:
            data = self._files.read(f"{place_of(manifest)}/{name}")
        except FileNotFoundError:
            data = None
        if data is None or FileEntry(hashlib.sha256(data).hexdigest(), len(data)) != entry:
            raise CorruptArtifact(f"{name} of {ref} is damaged or gone; delete it and repeat the work that made it")
        return data

    def open(self, ref: ArtifactRef, name: str) -> BinaryIO:
        """Open a file for reading, its digest checked once per process; for files too large for `read`.

        Raises:
            NotFound: there is no such artifact.
            CorruptArtifact: the file is not what was published, or is not in it.
        """
        manifest = self.manifest(ref)
        path = self._files.fetch(f"{place_of(manifest)}/{name}", manifest.entry(name))
        with storage_errors():
            return open_binary(path)

    def directory(self, ref: ArtifactRef) -> Path:
        """Return a local directory with all files, each digest checked once per process. Do not write into it.

        A local store gives its own directory; others download into a cache that lasts as long as the process.

        Raises:
            NotFound: there is no such artifact.
            CorruptArtifact: a file is not what was published, or one is there that was not.
        """
        manifest = self.manifest(ref)
        return self._files.directory(place_of(manifest), manifest.files)

    def publish(
        self, kind: ArtifactKind, digest: str | None, files: Mapping[str, Source], summary: Summary | None = None
    ) -> ArtifactRef:
        """Store an artifact; a reader sees all of it or nothing. Large files are copied and hashed in one pass.

        Args:
            kind: What it holds.
            digest: Digest of the content in its canonical form; None if the content is its bytes (see files_digest).
            files: Relative names and their content. Files of a `scratch` directory are taken without a copy.
            summary: Small facts for lists. If the artifact exists already, nothing changes, the summary neither.

        Raises:
            InvalidRequest: a name is not allowed, or there is no file.
            StorageFull: no room is left; nothing was published.
            PreconditionFailed: the store cannot be written.
        """
        _check_files(files)
        ref = ArtifactRef(kind, files_digest(files) if digest is None else digest)

        def manifest_of(entries: Mapping[str, FileEntry], place: str) -> bytes:
            made = Manifest(kind=kind, digest=ref.digest, files=entries, summary=dict(summary or {}), place=place)
            return encode_manifest(made)

        if not self.exists(ref):
            try:
                self._files.publish(prefix_of(ref), files, manifest_of)
            except FileNotFoundError as error:
                raise Unavailable("a file vanished while it was being published; repeat the request") from error
        return ref

    def delete(self, ref: ArtifactRef) -> None:
        """Remove an artifact, the manifest first; fine if there is none."""
        self._files.remove(f"{prefix_of(ref)}/{MANIFEST}")
        self._files.remove(prefix_of(ref))

    def list(self, kind: ArtifactKind) -> Iterator[ArtifactRef]:
        """Yield all artifacts of a kind, sorted by digest."""
        for name in self._files.list(kind.value.lower()):
            parts = name.split("/")
            if len(parts) == 3 and parts[2] == MANIFEST:
                yield ArtifactRef(kind, parts[1])

    def draft(self, key: str) -> Draft:
        """Return the private working area of that name, usually the digest of a request; it may hold earlier work."""
        return Draft(self._files, key)

    def scratch(self) -> AbstractContextManager[Path]:
        """Give an empty local directory to build files in; it vanishes at the end, and also after a crash."""
        return self._files.scratch()

    def put_result(self, request_digest: str, record: object) -> None:
        """Remember the answer to a request.

        Raises:
            StorageFull: no room is left.
        """
        self._files.write(result_key(request_digest), encode_answer(record))

    def get_result(self, request_digest: str, kind: type[R]) -> R | None:
        """Return the remembered answer to a request, or None.

        None also if it cannot be trusted any more: damaged, of another class or version, or about an artifact that is
        gone. Then the work has to be done again.
        """
        try:
            record = decode_answer(kind, self._files.read(result_key(request_digest)))
        except FileNotFoundError:
            return None
        return record if all(map(self._is_sound, references_in(record))) else None

    def _is_sound(self, ref: ArtifactRef) -> bool:
        try:
            self.manifest(ref)
        except (NotFound, CorruptArtifact):
            return False
        return True

    def put_name(self, space: str, name: str, ref: ArtifactRef, summary: Summary | None = None) -> Named:
        """Give an artifact a name in a space of names. Giving it again changes nothing.

        Raises:
            NotFound: there is no such artifact.
            AlreadyExists: the name is that of another artifact.
        """
        key = name_key(space, name)
        self.manifest(ref)
        data = canonical_json({"ref": ref, "summary": dict(summary or {})}).encode("ascii")
        if not self._files.create(key, data):
            there = self.get_name(space, name)
            if there.ref != ref:
                raise AlreadyExists(f"the name {name!r} is taken by {there.ref}; choose another, or delete it first")
            return there
        return Named(name=name, ref=ref, summary=dict(summary or {}))

    def get_name(self, space: str, name: str) -> Named:
        """Return what a name stands for.

        Raises:
            NotFound: nothing has that name.
        """
        try:
            plain = json.loads(self._files.read(name_key(space, name)))
            return Named(name=name, ref=ArtifactRef.parse(plain["ref"]), summary=plain["summary"])
        except FileNotFoundError as error:
            raise NotFound(f"nothing is called {name!r} in {space}") from error
        except (ValueError, LookupError, TypeError, InvalidRequest) as error:
            raise CorruptArtifact(
                f"the entry of {name!r} in {space} is damaged; delete the name and give it again"
            ) from error

    def list_names(self, space: str) -> tuple[Named, ...]:
        """Return all names of a space, sorted."""
        keys = self._files.list(f"names/{check_label(space, 'space of names')}")
        return tuple(self.get_name(space, key.removesuffix(".json")) for key in keys)

    def delete_name(self, space: str, name: str) -> None:
        """Forget a name; the artifact stays.

        Raises:
            NotFound: nothing has that name.
        """
        key = name_key(space, name)
        if not self._files.exists(key):
            raise NotFound(f"nothing is called {name!r} in {space}")
        self._files.remove(key)


def _check_files(files: Mapping[str, Source]) -> None:
    if not files:
        raise InvalidRequest("an artifact needs at least one file")
    for name in files:
        if check_name(name) == MANIFEST:
            raise InvalidRequest(f"no file of an artifact may be called {MANIFEST}")
