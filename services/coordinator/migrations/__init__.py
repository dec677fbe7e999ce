"""The history of the tables: one file per change in `versions/`, the same for SQLite and PostgreSQL.

Alembic keeps in `alembic_version` how far a database has come. To change a table: change `tables.py`, add a file to
`versions/` that does the same to what is there, and set `HEAD`; a test compares both on both engines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from ouroscope.errors import PreconditionFailed

log = structlog.get_logger(__name__)

HEAD = "0002"
"""Newest change that this program knows. Written here too, so that a start that changes nothing needs no Alembic."""
BEFORE_MIGRATIONS = 1
"""Number in `schema_version` of tables that were made before there were migrations."""
ADVISORY_LOCK = (0x0B0B, 1)
"""Keys of the lock in PostgreSQL under which tables are changed; see `lock.py` for its sibling."""


def migrate(connection: sa.Connection) -> None:
    """Bring the tables to `HEAD` within the transaction of `connection`: all of it happens, or nothing.

    Others who want the same wait, and then find it done.

    Raises:
        PreconditionFailed: a newer program made the tables.
    """
    if revision_of(connection) == HEAD:
        return
    _take_turns(connection)
    # Somebody may have been faster while we waited.
    found = revision_of(connection)
    if found != HEAD:
        _check_first_tables(connection, found)
        _upgrade(connection)
        log.info("tables.migrated", before=found, now=HEAD)


def is_behind(connection: sa.Connection) -> bool:
    """Return whether `migrate` would change anything.

    Raises:
        PreconditionFailed: a newer program made the tables.
    """
    found = revision_of(connection)
    # Both are four digits.
    if found is not None and found > HEAD:
        raise _too_new()
    return found != HEAD


def revision_of(connection: sa.Connection) -> str | None:
    """Return how far the tables of a database have come; None where there are none, or of before the migrations."""
    return _revision(connection) if _is_there(connection, "alembic_version") else None


def _take_turns(connection: sa.Connection) -> None:
    """Let one process at a time change the tables; the lock goes with the transaction."""
    if connection.dialect.name == "sqlite":
        # The driver begins transactions only before it writes rows; tables are to be changed in one as well.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(*ADVISORY_LOCK)))


def _upgrade(connection: sa.Connection) -> None:
    # Only a start that changes something pays for these imports.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    script = ScriptDirectory(str(Path(__file__).parent))

    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs(HEAD, revision)

    try:
        with EnvironmentContext(Config(), script, fn=steps, destination_rev=HEAD) as environment:
            environment.configure(connection=connection)
            environment.run_migrations()
    except CommandError as error:
        raise _too_new() from error


def _check_first_tables(connection: sa.Connection, revision: str | None) -> None:
    """Tables of before the migrations are those of the first file in `versions/`, or of another program's."""
    if revision is None and _is_there(connection, "schema_version"):
        version = connection.execute(sa.text("SELECT version FROM schema_version")).scalar()
        if version not in (None, BEFORE_MIGRATIONS):
            raise _too_new()


def _too_new() -> PreconditionFailed:
    return PreconditionFailed(
        "the runs were written by a newer version of Ouroscope, whose tables this one does not know; upgrade this "
        "program, or use another home or database"
    )


def _is_there(connection: sa.Connection, table: str) -> bool:
    return sa.inspect(connection).has_table(table)


def _revision(connection: sa.Connection) -> str | None:
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
