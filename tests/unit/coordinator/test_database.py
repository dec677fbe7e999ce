"""What is kept of runs, in files and in PostgreSQL alike."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ouroscope.errors import AlreadyExists, NotFound, PreconditionFailed
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.runs import RunState, StageTime
from services.coordinator.database import History, open_history, open_readonly
from services.coordinator.plan import Lane
from services.coordinator.rows import Counted, Measured, place_of
from tests.places import Place, make_place

from .conftest import NOON, a_run
from .fakes import made, small_spec

LANE = Lane("r", "replace", 0)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make_place(request, tmp_path)


async def test_a_run_comes_back_as_it_was_kept(history: History) -> None:
    run = a_run(small_spec(seeds=2), error="no luck")
    await history.create_run("r", run, None)
    assert await history.run("r") == run


async def test_two_runs_of_one_name_are_refused_and_the_first_stays(history: History) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    with pytest.raises(AlreadyExists, match="choose another name"):
        await history.create_run("r", a_run(small_spec(seeds=3)), None)
    assert (await history.run("r")).spec.seeds == 1


async def test_a_run_that_is_not_there_is_not_found(history: History) -> None:
    with pytest.raises(NotFound, match="runs list"):
        await history.run("nothing")
    with pytest.raises(NotFound):
        await history.generation(LANE, 0)


async def test_runs_are_listed_newest_first_in_pages_without_gap_or_repeat(history: History) -> None:
    times = [NOON, NOON, NOON + timedelta(seconds=1), NOON + timedelta(microseconds=1)]
    for number, time in enumerate(times):
        await history.create_run(f"r{number}", a_run(small_spec(), f"r{number}", create_time=time), None)
    listed, after = [], None
    while found := await history.runs(1, after):
        listed += [run.name for run in found]
        after = place_of(found[-1])
    assert listed == ["runs/r2", "runs/r3", "runs/r0", "runs/r1"]
    assert [run.name for run in await history.runs(10)] == listed


async def test_only_runs_that_have_not_ended_are_unfinished(history: History) -> None:
    for state in RunState:
        run_id = state.value.lower()
        await history.create_run(run_id, a_run(small_spec(), run_id, state=state), None)
    assert {run.state for run in await history.unfinished()} == {RunState.PENDING, RunState.RUNNING}


async def test_changing_a_generation_twice_is_as_changing_it_once(history: History) -> None:
    change: dict[str, Any] = {"report": made(ArtifactKind.REPORT, 1), "values": (Measured(id="mtld", value=0.5),)}
    took = (StageTime(stage="analyse", seconds=2.0),)
    once = await history.change_generation(LANE, 1, times=took, **change)
    twice = await history.change_generation(LANE, 1, times=took, **change)
    assert once == twice == await history.generation(LANE, 1)
    assert twice.values[0].value == 0.5


async def test_changes_of_different_fields_add_up_also_when_they_come_at_once(history: History) -> None:
    stages = [f"stage {n}" for n in range(20)]
    changes = [history.change_generation(LANE, 0, times=(StageTime(stage=stage, seconds=1),)) for stage in stages]
    await asyncio.gather(*changes)
    kept = await history.generation(LANE, 0)
    assert {time.stage for time in kept.generation.stages} == set(stages)


async def test_generations_come_by_arm_seed_and_number_and_can_be_paged(history: History) -> None:
    places = [("b", 0, 1), ("a", 1, 0), ("a", 0, 10), ("a", 0, 2), ("b", 0, 0)]
    for arm, seed, number in places:
        await history.change_generation(Lane("r", arm, seed), number)
    everything = [(k.lane.arm, k.lane.seed, k.generation.number) for k in await history.generations("r")]
    assert everything == sorted(places)
    paged = await history.generations("r", limit=2, after=("a", 0, 2))
    assert [(k.lane.arm, k.lane.seed, k.generation.number) for k in paged] == [("a", 0, 10), ("a", 1, 0)]
    assert len(await history.generations("r", "a", 0)) == 2


async def test_the_first_thing_that_went_wrong_is_the_one_that_is_told(history: History) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    await history.note_error("r", "the disk is full")
    await history.note_error("r", "an arm was cancelled")
    assert (await history.run("r")).error == "the disk is full"


async def test_a_waiting_arm_is_told_as_soon_as_the_other_has_its_report(history: History) -> None:
    waiting = asyncio.create_task(history.report_of(LANE, 2))
    await history.change_generation(LANE, 1, report=made(ArtifactKind.REPORT, 1))
    await history.change_generation(LANE, 2, state=RunState.RUNNING)
    assert not waiting.done()
    await history.change_generation(LANE, 2, report=made(ArtifactKind.REPORT, 2))
    assert await waiting == made(ArtifactKind.REPORT, 2)


async def test_what_is_counted_is_what_was_kept(history: History) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    await history.change_generation(LANE, 0, state=RunState.SUCCEEDED)
    await history.change_generation(LANE, 1, state=RunState.RUNNING)
    seen: list[Counted] = []

    def count(counted: Any) -> dict[str, Any]:
        seen.extend(counted)
        return {"generations_done": 1}

    assert (await history.recount("r", count)).generations_done == 1
    assert sorted(one.state.value for one in seen) == ["RUNNING", "SUCCEEDED"]


async def test_a_run_that_has_ended_is_not_moved_any_more(history: History) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    moved = await history.move("r", state=RunState.CANCELLED)
    assert moved is not None
    assert await history.move("r", state=RunState.RUNNING) is None
    assert (await history.run("r")).state is RunState.CANCELLED


async def test_generations_at_work_stop_with_their_run(history: History) -> None:
    await history.change_generation(LANE, 0, state=RunState.SUCCEEDED)
    await history.change_generation(LANE, 1, state=RunState.RUNNING)
    await history.settle("r", RunState.RUNNING, RunState.CANCELLED)
    assert [k.generation.state.value for k in await history.generations("r")] == ["SUCCEEDED", "CANCELLED"]


async def test_a_deleted_run_leaves_nothing(history: History) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    await history.change_generation(LANE, 0)
    await history.delete_run("r")
    assert await history.runs(10) == []
    assert await history.generations("r") == []


async def test_setup_stages_are_remembered_with_what_came_of_them(history: History) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    await history.keep_setup("r", "model", "model/0", StageTime(stage="model", seconds=1.5))
    await history.keep_setup("r", "dataset", {"prompts": "corpus/1"}, StageTime(stage="dataset", seconds=2.5))
    assert await history.artifacts("r") == {"model": "model/0", "dataset": {"prompts": "corpus/1"}}
    assert {time.stage: time.seconds for time in await history.setup("r")} == {"model": 1.5, "dataset": 2.5}


async def test_a_reader_sees_runs_while_they_are_written_and_can_change_nothing(history: History, place: Place) -> None:
    await history.create_run("r", a_run(small_spec()), None)
    reader = open_readonly(place.home, place.url)
    assert [run.name for run in await reader.runs(10)] == ["runs/r"]
    await history.create_run("s", a_run(small_spec(), "s"), None)
    assert len(await reader.runs(10)) == 2
    with pytest.raises(Exception, match="database"):
        await reader.delete_run("r")
    await reader.close()


async def test_a_home_without_runs_is_told_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there are no runs"):
        open_readonly(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    with pytest.raises(PreconditionFailed, match="cannot write to"):
        await open_history(tmp_path)
