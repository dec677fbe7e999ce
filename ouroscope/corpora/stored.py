"""Corpora in the artifact store: the one way in and the one way out of documents.

The digest of a corpus is taken over its documents in their order, provenance included, and over nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ouroscope.errors import InvalidRequest, NotFound, Unavailable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.documents import Document
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.manifest import FileEntry, Scalar
from ouroscope.store.sequences import SequenceWriter, read_sequence, sequence_names, shard_name
from ouroscope.store.tables import decode_table, encode_table

_STEM = "documents"
Summary = Mapping[str, Scalar] | Sequence[tuple[str, Scalar]]


def write_corpus(store: ArtifactStore, documents: Iterable[Document], *, summary: Summary = ()) -> ArtifactRef:
    """Store documents as a corpus and return its name. Holds one shard in memory, however many there are.

    Args:
        store: Where to.
        documents: At least one; their ids are to be unique.
        summary: Small facts to keep beside the count of documents; not part of the name.

    Raises:
        InvalidRequest: there is no document.
        StorageFull: no room is left; nothing was published.
    """
    with store.scratch() as folder:
        writer = SequenceWriter(folder, Document, _STEM)
        writer.extend(documents)
        digest = writer.close()
        if not writer.records:
            raise InvalidRequest("the corpus is empty; give at least one document")
        facts = {**dict(summary), "documents": writer.records}
        return store.publish(ArtifactKind.CORPUS, digest, writer.files, facts)


def read_corpus(store: ArtifactStore, ref: ArtifactRef) -> Iterator[Document]:
    """Yield the documents of a corpus in their order, one shard in memory at a time.

    Raises:
        InvalidRequest: `ref` is not that of a corpus.
        NotFound: there is no such corpus.
        CorruptArtifact: what is stored is damaged.
    """
    return read_sequence(store, ref.expect(ArtifactKind.CORPUS, "corpus"), Document, _STEM)


def corpus_shards(store: ArtifactStore, ref: ArtifactRef) -> list[tuple[str, FileEntry]]:
    """Return the shards of a corpus in their order, with their digests; see `read_shard`.

    Raises:
        InvalidRequest: `ref` is not that of a corpus.
        NotFound: there is no such corpus.
    """
    manifest = store.manifest(ref.expect(ArtifactKind.CORPUS, "corpus"))
    return [(name, manifest.files[name]) for name in sequence_names(manifest, _STEM)]


def read_shard(store: ArtifactStore, ref: ArtifactRef, name: str) -> Iterator[Document]:
    """Yield the documents of one shard of a corpus.

    Raises:
        NotFound: there is no such corpus.
        CorruptArtifact: what is stored is damaged.
    """
    return decode_table(Document, store.read(ref, name))


class CorpusDraft:
    """A corpus in the making. What was added survives a crash; readers see nothing before `publish`."""

    def __init__(self, store: ArtifactStore, key: str) -> None:
        """Open the draft named `key`, usually the digest of the request that asks for the corpus."""
        self._store = store
        self._draft = store.draft(key)
        self._seen = 0

    @property
    def done(self) -> int:
        """Shards that are there, counted from the first one up to the first gap."""
        names = set(self._draft.names())
        index = 0
        while shard_name(_STEM, index) in names:
            index += 1
        self._seen = max(self._seen, index)
        return index

    def has(self, shard_index: int) -> bool:
        """Return whether a shard is there."""
        return self._draft.has(shard_name(_STEM, shard_index))

    def add(self, shard_index: int, documents: Iterable[Document]) -> None:
        """Store one shard, of any size that fits in memory and is not empty; all of it is kept or nothing.

        Raises:
            InvalidRequest: there is no document.
            StorageFull: no room is left.
        """
        shard = tuple(documents)
        if not shard:
            raise InvalidRequest("a shard of a corpus needs at least one document")
        self._draft.write(shard_name(_STEM, shard_index), encode_table(Document, shard))
        self._seen = max(self._seen, shard_index + 1)

    def expect(self, shards: int) -> None:
        """Note that the first `shards` are there, whoever added them."""
        self._seen = max(self._seen, shards)

    def documents(self) -> Iterator[Document]:
        """Yield what is there, in the order of the shards.

        Raises:
            Unavailable: a shard that was there, or one before it, is not; another worker has discarded the draft.
        """
        shards = self.done
        for index in range(max(shards, self._seen)):
            try:
                data = self._draft.read(shard_name(_STEM, index))
            except NotFound as error:
                raise Unavailable("another worker has finished and discarded this draft; repeat the request") from error
            yield from decode_table(Document, data)

    def publish(self, summary: Summary = ()) -> ArtifactRef:
        """Turn all shards into a corpus, and discard the draft.

        Raises:
            InvalidRequest: nothing was added.
            Unavailable: a shard is missing; another worker has finished the same work. Repeating finds its result.
            StorageFull: no room is left; the draft stays.
        """
        ref = write_corpus(self._store, self.documents(), summary=summary)
        self._draft.discard()
        return ref

    def discard(self) -> None:
        """Forget everything that was added."""
        self._draft.discard()
