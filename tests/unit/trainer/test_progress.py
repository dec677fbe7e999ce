"""Learning rate, loss curve, divergence and speed, each against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import TrainingDiverged
from ouroscope.records.training import LossPoint, Recipe, Schedule
from services.trainer.progress import Meter, check_health, learning_rate, loss_curve, tokens_per_step


def rates(schedule: Schedule, steps: int = 10, warmup_share: float = 0.4) -> list[float]:
    recipe = Recipe(steps=steps, learning_rate=0.5, warmup_share=warmup_share, schedule=schedule)
    return [learning_rate(step, recipe) for step in range(steps)]


def test_the_rate_rises_in_a_straight_line_during_warm_up():
    assert rates(Schedule.CONSTANT) == [0.125, 0.25, 0.375, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_a_linear_schedule_falls_in_a_straight_line_towards_zero():
    assert rates(Schedule.LINEAR, steps=4, warmup_share=0) == [0.5, 0.375, 0.25, 0.125]


def test_a_cosine_schedule_is_half_way_down_in_the_middle():
    assert rates(Schedule.COSINE, steps=4, warmup_share=0)[2] == pytest.approx(0.25)


@settings(deadline=None)
@given(st.sampled_from(Schedule), st.integers(1, 300), st.floats(0, 1))
def test_the_rate_is_never_above_the_one_asked_for_and_never_zero(schedule, steps, warmup_share):
    assert all(0 < rate <= 0.5 for rate in rates(schedule, steps, warmup_share))


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=450))
def test_a_loss_curve_has_at_most_a_hundred_points_and_keeps_the_mean(losses):
    curve = loss_curve(losses)
    steps = [0, *(point.step for point in curve)]
    weighted = [p.loss * (b - a) for p, a, b in zip(curve, steps, steps[1:], strict=False)]
    assert len(curve) <= 100
    assert curve[-1].step == len(losses)
    assert math.fsum(weighted) / len(losses) == pytest.approx(math.fsum(losses) / len(losses))


def test_a_short_curve_has_every_step():
    assert loss_curve([3.0, 1.0]) == (LossPoint(step=1, loss=3.0), LossPoint(step=2, loss=1.0))


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf), (100.0, 1.0)]
)
def test_a_loss_without_hope_is_called_divergence_with_step_and_advice(loss, norm):
    with pytest.raises(TrainingDiverged, match=r"step 8 of 20 .* lower recipe\.learning_rate") as raised:
        check_health(7, loss, norm, vocabulary=1000, recipe=Recipe(steps=20))
    assert raised.value.metadata == {"step": "8"}


def test_a_model_that_is_broken_from_the_start_is_not_blamed_on_the_recipe():
    with pytest.raises(TrainingDiverged, match="weights are damaged"):
        check_health(0, math.nan, 1.0, vocabulary=1000, recipe=Recipe())


def test_the_loss_of_a_wrong_but_finite_guess_is_no_divergence():
    check_health(0, 2 * math.log(1000), 50.0, vocabulary=1000, recipe=Recipe())


def test_speed_and_time_left_follow_from_the_recent_steps():
    times = iter([100.0, 102.0, 104.0])
    recipe = Recipe(steps=12, batch_size=2, gradient_accumulation=3, block_tokens=8)
    meter = Meter(recipe, clock=lambda: next(times), done=4)
    meter.progress(5, 3.0)
    progress = meter.progress(6, 2.5)
    assert (progress.done, progress.total, progress.loss) == (6, 12, 2.5)
    assert progress.seconds_left == pytest.approx(12.0)
    assert progress.tokens_per_second == pytest.approx(24.0)
    assert tokens_per_step(recipe) == 48
