"""One role of PostgreSQL owns the tables and changes them; the coordinator works with another that may not."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from ouroscope.client import CoordinatorClient, open_channel
from ouroscope.errors import Busy, PreconditionFailed, Unavailable
from ouroscope.records.runs import RunState
from ouroscope.store import ArtifactStore
from ouroscope_app.doctor.data import database_findings
from ouroscope_app.doctor.findings import Level
from services.coordinator import durable, ownership, service, tables
from services.coordinator.database import open_history
from services.coordinator.lock import take_lock
from services.coordinator.ownership import await_tables, migrate_as_owner, role_of
from services.coordinator.settings import PREFIX
from tests.chart import Object, environment, pods
from tests.contract.test_postgres import ended, until
from tests.postgres import PostgresServer
from tests.unit.coordinator.fakes import Team, small_spec, write_dataset

PATIENT = 240.0
"""Seconds; only a test that fails waits so long."""
AT_ONCE = 0.0
CHANGES = (
    "CREATE TABLE more (x int)",
    "CREATE TABLE dbos.more (x int)",
    "CREATE SCHEMA more",
    "ALTER TABLE runs ADD COLUMN more int",
    "DROP TABLE runs",
    "ALTER TABLE dbos.workflow_status ADD COLUMN more int",
    "UPDATE alembic_version SET version_num = '9999'",
)
"""What only the owner may do."""


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "LONGEST_PAUSE", 0.1)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """A database with its roles, as their addresses; `group` is one that more of its kind could join."""

    server: PostgresServer
    administrator: str
    owner: str
    worker: str
    group: str

    def does(self, *commands: str, url: str = "") -> None:
        self.server.do(*commands, url=url or self.owner)


@pytest.fixture
def roles(postgresql: PostgresServer) -> Roles:
    """The owner may make what it likes in its database; the worker may log in."""
    stem = f"r{uuid.uuid4().hex[:12]}"
    owner, worker, group = (f"{stem}_{name}" for name in ("owner", "worker", "group"))
    url = sa.make_url(postgresql.database())
    postgresql.do(
        f"CREATE ROLE {owner} LOGIN", f"CREATE ROLE {worker} LOGIN", f"CREATE ROLE {group}",
        f'ALTER DATABASE "{url.database}" OWNER TO {owner}',
    )  # fmt: skip
    schema = (f"GRANT ALL ON SCHEMA public TO {owner}", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    administrator = url.render_as_string(hide_password=False)
    postgresql.do(*schema, url=administrator)
    # Whoever is asked for a password does not get in here; whoever shows one that nobody asked for does.
    owning, working = (
        url.set(username=name, password="not-to-be-told").render_as_string(hide_password=False)
        for name in (owner, worker)
    )
    return Roles(server=postgresql, administrator=administrator, owner=owning, worker=working, group=group)


async def migrated(roles: Roles, limit: float = AT_ONCE) -> None:
    await migrate_as_owner(roles.owner, role_of(roles.worker), limit)


async def runs_to_its_end(folder: Path, url: str) -> RunState:
    team, store = Team(folder / "workers"), ArtifactStore(str(folder / "store"))
    coordinator = await service.start(folder, store, workers=team.workers, database=url)
    try:
        async with open_channel(coordinator.address) as channel:
            spec = small_spec(dataset=write_dataset(folder))
            name = (await CoordinatorClient(channel).create_run(spec)).name
        return (await ended(coordinator, name)).state
    finally:
        await coordinator.stop(grace=1.0)


async def levels(folder: Path, url: str) -> set[Level]:
    """Return what `ouroscope doctor` thinks of the database."""
    return {found.level for found in await database_findings(folder, url)}


def refused(url: str, statement: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return True
    return False


async def test_a_role_that_may_make_no_table_runs_what_the_owner_has_prepared(tmp_path: Path, roles: Roles) -> None:
    await migrated(roles)
    await await_tables(roles.worker, AT_ONCE)
    assert await levels(tmp_path, roles.worker) == {Level.OK}
    assert await runs_to_its_end(tmp_path, roles.worker) is RunState.SUCCEEDED
    for statement in CHANGES:
        assert refused(roles.worker, statement), statement
    assert not refused(roles.owner, "CREATE TABLE more (x int)")


async def test_a_role_without_tables_of_an_owner_is_told_so_and_makes_none(tmp_path: Path, roles: Roles) -> None:
    with pytest.raises(Unavailable, match="tables of runs are not there yet"):
        await await_tables(roles.worker, AT_ONCE)
    with pytest.raises(PreconditionFailed, match="may not change them; let their owner do it"):
        await open_history(tmp_path, roles.worker)
    assert Level.WARNING in await levels(tmp_path, roles.worker)


async def test_the_tables_of_the_workflow_library_are_waited_for_too(roles: Roles) -> None:
    await migrated(roles)
    roles.does("UPDATE dbos.dbos_migrations SET version = version - 1")
    assert durable.system_is_behind(tables.system_url(Path(), roles.worker))
    with pytest.raises(Unavailable, match="tables of the workflow library"):
        await await_tables(roles.worker, AT_ONCE)


async def test_rights_may_be_those_of_a_group_that_the_coordinators_role_is_in(tmp_path: Path, roles: Roles) -> None:
    await migrate_as_owner(roles.owner, roles.group, AT_ONCE)
    with pytest.raises(Unavailable, match="not granted to this role"):
        await await_tables(roles.worker, AT_ONCE)
    roles.does(f"GRANT {roles.group} TO {role_of(roles.worker)}", url=roles.administrator)
    await await_tables(roles.worker, AT_ONCE)
    assert await runs_to_its_end(tmp_path, roles.worker) is RunState.SUCCEEDED


async def test_a_database_of_one_role_is_taken_over_with_what_is_in_it(tmp_path: Path, roles: Roles) -> None:
    """As docs/operations.md says it: what was the coordinator's becomes the owner's."""
    one, name = role_of(roles.worker), sa.make_url(roles.worker).database
    before = (f'ALTER DATABASE "{name}" OWNER TO {one}', f"GRANT CREATE ON SCHEMA public TO {one}")
    roles.does(*before, url=roles.administrator)
    assert await runs_to_its_end(tmp_path / "before", roles.worker) is RunState.SUCCEEDED
    after = (f"REASSIGN OWNED BY {one} TO {role_of(roles.owner)}", f"REVOKE CREATE ON SCHEMA public FROM {one}")
    roles.does(*after, url=roles.administrator)
    with pytest.raises(Unavailable, match="not granted to this role"):
        await await_tables(roles.worker, AT_ONCE)
    await migrated(roles)
    assert await runs_to_its_end(tmp_path / "after", roles.worker) is RunState.SUCCEEDED
    with psycopg.connect(roles.worker) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert all(refused(roles.worker, statement) for statement in CHANGES)


async def test_an_upgrade_waits_for_the_old_coordinator_and_the_new_one_for_the_upgrade(
    tmp_path: Path, roles: Roles
) -> None:
    await migrated(roles)
    team, store = Team(tmp_path / "workers"), ArtifactStore(str(tmp_path / "store"))
    old = await service.start(tmp_path / "old", store, workers=team.workers, database=roles.worker)
    roles.does("DROP TABLE alembic_version", "UPDATE schema_version SET version = 1")
    with capture_logs() as events:
        job, waits = (
            asyncio.create_task(one) for one in (migrated(roles, PATIENT), await_tables(roles.worker, PATIENT))
        )
        await until(lambda: waits_for(events, "another coordinator is at work"))
        await until(lambda: waits_for(events, "tables of runs are not there yet"))
    assert not job.done()
    assert not waits.done()
    await old.stop(grace=1.0)
    await asyncio.gather(job, waits)
    assert await runs_to_its_end(tmp_path / "new", roles.worker) is RunState.SUCCEEDED


def waits_for(events: Iterable[Mapping[str, Any]], why: str) -> bool:
    return any(why in one.get("why", "") for one in events)


async def test_the_owner_waits_no_longer_than_it_is_told(roles: Roles) -> None:
    lock = await take_lock(Path(), roles.worker)
    with pytest.raises(Busy, match="another coordinator is at work"):
        await migrated(roles)
    await lock.release()


async def test_where_nothing_is_to_be_changed_the_coordinator_at_work_is_not_waited_for(roles: Roles) -> None:
    await migrated(roles)
    lock = await take_lock(Path(), roles.worker)
    await migrated(roles)
    with pytest.raises(Busy, match="another coordinator"):
        # Two at work would be refused anyhow; here it is waited until the first is gone.
        await await_tables(roles.worker, AT_ONCE)
    await lock.release()


async def test_tables_of_a_newer_program_are_refused_at_once_by_both(roles: Roles) -> None:
    await migrated(roles)
    roles.does("UPDATE alembic_version SET version_num = '9999'")
    for work in (migrated(roles, PATIENT), await_tables(roles.worker, PATIENT)):
        with pytest.raises(PreconditionFailed, match="newer version of Ouroscope"):
            await work


async def test_an_owner_that_may_not_is_told_what_the_server_says_and_nobody_reads_a_password(roles: Roles) -> None:
    with pytest.raises(Unavailable, match="permission denied") as caught:
        await migrate_as_owner(roles.worker, role_of(roles.worker), AT_ONCE)
    assert "not-to-be-told" not in caught.value.message
    with pytest.raises(Unavailable, match='role "nobody_at_all" does not exist'):
        await migrate_as_owner(roles.owner, "nobody_at_all", AT_ONCE)


async def program(root: Path, *words: str, **variables: str) -> tuple[int | None, str]:
    """Run the program of the coordinator, and return its status with all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.coordinator", *words, cwd=root, env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told, _ = await process.communicate()
    return process.returncode, told.decode()


