"""A coordinator on a real PostgreSQL server: alone on its database, and what happens when the server goes and comes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import psycopg
import pytest
import sqlalchemy as sa

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.errors import PreconditionFailed, StorageFull, Unavailable
from ouroscope.records.runs import Run, RunState
from ouroscope.store import ArtifactStore
from services.coordinator import connection as connection_module
from services.coordinator import lock as lock_module
from services.coordinator import service, tables, workflows
from services.coordinator.connection import FULL
from services.coordinator.database import open_history
from services.coordinator.lock import DatabaseLock
from services.coordinator.service import RunningCoordinator
from tests.postgres import PostgresServer
from tests.unit.coordinator.conftest import a_run
from tests.unit.coordinator.drive import RUN, driven_spec
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

PATIENT = 240.0
"""Seconds; only a test that fails waits so long."""


@pytest.fixture
def url(postgresql: PostgresServer) -> str:
    return postgresql.database()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "WATCH", 0.05)


@asynccontextmanager
async def running(folder: Path, url: str, team: Team, **options: Any) -> AsyncIterator[RunningCoordinator]:
    store = ArtifactStore(str(folder / "store"))
    coordinator = await service.start(folder, store, workers=team.workers, database=url, **options)
    try:
        yield coordinator
    finally:
        await coordinator.stop(grace=1.0)


async def until(condition: Callable[[], bool], seconds: float = PATIENT) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def create(coordinator: RunningCoordinator, folder: Path) -> str:
    async with open_channel(coordinator.address) as channel:
        return (await CoordinatorClient(channel).create_run(small_spec(dataset=write_dataset(folder)))).name


async def ended(coordinator: RunningCoordinator, name: str) -> Run:
    async with open_channel(coordinator.address) as channel, asyncio.timeout(PATIENT):
        client = CoordinatorClient(channel)
        while True:
            with suppress(Unavailable):
                if (run := await client.get_run(name)).state.ended:
                    return run
            await asyncio.sleep(0.05)


def kill_sessions(url: str) -> None:
    """End every session of the database, as a server that is restarted does."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_a_run_ends_on_postgresql_and_its_history_is_there_for_readers(tmp_path: Path, url: str) -> None:
    async with running(tmp_path, url, Team(tmp_path / "workers")) as coordinator:
        assert (await ended(coordinator, await create(coordinator, tmp_path))).state is RunState.SUCCEEDED
    assert not (tmp_path / "state" / "dbos.sqlite").exists()


async def test_a_second_coordinator_is_refused_whatever_it_is_called_and_wherever_its_home_is(
    tmp_path: Path, url: str, root: Path
) -> None:
    code = """
        import asyncio, sys
        from pathlib import Path
        from ouroscope.errors import PreconditionFailed
        from ouroscope.store import ArtifactStore
        from services.coordinator import service
        async def main():
            try:
                await service.start(Path(sys.argv[1]), ArtifactStore(sys.argv[1]), database=sys.argv[2], executor="b")
            except PreconditionFailed as error:
                print(error.message)
        asyncio.run(main())
    """
    lines = "\n".join(line.removeprefix("        ") for line in code.splitlines())
    async with running(tmp_path, url, Team(tmp_path / "workers")):
        command = [sys.executable, "-c", lines, str(tmp_path / "other"), url]
        done = await asyncio.to_thread(subprocess.run, command, cwd=root, capture_output=True, text=True, timeout=60)
    assert "another coordinator is at work on this database" in done.stdout, done.stderr[-2000:]


async def test_coordinators_of_two_databases_do_not_meet(postgresql: PostgresServer) -> None:
    locks = [await DatabaseLock.take(tables.database_url(Path(), postgresql.database())) for _ in range(2)]
    for lock in locks:
        await lock.release()


async def test_a_lock_that_was_released_can_be_taken(url: str) -> None:
    address = tables.database_url(Path(), url)
    for _ in range(2):
        lock = await DatabaseLock.take(address)
        with pytest.raises(PreconditionFailed, match="another coordinator"):
            await DatabaseLock.take(address)
        await lock.release()


async def test_a_lock_is_taken_again_after_its_session_is_gone_and_nothing_is_written_meanwhile(
    tmp_path: Path, url: str
) -> None:
    lock = await DatabaseLock.take(tables.database_url(tmp_path, url))
    history = await open_history(tmp_path, url, lock.check)
    await history.create_run("a", a_run(small_spec(), "a"), None)
    await asyncio.to_thread(kill_sessions, url)
    with pytest.raises(Unavailable, match="not taken it again yet"):
        await history.create_run("b", a_run(small_spec(), "b"), None)
    lost: list[bool] = []
    back = AsyncMock()
    lock.keep(lambda: lost.append(True), back)
    await history.patient(30.0).create_run("b", a_run(small_spec(), "b"), None)
    assert len(await history.runs(10)) == 2
    assert not lost
    assert back.await_count == 1
    await history.close()
    await lock.release()


