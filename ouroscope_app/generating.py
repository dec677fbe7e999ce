"""Asks a generator for single things: one that is at work elsewhere, or one that is started for the time being."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from ouroscope.addresses import split_address
from ouroscope.client import GeneratorClient, open_channel
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import BackendInfo, EvaluatedTasks, EvaluateTasks, ModelInfo
from ouroscope.records.progress import Progress
from ouroscope_app.home import Home, is_reference
from ouroscope_app.output import progress
from services.generator.declared import DeclaredBackend


@asynccontextmanager
async def generator_of(
    home: Home, address: str, backends: Sequence[DeclaredBackend] = (), tasks: Path | None = None
) -> AsyncIterator[GeneratorClient]:
    """Connect to the generator at `address`, or to one that is started on `home` if there is no address."""
    if address:
        split_address(address)
        async with open_channel(address) as channel:
            yield GeneratorClient(channel)
        return
    # Torch is imported only when a generator has to be started.
    from services.generator.service import start

    running = await start(home.store(), declared=backends, tasks=tasks)
    try:
        async with open_channel(running.address) as channel:
            yield GeneratorClient(channel)
    finally:
        await running.stop(grace=1.0)


async def list_backends(home: Home, address: str, backends: Sequence[DeclaredBackend]) -> tuple[BackendInfo, ...]:
    """Return what can run models."""
    async with generator_of(home, address, backends) as client:
        return await client.list_backends()


async def import_model(home: Home, address: str, source: str, base: str) -> ModelInfo:
    """Bring a model into the store, or an adapter beside its base."""
    async with generator_of(home, address) as client:
        return await client.import_model(source, base=base or None)


async def evaluate(
    home: Home, address: str, model: str, own_tasks: Path | None, **options: Any
) -> tuple[ArtifactRef, EvaluatedTasks]:
    """Let a model (a reference, or something that can be imported) do tasks; `options` are fields of the request."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]}"), TimeElapsedColumn())
    with progress(*columns, transient=True) as bar:
        shown = bar.add_task("starting", total=None, done="")

        def show(at: Progress) -> None:
            total = at.total or None
            done = f"{at.done:,} of {at.total:,}" if total else ""
            bar.update(shown, description=at.stage, completed=at.done, total=total, done=done)

        async with generator_of(home, address, tasks=own_tasks) as client:
            named = is_reference(model)
            ref = ArtifactRef.parse(model) if named else (await client.import_model(model, on_progress=show)).model
            return ref, await client.evaluate_tasks(EvaluateTasks(model=ref, **options), show)
