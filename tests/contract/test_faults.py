"""A run while what it stands on breaks: object storage, the disk, the clock.

Each ends as an undisturbed one. A database that goes and comes is in test_postgres.py, a certificate that runs out in
test_security.py, a store on a full disk in test_s3.py.
"""

from __future__ import annotations

import asyncio
import pwd
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.errors import OuroscopeError, StorageFull
from ouroscope.records.runs import Run, RunState
from ouroscope.store import ArtifactStore
from services.coordinator import board, database, lock, runs, service
from services.coordinator.connection import DATABASE, FULL
from services.coordinator.service import RunningCoordinator
from tests.object_store import Fault, FaultProxy, ObjectStore
from tests.postgres import PostgresServer, owner
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

PATIENT = 240.0
"""Seconds; only a test that fails waits so long."""


@asynccontextmanager
async def running(home: Path, store: ArtifactStore, team: Team, **options: Any) -> AsyncIterator[RunningCoordinator]:
    coordinator = await service.start(home, store, workers=team.workers, **options)
    try:
        yield coordinator
    finally:
        await coordinator.stop(grace=1.0)


async def create(coordinator: RunningCoordinator, folder: Path) -> str:
    async with open_channel(coordinator.address) as channel:
        return (await CoordinatorClient(channel).create_run(small_spec(dataset=write_dataset(folder)))).name


async def ended(coordinator: RunningCoordinator, name: str) -> Run:
    async with open_channel(coordinator.address) as channel, asyncio.timeout(PATIENT):
        client = CoordinatorClient(channel)
        while True:
            with suppress(OuroscopeError):
                if (run := await client.get_run(name)).state.ended:
                    return run
            await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What is worked on when nothing breaks."""
    folder = tmp_path_factory.mktemp("quiet")
    team = Team(folder / "workers")

    async def work() -> None:
        async with running(folder / "home", ArtifactStore(str(folder / "store")), team) as coordinator:
            assert (await ended(coordinator, await create(coordinator, folder))).state is RunState.SUCCEEDED

    asyncio.run(work())
    return sorted(team.journal)


# Object storage


@pytest.fixture
def proxy(object_store: ObjectStore, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    with FaultProxy(object_store.endpoint, slow=0.5) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.endpoint)
        yield found


async def test_object_storage_that_fails_is_slow_and_cuts_for_a_while_costs_a_run_nothing_but_time(
    tmp_path: Path, proxy: FaultProxy, s3: str, undisturbed: list[str]
) -> None:
    team = Team(tmp_path / "workers")
    troubles = (("500", "InternalError"), ("503", "SlowDown"), ("slow", ""), ("cut", ""))
    proxy.faults = [Fault(kind, 1, method, "", code) for kind, code in troubles for method in ("GET", "PUT")]
    async with running(tmp_path / "home", ArtifactStore(s3), team) as coordinator:
        name = await create(coordinator, tmp_path)
        run = await ended(coordinator, name)
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert sum(fault.times == 0 for fault in proxy.faults) >= 4, "there was trouble"
    assert sorted(team.journal) == undisturbed, "nothing is done twice, nothing is left out"


# The disk


@contextmanager
def small_disk(folder: Path, megabytes: int, user: str | None = None) -> Iterator[Path]:
    """Mount a disk of its own over `folder`; where this user may not mount one, the test is skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    options = [f"size={megabytes}m", "mode=0700", *([] if user is None else [f"uid={pwd.getpwnam(user).pw_uid}"])]
    mount = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write until there is no room left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 9):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


@asynccontextmanager
async def watching(coordinator: RunningCoordinator, name: str) -> AsyncIterator[Callable[[str], Awaitable[Run]]]:
    """Watch a run; what is given waits until those who watch are told something, and returns what they see then."""
    async with open_channel(coordinator.address) as channel, asyncio.timeout(PATIENT):
        seen = CoordinatorClient(channel).watch_run(name)
        await anext(seen)

        async def told(what: str) -> Run:
            return await anext(one async for one in seen if what in (one.message or ""))

        yield told


async def refused_for_room(coordinator: RunningCoordinator, folder: Path) -> None:
    with pytest.raises(StorageFull, match="make room"):
        await create(coordinator, folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, str | None]]:
    """A disk of 16 MiB with a database on it, and the URL of that; SQLite is made where a home has it."""
    if request.param == "sqlite":
        with small_disk(tmp_path / "home" / "state", 16) as disk:
            yield disk, None
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    space = f"small_{uuid.uuid4().hex}"
    # Below no folder of a test: those only their owner can enter, and servers run as another user.
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder), 16, owner()) as disk:
        server.do(f"CREATE TABLESPACE {space} LOCATION '{disk}'")
        url = server.database(space)
        yield disk, url
        server.do(f'DROP DATABASE "{urlsplit(url).path[1:]}" WITH (FORCE)', f"DROP TABLESPACE {space}")


