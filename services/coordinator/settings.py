"""Settings of the coordinator's process."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ouroscope.security.allowed import AllowedSources, read_sources
from ouroscope.settings import Secret, boolean, one_of, positive, seconds, variable
from ouroscope.telemetry.logs import LEVELS
from services.coordinator import collector
from services.coordinator.service import EXECUTOR

PREFIX = "OURO_COORDINATOR"


def _address(text: str) -> Secret | None:
    """Read the address of a database; whatever is wrong with it, it is not quoted. An empty one is none."""
    if not text:
        return None
    try:
        kind = sa.make_url(text).get_backend_name()
    except (sa.exc.ArgumentError, ValueError):
        kind = ""
    if kind not in ("postgresql", "postgres"):
        raise ValueError("must be postgresql://USER:PASSWORD@HOST:PORT/NAME") from None
    return Secret(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorSettings:
    """What `OURO_COORDINATOR_*` says."""

    home: str = variable(str, "folder of the lock and of the databases", "ouroscope-data")
    store: str = variable(str, "URL or folder of the artifact store; empty means `store` in the home", "")
    address: str = variable(str, "host:port to listen on", "127.0.0.1:50054")
    generator: str = variable(str, "address of the generator", "127.0.0.1:50051")
    trainer: str = variable(str, "address of the trainer", "127.0.0.1:50052")
    analyzer: str = variable(str, "address of the analyzer", "127.0.0.1:50053")
    database: Secret | None = variable(  # a declaration; nothing mutable is shared
        _address, "PostgreSQL URL instead of files in the home", None
    )
    migration_database: Secret | None = variable(
        _address, "URL of the same database with the role that owns the tables: --migrate changes them with it", None
    )
    grant_to: str = variable(
        str, "role that is granted what the owner made; empty: the user of OURO_COORDINATOR_DATABASE", ""
    )
    migration_wait: float = variable(
        seconds, "seconds that --migrate with an owner waits for a coordinator, and --await-tables for tables", 600.0
    )
    executor: str = variable(
        str, "beginning of the name under which this coordinator drives runs, as the database shows it", EXECUTOR
    )
    recover: bool = variable(boolean, "go on with interrupted runs at the start", True)
    patience: float = variable(seconds, "seconds that a stage waits for a worker that cannot be reached", 600.0)
    metrics_address: str = variable(str, "host:port of the Prometheus endpoint", "127.0.0.1:9464")
    page_address: str = variable(str, "host:port of the page to look at; empty serves none", "127.0.0.1:9463")
    metrics_grace: float = variable(seconds, "seconds that the series of an ended run stay", collector.GRACE)
    metrics_limit: int = variable(
        positive, "runs that are exported at most, and monitors with every metric", collector.LIMIT
    )
    allow_plaintext: bool = variable(
        boolean,
        "listen where strangers reach it: without TLS, or without asking who they are",
        False,
        formerly="ALLOW_PUBLIC",
    )
    sources: AllowedSources | None = variable(
        read_sources, "text that requests may name, see security.md; empty: any, where only this machine can ask", None
    )
    grace: float = variable(seconds, "seconds that calls at work get when the process is told to stop", 10.0)
    log_json: bool = variable(boolean, "logs as JSON lines; otherwise for people", True)
    log_level: str = variable(one_of(*LEVELS), "least level that is logged", "info")
