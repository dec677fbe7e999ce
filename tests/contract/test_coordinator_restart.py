"""Stopping a coordinator and starting the next one on the same home."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.records.runs import RunEvent, RunState
from ouroscope.store import ArtifactStore
from services.coordinator import service
from services.coordinator.service import RunningCoordinator
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset


async def ended(coordinator: RunningCoordinator, name: str, *, resume: bool = False) -> RunEvent:
    """Follow a run to its end and return the last that is heard of it."""
    async with open_channel(coordinator.address) as channel:
        client = CoordinatorClient(channel)
        if resume:
            await client.resume_run(name)
        return [event async for event in client.watch_run(name)][-1]


async def begun(coordinator: RunningCoordinator, home: Path, team: Team) -> str:
    """Start a run and return its name once workers are at work on it."""
    async with open_channel(coordinator.address) as channel:
        spec = small_spec(generations=1, dataset=write_dataset(home))
        name = (await CoordinatorClient(channel).create_run(spec)).name
    async with asyncio.timeout(100):
        while not any(lock.locked() for lock in team.at_work.values()):
            await asyncio.sleep(0.01)
    return name


async def test_a_run_goes_on_after_a_restart_and_what_was_not_finished_is_done_again(tmp_path: Path) -> None:
    store, team = ArtifactStore(str(tmp_path / "store")), Team(tmp_path / "workers", pause=30.0)
    first = await service.start(tmp_path, store, workers=team.workers)
    name = await begun(first, tmp_path, team)
    await first.stop(grace=1.0)
    assert team.cancelled, "what nobody waits for any more is stopped"
    assert await asyncio.to_thread(lambda: True), "the loop has threads again, although DBOS took its own along"
    team.pause = 0.0
    second = await service.start(tmp_path, store, workers=team.workers)
    assert (await ended(second, name)).state is RunState.SUCCEEDED
    await second.stop(grace=1.0)
    assert len(team.journal) == len(set(team.journal))


async def test_interrupted_runs_wait_to_be_asked_for_where_that_is_wanted(tmp_path: Path) -> None:
    store, team = ArtifactStore(str(tmp_path / "store")), Team(tmp_path / "workers", pause=30.0)
    first = await service.start(tmp_path, store, workers=team.workers)
    name = await begun(first, tmp_path, team)
    await first.stop(grace=1.0)
    team.pause = 0.0
    second = await service.start(tmp_path, store, workers=team.workers, recover=False)
    told = await ended(second, name)
    assert told.state is RunState.FAILED
    assert (
        told.message == f"the process that drove it ended. To go on: ouroscope runs resume {name.removeprefix('runs/')}"
    )
    assert (await ended(second, name, resume=True)).state is RunState.SUCCEEDED
    await second.stop(grace=1.0)
