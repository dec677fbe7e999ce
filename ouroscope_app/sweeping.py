"""Drives the runs of a sweep one after the other, under one coordinator; what is finished is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ouroscope.canonical import to_plain
from ouroscope.client import CoordinatorClient
from ouroscope.errors import AlreadyExists, NotFound
from ouroscope.records.runs import Run, RunSpec, RunState
from ouroscope_app.drive import coordinator_of, follow
from ouroscope_app.history import find_run
from ouroscope_app.home import Home
from ouroscope_app.live import Live
from ouroscope_app.output import notes
from services.generator.declared import DeclaredBackend

_ABSENT = object()


async def run_sweep(
    home: Home, specs: Sequence[RunSpec], metrics_port: int = 0, backends: Sequence[DeclaredBackend] = ()
) -> list[Run]:
    """Bring every run of a sweep to its end and return them in their order; a failed one does not stop the rest.

    Raises:
        AlreadyExists: a run of one of these names has another specification. Nothing is started then.
    """
    async with coordinator_of(home, metrics_port, backends) as (client, live):
        found = [await _existing(client, spec) for spec in specs]
        pairs = enumerate(zip(specs, found, strict=True), start=1)
        return [await _one(home, client, live, spec, run, f"[{number}/{len(specs)}] ") for number, (spec, run) in pairs]


def finished_runs(home: Home, specs: Sequence[RunSpec]) -> list[Run] | None:
    """Return the runs of a sweep if all are finished, without starting anything; None if there is something to do.

    Raises:
        AlreadyExists: a run of one of these names has another specification.
    """
    found = [_check_same(run, spec) for spec in specs if (run := _kept(home, spec.name)) is not None]
    finished = [run for run in found if run.state is RunState.SUCCEEDED]
    return finished if len(finished) == len(specs) else None


def _kept(home: Home, name: str) -> Run | None:
    try:
        return find_run(home, name)
    except NotFound:
        return None


async def _one(home: Home, client: CoordinatorClient, live: Live, spec: RunSpec, run: Run | None, place: str) -> Run:
    """Start a run, go on with it, or let it be, whichever it needs."""
    if run is not None and run.state is RunState.SUCCEEDED:
        notes.print(f"{place}{spec.name} is finished already", markup=False, soft_wrap=True)
        return run
    if run is None:
        run = await client.create_run(spec, spec.name)
    elif run.state.ended:
        run = await client.resume_run(run.name)
    return await follow(home, client, run, live, place)


async def _existing(client: CoordinatorClient, spec: RunSpec) -> Run | None:
    """Return the run of that name, which must be the same experiment."""
    try:
        return _check_same(await client.get_run(f"runs/{spec.name}"), spec)
    except NotFound:
        return None


def _check_same(run: Run, spec: RunSpec) -> Run:
    if differences := differences_between(run.spec, spec):
        raise AlreadyExists(
            f"run {spec.name} exists and is another experiment: {'; '.join(differences[:3])}. Give this one another "
            f"name by --name, or forget that one by `ouroscope runs delete {spec.name}`"
        )
    return run


def differences_between(there: RunSpec, here: RunSpec) -> list[str]:
    """Say in which fields two specifications differ: `documents is 100 there and 200 here`."""
    return _differences(to_plain(there), to_plain(here), "")


def _differences(there: Any, here: Any, path: str) -> list[str]:
    if there == here:
        return []
    if isinstance(there, dict) and isinstance(here, dict):
        keys = [*there, *(key for key in here if key not in there)]
        inner = [(f"{path}.{key}".strip("."), there.get(key, _ABSENT), here.get(key, _ABSENT)) for key in keys]
        return [told for field, old, new in inner for told in _differences(old, new, field)]
    if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = enumerate(zip(there, here, strict=True))
        return [told for number, (old, new) in pairs for told in _differences(old, new, f"{path}[{number}]")]
    return [f"{path} is {_told(there)} there and {_told(here)} here"]


def _told(value: Any) -> str:
    if value is _ABSENT or value is None:
        return "not given"
    return (
        f"a list of {len(value)}" if isinstance(value, list) else "a group" if isinstance(value, dict) else str(value)
    )
