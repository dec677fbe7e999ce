"""A backup of a run at work goes on on an empty machine, and a half-finished run after garbage collection."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.records.artifacts import ArtifactKind
from ouroscope.records.runs import RunState
from ouroscope.store import ArtifactStore
from ouroscope.store.verification import Verifier, artifacts_in
from ouroscope_app.main import app
from services.coordinator import service
from services.coordinator.references import read_needed
from services.coordinator.service import RunningCoordinator
from tests.places import Place, make_place
from tests.postgres import PostgresServer
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

Restore = Callable[[], Place]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make_place(request, tmp_path / "home")


def team_of(home: Path, pause: float = 0.0) -> Team:
    """Workers that remember in the store, as real ones do."""
    return Team(home / "store" / "workers", pause=pause)


async def start(place: Place, team: Team) -> RunningCoordinator:
    store = ArtifactStore(str(place.home / "store"))
    return await service.start(place.home, store, workers=team.workers, database=place.url)


async def half_done(coordinator: RunningCoordinator, home: Path, team: Team) -> str:
    async with open_channel(coordinator.address) as channel, asyncio.timeout(60):
        spec = small_spec(dataset=write_dataset(home))
        name = (await CoordinatorClient(channel).create_run(spec)).name
        while len(team.journal) < 10:
            await asyncio.sleep(0.01)
    return name


async def ended(coordinator: RunningCoordinator, name: str) -> RunState:
    async with open_channel(coordinator.address) as channel, asyncio.timeout(60):
        client = CoordinatorClient(channel)
        return [event async for event in client.watch_run(name)][-1].state


def back_up(place: Place, folder: Path, server: PostgresServer | None) -> Restore:
    """Copy the database, then the store, as docs/operations.md says; return what restores both elsewhere."""
    folder.mkdir()
    if server is None:
        for name in ("dbos.sqlite", "ouroscope.sqlite"):
            with (
                closing(sqlite3.connect(place.home / "state" / name)) as source,
                closing(sqlite3.connect(folder / name)) as target,
            ):
                source.backup(target)
    else:
        assert place.url is not None
        subprocess.run([server.program("pg_dump"), "-Fc", "-f", folder / "dump", "-d", place.url], check=True)
    shutil.copytree(place.home / "store", folder / "store", ignore=shutil.ignore_patterns("staging"))

    def restore() -> Place:
        home = folder.parent / "empty machine"
        shutil.copytree(folder / "store", home / "store")
        if server is None:
            (home / "state").mkdir()
            for name in ("dbos.sqlite", "ouroscope.sqlite"):
                shutil.copy(folder / name, home / "state" / name)
            return Place(home)
        url = server.database()
        subprocess.run([server.program("pg_restore"), "-d", url, folder / "dump"], check=True)
        return Place(home, url)

    return restore


async def test_a_backup_of_a_run_at_work_goes_on_on_an_empty_machine(
    place: Place, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = None if place.url is None else request.getfixturevalue("postgresql")
    team = team_of(place.home, pause=0.05)
    first = await start(place, team)
    name = await half_done(first, place.home, team)
    restore = await asyncio.to_thread(back_up, place, tmp_path / "backup", server)
    await first.stop(grace=1.0)
    elsewhere = await asyncio.to_thread(restore)
    done = team_of(elsewhere.home).journal
    assert done, "something was finished"
    again = team_of(elsewhere.home)
    second = await start(elsewhere, again)
    assert await ended(second, name) is RunState.SUCCEEDED
    await second.stop(grace=1.0)
    assert again.journal[: len(done)] == done
    assert len(again.journal) == len(set(again.journal)), "what was finished before the backup is not done again"
    store = ArtifactStore(str(elsewhere.home / "store"))
    found = artifacts_in(store)
    assert found
    assert not [checked for checked in map(Verifier(store).check, found) if checked.problems]


async def test_garbage_collection_takes_nothing_that_a_half_finished_run_needs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUROSCOPE_HOME", str(place.home))
    if place.url is not None:
        monkeypatch.setenv("OURO_COORDINATOR_DATABASE", place.url)
    team = team_of(place.home, pause=0.05)
    first = await start(place, team)
    name = await half_done(first, place.home, team)
    await first.stop(grace=1.0)
    store = ArtifactStore(str(place.home / "store"))
    needed = read_needed(place.home, place.url).artifacts & set(artifacts_in(store))
    alone = store.publish(ArtifactKind.CORPUS, None, {"a": b"nobody knows me"})
    for path in (place.home / "store").rglob("manifest.json"):
        os.utime(path, (1, 1))
    done = await asyncio.to_thread(CliRunner().invoke, app, ["store", "gc", "--delete", "--older-than", "0m"])
    assert done.exit_code == 0, done.output
    assert needed
    assert needed <= set(artifacts_in(store))
    assert not store.exists(alone)
    team.pause = 0.0
    second = await start(place, team)
    assert await ended(second, name) is RunState.SUCCEEDED
    await second.stop(grace=1.0)
