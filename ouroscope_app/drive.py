"""Drives runs from a terminal: starts the embedded services where nobody serves this home, and shows what happens."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from rich.markup import escape

from ouroscope.client import CoordinatorClient
from ouroscope.errors import OuroscopeError, PreconditionFailed
from ouroscope.records.analysis import Report
from ouroscope.records.runs import Generation, Run, RunSpec
from ouroscope.reports import read_report
from ouroscope_app.embedded import coordinator_client, embedded_services
from ouroscope_app.home import Home
from ouroscope_app.live import Live, announced, find_live
from ouroscope_app.output import notes
from ouroscope_app.watch import RunView
from services.generator.declared import DeclaredBackend

Answer = TypeVar("Answer")


@asynccontextmanager
async def coordinator_of(
    home: Home, metrics_port: int = 0, backends: Sequence[DeclaredBackend] = ()
) -> AsyncIterator[tuple[CoordinatorClient, Live]]:
    """Connect to the coordinator at work on `home`, or to one that is started for the time being.

    Yields the client and where the coordinator listens.
    """
    async with served(home, metrics_port, backends) as live, coordinator_client(live.coordinator) as client:
        yield client, live


@asynccontextmanager
async def served(home: Home, metrics_port: int = 0, backends: Sequence[DeclaredBackend] = ()) -> AsyncIterator[Live]:
    """Yield where the coordinator at work on `home` listens.

    All four services are started for the time being if there is none; `backends` are servers that runs may name.

    Raises:
        PreconditionFailed: there is one, so it is too late to declare backends.
    """
    live = find_live(home)
    if live and backends:
        raise PreconditionFailed(
            f"a coordinator is at work on {home.path}, and its generator took its backends when it started; "
            "leave --backends out, or stop it and give it there"
        )
    if live:
        yield live
        return
    async with embedded_services(home, {"metrics": metrics_port}, backends=backends) as addresses:
        with announced(home, addresses.coordinator, addresses.metrics, addresses.page) as live:
            yield live


def until_told(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Do `work` until it is done, or until Ctrl-C or SIGTERM (systemd, Slurm, `timeout`), which end it alike.

    Raises:
        KeyboardInterrupt: it was told to stop.
    """

    async def told() -> Answer:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(told())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def start_run(
    home: Home, spec: RunSpec, run_id: str, metrics_port: int, backends: Sequence[DeclaredBackend] = ()
) -> Run:
    """Start a run and show it until it ends."""
    async with coordinator_of(home, metrics_port, backends) as (client, live):
        return await follow(home, client, await client.create_run(spec, run_id or None), live)


async def resume_run(home: Home, run: Run, metrics_port: int, backends: Sequence[DeclaredBackend] = ()) -> Run:
    """Go on with a run and show it until it ends."""
    async with coordinator_of(home, metrics_port, backends) as (client, live):
        return await follow(home, client, await client.resume_run(run.name), live)


async def watch_run(home: Home, run: Run) -> Run:
    """Show a run that another process drives until it ends."""
    async with coordinator_of(home) as (client, live):
        return await follow(home, client, run, live)


async def cancel_run(home: Home, run: Run) -> Run:
    """Stop a run."""
    async with coordinator_of(home) as (client, _):
        return await client.cancel_run(run.name)


async def delete_run(home: Home, run: Run) -> None:
    """Forget a run that has ended."""
    async with coordinator_of(home) as (client, _):
        await client.delete_run(run.name)


async def follow(home: Home, client: CoordinatorClient, run: Run, live: Live, place: str = "") -> Run:
    """Show a run until it ends and return it; `place` says which of several it is."""
    name = run.name.removeprefix("runs/")
    notes.print(
        f"{escape(place)}run [bold]{name}[/]  metrics {live.metrics}  data {escape(str(home.path))}", soft_wrap=True
    )
    notes.print(f"page [bold]{live.page}{run.name}[/] (open it in a browser)", soft_wrap=True)
    try:
        with RunView(notes, lambda generation: _report(home, generation)) as view:
            await view.follow(client.watch_run(run.name))
        return await client.get_run(run.name)
    except asyncio.CancelledError:
        notes.print(f"stopping; go on with [bold]ouroscope runs resume {name}[/]", soft_wrap=True)
        raise


def _report(home: Home, generation: Generation) -> Report | None:
    try:
        return read_report(home.store(), generation.report) if generation.report else None
    except OuroscopeError:
        return None
