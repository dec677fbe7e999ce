"""A sweep does each piece of work once, leaves out what is finished, and goes on with what is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ouroscope.errors import AlreadyExists, StorageFull
from ouroscope.records.generation import SamplingSpec
from ouroscope.records.runs import ArmSpec, RunSpec, RunState
from ouroscope.store import ArtifactStore
from ouroscope_app.home import Home
from ouroscope_app.live import announced
from ouroscope_app.sweeping import differences_between, finished_runs, run_sweep
from services.coordinator import service
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset


def cell(home: Home, name: str, temperature: float = 1.0) -> RunSpec:
    """Return a run of three generations, base model included, that writes at a temperature."""
    spec = small_spec(generations=2, dataset=write_dataset(home.path))
    return replace(spec, name=name, sampling=SamplingSpec(temperature=temperature))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).prepare()


@pytest.fixture
def team(home: Home) -> Team:
    return Team(home.path / "workers")


@asynccontextmanager
async def at_work(home: Home, team: Team) -> AsyncIterator[None]:
    """A coordinator with stand-in workers that commands of this home find."""
    coordinator = await service.start(home.path, ArtifactStore(str(home.path / "store")), workers=team.workers)
    try:
        with announced(home, coordinator.address, "", "http://127.0.0.1/"):
            yield
    finally:
        await coordinator.stop(grace=1.0)


async def test_what_is_equal_in_two_cells_is_done_once_and_a_finished_sweep_costs_nothing(
    home: Home, team: Team
) -> None:
    specs = [cell(home, "a-cold", 0.5), cell(home, "a-warm", 1.0)]
    async with at_work(home, team):
        runs = await run_sweep(home, specs)
        done = team.journal
        assert [(run.name, run.state) for run in runs] == [
            ("runs/a-cold", RunState.SUCCEEDED),
            ("runs/a-warm", RunState.SUCCEEDED),
        ]
        assert len(set(done)) == len(done), "nothing was worked on twice"
        kinds = Counter(name.split("-")[0] for name in done)
        # One model is imported, each generation's windows are cut once for both cells and both arms.
        assert kinds["import"] == 1
        assert kinds["prompts"] == 3 + 1, "three generations, and the samples"
        assert await run_sweep(home, specs) == runs
        assert team.journal == done
    assert await asyncio.to_thread(finished_runs, home, specs) == runs, "told without a coordinator"
    assert await asyncio.to_thread(finished_runs, home, [*specs, cell(home, "new")]) is None


async def test_another_name_or_one_more_arm_costs_only_what_is_new(home: Home, team: Team) -> None:
    spec = cell(home, "first")
    async with at_work(home, team):
        await run_sweep(home, [spec])
        before = team.journal
        await run_sweep(home, [replace(spec, name="again")])
        assert team.journal == before, "the name of a run decides nothing"
        more = replace(spec, name="more", arms=(*spec.arms, ArmSpec(name="keep", protocol="accumulate")))
        await run_sweep(home, [more])
        new = Counter(name.split("-")[0] for name in team.journal[len(before) :])
    # Generation 0 is that of the other arms, and so is the human text.
    assert new["fine_tune"] == 2
    assert new["prompts"] == 0
    assert new["generate"] <= 2 * 2, "text and samples of generations 1 and 2"


async def test_a_failed_cell_does_not_stop_the_rest_and_goes_on_when_asked_again(home: Home, team: Team) -> None:
    specs = [cell(home, "a"), cell(home, "b", 0.5)]
    team.trouble["fine_tune"] = StorageFull("the disk is full; make room")
    async with at_work(home, team):
        first = await run_sweep(home, specs)
        assert [run.state for run in first] == [RunState.FAILED, RunState.SUCCEEDED]
        second = await run_sweep(home, specs)
    assert [run.state for run in second] == [RunState.SUCCEEDED, RunState.SUCCEEDED]
    assert second[1] == first[1]


async def test_a_run_of_that_name_that_is_another_experiment_is_not_touched(home: Home, team: Team) -> None:
    spec = cell(home, "a")
    async with at_work(home, team):
        await run_sweep(home, [spec])
        before = team.journal
        with pytest.raises(AlreadyExists, match="documents is 20 there and 30 here") as raised:
            await run_sweep(home, [cell(home, "new"), replace(spec, documents=30)])
        assert "ouroscope runs delete a" in raised.value.message
        assert team.journal == before, "nothing is started, not even the cell before it"


def test_differences_name_the_field() -> None:
    spec = small_spec()
    assert differences_between(spec, spec) == []
    other = replace(spec, arms=(spec.arms[0], replace(spec.arms[1], real_share=0.5)), model="other")
    assert differences_between(spec, other) == [
        "arms[1].real_share is 0.25 there and 0.5 here",
        "model is ouro-tiny there and other here",
    ]
    assert differences_between(spec, replace(spec, arms=spec.arms[:1])) == [
        "arms is a list of 2 there and a list of 1 here"
    ]