def crowd(server_url: str) -> None:
    """Let every row want a page of its own: there are fewer rows in a test than fit into the pages that are there."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('public', 'dbos')"
        ).fetchall()
        for (table,) in tables:
            connection.execute(f"ALTER TABLE {table} SET (fillfactor = 10)")


async def test_a_run_whose_database_has_no_room_stands_still_says_why_and_goes_on_when_there_is_some(
    tmp_path: Path, database_disk: tuple[Path, str | None], undisturbed: list[str]
) -> None:
    disk, url = database_disk
    team = Team(tmp_path / "workers", pause=0.02)
    store = ArtifactStore(str(tmp_path / "store"))
    async with running(tmp_path / "home", store, team, database=url) as coordinator:
        name = await create(coordinator, tmp_path)
        await until(lambda: len(team.journal) >= 6)
        # Slowly, so that the run has not ended when the disk is full, however long that takes.
        team.pause = 1.0
        async with watching(coordinator, name) as told:
            if url is not None:
                await asyncio.to_thread(crowd, url)
            ballast = await asyncio.to_thread(fill, disk)
            team.pause = 0.0
            seen = await told("make room")
        await refused_for_room(coordinator, tmp_path)
        ballast.unlink()
        run = await ended(coordinator, name)
    assert seen.state is RunState.RUNNING
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert sorted(team.journal) == undisturbed, "nothing is done twice, nothing is left out"


def use_up_the_log(url: str) -> None:
    """Write into the log of changes of a server until it cannot be written; a server that cannot ends itself."""
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
        while True:
            connection.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 100000))")


async def test_a_run_goes_on_after_its_database_server_fell_over_a_full_disk_and_was_started_again(
    tmp_path: Path, program: Callable[[str], str], undisturbed: list[str]
) -> None:
    team = Team(tmp_path / "workers", pause=0.02)
    store = ArtifactStore(str(tmp_path / "store"))
    with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder), 96, owner()) as disk:
        server = PostgresServer(Path(program("initdb")).resolve().parent, disk)
        server.start()
        try:
            url = server.database()
            async with running(tmp_path / "home", store, team, database=url) as coordinator:
                name = await create(coordinator, tmp_path)
                await until(lambda: len(team.journal) >= 6)
                team.pause = 1.0
                async with watching(coordinator, name) as told:
                    ballast = await asyncio.to_thread(fill, disk)
                    await asyncio.to_thread(use_up_the_log, url)
                    team.pause = 0.0
                    seen = await told("the database of runs")
                ballast.unlink()
                await asyncio.to_thread(server.restart)
                run = await ended(coordinator, name)
        finally:
            server.remove()
    assert seen.state is RunState.RUNNING
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert sorted(team.journal) == undisturbed, "nothing is done twice, nothing is left out"


async def test_a_step_that_had_no_room_is_not_remembered_as_failed_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[str]
) -> None:
    monkeypatch.setattr(lock, "WATCH", 0.05)
    no_room = StorageFull(FULL, dependency=DATABASE)
    team = Team(tmp_path / "workers", trouble={"import": no_room, "generate": no_room, "fine_tune": no_room})
    async with running(tmp_path / "home", ArtifactStore(str(tmp_path / "store")), team) as coordinator:
        run = await ended(coordinator, await create(coordinator, tmp_path))
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert team.trouble == {}
    assert sorted(team.journal) == undisturbed, "nothing is done twice, nothing is left out"


# The clock


class Jumping(datetime):
    """A clock that can be set."""

    offset = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]  # as plain as the true one
        return datetime.now(tz or UTC) + cls.offset


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Set the clock of the coordinator, and of the libraries that it stands on, so far from the true time."""
    for module in (board, database, runs):
        monkeypatch.setattr(module, "datetime", Jumping)
    # gRPC hands its deadlines to a core that asks the kernel; there the clock of the machine did not jump.
    monkeypatch.setattr("grpc.aio._utils.time", SimpleNamespace(time=time.time))
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + Jumping.offset.total_seconds())

    def set_to(offset: timedelta) -> None:
        monkeypatch.setattr(Jumping, "offset", offset)

    return set_to


async def test_a_clock_that_jumps_changes_nothing_in_a_run(
    tmp_path: Path, jump: Callable[[timedelta], None], undisturbed: list[str]
) -> None:
    team = Team(tmp_path / "workers", pause=0.02)
    async with running(tmp_path / "home", ArtifactStore(str(tmp_path / "home" / "store")), team) as coordinator:
        name = await create(coordinator, tmp_path)
        for done, offset in ((4, timedelta(days=-400)), (8, timedelta(days=400)), (12, timedelta(hours=-1))):
            await until(lambda done=done: len(team.journal) >= done)  # type: ignore[misc]
            jump(offset)
        run = await ended(coordinator, name)
        async with open_channel(coordinator.address) as channel:
            client = CoordinatorClient(channel)
            numbers = [one.number async for one in client.list_generations(f"{name}/arms/replace")]
            assert [one.name async for one in client.list_runs()] == [name]
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert numbers == [0, 1, 2, 3]
    assert sorted(team.journal) == undisturbed, "nothing is done twice, nothing is left out"
