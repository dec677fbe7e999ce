"""Shards of a corpus: what workers read where it lies. A shard names its content, so finished ones are known again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ouroscope.corpora.readers import files_in, read_documents, read_part
from ouroscope.corpora.stored import corpus_shards, read_shard
from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.store.artifacts import ArtifactStore


class Shard(Protocol):
    """A stretch of a corpus; sent to workers, so it is small and can be pickled."""

    def digest(self) -> str:
        """Return the digest of its content."""

    def documents(self, store: ArtifactStore) -> Iterator[Document]:
        """Yield its documents."""


@dataclass(frozen=True, slots=True)
class StoredShard:
    """A file of a corpus in the store."""

    corpus: ArtifactRef
    name: str
    sha256: str

    def digest(self) -> str:
        """Return what the manifest says of it."""
        return self.sha256

    def documents(self, store: ArtifactStore) -> Iterator[Document]:
        """Yield its documents.

        Raises:
            PreconditionFailed: the store that this machine sees has no such corpus.
        """
        try:
            yield from read_shard(store, self.corpus, self.name)
        except NotFound as error:
            raise PreconditionFailed(
                f"a worker does not find {self.corpus} in the store; every node of the cluster must reach the same one"
            ) from error


@dataclass(frozen=True, slots=True)
class FileShard:
    """A file that people have, alone or in a directory."""

    source: str
    """What was named, absolute: the file itself, or the directory that it is in."""
    file: str
    text_field: str

    def digest(self) -> str:
        """Return the digest of its bytes, and of how they are read."""
        with self._seen().open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        how = f"{content} {self.text_field} {self.source != self.file}"
        return hashlib.sha256(how.encode()).hexdigest()

    def documents(self, store: ArtifactStore) -> Iterator[Document]:
        """Yield its documents; the store is not looked at."""
        file = self._seen()
        if self.source == self.file:
            return read_documents(file, text_field=self.text_field)
        return read_part(Path(self.source), file, text_field=self.text_field)

    def _seen(self) -> Path:
        path = Path(self.file)
        if not path.is_file():
            raise PreconditionFailed(
                f"a worker does not find {path.name}; every node of the cluster must have the files at the same place"
            )
        return path


def stored_shards(store: ArtifactStore, corpus: ArtifactRef) -> list[StoredShard]:
    """Return the shards of a stored corpus.

    Raises:
        NotFound: there is no such corpus.
    """
    return [StoredShard(corpus, name, entry.sha256) for name, entry in corpus_shards(store, corpus)]


def file_shards(source: str, text_field: str) -> list[FileShard]:
    """Return a shard for each file that `source` names, itself or below it.

    Raises:
        InvalidRequest: it is no file that workers could open, or has none.
        NotFound: it does not exist.
    """
    if source == "-":
        raise InvalidRequest("standard input cannot be read on a cluster; give a file that every node sees")
    path = Path(source).absolute()
    if not path.exists():
        raise NotFound(f"{source} does not exist; check the path")
    files: Sequence[Path] = files_in(path) if path.is_dir() else [path]
    return [FileShard(str(path), str(file), text_field) for file in files]
