"""How far a run is, and how long it will take."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.records.runs import RunSpec, StageTime
from services.coordinator.pace import WEIGHTS, Pace
from services.coordinator.plan import SETUP_STAGES, STAGES, Lane, arm_named, lanes_of, stages_of

from .fakes import small_spec

unhurried = settings(max_examples=40, deadline=None)
"""A busy machine is no failure."""

SPEC = small_spec()


def walk(spec: RunSpec) -> list[tuple[Lane | None, int, str]]:
    """Return everything that a run does, in an order in which it may happen."""
    setup = [(None, 0, stage) for stage in SETUP_STAGES]
    lanes = lanes_of("r", spec)
    rest = [
        (lane, j, stage)
        for j in range(spec.generations + 1)
        for lane in lanes
        for stage in stages_of(spec, arm_named(spec, lane.arm), j)
    ]
    return [*setup, *rest]


def seconds_of(stage: str) -> float:
    """Return how long a stage takes in these tests."""
    return 2.0 + 3.0 * len(stage)


def test_every_stage_has_a_weight() -> None:
    assert set(WEIGHTS) == {*STAGES, *SETUP_STAGES}


@unhurried
@given(steps=st.integers(0, 60))
def test_what_is_done_grows_from_nothing_to_all_of_it(steps: int) -> None:
    pace, seen = Pace("r", SPEC), [0.0]
    for lane, j, stage in walk(SPEC):
        pace.begin(lane, stage, 0.0)
        pace.finish(lane, j, [StageTime(stage=stage, seconds=1.0)])
        seen.append(pace.run_done())
    assert seen[0] == pytest.approx(0.0)
    assert seen[-1] == pytest.approx(1.0)
    assert all(0 <= one <= 1 for one in seen)
    assert pace.seconds_left(0.0) == pytest.approx(0.0)


def test_the_time_left_is_right_once_every_kind_of_stage_was_seen() -> None:
    pace = Pace("r", SPEC)
    steps = walk(SPEC)
    cut = next(i for i, (_, j, _) in enumerate(steps) if j == 1)
    for lane, j, stage in steps[:cut]:
        pace.finish(lane, j, [StageTime(stage=stage, seconds=seconds_of(stage))])
    one_lane = sum(seconds_of(stage) for j in (1, 2, 3) for stage in stages_of(SPEC, SPEC.arms[0], j))
    assert pace.seconds_left(0.0) == pytest.approx(one_lane)


def test_nothing_is_promised_before_the_first_stage_is_behind() -> None:
    pace = Pace("r", SPEC)
    pace.begin(None, "dataset", 0.0)
    assert pace.seconds_left(5.0) is None


def test_a_stage_that_is_told_twice_counts_once() -> None:
    once, twice = Pace("r", SPEC), Pace("r", SPEC)
    took = [StageTime(stage="dataset", seconds=4.0)]
    once.finish(None, 0, took)
    twice.finish(None, 0, took)
    twice.finish(None, 0, took)
    assert once.run_done() == twice.run_done()


def test_waiting_and_overhead_are_no_work_of_the_plan() -> None:
    pace = Pace("r", SPEC)
    pace.finish(
        lanes_of("r", SPEC)[0], 0, [StageTime(stage="wait", seconds=9.0), StageTime(stage="overhead", seconds=1.0)]
    )
    assert pace.run_done() == pytest.approx(0.0)


def test_the_stage_at_work_counts_as_far_as_it_says_or_as_the_clock_says() -> None:
    pace = Pace("r", SPEC)
    pace.finish(None, 0, [StageTime(stage="dataset", seconds=10.0)])
    lane = lanes_of("r", SPEC)[0]
    before = pace.seconds_left(0.0)
    pace.begin(lane, "generate", 0.0)
    assert before is not None
    waited = pace.seconds_left(1.0)
    assert waited is not None
    assert waited <= before
    done = pace.run_done()
    pace.advance(lane, 0.5)
    assert pace.run_done() > done