async def as_the_chart_says(root: Path, container: Object, roles: Roles) -> tuple[int | None, str]:
    """Run what a container runs, with its variables; those from Secrets are the addresses of the two roles."""
    addresses = {f"{PREFIX}_DATABASE": roles.worker, f"{PREFIX}_MIGRATION_DATABASE": roles.owner}
    variables = {name: addresses.get(name, value) for name, value in environment(container).items()}
    *interpreter, name = container["command"][:3]
    assert (interpreter, name) == (["python", "-m"], "services.coordinator")
    return await program(root, *container["command"][3:], **variables, OURO_COORDINATOR_LOG_LEVEL="debug")


async def test_what_the_chart_runs_prepares_the_tables_and_writes_no_password(root: Path, roles: Roles) -> None:
    (job,) = pods("gpu-vllm")["migrate"]["spec"]["containers"]
    (before,) = pods("gpu-vllm")["coordinator"]["spec"]["initContainers"]
    both = await asyncio.gather(*(as_the_chart_says(root, one, roles) for one in (job, before)))
    for status, told in both:
        assert (status, "tables.ready" in told) == (0, True), told
        assert "not-to-be-told" not in told


async def test_the_program_says_what_it_was_not_told(root: Path, roles: Roles) -> None:
    answers = await asyncio.gather(
        program(root, "--migrate", OURO_COORDINATOR_MIGRATION_DATABASE=roles.owner),
        program(root, "--await-tables"),
        program(root, "--await"),
    )
    for (status, told), expected in zip(answers, [(1, "_GRANT_TO"), (1, "_DATABASE"), (2, "usage")], strict=True):
        assert (status, expected[1] in told) == (expected[0], True), told
