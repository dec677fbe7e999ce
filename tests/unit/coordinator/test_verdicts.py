"""From comparisons to the verdict of an arm."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.records.analysis import Verdict
from services.coordinator.verdicts import Judged, run_verdicts, verdict_of_sequence, verdict_over_seeds

from .fakes import small_spec

unhurried = settings(max_examples=40, deadline=None)
"""A busy machine is no failure."""

S, W, C, I = Verdict.STABLE, Verdict.WARNING, Verdict.COLLAPSE, Verdict.INSUFFICIENT_DATA  # noqa: E741
SPEC = small_spec(seeds=3)


def judged(arm: str, seed: int, number: int, verdict: Verdict) -> Judged:
    """Return what was said of one generation."""
    return Judged(arm=arm, seed=seed, number=number, verdict=verdict, sentence=f"figures of {arm} {seed} {number}")


@unhurried
@given(verdicts=st.lists(st.sampled_from(Verdict), min_size=1, max_size=6))
def test_the_order_of_the_seeds_does_not_matter(verdicts: list[Verdict]) -> None:
    assert {verdict_over_seeds(order) for order in permutations(verdicts)} == {verdict_over_seeds(verdicts)}


@unhurried
@given(verdict=st.sampled_from(Verdict), seeds=st.integers(1, 9))
def test_seeds_that_agree_are_believed(verdict: Verdict, seeds: int) -> None:
    assert verdict_over_seeds([verdict] * seeds) is verdict


@unhurried
@given(verdicts=st.lists(st.sampled_from([S, W, C]), min_size=1, max_size=9), position=st.integers(0, 8))
def test_a_graver_seed_never_makes_the_verdict_milder(verdicts: list[Verdict], position: int) -> None:
    graver = [C if i == position % len(verdicts) else verdict for i, verdict in enumerate(verdicts)]
    order = [S, W, C]
    assert order.index(verdict_over_seeds(graver)) >= order.index(verdict_over_seeds(verdicts))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([C, C, S], C),
        ([C, S, S], S),
        ([C, W, S], W),
        ([C, S], C),
        ([S, I], I),
        ([S, S, I], S),
        ([C, I, I], I),
        ([W, I], W),
    ],
)
def test_an_arm_gets_what_at_least_half_of_its_seeds_reach(verdicts: list[Verdict], expected: Verdict) -> None:
    assert verdict_over_seeds(verdicts) is expected


def test_a_sequence_that_has_collapsed_has_collapsed() -> None:
    sequence = [judged("replace", 0, j, verdict) for j, verdict in enumerate([S, W, C, W, S])]
    speaking = verdict_of_sequence(sequence)
    assert speaking is not None
    assert (speaking.verdict, speaking.number) == (C, 2)


def test_otherwise_the_newest_comparison_speaks_for_the_sequence() -> None:
    sequence = [judged("replace", 0, j, verdict) for j, verdict in enumerate([S, W, S])]
    speaking = verdict_of_sequence(reversed_of(sequence))
    assert speaking is not None
    assert (speaking.verdict, speaking.number) == (S, 2)
    assert verdict_of_sequence([]) is None


def reversed_of(sequence: list[Judged]) -> list[Judged]:
    """Return the sequence backwards: rows come in any order."""
    return sequence[::-1]


def test_the_sentence_tells_beside_what_in_how_many_seeds_and_the_figures() -> None:
    rows = [judged("replace", seed, j, C if seed else S) for seed in range(3) for j in (1, 2)]
    (verdict,) = run_verdicts(SPEC, rows)
    assert (verdict.arm, verdict.verdict) == ("replace", C)
    assert verdict.sentence == (
        "COLLAPSE in 2 of 3 seeds, beside arm human at the same generation (generation 1, seed 1): "
        "figures of replace 1 1"
    )


def test_an_arm_that_was_not_compared_has_no_verdict_and_the_control_is_measured_by_its_beginning() -> None:
    assert run_verdicts(SPEC, []) == ()
    (verdict,) = run_verdicts(SPEC, [judged("human", 0, 1, S)])
    assert verdict.sentence == "STABLE, beside its own generation 0 (generation 1): figures of human 0 1"
