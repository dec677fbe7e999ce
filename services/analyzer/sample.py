"""The one accumulator of text: a bottom-k sample of clusters. Knows documents and words, no metric.

Clusters are ordered by a keyed hash of their names, documents inside a cluster by a keyed hash of their text. The
first clusters of that order are kept until the largest rung is full; merging in any order and any grouping therefore
gives equal bits, and memory is bounded by the largest rung. Cluster number r of the order belongs to jackknife group
r % 20: corpora with the same prompts have the same clusters in the same groups, and the groups are even. (Taking hash
% 20 instead fills a rung of 0.69 of an 800 document corpus of windows, and of 0.13 of 90 wiki articles; r % 20 fills
0.91 and 0.41.)
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ouroscope.records.documents import Document, View
from services.analyzer import tokens
from services.analyzer.distinct import DistinctCount
from services.analyzer.jackknife import GROUPS
from services.analyzer.keys import cluster_key, text_key
from services.analyzer.lexicon import Lexicon

LADDER = (10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
"""Token budgets at which everything is measured."""

_SPARE = 2
# Kept beyond the largest rung, since groups of whole clusters are never quite even.

Words = npt.NDArray[np.int32]


def words_per_group(budget: int) -> int:
    """Return how many words each group gives at a rung: a replicate, 19 groups, has `budget` words or a few more."""
    return -(-budget // (GROUPS - 1))


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a corpus keeps for measuring: words by group, in the order of sampling. N words and D documents are kept."""

    budgets: tuple[int, ...]
    documents: int
    """Documents of the whole corpus."""
    tokens: int
    """Words of the whole corpus."""
    clusters: int
    """Clusters of the whole corpus; estimated above `distinct.EXACT_LIMIT`."""
    lexicon: Lexicon
    """Words by id; ids follow the order of first appearance in the sample."""
    words_N: Words
    documents_N: Words
    """Position in `texts` of the document that each word stands in."""
    group_starts: tuple[int, ...]
    """Where each group begins, and N: 21 numbers."""
    texts: tuple[str, ...]
    """Composed texts of the kept documents, in their own case."""
    lengths_D: Words
    """Words of each kept document, at most one group's share of the largest rung."""
    clusters_D: Words
    """Number of the cluster of each kept document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What an accumulator holds, to be merged elsewhere; in an order that its content alone decides."""

    view: View
    budgets: tuple[int, ...]
    documents: int
    tokens: int
    names: tuple[int, ...]
    """Hashes of clusters, as `DistinctCount` keeps them."""
    clusters: tuple[int, ...]
    """Kept clusters, those without a word as well: they hold their place in the order."""
    kept: tuple[Kept, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A kept document of a cluster."""

    cluster: int
    place: int
    """Place of the text within the cluster, a 128-bit number."""
    words: int
    text: str


class Accumulator:
    """Folds documents in, merges with others of its kind, and finalises to a `Sample`."""

    def __init__(self, view: View = View.WHOLE, budgets: tuple[int, ...] = LADDER) -> None:
        self._view = view
        self._budgets = budgets
        self._share = words_per_group(budgets[-1])
        self._documents = 0
        self._tokens = 0
        self._names = DistinctCount()
        self._kept: dict[int, _Cluster] = {}
        self._last: list[int] = []  # negated keys of the kept clusters, a heap with the last cluster on top
        self._weight = 0

    @property
    def documents(self) -> int:
        """Return how many documents were folded in."""
        return self._documents

    @property
    def tokens(self) -> int:
        """Return how many words the documents had."""
        return self._tokens

    def fold(self, document: Document) -> list[str]:
        """Take in one document and return its words. One without words is counted and otherwise ignored."""
        text = document.visible(self._view)
        composed = tokens.compose(text)
        words = tokens.words(composed)
        count = len(words)
        place = text_key(text)
        name = document.group or document.prompt_id
        # Exact copies of a text that say nothing of their source are one cluster, whatever their ids are.
        cluster = cluster_key(name if name else f"text/{place:032x}")
        self._documents += 1
        self._tokens += count
        self._names.add((cluster,))
        if self._has_room(cluster):
            kept = [_Kept(-place, min(count, self._share), self._short(composed, count))] if count else []
            self._insert(cluster, kept)
            self._evict()
        return words

    def fold_all(self, documents: Iterable[Document]) -> Accumulator:
        """Take in all of `documents`; return self."""
        for document in documents:
            self.fold(document)
        return self

    def merge(self, other: Accumulator) -> Accumulator:
        """Take in what `other`, of the same view and budgets, has seen; return self."""
        self._documents += other._documents
        self._tokens += other._tokens
        self._names.merge(other._names)
        for key, cluster in other._kept.items():
            self._insert(key, cluster.documents)
        self._evict()
        return self

    def state(self) -> State:
        """Return what it holds; `of_state` makes an equal accumulator of it."""
        ranked = sorted(self._kept)
        return State(
            view=self._view,
            budgets=self._budgets,
            documents=self._documents,
            tokens=self._tokens,
            names=self._names.kept(),
            clusters=tuple(ranked),
            kept=tuple(
                Kept(cluster=key, place=-kept.negated_place, words=kept.words, text=kept.text)
                for key in ranked
                for kept in sorted(self._kept[key].documents, reverse=True)
            ),
        )

    @classmethod
    def of_state(cls, state: State) -> Accumulator:
        """Return an accumulator that goes on where another one was."""
        found = cls(state.view, state.budgets)
        found._documents, found._tokens = state.documents, state.tokens
        found._names.add(state.names)
        for key in state.clusters:
            found._insert(key, ())
        for kept in state.kept:
            found._insert(kept.cluster, [_Kept(-kept.place, kept.words, kept.text)])
        found._evict()
        return found

    def finalise(self) -> Sample:
        """Return the sample; the accumulator may be folded into further."""
        ids: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        words: list[int] = []
        kept: list[_Placed] = []
        starts = [0]
        ranked = sorted(self._kept)
        for group in range(GROUPS):
            for placed in self._of_group(group, ranked):
                words.extend([ids[word] for word in tokens.words(placed.text)[: placed.words]])
                kept.append(placed)
            starts.append(len(words))
        return Sample(
            budgets=self._budgets,
            documents=self._documents,
            tokens=self._tokens,
            clusters=self._names.count(),
            lexicon=Lexicon(tuple(ids)),
            words_N=np.array(words, dtype=np.int32),
            documents_N=np.repeat(np.arange(len(kept), dtype=np.int32), [placed.words for placed in kept]),
            group_starts=tuple(starts),
            texts=tuple(placed.text for placed in kept),
            lengths_D=np.array([placed.length for placed in kept], dtype=np.int32),
            clusters_D=np.array([placed.cluster for placed in kept], dtype=np.int32),
        )

    def _of_group(self, group: int, ranked: list[int]) -> Iterator[_Placed]:
        """Yield the documents of every 20th cluster until the group has its share of the largest rung."""
        room = self._share
        for rank in range(group, len(ranked), GROUPS):
            for document in sorted(self._kept[ranked[rank]].documents, reverse=True):
                if room <= 0:
                    return
                yield _Placed(rank, min(document.words, room), document.words, document.text)
                room -= document.words

    def _short(self, composed: str, count: int) -> str:
        if count > self._share:
            composed = tokens.first_words(composed, self._share)
        # A few words in a megabyte of symbols would escape the bound on memory: then only the words are kept.
        return composed if len(composed) <= tokens.LONGEST_WORD * (count + 1) else " ".join(tokens.words(composed))

    def _has_room(self, key: int) -> bool:
        return self._weight < self._limit or key in self._kept or key < -self._last[0]

    @property
    def _limit(self) -> int:
        return _SPARE * GROUPS * self._share

    def _insert(self, key: int, documents: Iterable[_Kept]) -> None:
        if key not in self._kept:
            self._kept[key] = _Cluster()
            self._weight += self._kept[key].weight(self._share)
            heapq.heappush(self._last, -key)
        cluster = self._kept[key]
        self._weight -= cluster.weight(self._share)
        for document in documents:
            cluster.add(document, self._share)
        self._weight += cluster.weight(self._share)

    def _evict(self) -> None:
        """Drop the last clusters that are not needed to reach the limit.

        What stays depends on the set of documents alone: a dropped cluster has enough weight before it, and weights
        only grow.
        """
        while self._last:
            spare = self._kept[-self._last[0]].weight(self._share)
            if self._weight - spare < self._limit:
                return
            self._weight -= spare
            del self._kept[-heapq.heappop(self._last)]


@dataclass(frozen=True, slots=True, order=True)
class _Kept:
    """A document in a cluster's heap; the one that comes last in the cluster is the smallest."""

    negated_place: int
    words: int
    text: str


@dataclass(frozen=True, slots=True)
class _Placed:
    """A document in the sample: the first `words` of its `length` words belong to it."""

    cluster: int
    words: int
    length: int
    text: str


@dataclass(slots=True)
class _Cluster:
    """The first documents of one cluster, as many as one group can use."""

    documents: list[_Kept] = field(default_factory=list)
    words: int = 0

    def add(self, document: _Kept, share: int) -> None:
        heapq.heappush(self.documents, document)
        self.words += document.words
        while self.words - self.documents[0].words >= share:
            self.words -= heapq.heappop(self.documents).words

    def weight(self, share: int) -> int:
        # At least 1, so that clusters without a word (they keep their rank, for pairing) are bounded as well.
        return max(1, min(self.words, share))
