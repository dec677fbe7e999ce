"""Whether what lies in a store is what was published: every file against its manifest, read from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ouroscope.errors import CorruptArtifact, NotFound
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.keys import place_of, prefix_of
from ouroscope.store.manifest import MANIFEST, Manifest
from ouroscope.store.opening import open_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What was found of one artifact."""

    ref: ArtifactRef
    bytes: int = 0
    """Bytes that were read."""
    problems: tuple[str, ...] = ()
    """What is wrong with it, each as a sentence; none where it is whole."""


def artifacts_in(store: ArtifactStore) -> list[ArtifactRef]:
    """Return all artifacts of a store, by kind and digest."""
    return [ref for kind in ArtifactKind for ref in store.list(kind)]


class Verifier:
    """Reads artifacts again, whatever was read before."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._files = open_files(store.url)

    def check(self, ref: ArtifactRef) -> Checked:
        """Compare every file of an artifact with its manifest.

        Raises:
            Unavailable: the store cannot be reached; nothing is said of the artifact.
        """
        try:
            manifest = self._store.manifest(ref)
        except (CorruptArtifact, NotFound) as error:
            return Checked(ref=ref, problems=(error.message,))
        problems = [*self._damaged(manifest), *self._strange(manifest)]
        read = sum(entry.size for entry in manifest.files.values())
        return Checked(ref=ref, bytes=read, problems=tuple(problems))

    def _damaged(self, manifest: Manifest) -> Iterator[str]:
        for name, entry in manifest.files.items():
            found = self._files.entry(f"{place_of(manifest)}/{name}")
            if found is None:
                yield f"{name} is gone"
            elif found != entry:
                yield f"{name} is not what was published ({found.size} bytes instead of {entry.size})"

    def _strange(self, manifest: Manifest) -> Iterator[str]:
        """Files that a library might load, although nobody published them; half-made copies elsewhere are harmless."""
        lying = set(self._files.list(place_of(manifest)))
        if not manifest.place:
            lying.discard(MANIFEST)
        for name in sorted(lying - set(manifest.files)):
            yield f"{prefix_of(manifest.ref)}/{name} was never published"
