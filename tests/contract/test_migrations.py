"""The tables are what the migrations make of them, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from structlog.testing import capture_logs

from ouroscope.errors import PreconditionFailed
from services.coordinator import migrations, tables
from services.coordinator.database import open_history
from tests.places import Place, make_place

SCHEMA_1 = {"schema_version", "runs", "generations", "monitors", "monitor_generations"}


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make_place(request, tmp_path)


async def in_database(place: Place, work: Callable[[sa.Connection], Any]) -> Any:
    """Do something by hand, as an older program, or a person, would."""
    (place.home / tables.FILE).parent.mkdir(parents=True, exist_ok=True)
    engine = tables.make_engine(tables.database_url(place.home, place.url), read_only=False)
    async with engine.begin() as connection:
        answer = await connection.run_sync(work)
    await engine.dispose()
    return answer


def tables_of_version_1(connection: sa.Connection) -> None:
    """What programs did before there were migrations."""
    tables.metadata.create_all(connection, [tables.metadata.tables[name] for name in SCHEMA_1])
    connection.execute(tables.schema_version.insert().values(version=1))


def says(statement: str) -> Callable[[sa.Connection], Any]:
    return lambda connection: connection.execute(sa.text(statement))


async def opened(place: Place) -> None:
    await (await open_history(place.home, place.url)).close()


def differences(connection: sa.Connection) -> list[Any]:
    return compare_metadata(MigrationContext.configure(connection), tables.metadata)


async def test_what_the_migrations_make_is_what_the_program_expects(place: Place) -> None:
    await opened(place)
    assert await in_database(place, differences) == []


async def test_a_difference_would_be_seen(place: Place) -> None:
    await opened(place)
    await in_database(place, says("ALTER TABLE runs DROP COLUMN setup"))
    assert [found[0] for found in await in_database(place, differences)] == ["add_column"]


def test_the_program_knows_the_newest_migration() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_heads() == [migrations.HEAD]


async def test_tables_of_before_the_migrations_are_taken_over_with_what_is_in_them(place: Place) -> None:
    row = {"run": "r", "request_id": "q", "state": "PENDING", "created": "2026", "payload": "{}", "setup": "{}"}
    await in_database(place, tables_of_version_1)
    await in_database(place, lambda connection: connection.execute(tables.runs.insert().values(row)))
    await opened(place)
    assert await in_database(place, differences) == []
    kept = await in_database(place, lambda connection: connection.execute(sa.select(tables.runs)).mappings().all())
    assert [dict(one) for one in kept] == [row]


async def test_tables_that_an_early_program_did_not_have_are_added(place: Place) -> None:
    await in_database(place, tables_of_version_1)
    await in_database(place, says("DROP TABLE monitors"))
    await opened(place)
    assert await in_database(place, differences) == []


async def test_a_program_from_before_the_migrations_refuses_what_this_one_made(place: Place) -> None:
    await opened(place)
    version = await in_database(place, lambda connection: connection.execute(sa.select(tables.schema_version)).all())
    assert version == [(2,)], "it knew 1, and told people what to do about any other number"


@pytest.mark.parametrize(
    "newer", ["UPDATE alembic_version SET version_num = '9999'", "DROP TABLE alembic_version"], ids=["newer", "unknown"]
)
async def test_tables_of_a_newer_program_are_refused_and_stay(place: Place, newer: str) -> None:
    await opened(place)
    await in_database(place, says(newer))
    with pytest.raises(PreconditionFailed, match=r"newer version of Ouroscope.*upgrade this program"):
        await opened(place)
    assert await in_database(place, lambda c: c.execute(sa.select(tables.schema_version)).all()) == [(2,)]


async def test_opening_again_changes_nothing_and_needs_no_alembic(place: Place, root: Path) -> None:
    await opened(place)
    code = """
        import asyncio, sys
        from pathlib import Path
        from services.coordinator.database import open_history
        asyncio.run(open_history(Path(sys.argv[1]), sys.argv[2] or None))
        print("alembic" in sys.modules)
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    command = [sys.executable, "-c", lines, str(place.home), place.url or ""]
    assert subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout == "False\n"


async def test_coordinators_that_start_at_once_migrate_once(place: Place) -> None:
    with capture_logs() as events:
        await asyncio.gather(*(opened(place) for _ in range(5)))
    assert [event["event"] for event in events].count("tables.migrated") == 1


async def test_a_migration_that_fails_leaves_the_tables_as_they_were(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_database(place, tables_of_version_1)
    upgrade = migrations._upgrade

    def broken(connection: sa.Connection) -> None:
        upgrade(connection)
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(migrations, "_upgrade", broken)
        with pytest.raises(MemoryError):
            await opened(place)
    assert not await in_database(place, lambda connection: sa.inspect(connection).has_table("alembic_version"))
    assert await in_database(place, lambda c: c.execute(sa.select(tables.schema_version)).all()) == [(1,)]
    await opened(place)
    assert await in_database(place, differences) == []
