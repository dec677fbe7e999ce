"""`ouroscope store`: whether what is stored is whole, and what of it nobody needs any more."""

from __future__ import annotations

import asyncio
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from ouroscope.errors import InvalidRequest, NotFound, PreconditionFailed
from ouroscope.store import ArtifactStore
from ouroscope.store.garbage import Collector, Garbage, Policy
from ouroscope.store.verification import Checked, Verifier, artifacts_in
from ouroscope_app.home import Home
from ouroscope_app.output import FAULT, answers, command, counted, notes, print_json, progress

app = typer.Typer(help="Check the artifact store, and remove what nobody needs.", no_args_is_help=True)

STORE = typer.Option(
    "", "--store", envvar="OURO_COORDINATOR_STORE", help="URL or folder of the store; empty means that of the home."
)
JSON = typer.Option(False, "--json", help="Print one JSON document.")
DATABASE = "OURO_COORDINATOR_DATABASE"
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@app.command("verify")
@command
def verify(store: str = STORE, json_: bool = JSON) -> None:
    """Read every artifact and compare it with its manifest; exit status 1 if one is damaged."""
    opened = _open(store)
    refs, found = artifacts_in(opened), []
    verifier = Verifier(opened)
    with progress(*COLUMNS, transient=True) as bar:
        for ref in bar.track(refs, description="verifying"):
            found.append(verifier.check(ref))
    bad = [checked for checked in found if checked.problems]
    if json_:
        print_json({"artifacts": len(found), "bytes": sum(one.bytes for one in found), "damaged": _told(bad)})
    else:
        for checked in bad:
            answers.print(f"{checked.ref}: {'; '.join(checked.problems)}", markup=False, soft_wrap=True)
        size = decimal(sum(one.bytes for one in found))
        answers.print(f"{counted(len(found), 'artifact')}, {size}: {len(bad)} damaged")
    if bad:
        notes.print("delete a damaged artifact and repeat the work that made it, or restore it from a backup")
        raise typer.Exit(FAULT)


@app.command("gc")
@command
def gc(
    store: str = STORE,
    delete: bool = typer.Option(False, "--delete", help="Remove what was found; otherwise it is only told."),
    older_than: str = typer.Option("7d", help="Keep artifacts and drafts younger than this: 12h, 7d, 4w."),
    answers_older_than: str = typer.Option("90d", help="Keep what answers name that were remembered since then."),
    without_runs: bool = typer.Option(False, "--without-runs", help="Go on although there is no database of runs."),
    json_: bool = JSON,
) -> None:
    """Find artifacts that no run, monitor, name, answer or other artifact needs, and old drafts.

    The database of runs is that of the home, or the one that OURO_COORDINATOR_DATABASE names.
    """
    age = read_age(older_than)
    policy = Policy(artifacts=age, drafts=age, answers=read_age(answers_older_than))
    home = Home.find(os.environ)
    garbage = asyncio.run(_collect(home, _open(store), policy, delete, without_runs))
    if json_:
        print_json({"deleted": delete, **_listed(garbage)})
        return
    for name in (*map(str, garbage.artifacts), *(f"drafts/{key}" for key in garbage.drafts), *garbage.leftovers):
        answers.print(name, markup=False, soft_wrap=True)
    what = [counted(len(garbage.artifacts), "artifact"), counted(len(garbage.drafts), "draft")]
    what += [counted(len(garbage.answers), "answer"), counted(len(garbage.leftovers), "leftover")]
    answers.print(f"{', '.join(what)}, {decimal(garbage.bytes)}: {'removed' if delete else 'can go'}")
    if not delete and any((garbage.artifacts, garbage.drafts, garbage.answers, garbage.leftovers)):
        notes.print("nothing was removed; say --delete to do it")


async def _collect(home: Home, store: ArtifactStore, policy: Policy, delete: bool, without_runs: bool) -> Garbage:
    from services.coordinator.lock import take_lock

    database = os.environ.get(DATABASE) or None
    if not delete:
        return _find(home.path, database, store, policy, without_runs)[1]
    # A run at work could take up again what was found to be garbage a moment ago.
    lock = await take_lock(home.path, database)
    try:
        collector, garbage = _find(home.path, database, store, policy, without_runs)
        collector.remove(garbage)
        return garbage
    finally:
        await lock.release()


def _find(
    home: Path, database: str | None, store: ArtifactStore, policy: Policy, without_runs: bool
) -> tuple[Collector, Garbage]:
    from services.coordinator.references import Needed, read_needed

    try:
        needed = read_needed(home, database)
    except NotFound as error:
        if not without_runs:
            told = f"{error.message}. Say --without-runs if no run was ever started with this store"
            raise PreconditionFailed(told) from error
        needed = Needed(artifacts=frozenset(), since=None)
    collector = Collector(store, datetime.now(UTC), policy)
    with progress(*COLUMNS, transient=True) as bar:
        task = bar.add_task("looking", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return collector, collector.find(needed.artifacts, needed.since, tell)


def read_age(text: str) -> timedelta:
    """Read how old something is.

    Raises:
        InvalidRequest: it is not a number with a unit.

    >>> read_age("36h").total_seconds()
    129600.0
    """
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    if found is None:
        raise InvalidRequest(f"{text[:40]!r} is not an age; write 30m, 12h, 7d or 4w")
    return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})


def _open(store: str) -> ArtifactStore:
    return ArtifactStore(store) if store else Home.find(os.environ).store()


def _told(bad: list[Checked]) -> list[dict[str, Any]]:
    return [{"artifact": str(checked.ref), "problems": list(checked.problems)} for checked in bad]


def _listed(garbage: Garbage) -> dict[str, Any]:
    return {
        "artifacts": [str(ref) for ref in garbage.artifacts],
        "drafts": list(garbage.drafts),
        "answers": list(garbage.answers),
        "leftovers": list(garbage.leftovers),
        "bytes": garbage.bytes,
    }
