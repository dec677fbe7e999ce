"""Which artifacts the databases of a coordinator name: those of its runs and monitors, and those of the durable steps.

Every text in every table is searched, whatever it is for: so a new column needs no line here, and a step of a
half-finished run keeps what it returned although no generation tells of it yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from ouroscope.errors import NotFound, Unavailable
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.runs import RunState
from ouroscope.store.garbage import references_in_text
from services.coordinator import tables

ROWS = 100
"""Rows that are held in memory at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What runs and monitors need of a store."""

    artifacts: frozenset[ArtifactRef]
    since: datetime | None
    """When the oldest run that has not ended began; None where all have ended."""


def read_needed(home: Path, url: str | None = None) -> Needed:
    """Read what the runs and monitors of a home, or of a PostgreSQL database, need. Blocks.

    Raises:
        NotFound: there is no database.
        Unavailable: it does not answer.
    """
    absent = NotFound(f"there is no database of runs in {home}; set OUROSCOPE_HOME, or OURO_COORDINATOR_DATABASE")
    if url is None and not (home / tables.FILE).exists():
        raise absent
    try:
        ours = _engine(tables.database_url(home, url))
        if not sa.inspect(ours).has_table(tables.runs.name):
            raise absent
        found = {ref for engine in (ours, *_systems(home, url)) for ref in _references(engine)}
        return Needed(artifacts=frozenset(found), since=_oldest(ours))
    except sa.exc.OperationalError as error:
        raise Unavailable("the database of runs does not answer; nothing was looked at or removed") from error


def _engine(url: str) -> sa.Engine:
    address = sa.make_url(url)
    name = "sqlite" if address.get_backend_name() == "sqlite" else "postgresql+psycopg"
    return sa.create_engine(address.set(drivername=name), poolclass=sa.NullPool)


def _systems(home: Path, url: str | None) -> list[sa.Engine]:
    """Return the database of DBOS where it is another than ours; in PostgreSQL it is a schema beside ours."""
    address = tables.system_url(home, url)
    path = sa.make_url(address).database
    return [_engine(address)] if url is None and path and Path(path).exists() else []


def _references(engine: sa.Engine) -> Iterator[ArtifactRef]:
    with engine.connect() as connection:
        for table in _all_tables(connection):
            texts = [column for column in table.columns if isinstance(column.type, sa.String | sa.LargeBinary)]
            if texts:
                rows = connection.execution_options(yield_per=ROWS).execute(sa.select(*texts))
                for row in rows:
                    for value in row:
                        yield from references_in_text(_text(value))


def _all_tables(connection: sa.Connection) -> list[sa.Table]:
    schemas = sa.inspect(connection).get_schema_names()
    found = sa.MetaData()
    for schema in schemas:
        if schema not in ("information_schema", "pg_catalog"):
            found.reflect(connection, schema=None if schema in ("main", "public") else schema, resolve_fks=False)
    return list(found.tables.values())


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _oldest(engine: sa.Engine) -> datetime | None:
    states = [state.value for state in RunState if not state.ended]
    query = sa.select(sa.func.min(tables.runs.c.created)).where(tables.runs.c.state.in_(states))
    with engine.connect() as connection:
        found = connection.execute(query).scalar()
    return datetime.fromisoformat(found) if found else None
