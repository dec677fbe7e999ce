"""Metrics relative to a baseline, and the shift guard that rests on two of them. Expected values by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.errors import Undefined
from ouroscope.records.analysis import Policy, VerdictReason
from services.analyzer.fingerprint import Fingerprint
from services.analyzer.jackknife import GROUPS
from services.analyzer.relative import (
    central_overlap,
    edge_overlap,
    node_overlap,
    novelty,
    own_novelty,
    relative_metrics,
    tail_coverage,
    vocabulary_coverage,
)
from services.analyzer.shift import Shift, not_covered

EVERYWHERE = (1,) * GROUPS
ALL_GROUPS = (1 << GROUPS) - 1


def only_in(group: int, times: int = 1) -> tuple[int, ...]:
    return tuple(times if g == group else 0 for g in range(GROUPS))


def words(
    counts: Mapping[int, Sequence[int]],
    nodes: Mapping[int, int] | None = None,
    edges: Mapping[int, int] | None = None,
    edges_to: int = 2**64 - 1,
    central: Sequence[int] = (),
) -> Fingerprint:
    """Make the fingerprint of a corpus whose word with hash h occurs `counts[h]` times by group."""
    nodes, edges, ranked = nodes or {}, edges or {}, sorted(counts)
    return Fingerprint(
        budget=10_000,
        types_V=np.array(ranked, dtype=np.uint64),
        counts_VK=np.array([counts[h] for h in ranked], dtype=np.int32).reshape(len(ranked), GROUPS),
        nodes_n=np.array(sorted(nodes), dtype=np.uint64),
        node_mask_n=np.array([nodes[h] for h in sorted(nodes)], dtype=np.uint32),
        edges_E=np.array(sorted(edges), dtype=np.uint64),
        edge_mask_E=np.array([edges[h] for h in sorted(edges)], dtype=np.uint32),
        edges_to=np.uint64(edges_to),
        central_C=np.array(central, dtype=np.uint64),
    )


tables = st.dictionaries(st.integers(0, 30), st.tuples(*[st.integers(0, 3)] * GROUPS), min_size=1, max_size=12).map(
    lambda counts: {**counts, 99: (2,) * GROUPS}
)


@given(tables)
def test_nothing_in_a_corpus_is_new_to_itself_and_it_covers_itself(counts: dict[int, tuple[int, ...]]) -> None:
    corpus = words(counts)
    assert set(novelty(corpus, corpus)) == {0.0}
    assert set(vocabulary_coverage(corpus, corpus)) == {1.0}
    assert set(tail_coverage(corpus, corpus)) == {1.0}


@given(tables, tables)
def test_shares_lie_between_nothing_and_all(
    ours: dict[int, tuple[int, ...]], theirs: dict[int, tuple[int, ...]]
) -> None:
    for value in relative_metrics(words(ours), words(theirs)):
        assert all(0 <= replicate <= 1 for replicate in value.replicates)


@given(tables, tables, st.randoms())
def test_groups_left_out_are_the_same_groups_on_both_sides(
    ours: dict[int, tuple[int, ...]], theirs: dict[int, tuple[int, ...]], random: object
) -> None:
    order = list(range(GROUPS))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    shuffled = [words({h: [c[g] for g in order] for h, c in side.items()}) for side in (ours, theirs)]
    straight = novelty(words(ours), words(theirs))
    assert novelty(*shuffled) == tuple(straight[g] for g in order)


def test_novelty_by_hand() -> None:
    # Without any group 19 tokens of a known type and 19 of a new one are left.
    baseline, candidate = words({1: EVERYWHERE}), words({1: EVERYWHERE, 2: EVERYWHERE})
    assert novelty(baseline, candidate) == (0.5,) * GROUPS


def test_a_type_that_only_the_missing_group_of_the_baseline_knew_is_new_without_it() -> None:
    baseline, candidate = words({1: EVERYWHERE, 2: only_in(3)}), words({1: EVERYWHERE, 2: EVERYWHERE})
    assert [share for g, share in enumerate(novelty(baseline, candidate)) if share] == [0.5]
    assert novelty(baseline, candidate)[3] == 0.5


def test_own_novelty_by_hand() -> None:
    # Type 2 stands in groups 0 and 1, so it is of one group only in replicates 0 and 1: 1 of 20 tokens there.
    # Type 3 stands in group 5 alone: 1 token in all replicates but 5.
    corpus = words({1: EVERYWHERE, 2: tuple(int(g < 2) for g in range(GROUPS)), 3: only_in(5)})
    shares = own_novelty(corpus)
    assert shares[0] == pytest.approx(2 / 21)
    assert shares[5] == 0.0
    assert shares[9] == pytest.approx(1 / 22)


def test_coverage_counts_types_and_not_tokens() -> None:
    baseline = words({1: tuple(9 * c for c in EVERYWHERE), 2: EVERYWHERE, 3: EVERYWHERE, 4: EVERYWHERE})
    assert vocabulary_coverage(baseline, words({1: EVERYWHERE})) == (0.25,) * GROUPS


def test_the_tail_is_the_rarer_half() -> None:
    # Counts 19, 19, 38, 171 without a group: the median is 28.5, so the tail is types 1 and 2.
    baseline = words({1: EVERYWHERE, 2: EVERYWHERE, 3: (2,) * GROUPS, 4: (9,) * GROUPS})
    assert tail_coverage(baseline, words({2: EVERYWHERE, 3: EVERYWHERE, 4: EVERYWHERE})) == (0.5,) * GROUPS
    assert tail_coverage(baseline, words({3: EVERYWHERE, 4: EVERYWHERE})) == (0.0,) * GROUPS


def test_overlap_of_nodes_is_jaccard() -> None:
    ours = words({1: EVERYWHERE}, nodes={1: ALL_GROUPS, 2: ALL_GROUPS, 3: ALL_GROUPS})
    theirs = words({1: EVERYWHERE}, nodes={2: ALL_GROUPS, 3: 1 << 7, 4: ALL_GROUPS})
    shares = node_overlap(ours, theirs)
    assert shares[0] == 0.5
    assert shares[7] == 0.25  # node 3 of the candidate is gone without group 7


def test_edges_beyond_the_smaller_bound_are_left_out() -> None:
    ours = words({1: EVERYWHERE}, edges={10: ALL_GROUPS, 20: ALL_GROUPS}, edges_to=20)
    theirs = words({1: EVERYWHERE}, edges={10: ALL_GROUPS, 30: ALL_GROUPS})
    assert edge_overlap(ours, theirs) == (0.5,) * GROUPS


def test_central_overlap_heeds_the_order() -> None:
    straight = words({1: EVERYWHERE}, central=range(100))
    swapped_high = words({1: EVERYWHERE}, central=[1, 0, *range(2, 100)])
    swapped_low = words({1: EVERYWHERE}, central=[*range(98), 99, 98])
    assert central_overlap(straight, straight) == pytest.approx(1.0)
    assert central_overlap(straight, swapped_high) < central_overlap(straight, swapped_low) < 1
    # One of two in common at depth 1 (none) and 2 (all): p^2 + (1 - p) / p * p^2 = p.
    pair = central_overlap(words({1: EVERYWHERE}, central=[1, 2]), words({1: EVERYWHERE}, central=[2, 1]))
    assert pair == pytest.approx(0.98)


def test_an_empty_network_has_no_overlap_and_says_why() -> None:
    corpus = words({1: EVERYWHERE})
    with pytest.raises(Undefined):
        node_overlap(corpus, corpus)
    undefined = {value.id for value in relative_metrics(corpus, corpus) if value.undefined_because}
    assert undefined == {
        "cooccurrence_node_overlap",
        "cooccurrence_edge_overlap",
        "cooccurrence_central_overlap",
    }


def test_the_guard_closes_on_what_exceeds_the_own_novelty_of_the_baseline() -> None:
    policy = Policy(max_novel_token_share=0.03)
    assert not Shift(share=0.26, expected=0.25).leaves_domain(policy)
    shift = Shift(share=0.16, expected=0.11)
    assert shift.leaves_domain(policy)
    judged = not_covered(shift)
    assert judged.reason is VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN
    assert "16%" in judged.sentence
    assert "11%" in judged.sentence
