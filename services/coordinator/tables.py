"""The tables that the coordinator keeps its runs and monitors in, and how a database with them is opened.

Knows no records. SQLite by default (a file in the home, in WAL mode so that readers of other processes disturb nobody),
PostgreSQL by URL. Columns exist only for what is searched, sorted or counted by; the rest is a payload. A table that
changes here needs a file in `migrations/versions`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

FILE = Path("state") / "ouroscope.sqlite"
BUSY_MILLISECONDS = 10_000
_patiently = Retrying(
    retry=retry_if_exception(lambda error: isinstance(error, sqlite3.OperationalError) and "locked" in str(error)),
    stop=stop_after_delay(BUSY_MILLISECONDS / 1000),
    wait=wait_fixed(0.02),
    reraise=True,
)
CONNECT_SECONDS = 10

metadata = sa.MetaData()
# Programs from before the migrations look here, find a number that is not theirs, and refuse. Nobody else reads it.
schema_version = sa.Table("schema_version", metadata, sa.Column("version", sa.Integer, primary_key=True))
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, index=True),
    sa.Column("created", sa.Text, nullable=False, index=True),
    sa.Column("request_id", sa.Text, unique=True),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("setup", sa.Text),
)
generations = sa.Table(
    "generations",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("arm", sa.Text, primary_key=True),
    sa.Column("seed", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("report", sa.Text),
    sa.Column("verdict", sa.Text),
    sa.Column("sentence", sa.Text),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("measured", sa.Text),
)
monitors = sa.Table(
    "monitors",
    metadata,
    sa.Column("monitor", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, unique=True),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("generations", sa.Integer, nullable=False),
    sa.Column("newest", sa.Text),
)
monitor_generations = sa.Table(
    "monitor_generations",
    metadata,
    sa.Column("monitor", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("request_id", sa.Text),
    sa.Column("report", sa.Text, nullable=False),
    sa.Column("effects", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("measured", sa.Text),
    sa.UniqueConstraint("monitor", "request_id"),
)


def database_url(home: Path, url: str | None = None) -> str:
    """Return the address of the tables for SQLAlchemy: the file in `home`, or PostgreSQL where `url` names one."""
    if url is None:
        return f"sqlite+aiosqlite:///{home / FILE}"
    return sa.make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def system_url(home: Path, url: str | None = None) -> str:
    """Return the address of the tables of DBOS: a file beside ours, or the same PostgreSQL database."""
    if url is None:
        return f"sqlite:///{home / FILE.with_name('dbos.sqlite')}"
    return sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def make_engine(url: str, *, read_only: bool) -> AsyncEngine:
    """Return an engine for the tables; a read-only one can change nothing."""
    if sa.make_url(url).get_backend_name() == "postgresql":
        options = {"options": "-c default_transaction_read_only=on"} if read_only else {}
        # A server that was restarted has forgotten its connections; they are asked before they are used.
        return create_async_engine(
            url, pool_pre_ping=True, connect_args={"connect_timeout": CONNECT_SECONDS, **options}
        )
    engine = create_async_engine(url)
    pragmas = ["journal_mode=WAL", "synchronous=FULL"] if not read_only else ["query_only=ON"]

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={BUSY_MILLISECONDS}", *pragmas):
            # SQLite does not wait for its turn where two connections switch a new file to WAL at once.
            _patiently(cursor.execute, f"PRAGMA {pragma}")
        cursor.close()

    return engine
