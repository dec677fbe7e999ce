"""The tables as programs made them before there were migrations, with `schema_version` 1.

What is there stays: so the tables of such a program are taken over as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables that are missing."""
    version = op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True), if_not_exists=True)
    _runs()
    _monitors()
    connection = op.get_bind()
    if connection.execute(sa.text("SELECT version FROM schema_version")).first() is None:
        connection.execute(version.insert().values(version=1))


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, unique=True),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("setup", sa.Text),
        if_not_exists=True,
    )
    for column in ("state", "created"):
        op.create_index(f"ix_runs_{column}", "runs", [column], if_not_exists=True)
    op.create_table(
        "generations",
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
        if_not_exists=True,
    )


def _monitors() -> None:
    op.create_table(
        "monitors",
        sa.Column("monitor", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, unique=True),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("generations", sa.Integer, nullable=False),
        sa.Column("newest", sa.Text),
        if_not_exists=True,
    )
    op.create_table(
        "monitor_generations",
        sa.Column("monitor", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("request_id", sa.Text),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("effects", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("measured", sa.Text),
        sa.UniqueConstraint("monitor", "request_id"),
        if_not_exists=True,
    )