async def test_a_lock_is_held_while_the_database_has_no_room_and_work_is_taken_up_when_it_has(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, room, taken_up = tables.database_url(Path(), url), list[bool](), asyncio.Event()
    lock = await DatabaseLock.take(address)
    really = lock._write_and_forget

    async def write() -> None:
        await really()
        if not room:
            raise StorageFull(FULL, dependency="database")

    async def back() -> None:
        assert room, "not before there is room"
        taken_up.set()

    monkeypatch.setattr(lock, "_write_and_forget", write)
    said: list[str] = []
    lock.keep(lambda: None, back, said.append)
    assert lock.doubt(StorageFull(FULL, dependency="database"))
    await until(lambda: len(said) >= 2)
    with pytest.raises(PreconditionFailed, match="another coordinator"):
        await DatabaseLock.take(address)
    room.append(True)
    async with asyncio.timeout(120):
        await taken_up.wait()
    assert set(said) == {FULL}
    await lock.release()


async def test_a_coordinator_whose_database_was_taken_meanwhile_is_told_and_writes_nothing_any_more(
    tmp_path: Path, url: str
) -> None:
    address, lost = tables.database_url(tmp_path, url), asyncio.Event()
    first = await DatabaseLock.take(address)
    history = await open_history(tmp_path, url, first.check)
    await asyncio.to_thread(kill_sessions, url)
    second = await DatabaseLock.take(address)
    first.keep(lost.set, AsyncMock())
    async with asyncio.timeout(120):
        await lost.wait()
    with pytest.raises(Unavailable):
        await history.create_run("a", a_run(small_spec(), "a"), None)
    await history.close()
    await first.release()
    with pytest.raises(PreconditionFailed):
        await DatabaseLock.take(address)
    await second.release()


def kill_lock(url: str) -> None:
    """End the session that holds the lock, and no other: its process does not hear of it before it looks."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s",
            (lock_module.ADVISORY_SPACE,),
        )


async def test_a_run_does_not_stand_still_though_one_who_lost_the_lock_goes_on_taking_its_workflows(
    tmp_path: Path, url: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows, "LOOK", 0.2)
    command = [sys.executable, "-m", "tests.unit.coordinator.drive", str(tmp_path), "run", "0.1", url, str(PATIENT)]
    blind = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert blind.stdout is not None
    try:
        assert await asyncio.to_thread(blind.stdout.readline) == b'"started"\n'
        await asyncio.to_thread(kill_lock, url)
        async with running(tmp_path, url, Team(tmp_path / "workers")) as coordinator:
            assert (await ended(coordinator, RUN)).state is RunState.SUCCEEDED
            assert blind.poll() is None, "it was there all the time"
    finally:
        blind.kill()
        blind.communicate()


def test_a_coordinator_that_slept_while_another_took_its_run_up_changes_nothing_when_it_wakes(
    tmp_path: Path, url: str, root: Path
) -> None:
    command = [sys.executable, "-m", "tests.unit.coordinator.drive", str(tmp_path)]
    first = subprocess.Popen([*command, "run", "0.1", url], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert first.stdout is not None
    assert first.stdout.readline() == b'"started"\n'
    team = Team(tmp_path / "workers")
    try:
        while len(team.journal) < 6:
            assert first.poll() is None
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        kill_sessions(url)
        second = subprocess.run([*command, "recover", "0", url], cwd=root, capture_output=True, timeout=PATIENT)
        told = json.loads(second.stdout.splitlines()[-1])
        first.send_signal(signal.SIGCONT)
        woken = json.loads(first.stdout.readline())
    finally:
        first.kill()
        first.communicate()
    assert told["state"] == woken["state"] == "SUCCEEDED"
    assert woken["generations"] == told["generations"]
    assert len(told["journal"]) == len(set(told["journal"])), "who takes a run up does nothing again"
    again = woken["journal"][len(told["journal"]) :]
    assert len(again) <= len(driven_spec(tmp_path).arms), "who slept ends at most what it had in its hands"


async def test_a_server_that_stops_and_starts_during_a_run_costs_nothing_but_time(
    tmp_path: Path, root: Path, program: Callable[[str], str]
) -> None:
    server = PostgresServer(Path(program("initdb")).resolve().parent)
    server.start()
    try:
        team, quiet = Team(tmp_path / "workers", pause=0.02), Team(tmp_path / "quiet")
        async with running(tmp_path, server.database(), team) as coordinator:
            name = await create(coordinator, tmp_path)
            await until(lambda: len(team.journal) >= 8)
            await asyncio.to_thread(server.stop)
            async with open_channel(coordinator.address) as channel:
                with pytest.raises(Unavailable, match="database of runs does not answer"):
                    await CoordinatorClient(channel).get_run(name)
            await asyncio.to_thread(server.start)
            assert (await ended(coordinator, name)).state is RunState.SUCCEEDED
        async with running(tmp_path, server.database(), quiet) as coordinator:
            await ended(coordinator, await create(coordinator, tmp_path))
    finally:
        server.remove()
    assert sorted(team.journal) == sorted(quiet.journal), "nothing is done twice, nothing is left out"


async def test_sessions_that_are_ended_again_and_again_during_a_run_cost_nothing_but_time(
    tmp_path: Path, url: str
) -> None:
    team = Team(tmp_path / "workers", pause=0.02)
    async with running(tmp_path, url, team) as coordinator:
        name = await create(coordinator, tmp_path)
        for done in (4, 8, 12):
            await until(lambda done=done: len(team.journal) >= done)  # type: ignore[misc]
            await asyncio.to_thread(kill_sessions, url)
        assert (await ended(coordinator, name)).state is RunState.SUCCEEDED
    assert len(team.journal) == len(set(team.journal))


async def test_a_server_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="database of runs does not answer"):
        await service.start(
            tmp_path,
            ArtifactStore(str(tmp_path)),
            workers=Team(tmp_path / "workers").workers,
            database=f"postgresql://me:hush@/none?host={tmp_path}",
        )


async def test_the_words_of_a_full_disk_are_understood() -> None:
    class Full(Exception):
        sqlstate = connection_module.DISK_FULL

    with pytest.raises(StorageFull), connection_module._database_errors():
        raise sa.exc.OperationalError("INSERT", {}, Full("could not extend file: No space left on device"))
