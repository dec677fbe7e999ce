"""The four data cycles of Briesch et al., arXiv 2311.16822 (2023), each with a share of fresh human documents.

The paper varies how much of each round is generated (lambda here `synthetic_fraction`) and how much is fresh
(`human_fraction`). The formulas of the incremental and the expanding cycle are our reading of it: they agree with what
it reports (diversity lost after 50 generations: full all, incremental 68 %, balanced 30 %, expanding 22 %), but its own
formulas were not at hand. Documents are drawn anew in every round; the shares are those of the cycle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise

from ouroscope.records.artifacts import ArtifactRef
from services.coordinator.protocols.pools import Pools, Terms, TrainingSet

Pool = tuple[ArtifactRef, ...]


def cycle_full(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = (1 - f) n documents of D_j + f n fresh human ones, f `human_fraction`.

    Reason: without fresh documents everything synthetic replaces everything; the worst of the four.

    Source: the full synthetic data cycle of Briesch et al., arXiv 2311.16822 (2023).
    """
    fresh = terms.human_fraction
    return _portions([(pools.written(-1), 1 - fresh), (pools.human[-1:], fresh)], terms)


def cycle_balanced(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = equal parts of H_0, D_0, ..., D_j, together (1 - f) n documents, + f n fresh human ones.

    f is `human_fraction`. Unlike in `accumulate-subsample`, the parts are equal exactly and not on average.

    Reason: old generations keep as much weight as the newest.

    Source: the balanced data cycle of Briesch et al., arXiv 2311.16822 (2023).
    """
    fresh = terms.human_fraction
    parts = [pools.human[:1], *(pools.written(j) for j in range(len(pools.synthetic)))]
    shares = [(part, (1 - fresh) / len(parts)) for part in parts]
    return _portions([*shares, (pools.human[-1:], fresh)], terms)


def cycle_incremental(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = (1 - lambda - f) of T_(j-1) + lambda n documents of D_j + f n fresh human ones; T_(-1) = H_0.

    lambda is `synthetic_fraction`, f `human_fraction`; together at most 1. The size stays n, so the share of what is
    old falls by the same factor in every round.

    Reason: a collection of fixed size, in which newer text takes the place of older.

    Source: the incremental data cycle of Briesch et al., arXiv 2311.16822 (2023); the formula is our reading.
    """
    kept = max(0.0, 1 - terms.synthetic_fraction - terms.human_fraction)
    rounds = len(pools.synthetic)
    old = [(pools.human[:1], kept**rounds)]
    return _portions(old + [(pool, part * kept ** (rounds - 1 - j)) for j, pool, part in _new(pools, terms)], terms)


def cycle_expanding(pools: Pools, terms: Terms) -> TrainingSet:
    """T_j = T_(j-1) + lambda n documents of D_j + f n fresh human ones; T_(-1) = H_0.

    lambda is `synthetic_fraction`, f `human_fraction`. Nothing is ever left out, so the set grows; the number of steps
    does not. Fresh documents of round 0 are part of H_0 already.

    Reason: a collection that is only added to; the mildest of the four.

    Source: the expanding data cycle of Briesch et al., arXiv 2311.16822 (2023); the formula is our reading.
    """
    first = pools.human[:1]
    later = [(pool, part) for j, pool, part in _new(pools, terms) if (j, pool) != (0, first)]
    return _portions([(first, 1.0), *later], terms)


def _new(pools: Pools, terms: Terms) -> Iterator[tuple[int, Pool, float]]:
    """Yield (round, pool, share of n) of all that came in."""
    for j, human in enumerate(pools.human):
        yield j, pools.written(j), terms.synthetic_fraction
        yield j, (human,), terms.human_fraction


def _portions(shares: Iterable[tuple[Pool, float]], terms: Terms) -> TrainingSet:
    """Turn shares of n into counts; their sums are rounded and not the shares, so that all counts add up."""
    merged: dict[Pool, float] = {}
    for pool, share in shares:
        merged[pool] = merged.get(pool, 0.0) + share
    ends = [round(total * terms.documents) for total in accumulate(merged.values())]
    counts = [end - begin for begin, end in pairwise((0, *ends))]
    return tuple(p for pool, count in zip(merged, counts, strict=True) for p in terms.drawn(count, *pool))
