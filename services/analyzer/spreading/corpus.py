"""A corpus that an executor reads, shard by shard, instead of the process that asks.

Every shard becomes a part in a draft of the store, named by the digest of the shard; parts are merged eight by eight,
also by the executor, until one is left. So the process that asks holds one part and a list of names, whatever the size
of the corpus, and work that is asked for again finds the shards that were done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from ouroscope.canonical import digest_of
from ouroscope.errors import NotFound, Unavailable
from ouroscope.executor import Executor
from ouroscope.records.analysis import CountingSpec
from ouroscope.records.documents import View
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.store.sharing import shared_url
from services.analyzer.catalogue import ANALYZER_VERSION
from services.analyzer.folded import Folded
from services.analyzer.reading import Chosen
from services.analyzer.spreading.parts import FORMAT, Part, decode, encode
from services.analyzer.spreading.shards import Shard
from services.analyzer.watch import Watch

log = structlog.get_logger(__name__)

MERGED_AT_ONCE = 8
"""Parts that become one: each has a few megabytes, some ten of them in memory."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where parts are written, and what is looked at; the same for all shards of one corpus."""

    store: str
    """URL."""
    draft: str
    view: View
    domain: str
    counting: CountingSpec | None = None

    def begin(self) -> Folded:
        """Return a stretch of the corpus without a document."""
        return Folded.empty(self.view, self.counting)


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker tells of a part that it wrote."""

    name: str
    documents: int
    found: bool
    others: tuple[str, ...]
    known: bool
    """Whether it was there already."""


@dataclass(slots=True)
class SpreadCorpus:
    """Shards that lie where the workers of an executor can read them."""

    store: ArtifactStore
    shards: Sequence[Shard]
    executor: Executor
    request: str
    """Digest of what is asked: names the draft, so that two requests never share one."""
    done: int = field(default=0, init=False)
    """Shards that were finished before, by work that was interrupted."""

    def fold(self, view: View, chosen: Chosen, watch: Watch, counting: CountingSpec | None = None) -> Folded:
        """Return what all documents of the domain give; tell `chosen` what was found.

        Raises:
            PreconditionFailed: workers cannot reach the store, or do not see the corpus.
            Unavailable: the cluster was lost, or another process has finished the same request meanwhile.
        """
        place = self._place(view, chosen.domain, counting)
        try:
            names = self._read(place, chosen, watch)
            while len(names) > 1:
                names = list(self._map(functools.partial(merge_parts, place), _eights(names), watch))
            draft = self.store.draft(place.draft)
            merged = decode(draft.read(names[0])).folded
        except NotFound as error:
            raise Unavailable("another worker has finished and discarded this draft; repeat the request") from error
        draft.discard()
        log.info("corpus.folded", shards=len(self.shards), done_before=self.done, documents=merged.text.documents)
        return merged

    def _place(self, view: View, domain: str, counting: CountingSpec | None) -> Place:
        key = digest_of("read", self.request, list(self.shards), view, domain, counting, FORMAT, ANALYZER_VERSION)
        return Place(store=shared_url(self.store), draft=f"read-{key}", view=view, domain=domain, counting=counting)

    def _read(self, place: Place, chosen: Chosen, watch: Watch) -> list[str]:
        names: list[str] = []
        documents = 0
        for told in self._map(functools.partial(fold_shard, place), enumerate(self.shards), watch):
            names.append(told.name)
            documents += told.documents
            self.done += told.known
            chosen.hear(told.found, told.others)
            watch.on_progress(Progress(stage="reading", done=documents, unit="documents"))
        return names

    def _map(self, work: Callable[[T], R], items: Iterable[T], watch: Watch) -> Iterator[R]:
        with closing(self.executor.map(work, items)) as answers:
            for answer in answers:
                watch.check()
                yield answer


def fold_shard(place: Place, numbered: tuple[int, Shard]) -> Told:
    """Read a shard and write its part, unless it is there; runs on a worker."""
    number, shard = numbered
    store = ArtifactStore(place.store)
    draft, name = store.draft(place.draft), f"{number:07d}-{shard.digest()}.parquet"
    if draft.has(name):
        return _told(name, decode(draft.read(name)), known=True)
    chosen = Chosen(place.domain)
    folded = place.begin().fold_all(chosen.of(shard.documents(store)))
    part = Part(folded, chosen.found, chosen.others)
    draft.write(name, encode(part))
    return _told(name, part, known=False)


def merge_parts(place: Place, names: Sequence[str]) -> str:
    """Merge parts and return the name of the one they become; runs on a worker."""
    name = f"{digest_of('merged', names)}.parquet"
    draft = ArtifactStore(place.store).draft(place.draft)
    if not draft.has(name):
        folded = place.begin()
        for each in names:
            folded.merge(decode(draft.read(each)).folded)
        draft.write(name, encode(Part(folded, found=True, others=())))
    return name


def _told(name: str, part: Part, *, known: bool) -> Told:
    return Told(name, part.folded.text.documents, part.found, part.others, known)


def _eights(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), MERGED_AT_ONCE):
        yield names[first : first + MERGED_AT_ONCE]
