"""Models in the artifact store: whole ones, and adapters that lie beside their base. Reads bytes; knows no library.

An adapter is a model of its own in the store, with its own digest; its manifest names the base it was made for. So a
generation of low-rank adapters costs megabytes, and whoever holds the base opens the next generation without reading
the base again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ouroscope.errors import CorruptArtifact
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.store.artifacts import ArtifactStore

BASE = "base"
"""Key of the manifest's summary, and of the adapter's ouroscope.json, that names the base of an adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """Where the files of a model lie."""

    ref: ArtifactRef
    whole: ArtifactRef
    """Model that holds configuration, tokenizer and all weights: the model itself, or the base of an adapter."""
    directory: Path
    """Files of `whole`, verified against its manifest."""
    adapter: Path | None = None
    """Files of the adapter, verified against its manifest; None for a whole model."""


def base_of(store: ArtifactStore, ref: ArtifactRef) -> ArtifactRef | None:
    """Return the base that `ref` is an adapter of, or None for a whole model.

    Raises:
        NotFound: it is not in the store.
        CorruptArtifact: its base is an adapter itself.
    """
    told = store.manifest(ref.expect(ArtifactKind.MODEL, "model")).summary.get(BASE)
    if told is None:
        return None
    base = ArtifactRef.parse(str(told)).expect(ArtifactKind.MODEL, "base")
    if store.manifest(base).summary.get(BASE) is not None:
        raise CorruptArtifact("the base of this adapter is an adapter itself; import it again with a whole model")
    return base


def stored_model(store: ArtifactStore, ref: ArtifactRef) -> StoredModel:
    """Return where the files of a model lie, all of them verified.

    Raises:
        NotFound: the model or its base is not in the store.
        CorruptArtifact: a file does not match its manifest.
    """
    base = base_of(store, ref)
    if base is None:
        return StoredModel(ref=ref, whole=ref, directory=store.directory(ref))
    return StoredModel(ref=ref, whole=base, directory=store.directory(base), adapter=store.directory(ref))
