"""Long sequences of records as artifacts: shards of bounded size, and one digest over the records in their order.

How the records were cut into shards, and how Parquet wrote them, is not part of the digest: the same records always get
the same name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from ouroscope.canonical import canonical_json, digest_of
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.files import storage_errors
from ouroscope.store.manifest import Manifest
from ouroscope.store.tables import decode_table, encode_table

Record = TypeVar("Record")

SHARD_RECORDS = 1000
"""Records per shard at most."""
SHARD_CHARACTERS = 8_000_000
"""A shard is also closed when the canonical JSON of its records has so many characters: long texts, bounded memory."""


class SequenceWriter(Generic[Record]):
    """Writes one sequence of records as shards `stem-00000.parquet`, ... into a folder."""

    def __init__(self, folder: Path, kind: type[Record], stem: str) -> None:
        self._folder, self._kind, self._stem = folder, kind, stem
        self._pending: list[Record] = []
        self._characters = 0
        self._chain = hashlib.sha256()
        self.records = 0
        self.files: dict[str, bytes | Path] = {}
        """What was written, by name."""

    def extend(self, records: Iterable[Record]) -> None:
        """Add records at the end; at most one shard of them is held in memory."""
        for record in records:
            line = canonical_json(record)
            self._chain.update(line.encode("ascii") + b"\n")
            self._pending.append(record)
            self._characters += len(line)
            self.records += 1
            if len(self._pending) == SHARD_RECORDS or self._characters >= SHARD_CHARACTERS:
                self._close_shard()

    def close(self) -> str:
        """Write what is left and return the digest of the sequence."""
        if self._pending:
            self._close_shard()
        return digest_of(self._kind.__name__, self.records, self._chain.hexdigest())

    def _close_shard(self) -> None:
        name = shard_name(self._stem, len(self.files))
        path = self._folder / name
        # Around the write only: an OSError of whoever yields the records is not the store's.
        with storage_errors():
            path.write_bytes(encode_table(self._kind, self._pending))
        self.files[name] = path
        self._pending, self._characters = [], 0


def shard_name(stem: str, index: int) -> str:
    """Return the file name of a shard; names sort in the order of the shards.

    >>> shard_name("documents", 7)
    'documents-00007.parquet'
    """
    return f"{stem}-{index:05d}.parquet"


def sequence_names(manifest: Manifest, stem: str) -> list[str]:
    """Return the files of one sequence of an artifact, in its order."""
    return sorted(name for name in manifest.files if name.startswith(f"{stem}-"))


def read_sequence(store: ArtifactStore, ref: ArtifactRef, kind: type[Record], stem: str) -> Iterator[Record]:
    """Yield the records of one sequence of an artifact, one shard in memory at a time.

    Raises:
        NotFound: there is no such artifact.
        CorruptArtifact: what is stored is damaged.
    """
    for name in sequence_names(store.manifest(ref), stem):
        yield from decode_table(kind, store.read(ref, name))
