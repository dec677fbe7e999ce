"""How much work there is for each kind of worker: what KEDA is told."""

from __future__ import annotations

import pytest

from ouroscope.errors import InvalidRequest
from ouroscope.records.runs import RunState, StageTime
from services.coordinator.board import Board
from services.coordinator.plan import SETUP_STAGES, STAGES, Lane
from services.coordinator.scaling import WORKERS, WORKERS_OF, Scaled, demand, read_scaled

from .conftest import a_run
from .fakes import small_spec

RUN = a_run(small_spec(), state=RunState.RUNNING)
LANES = (Lane("r", "replace", 0), Lane("r", "human", 0))


@pytest.fixture
def board() -> Board:
    made = Board()
    made.open(RUN)
    return made


def test_every_stage_and_every_question_before_a_run_says_whom_it_asks() -> None:
    assert set(WORKERS_OF) == {*STAGES, *SETUP_STAGES, "backend", "recipe"}
    assert {worker for workers in WORKERS_OF.values() for worker in workers} == set(WORKERS)


@pytest.mark.parametrize("worker", WORKERS)
def test_demand_is_the_number_of_stages_that_ask_the_worker(worker: str) -> None:
    stages = [*STAGES, *STAGES, "a stage of a later version"]
    assert demand(worker, stages) == 2 * sum(worker in WORKERS_OF[stage] for stage in STAGES)
    assert demand(worker, []) == 0


def test_a_lane_counts_from_the_beginning_of_a_stage_to_its_end_and_also_while_nobody_answers(board: Board) -> None:
    for lane in LANES:
        board.begin(RUN.name, lane, 0, "fine_tune")
    board.wait(RUN.name, LANES[0], 0, "fine_tune", "the trainer does not answer; trying again")
    assert demand("trainer", board.stages()) == 2
    board.finish(RUN.name, LANES[0], 0, StageTime(stage="fine_tune", seconds=1.0))
    board.begin(RUN.name, LANES[0], 1, "generate")
    assert [demand(worker, board.stages()) for worker in WORKERS] == [1, 1, 0]


def test_a_question_before_the_run_counts_while_it_is_asked(board: Board) -> None:
    with board.asking(RUN.name, None, "recipe"):
        assert demand("trainer", board.stages()) == 1
    assert board.stages() == []


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED, RunState.SUCCEEDED])
def test_a_run_that_has_ended_asks_for_nothing(board: Board, state: RunState) -> None:
    board.begin(RUN.name, LANES[0], 0, "fine_tune")
    board.run_changed(a_run(small_spec(), state=state))
    assert board.stages() == []


def test_metadata_of_a_trigger_is_read_and_what_is_not_ours_is_left_alone() -> None:
    assert read_scaled({"scalerAddress": "x:1", "worker": "trainer"}) == Scaled("trainer", 1.0)
    assert read_scaled({"worker": "generator", "stagesPerReplica": "2.5"}) == Scaled("generator", 2.5)


@pytest.mark.parametrize("share", ["0", "-1", "nan", "inf", "many", ""])
def test_metadata_that_says_nothing_useful_is_refused_with_all_that_is_wrong(share: str) -> None:
    with pytest.raises(InvalidRequest, match=r"worker: must be one of generator, trainer, analyzer; stagesPerReplica"):
        read_scaled({"worker": "coordinator", "stagesPerReplica": share})
