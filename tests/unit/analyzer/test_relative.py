"""Metrics relative to a baseline, and the shift guard that rests on two of them. Expected values by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from scipy.spatial.distance import jensenshannon

from ouroscope.errors import CorruptArtifact, Undefined
from ouroscope.records.analysis import Policy, VerdictReason
from services.analyzer.fingerprint import Fingerprint, NetworkPrint, from_bytes, to_bytes
from services.analyzer.jackknife import GROUPS
from services.analyzer.network.edges import CONSTRUCTIONS
from services.analyzer.relative import (
    central_overlap,
    edge_overlap,
    node_overlap,
    novelty,
    own_novelty,
    pos_divergence,
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
    networks: Mapping[str, NetworkPrint] | None = None,
    parts_of_speech: Sequence[Sequence[int]] | None = None,
) -> Fingerprint:
    """Make the fingerprint of a corpus whose word with hash h occurs `counts[h]` times by group."""
    ranked = sorted(counts)
    return Fingerprint(
        budget=10_000,
        types_V=np.array(ranked, dtype=np.uint64),
        counts_VK=np.array([counts[h] for h in ranked], dtype=np.int32).reshape(len(ranked), GROUPS),
        networks=networks or {},
        parts_of_speech_PK=None if parts_of_speech is None else np.array(parts_of_speech, dtype=np.int32),
    )


def network(
    nodes: Mapping[int, int] | None = None,
    edges: Mapping[int, int] | None = None,
    edges_to: int = 2**64 - 1,
    central: Sequence[int] = (),
) -> NetworkPrint:
    """Make the print of a network from hashes and the groups in which each occurs."""
    nodes, edges = nodes or {}, edges or {}
    return NetworkPrint(
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
    ours = network(nodes={1: ALL_GROUPS, 2: ALL_GROUPS, 3: ALL_GROUPS})
    theirs = network(nodes={2: ALL_GROUPS, 3: 1 << 7, 4: ALL_GROUPS})
    shares = node_overlap(ours, theirs)
    assert shares[0] == 0.5
    assert shares[7] == 0.25  # node 3 of the candidate is gone without group 7


def test_edges_beyond_the_smaller_bound_are_left_out() -> None:
    ours = network(edges={10: ALL_GROUPS, 20: ALL_GROUPS}, edges_to=20)
    theirs = network(edges={10: ALL_GROUPS, 30: ALL_GROUPS})
    assert edge_overlap(ours, theirs) == (0.5,) * GROUPS


def test_central_overlap_heeds_the_order() -> None:
    straight = network(central=range(100))
    swapped_high = network(central=[1, 0, *range(2, 100)])
    swapped_low = network(central=[*range(98), 99, 98])
    assert central_overlap(straight, straight) == pytest.approx(1.0)
    assert central_overlap(straight, swapped_high) < central_overlap(straight, swapped_low) < 1
    # One of two in common at depth 1 (none) and 2 (all): p^2 + (1 - p) / p * p^2 = p.
    pair = central_overlap(network(central=[1, 2]), network(central=[2, 1]))
    assert pair == pytest.approx(0.98)


def test_an_empty_network_has_no_overlap_and_says_why() -> None:
    with pytest.raises(Undefined):
        node_overlap(network(), network())
    for networks, reason in (
        ({name: network() for name in CONSTRUCTIONS}, "there is nothing to relate to"),
        ({}, "a side was measured without its cooccurrence network"),
    ):
        corpus = words({1: EVERYWHERE}, networks)
        undefined = {value.id: value.undefined_because for value in relative_metrics(corpus, corpus)}
        assert undefined["cooccurrence_node_overlap"] == reason
        assert undefined["pos_divergence"] == "a side was measured without parts of speech"
        assert {id for id, why in undefined.items() if why is None} == {
            "vocabulary_coverage",
            "tail_coverage",
            "novel_token_share",
        }


def test_what_was_made_by_unlike_tools_is_undefined_with_the_reason() -> None:
    def check(metric: str) -> None:
        if metric.startswith("syntactic_"):
            raise Undefined("parsed with A there and with B here")

    full = network({1: ALL_GROUPS}, {5: ALL_GROUPS}, central=[1])
    corpus = words({1: EVERYWHERE}, {name: full for name in CONSTRUCTIONS}, [EVERYWHERE])
    values = {value.id: value for value in relative_metrics(corpus, corpus, check)}
    assert values["syntactic_central_overlap"].undefined_because == "parsed with A there and with B here"
    assert values["cooccurrence_central_overlap"].value == pytest.approx(1.0)
    assert values["pos_divergence"].value == 0.0


counts_of_parts = st.lists(st.integers(0, 50), min_size=GROUPS, max_size=GROUPS)
parts_of_speech = st.lists(counts_of_parts, min_size=4, max_size=4).map(lambda rows: [*rows, [2] * GROUPS])


@given(parts_of_speech, parts_of_speech)
def test_divergence_of_parts_of_speech_is_that_of_scipy(ours: list[list[int]], theirs: list[list[int]]) -> None:
    found = pos_divergence(*(words({1: EVERYWHERE}, parts_of_speech=side) for side in (ours, theirs)))
    for group, replicate in enumerate(found):
        p, q = (np.delete(np.array(side), group, axis=1).sum(axis=1) for side in (ours, theirs))
        # Its square root loses half of the digits near 0.
        assert replicate == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-9, abs=1e-15)


@given(parts_of_speech)
def test_parts_of_speech_do_not_diverge_from_themselves(rows: list[list[int]]) -> None:
    side = words({1: EVERYWHERE}, parts_of_speech=rows)
    assert set(pos_divergence(side, side)) == {0.0}


def test_parts_of_speech_that_have_nothing_in_common_diverge_by_ln_2() -> None:
    ours, theirs = ([EVERYWHERE, [0] * GROUPS], [[0] * GROUPS, EVERYWHERE])
    found = pos_divergence(*(words({1: EVERYWHERE}, parts_of_speech=side) for side in (ours, theirs)))
    assert found == pytest.approx([math.log(2)] * GROUPS)


def same(ours: Fingerprint, theirs: Fingerprint) -> bool:
    return to_bytes([ours]) == to_bytes([theirs])


def test_a_fingerprint_is_read_as_it_was_written() -> None:
    full = network({1: 3, 2: 5}, {7: 1}, edges_to=9, central=[2, 1])
    one = words({1: EVERYWHERE, 2: only_in(4)}, {"cooccurrence": full, "syntactic": network()}, [EVERYWHERE] * 17)
    other = replace(words({3: EVERYWHERE}), budget=20_000)
    read = from_bytes(to_bytes([other, one]))
    assert [print.budget for print in read] == [10_000, 20_000]
    assert same(read[0], one)
    assert same(read[1], other)
    assert read[1].networks == {}
    assert read[1].parts_of_speech_PK is None


def test_the_strengths_of_a_network_are_read_as_they_were_written() -> None:
    full = replace(network({1: 3, 2: 5}), strength_n=np.array([4, 6], dtype=np.int32))
    (read,) = from_bytes(to_bytes([words({1: EVERYWHERE}, {"cooccurrence": full})]))
    strengths = read.networks["cooccurrence"].strength_n
    assert strengths is not None
    assert strengths.tolist() == [4, 6]


def test_a_fingerprint_of_version_1_is_read_with_its_one_network() -> None:
    full = network({1: 3, 2: 5}, {7: 1}, edges_to=9, central=[2, 1])
    one = words({1: EVERYWHERE}, {"cooccurrence": full})
    arrays = {
        f"10000/{part}": np.atleast_1d(getattr(full, part))
        for part in full.__dataclass_fields__
        if part != "strength_n"
    }
    arrays |= {"10000/types_V": one.types_V, "10000/counts_VK": one.counts_VK}
    (read,) = from_bytes(save(arrays))
    assert same(read, one)


@pytest.mark.parametrize("content", [save({"10000/types_V": np.zeros(1)}), save({"x/y": np.zeros(1)})])
def test_tensors_that_are_no_fingerprint_are_refused(content: bytes) -> None:
    with pytest.raises(CorruptArtifact):
        from_bytes(content)


def test_the_guard_closes_on_what_exceeds_the_own_novelty_of_the_baseline() -> None:
    policy = Policy(max_novel_token_share=0.03)
    assert not Shift(share=0.26, expected=0.25).leaves_domain(policy)
    shift = Shift(share=0.16, expected=0.11)
    assert shift.leaves_domain(policy)
    judged = not_covered(shift)
    assert judged.reason is VerdictReason.BASELINE_DOES_NOT_COVER_DOMAIN
    assert "16%" in judged.sentence
    assert "11%" in judged.sentence
