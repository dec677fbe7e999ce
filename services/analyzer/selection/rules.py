"""What each rule makes of a pool: an order in which documents are taken. Pure; knows no text and no store.

To see all rules, read `RULES`; what each looks at in a document is in `measures`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ouroscope.errors import LimitExceeded
from ouroscope.records.selection import SelectionOrder, SelectionRule, SelectionSpec
from services.analyzer.selection.candidate import Candidate
from services.analyzer.selection.draws import place, uniform

MOST_ENTRIES = 5_000_000
"""Times that documents of one pool may be taken: some 150 bytes of memory each."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One time that a document may be taken; the smallest entries are."""

    rank: float
    tie: int
    """Breaks ties by chance."""
    index: int
    """Of the candidate."""


Pool = Sequence[Candidate]
Rule = Callable[[Pool, SelectionSpec, int], list[Entry]]


def random(pool: Pool, spec: SelectionSpec, seed: int) -> list[Entry]:
    """Take documents uniformly, without replacement.

    Source: accumulate-subsample of Kazdan et al., arXiv 2410.16713 (2024); RANDOM in the code of arXiv 2410.12341.
    """
    return [_by_chance(pool, index, seed) for index in range(len(pool))]


def ranking(pool: Pool, spec: SelectionSpec, seed: int) -> list[Entry]:
    """Take the highest values first, or the lowest.

    The highest k and the lowest n - k of the same n values are all of them, ties included.

    Source: arXiv 2410.12341, version 3 (surplexity, text entropy); arXiv 2610.01493 (entropy rate).
    """
    sign = 1 if spec.order is SelectionOrder.LOWEST else -1
    return [
        Entry(sign * one.value, sign * place(seed, one.name, "place"), index)
        for index, one in enumerate(pool)
        if one.value is not None
    ]


def valued(pool: Pool, spec: SelectionSpec, seed: int) -> list[Entry]:
    """Take documents uniformly of those that have a value: the first of each cluster of near copies.

    Source: Lee et al. (2022), Deduplicating training data makes language models better.
    """
    return [_by_chance(pool, index, seed) for index, one in enumerate(pool) if one.value is not None]


def resampled(pool: Pool, spec: SelectionSpec, seed: int) -> list[Entry]:
    """Take documents again and again, each time with a chance of (1 - p)^exponent, one at most `repeats` times.

    Source: Drayson et al., Machine-generated text detection prevents language model collapse, EMNLP 2025.

    Raises:
        LimitExceeded: there are too many documents and repeats.
    """
    if len(pool) * spec.repeats > MOST_ENTRIES:
        raise LimitExceeded(f"documents times repeats may be {MOST_ENTRIES} at most; lower repeats")
    return [
        Entry(rank, place(seed, one.name, "place"), index)
        for index, one in enumerate(pool)
        for rank in itertools.islice(_arrivals(one, spec, seed), spec.repeats)
    ]


def verified(pool: Pool, spec: SelectionSpec, seed: int) -> list[Entry]:
    """Take documents uniformly of those that a verifier keeps: right ones and wrong ones at different rates.

    Right are all human documents, and of the synthetic ones those nearest to the real continuation.

    Source: Feng et al., Beyond model collapse, arXiv 2406.07515 (2024).
    """
    right = _right(pool, spec, seed)
    return [
        _by_chance(pool, index, seed)
        for index, one in enumerate(pool)
        if one.value is not None
        and uniform(seed, one.name, "verifier") < (spec.keep_right if index in right else spec.keep_wrong)
    ]


RULES: Mapping[SelectionRule, Rule] = MappingProxyType(
    {
        SelectionRule.RANDOM: random,
        SelectionRule.SURPLEXITY: ranking,
        SelectionRule.TEXT_ENTROPY: ranking,
        SelectionRule.ENTROPY_RATE: ranking,
        SelectionRule.NEAR_DUPLICATES: valued,
        SelectionRule.DETECTOR: resampled,
        SelectionRule.VERIFIER: verified,
    }
)


def _by_chance(pool: Pool, index: int, seed: int) -> Entry:
    return Entry(0.0, place(seed, pool[index].name, "place"), index)


def _arrivals(one: Candidate, spec: SelectionSpec, seed: int) -> Iterator[float]:
    """Yield the logarithms of the times at which a document is drawn; none if its weight is 0.

    Draws with replacement in proportion to weights are the first of independent Poisson processes with these rates.
    So no draw depends on the order of the documents, and one that has been drawn often enough drops out by itself.
    """
    if one.value is None or (one.value >= 1 and spec.exponent > 0):
        return
    # A logarithm, since (1 - p)^exponent may be too small for a float.
    weight = spec.exponent * math.log1p(-one.value) if spec.exponent > 0 else 0.0
    waited = 0.0
    for number in itertools.count():
        waited -= math.log(uniform(seed, one.name, "draw", number))
        yield math.log(waited) - weight


def _right(pool: Pool, spec: SelectionSpec, seed: int) -> set[int]:
    """Return which documents are right."""
    synthetic = [
        Entry(-one.value, place(seed, one.name, "right"), index)
        for index, one in enumerate(pool)
        if not one.human and one.value is not None
    ]
    nearest = sorted(synthetic)[: round(spec.right_share * len(synthetic))]
    return {index for index, one in enumerate(pool) if one.human} | {entry.index for entry in nearest}
