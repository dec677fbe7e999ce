"""A sample cut to one token budget: the arrays from which every text and network metric is computed.

Shapes: N = words at this rung, V = vocabulary of the sample, K = jackknife groups (20, or 1 where no interval is
possible).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from services.analyzer.jackknife import GROUPS
from services.analyzer.lexicon import Lexicon
from services.analyzer.sample import Sample, Words, words_per_group

LOWER = (500, 1_000, 2_000, 5_000)
"""Budgets below the ladder: small corpora can be put side by side there. They are too small for a verdict."""
_WORTH_AN_INTERVAL = 1_000
# Below the ladder: words at which an even cut is preferred to measuring everything without an interval.

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RungSample:
    """Words of one rung. Each group has the same number of words, so every replicate (all groups but one) has too."""

    budget: int
    """Nominal words of a replicate; of the whole rung where there is no interval."""
    clusters: int
    groups: int
    """K: 20 with replicates, 1 without."""
    lexicon: Lexicon
    words_N: Words
    documents_N: Words
    groups_N: Words
    lengths_D: Words
    """Full length of each document that has a word here, in words."""
    texts: tuple[str, ...]
    """Composed text of each document that has a word here."""
    places_D: Words
    """Position in the sample of each document that has a word here, rising; the same in all rungs."""
    used_D: Words
    """Words of each of them that belong to this rung: its first ones."""

    @cached_property
    def groups_D(self) -> Words:
        """Return the group of each document that has a word here; they rise."""
        return self.groups_N[np.cumsum(self.used_D) - 1]

    @property
    def replicated(self) -> bool:
        """Return whether values get replicates and an interval."""
        return self.groups > 1

    def counts_VK(self) -> Counts:
        """Count how often each word stands in each group; not kept, as it is the largest table of a rung."""
        cells = self.words_N.astype(np.int64) * self.groups + self.groups_N
        flat = np.bincount(cells, minlength=len(self.lexicon) * self.groups)
        return flat.reshape(len(self.lexicon), self.groups).astype(np.int64)

    def leave_one_out(self, by_group: npt.ArrayLike) -> Counts:
        """Return totals without group g for each g, from values by group on the last axis; else the one total."""
        values = np.asarray(by_group)
        total: Counts = values.sum(axis=-1, keepdims=True)
        return total - values if self.replicated else total


def ladder(sample: Sample) -> tuple[RungSample, ...]:
    """Return the rungs that every group of the sample fills, in rising order; lower rungs if it fills none.

    Those are the fixed ones that it fills, and a last one where the smallest group ends. Where a group is empty or
    nearly so (fewer than 20 clusters, or one that is far shorter than the rest), or too short for the least fixed rung
    though the sample is not, it has all words and no replicates, and neither have the lower rungs. A sample without
    words has no rung.
    """
    shares = np.diff(sample.group_starts)
    smallest, total = int(shares.min()), int(shares.sum())
    reached = [budget for budget in sample.budgets if words_per_group(budget) <= smallest]
    if reached:
        return tuple(_cut(sample, budget, words_per_group(budget)) for budget in reached)
    even = (GROUPS - 1) * smallest
    misses_all = even < LOWER[0] < total
    if even > 0 and even >= min(_WORTH_AN_INTERVAL, total / 2) and not misses_all:
        return (*_lower(sample, smallest, even), _cut(sample, even, smallest))
    return (*_uneven(sample, total), _whole(sample, total)) if total else ()


def _lower(sample: Sample, smallest: int, even: int) -> Iterator[RungSample]:
    """Yield the fixed rungs below the ladder, and below `even`, that every group fills."""
    for budget in LOWER:
        if budget < min(even, *sample.budgets) and words_per_group(budget) <= smallest:
            yield _cut(sample, budget, words_per_group(budget))


def _uneven(sample: Sample, total: int) -> Iterator[RungSample]:
    """Yield the fixed rungs below the ladder, and below `total`, without groups: a value is one of `budget` words."""
    places_N = np.arange(total) - np.repeat(sample.group_starts[:-1], np.diff(sample.group_starts))
    by_place_N = np.argsort(places_N, kind="stable")  # the first word of every group, then the second of every one
    for budget in LOWER:
        if budget < min(total, *sample.budgets):
            yield _rung(sample, budget, np.sort(by_place_N[:budget]), np.zeros(budget, dtype=np.int32), 1)


def _cut(sample: Sample, budget: int, share: int) -> RungSample:
    taken = np.concatenate([np.arange(start, start + share) for start in sample.group_starts[:-1]])
    groups = np.repeat(np.arange(GROUPS, dtype=np.int32), share)
    return _rung(sample, budget, taken, groups, GROUPS)


def _whole(sample: Sample, total: int) -> RungSample:
    return _rung(sample, total, np.arange(total), np.zeros(total, dtype=np.int32), 1)


def _rung(sample: Sample, budget: int, taken: npt.NDArray[np.int64], groups: Words, count: int) -> RungSample:
    # Documents lie one after the other, so each begins where the number changes.
    begins = np.diff(sample.documents_N[taken], prepend=-1) > 0
    used = sample.documents_N[taken][begins]
    return RungSample(
        budget=budget,
        clusters=len(np.unique(sample.clusters_D[used])),
        groups=count,
        lexicon=sample.lexicon,
        words_N=sample.words_N[taken],
        documents_N=np.cumsum(begins, dtype=np.int32) - 1,
        groups_N=groups,
        lengths_D=sample.lengths_D[used],
        texts=tuple(sample.texts[document] for document in used),
        places_D=used,
        used_D=np.diff(np.flatnonzero(begins), append=len(taken)).astype(np.int32),
    )
