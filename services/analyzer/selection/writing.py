"""The second pass over a pool: what was taken is written, in the order of the sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ouroscope.records.documents import Document
from ouroscope.records.selection import SelectDocuments
from ouroscope.store.artifacts import ArtifactStore
from services.analyzer.selection.reading import documents_of
from services.analyzer.watch import Watch


def taken_documents(
    store: ArtifactStore, request: SelectDocuments, copies: Mapping[int, int], watch: Watch
) -> Iterator[Document]:
    """Yield each document as often as `copies` says at its position; a second copy directly follows the first."""
    ids = Ids()
    documents = enumerate(documents_of(store, request.sources))
    for batch in watch.over(documents, "writing", "documents"):
        for position, (_, document) in batch:
            for _ in range(copies.get(position, 0)):
                yield replace(document, id=ids.free(document.id))


class Ids:
    """Ids that were given away, so that none is used twice."""

    def __init__(self) -> None:
        self._given: set[str] = set()
        self._numbers: dict[str, int] = {}

    def free(self, id: str) -> str:
        """Return `id`, or where it is taken already the first of `id#2`, `id#3`, ... that is free."""
        found = id
        while found in self._given:
            self._numbers[id] = self._numbers.get(id, 1) + 1
            found = f"{id}#{self._numbers[id]}"
        self._given.add(found)
        return found
