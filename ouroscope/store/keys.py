"""Where what lies in a store: the keys of artifacts, remembered answers and names."""

from __future__ import annotations

from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.manifest import Manifest, check_label


def prefix_of(ref: ArtifactRef) -> str:
    """Return the folder of an artifact."""
    return f"{ref.kind.value.lower()}/{ref.digest[:2]}/{ref.digest}"


def place_of(manifest: Manifest) -> str:
    """Return the folder of its files."""
    return f"{prefix_of(manifest.ref)}/{manifest.place}".rstrip("/")


def result_key(request_digest: str) -> str:
    """Return the key of the remembered answer to a request."""
    ref = ArtifactRef(ArtifactKind.REPORT, request_digest)  # the same rule for what a digest is
    return f"results/{ref.digest[:2]}/{ref.digest}.json"


def name_key(space: str, name: str) -> str:
    """Return the key of a name."""
    return f"names/{check_label(space, 'space of names')}/{check_label(name, 'name')}.json"
