"""What lasts is not called collapse where it may be another topic, or documents of another length."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ouroscope.records.analysis import Family, FamilyEffect, PastEffects, Policy, Verdict, VerdictReason
from services.analyzer.doubts import NEAR, Circumstances, doubt
from services.analyzer.verdicts import judge

POLICY = Policy()
BY_TEXT = (Family.TEXT, Family.NETWORK, Family.EMBEDDING)
shares = st.floats(-0.1, 0.03)


def effect(lower: float, family: Family = Family.TEXT) -> FamilyEffect:
    return FamilyEffect(family=family, effect=lower + 0.5, lower=lower, upper=lower + 1, p_value=0.0, metrics=())


def past(*novelty: float | None, family: Family = Family.TEXT) -> list[PastEffects]:
    return [
        PastEffects(generation=number, families=(effect(1.5, family),), excess_novelty=share)
        for number, share in enumerate(novelty)
    ]


def said(novelty: tuple[float | None, float | None], now: Circumstances, family: Family = Family.TEXT) -> Verdict:
    return judge([effect(1.5, family)], [], past(*novelty, family=family), POLICY, now).verdict


@pytest.mark.parametrize("family", BY_TEXT)
def test_what_stays_inside_the_words_it_has_is_collapse(family: Family) -> None:
    assert said((-0.02, -0.02), Circumstances(excess_novelty=-0.02), family) is Verdict.COLLAPSE


@pytest.mark.parametrize("family", BY_TEXT)
def test_what_brings_as_many_new_words_as_expected_is_a_warning_that_says_why(family: Family) -> None:
    judged = judge(
        [effect(1.5, family)], [], past(0.0, 0.01, family=family), POLICY, Circumstances(excess_novelty=0.02)
    )
    assert (judged.verdict, judged.reason) == (Verdict.WARNING, VerdictReason.BEYOND_MARGIN)
    assert "another topic" in judged.sentence
    assert "3 generations in a row" in judged.sentence


@given(shares, shares, shares)
def test_the_mean_over_the_generations_that_persistence_looks_at_decides(a: float, b: float, c: float) -> None:
    mean = (a + b + c) / 3
    assume(abs(mean + POLICY.min_narrowing) > 1e-9)
    told = doubt(effect(1.5), Circumstances(excess_novelty=c), past(0.03, a, b), POLICY)
    assert (told is None) == (mean < -POLICY.min_narrowing)


def test_where_nothing_is_known_of_new_words_nothing_is_doubted() -> None:
    assert said((None, None), Circumstances()) is Verdict.COLLAPSE
    assert doubt(effect(1.5), Circumstances(excess_novelty=-0.02), past(None, None), POLICY) is None


def test_the_answers_of_the_model_are_not_doubted_for_the_sake_of_its_text() -> None:
    assert said((0.0, 0.0), Circumstances(excess_novelty=0.02, length_ratio=0.2), Family.MODEL) is Verdict.COLLAPSE


@given(st.floats(0.05, 20))
def test_documents_of_another_length_are_doubted_alike_whether_longer_or_shorter(ratio: float) -> None:
    both = [
        doubt(effect(1.5), Circumstances(excess_novelty=-0.05, length_ratio=one), past(-0.05, -0.05), POLICY)
        for one in (ratio, 1 / ratio)
    ]
    assert (both[0] is None) == (both[1] is None)
    if not 0.49 < ratio < 2.01:
        assert both[0] is not None
    if 0.51 < ratio < 1.99:
        assert both[0] is None


@given(st.floats(1.001, 2), st.floats(1.001, 2), st.floats(1.001, 2))
def test_what_stays_near_the_margin_on_average_is_a_warning(a: float, b: float, c: float) -> None:
    assume(abs(a + b + c - 3 * NEAR * POLICY.margin) > 1e-9)
    history = [
        PastEffects(generation=n, families=(effect(lower),), excess_novelty=-0.05) for n, lower in ((0, a), (1, b))
    ]
    judged = judge([effect(c)], [], history, POLICY, Circumstances(excess_novelty=-0.05))
    assert (judged.verdict is Verdict.COLLAPSE) == (a + b + c > 3 * NEAR * POLICY.margin)
    assert judged.verdict is Verdict.COLLAPSE or "near the margin" in judged.sentence


def test_beyond_the_far_bound_nothing_is_doubted() -> None:
    far = judge([effect(4.5)], [], past(0.02, 0.02), POLICY, Circumstances(excess_novelty=0.02, length_ratio=0.2))
    assert far.reason is VerdictReason.BEYOND_FAR_BOUND


def test_another_family_that_is_beyond_doubt_still_says_collapse() -> None:
    history = [
        PastEffects(generation=n, families=(effect(1.8), effect(1.5, Family.MODEL)), excess_novelty=0.0) for n in (0, 1)
    ]
    families = [effect(1.8), effect(1.5, Family.MODEL)]
    judged = judge(families, [], history, POLICY, Circumstances(excess_novelty=0.0))
    assert judged.verdict is Verdict.COLLAPSE
    assert "openness of the model" in judged.sentence
