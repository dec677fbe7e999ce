"""Where data lies: the home, the database of runs, and the settings that say so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ouroscope.errors import OuroscopeError
from ouroscope_app.doctor.findings import Finding, fault, ok, warning
from ouroscope_app.doctor.machine import clock, is_far, kind_of, nearest
from ouroscope_app.home import VARIABLE, Home

OLDEST_POSTGRESQL = 130_000
"""As `server_version_num` says it: 13."""
_ADDRESS = "correct OURO_COORDINATOR_DATABASE: postgresql://USER:PASSWORD@HOST:5432/NAME"


def home_findings(home: Home, mounts: str, *, on_server: bool) -> Iterator[Finding]:
    """Judge the home.

    Args:
        home: The folder; it need not be there.
        mounts: The table of mounted file systems.
        on_server: Whether the runs lie in PostgreSQL, so that the home holds none.
    """
    yield _writable(home)
    kind = kind_of(home.path, mounts)
    if is_far(kind) and not on_server:
        told = f"on {kind}, a file system of another machine, where locks and SQLite fail"
        yield fault("disk of the home", told, f"let {VARIABLE} name a folder on a local disk, or take PostgreSQL")
    else:
        yield ok("disk of the home", kind or "of a kind that is not told")


def _writable(home: Home) -> Finding:
    if not home.path.exists():
        above = nearest(home.path)
        if os.access(above, os.W_OK | os.X_OK):
            return ok("home", f"{home.path} is not there yet and can be made")
        return fault("home", f"{above} cannot be written", f"let {VARIABLE} name a folder that you can write")
    try:
        home.prepare()
    except OuroscopeError as error:
        return fault("home", error.message, f"let {VARIABLE} name a folder that you can write")
    return ok("home", f"{home.path} can be written")


async def database_findings(home: Path, url: str | None) -> list[Finding]:
    """Judge the database of runs: that it answers, what it is, and whether its tables are those of this program."""
    # Imported here, as below: not every installation has a coordinator.
    import sqlalchemy as sa

    from services.coordinator import tables

    if url is None and not (home / tables.FILE).exists():
        return [ok("database", "no run was started with this home yet")]
    try:
        engine = tables.make_engine(tables.database_url(home, url), read_only=True)
    except sa.exc.ArgumentError:
        # Not the text of the error, nor what was given: it holds a password.
        return [fault("database", "its address is none", _ADDRESS)]
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda found: list(_of_server(found)))
    except (sa.exc.SQLAlchemyError, OSError) as error:
        told = f"it does not answer ({type(error).__name__})"
        return [fault("database", told, "start it, or correct OURO_COORDINATOR_DATABASE; see docs/operations.md")]
    finally:
        await engine.dispose()


def _of_server(connection: Any) -> Iterator[Finding]:
    from services.coordinator.migrations import HEAD, revision_of

    revision = revision_of(connection)
    if connection.dialect.name == "postgresql":
        yield from _of_postgresql(connection, current=revision == HEAD)
    yield judge_revision(revision, HEAD)


def judge_revision(found: str | None, newest: str) -> Finding:
    """Judge how far the tables have come; both as four digits."""
    if found is None:
        return ok("tables", "none yet, or of an early version; the coordinator makes them when it starts")
    if found > newest:
        told = f"at {found}, and this program knows {newest}"
        return fault("tables", told, "upgrade this program, or restore the backup of before the upgrade")
    if found < newest:
        told = f"at {found}, and this program needs {newest}"
        return warning(
            "tables", told, "back up, then start the coordinator, which migrates them; see docs/operations.md"
        )
    return ok("tables", f"at {found}, as this program needs them")


def _of_postgresql(connection: Any, *, current: bool) -> Iterator[Finding]:
    """Judge the server; who works with tables that are `current` need not be able to make any."""
    import sqlalchemy as sa

    query = (
        "SELECT now(), current_setting('server_version_num')::int, has_database_privilege(current_database(), 'CREATE')"
    )
    there, version, may_create = connection.execute(sa.text(query)).one()
    told = f"PostgreSQL {version // 10_000}"
    if version < OLDEST_POSTGRESQL:
        yield fault("database", told, f"upgrade it to {OLDEST_POSTGRESQL // 10_000} or newer")
    elif not (may_create or current):
        yield warning(
            "database",
            f"{told}, its user may make no schema",
            "grant it CREATE on the database, or give the tables an owner of their own; see docs/operations.md",
        )
    else:
        yield ok("database", f"{told} answers")
    yield clock("clock of the database", datetime.now(UTC), there)
