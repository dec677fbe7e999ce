"""What an artifact says of itself, and which names its files may have. Knows nothing of where bytes lie."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ouroscope.canonical import digest_of, to_plain
from ouroscope.errors import CorruptArtifact, InvalidRequest
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef

MANIFEST = "manifest.json"
"""Written last: an artifact without it does not exist. No file of an artifact may have this name."""
CHUNK = 1 << 20
"""Bytes that are read at once when a file is copied or hashed."""

Scalar = str | int | float | bool | None
Summary = Mapping[str, Scalar]
Source = bytes | Path
"""Content of a file to publish: bytes, or a local file, which may be larger than memory."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]{0,199}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact."""

    sha256: str
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The table of contents of an artifact."""

    kind: ArtifactKind
    digest: str
    files: Mapping[str, FileEntry]
    summary: Summary
    """Small facts about the content, for lists; never part of the digest."""
    place: str = ""
    """Folder of the files, relative to the manifest; empty where both lie together."""

    @property
    def ref(self) -> ArtifactRef:
        """Return the name of the artifact."""
        return ArtifactRef(self.kind, self.digest)

    def entry(self, name: str) -> FileEntry:
        """Return what is known of one file.

        Raises:
            CorruptArtifact: the artifact has no such file.
        """
        if name not in self.files:
            raise CorruptArtifact(f"{self.ref} has no file {name!r}; delete it and repeat the work that made it")
        return self.files[name]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as readable JSON."""
    return json.dumps({"version": 1, **to_plain(manifest)}, indent=1, sort_keys=True).encode("ascii")


def decode_manifest(ref: ArtifactRef, data: bytes) -> Manifest:
    """Read the manifest of `ref`.

    Raises:
        CorruptArtifact: it is not a manifest, or that of another artifact.
    """
    try:
        plain = json.loads(data)
        files = {check_name(name): FileEntry(str(e["sha256"]), int(e["size"])) for name, e in plain["files"].items()}
        kind, digest, place = ArtifactKind(plain["kind"]), plain["digest"], plain["place"]
        if (kind, digest, plain["version"]) != (ref.kind, ref.digest, 1) or (place and check_name(place) != place):
            raise ValueError("the manifest of something else")
        return Manifest(kind=kind, digest=digest, files=files, summary=dict(plain["summary"]), place=place)
    except (ValueError, LookupError, TypeError, AttributeError, InvalidRequest) as error:
        raise CorruptArtifact(
            f"the manifest of {ref} is damaged; delete it and repeat the work that made it"
        ) from error


def check_name(name: str) -> str:
    """Return `name` if it can name a file of an artifact or a draft: a relative path of plain parts.

    Raises:
        InvalidRequest: it could leave its folder, is hidden, or has odd characters.
    """
    if len(name) > 500 or not all(_PART.fullmatch(part) for part in name.split("/")):
        raise InvalidRequest(
            f"{name[:80]!r} cannot name a stored file; use plain relative paths such as data/part-0.bin"
        )
    return name


def check_label(label: str, what: str) -> str:
    """Return `label` if it can name a draft, a space of names, or an entry in one.

    Raises:
        InvalidRequest: it has other characters than letters, digits, dots, hyphens and underscores, or over 128.
    """
    if not _LABEL.fullmatch(label):
        raise InvalidRequest(
            f"{label[:80]!r} is not a {what}; use letters, digits, dots, hyphens, underscores, at most 128"
        )
    return label


def files_digest(files: Mapping[str, Source]) -> str:
    """Return the digest of an artifact that is what its bytes are (a model): over names and contents of its files."""
    return digest_of([(name, _sha256(files[name])) for name in sorted(files)])


def _sha256(source: Source) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
