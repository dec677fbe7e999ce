"""Rules 8 and 9: what one comparison may say, what a history adds, and that lack of data is never stability."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroscope.records.analysis import (
    Direction,
    Family,
    FamilyEffect,
    MetricInfo,
    MetricValue,
    PastEffects,
    Policy,
    Verdict,
    VerdictReason,
)
from services.analyzer.effects import adjust, by_evidence, family_effect, metric_effect, p_value
from services.analyzer.hindrances import Hindrance
from services.analyzer.jackknife import GROUPS
from services.analyzer.verdicts import first_beyond, judge

POLICY = Policy(margin=1.0, far_bound=4.0, persistence=3)
LACKING = Hindrance(reason=VerdictReason.TOO_FEW_TOKENS, sentence="Too little text.")
TYPES = MetricInfo(id="types", family=Family.TEXT, unit="words", direction=Direction.FALLING, headline=True)
MATTR = MetricInfo(id="mattr", family=Family.TEXT, unit="ratio", direction=Direction.FALLING, headline=True)


def family(effect: float, half: float = 0.1, *, of: Family = Family.TEXT, p: float | None = None) -> FamilyEffect:
    p = p if p is not None else (0.0001 if effect - half > POLICY.margin else 0.9)
    return FamilyEffect(
        family=of, effect=effect, lower=effect - half, upper=effect + half, p_value=p, metrics=("types",)
    )


def past(*effects: float, first: int = 0) -> list[PastEffects]:
    return [PastEffects(generation=n, families=(family(effect),)) for n, effect in enumerate(effects, start=first)]


def value(mean: float, wobble: float = 0.0, metric: str = "types") -> MetricValue:
    replicates = tuple(mean + wobble * (-1) ** group for group in range(GROUPS))
    return MetricValue(id=metric, value=mean, lower=mean, upper=mean, replicates=replicates)


def test_effects_below_the_margin_are_stable() -> None:
    judged = judge([family(0.3), family(-2.0, of=Family.MODEL)], [], [], POLICY)
    assert (judged.verdict, judged.reason) == (Verdict.STABLE, VerdictReason.WITHIN_MARGIN)
    assert "0.30 human spreads (95 % interval 0.20 to 0.40)" in judged.sentence


def test_an_effect_wholly_above_the_margin_is_a_warning() -> None:
    judged = judge([family(1.5)], [], [], POLICY)
    assert (judged.verdict, judged.reason) == (Verdict.WARNING, VerdictReason.BEYOND_MARGIN)


def test_an_interval_on_both_sides_of_the_margin_tells_nothing() -> None:
    judged = judge([family(1.0, half=0.5)], [], [], POLICY)
    assert "which lies on both sides of the margin of 1;" in judged.sentence
    assert (judged.verdict, judged.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.TOO_WIDE)


def test_one_comparison_says_collapse_only_beyond_the_far_bound() -> None:
    assert judge([family(4.05, half=0.1)], [], [], POLICY).verdict is Verdict.WARNING
    judged = judge([family(4.2, half=0.1)], [], [], POLICY)
    assert (judged.verdict, judged.reason) == (Verdict.COLLAPSE, VerdictReason.BEYOND_FAR_BOUND)


@pytest.mark.parametrize(
    ("history", "verdict"),
    [
        (past(1.5, 1.5), Verdict.COLLAPSE),
        (past(0.2, 1.5, 1.5), Verdict.COLLAPSE),
        (past(1.5, 0.2, 1.5), Verdict.WARNING),
        (past(1.5, 1.5, 0.2), Verdict.WARNING),
        (past(1.5), Verdict.WARNING),
        ([], Verdict.WARNING),
    ],
)
def test_three_generations_in_a_row_beyond_the_margin_are_collapse(
    history: list[PastEffects], verdict: Verdict
) -> None:
    assert judge([family(1.5)], [], history, POLICY).verdict is verdict


def test_an_effect_that_came_back_within_the_margin_is_no_collapse_whatever_was_before() -> None:
    assert judge([family(0.2)], [], past(3.0, 3.0, 3.0), POLICY).verdict is Verdict.STABLE


def test_the_effect_need_not_grow_to_last() -> None:
    judged = judge([family(1.3)], [], past(2.5, 2.0), POLICY)
    assert (judged.verdict, judged.reason) == (Verdict.COLLAPSE, VerdictReason.PERSISTENT)


def test_a_pipeline_may_number_its_generations_as_it_likes_as_long_as_they_rise() -> None:
    history = [PastEffects(generation=n, families=(family(1.5),)) for n in (1000, 2000)]
    assert judge([family(1.5)], [], history, POLICY).reason is VerdictReason.PERSISTENT


def test_a_generation_in_which_the_family_could_not_vote_breaks_a_row() -> None:
    history = [past(1.5, 1.5)[0], PastEffects(generation=1, families=()), *past(1.5, first=2)]
    assert judge([family(1.5)], [], history, POLICY).verdict is Verdict.WARNING


@given(effects=st.lists(st.floats(0, 3.9), max_size=8))
def test_no_verdict_is_latched_after_collapse_a_generation_within_the_margin_is_stable(effects: list[float]) -> None:
    history = past(*effects, 1.5, 1.5)
    number = len(history)
    collapsed = judge([family(1.5)], [], history, POLICY)
    assert (collapsed.verdict, collapsed.reason) == (Verdict.COLLAPSE, VerdictReason.PERSISTENT)
    history = [*history, *past(1.5, first=number)]
    assert judge([family(0.2)], [], history, POLICY).verdict is Verdict.STABLE
    # Nor is the alarm forgotten: what is beyond the margin again begins to count anew.
    history = [*history, *past(0.2, first=number + 1)]
    assert judge([family(1.5)], [], history, POLICY).verdict is Verdict.WARNING


@given(effects=st.lists(st.floats(-1, 3), max_size=6), candidate=st.floats(-1, 3))
def test_the_first_generation_beyond_the_margin_is_the_first_that_alone_would_be_a_warning(
    effects: list[float], candidate: float
) -> None:
    sequence = [*effects, candidate]
    warned = [
        n for n, effect in enumerate(sequence) if judge([family(effect)], [], [], POLICY).verdict is Verdict.WARNING
    ]
    found = first_beyond([family(candidate)], past(*effects), POLICY, len(effects))
    assert found == (warned[0] if warned else None)
    assert first_beyond([family(candidate)], past(*effects), POLICY, None) is None


def test_one_family_does_not_carry_on_the_sequence_of_another() -> None:
    assert judge([family(1.5, of=Family.MODEL)], [], past(1.5, 1.5), POLICY).verdict is Verdict.WARNING


def test_a_persistence_of_one_needs_no_history() -> None:
    assert judge([family(1.5)], [], [], Policy(persistence=1)).verdict is Verdict.COLLAPSE


def test_holm_can_withhold_what_one_interval_says() -> None:
    judged = judge([family(1.5, p=0.06)], [], [], POLICY)
    assert judged.reason is VerdictReason.TOO_WIDE
    assert "beyond the margin of 1, but not surely so among several families (p 0.06)" in judged.sentence


def test_what_cannot_vote_forbids_stability_but_not_an_alarm() -> None:
    calm = judge([family(0.1, of=Family.MODEL)], [LACKING], [], POLICY)
    assert (calm.verdict, calm.reason, calm.sentence) == (
        Verdict.INSUFFICIENT_DATA,
        VerdictReason.TOO_FEW_TOKENS,
        "Too little text.",
    )
    assert judge([family(1.5, of=Family.MODEL)], [LACKING], [], POLICY).verdict is Verdict.WARNING


def test_nothing_measured_is_not_stable() -> None:
    judged = judge([], [], [], POLICY)
    assert (judged.verdict, judged.reason) == (Verdict.INSUFFICIENT_DATA, VerdictReason.NOTHING_COMPARABLE)


@given(
    effects=st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 3)), max_size=4),
    margin=st.floats(0.1, 3),
)
def test_stable_always_means_that_every_interval_lies_below_the_margin(
    effects: list[tuple[float, float]], margin: float
) -> None:
    policy = Policy(margin=margin, far_bound=10)
    families = [family(e, h, of=f) for (e, h), f in zip(effects, Family, strict=False)]
    if judge(families, [], [], policy).verdict is Verdict.STABLE:
        assert families
        assert all(effect.upper < margin for effect in families)


def test_a_fall_of_a_falling_metric_is_a_positive_effect() -> None:
    effect = metric_effect(TYPES, value(1000.0), value(900.0), 50.0, POLICY)
    assert (effect.told.effect, effect.told.lower, effect.told.upper) == (2.0, 2.0, 2.0)


def test_no_change_is_exactly_zero() -> None:
    same = value(1000.0, wobble=7.0)
    effect = metric_effect(TYPES, same, same, 50.0, POLICY)
    assert (effect.told.effect, effect.told.lower, effect.told.upper) == (0.0, 0.0, 0.0)
    assert math.copysign(1.0, effect.told.effect or 0.0) == 1.0


def test_what_both_sides_have_in_common_cancels() -> None:
    effect = metric_effect(TYPES, value(1000.0, wobble=300.0), value(900.0, wobble=300.0), 50.0, POLICY)
    assert effect.told.lower == pytest.approx(2.0)
    assert effect.told.upper == pytest.approx(2.0)


def test_the_interval_is_that_of_the_jackknife() -> None:
    # Replicates 2 +- 0.1 by turns: SE^2 = 19/20 * 20 * 0.01 = 0.19, t(19, 0.975) = 2.0930.
    effect = metric_effect(TYPES, value(1000.0), value(900.0, wobble=5.0), 50.0, POLICY)
    half = 2.0930240544 * math.sqrt(0.19)
    assert effect.told.lower == pytest.approx(2.0 - half, abs=1e-9)
    assert effect.told.upper == pytest.approx(2.0 + half, abs=1e-9)


def test_a_metric_without_direction_or_replicates_has_no_interval_and_no_vote() -> None:
    still = MetricInfo(id="density", family=Family.NETWORK, unit="1", direction=Direction.NONE)
    bare = MetricValue(id="types", value=900.0)
    without_direction = metric_effect(still, value(1.0), value(2.0), 0.5, POLICY)
    without_replicates = metric_effect(TYPES, value(1000.0), bare, 50.0, POLICY)
    assert without_direction.told.effect is None
    assert without_direction.told.undefined_because
    assert (without_replicates.told.effect, without_replicates.told.lower) == (2.0, None)
    assert not without_replicates.votes


def test_a_family_is_the_mean_of_its_headlines_jackknifed_as_one_number() -> None:
    # Opposite wobbles cancel replicate by replicate: the mean has no error although each metric has.
    effects = [
        metric_effect(TYPES, value(0.0), value(-1.0, wobble=0.3), 1.0, POLICY),
        metric_effect(MATTR, value(0.0), value(-3.0, wobble=-0.3, metric="mattr"), 1.0, POLICY),
    ]
    joined = family_effect(Family.TEXT, effects, POLICY)
    assert joined is not None
    assert joined.effect == pytest.approx(2.0)
    assert joined.upper - joined.lower == pytest.approx(0.0, abs=1e-12)
    assert joined.metrics == ("types", "mattr")


def test_the_p_value_falls_as_the_effect_leaves_the_margin() -> None:
    replicates = [1.0 + 0.02 * (-1) ** group for group in range(GROUPS)]
    values = [p_value([shift + r for r in replicates], 1.0) for shift in (-1, 0, 1)]
    assert values[0] > 0.99
    assert values[1] == pytest.approx(0.5)
    assert values[2] < 0.01


def test_holm_by_hand() -> None:
    # Sorted .01, .03, .04 of three: 3 * .01 = .03; max(.03, 2 * .03) = .06; max(.06, .04) = .06.
    families = [family(1.5, of=f, p=p) for f, p in zip(Family, (0.03, 0.01, 0.04), strict=False)]
    assert [effect.p_value for effect in adjust(families)] == pytest.approx([0.06, 0.03, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_adjusting_never_lowers_a_p_value_nor_changes_their_order(p_values: list[float]) -> None:
    families = [family(1.5, of=f, p=p) for f, p in zip(Family, p_values, strict=False)]
    adjusted = [effect.p_value for effect in adjust(families)]
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    ranks = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in ranks] == sorted(adjusted)


def test_the_strongest_evidence_is_told_first_and_what_has_no_effect_last() -> None:
    strong = metric_effect(TYPES, value(10.0), value(5.0, wobble=0.01), 1.0, POLICY)
    weak = metric_effect(MATTR, value(10.0), value(8.5, wobble=0.5), 1.0, POLICY)
    still = metric_effect(
        MetricInfo(id="density", family=Family.NETWORK, unit="1", direction=Direction.NONE),
        value(1.0),
        value(2.0),
        1.0,
        POLICY,
    )
    assert [told.id for told in by_evidence([still, weak, strong], POLICY.margin)] == ["types", "mattr", "density"]
