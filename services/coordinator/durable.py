"""What is needed of DBOS beside workflows: its configuration, steps, and moving workflows by hand. Decides nothing.

Rules that were found by trying (DBOS 3.4), beside those of ARCHITECTURE.md:

- A workflow that failed or was cancelled is *rewound* to its first failed step when it is resumed: a step that failed
  is remembered with its error, and replaying it would only raise that again.
- `DBOSClient` moves workflows in the tables without launching anything.
- What is taken up again goes through a queue that every process at the database reads, also one that has lost the lock
  and does not know it yet; the name of who took it last is kept. Hence a name for every launch (`new_name`).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, WorkflowStatus

# Nothing public looks without launching; the test of two roles would see it change.
from dbos._migration import get_migration_versions

from ouroscope.errors import Internal, PreconditionFailed
from services.coordinator.connection import is_full
from services.coordinator.stages import Plain

APPLICATION_VERSION = "1"
"""Raised only when the order of steps changes; runs of another version cannot be gone on with."""
SCHEMA = "dbos"
"""Where the tables of DBOS lie in PostgreSQL, unless it is told otherwise."""
UNDER_WAY = ("PENDING", "ENQUEUED", "DELAYED")
FORGOTTEN = ("DBOS.waitFirst", "DBOS.getResult", "DBOS.cancelWorkflow")
"""Steps of a run that are not replayed when it is resumed: they speak of lanes that now go on."""
LARGEST_ANSWER = 64 * 1024
"""Bytes of JSON that a step may return: the history of a workflow is read as a whole."""


def configuration(database: str, executor: str) -> DBOSConfig:
    """Return how DBOS is set up; `database` is the URL of its system database, `executor` who drives."""
    return {
        "name": "ouroscope",
        "system_database_url": database,
        "application_version": APPLICATION_VERSION,
        "executor_id": executor,
        # The default is pickle: whoever can write the database could run code.
        "serializer": DBOSPortableJSONSerializer(),
        # Failures are logged by us, with what is known of them.
        "log_level": "CRITICAL",
        "max_executor_threads": 64,
    }


def new_name(stem: str) -> str:
    """Return a name for one launch that none before it had, in this process or another."""
    return f"{stem}-{secrets.token_hex(6)}"


def prepare_file(database: str) -> None:
    """Let the system database, where it is a file, write ahead: a commit then waits for one sync, not for several.

    The mode stays with the file, so every connection that DBOS opens has it.
    """
    if (path := _file_of(database)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")


def migrate_system(database: str, role: str) -> None:
    """Bring the system database on a server up to date, and let `role` work with it. Blocks."""
    DBOS.migrate(database, application_role=role)


def system_is_behind(database: str) -> bool:
    """Return whether `migrate_system` would change anything, or its tables may not be read. Blocks."""
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg"))
    try:
        found, newest = get_migration_versions(engine, SCHEMA, use_listen_notify=True)
    finally:
        engine.dispose()
    return found < newest


def hear_errors(database: str, tell: Callable[[BaseException], object]) -> Callable[[], None]:
    """Tell of errors in the system database until the function that is returned is called.

    Of a file every error is told: else nobody would know that the end of a workflow could not be noted. Of a server
    only that it has no room: whatever else it lacks is seen by the lock, while DBOS asks a full one again without a
    word, and waits for longer and longer. `tell` is called in whatever thread the error came up.
    """
    here, is_file = _place(sa.make_url(database)), _file_of(database) is not None

    def heard(context: sa.engine.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if error is None or context.engine is None or _place(context.engine.url) != here:
            return
        if is_file or is_full(error):
            tell(error)

    sa.event.listen(sa.Engine, "handle_error", heard)
    return lambda: sa.event.remove(sa.Engine, "handle_error", heard)


def _place(url: sa.URL) -> tuple[str | None, int | None, str | None]:
    """Return what does not depend on the driver."""
    return url.host, url.port, url.database


def _file_of(database: str) -> Path | None:
    url = sa.make_url(database)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


async def durable_step(name: str, work: Callable[[], Awaitable[Plain]]) -> Plain:
    """Do `work` as a step of the workflow at work: `stages.Steps` as DBOS does it.

    A cancel of the workflow reaches it within about a second.
    """

    async def step() -> Plain:
        answer = await work()
        if len(json.dumps(answer)) > LARGEST_ANSWER:
            raise Internal(f"step {name} returned over {LARGEST_ANSWER} bytes; it must return references")
        return answer

    return await DBOS.run_step_async({"name": name, "preemptible": True}, step)


def check_version(run_id: str, status: WorkflowStatus) -> None:
    """Raise PreconditionFailed if the workflow was begun by a version whose steps were others."""
    if status.app_version != APPLICATION_VERSION:
        raise PreconditionFailed(
            f"run {run_id!r} was begun by a version of Ouroscope whose steps were others; start it again as a new run, "
            "what it has published is found again"
        )


async def statuses(workflow_ids: Sequence[str]) -> dict[str, WorkflowStatus]:
    """Return those of the workflows that exist."""
    found = await DBOS.list_workflows_async(workflow_ids=list(workflow_ids), load_input=False, load_output=False)
    return {status.workflow_id: status for status in found}


async def taken_by_others(executor: str) -> tuple[str, ...]:
    """Return the workflows that are at work under another name than `executor`, lanes before their runs.

    Whoever has the lock drives all workflows, so theirs is a process that has ended, or that may no longer go on.
    """
    pending = await DBOS.list_workflows_async(
        status="PENDING", app_version=APPLICATION_VERSION, load_input=False, load_output=False
    )
    others = (status.workflow_id for status in pending if status.executor_id != executor)
    return tuple(sorted(others, key=lambda workflow_id: "/" not in workflow_id))


async def rewind(workflow_id: str) -> None:
    """Let an ended workflow go on from its first failed step, or from where it was cancelled."""
    steps = await DBOS.list_workflow_steps_async(workflow_id, load_output=True)
    stale = [s["function_id"] for s in steps if s["error"] is not None or s["function_name"] in FORGOTTEN]
    first = min(stale, default=max((s["function_id"] for s in steps), default=0) + 1)
    await DBOS.rewind_workflow_async(workflow_id, start_step=first)


def stand_down(database: str) -> None:
    """Cancel all interrupted workflows, so that the launch that follows takes none of them up. Blocks."""
    path = _file_of(database)
    if path is not None and not path.exists():
        return
    client = DBOSClient(system_database_url=database, serializer=DBOSPortableJSONSerializer())
    try:
        found = client.list_workflows(status=list(UNDER_WAY), load_input=False, load_output=False)
        client.cancel_workflows([status.workflow_id for status in found])
    finally:
        client.destroy()
